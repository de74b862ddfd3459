#include "api_analytics.h"
#include "api_format.h"
#include "api_queries.h"
#include "api_texts.h"
#include "mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    COLUMNS_SIZE_MAX = 4 << 20,
    OWN_PARAMETERS_SIZE_MAX = 1024,
    BATCH_RESULT_SIZE_MAX = 64 << 20,
    KEPT_STATEMENT_SIZE_MAX = 64 << 10
};

struct analytics_work *analytics_work_create(struct request *request)
{
    struct analytics_work *work = mem_alloc(sizeof(*work));
    work->request = request;
    buf_init(&work->database, DATABASE_NAME_SIZE * 8);
    buf_init(&work->text, ANALYTICS_TEXT_SIZE_MAX);
    buf_init(&work->own_parameters, OWN_PARAMETERS_SIZE_MAX);
    buf_init(&work->columns, COLUMNS_SIZE_MAX);
    buf_init(&work->copy, (size_t)results_body_max(request->api->results));
    request_set_work(request, work, analytics_work_destroy);
    return work;
}

void analytics_work_destroy(void *context)
{
    struct analytics_work *work = context;
    buf_finish(&work->database);
    buf_finish(&work->text);
    buf_finish(&work->own_parameters);
    buf_finish(&work->columns);
    buf_finish(&work->copy);
    mem_free(work);
}

/* ---- results that are asked for again ---- */

/* Everything an answer depends on: what is asked, and what the database would show now. */
static void make_key(struct analytics_work *work, uint64_t version)
{
    struct buf text;
    buf_init(&text, ANALYTICS_TEXT_SIZE_MAX + (64 << 20));
    buf_append_text(&text, "analytics");
    worker_put_text(&text, buf_str(&work->database));
    worker_put_u64(&text, version);
    worker_put_u32(&text, analytics_role(work->request)); /* which decides what is refused */
    worker_put_u32(&text, work->request->format);
    worker_put_u32(&text, work->fetch);
    worker_put_u64(&text, work->fetch_size);
    worker_put_u64(&text, work->rows_max);
    worker_put_text(&text, work->parameters);
    worker_put_text(&text, work->statements[0]);
    work->has_key = !buf_failed(&text);
    work->key = digest_sha256(buf_str(&text));
    buf_finish(&text);
}

static bool may_be_kept(const struct analytics_work *work)
{
    return work->kind == WORKER_STATEMENTS && !work->writes &&
           work->statements[0].len <= KEPT_STATEMENT_SIZE_MAX &&
           texts_ask(work->request->api->texts, TEXT_IS_REPEATABLE, work->statements[0]) &&
           !reply_cache_control_has(work->request, STR("no-store"));
}

static void add_truncated(struct request *request, bool truncated)
{
    if (truncated) {
        reply_add_result_header(request, "X-Truncated", "true");
    }
}

/* True when the reply has been sent. */
static bool answer_from_memory(struct analytics_work *work)
{
    struct request *request = work->request;
    uint64_t version;
    if (!may_be_kept(work) || reply_cache_control_has(request, STR("no-cache")) ||
        !databases_version(request->api->options.databases, buf_str(&work->database), &version)) {
        return false;
    }
    make_key(work, version);
    const struct results_entry *entry =
        work->has_key ? results_find(request->api->results, &work->key) : NULL;
    if (entry == NULL) {
        return false;
    }
    reply_add_result_header(request, "X-Cache", "hit");
    request->rows = entry->rows;
    add_truncated(request, entry->truncated);
    reply_result(request, entry->body);
    results_release(request->api->results, entry);
    return true;
}

static void keep(struct analytics_work *work)
{
    struct results *results = work->request->api->results;
    if (work->collecting && work->outcome.stable && may_be_kept(work)) {
        make_key(work, work->outcome.version);
        struct results_entry entry = {
            .body = buf_str(&work->copy),
            .rows = work->outcome.run.done.rows,
            .truncated = work->outcome.run.done.truncated != 0,
        };
        if (work->has_key) {
            results_keep(results, &work->key, &entry);
        }
    }
}

