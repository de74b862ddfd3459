#include "api_analytics.h"
#include "api_format.h"
#include "api_texts.h"

#include <stdio.h>

enum {
    FETCH_SIZE_DEFAULT = 1, /* the original's chunk */
    FETCH_SIZE_MAX = 1000000
};

static const char *const fetch_modes[] = {
    [WORKER_FETCH_ALL] = "all",
    [WORKER_FETCH_ONE] = "one",
    [WORKER_FETCH_MANY] = "many",
    [WORKER_FETCH_NONE] = "none",
};

static void read_fetch_mode(struct request *request, struct faults *faults,
                            enum worker_fetch *ret_fetch)
{
    struct json_span value;
    if (!json_find(request->body, STR("fetch_mode"), &value)) {
        return;
    }
    if (value.kind != JSON_STRING) {
        faults_add(faults, "body.fetch_mode", "string_type", "Input should be a valid string");
        return;
    }
    for (size_t i = 0; i < COUNT_OF(fetch_modes); i++) {
        if (json_string_equal(value, str_of(fetch_modes[i]))) {
            *ret_fetch = (enum worker_fetch)i;
            return;
        }
    }
    faults_add(faults, "body.fetch_mode", "literal_error",
               "Input should be 'all', 'one', 'many' or 'none'");
}

static void read_parameters(struct request *request, struct faults *faults,
                            struct str *ret_parameters)
{
    struct json_span value;
    if (!json_find(request->body, STR("params"), &value) || value.kind == JSON_NULL) {
        return;
    }
    if (value.kind != JSON_OBJECT) {
        faults_add(faults, "body.params", "dict_type", "Input should be a valid dictionary");
    } else if (json_count(value) > 0) {
        *ret_parameters = value.text;
    }
}

/* The forms of POST /query, where they are asked for; without, the contract's own. */
static void read_format(struct request *request, struct analytics_work *work, struct faults *faults)
{
    struct err err;
    if (!format_choose(request, &request->format, &err)) {
        faults_add(faults, "query.format", "literal_error", "%s", err.message);
    }
    work->wrapped = request->format == WORKER_FORMAT_JSON;
    if (work->wrapped) {
        request->format = WORKER_FORMAT_ROWS;
    }
}

/* Who may not is refused by the worker, and takes no writer's turn for it. */
static bool may_write(const struct request *request)
{
    return analytics_role(request) != WORKER_ROLE_READ;
}

static void read_query(struct request *request, struct analytics_work *work, struct faults *faults)
{
    struct json_span body = request->body;
    work->kind = WORKER_STATEMENTS;
    work->fetch_size = FETCH_SIZE_DEFAULT;
    work->rows_max = request->api->options.database_rows_max;
    analytics_read_text(faults, body, "query", "body.query", &work->text);
    read_parameters(request, faults, &work->parameters);
    read_fetch_mode(request, faults, &work->fetch);
    analytics_read_number(faults, body, "fetch_size", "body.fetch_size", 1, FETCH_SIZE_MAX,
                          &work->fetch_size);
    analytics_read_number(faults, body, "max_rows", "body.max_rows", 1, work->rows_max,
                          &work->rows_max);
    analytics_read_number(faults, body, "timeout_seconds", "body.timeout_seconds", 1,
                          ANALYTICS_TIMEOUT_S_MAX, &work->timeout_s);
    read_format(request, work, faults);
    (void)analytics_read_database(request, faults, &work->database);
    work->statements[0] = buf_str(&work->text);
    work->statements_count = 1;
    work->writes =
        may_write(request) && !texts_ask(request->api->texts, TEXT_ONLY_READS, work->statements[0]);
}

/* What both have: the body read, its faults told, the rest on the lane. */
static void check(struct request *request,
                  void (*read)(struct request *, struct analytics_work *, struct faults *))
{
    if (!analytics_read_body(request)) {
        return;
    }
    struct faults faults;
    faults_init(&faults);
    struct analytics_work *work = analytics_work_create(request);
    work->timeout_s = ANALYTICS_DEFAULT_TIMEOUT_S;
    read(request, work, &faults);
    if (!faults_reply(&faults, request)) {
        analytics_submit(work, work->timeout_s);
    }
    faults_finish(&faults);
}

void analytics_query_check(struct request *request)
{
    check(request, read_query);
}

/* ---- a batch ---- */

static void read_statement(struct analytics_work *work, struct json_span value, size_t index,
                           struct faults *faults, size_t starts[static ANALYTICS_BATCH_MAX])
{
    char field[32];
    (void)snprintf(field, sizeof(field), "body.queries.%zu", index);
    if (value.kind != JSON_STRING) {
        faults_add(faults, field, "string_type", "Input should be a valid string");
        return;
    }
    starts[index] = work->text.len;
    (void)json_unescape(value, &work->text);
    if (buf_failed(&work->text)) {
        faults_add(faults, field, "string_too_long", "The statements are longer than %d bytes",
                   ANALYTICS_TEXT_SIZE_MAX);
    }
}

static void read_statements(struct analytics_work *work, struct json_span list,
                            struct faults *faults)
{
    size_t starts[ANALYTICS_BATCH_MAX + 1] = {0};
    struct json_cursor cursor = json_open(list);
    struct json_span value;
    size_t count = 0;
    for (; count < ANALYTICS_BATCH_MAX && json_next(&cursor, NULL, &value); count++) {
        read_statement(work, value, count, faults, starts);
    }
    starts[count] = work->text.len;
    work->statements_count = count;
    for (size_t i = 0; i < count && faults->count == 0; i++) {
        work->statements[i] = str_make(work->text.len == 0 ? "" : work->text.ptr + starts[i],
                                       starts[i + 1] - starts[i]);
    }
}

static void read_batch(struct request *request, struct analytics_work *work, struct faults *faults)
{
    struct json_span list;
    work->kind = WORKER_BATCH;
    work->wrapped = true;
    work->writes = may_write(request);
    work->atomic = true;
    request->format = WORKER_FORMAT_ROWS;
    if (!json_find(request->body, STR("queries"), &list)) {
        faults_add(faults, "body.queries", "missing", "Field required");
    } else if (list.kind != JSON_ARRAY) {
        faults_add(faults, "body.queries", "list_type", "Input should be a valid list");
    } else if (json_count(list) == 0) {
        faults_add(faults, "body.queries", "too_short",
                   "List should have at least 1 item after validation, not 0");
    } else if (json_count(list) > ANALYTICS_BATCH_MAX) {
        faults_add(faults, "body.queries", "too_long",
                   "List should have at most %d items after validation, not %llu",
                   ANALYTICS_BATCH_MAX, (unsigned long long)json_count(list));
    } else {
        read_statements(work, list, faults);
    }
    analytics_read_flag(faults, request->body, "use_transaction", "body.use_transaction",
                        &work->atomic);
    analytics_read_number(faults, request->body, "timeout_seconds", "body.timeout_seconds", 1,
                          ANALYTICS_TIMEOUT_S_MAX, &work->timeout_s);
    (void)analytics_read_database(request, faults, &work->database);
}

void analytics_batch_check(struct request *request)
{
    check(request, read_batch);
}
