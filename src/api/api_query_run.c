#include "api_queries.h"
#include "api_query.h"
#include "api_texts.h"
#include "clock.h"

#include <stdio.h>

enum {
    KEY_TEXT_MAX = 1 << 30,
    KEPT_STATEMENT_SIZE_MAX = 64 << 10
};

/* ---- results that are asked for again ---- */

/* Everything the answer depends on. The credentials are not in it: the objects in it have been seen
 * with the request's own. */
static bool make_key(struct query *query)
{
    struct buf text;
    buf_init(&text, KEY_TEXT_MAX);
    worker_put_u32(&text, query->request->format);
    worker_put_u64(&text, query->rows_max);
    worker_put_text(&text, query->parameters);
    worker_put_text(&text, buf_str(&query->sql));
    bool good = query_append_identity(query, &text) && !buf_failed(&text);
    query->key = digest_sha256(buf_str(&text));
    buf_finish(&text);
    return good;
}

/* W/"..." of the key: equal ones are equal answers, though rows may stand in another order. */
static void make_etag(const struct sha256 *key, char text[static 40])
{
    char hex[DIGEST_SHA256_HEX_SIZE];
    digest_hex(key->bytes, sizeof(key->bytes), hex);
    (void)snprintf(text, 40, "W/\"%.32s\"", hex);
}

static void find_key(struct query *query, struct cancel *cancel)
{
    struct err ignored;
    /* Reading a text costs time of the server that no deadline ends: large ones are not kept. */
    query->has_key =
        query->sql.len <= KEPT_STATEMENT_SIZE_MAX &&
        texts_ask(query->request->api->texts, TEXT_IS_REPEATABLE, buf_str(&query->sql)) &&
        !reply_cache_control_has(query->request, STR("no-store")) &&
        query_find_tables(query, cancel, &ignored) && make_key(query);
}

/* The engine finds tables where the text shows none: FROM 'events' names one in a string. What it
 * read is then more than the key says, and the answer is neither kept nor given an ETag. Looked at
 * once, when the worker has its tables. */
static void check_key(struct query *query)
{
    struct sha256 before = query->key;
    bool unsure = query->has_key && !query->key_checked;
    query->key_checked = true;
    if (unsure && (!make_key(query) || memcmp(&before, &query->key, sizeof(before)) != 0)) {
        query->has_key = false;
        query->collecting = false;
        reply_drop_header(query->request, "ETag");
    }
}

static void add_truncated(struct request *request, bool truncated)
{
    if (truncated) {
        reply_add_result_header(request, "X-Truncated", "true");
    }
}

/* True when the reply has been sent. */
static bool answer_from_memory(struct query *query)
{
    struct request *request = query->request;
    struct results *results = request->api->results;
    char etag[40];
    make_etag(&query->key, etag);
    if (!query->has_etag) {
        reply_add_result_header(request, "ETag", etag);
        query->has_etag = true;
    }
    if (reply_cache_control_has(request, STR("no-cache"))) {
        return false;
    }
    assert(query->begun == NULL);
    bool known = reply_matches_etag(request, str_of(etag));
    const struct results_entry *entry = known ? NULL : results_find(results, &query->key);
    if (!known && entry == NULL) {
        return false;
    }
    /* Only now is the question worth a request for each object. */
    if (!query_prove_objects(query)) {
        if (entry != NULL) {
            results_release(results, entry);
        }
        return false;
    }
    if (known) {
        reply_add_result_header(request, "X-Cache", "hit");
        query_log(query, "ok");
        reply_not_modified(request);
        return true;
    }
    reply_add_result_header(request, "X-Cache", "hit");
    add_truncated(request, entry->truncated);
    struct engine_outcome outcome = {.rows = entry->rows};
    queries_outcome(request, &outcome);
    request->rows = entry->rows;
    query_log(query, "ok");
    reply_result(request, entry->body);
    results_release(results, entry);
    return true;
}

