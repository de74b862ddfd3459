#include "api_analytics.h"
#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    BODY_SIZE_MAX = 1 << 20
};

/* ---- numbers as the original rounds them ---- */

static void member_real(struct json_writer *writer, const char *name, double value, int digits)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%.*f", digits, value);
    size_t size = strlen(text);
    while (digits > 1 && text[size - 1] == '0' && text[size - 2] != '.') {
        text[--size] = '\0';
    }
    json_key(writer, str_of(name));
    json_put_raw(writer, str_of(text));
}

static void member_null(struct json_writer *writer, const char *name)
{
    json_key(writer, str_of(name));
    json_put_null(writer);
}

static void member_text_or_null(struct json_writer *writer, const char *name, const char *text)
{
    if (text == NULL) {
        member_null(writer, name);
    } else {
        json_member_string(writer, name, str_of(text));
    }
}

static void member_time(struct json_writer *writer, const char *name, int64_t wall_ms)
{
    char text[CLOCK_ISO_SIZE];
    clock_format_iso(wall_ms, text);
    text[strlen(text) - 1] = '\0'; /* the original tells no zone */
    member_text_or_null(writer, name, wall_ms == 0 ? NULL : text);
}

static void member_count(struct json_writer *writer, const char *name, uint64_t value)
{
    json_member_u64(writer, name, value);
}

static double megabytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static double rate(uint64_t good, uint64_t all)
{
    return all == 0 ? 100.0 : 100.0 * (double)good / (double)all;
}

/* ---- what is told of a database ---- */

struct view {
    struct database_info info;
    char path[4096];
    struct timings_status timings;
    struct ops_system_view system;
    double disk_percent;
};

static void keep_info(void *context, const struct database_info *info)
{
    struct view *view = context;
    view->info = *info;
    (void)snprintf(view->path, sizeof(view->path), "%s", info->path);
    view->info.path = view->path;
}

static bool look(struct request *request, struct str database, struct view *view)
{
    struct api *api = request->api;
    struct timings *timings = databases_timings(api->options.databases, database);
    if (timings == NULL || !databases_find(api->options.databases, database, keep_info, view)) {
        return false;
    }
    timings_status(timings, &view->timings);
    ops_system_look(api->system, view->info.process.pid, view->info.process.resident_bytes,
                    &view->system);
    char folder[sizeof(view->path)];
    (void)snprintf(folder, sizeof(folder), "%s", view->path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL && slash != folder) {
        *slash = '\0';
    }
    view->disk_percent = ops_disk_percent(slash == NULL ? "." : folder);
    return true;
}

static void put_breaker_metrics(struct json_writer *writer, const struct breaker_status *breaker)
{
    int64_t now_ms = clock_wall_ms();
    json_key(writer, STR("metrics"));
    json_begin_object(writer);
    member_count(writer, "total_requests", breaker->total);
    member_count(writer, "successful_requests", breaker->successful);
    member_count(writer, "failed_requests", breaker->failed);
    member_real(writer, "success_rate",
                rate(breaker->successful, breaker->successful + breaker->failed), 2);
    member_count(writer, "circuit_open_count", breaker->opened);
    member_count(writer, "refused_requests", breaker->refused);
    member_real(writer, "avg_response_time", breaker->mean_ms / 1000, 6);
    member_time(writer, "last_failure_time",
                breaker->last_failure_ago_ms < 0 ? 0 : now_ms - breaker->last_failure_ago_ms);
    member_time(writer, "last_success_time",
                breaker->last_success_ago_ms < 0 ? 0 : now_ms - breaker->last_success_ago_ms);
    json_end_object(writer);
}

static void put_breaker(const struct request *request, struct json_writer *writer,
                        const struct breaker_status *breaker)
{
    const struct breaker_options *options = &request->api->options.breaker;
    bool waiting = breaker->retry_in_ms > 0;
    double wait_s = (double)breaker->retry_in_ms / 1000;
    json_key(writer, STR("circuit_breaker"));
    json_begin_object(writer);
    json_member_string(writer, "name", STR("duckdb"));
    json_member_string(writer, "state", str_of(breaker_state_name(breaker->state)));
    member_count(writer, "failure_count", breaker->failure_count);
    member_count(writer, "success_count", breaker->success_count);
    member_count(writer, "recent_failures", breaker->failure_count);
    if (waiting) {
        member_real(writer, "next_attempt_time", (double)clock_wall_ms() / 1000 + wait_s, 3);
        member_real(writer, "seconds_until_retry", wait_s, 3);
    } else {
        member_null(writer, "next_attempt_time");
        member_null(writer, "seconds_until_retry");
    }
    member_real(writer, "success_rate",
                rate(breaker->successful, breaker->successful + breaker->failed), 2);
    json_key(writer, STR("config"));
    json_begin_object(writer);
    member_count(writer, "failure_threshold", options->failure_threshold);
    member_count(writer, "success_threshold", options->success_threshold);
    member_count(writer, "timeout_seconds", (uint64_t)options->timeout_ms / 1000);
    json_end_object(writer);
    put_breaker_metrics(writer, breaker);
    json_end_object(writer);
}