/* ---- the result on its way ---- */

static bool pass(struct analytics_work *work, struct str bytes, struct err *err)
{
    if (work->collecting) {
        buf_append(&work->copy, bytes);
        work->collecting = !buf_failed(&work->copy);
    }
    return result_pass(work->request, bytes, err);
}

static bool begin(struct analytics_work *work, struct err *err)
{
    if (work->began || !work->wrapped) {
        return true;
    }
    work->began = true;
    return pass(work, work->kind == WORKER_BATCH ? STR("{\"results\":") : STR("{\"data\":"), err);
}

static bool take_columns(void *context, const struct worker_schema *columns, struct err *err)
{
    struct analytics_work *work = context;
    struct json_writer writer;
    buf_reset(&work->columns);
    json_writer_init(&writer, &work->columns);
    json_begin_array(&writer);
    for (size_t i = 0; i < columns->columns_count; i++) {
        json_put_string(&writer, columns->columns[i].name);
    }
    json_end_array(&writer);
    return !buf_failed(&work->columns) ||
           err_set(err, ERR_UNPROCESSABLE, "the names of the columns are too long together");
}

static bool take_result(void *context, struct str bytes, struct err *err)
{
    struct analytics_work *work = context;
    return begin(work, err) && pass(work, bytes, err);
}

static void take_progress(void *context, const struct engine_progress *progress)
{
    const struct analytics_work *work = context;
    queries_progress(work->request, progress);
}

/* The same text has the same hash in every process: a signed number, as the original's was. */
static int64_t query_hash(struct str text)
{
    struct sha256 digest = digest_sha256(text);
    int64_t value;
    memcpy(&value, digest.bytes, sizeof(value));
    return value;
}

static double seconds(const struct analytics_work *work)
{
    uint64_t us = work->outcome.waited_us + work->outcome.run.done.execution_us;
    return (double)(us == 0 ? 1 : us) / 1e6;
}

static void append_query_end(const struct analytics_work *work, struct buf *into)
{
    const struct worker_done *done = &work->outcome.run.done;
    char text[256];
    (void)snprintf(text, sizeof(text), ",\"execution_time\":%.6f,\"memory_usage\":%.4f,",
                   seconds(work), (double)done->memory_bytes / (1 << 20));
    buf_append_text(into, text);
    if (work->fetch == WORKER_FETCH_NONE) {
        buf_append_text(into, "\"row_count\":null,\"columns\":");
    } else {
        (void)snprintf(text, sizeof(text), "\"row_count\":%" PRIu64 ",\"columns\":", done->rows);
        buf_append_text(into, text);
    }
    buf_append(into, work->columns.len == 0 ? STR("[]") : buf_str(&work->columns));
    (void)snprintf(text, sizeof(text), ",\"query_hash\":\"%" PRId64 "\"%s}",
                   query_hash(work->statements[0]), done->truncated ? ",\"truncated\":true" : "");
    buf_append_text(into, text);
}

static void append_batch_end(const struct analytics_work *work, struct buf *into)
{
    char text[160];
    (void)snprintf(text, sizeof(text),
                   ",\"total_queries\":%zu,\"total_execution_time\":%.6f,\"success_count\":%zu}",
                   work->statements_count, seconds(work), work->statements_count);
    buf_append_text(into, text);
}

static bool finish(struct analytics_work *work, struct err *err)
{
    if (!work->wrapped) {
        return true;
    }
    struct buf end;
    buf_init(&end, COLUMNS_SIZE_MAX + 1024);
    if (work->kind == WORKER_BATCH) {
        append_batch_end(work, &end);
    } else {
        append_query_end(work, &end);
    }
    bool good = begin(work, err) && pass(work, buf_str(&end), err);
    buf_finish(&end);
    return good;
}

/* ---- running ---- */