bool query_answer_at_once(struct query *query)
{
    struct request *request = query->request;
    if (query->over_lake == NULL || request->task.run != NULL) {
        return false;
    }
    request->task.queued_us = clock_now_us(); /* for the log: it will wait for nothing */
    find_key(query, NULL);
    return query->has_key && answer_from_memory(query);
}

static void keep_result(struct query *query, const struct engine_outcome *outcome)
{
    check_key(query); /* a result may have no bytes */
    if (query->collecting) {
        struct results_entry entry = {
            .body = buf_str(&query->copy),
            .rows = outcome->rows,
            .truncated = outcome->truncated,
        };
        results_keep(query->request->api->results, &query->key, &entry);
    }
}

/* ---- running ---- */

static bool pass_result(void *context, struct str bytes, struct err *err)
{
    struct query *query = context;
    check_key(query);
    if (query->collecting) {
        buf_append(&query->copy, bytes);
        query->collecting = !buf_failed(&query->copy);
    }
    return result_pass(query->request, bytes, err);
}

static void pass_progress(void *context, const struct engine_progress *progress)
{
    const struct query *query = context;
    queries_progress(query->request, progress);
}

static void prepare_run(struct query *query)
{
    query->run = (struct engine_request){
        .job =
            {
                .kind = WORKER_QUERY,
                .statement = buf_str(&query->sql),
                .parameters = query->parameters,
                .format = query->request->format,
                .rows_max = query->rows_max,
            },
        .input_fd = -1,
        .output_fd = -1,
        .resolve = query->over_lake == NULL ? query_resolve : NULL,
        .result = pass_result,
        .progress = pass_progress,
        .context = query,
    };
}

/* Whether no result in memory can be the answer, whatever the store says of the objects. */
static bool is_sure_to_run(const struct query *query)
{
    const struct request *request = query->request;
    return query->store != NULL && query->tables != NULL &&
           (reply_cache_control_has(request, STR("no-cache")) ||
            reply_cache_control_has(request, STR("no-store")));
}

/* The worker reads the statement while the store is asked for the objects in it. */
static bool begin_early(struct query *query, struct err *err)
{
    struct request *request = query->request;
    return !is_sure_to_run(query) || engine_begin(request->api->options.engine, &query->run,
                                                  request->cancel, &query->begun, err);
}

static bool run(struct query *query, struct engine_outcome *ret_outcome, struct err *err)
{
    struct request *request = query->request;
    if (query->over_lake != NULL) {
        return lake_statement_run(query->over_lake, &query->run, request->cancel, ret_outcome, err);
    }
    if (query->begun == NULL && !engine_begin(request->api->options.engine, &query->run,
                                              request->cancel, &query->begun, err)) {
        return false;
    }
    struct engine_job *begun = query->begun;
    query->begun = NULL;
    return engine_finish(begun, ret_outcome, err);
}

static void fail(struct query *query, const struct err *err)
{
    query_log(query, "error");
    result_end(query->request, err);
}

void query_run(struct request *request)
{
    struct query *query = request->work;
    struct engine_outcome outcome;
    struct err err;
    queries_begin(request);
    prepare_run(query);
    if (!begin_early(query, &err)) {
        fail(query, &err);
        return;
    }
    if (!query->has_key) {
        find_key(query, request->cancel);
    }
    if (query->has_key && answer_from_memory(query)) {
        return;
    }
    atomic_fetch_add(&request->api->pool_created, 1);
    reply_add_result_header(request, "X-Cache", "miss");
    query->collecting = query->has_key && results_body_max(request->api->results) > 0;
    if (!run(query, &outcome, &err)) {
        fail(query, &err);
        return;
    }
    queries_outcome(request, &outcome);
    request->rows = outcome.rows;
    if (!request->streaming) {
        add_truncated(request, outcome.truncated);
    }
    keep_result(query, &outcome);
    query_log(query, "ok");
    result_end(request, NULL);
}
