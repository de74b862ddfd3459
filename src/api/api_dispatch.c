#include "api_access.h"
#include "api_queries.h"
#include "api_texts.h"
#include "api_write.h"
#include "clock.h"
#include "mem.h"

enum {
    CHECK_QUEUE_MAX = 1024,
    HEALTH_THREADS = 4, /* of each one database has half, */
    CHANGE_THREADS = 4,
    COPY_THREADS = 4,
    PARAMETER_SIZE_MAX = 4096,
    SMALL_BODY_SIZE_MAX = 8 << 10,
    UPLOAD_SIZE_MAX = 4 << 20, /* of a body that is read while it arrives, about */
};

struct api *api_create(const struct api_options *options)
{
    struct api *api = mem_alloc(sizeof(*api));
    api->options = *options;
    api_set_backlog_age_max(api, options->backlog_age_max_ms);
    api->running = queries_create();
    api->results = results_create(options->results_bytes_max);
    api->texts = texts_create();
    api->lanes[LANE_CHECK] = lane_create("check", options->check_threads, CHECK_QUEUE_MAX);
    api->lanes[LANE_QUERY] = lane_create("query", options->queries_max, options->queries_queue_max);
    api->lanes[LANE_SNAPSHOT] =
        lane_create("snapshot", options->snapshots_max, options->snapshots_queue_max);
    api->lanes[LANE_INGEST] =
        lane_create("ingest", options->ingests_max, options->ingests_queue_max);
    api->lanes[LANE_ROWS] = lane_create("rows", options->rows_max, options->ingests_queue_max);
    api->lanes[LANE_DATABASE] =
        lane_create("database", options->database_requests_max, options->databases_queue_max);
    api->lanes[LANE_DATABASE_HEALTH] = lane_create("health", HEALTH_THREADS, CHECK_QUEUE_MAX);
    api->lanes[LANE_DATABASE_CHANGE] = lane_create("change", CHANGE_THREADS, CHECK_QUEUE_MAX);
    api->lanes[LANE_DATABASE_COPY] =
        lane_create("copy", COPY_THREADS, options->databases_queue_max);
    api->lanes[LANE_DATABASE_EXPORT] =
        lane_create("export", COPY_THREADS, options->databases_queue_max);
    api->system = ops_system_create();
    api->started_ms = clock_now_ms();
    api->access = access_create();
    api_add_metrics(api);
    return api;
}

void api_start_drain(struct api *api)
{
    atomic_store(&api->draining, true);
}

void api_set_backlog_age_max(struct api *api, int64_t age_max_ms)
{
    atomic_store(&api->backlog_age_max_ms, age_max_ms);
}

void api_destroy(struct api *api)
{
    if (api == NULL) {
        return;
    }
    for (size_t i = 0; i < LANE_COUNT; i++) {
        lane_destroy(api->lanes[i]);
    }
    running_destroy(api->running);
    results_destroy(api->results);
    texts_destroy(api->texts);
    ops_system_destroy(api->system);
    access_destroy(api->access);
    mem_free(api);
}

/* ---- one request ---- */

void request_release_body(struct request *request)
{
    atomic_fetch_sub(&request->api->bodies_bytes, request->body_reserved);
    request->body_reserved = 0;
    atomic_fetch_sub(&request->api->uploads, request->is_upload ? 1 : 0);
    request->is_upload = false;
}

static void request_finish(void *context)
{
    struct request *request = context;
    queries_end(request, ERR_CANCELLED);
    request_release_body(request);
    if (request->work_finish != NULL) {
        request->work_finish(request->work);
    }
    buf_finish(&request->parameter);
    buf_finish(&request->held);
    buf_finish(&request->text);
    mem_free(request);
}

static struct request *request_create(struct api *api, struct http_exchange *exchange)
{
    struct request *request = mem_alloc(sizeof(*request));
    request->api = api;
    request->exchange = exchange;
    request->cancel = http_cancel(exchange);
    buf_init(&request->parameter, PARAMETER_SIZE_MAX);
    buf_init(&request->held, HOLD_BACK_SIZE);
    buf_init(&request->text, 2 * (size_t)api->options.body_decoded_bytes_max);
    http_set_context(exchange, request, request_finish);
    return request;
}