static void put_metrics(struct json_writer *writer, const struct view *view)
{
    const struct timings_status *timings = &view->timings;
    json_key(writer, STR("metrics"));
    json_begin_object(writer);
    member_count(writer, "total_connections", view->info.status == DATABASE_OPEN);
    member_count(writer, "active_connections", view->info.process.running);
    member_count(writer, "total_queries", timings->total);
    member_count(writer, "successful_queries", timings->successful);
    member_count(writer, "failed_queries", timings->failed);
    member_real(writer, "success_rate", rate(timings->successful, timings->total), 2);
    member_real(writer, "avg_query_time", timings->mean_us / 1e6, 3);
    member_real(writer, "memory_usage_mb", megabytes(view->info.process.resident_bytes), 1);
    member_time(writer, "last_query_time", timings->last_wall_ms);
    json_end_object(writer);
}

static void put_system(struct json_writer *writer, const char *name, const struct view *view)
{
    json_key(writer, str_of(name));
    json_begin_object(writer);
    member_real(writer, "process_memory_mb", megabytes(view->info.process.resident_bytes), 1);
    member_real(writer, "process_memory_percent", view->system.process_memory_percent, 2);
    member_real(writer, "cpu_percent", view->system.process_cpu_percent, 1);
    member_real(writer, "system_memory_percent", view->system.memory_percent, 1);
    member_real(writer, "system_cpu_percent", view->system.cpu_percent, 1);
    member_real(writer, "disk_usage_percent", view->disk_percent, 1);
    json_end_object(writer);
}

static void put_pool(const struct request *request, struct json_writer *writer,
                     const struct view *view)
{
    uint64_t slots = request->api->options.database_slots;
    uint64_t running = view->info.process.running < slots ? view->info.process.running : slots;
    json_key(writer, STR("connection_pool"));
    json_begin_object(writer);
    member_count(writer, "total_connections", slots);
    member_count(writer, "available_connections", slots - running);
    member_count(writer, "max_connections", slots);
    json_end_object(writer);
}

/* ---- GET /health ---- */

static bool ignore_result(void *context, struct str bytes, struct err *err)
{
    (void)context;
    (void)bytes;
    (void)err;
    return true;
}

static bool ignore_columns(void *context, const struct worker_schema *columns, struct err *err)
{
    (void)context;
    (void)columns;
    (void)err;
    return true;
}

/* SELECT 1, outside the breaker and the statistics, in a place of its own: what clients have made
 * busy is not ill. */
static bool probe(struct request *request, struct str database, struct database_outcome *outcome,
                  struct err *err)
{
    static const struct str statement = STR_INIT("SELECT 1");
    struct database_request wanted = {
        .database = database,
        .probe = true,
        .run =
            {
                .request =
                    {
                        .kind = WORKER_STATEMENTS,
                        .role = WORKER_ROLE_READ,
                        .format = WORKER_FORMAT_ROWS,
                        .statements = &statement,
                        .statements_count = 1,
                    },
                .fds = {-1, -1},
                .columns = ignore_columns,
                .result = ignore_result,
            },
    };
    return databases_run(request->api->options.databases, &wanted, request->cancel, outcome, err);
}

static void put_probe(struct json_writer *writer, bool good, const struct database_outcome *outcome)
{
    const struct worker_done *done = &outcome->run.done;
    if (!good) {
        member_null(writer, "query_test");
        return;
    }
    json_key(writer, STR("query_test"));
    json_begin_object(writer);
    json_member_bool(writer, "success", true);
    member_real(writer, "execution_time",
                (double)(outcome->waited_us + done->execution_us + 1) / 1e6, 6);
    member_real(writer, "memory_usage", megabytes(done->memory_bytes), 4);
    json_end_object(writer);
}

