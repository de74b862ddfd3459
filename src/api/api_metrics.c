/* What the api and its lanes count, as families of /metrics. */
#include "api_access.h"
#include "api_analytics.h"
#include "ops_metrics.h"

#include <stdio.h>

/* ---- requests ---- */

static bool is_unmatched(size_t index)
{
    return index >= api_routes_count;
}

static struct str route_text(size_t index)
{
    return str_of(is_unmatched(index) ? "unmatched" : api_routes[index].path);
}

static struct str personality_text(size_t index)
{
    size_t personality =
        is_unmatched(index) ? index - api_routes_count : (size_t)api_routes[index].personality;
    return str_of(access_personalities[personality]);
}

static struct str status_text(size_t index, char text[static 16])
{
    if (index == access_statuses_count) {
        return STR("other");
    }
    if (access_statuses[index] == 0) {
        return STR("none");
    }
    (void)snprintf(text, 16, "%u", access_statuses[index]);
    return str_of(text);
}

/* A success of the route's own method is told from the start, so that its first increase is seen;
 * of the rest, what has happened. */
static bool is_told(size_t index, size_t method, size_t status, uint64_t value)
{
    bool expected = !is_unmatched(index) && status < access_statuses_count &&
                    access_statuses[status] == 200 &&
                    strcmp(access_methods[method], api_routes[index].method) == 0;
    return value > 0 || expected;
}

static void collect_route(const struct access_route *route, size_t index,
                          struct ops_samples *samples)
{
    for (size_t method = 0; method < ACCESS_METHODS; method++) {
        for (size_t status = 0; status <= access_statuses_count; status++) {
            char text[16];
            uint64_t value = metric_value(&route->requests[method][status]);
            if (is_told(index, method, status, value)) {
                ops_put_u64(samples,
                            OPS_LABELS({"personality", personality_text(index)},
                                       {"route", route_text(index)},
                                       {"method", str_of(access_methods[method])},
                                       {"status", status_text(status, text)}),
                            value);
            }
        }
    }
}

static void collect_requests(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    for (size_t i = 0; i < api->access->routes_count; i++) {
        collect_route(&api->access->routes[i], i, samples);
    }
}

static void collect_durations(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    for (size_t i = 0; i < api->access->routes_count; i++) {
        ops_put_histogram(
            samples,
            OPS_LABELS({"personality", personality_text(i)}, {"route", route_text(i)},
                       {"method", is_unmatched(i) ? STR("any") : str_of(api_routes[i].method)}),
            &api->access->routes[i].time);
    }
}

static void collect_bytes_in(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&api->access->bytes_in));
}

static void collect_bytes_out(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&api->access->bytes_out));
}

static void collect_bodies(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    ops_put_u64(samples, OPS_NO_LABELS, atomic_load(&api->bodies_bytes));
}

static void collect_rows(const struct metric_counter *rows, struct ops_samples *samples)
{
    for (size_t i = 0; i < PERSONALITY_COUNT; i++) {
        if (i != PERSONALITY_ABSENT && i != PERSONALITY_LAKE) {
            ops_put_u64(samples, OPS_LABELS({"personality", str_of(access_personalities[i])}),
                        metric_value(&rows[i]));
        }
    }
}

static void collect_rows_returned(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    collect_rows(api->access->rows_returned, samples);
}

static void collect_rows_ingested(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    collect_rows(api->access->rows_ingested, samples);
}

static void collect_rows_accepted(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    for (size_t i = 0; i < api_routes_count; i++) {
        if (api_routes[i].flags & ROUTE_STORES) {
            ops_put_u64(samples, OPS_LABELS({"route", route_text(i)}),
                        metric_value(&api->access->routes[i].rows_accepted));
        }
    }
}

static void collect_dead_letters(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&api->access->dead_letters));
}

static void collect_replays(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&api->access->replays));
}

/* ---- who was turned away ---- */