void request_set_work(struct request *request, void *work, void (*finish)(void *work))
{
    assert(request->work == NULL);
    request->work = work;
    request->work_finish = finish;
}

/* Bodies wait in memory, whatever the queues would allow: their sum is bounded. Raises what this
 * request has reserved to `size`. */
static bool reserve_body(struct request *request, uint64_t size)
{
    struct api *api = request->api;
    uint64_t extra = size > request->body_reserved ? size - request->body_reserved : 0;
    uint64_t before = atomic_fetch_add(&api->bodies_bytes, extra);
    if (before + extra > api->options.bodies_bytes_max) {
        atomic_fetch_sub(&api->bodies_bytes, extra);
        return false;
    }
    request->body_reserved += extra;
    return true;
}

bool request_reserve(struct request *request, uint64_t made_bytes, struct err *err)
{
    uint64_t read_bytes = (uint64_t)http_body(request->exchange).len + request->text.len;
    return reserve_body(request, read_bytes + made_bytes) ||
           err_set(err, ERR_BUSY, "the server holds as much request data as it may; retry shortly");
}

bool request_reserve_upload(struct request *request, struct err *err)
{
    struct api *api = request->api;
    uint64_t uploads_max =
        api->options.rows_max + api->options.bodies_bytes_max / 2 / UPLOAD_SIZE_MAX;
    request->is_upload = true;
    return atomic_fetch_add(&api->uploads, 1) < uploads_max ||
           err_set(err, ERR_BUSY, "as many uploads are arriving as may; retry shortly");
}

/* Slashes at the end of a path that is a route without them: the ingest personality redirects them
 * away. */
static bool redirect_slash(struct request *request, enum api_listener listener)
{
    struct str path = http_path(request->exchange);
    struct str bare = path;
    while (bare.len > 0 && bare.ptr[bare.len - 1] == '/') {
        bare.len--;
    }
    if (listener != API_INGEST || bare.len == path.len ||
        !route_has_path(request, listener, bare)) {
        return false;
    }
    struct str host = http_header(request->exchange, "Host");
    struct str query = http_query(request->exchange);
    struct buf location;
    buf_init(&location, 16384);
    buf_append_format(&location, "http://%.*s%.*s%s%.*s", STR_ARG(host), STR_ARG(bare),
                      query.len > 0 ? "?" : "", STR_ARG(query));
    bool good = !buf_failed(&location) && host.len > 0;
    if (good) {
        struct http_reply_header header = {"Location", location.ptr};
        struct http_reply reply = {.status = 307, .headers = &header, .headers_count = 1};
        http_reply(request->exchange, &reply, STR(""));
    }
    buf_finish(&location);
    return good;
}

static bool is_probe(const struct route *route)
{
    return route != NULL && str_starts(str_of(route->path), STR("/health"));
}

static void refuse_draining(struct request *request)
{
    struct err err;
    (void)err_set(&err, ERR_UNAVAILABLE, "the server is shutting down");
    reply_error(request, &err);
}

static void begin(void *context, struct http_exchange *exchange)
{
    struct api *api = context;
    struct request *request = request_create(api, exchange);
    enum api_listener listener = (enum api_listener)http_tag(exchange);
    const char *allow;
    request->route = route_find(request, listener, &allow);
    queries_give_id(request, request->route);
    if (atomic_load(&api->draining) && !is_probe(request->route)) {
        refuse_draining(request);
    } else if (request->route == NULL && allow != NULL) {
        reply_wrong_method(request, allow);
    } else if (request->route == NULL && request->personality == PERSONALITY_ABSENT) {
        if (listener != API_STAGING || gate_pass_staging(request)) {
            reply_not_there(request);
        }
    } else if (request->route == NULL) {
        if (!redirect_slash(request, listener)) {
            reply_not_found(request);
        }
    } else if (!gate_pass(request)) {
        return;
    } else if (request->route->lane == LANE_INLINE) {
        request->route->check(request);
    } else if ((request->route->flags & ROUTE_STORES) != 0 && !write_has_room(request)) {
        return;
    } else if ((request->route->flags & ROUTE_STREAMS) != 0) {
        request->route->check(request);
    } else {
        http_accept_body(exchange, api->options.body_bytes_max);
    }
}