static void put_health(struct request *request, struct json_writer *writer, const struct view *view,
                       bool good, const struct database_outcome *outcome, const struct err *err)
{
    bool open = gate_shows_all(request);
    json_member_string(writer, "status", good ? STR("healthy") : STR("unhealthy"));
    member_time(writer, "timestamp", clock_wall_ms());
    json_member_bool(writer, "service_initialized", view->info.status == DATABASE_OPEN);
    member_text_or_null(writer, "database_path", open ? view->path : NULL);
    json_member_bool(writer, "database_exists", view->info.exists);
    if (good) {
        member_real(writer, "database_size_mb",
                    megabytes(view->info.size_bytes + view->info.log_bytes), 3);
    } else {
        member_null(writer, "database_size_mb");
    }
    put_probe(writer, good, outcome);
    if (good) {
        put_pool(request, writer, view);
    } else {
        member_null(writer, "connection_pool");
    }
    put_breaker(request, writer, &view->info.breaker);
    put_metrics(writer, view);
    put_system(writer, "system", view);
    json_key(writer, STR("errors"));
    json_begin_array(writer);
    if (!good) {
        json_put_string(writer, open ? str_of(err->message) : STR("the database does not answer"));
    }
    json_end_array(writer);
}

static void reply_unknown(struct request *request)
{
    struct err err;
    (void)err_set(&err, ERR_NOT_FOUND, "there is no database '%.*s'",
                  STR_ARG(buf_str(&request->parameter)));
    reply_error(request, &err);
}

static bool is_strict(struct request *request)
{
    struct buf value;
    buf_init(&value, 64);
    bool strict = http_query_parameter(request->exchange, "strict", &value) &&
                  (str_equal(buf_str(&value), STR("1")) || str_equal(buf_str(&value), STR("true")));
    buf_finish(&value);
    return strict;
}

void analytics_health_run(struct request *request)
{
    struct database_outcome outcome;
    struct err err;
    struct view view = {0};
    struct buf body;
    struct json_writer writer;
    bool good = probe(request, buf_str(&request->parameter), &outcome, &err);
    if (!look(request, buf_str(&request->parameter), &view)) {
        if (good) { /* it has been dropped since */
            reply_unknown(request);
        } else {
            reply_error(request, &err);
        }
        return;
    }
    reply_begin_object(&body, BODY_SIZE_MAX, &writer);
    put_health(request, &writer, &view, good, &outcome, &err);
    reply_end_object(request, good || !is_strict(request) ? 200 : 503, &body, &writer);
}

/* ---- GET /statistics ---- */

static void put_service(struct request *request, struct json_writer *writer,
                        const struct view *view)
{
    const struct api_options *options = &request->api->options;
    json_key(writer, STR("service"));
    json_begin_object(writer);
    json_member_bool(writer, "initialized", view->info.status == DATABASE_OPEN);
    member_real(writer, "uptime_seconds",
                (double)(clock_now_ms() - request->api->started_ms) / 1000, 3);
    json_member_string(writer, "database_path", str_of(view->path));
    json_member_string(writer, "memory_limit", str_of(options->database_memory_text));
    member_count(writer, "worker_threads", options->database_threads);
    json_end_object(writer);
}

static void put_recent(struct json_writer *writer, const struct timings_status *timings)
{
    json_key(writer, STR("recent_query_times"));
    json_begin_array(writer);
    for (unsigned i = 0; i < timings->recent_count; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%.6f", (double)timings->recent_us[i] / 1e6);
        json_put_raw(writer, str_of(text));
    }
    json_end_array(writer);
}

static void put_performance(struct json_writer *writer, const struct view *view)
{
    const struct timings_status *timings = &view->timings;
    json_key(writer, STR("performance"));
    json_begin_object(writer);
    member_real(writer, "avg_query_time", timings->mean_us / 1e6, 9);
    put_recent(writer, timings);
    member_real(writer, "success_rate", rate(timings->successful, timings->total), 9);
    member_count(writer, "queries_over_1s", timings->over_1s);
    member_count(writer, "queries_over_5s", timings->over_5s);
    json_end_object(writer);
}

static void put_file(struct json_writer *writer, const struct view *view)
{
    if (!view->info.exists) {
        member_null(writer, "database_file");
        return;
    }
    json_key(writer, STR("database_file"));
    json_begin_object(writer);
    member_real(writer, "size_mb", megabytes(view->info.size_bytes), 3);
    member_real(writer, "wal_size_mb", megabytes(view->info.log_bytes), 3);
    member_time(writer, "created", view->info.created_wall_ms);
    member_time(writer, "modified", view->info.modified_wall_ms);
    json_end_object(writer);
}

static void put_slow(void *context, const struct timings_slow *slow)
{
    struct json_writer *writer = context;
    json_begin_object(writer);
    json_member_string(writer, "statement", slow->statement);
    member_real(writer, "execution_time", (double)slow->elapsed_us / 1e6, 6);
    member_time(writer, "at", slow->wall_ms);
    json_end_object(writer);
}

