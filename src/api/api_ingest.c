#include "api_problems.h"
#include "clock.h"
#include "mem.h"

#include <stdio.h>

enum {
    TEXT_SIZE_MAX = 1 << 20,
    REASON_SIZE_MAX = TEXT_SIZE_MAX + 4096, /* a text, and what is wrong with it */
    DATE_ECHO_MAX = 200,
    REPLY_SIZE_MAX = 8 << 20
};

/* Errors of a route carry its name in front, as clients of the original expect. */
static const char *prefix_of(const struct request *request)
{
    static const struct {
        const char *path;
        const char *prefix;
    } prefixes[] = {
        {"/ingest", "Ingestion failed: "},
        {"/ingest/stream", "Stream ingestion failed: "},
        {"/flush", "Flush failed: "},
        {"/tables", "Failed to list tables: "},
    };
    for (size_t i = 0; request->route != NULL && i < COUNT_OF(prefixes); i++) {
        if (strcmp(request->route->path, prefixes[i].path) == 0) {
            return prefixes[i].prefix;
        }
    }
    return "";
}

static void write_detail(struct buf *body, const char *prefix, struct str text)
{
    struct buf detail;
    buf_init(&detail, REASON_SIZE_MAX);
    buf_append_text(&detail, prefix);
    buf_append(&detail, text);
    struct json_writer writer;
    json_writer_init(&writer, body);
    json_begin_object(&writer);
    json_member_string(&writer, "detail", buf_str(&detail));
    json_end_object(&writer);
    buf_finish(&detail);
}

/* {"detail":...}. Errors of HTTP have no name in front. */
void ingest_error(struct request *request, unsigned status, const struct err *err, struct buf *body)
{
    bool plain = status == 404 || status == 405 || status == 413 || status == 415 ||
                 err->kind == ERR_BUSY ||
                 str_equal(str_of(err->message), STR("There was an error parsing the body"));
    write_detail(body, plain ? "" : prefix_of(request), str_of(err->message));
}

/* 400 with a text that repeats what the client sent: it may hold a NUL, which struct err cannot. */
static void reply_invalid(struct request *request, struct str text)
{
    struct buf body;
    buf_init(&body, REPLY_SIZE_MAX);
    write_detail(&body, prefix_of(request), text);
    reply_buf(request, 400, &body);
    buf_finish(&body);
}

void ingest_health(struct request *request)
{
    const struct api_options *options = &request->api->options;
    struct buf body;
    buf_init(&body, REPLY_SIZE_MAX);
    struct json_writer writer;
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("healthy"));
    json_member_string(&writer, "service", STR("duckdb-sidecar"));
    json_member_string(&writer, "s3_endpoint", str_of(options->lake_endpoint));
    json_member_string(&writer, "s3_bucket", str_of(options->lake_bucket));
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

void ingest_index(struct request *request)
{
    static const char *const listed[] = {"/health", "/ingest", "/ingest/stream",
                                         "/flush",  "/tables", "/table/{name}/count"};
    const struct api_options *options = &request->api->options;
    struct buf body;
    buf_init(&body, REPLY_SIZE_MAX);
    struct json_writer writer;
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "service", STR("DuckDB S3 Sidecar"));
    json_member_string(&writer, "version", STR("1.0.0"));
    json_member_string(&writer, "description",
                       STR("Takes JSON records into date-partitioned Parquet; served by Eider"));
    json_key(&writer, STR("endpoints"));
    json_begin_object(&writer);
    for (size_t i = 0; i < COUNT_OF(listed); i++) {
        for (size_t r = 0; r < api_routes_count; r++) {
            if (api_routes[r].personality == PERSONALITY_INGEST &&
                strcmp(api_routes[r].path, listed[i]) == 0) {
                json_member_string(&writer, listed[i], str_of(api_routes[r].summary));
            }
        }
    }
    json_end_object(&writer);
    json_key(&writer, STR("s3_config"));
    json_begin_object(&writer);
    json_member_string(&writer, "endpoint", str_of(options->lake_endpoint));
    json_member_string(&writer, "bucket", str_of(options->lake_bucket));
    json_member_string(&writer, "region", str_of(options->lake_region));
    json_end_object(&writer);
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

