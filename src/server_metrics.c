#include "server_metrics.h"

#include "lake_ingest.h"
#include "store.h"
#include "store_cache.h"
#include "wal.h"

/* ---- the build ---- */

static void collect_build(void *context, struct ops_samples *samples)
{
    (void)context;
    ops_put_u64(samples,
                OPS_LABELS({"version", STR(EIDER_VERSION)}, {"engine", str_of(engine_version())}),
                1);
}

/* clang-format off */
static const struct ops_family build_families[] = {
    { "eider_build_info", OPS_GAUGE, "Always 1: the version of Eider and of its engine.", collect_build },
};
/* clang-format on */

/* ---- connections ---- */

static void collect_connections(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, http_counts(context).connections);
}

static void collect_connections_total(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, http_counts(context).connections_total);
}

static void collect_exchanges(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, http_counts(context).exchanges);
}

/* clang-format off */
static const struct ops_family http_families[] = {
    { "eider_http_connections",        OPS_GAUGE,   "Open connections of clients.",                 collect_connections },
    { "eider_http_connections_total",  OPS_COUNTER, "Connections of clients that were accepted.",   collect_connections_total },
    { "eider_http_requests_in_flight", OPS_GAUGE,   "Requests that are not over, this one included.", collect_exchanges },
};
/* clang-format on */

/* ---- workers ---- */

static const char *const kill_reasons[ENGINE_KILL_COUNT] = {
    [ENGINE_KILL_DEADLINE] = "deadline",
    [ENGINE_KILL_CANCEL] = "cancel",
    [ENGINE_KILL_SHUTDOWN] = "shutdown",
    [ENGINE_KILL_UNWANTED] = "unwanted",
    [ENGINE_KILL_STUCK] = "stuck",
    [ENGINE_KILL_MEMORY] = "memory",
    [ENGINE_KILL_PROCESSOR_TIME] = "processor_time",
    [ENGINE_KILL_DIED] = "died",
};

static uint64_t not_negative(int64_t value)
{
    return value > 0 ? (uint64_t)value : 0;
}

static void collect_workers(void *context, struct ops_samples *samples)
{
    const struct engine_counts *counts = engine_counts(context);
    int64_t stopping = metric_level(&counts->stopping);
    int64_t running = metric_level(&counts->running) - stopping;
    ops_put_u64(samples, OPS_LABELS({"state", STR("running")}), not_negative(running));
    ops_put_u64(samples, OPS_LABELS({"state", STR("stopping")}), not_negative(stopping));
}

static void collect_zygote_ready(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, engine_is_ready(context) ? 1 : 0);
}

static void collect_zygote_restarts(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, engine_zygote_restarts(context));
}

static void collect_forked(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&engine_counts(context)->forked));
}

static void collect_kills(void *context, struct ops_samples *samples)
{
    const struct engine_counts *counts = engine_counts(context);
    for (size_t i = 0; i < ENGINE_KILL_COUNT; i++) {
        ops_put_u64(samples, OPS_LABELS({"reason", str_of(kill_reasons[i])}),
                    metric_value(&counts->kills[i]));
    }
}

static void collect_database_workers(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS,
                not_negative(metric_level(&engine_counts(context)->databases)));
}

static void collect_files_refused(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&engine_counts(context)->files_refused));
}

static void collect_memory_reserved(void *context, struct ops_samples *samples)
{
    uint64_t total;
    ops_put_u64(samples, OPS_NO_LABELS, engine_memory_reserved(context, &total));
}

static void collect_memory_total(void *context, struct ops_samples *samples)
{
    uint64_t total;
    (void)engine_memory_reserved(context, &total);
    ops_put_u64(samples, OPS_NO_LABELS, total);
}

/* clang-format off */
static const struct ops_family engine_families[] = {
    { "eider_workers",                      OPS_GAUGE,   "Worker processes, by state; stopping: asked to end, or about to be killed.",    collect_workers },
    { "eider_workers_forked_total",         OPS_COUNTER, "Worker processes that were started.",                                           collect_forked },
    { "eider_worker_kills_total",           OPS_COUNTER, "Worker processes that ended before their job was done, by reason.",             collect_kills },
    { "eider_database_workers",             OPS_GAUGE,   "Worker processes that hold a database open; not among eider_workers.",          collect_database_workers },
    { "eider_database_files_refused_total", OPS_COUNTER, "Files that such a process asked for and may not have.",                         collect_files_refused },
    { "eider_worker_memory_reserved_bytes", OPS_GAUGE,   "Memory that running jobs were granted.",                                        collect_memory_reserved },
    { "eider_worker_memory_max_bytes",      OPS_GAUGE,   "Memory that all jobs together may be granted (see EIDER_MEMORY_TOTAL).",        collect_memory_total },
    { "eider_zygote_ready",                 OPS_GAUGE,   "1 while the idle, warm process from which workers are forked is there.",        collect_zygote_ready },
    { "eider_zygote_restarts_total",        OPS_COUNTER, "How often that process ended and was started again.",                           collect_zygote_restarts },
};
/* clang-format on */

