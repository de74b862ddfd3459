#include "api_access.h"
#include "api_s3_config.h"
#include "fd.h"
#include "mem.h"

#include <stdio.h>

enum {
    FIELD_SIZE_MAX = 1 << 20,
    REPLY_SIZE_MAX = 4 << 20,
    ROW_GROUP_ROWS = 51200
};

/* ---- the GET routes ---- */

void snapshot_health(struct request *request)
{
    reply_json(request, 200, STR("{\"status\":\"ok\",\"service\":\"duckdb-sidecar\"}"));
}

/* The original's pool of engines is a set of query slots here: nothing is shared between requests.
 */
void snapshot_pool_stats(struct request *request)
{
    struct api *api = request->api;
    if (!api->options.pool_enabled) {
        reply_json(request, 200, STR("{\"enabled\":false}"));
        return;
    }
    unsigned active = lane_counts(api->lanes[LANE_QUERY]).running;
    unsigned idle = active < api->options.pool_size ? api->options.pool_size - active : 0;
    char body[256];
    (void)snprintf(body, sizeof(body),
                   "{\"enabled\":true,\"idle\":%u,\"active\":%u,\"total\":%u,\"minSize\":%u,"
                   "\"maxSize\":%u,\"totalCreated\":%llu,\"totalRecycled\":0}",
                   idle, active, idle + active, api->options.pool_size, api->options.pool_max,
                   api->options.pool_size + (unsigned long long)atomic_load(&api->pool_created));
    reply_json(request, 200, str_of(body));
}

void snapshot_queue_stats(struct request *request)
{
    struct lane_counts counts = lane_counts(request->api->lanes[LANE_SNAPSHOT]);
    char body[256];
    (void)snprintf(body, sizeof(body),
                   "{\"maxConcurrent\":%u,\"maxQueue\":%u,\"running\":%u,\"queued\":%u}",
                   counts.running_max, counts.queued_max, counts.running, counts.queued);
    reply_json(request, 200, str_of(body));
}

/* ---- POST /snapshot ---- */

struct snapshot {
    struct buf fields; /* the body without its rows */
    struct buf key;
    struct store *store;
    struct buf texts; /* sources, targets and types, one after the other */
    struct lake_rows rows;
    struct buf order_by;
};

static void snapshot_finish(void *work)
{
    struct snapshot *snapshot = work;
    buf_finish(&snapshot->fields);
    buf_finish(&snapshot->key);
    buf_finish(&snapshot->texts);
    buf_finish(&snapshot->order_by);
    store_close(snapshot->store);
    lake_rows_finish(&snapshot->rows);
    mem_free(snapshot);
}

/* Looking for a field passes over all others, and the rows are nearly all of the body: they are not
 * passed over here, and the other fields become the body (where those are large, it stays). */
static struct json_span set_data_aside(struct request *request, struct buf *fields)
{
    struct json_cursor cursor = json_open(request->body);
    cursor.bulk = request->body_bulk;
    struct json_span data = {.kind = JSON_NULL};
    struct json_span key;
    struct json_span value;
    buf_append_byte(fields, '{');
    while (json_next(&cursor, &key, &value)) {
        if (json_string_equal(key, STR("data"))) {
            data = value;
            continue;
        }
        buf_append_text(fields, fields->len > 1 ? "," : "");
        buf_append(fields, key.text);
        buf_append_byte(fields, ':');
        buf_append(fields, value.text);
    }
    buf_append_byte(fields, '}');
    if (!buf_failed(fields)) {
        request->body = (struct json_span){.kind = JSON_OBJECT, .text = buf_str(fields)};
    }
    return data;
}

static bool check_rows(struct json_span data, struct err *err)
{
    struct json_cursor cursor = json_open(data);
    struct json_span row;
    for (uint64_t i = 0; json_next(&cursor, NULL, &row); i++) {
        if (row.kind != JSON_OBJECT) {
            return err_set(err, ERR_INVALID, "data[%llu] must be an object", (unsigned long long)i);
        }
    }
    return true;
}

static size_t skip_spaces(struct str text, size_t at)
{
    while (at < text.len &&
           (text.ptr[at] == ' ' || (text.ptr[at] >= '\t' && text.ptr[at] <= '\r'))) {
        at++;
    }
    return at;
}