static void collect_refusals(void *context, struct ops_samples *samples)
{
    static const char *const reasons[AUTH_REFUSAL_COUNT] = {
        [AUTH_REFUSED_MISSING] = "missing", [AUTH_REFUSED_UNKNOWN] = "unknown",
        [AUTH_REFUSED_EXPIRED] = "expired", [AUTH_REFUSED_CLAIMS] = "claims",
        [AUTH_REFUSED_ROLE] = "role",
    };
    const struct api *api = context;
    for (size_t i = 0; i < AUTH_REFUSAL_COUNT; i++) {
        ops_put_u64(samples, OPS_LABELS({"reason", str_of(reasons[i])}),
                    metric_value(&auth_refusals(api->options.auth)[i]));
    }
}

/* ---- lanes ---- */

static struct ops_labels lane_label(struct lane *lane, struct ops_label *into)
{
    *into = (struct ops_label){"lane", str_of(lane_name(lane))};
    return (struct ops_labels){.list = into, .count = 1};
}

/* One number of each lane. */
static void collect_lanes(const struct api *api, uint64_t (*read)(struct lane *lane),
                          struct ops_samples *samples)
{
    for (size_t i = 0; i < LANE_COUNT; i++) {
        struct ops_label label;
        if (api->lanes[i] != NULL) {
            ops_put_u64(samples, lane_label(api->lanes[i], &label), read(api->lanes[i]));
        }
    }
}

static uint64_t read_queued(struct lane *lane)
{
    return lane_counts(lane).queued;
}

static void collect_queued(void *context, struct ops_samples *samples)
{
    collect_lanes(context, read_queued, samples);
}

static uint64_t read_queued_max(struct lane *lane)
{
    return lane_counts(lane).queued_max;
}

static void collect_queued_max(void *context, struct ops_samples *samples)
{
    collect_lanes(context, read_queued_max, samples);
}

static uint64_t read_running(struct lane *lane)
{
    return lane_counts(lane).running;
}

static void collect_running(void *context, struct ops_samples *samples)
{
    collect_lanes(context, read_running, samples);
}

static uint64_t read_running_max(struct lane *lane)
{
    return lane_counts(lane).running_max;
}

static void collect_running_max(void *context, struct ops_samples *samples)
{
    collect_lanes(context, read_running_max, samples);
}

static uint64_t read_left(struct lane *lane)
{
    return metric_value(&lane_totals(lane)->left);
}

static void collect_left(void *context, struct ops_samples *samples)
{
    collect_lanes(context, read_left, samples);
}

static uint64_t read_refused(struct lane *lane)
{
    return metric_value(&lane_totals(lane)->refused);
}

static void collect_refused(void *context, struct ops_samples *samples)
{
    collect_lanes(context, read_refused, samples);
}

static void collect_wait(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    for (size_t i = 0; i < LANE_COUNT; i++) {
        struct ops_label label;
        if (api->lanes[i] != NULL) {
            ops_put_histogram(samples, lane_label(api->lanes[i], &label),
                              &lane_totals(api->lanes[i])->wait);
        }
    }
}

/* ---- kept results ---- */

static struct results_counts counts_of_results(const void *context)
{
    const struct api *api = context;
    return results_counts(api->results);
}

static void collect_result_hits(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, counts_of_results(context).hits);
}

static void collect_result_misses(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, counts_of_results(context).misses);
}

static void collect_result_evictions(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, counts_of_results(context).evictions);
}

static void collect_result_entries(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, counts_of_results(context).entries);
}

static void collect_result_bytes(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, counts_of_results(context).bytes);
}