/* ---- stores ---- */

static const char *const store_operations[STORE_OPERATION_COUNT] = {
    [STORE_HEAD] = "head", [STORE_GET] = "get",       [STORE_PUT] = "put",
    [STORE_LIST] = "list", [STORE_DELETE] = "delete", [STORE_MULTIPART] = "multipart",
};

/* What worked is told from the start, failures when they have happened. */
static void collect_store_calls(void *context, struct ops_samples *samples)
{
    (void)context;
    for (size_t i = 0; i < STORE_OPERATION_COUNT; i++) {
        for (size_t kind = 0; kind < ERR_KIND_COUNT; kind++) {
            uint64_t value = metric_value(&store_counts()->calls[i][kind]);
            if (value > 0 || kind == ERR_NONE) {
                const char *result = err_kind_info((enum err_kind)kind)->code;
                ops_put_u64(samples,
                            OPS_LABELS({"operation", str_of(store_operations[i])},
                                       {"result", str_of(result)}),
                            value);
            }
        }
    }
}

static void collect_store_time(void *context, struct ops_samples *samples)
{
    (void)context;
    for (size_t i = 0; i < STORE_OPERATION_COUNT; i++) {
        ops_put_histogram(samples, OPS_LABELS({"operation", str_of(store_operations[i])}),
                          &store_counts()->time[i]);
    }
}

static void collect_store_retries(void *context, struct ops_samples *samples)
{
    (void)context;
    for (size_t i = 0; i < STORE_OPERATION_COUNT; i++) {
        ops_put_u64(samples, OPS_LABELS({"operation", str_of(store_operations[i])}),
                    metric_value(&store_counts()->retries[i]));
    }
}

static void collect_store_bytes_in(void *context, struct ops_samples *samples)
{
    (void)context;
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&store_counts()->bytes_in));
}

static void collect_store_bytes_out(void *context, struct ops_samples *samples)
{
    (void)context;
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&store_counts()->bytes_out));
}

/* clang-format off */
static const struct ops_family store_families[] = {
    { "eider_store_calls_total",            OPS_COUNTER,   "Requests to object stores (in a folder: calls), by operation and result.",   collect_store_calls },
    { "eider_store_call_duration_seconds",  OPS_HISTOGRAM, "How long they took, further attempts and the pauses before them included.",  collect_store_time },
    { "eider_store_retries_total",          OPS_COUNTER,   "Further attempts of such requests.",                                         collect_store_retries },
    { "eider_store_read_bytes_total",       OPS_COUNTER,   "Bytes of bodies that came from stores.",                                     collect_store_bytes_in },
    { "eider_store_written_bytes_total",    OPS_COUNTER,   "Bytes of bodies that were sent to stores.",                                  collect_store_bytes_out },
};
/* clang-format on */

/* ---- the object cache ---- */

#define COLLECT_CACHE(name, member)                                              \
    static void name(void *context, struct ops_samples *samples)                 \
    {                                                                            \
        ops_put_u64(samples, OPS_NO_LABELS, store_cache_counts(context).member); \
    }

COLLECT_CACHE(collect_cache_hits, hit_blocks)
COLLECT_CACHE(collect_cache_hit_bytes, hit_bytes)
COLLECT_CACHE(collect_cache_misses, missed_blocks)
COLLECT_CACHE(collect_cache_fetched_bytes, fetched_bytes)
COLLECT_CACHE(collect_cache_damaged, damaged_blocks)
COLLECT_CACHE(collect_cache_evictions, evicted_objects)
COLLECT_CACHE(collect_cache_objects, kept_objects)
COLLECT_CACHE(collect_cache_bytes, kept_bytes)

/* clang-format off */
static const struct ops_family cache_families[] = {
    { "eider_object_cache_hits_total",          OPS_COUNTER, "Blocks of objects that were read from disk and not fetched for the reader.", collect_cache_hits },
    { "eider_object_cache_hit_bytes_total",     OPS_COUNTER, "Bytes in them.",                                                          collect_cache_hit_bytes },
    { "eider_object_cache_misses_total",        OPS_COUNTER, "Blocks of objects that were fetched.",                                    collect_cache_misses },
    { "eider_object_cache_fetched_bytes_total", OPS_COUNTER, "Bytes in them.",                                                          collect_cache_fetched_bytes },
    { "eider_object_cache_damaged_total",       OPS_COUNTER, "Blocks on disk that failed their checksum, and were fetched again.",      collect_cache_damaged },
    { "eider_object_cache_evictions_total",     OPS_COUNTER, "Objects that made room for others.",                                      collect_cache_evictions },
    { "eider_object_cache_objects",             OPS_GAUGE,   "Objects of which blocks are kept.",                                       collect_cache_objects },
    { "eider_object_cache_bytes",               OPS_GAUGE,   "Disk space that they take (see EIDER_CACHE_MAX).",                        collect_cache_bytes },
};
/* clang-format on */