/* ---- POST /ingest ---- */

/* What check leaves for run. */
struct batch {
    struct buf table;
    struct buf date_text; /* as the client sent it, or today */
    struct lake_date date;
    int64_t now_ms; /* the clock is read once, so that directory, name and answer agree */
    struct lake_rows rows;
};

static void batch_finish(void *work)
{
    struct batch *batch = work;
    buf_finish(&batch->table);
    buf_finish(&batch->date_text);
    lake_rows_finish(&batch->rows);
    mem_free(batch);
}

static void add_problem(struct problems *problems, const char *type, const char *field,
                        int64_t index, const char *message, struct json_span input)
{
    problems_add(problems, &(struct problem){.type = type,
                                             .place = "body",
                                             .field = field,
                                             .index = index,
                                             .message = str_of(message),
                                             .input = input});
}

static void add_value_error(struct problems *problems, const char *field, const struct buf *reason,
                            struct json_span input)
{
    struct buf message;
    buf_init(&message, REASON_SIZE_MAX);
    buf_append_text(&message, "Value error, ");
    buf_append(&message, buf_str(reason));
    problems_add(problems, &(struct problem){.type = "value_error",
                                             .place = "body",
                                             .field = field,
                                             .index = -1,
                                             .message = buf_str(&message),
                                             .input = input,
                                             .context = "{\"error\":{}}"});
    buf_finish(&message);
}

/* A member of the body; when it is absent that is noted, with the whole body as input. */
static bool find_member(struct problems *problems, struct json_span body, const char *name,
                        struct json_span *ret_value)
{
    if (json_find(body, str_of(name), ret_value)) {
        return true;
    }
    add_problem(problems, "missing", name, -1, "Field required", body);
    return false;
}

static void check_table(struct problems *problems, struct json_span body, struct buf *table)
{
    struct json_span value;
    if (!find_member(problems, body, "table_name", &value)) {
        return;
    }
    if (!json_text(value, table)) {
        add_problem(problems, "string_type", "table_name", -1, "Input should be a valid string",
                    value);
        return;
    }
    struct buf reason;
    buf_init(&reason, REASON_SIZE_MAX);
    if (!ingest_check_table(buf_str(table), &reason)) {
        add_value_error(problems, "table_name", &reason, value);
    }
    buf_finish(&reason);
}

/* The rule of one record's names; the first bad one ends the search. */
static bool check_names(struct json_span record, struct buf *reason)
{
    struct json_cursor cursor = json_open(record);
    struct json_span key;
    struct json_span value;
    struct buf name;
    buf_init(&name, TEXT_SIZE_MAX);
    bool good = true;
    while (good && json_next(&cursor, &key, &value)) {
        buf_reset(&name);
        (void)json_unescape(key, &name);
        if (buf_failed(&name)) {
            buf_append_text(reason, "Column name too long");
            good = false;
        } else {
            good = ingest_check_column(buf_str(&name), reason);
        }
    }
    buf_finish(&name);
    return good;
}

static void check_each_record(struct problems *problems, struct json_span records)
{
    struct json_cursor cursor = json_open(records);
    struct json_span record;
    size_t before = problems->count;
    for (int64_t i = 0; json_next(&cursor, NULL, &record); i++) {
        if (record.kind != JSON_OBJECT) {
            add_problem(problems, "dict_type", "records", i, "Input should be a valid dictionary",
                        record);
        }
    }
    if (problems->count > before) {
        return;
    }
    struct buf reason;
    buf_init(&reason, REASON_SIZE_MAX);
    cursor = json_open(records);
    while (json_next(&cursor, NULL, &record)) {
        if (!check_names(record, &reason)) {
            add_value_error(problems, "records", &reason, records);
            break;
        }
    }
    buf_finish(&reason);
}

static void check_records(struct problems *problems, struct json_span body,
                          struct json_span *ret_records)
{
    if (!find_member(problems, body, "records", ret_records)) {
        return;
    }
    if (ret_records->kind != JSON_ARRAY) {
        add_problem(problems, "list_type", "records", -1, "Input should be a valid list",
                    *ret_records);
        return;
    }
    if (json_count(*ret_records) == 0) {
        struct buf reason;
        buf_init(&reason, REASON_SIZE_MAX);
        buf_append_text(&reason, "Records list cannot be empty");
        add_value_error(problems, "records", &reason, *ret_records);
        buf_finish(&reason);
        return;
    }
    check_each_record(problems, *ret_records);
}