static bool grow(void *context, struct http_exchange *exchange, uint64_t size)
{
    (void)context;
    return reserve_body(http_context(exchange), size);
}

static void run_check(void *context)
{
    struct request *request = context;
    struct err err;
    if (!cancel_check(request->cancel, &err) ||
        !http_decode_body(request->exchange, request->api->options.body_decoded_bytes_max, &err) ||
        !request_reserve(request, 0, &err)) {
        reply_error(request, &err);
        return;
    }
    request->route->check(request);
}

static void run_work(void *context)
{
    struct request *request = context;
    struct err err;
    if (!cancel_check(request->cancel, &err)) {
        reply_error(request, &err);
        return;
    }
    request->route->run(request);
}

/* Judged in microseconds: a thread of its own would take longer to wake up. */
static bool is_judged_at_once(const struct http_exchange *exchange)
{
    return http_body(exchange).len <= SMALL_BODY_SIZE_MAX &&
           http_header(exchange, "Content-Encoding").ptr == NULL;
}

/* From here on another thread may answer. */
static void defer(struct request *request)
{
    if (!request->deferred) {
        request->deferred = true;
        http_defer(request->exchange);
    }
}

static void run_stream(struct request *request)
{
    struct err err;
    if (!request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
}

static void ready(void *context, struct http_exchange *exchange)
{
    struct api *api = context;
    struct request *request = http_context(exchange);
    bool at_once = is_judged_at_once(exchange);
    if (!at_once || (request->route->flags & ROUTE_AT_ONCE) == 0) {
        defer(request);
    }
    if ((request->route->flags & ROUTE_STREAMS) != 0) {
        run_stream(request);
        return;
    }
    if (at_once) {
        run_check(request);
        return;
    }
    struct err err;
    request->task =
        (struct lane_task){.run = run_check, .context = request, .cancel = request->cancel};
    if (!lane_submit(api->lanes[LANE_CHECK], &request->task, NULL, &err)) {
        reply_error(request, &err);
    }
}

bool request_run(struct request *request, int64_t timeout_ms, struct lane_counts *ret_counts,
                 struct err *err)
{
    defer(request);
    request->cancel->deadline_ms = clock_now_ms() + timeout_ms;
    request->waited_us += request->task.waited_us;
    request->task = (struct lane_task){
        .run = run_work, .context = request, .cancel = request->cancel, .group = request->group};
    return lane_submit(request->api->lanes[request->route->lane], &request->task, ret_counts, err);
}

static void more(void *context, struct http_exchange *exchange)
{
    struct api *api = context;
    struct request *request = http_context(exchange);
    request->waited_us += request->task.waited_us;
    lane_submit_again(api->lanes[request->route->lane], &request->task);
}

static void refuse(void *context, struct http_exchange *exchange, const struct err *err)
{
    struct request *request = http_context(exchange);
    if (request == NULL) { /* the framing is broken: begin was never called */
        const char *ignored;
        request = request_create(context, exchange);
        queries_give_id(request,
                        route_find(request, (enum api_listener)http_tag(exchange), &ignored));
    }
    request_release_body(
        request); /* the client may take long to send the rest, which nobody keeps */
    reply_error(request, err);
}

static void done(void *context, struct http_exchange *exchange, unsigned status,
                 uint64_t reply_bytes, int64_t elapsed_us)
{
    struct api *api = context;
    access_done(api->access, exchange, status, reply_bytes, elapsed_us);
}

struct http_handlers api_handlers(struct api *api)
{
    return (struct http_handlers){
        .context = api,
        .begin = begin,
        .grow = grow,
        .ready = ready,
        .more = more,
        .refuse = refuse,
        .done = done,
    };
}

bool json_text(struct json_span span, struct buf *into)
{
    if (span.kind != JSON_STRING) {
        return false;
    }
    (void)json_unescape(span, into);
    return !buf_failed(into);
}
