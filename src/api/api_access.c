#include "api_access.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

const char *const access_personalities[PERSONALITY_COUNT] = {
    [PERSONALITY_OPERATE] = "eider",       [PERSONALITY_INGEST] = "ingest",
    [PERSONALITY_SNAPSHOT] = "snapshot",   [PERSONALITY_LAKE] = "lake",
    [PERSONALITY_ANALYTICS] = "analytics", [PERSONALITY_ABSENT] = "absent",
};

const char *const access_methods[ACCESS_METHODS] = {"GET",    "HEAD",    "POST",  "PUT",
                                                    "DELETE", "OPTIONS", "PATCH", "other"};

/* 0: the client had left before it could be sent an answer. */
const unsigned access_statuses[] = {0,   200, 201, 202, 204, 206, 304, 307, 400, 401,
                                    403, 404, 405, 408, 409, 411, 412, 413, 415, 416,
                                    422, 429, 431, 499, 500, 501, 502, 503, 504};
const size_t access_statuses_count = COUNT_OF(access_statuses);
static_assert(COUNT_OF(access_statuses) < ACCESS_STATUSES, "and one for all others");

struct access *access_create(void)
{
    struct access *access = mem_alloc(sizeof(*access));
    access->routes_count = api_routes_count + PERSONALITY_COUNT;
    access->routes = mem_alloc_array(access->routes_count, sizeof(*access->routes));
    return access;
}

void access_destroy(struct access *access)
{
    if (access != NULL) {
        mem_free(access->routes);
        mem_free(access);
    }
}

/* ---- counting ---- */

/* The routes that stand for unknown paths are rows of no table. */
static bool is_in_table(const struct route *route)
{
    uintptr_t at = (uintptr_t)route;
    return at >= (uintptr_t)api_routes && at < (uintptr_t)(api_routes + api_routes_count);
}

static size_t route_index(const struct request *request)
{
    if (request == NULL) { /* the header was too large to look at */
        return api_routes_count + PERSONALITY_OPERATE;
    }
    return is_in_table(request->route) ? (size_t)(request->route - api_routes)
                                       : api_routes_count + request->personality;
}

static size_t method_index(struct str method)
{
    size_t index = 0;
    while (index < ACCESS_METHODS - 1 && !str_equal(method, str_of(access_methods[index]))) {
        index++;
    }
    return index;
}

static size_t status_index(unsigned status)
{
    size_t index = 0;
    while (index < access_statuses_count && access_statuses[index] != status) {
        index++;
    }
    return index;
}

static void count(struct access *access, const struct http_exchange *exchange, unsigned status,
                  uint64_t reply_bytes, int64_t elapsed_us)
{
    const struct request *request = http_context(exchange);
    struct access_route *route = &access->routes[route_index(request)];
    size_t method = method_index(http_method(exchange));
    metric_add(&route->requests[method][status_index(status)], 1);
    metric_observe_us(&route->time, elapsed_us);
    metric_add(&access->bytes_in, http_body_received(exchange));
    metric_add(&access->bytes_out, reply_bytes);
    if (request != NULL) {
        metric_add(&access->rows_returned[request->personality], request->rows);
        metric_add(&access->rows_ingested[request->personality], request->rows_ingested);
        metric_add(&route->rows_accepted, request->rows_ingested);
        metric_add(&access->dead_letters, request->dead_letters);
        metric_add(&access->replays, request->replayed ? 1 : 0);
    }
}

/* ---- the log ---- */

/* Probes and scrapes come all the time and say little. */
static bool is_quiet(const struct request *request)
{
    struct str path = str_of(request == NULL || request->route == NULL ? "" : request->route->path);
    return str_starts(path, STR("/health")) || str_equal(path, STR("/metrics"));
}

/* Texts of the client are cut, and the log escapes them. The query string is not told: people put
 * secrets there. */
