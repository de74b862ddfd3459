#include "api_query.h"
#include "api_access.h"
#include "api_format.h"
#include "api_queries.h"
#include "api_s3_config.h"
#include "mem.h"
#include "num.h"

#include <stdio.h>

static void query_finish(void *work)
{
    struct query *query = work;
    while (query->tables != NULL) {
        struct declared_table *table = query->tables;
        query->tables = table->next;
        declared_table_destroy(table);
    }
    map_finish(&query->by_name);
    store_close(query->store);
    lake_statement_destroy(query->over_lake);
    buf_finish(&query->copy);
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
    buf_init(&text, QUERY_FIELD_SIZE_MAX);
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

/* A whole number from 1 to max; *ret_value stays as it is when the field is absent. */
static bool read_count(struct json_span body, const char *name, uint64_t max, uint64_t *ret_value,
                       struct err *err)
{
    struct json_span field;
    struct err ignored;
    if (!json_find(body, str_of(name), &field)) {
        return true;
    }
    return (field.kind == JSON_INTEGER && num_parse_u64(field.text, 1, max, ret_value, &ignored)) ||
           err_set(err, ERR_INVALID, "%s must be a whole number from 1 to %llu", name,
                   (unsigned long long)max);
}

/* What is ours beside the contract's fields. */
static bool read_options(struct request *request, struct query *query, struct err *err)
{
    uint64_t timeout_max_ms = (uint64_t)request->api->options.query_timeout_ms;
    uint64_t timeout_ms = timeout_max_ms;
    struct json_span parameters;
    if (json_find(request->body, STR("params"), &parameters)) {
        if (parameters.kind != JSON_ARRAY && parameters.kind != JSON_OBJECT) {
            return err_set(err, ERR_INVALID, "params must be an array or an object");
        }
        query->parameters = parameters.text;
    }
    bool good = read_count(request->body, "timeout_ms", timeout_max_ms, &timeout_ms, err) &&
                read_count(request->body, "max_rows", INT64_MAX, &query->rows_max, err) &&
                format_choose(request, &request->format, err);
    query->timeout_ms = (int64_t)timeout_ms;
    return good;
}

static bool read_query(struct request *request, struct query *query, struct err *err)
{
    if (!snapshot_text_field(request->body, "sql", "sql", &query->sql, err)) {
        return false;
    }
    if (is_over_lake(request)) {
        query->over_lake = lake_statement_create(request->api->options.lake);
        return read_options(request, query, err);
    }
    if (!snapshot_open_store(request, &query->store, err) ||
        !read_tables(query, request->body, err)) {
        return false;
    }
    store_append_url(query->store, STR(""), &query->url);
    return read_options(request, query, err);
}

void query_log(const struct query *query, const char *status)
{
    uint64_t tables_count = 0;
    for (const struct declared_table *at = query->tables; at != NULL; at = at->next) {
        tables_count++;
    }
    access_log_query(query->request, status, tables_count);
}

static void reply_full(struct request *request, const struct lane_counts *counts)
{
    char text[160];
    query_log(request->work, "busy");
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
    buf_init(&query->sql, QUERY_FIELD_SIZE_MAX);
    buf_init(&query->url, QUERY_FIELD_SIZE_MAX);
    buf_init(&query->copy, (size_t)results_body_max(request->api->results) + 1);
    struct err err;
    struct lane_counts counts;
    bool good = read_query(request, query, &err);
    request_set_work(request, query, query_finish);
    if (!good) {
        reply_error(request, &err);
        return;
    }
    struct api *api = request->api;
    queries_enter(request, buf_str(&query->sql));
    if (query_answer_at_once(query)) {
        return;
    }
    if (!request_run(request, query->timeout_ms, &counts, &err)) {
        queries_forget(request);
        reply_full(request, &counts);
        return;
    }
    queries_sweep(api); /* it may have been cancelled just before it was in the queue */
}