static bool take_number(struct str text, size_t *at)
{
    size_t start = *at = skip_spaces(text, *at);
    while (*at < text.len && text.ptr[*at] >= '0' && text.ptr[*at] <= '9') {
        (*at)++;
    }
    bool digits = *at > start;
    *at = skip_spaces(text, *at);
    return digits;
}

/* ^[A-Za-z][A-Za-z0-9_]*(\s*\(\s*\d+\s*(,\s*\d+\s*)?\))?$ : text that can be put into SQL as it is.
 */
static bool is_safe_type(struct str type)
{
    size_t at = 0;
    while (at < type.len &&
           ((type.ptr[at] >= 'A' && type.ptr[at] <= 'Z') ||
            (type.ptr[at] >= 'a' && type.ptr[at] <= 'z') ||
            (at > 0 && ((type.ptr[at] >= '0' && type.ptr[at] <= '9') || type.ptr[at] == '_')))) {
        at++;
    }
    if (at == 0 || at == type.len) {
        return at > 0;
    }
    at = skip_spaces(type, at);
    if (at == type.len || type.ptr[at++] != '(' || !take_number(type, &at)) {
        return false;
    }
    if (at < type.len && type.ptr[at] == ',') {
        at++;
        if (!take_number(type, &at)) {
            return false;
        }
    }
    return at + 1 == type.len && type.ptr[at] == ')';
}

/* One entry of columns: three texts, kept in `texts`; their offsets go to `at`. */
static bool read_column(struct json_span column, uint64_t index, struct buf *texts, size_t at[4],
                        struct err *err)
{
    static const char *const names[] = {"source", "target", "type"};
    if (column.kind != JSON_OBJECT) {
        return err_set(err, ERR_INVALID, "columns[%llu] must be an object",
                       (unsigned long long)index);
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char where[64];
        (void)snprintf(where, sizeof(where), "columns[%llu].%s", (unsigned long long)index,
                       names[i]);
        at[i] = texts->len;
        if (!snapshot_text_field(column, names[i], where, texts, err)) {
            return false;
        }
    }
    at[3] = texts->len;
    struct str type = str_trim(str_from(buf_str(texts), at[2]));
    return is_safe_type(type) ||
           err_set(err, ERR_INVALID,
                   "Unsupported/unsafe DuckDB type: \"%.*s\" (allowed: VARCHAR, BIGINT, DOUBLE, "
                   "BOOLEAN, DECIMAL(p,s), etc.)",
                   STR_ARG(str_first(type, 200)));
}

struct column_texts {
    size_t (*at)[4];
};

static void free_texts(struct column_texts *texts)
{
    mem_free(texts->at);
}

static void free_declared(struct lake_declared **declared)
{
    mem_free(*declared);
}

/* The sort column: the target that is exactly created_at, else started_at. */
static void settle_order(struct snapshot *snapshot, const struct lake_declared *declared,
                         size_t count)
{
    static const char *const names[] = {"created_at", "started_at"};
    for (size_t n = 0; n < COUNT_OF(names) && snapshot->order_by.len == 0; n++) {
        for (size_t i = 0; i < count && snapshot->order_by.len == 0; i++) {
            if (str_equal(declared[i].target, str_of(names[n]))) {
                buf_append_text(&snapshot->order_by, names[n]);
            }
        }
    }
}

static bool read_columns(struct request *request, struct json_span columns, struct json_span data,
                         struct snapshot *snapshot, struct err *err)
{
    uint64_t count = json_count(columns);
    if (count == 0) {
        return err_set(err, ERR_INVALID, "columns must be non-empty");
    }
    CLEANUP(free_texts)
    struct column_texts texts = {mem_alloc_array(count, sizeof(*texts.at))};
    struct json_cursor cursor = json_open(columns);
    struct json_span column;
    for (uint64_t i = 0; json_next(&cursor, NULL, &column); i++) {
        if (!read_column(column, i, &snapshot->texts, texts.at[i], err)) {
            return false;
        }
    }
    CLEANUP(free_declared)
    struct lake_declared *declared = mem_alloc_array(count, sizeof(*declared));
    const char *text = snapshot->texts.ptr;
    for (uint64_t i = 0; i < count; i++) {
        size_t *at = texts.at[i];
        declared[i] = (struct lake_declared){
            .source = str_make(text + at[0], at[1] - at[0]),
            .target = str_make(text + at[1], at[2] - at[1]),
            .type = str_trim(str_make(text + at[2], at[3] - at[2])),
        };
    }
    settle_order(snapshot, declared, count);
    return lake_rows_declared(data, declared, count,
                              4 * request->api->options.body_decoded_bytes_max, &snapshot->rows,
                              err) &&
           request_reserve(request, snapshot->rows.lines.len, err);
}