static void write_line(const struct http_exchange *exchange, unsigned status, uint64_t reply_bytes,
                       int64_t elapsed_us)
{
    const struct request *request = http_context(exchange);
    enum log_level level = is_quiet(request) ? LOG_DEBUG : LOG_INFO;
    if (!log_wants(level)) {
        return;
    }
    bool routed = request != NULL && is_in_table(request->route);
    enum api_personality personality = request == NULL ? PERSONALITY_OPERATE : request->personality;
    int64_t wait_us = request == NULL ? 0 : request->waited_us + request->task.waited_us;
    uint64_t rows = request == NULL ? 0 : request->rows + request->rows_ingested;
    struct str agent = http_header(exchange, "User-Agent");
    LOG_LATER(level, "http.request", LOG_TEXT("request", http_request_id(exchange)),
              LOG_TEXT("client", http_client_address(exchange)),
              LOG_TEXT("personality", str_of(access_personalities[personality])),
              LOG_TEXT("method", str_first(http_method(exchange), 16)),
              LOG_TEXT("route", str_of(routed ? request->route->path : "")),
              LOG_TEXT("path", str_first(http_path(exchange), 256)), LOG_NUM("status", status),
              LOG_NUM("us", elapsed_us), LOG_NUM("wait_us", wait_us), LOG_NUM("rows", rows),
              LOG_NUM("bytes_in", http_body_received(exchange)), LOG_NUM("bytes_out", reply_bytes),
              LOG_TEXT("identity", str_of(request == NULL ? "" : request->identity.name)),
              LOG_TEXT("query", str_of(request == NULL ? "" : request->query_id)),
              LOG_TEXT("agent", agent.ptr == NULL ? STR("") : str_first(agent, 200)));
}

void access_done(struct access *access, struct http_exchange *exchange, unsigned status,
                 uint64_t reply_bytes, int64_t elapsed_us)
{
    count(access, exchange, status, reply_bytes, elapsed_us);
    write_line(exchange, status, reply_bytes, elapsed_us);
}

/* ---- events of the snapshot personality, with the fields of its contract ---- */

static int64_t duration_ms(const struct request *request)
{
    return (clock_now_us() - request->task.queued_us) / 1000;
}

void access_log_query(struct request *request, const char *status, uint64_t tables_count)
{
    const struct lane_task *task = &request->task;
    struct lane_counts counts = lane_counts(request->api->lanes[LANE_QUERY]);
    LOG_LATER(LOG_INFO, "sidecar_query", LOG_TEXT("request", http_request_id(request->exchange)),
              LOG_TEXT("status", str_of(status)), LOG_NUM("duration_ms", duration_ms(request)),
              LOG_NUM("queue_wait_ms", task->waited_us / 1000),
              LOG_NUM("queue_depth_on_enqueue", task->queued_before),
              LOG_NUM("table_count", tables_count), LOG_NUM("row_count", request->rows),
              LOG_NUM("queue_running", counts.running), LOG_NUM("queue_queued", counts.queued),
              LOG_FLAG("pooled", request->api->options.pool_enabled));
}

/* As the original: told only when it waited, or to those who debug. */
void access_log_snapshot(struct request *request)
{
    const struct lane_task *task = &request->task;
    enum log_level level = task->waited_us >= 1000 ? LOG_INFO : LOG_DEBUG;
    if (!log_wants(level)) {
        return;
    }
    struct lane_counts counts = lane_counts(request->api->lanes[LANE_SNAPSHOT]);
    LOG_LATER(level, "snapshot_completed", LOG_TEXT("request", http_request_id(request->exchange)),
              LOG_NUM("duration_ms", duration_ms(request)),
              LOG_NUM("queue_wait_ms", task->waited_us / 1000),
              LOG_NUM("queue_depth_on_enqueue", task->queued_before),
              LOG_NUM("row_count", request->rows_ingested),
              LOG_NUM("queue_running", counts.running), LOG_NUM("queue_queued", counts.queued));
}
