/* The numbers of the default database, under the names that the original's exporter uses. What it
 * counts without _total at the end is a gauge here too: dashboards know the names. */
#include "api_analytics.h"
#include "ops_metrics.h"

#include <math.h>

static void keep_info(void *context, const struct database_info *info)
{
    struct database_info *into = context;
    *into = *info;
    into->path = NULL; /* which does not outlive the visit */
}

static struct database_info info_of(const struct api *api)
{
    struct database_info info = {0};
    if (api->options.databases != NULL) {
        (void)databases_find(api->options.databases, STR("default"), keep_info, &info);
    }
    return info;
}

static struct timings_status timings_of(const struct api *api)
{
    struct timings_status status = {0};
    struct timings *timings = api->options.databases == NULL
                                  ? NULL
                                  : databases_timings(api->options.databases, STR("default"));
    if (timings != NULL) {
        timings_status(timings, &status);
    }
    return status;
}

static void put(struct ops_samples *samples, uint64_t value)
{
    ops_put_u64(samples, OPS_NO_LABELS, value);
}

static void collect_active(void *context, struct ops_samples *samples)
{
    put(samples, info_of(context).process.running);
}

/* Each request has a connection of its own. */
static void collect_total(void *context, struct ops_samples *samples)
{
    put(samples, timings_of(context).total);
}

static void collect_memory(void *context, struct ops_samples *samples)
{
    put(samples, info_of(context).process.resident_bytes);
}

static void collect_mean(void *context, struct ops_samples *samples)
{
    ops_put_seconds(samples, OPS_NO_LABELS, llround(timings_of(context).mean_us));
}

static void collect_successful(void *context, struct ops_samples *samples)
{
    put(samples, timings_of(context).successful);
}

static void collect_failed(void *context, struct ops_samples *samples)
{
    put(samples, timings_of(context).failed);
}

/* Of 100; the function writes a number with a fraction, whatever it measures. */
static void collect_rate(void *context, struct ops_samples *samples)
{
    struct timings_status status = timings_of(context);
    double rate =
        status.total == 0 ? 100.0 : 100.0 * (double)status.successful / (double)status.total;
    ops_put_seconds(samples, OPS_NO_LABELS, llround(rate * 1e6));
}

static void collect_state(void *context, struct ops_samples *samples)
{
    static const uint64_t numbers[] = {
        [BREAKER_CLOSED] = 0, [BREAKER_OPEN] = 1, [BREAKER_HALF_OPEN] = 2};
    put(samples, numbers[info_of(context).breaker.state]);
}

static void collect_failures(void *context, struct ops_samples *samples)
{
    put(samples, info_of(context).breaker.failure_count);
}

static void collect_size(void *context, struct ops_samples *samples)
{
    struct database_info info = info_of(context);
    put(samples, info.size_bytes + info.log_bytes);
}

static void collect_slow_1s(void *context, struct ops_samples *samples)
{
    put(samples, timings_of(context).over_1s);
}

static void collect_slow_5s(void *context, struct ops_samples *samples)
{
    put(samples, timings_of(context).over_5s);
}

static void collect_error(void *context, struct ops_samples *samples)
{
    const struct api *api = context;
    put(samples, api->options.databases == NULL);
}

/* clang-format off */
static const struct ops_family families[] = {
    { "chrono_duckdb_connections_active",     OPS_GAUGE,   "Requests that run in the default database.",                     collect_active },
    { "chrono_duckdb_connections_total",      OPS_COUNTER, "Connections to the default database: one per request.",          collect_total },
    { "chrono_duckdb_memory_usage_bytes",     OPS_GAUGE,   "Resident memory of its process.",                                collect_memory },
    { "chrono_duckdb_query_duration_seconds", OPS_GAUGE,   "Mean time of its last 1000 requests.",                           collect_mean },
    { "chrono_duckdb_queries_total",          OPS_COUNTER, "Requests to it.",                                                collect_total },
    { "chrono_duckdb_queries_successful",     OPS_GAUGE,   "Those that succeeded.",                                          collect_successful },
    { "chrono_duckdb_queries_failed",         OPS_GAUGE,   "Those that failed.",                                             collect_failed },
    { "chrono_duckdb_query_success_rate",     OPS_GAUGE,   "Those that succeeded, of 100.",                                  collect_rate },
    { "chrono_duckdb_circuit_breaker_state",  OPS_GAUGE,   "0 closed, 1 open, 2 half open.",                                 collect_state },
    { "chrono_duckdb_circuit_breaker_failures", OPS_GAUGE, "Failures that the breaker counts now.",                          collect_failures },
    { "chrono_duckdb_file_size_bytes",        OPS_GAUGE,   "The file and its log.",                                          collect_size },
    { "chrono_duckdb_slow_queries_1s",        OPS_GAUGE,   "Of its last 1000 requests, those that took more than 1 second.", collect_slow_1s },
    { "chrono_duckdb_slow_queries_5s",        OPS_GAUGE,   "Of its last 1000 requests, those that took more than 5 seconds.", collect_slow_5s },
    { "chrono_duckdb_metrics_error",          OPS_GAUGE,   "1 when these numbers cannot be read.",                           collect_error },
};
/* clang-format on */

void analytics_add_metrics(struct api *api)
{
    ops_metrics_add(api->options.metrics, families, COUNT_OF(families), api);
}