static void check_date_type(struct problems *problems, struct json_span body, struct buf *text)
{
    struct json_span value;
    if (json_find(body, STR("partition_date"), &value) && value.kind != JSON_NULL &&
        !json_text(value, text)) {
        add_problem(problems, "string_type", "partition_date", -1, "Input should be a valid string",
                    value);
    }
}

/* Fills date and text; an absent, null or empty date means today. False with a reason. */
static bool settle_date(struct batch *batch, struct buf *reason)
{
    if (batch->date_text.len == 0) {
        batch->date = lake_date_of(batch->now_ms);
        buf_append_format(&batch->date_text, "%04d-%02d-%02d", batch->date.year, batch->date.month,
                          batch->date.day);
        return true;
    }
    if (ingest_parse_date(buf_str(&batch->date_text), &batch->date)) {
        return true;
    }
    buf_append_text(reason, "Invalid date format: ");
    buf_append(reason, str_first(buf_str(&batch->date_text), DATE_ECHO_MAX));
    buf_append_text(reason, ". Expected YYYY-MM-DD");
    return false;
}

static struct batch *batch_create(void)
{
    struct batch *batch = mem_alloc(sizeof(*batch));
    buf_init(&batch->table, TEXT_SIZE_MAX);
    buf_init(&batch->date_text, TEXT_SIZE_MAX);
    batch->now_ms = clock_wall_ms();
    return batch;
}

/* Everything is judged before anything is kept: fields first, all of them at once, then the date,
 * then the values. What is wrong is in `problems`, else in `reason`, else in err. */
static bool read_batch(struct request *request, struct batch *batch, struct problems *problems,
                       struct buf *reason, struct err *err)
{
    struct json_span records = {.kind = JSON_NULL};
    check_table(problems, request->body, &batch->table);
    check_records(problems, request->body, &records);
    check_date_type(problems, request->body, &batch->date_text);
    if (problems->count > 0) {
        return false;
    }
    return settle_date(batch, reason) &&
           lake_rows_infer(records, 4 * request->api->options.body_decoded_bytes_max, &batch->rows,
                           err) &&
           request_reserve(request, batch->rows.lines.len, err);
}