/* ---- the log, and what waits in it ---- */

static struct lake_backlog backlog_of(struct lake *lake)
{
    struct lake_backlog backlog;
    lake_backlog(lake, &backlog);
    return backlog;
}

static void collect_log_bytes(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, backlog_of(context).log_bytes);
}

static void collect_log_bytes_max(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, backlog_of(context).log_bytes_max);
}

static void collect_log_segments(void *context, struct ops_samples *samples)
{
    int64_t segments = metric_level(&lake_log_counts(context)->segments);
    ops_put_u64(samples, OPS_NO_LABELS, not_negative(segments));
}

static void collect_log_sync_time(void *context, struct ops_samples *samples)
{
    ops_put_histogram(samples, OPS_NO_LABELS, &lake_log_counts(context)->sync_time);
}

static void collect_log_records(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&lake_log_counts(context)->records));
}

static void collect_log_record_bytes(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, metric_value(&lake_log_counts(context)->record_bytes));
}

static void collect_backlog_rows(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, backlog_of(context).rows);
}

static void collect_backlog_bytes(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, backlog_of(context).bytes);
}

static void collect_backlog_age(void *context, struct ops_samples *samples)
{
    ops_put_seconds(samples, OPS_NO_LABELS, 1000 * backlog_of(context).oldest_age_ms);
}

static void collect_backlog_stuck(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, backlog_of(context).stuck_tables);
}

/* What worked is told from the start, failures when they have happened. */
static void collect_flushes(void *context, struct ops_samples *samples)
{
    const struct lake_counts *counts = lake_counts(context);
    for (size_t kind = 0; kind < ERR_KIND_COUNT; kind++) {
        uint64_t value = metric_value(&counts->flushes[kind]);
        if (value > 0 || kind == ERR_NONE) {
            const char *result = err_kind_info((enum err_kind)kind)->code;
            ops_put_u64(samples, OPS_LABELS({"result", str_of(result)}), value);
        }
    }
}

/* clang-format off */
static const struct ops_family lake_families[] = {
    { "eider_log_bytes",                  OPS_GAUGE,     "Disk space of the log of accepted records.",                                    collect_log_bytes },
    { "eider_log_max_bytes",              OPS_GAUGE,     "What it may take (see EIDER_LOG_MAX).",                                         collect_log_bytes_max },
    { "eider_log_segments",               OPS_GAUGE,     "Its files.",                                                                    collect_log_segments },
    { "eider_log_sync_duration_seconds",  OPS_HISTOGRAM, "How long its syncs to the disk took; each made one group of records durable.",  collect_log_sync_time },
    { "eider_log_records_total",          OPS_COUNTER,   "Records that were written to it: requests, or parts of large ones, and its own.", collect_log_records },
    { "eider_log_record_bytes_total",     OPS_COUNTER,   "Bytes in them.",                                                                collect_log_record_bytes },
    { "eider_backlog_rows",               OPS_GAUGE,     "Rows that are in the log and not in the lake yet.",                             collect_backlog_rows },
    { "eider_backlog_bytes",              OPS_GAUGE,     "Bytes of them, as JSON.",                                                       collect_backlog_bytes },
    { "eider_backlog_oldest_age_seconds", OPS_GAUGE,     "How long the oldest of them has waited; 0 without any.",                        collect_backlog_age },
    { "eider_backlog_stuck_tables",       OPS_GAUGE,     "Tables whose flush fails again and again, for another reason than the store.",  collect_backlog_stuck },
    { "eider_flushes_total",              OPS_COUNTER,   "Attempts to take rows of a table to the lake, by result.",                      collect_flushes },
};
/* clang-format on */

/* ---- all of them ---- */

void server_metrics_add(struct server_metrics *parts, struct ops_metrics *metrics)
{
    ops_metrics_add(metrics, build_families, COUNT_OF(build_families), parts->engine);
    ops_process_add(metrics, &parts->process);
    ops_metrics_add(metrics, http_families, COUNT_OF(http_families), parts->http);
    ops_metrics_add(metrics, engine_families, COUNT_OF(engine_families), parts->engine);
    ops_metrics_add(metrics, store_families, COUNT_OF(store_families), NULL);
    ops_metrics_add(metrics, cache_families, COUNT_OF(cache_families), parts->cache);
    ops_metrics_add(metrics, lake_families, COUNT_OF(lake_families), parts->lake);
}