static bool run(struct analytics_work *work, struct err *err)
{
    struct request *request = work->request;
    struct database_request wanted = {
        .database = buf_str(&work->database),
        .writes = work->writes,
        .or_as = analytics_role(request),
        .run =
            {
                .request =
                    {
                        .kind = work->kind,
                        .role = work->writes ? analytics_role(request) : WORKER_ROLE_READ,
                        .format = request->format,
                        .fetch = work->fetch,
                        .fetch_size = work->fetch_size,
                        .rows_max = work->rows_max,
                        .result_bytes_max = BATCH_RESULT_SIZE_MAX,
                        .atomic = work->atomic,
                        .loose_parameters = true,
                        .parameters = work->parameters,
                        .statements = work->statements,
                        .statements_count = work->statements_count,
                    },
                .fds = {-1, -1},
                .columns = take_columns,
                .result = take_result,
                .progress = take_progress,
                .context = work,
            },
    };
    return databases_run(request->api->options.databases, &wanted, request->cancel, &work->outcome,
                         err);
}

static const char *prefix_of(const struct analytics_work *work)
{
    return work->kind == WORKER_BATCH ? "Batch execution failed: " : "Query execution failed: ";
}

/* The table that page-stats is about, and nothing else that may be missing. */
static bool misses_pages(const struct analytics_work *work, const struct err *err)
{
    struct str text = str_of(err->message);
    return work->pages && work->outcome.run.done.fault == WORKER_FAULT_STATEMENT &&
           str_find(text, STR("Table with name pages_analytics does not exist")) < text.len;
}

static void reply_failure(struct analytics_work *work, const struct err *err)
{
    struct err told;
    if (err->kind == ERR_TIMEOUT) {
        (void)err_set(&told, ERR_TIMEOUT, "the time limit of %" PRIu64 " second%s has passed",
                      work->timeout_s, work->timeout_s == 1 ? "" : "s");
        analytics_reply_failure(work->request, prefix_of(work), &work->outcome, &told);
    } else if (misses_pages(work, err)) {
        (void)err_set(&told, ERR_NOT_FOUND,
                      "Analytics tables not yet created. Run data sync first.");
        reply_error(work->request, &told);
    } else {
        analytics_reply_failure(work->request, prefix_of(work), &work->outcome, err);
    }
}

void analytics_run(struct request *request)
{
    struct analytics_work *work = request->work;
    struct err err;
    queries_begin(request);
    reply_add_result_header(request, "X-Cache", "miss");
    work->collecting = may_be_kept(work) && results_body_max(request->api->results) > 0;
    bool good = run(work, &err);
    if (good) {
        struct engine_outcome outcome = {
            .rows = work->outcome.run.done.rows,
            .peak_bytes = work->outcome.run.done.peak_bytes,
            .truncated = work->outcome.run.done.truncated,
        };
        queries_outcome(request, &outcome);
        request->rows = outcome.rows;
        add_truncated(request, outcome.truncated && !request->streaming);
        good = finish(work, &err);
    }
    if (good) {
        keep(work);
        result_end(request, NULL);
    } else if (request->streaming) {
        result_end(request, &err);
    } else {
        reply_failure(work, &err);
    }
}

void analytics_submit(struct analytics_work *work, uint64_t timeout_s)
{
    struct request *request = work->request;
    struct err err;
    if (answer_from_memory(work)) {
        return;
    }
    request->group = databases_group(request->api->options.databases, buf_str(&work->database));
    queries_enter(request, work->statements[0]);
    if (!request_run(request, (int64_t)timeout_s * 1000, NULL, &err)) {
        queries_forget(request);
        reply_failure(work, &err);
    }
}

enum worker_role analytics_role(const struct request *request)
{
    switch (request->identity.role) {
    case AUTH_ADMIN:
        return WORKER_ROLE_ADMIN;
    case AUTH_WRITE:
        return WORKER_ROLE_WRITE;
    case AUTH_NOBODY:
    case AUTH_READ:
        break;
    }
    return WORKER_ROLE_READ;
}