void ingest_check(struct request *request)
{
    struct problems problems;
    struct err err = {.kind = ERR_NONE};
    problems_init(&problems);
    if (!ingest_read_body(request, &problems)) {
        problems_finish(&problems);
        return;
    }
    struct buf reason;
    buf_init(&reason, REASON_SIZE_MAX);
    bool good = problems.count == 0;
    if (good) {
        struct batch *batch = batch_create();
        good = read_batch(request, batch, &problems, &reason, &err);
        request_set_work(request, batch, batch_finish);
    }
    if (problems.count > 0) {
        problems_reply(&problems, request);
    } else if (reason.len > 0) {
        reply_invalid(request, buf_str(&reason));
    } else if (!good ||
               !request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
    buf_finish(&reason);
    problems_finish(&problems);
}

void ingest_run(struct request *request)
{
    struct batch *batch = request->work;
    struct err err;
    struct buf url;
    buf_init(&url, TEXT_SIZE_MAX);
    if (!lake_append_batch(request->api->options.lake, buf_str(&batch->table), batch->date,
                           batch->now_ms, &batch->rows, request->cancel, &url, &err)) {
        buf_finish(&url);
        reply_error(request, &err);
        return;
    }
    request->rows_ingested = batch->rows.rows_count;
    struct buf body;
    struct json_writer writer;
    char message[64];
    (void)snprintf(message, sizeof(message), "Ingested %llu records",
                   (unsigned long long)batch->rows.rows_count);
    buf_init(&body, REPLY_SIZE_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("success"));
    json_member_string(&writer, "message", str_of(message));
    json_member_string(&writer, "table_name", buf_str(&batch->table));
    json_member_string(&writer, "s3_path", buf_str(&url));
    json_member_string(&writer, "partition_date", buf_str(&batch->date_text));
    json_member_u64(&writer, "record_count", batch->rows.rows_count);
    json_end_object(&writer);
    buf_finish(&url);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

/* ---- POST /ingest/stream and /flush: judged by their contract, and refused until the durable log
 * is there ---- */

static bool query_table(struct request *request, struct problems *problems, struct buf *table)
{
    if (http_query_parameter(request->exchange, "table_name", table)) {
        return true;
    }
    problems_add(problems, &(struct problem){.type = "missing",
                                             .place = "query",
                                             .field = "table_name",
                                             .index = -1,
                                             .message = STR("Field required")});
    return false;
}

static void check_data(struct problems *problems, struct json_span body)
{
    struct json_span data;
    if (body.kind != JSON_OBJECT || !find_member(problems, body, "data", &data)) {
        return;
    }
    if (data.kind != JSON_OBJECT) {
        add_problem(problems, "dict_type", "data", -1, "Input should be a valid dictionary", data);
        return;
    }
    struct buf reason;
    buf_init(&reason, REASON_SIZE_MAX);
    if (!check_names(data, &reason)) {
        add_value_error(problems, "data", &reason, data);
    }
    buf_finish(&reason);
}

static void reply_without_log(struct request *request, struct str table)
{
    struct buf reason;
    buf_init(&reason, REASON_SIZE_MAX);
    if (!ingest_check_table(table, &reason)) {
        reply_invalid(request, buf_str(&reason));
    } else {
        struct err err;
        (void)err_set(&err, ERR_NOT_IMPLEMENTED,
                      "this version of Eider has no durable log yet; use POST /ingest, which "
                      "answers when the records are in the lake");
        reply_error(request, &err);
    }
    buf_finish(&reason);
}

void ingest_stream(struct request *request)
{
    struct problems problems;
    struct buf table;
    problems_init(&problems);
    buf_init(&table, TEXT_SIZE_MAX);
    (void)query_table(request, &problems, &table);
    if (ingest_read_body(request, &problems)) {
        check_data(&problems, request->body);
        if (problems.count > 0) {
            problems_reply(&problems, request);
        } else {
            reply_without_log(request, buf_str(&table));
        }
    }
    buf_finish(&table);
    problems_finish(&problems);
}

void ingest_flush(struct request *request)
{
    struct problems problems;
    struct buf table;
    problems_init(&problems);
    buf_init(&table, TEXT_SIZE_MAX);
    if (query_table(request, &problems, &table)) {
        reply_without_log(request, buf_str(&table));
    } else {
        problems_reply(&problems, request);
    }
    buf_finish(&table);
    problems_finish(&problems);
}

/* ---- tables ---- */

void ingest_tables_check(struct request *request)
{
    struct err err;
    if (!request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
}

static bool add_name(void *context, struct str name)
{
    json_put_string(context, name);
    return true;
}

void ingest_tables_run(struct request *request)
{
    struct buf body;
    struct json_writer writer;
    struct err err;
    buf_init(&body, REPLY_SIZE_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("success"));
    json_key(&writer, STR("tables"));
    json_begin_array(&writer);
    bool good = lake_visit_tables(request->api->options.lake, false, add_name, &writer,
                                  request->cancel, &err);
    json_end_array(&writer);
    json_end_object(&writer);
    if (good) {
        reply_buf(request, 200, &body);
    } else {
        reply_error(request, &err);
    }
    buf_finish(&body);
}

/* Nothing is buffered before the durable log is there: an honest 0 for every good name. */
void ingest_count(struct request *request)
{
    struct buf reason;
    struct buf body;
    buf_init(&reason, REASON_SIZE_MAX);
    buf_init(&body, REPLY_SIZE_MAX);
    struct str name = buf_str(&request->parameter);
    if (!ingest_check_table(name, &reason)) {
        reply_invalid(request, buf_str(&reason));
    } else {
        struct json_writer writer;
        json_writer_init(&writer, &body);
        json_begin_object(&writer);
        json_member_string(&writer, "status", STR("success"));
        json_member_string(&writer, "table_name", name);
        json_member_u64(&writer, "buffered_count", 0);
        json_end_object(&writer);
        reply_buf(request, 200, &body);
    }
    buf_finish(&reason);
    buf_finish(&body);
}
