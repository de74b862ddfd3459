#include "api_s3_config.h"
#include "map.h"
#include "mem.h"

#include <stdio.h>

enum {
    FIELD_SIZE_MAX = 2 << 20,
    OBJECTS_MAX = 100000
};

/* One declared table: a name, and the paths it was given. */
struct declared_table {
    struct str name;
    struct str folded; /* in lower case: SQL does not care */
    struct str *paths; /* without leading slashes */
    size_t paths_count;
    bool added;
    struct declared_table *next; /* the one declared before */
};

struct query {
    struct buf sql;
    struct store *store;           /* NULL: the server's own lake */
    struct buf url;                /* s3://bucket/ */
    struct declared_table *tables; /* the last declared first */
    struct map by_name;            /* folded names; the last declared wins */
    struct request *request;
    uint64_t objects_count;
};

static void query_finish(void *work)
{
    struct query *query = work;
    while (query->tables != NULL) {
        struct declared_table *table = query->tables;
        query->tables = table->next;
        mem_free((char *)(uintptr_t)table->name.ptr);
        mem_free((char *)(uintptr_t)table->folded.ptr);
        for (size_t i = 0; i < table->paths_count; i++) {
            mem_free((char *)(uintptr_t)table->paths[i].ptr);
        }
        mem_free(table->paths);
        mem_free(table);
    }
    map_finish(&query->by_name);
    store_close(query->store);
    buf_finish(&query->sql);
    buf_finish(&query->url);
    mem_free(query);
}

/* ---- the body ---- */

static struct str copy_text(struct buf *text)
{
    return str_make(mem_copy_bytes(text->ptr, text->len), text->len);
}

static bool keep_path(struct declared_table *table, struct buf *path, struct err *err)
{
    struct str bare = buf_str(path);
    while (bare.len > 0 && bare.ptr[0] == '/') {
        bare = str_from(bare, 1);
    }
    if (!store_check_key(bare, err)) {
        return false;
    }
    table->paths[table->paths_count++] = str_make(mem_copy_bytes(bare.ptr, bare.len), bare.len);
    return true;
}

/* s3_path is one string, as in the contract; s3_paths, a list of them, is ours. */
static bool read_paths(struct json_span table, const char *where, struct declared_table *declared,
                       struct buf *text, struct err *err)
{
    char name[64];
    struct json_span list;
    struct json_span one;
    if (json_find(table, STR("s3_path"), &one) || !json_find(table, STR("s3_paths"), &list)) {
        (void)snprintf(name, sizeof(name), "%s.s3_path", where);
        declared->paths = mem_alloc(sizeof(*declared->paths));
        return snapshot_text_field(table, "s3_path", name, text, err) &&
               keep_path(declared, text, err);
    }
    if (list.kind != JSON_ARRAY || json_count(list) == 0) {
        return err_set(err, ERR_INVALID, "%s.s3_paths must be a non-empty array of strings", where);
    }
    declared->paths = mem_alloc_array(json_count(list), sizeof(*declared->paths));
    struct json_cursor cursor = json_open(list);
    while (json_next(&cursor, NULL, &one)) {
        buf_reset(text);
        if (!json_text(one, text) || str_blank(buf_str(text))) {
            return err_set(err, ERR_INVALID, "%s.s3_paths must be a non-empty array of strings",
                           where);
        }
        if (!keep_path(declared, text, err)) {
            return false;
        }
    }
    return true;
}

static bool read_table(struct query *query, struct json_span table, uint64_t index, struct err *err)
{
    char where[48];
    char name[64];
    (void)snprintf(where, sizeof(where), "tables[%llu]", (unsigned long long)index);
    (void)snprintf(name, sizeof(name), "%s.name", where);
    if (table.kind != JSON_OBJECT) {
        return err_set(err, ERR_INVALID, "%s must be an object", where);
    }
    struct declared_table *declared = mem_alloc(sizeof(*declared));
    declared->next = query->tables;
    query->tables = declared;
    struct buf text;
    buf_init(&text, FIELD_SIZE_MAX);
    bool good = snapshot_text_field(table, "name", name, &text, err);
    if (good) {
        declared->name = copy_text(&text);
        declared->folded = map_folded_key(declared->name);
        map_set(&query->by_name, declared->folded, declared);
        buf_reset(&text);
        good = read_paths(table, where, declared, &text, err);
    }
    buf_finish(&text);
    return good;
}

static bool read_tables(struct query *query, struct json_span body, struct err *err)
{
    struct json_span tables;
    if (!json_find(body, STR("tables"), &tables) || tables.kind != JSON_ARRAY) {
        return err_set(err, ERR_INVALID, "tables must be an array");
    }
    struct json_cursor cursor = json_open(tables);
    struct json_span table;
    for (uint64_t i = 0; json_next(&cursor, NULL, &table); i++) {
        if (!read_table(query, table, i, err)) {
            return false;
        }
    }
    return true;
}

/* Over the server's own lake, on the shared listener only: neither credentials nor tables are
 * given. */
static bool is_over_lake(struct request *request)
{
    struct json_span ignored;
    return http_tag(request->exchange) == API_SHARED &&
           !json_find(request->body, STR("s3_config"), &ignored) &&
           !json_find(request->body, STR("tables"), &ignored);
}

static bool read_query(struct request *request, struct query *query, struct err *err)
{
    if (!snapshot_text_field(request->body, "sql", "sql", &query->sql, err)) {
        return false;
    }
    if (is_over_lake(request)) {
        return true;
    }
    if (!snapshot_open_store(request, &query->store, err) ||
        !read_tables(query, request->body, err)) {
        return false;
    }
    store_append_url(query->store, STR(""), &query->url);
    return true;
}