static void put_analysis(struct json_writer *writer, const struct view *view,
                         struct timings *timings)
{
    const struct timings_status *times = &view->timings;
    if (times->kept == 0) {
        member_null(writer, "query_analysis");
        return;
    }
    json_key(writer, STR("query_analysis"));
    json_begin_object(writer);
    member_count(writer, "total_queries", times->kept);
    member_real(writer, "min_time", times->min_us / 1e6, 6);
    member_real(writer, "max_time", times->max_us / 1e6, 6);
    member_real(writer, "median_time", times->median_us / 1e6, 6);
    member_real(writer, "p90_time", times->p90_us / 1e6, 6);
    member_real(writer, "p95_time", times->p95_us / 1e6, 6);
    member_real(writer, "p99_time", times->p99_us / 1e6, 6);
    member_count(writer, "queries_over_1s", times->over_1s);
    member_count(writer, "queries_over_5s", times->over_5s);
    json_key(writer, STR("slowest"));
    json_begin_array(writer);
    timings_visit_slowest(timings, put_slow, writer);
    json_end_array(writer);
    json_end_object(writer);
}

void analytics_statistics_run(struct request *request)
{
    struct str database = buf_str(&request->parameter);
    struct timings *timings = databases_timings(request->api->options.databases, database);
    struct view view = {0};
    struct buf body;
    struct json_writer writer;
    if (timings == NULL || !look(request, database, &view)) {
        reply_unknown(request);
        return;
    }
    reply_begin_object(&body, BODY_SIZE_MAX, &writer);
    put_service(request, &writer, &view);
    put_metrics(&writer, &view);
    put_performance(&writer, &view);
    put_system(&writer, "system", &view);
    put_breaker(request, &writer, &view.info.breaker);
    put_file(&writer, &view);
    put_analysis(&writer, &view, timings);
    reply_end_object(request, 200, &body, &writer);
}

/* ---- GET /templates/performance-metrics ---- */

void analytics_performance_run(struct request *request)
{
    struct view view = {0};
    struct buf body;
    struct json_writer writer;
    if (!look(request, STR(""), &view)) {
        reply_unknown(request);
        return;
    }
    reply_begin_object(&body, BODY_SIZE_MAX, &writer);
    json_key(&writer, STR("query_performance"));
    json_begin_object(&writer);
    member_count(&writer, "total_queries", view.timings.total);
    member_real(&writer, "success_rate", rate(view.timings.successful, view.timings.total), 2);
    member_real(&writer, "avg_query_time", view.timings.mean_us / 1e6, 6);
    put_recent(&writer, &view.timings);
    json_end_object(&writer);
    put_system(&writer, "system_performance", &view);
    json_key(&writer, STR("memory_usage"));
    json_begin_object(&writer);
    member_real(&writer, "service_memory_mb", megabytes(view.info.process.resident_bytes), 1);
    member_real(&writer, "avg_query_memory_mb", view.timings.mean_memory_bytes / (1 << 20), 4);
    json_end_object(&writer);
    json_key(&writer, STR("circuit_breaker"));
    json_begin_object(&writer);
    const struct breaker_status *breaker = &view.info.breaker;
    json_member_string(&writer, "state", str_of(breaker_state_name(breaker->state)));
    member_real(&writer, "success_rate",
                rate(breaker->successful, breaker->successful + breaker->failed), 2);
    member_count(&writer, "failure_count", breaker->failure_count);
    json_end_object(&writer);
    reply_end_object(request, 200, &body, &writer);
}

/* ---- POST /initialize, POST /circuit-breaker/reset ---- */

void analytics_initialize_run(struct request *request)
{
    struct err err;
    if (!databases_open(request->api->options.databases, buf_str(&request->parameter),
                        request->cancel, &err)) {
        struct err told = err;
        (void)snprintf(told.message, sizeof(told.message),
                       "Service initialization failed: Initialization failed: %.600s", err.message);
        reply_error(request, &told);
        return;
    }
    reply_json(request, 200,
               STR("{\"status\":\"success\",\"message\":\"DuckDB service initialized "
                   "successfully\"}"));
}

void analytics_reset_run(struct request *request)
{
    if (!databases_reset_breaker(request->api->options.databases, buf_str(&request->parameter))) {
        reply_unknown(request);
        return;
    }
    reply_json(request, 200,
               STR("{\"status\":\"success\",\"message\":\"Circuit breaker reset to closed "
                   "state\"}"));
}

/* All of them: no body, a while at most. Those that ask for every database are of none. */
void analytics_operate_check(struct request *request)
{
    struct err err;
    if (request->route->run != analytics_list_run) {
        request->group =
            databases_group(request->api->options.databases, buf_str(&request->parameter));
    }
    if (request->parameter.len > 0 && !database_name_is_good(buf_str(&request->parameter))) {
        reply_unknown(request);
    } else if (!request_run(request, request->api->options.query_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
}
