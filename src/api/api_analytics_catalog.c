/* Which databases there are, and the one query that the original has by name. */
#include "api_analytics.h"
#include "clock.h"
#include "num.h"

#include <stdio.h>
#include <string.h>

enum {
    LIST_SIZE_MAX = 16 << 20,
    PAGES_LIMIT_MAX = 1000,
    DATE_SIZE = 64
};

/* ---- databases ---- */

static const char *const statuses[] = {
    [DATABASE_CLOSED] = "closed",
    [DATABASE_OPEN] = "open",
    [DATABASE_QUARANTINED] = "quarantined",
};

static void put_info(void *context, const struct database_info *info)
{
    struct json_writer *writer = context;
    json_begin_object(writer);
    json_member_string(writer, "name", str_of(info->name));
    json_member_string(writer, "status", str_of(statuses[info->status]));
    json_member_u64(writer, "size_bytes", info->size_bytes);
    json_member_u64(writer, "wal_bytes", info->log_bytes);
    json_member_u64(writer, "memory_bytes", info->process.resident_bytes);
    json_member_u64(writer, "memory_limit_bytes", info->memory_limit_bytes);
    json_member_u64(writer, "running", info->process.running);
    json_member_u64(writer, "waiting", info->process.waiting);
    json_member_string(writer, "circuit_breaker", str_of(breaker_state_name(info->breaker.state)));
    json_key(writer, STR("problem"));
    if (info->problem[0] == '\0') {
        json_put_null(writer);
    } else {
        json_put_string(writer, str_of(info->problem));
    }
    json_end_object(writer);
}

void analytics_list_run(struct request *request)
{
    struct buf body;
    struct json_writer writer;
    reply_begin_object(&body, LIST_SIZE_MAX, &writer);
    json_key(&writer, STR("databases"));
    json_begin_array(&writer);
    databases_visit(request->api->options.databases, put_info, &writer);
    json_end_array(&writer);
    reply_end_object(request, 200, &body, &writer);
}

static void show(struct request *request, struct str name, unsigned status)
{
    struct buf body;
    struct json_writer writer;
    buf_init(&body, LIST_SIZE_MAX);
    json_writer_init(&writer, &body);
    if (databases_find(request->api->options.databases, name, put_info, &writer)) {
        reply_buf(request, status, &body);
    } else {
        struct err err;
        (void)err_set(&err, ERR_NOT_FOUND, "there is no database '%.*s'", STR_ARG(name));
        reply_error(request, &err);
    }
    buf_finish(&body);
}

void analytics_show_run(struct request *request)
{
    show(request, buf_str(&request->parameter), 200);
}

void analytics_make_check(struct request *request)
{
    if (!analytics_read_body(request)) {
        return;
    }
    struct faults faults;
    struct err err;
    faults_init(&faults);
    buf_reset(&request->parameter);
    analytics_read_text(&faults, request->body, "name", "body.name", &request->parameter);
    if (faults.count == 0 && !database_name_is_good(buf_str(&request->parameter))) {
        faults_add(&faults, "body.name", "string_pattern_mismatch",
                   "String should match pattern '^[a-z0-9][a-z0-9_-]{0,62}$'");
    }
    if (!faults_reply(&faults, request) &&
        !request_run(request, request->api->options.query_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
    faults_finish(&faults);
}

void analytics_make_run(struct request *request)
{
    struct err err;
    struct str name = buf_str(&request->parameter);
    if (databases_make(request->api->options.databases, name, request->cancel, &err)) {
        show(request, name, 201);
    } else {
        reply_error(request, &err);
    }
}

void analytics_drop_run(struct request *request)
{
    struct err err;
    struct str name = buf_str(&request->parameter);
    if (!databases_drop(request->api->options.databases, name, request->cancel, &err)) {
        reply_error(request, &err);
        return;
    }
    struct buf body;
    struct json_writer writer;
    reply_begin_object(&body, LIST_SIZE_MAX, &writer);
    json_member_string(&writer, "status", STR("success"));
    json_member_string(&writer, "database", name);
    json_member_string(&writer, "note", STR("its files are in the trash folder"));
    reply_end_object(request, 200, &body, &writer);
}

/* ---- GET /templates/page-stats ---- */

static bool is_date(struct str text)
{
    struct err ignored;
    uint64_t parts[3] = {0};
    static const size_t starts[] = {0, 5, 8};
    static const size_t sizes[] = {4, 2, 2};
    if (text.len != 10 || text.ptr[4] != '-' || text.ptr[7] != '-') {
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if (!num_parse_u64(str_make(text.ptr + starts[i], sizes[i]), 0, 9999, &parts[i],
                           &ignored)) {
            return false;
        }
    }
    return clock_date_is_real((int)parts[0], (int)parts[1], (int)parts[2]);
}

/* Bound, never pasted: the text of a date goes into the parameters, its condition into the
 * statement. The last day counts whole. */
static void read_date(struct analytics_work *work, struct faults *faults, const char *name,
                      const char *condition, struct json_writer *parameters)
{
    struct buf value;
    char field[32];
    buf_init(&value, DATE_SIZE);
    bool given = http_query_parameter(work->request->exchange, name, &value) || buf_failed(&value);
    if (given && (buf_failed(&value) || !is_date(buf_str(&value)))) {
        (void)snprintf(field, sizeof(field), "query.%s", name);
        faults_add(faults, field, "date_from_datetime_parsing",
                   "Input should be a valid date in the format YYYY-MM-DD");
    } else if (given) {
        buf_append_text(&work->text, condition);
        json_member_string(parameters, name, buf_str(&value));
    }
    buf_finish(&value);
}

static void read_limit(struct request *request, struct faults *faults, uint64_t *ret_limit)
{
    struct buf value;
    buf_init(&value, DATE_SIZE);
    if (http_query_parameter(request->exchange, "limit", &value) || buf_failed(&value)) {
        analytics_parse_number(faults, buf_str(&value), "query.limit", 1, PAGES_LIMIT_MAX,
                               ret_limit);
    }
    buf_finish(&value);
}

void analytics_pages_check(struct request *request)
{
    struct faults faults;
    struct json_writer parameters;
    uint64_t limit = 100;
    char end[96];
    faults_init(&faults);
    struct analytics_work *work = analytics_work_create(request);
    json_writer_init(&parameters, &work->own_parameters);
    json_begin_object(&parameters);
    buf_append_text(&work->text, "SELECT domain, count(*) AS page_count, avg(content_length) AS "
                                 "avg_content_length, max(created_at) AS last_scraped FROM "
                                 "pages_analytics WHERE true");
    read_date(work, &faults, "start_date", " AND created_at >= CAST($start_date AS DATE)",
              &parameters);
    read_date(work, &faults, "end_date",
              " AND created_at < CAST($end_date AS DATE) + INTERVAL 1 DAY", &parameters);
    read_limit(request, &faults, &limit);
    json_end_object(&parameters);
    (void)snprintf(end, sizeof(end), " GROUP BY domain ORDER BY page_count DESC, domain LIMIT %llu",
                   (unsigned long long)limit);
    buf_append_text(&work->text, end);
    work->kind = WORKER_STATEMENTS;
    work->wrapped = true;
    work->pages = true;
    work->timeout_s = ANALYTICS_DEFAULT_TIMEOUT_S;
    request->format = WORKER_FORMAT_ROWS;
    work->parameters = buf_str(&work->own_parameters);
    work->statements[0] = buf_str(&work->text);
    work->statements_count = 1;
    if (!faults_reply(&faults, request)) {
        analytics_submit(work, work->timeout_s);
    }
    faults_finish(&faults);
}