static void reply_full(struct request *request, const struct lane_counts *counts)
{
    char text[160];
    (void)snprintf(text, sizeof(text),
                   "sidecar is busy (queue full: %u/%u); retry shortly. Please retry in a few "
                   "seconds.",
                   counts->queued, counts->queued_max);
    reply_busy(request, text, counts);
}

void query_check(struct request *request)
{
    if (!snapshot_read_body(request)) {
        return;
    }
    struct query *query = mem_alloc(sizeof(*query));
    query->request = request;
    buf_init(&query->sql, FIELD_SIZE_MAX);
    buf_init(&query->url, FIELD_SIZE_MAX);
    struct err err;
    struct lane_counts counts;
    bool good = read_query(request, query, &err);
    request_set_work(request, query, query_finish);
    if (!good) {
        reply_error(request, &err);
    } else if (!request_run(request, request->api->options.query_timeout_ms, &counts, &err)) {
        reply_full(request, &counts);
    }
}

/* ---- the tables, when the worker asks for them ---- */

/* The objects of one table, in the order found. */
struct found {
    struct query *query;
    struct engine_job *job;
    struct str pattern; /* while a glob is listed */
    struct buf files;   /* as worker_put_table has them */
    uint64_t count;
};

static bool add_object(struct found *found, struct str key, const struct store_object *object,
                       struct err *err)
{
    struct query *query = found->query;
    if (++query->objects_count > OBJECTS_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "the statement reads more than %d objects",
                       OBJECTS_MAX);
    }
    struct buf path;
    buf_init(&path, FIELD_SIZE_MAX);
    buf_append(&path, buf_str(&query->url));
    buf_append(&path, key);
    engine_declare(found->job, buf_str(&path), query->store, key, object);
    worker_put_text(&found->files, buf_str(&path));
    worker_put_u32(&found->files, 0);
    found->count++;
    buf_finish(&path);
    return true;
}

static bool visit_match(void *context, struct str key, const struct store_object *object,
                        struct err *err)
{
    struct found *found = context;
    return !store_match_key(found->pattern, key) || add_object(found, key, object, err);
}

/* An object of exactly this name comes before a pattern. */
static bool find_path(struct found *found, struct str path, struct err *err)
{
    struct query *query = found->query;
    struct cancel *cancel = query->request->cancel;
    struct store_object object;
    uint64_t before = found->count;
    if (store_head(query->store, path, cancel, &object, err)) {
        return add_object(found, path, &object, err);
    }
    if (err->kind != ERR_STORE_MISSING || !store_has_glob(path)) {
        return false;
    }
    found->pattern = path;
    if (!store_list(query->store, store_glob_prefix(path), visit_match, found, cancel, err)) {
        return false;
    }
    return found->count > before ||
           err_set(err, ERR_STORE_MISSING, "no objects match \"%.*s\"", STR_ARG(path));
}

static bool add_table(struct query *query, struct engine_job *job,
                      const struct declared_table *table, struct buf *tables, uint64_t *count,
                      struct err *err)
{
    struct found found = {.query = query, .job = job};
    buf_init(&found.files, WORKER_FRAME_SIZE_MAX);
    bool good = true;
    for (size_t i = 0; good && i < table->paths_count; i++) {
        good = find_path(&found, table->paths[i], err);
    }
    if (good) {
        worker_put_text(tables, table->name);
        worker_put_u32(tables, WORKER_TABLE_FILES);
        worker_put_u64(tables, found.count);
        buf_append(tables, buf_str(&found.files));
        worker_put_u64(tables, 0); /* no schemas */
        (*count)++;
    }
    buf_finish(&found.files);
    return good;
}

static bool add_once(struct query *query, struct engine_job *job, struct declared_table *table,
                     struct buf *tables, uint64_t *count, struct err *err)
{
    if (table == NULL || table->added) {
        return true;
    }
    table->added = true;
    return add_table(query, job, table, tables, count, err);
}

/* Only what the statement names is looked at: a stale snapshot of another table does no harm. */
static bool resolve(void *context, struct engine_job *job, const struct engine_names *names,
                    struct buf *tables, uint64_t *ret_tables_count, struct err *err)
{
    struct query *query = context;
    bool good = true;
    for (size_t i = 0; good && i < names->count; i++) {
        struct str name = map_folded_key(names->names[i]);
        struct declared_table *table = map_find(&query->by_name, name);
        mem_free((char *)(uintptr_t)name.ptr);
        good = add_once(query, job, table, tables, ret_tables_count, err);
    }
    struct declared_table *table = names->all ? query->tables : NULL;
    for (; good && table != NULL; table = table->next) {
        bool shadowed = map_find(&query->by_name, table->folded) != table;
        good = shadowed || engine_is_catalog_name(table->folded) ||
               add_once(query, job, table, tables, ret_tables_count, err);
    }
    return good;
}

static bool pass_result(void *context, struct str bytes, struct err *err)
{
    struct query *query = context;
    return result_pass(query->request, bytes, err);
}

void query_run(struct request *request)
{
    struct query *query = request->work;
    struct engine_outcome outcome;
    struct err err;
    bool good;
    atomic_fetch_add(&request->api->pool_created, 1);
    if (query->store == NULL) {
        struct lake_query over_lake = {
            .statement = buf_str(&query->sql), .result = pass_result, .context = query};
        good =
            lake_run_query(request->api->options.lake, &over_lake, request->cancel, &outcome, &err);
    } else {
        struct engine_request run = {
            .job = {.kind = WORKER_QUERY, .statement = buf_str(&query->sql)},
            .input_fd = -1,
            .output_fd = -1,
            .resolve = resolve,
            .result = pass_result,
            .context = query,
        };
        good = engine_run(request->api->options.engine, &run, request->cancel, &outcome, &err);
    }
    result_end(request, good, &err);
}