/* Leading slashes go, as they do in /query: what is stored under a key can be read by it. */
static struct str bare_key(const struct buf *key)
{
    struct str bare = buf_str(key);
    while (bare.len > 0 && bare.ptr[0] == '/') {
        bare = str_from(bare, 1);
    }
    return bare;
}

static bool read_rows(struct request *request, struct json_span data, struct snapshot *snapshot,
                      struct err *err)
{
    struct json_span columns;
    if (!json_find(request->body, STR("columns"), &columns) || columns.kind != JSON_ARRAY) {
        return err_set(err, ERR_INVALID, "columns must be an array");
    }
    return store_check_key(bare_key(&snapshot->key), err) &&
           read_columns(request, columns, data, snapshot, err);
}

static bool read_snapshot(struct request *request, struct snapshot *snapshot, struct err *err)
{
    struct json_span data = set_data_aside(request, &snapshot->fields);
    struct buf name;
    buf_init(&name, FIELD_SIZE_MAX);
    bool named = snapshot_text_field(request->body, "table_name", "table_name", &name, err);
    buf_finish(&name);
    if (!named || !snapshot_text_field(request->body, "s3_key", "s3_key", &snapshot->key, err) ||
        !snapshot_open_store(request, &snapshot->store, err)) {
        return false;
    }
    if (data.kind != JSON_ARRAY) {
        return err_set(err, ERR_INVALID, "data must be an array");
    }
    /* What is wrong with the rows themselves is told before what is wrong with columns or values,
     * but a walk over all rows is worth it only when there is something to tell. */
    struct err first;
    if (!read_rows(request, data, snapshot, err)) {
        *err = check_rows(data, &first) ? *err : first;
        return false;
    }
    return true;
}

static void reply_full(struct request *request, const struct lane_counts *counts)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "sidecar snapshot queue is full (%u/%u); retry shortly",
                   counts->queued, counts->queued_max);
    reply_busy(request, text, counts);
}

void snapshot_check(struct request *request)
{
    if (!snapshot_read_body(request)) {
        return;
    }
    struct snapshot *snapshot = mem_alloc(sizeof(*snapshot));
    buf_init(&snapshot->fields, FIELD_SIZE_MAX);
    buf_init(&snapshot->key, FIELD_SIZE_MAX);
    buf_init(&snapshot->texts, request->api->options.body_decoded_bytes_max);
    buf_init(&snapshot->order_by, 64);
    struct err err;
    struct lane_counts counts;
    bool good = read_snapshot(request, snapshot, &err);
    request_set_work(request, snapshot, snapshot_finish);
    if (!good) {
        reply_error(request, &err);
    } else if (!request_run(request, request->api->options.snapshot_timeout_ms, &counts, &err)) {
        reply_full(request, &counts);
    }
}

static bool write_snapshot(struct request *request, struct snapshot *snapshot,
                           struct store_source *source, struct err *err)
{
    struct lake_file_options options = {
        .order_by = buf_str(&snapshot->order_by),
        .row_group_rows = ROW_GROUP_ROWS,
        .spool_folder = request->api->options.spool_folder,
    };
    struct store_put_options put = {.content_type = "application/octet-stream"};
    struct store_object object;
    return lake_write_file(request->api->options.engine, &snapshot->rows, &options, request->cancel,
                           &source->fd, &source->size, err) &&
           store_put(snapshot->store, bare_key(&snapshot->key), source, &put, request->cancel,
                     &object, err);
}

void snapshot_run(struct request *request)
{
    struct snapshot *snapshot = request->work;
    struct store_source source = {.fd = -1};
    struct err err;
    bool good = write_snapshot(request, snapshot, &source, &err);
    fd_close(&source.fd);
    if (!good) {
        reply_error(request, &err);
        return;
    }
    request->rows_ingested = snapshot->rows.rows_count;
    access_log_snapshot(request);
    struct buf body;
    struct json_writer writer;
    buf_init(&body, REPLY_SIZE_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "s3_key", buf_str(&snapshot->key));
    json_member_u64(&writer, "row_count", snapshot->rows.rows_count);
    json_member_u64(&writer, "parquet_size_bytes", source.size);
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}