/* clang-format off */
static const struct ops_family families[] = {
    { "eider_http_requests_total",           OPS_COUNTER,   "Requests that are over, by route and status; status none: the client left before it had an answer.", collect_requests },
    { "eider_http_request_duration_seconds", OPS_HISTOGRAM, "From a request's first line to the end of its exchange, the reader's time for the answer included.", collect_durations },
    { "eider_http_request_bytes_total",      OPS_COUNTER,   "Bytes of request bodies, as they came over the wire.",                                              collect_bytes_in },
    { "eider_http_response_bytes_total",     OPS_COUNTER,   "Bytes of response bodies.",                                                                         collect_bytes_out },
    { "eider_http_bodies_in_flight_bytes",   OPS_GAUGE,     "Request bodies in memory, and what was made of them (see EIDER_BODIES_MAX).",                       collect_bodies },
    { "eider_rows_returned_total",           OPS_COUNTER,   "Rows of the answers to queries.",                                                                   collect_rows_returned },
    { "eider_rows_ingested_total",           OPS_COUNTER,   "Rows that were kept: in the lake or in the log, and in snapshots.",                                 collect_rows_ingested },
    { "eider_rows_accepted_total",           OPS_COUNTER,   "Rows that were answered with 2xx, each once, by route; dead letters not included.",                 collect_rows_accepted },
    { "eider_dead_letters_total",            OPS_COUNTER,   "Bad records that were kept in a dead letter table.",                                                collect_dead_letters },
    { "eider_idempotent_replays_total",      OPS_COUNTER,   "Requests that were answered as before, because their Idempotency-Key was known.",                   collect_replays },
    { "eider_auth_refusals_total",           OPS_COUNTER,   "Tokens that were refused and requests without one, by reason (see auth.md).",                       collect_refusals },
    { "eider_lane_queued",                   OPS_GAUGE,     "Requests that wait for their turn.",                                                                collect_queued },
    { "eider_lane_queued_max",               OPS_GAUGE,     "Requests that may wait; beyond it they are refused.",                                               collect_queued_max },
    { "eider_lane_running",                  OPS_GAUGE,     "Requests that are being worked on.",                                                                collect_running },
    { "eider_lane_running_max",              OPS_GAUGE,     "Requests that are worked on at one time, at the most.",                                             collect_running_max },
    { "eider_lane_wait_seconds",             OPS_HISTOGRAM, "How long requests waited for their turn.",                                                          collect_wait },
    { "eider_lane_left_total",               OPS_COUNTER,   "Requests whose client left while they waited.",                                                     collect_left },
    { "eider_lane_refused_total",            OPS_COUNTER,   "Requests that found the queue full.",                                                               collect_refused },
    { "eider_result_cache_hits_total",       OPS_COUNTER,   "Statements that were answered from memory.",                                                        collect_result_hits },
    { "eider_result_cache_misses_total",     OPS_COUNTER,   "Statements whose result was looked for in memory and was not there.",                               collect_result_misses },
    { "eider_result_cache_evictions_total",  OPS_COUNTER,   "Results that made room for others.",                                                                collect_result_evictions },
    { "eider_result_cache_entries",          OPS_GAUGE,     "Results that are kept.",                                                                            collect_result_entries },
    { "eider_result_cache_bytes",            OPS_GAUGE,     "Memory that they take.",                                                                            collect_result_bytes },
};
/* clang-format on */

void api_add_metrics(struct api *api)
{
    if (api->options.metrics != NULL) {
        ops_metrics_add(api->options.metrics, families, COUNT_OF(families), api);
        analytics_add_metrics(api);
    }
}

/* ---- GET /metrics ---- */

void operate_metrics(struct request *request)
{
    struct buf body;
    buf_init(&body, METRICS_TEXT_SIZE_MAX);
    ops_metrics_render(request->api->options.metrics, &body);
    if (buf_failed(&body)) {
        struct err err;
        (void)err_set(&err, ERR_INTERNAL, "the metrics do not fit into their answer");
        reply_error(request, &err);
    } else {
        struct http_reply reply = {.status = 200,
                                   .content_type = "text/plain; version=0.0.4; charset=utf-8"};
        http_reply(request->exchange, &reply, buf_str(&body));
    }
    buf_finish(&body);
}
