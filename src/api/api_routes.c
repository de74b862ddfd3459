#include "api_internal.h"

#include <strings.h>

/* The whole API on one page. A route belongs to its personality's listener; the shared listener has
 * those that are named by one personality only, and Eider's own. A route of AUTH_NOBODY answers
 * everybody; of SQL, the worker judges each statement by the caller's role. The health of a named
 * database wants a role: looking opens it, and tells that it is there. */
/* clang-format off */
const struct route api_routes[] = {
    { "GET",  "/",                     PERSONALITY_OPERATE,  AUTH_NOBODY, operate_index,        NULL,              LANE_INLINE,   0,            "what is here" },
    { "GET",  "/health",               PERSONALITY_OPERATE,  AUTH_NOBODY, operate_health,       NULL,              LANE_INLINE,   0,            "is the server up" },
    { "GET",  "/health/live",          PERSONALITY_OPERATE,  AUTH_NOBODY, operate_live,         NULL,              LANE_INLINE,   0,            "the process answers" },
    { "GET",  "/health/ready",         PERSONALITY_OPERATE,  AUTH_NOBODY, operate_ready,        NULL,              LANE_INLINE,   0,            "new work is welcome" },
    { "GET",  "/metrics",              PERSONALITY_OPERATE,  AUTH_READ,   operate_metrics,      NULL,              LANE_INLINE,   0,            "counters, for Prometheus" },
    { "GET",  "/queries",              PERSONALITY_OPERATE,  AUTH_READ,   queries_list,         NULL,              LANE_INLINE,   0,            "queries that wait, run or have just ended" },
    { "GET",  "/queries/{id}",         PERSONALITY_OPERATE,  AUTH_READ,   queries_show,         NULL,              LANE_INLINE,   0,            "one query" },
    { "DELETE", "/queries/{id}",       PERSONALITY_OPERATE,  AUTH_ADMIN,  queries_cancel,       NULL,              LANE_INLINE,   0,            "cancel a query" },

    { "GET",  "/",                     PERSONALITY_INGEST,   AUTH_NOBODY, ingest_index,         NULL,              LANE_INLINE,   0,            "Service information" },
    { "GET",  "/health",               PERSONALITY_INGEST,   AUTH_NOBODY, ingest_health,        NULL,              LANE_INLINE,   0,            "Health check" },
    { "GET",  "/docs",                 PERSONALITY_INGEST,   AUTH_NOBODY, ingest_docs,          NULL,              LANE_INLINE,   0,            "API documentation" },
    { "GET",  "/redoc",                PERSONALITY_INGEST,   AUTH_NOBODY, ingest_docs,          NULL,              LANE_INLINE,   0,            "API documentation" },
    { "GET",  "/openapi.json",         PERSONALITY_INGEST,   AUTH_NOBODY, ingest_openapi,       NULL,              LANE_INLINE,   0,            "OpenAPI description" },
    { "POST", "/ingest",               PERSONALITY_INGEST,   AUTH_WRITE,  ingest_check,         ingest_run,        LANE_INGEST,   ROUTE_STORES, "Ingest a batch of records" },
    { "POST", "/ingest/stream",        PERSONALITY_INGEST,   AUTH_WRITE,  ingest_stream,        ingest_stream_run, LANE_ROWS,     ROUTE_STORES, "Ingest one record" },
    { "POST", "/flush",                PERSONALITY_INGEST,   AUTH_WRITE,  ingest_flush,         ingest_flush_run,  LANE_INGEST,   0,            "Flush buffered records" },
    { "GET",  "/tables",               PERSONALITY_INGEST,   AUTH_READ,   ingest_tables_check,  ingest_tables_run, LANE_INGEST,   0,            "List tables" },
    { "GET",  "/table/{name}/count",   PERSONALITY_INGEST,   AUTH_READ,   ingest_count,         NULL,              LANE_INLINE,   0,            "Buffered records of a table" },

    { "POST", "/tables/{name}/rows",   PERSONALITY_LAKE,     AUTH_WRITE,  rows_check,           rows_run,          LANE_ROWS,     ROUTE_STORES | ROUTE_STREAMS, "rows into a table: NDJSON, JSON, CSV, Arrow or Parquet" },
    { "GET",  "/tables/{name}",        PERSONALITY_LAKE,     AUTH_READ,   table_show_check,     table_show_run,    LANE_INGEST,   0,            "a table's columns and rules" },
    { "PUT",  "/tables/{name}",        PERSONALITY_LAKE,     AUTH_WRITE,  table_declare_check,  table_declare_run, LANE_INGEST,   0,            "declare a table's columns and rules" },

    { "GET",  "/health",               PERSONALITY_SNAPSHOT, AUTH_NOBODY, snapshot_health,      NULL,              LANE_INLINE,   0,            "health" },
    { "GET",  "/pool-stats",           PERSONALITY_SNAPSHOT, AUTH_READ,   snapshot_pool_stats,  NULL,              LANE_INLINE,   0,            "query slots" },
    { "GET",  "/snapshot-queue-stats", PERSONALITY_SNAPSHOT, AUTH_READ,   snapshot_queue_stats, NULL,              LANE_INLINE,   0,            "snapshot queue" },
    { "POST", "/snapshot",             PERSONALITY_SNAPSHOT, AUTH_WRITE,  snapshot_check,       snapshot_run,      LANE_SNAPSHOT, 0,            "rows to a Parquet object" },
    { "POST", "/query",                PERSONALITY_SNAPSHOT, AUTH_READ,   query_check,          query_run,         LANE_QUERY,    ROUTE_AT_ONCE,            "SQL over Parquet objects" },

    { "POST",   "/api/v1/duckdb/query",                              PERSONALITY_ANALYTICS, AUTH_READ,   analytics_query_check,   analytics_run,              LANE_DATABASE,        ROUTE_AT_ONCE, "run SQL" },
    { "POST",   "/api/v1/duckdb/batch",                              PERSONALITY_ANALYTICS, AUTH_READ,   analytics_batch_check,   analytics_run,              LANE_DATABASE,        0, "run statements in one transaction" },
    { "GET",    "/api/v1/duckdb/health",                             PERSONALITY_ANALYTICS, AUTH_NOBODY, analytics_operate_check, analytics_health_run,       LANE_DATABASE_HEALTH, 0, "health" },
    { "GET",    "/api/v1/duckdb/statistics",                         PERSONALITY_ANALYTICS, AUTH_READ,   analytics_operate_check, analytics_statistics_run,   LANE_DATABASE_HEALTH, 0, "numbers" },
    { "POST",   "/api/v1/duckdb/initialize",                         PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_operate_check, analytics_initialize_run,   LANE_DATABASE_CHANGE, 0, "open the file" },
    { "POST",   "/api/v1/duckdb/circuit-breaker/reset",              PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_operate_check, analytics_reset_run,        LANE_DATABASE_HEALTH, 0, "close the breaker" },
    { "POST",   "/api/v1/duckdb/backup",                             PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_backup_check,  analytics_backup_run,       LANE_DATABASE_COPY,   0, "copy the database" },
    { "POST",   "/api/v1/duckdb/restore",                            PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_restore_check, analytics_restore_run,      LANE_DATABASE_COPY,   0, "replace the database by a copy" },
    { "POST",   "/api/v1/duckdb/import",                             PERSONALITY_ANALYTICS, AUTH_WRITE,  analytics_import_check,  analytics_import_run,       LANE_DATABASE_COPY,   0, "Parquet into a table" },
    { "POST",   "/api/v1/duckdb/export",                             PERSONALITY_ANALYTICS, AUTH_READ,   analytics_export_check,  analytics_export_run,       LANE_DATABASE_EXPORT, 0, "a query or table to Parquet" },
    { "POST",   "/api/v1/duckdb/databases/{name}/query",             PERSONALITY_ANALYTICS, AUTH_READ,   analytics_query_check,   analytics_run,              LANE_DATABASE,        ROUTE_AT_ONCE, "run SQL of a named database" },
    { "POST",   "/api/v1/duckdb/databases/{name}/batch",             PERSONALITY_ANALYTICS, AUTH_READ,   analytics_batch_check,   analytics_run,              LANE_DATABASE,        0, "run statements in one transaction of a named database" },
    { "GET",    "/api/v1/duckdb/databases/{name}/health",            PERSONALITY_ANALYTICS, AUTH_READ,   analytics_operate_check, analytics_health_run,       LANE_DATABASE_HEALTH, 0, "health of a named database" },
    { "GET",    "/api/v1/duckdb/databases/{name}/statistics",        PERSONALITY_ANALYTICS, AUTH_READ,   analytics_operate_check, analytics_statistics_run,   LANE_DATABASE_HEALTH, 0, "numbers of a named database" },
    { "POST",   "/api/v1/duckdb/databases/{name}/initialize",        PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_operate_check, analytics_initialize_run,   LANE_DATABASE_CHANGE, 0, "open the file of a named database" },
    { "POST",   "/api/v1/duckdb/databases/{name}/circuit-breaker/reset", PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_operate_check, analytics_reset_run,        LANE_DATABASE_HEALTH, 0, "close the breaker of a named database" },
    { "POST",   "/api/v1/duckdb/databases/{name}/backup",            PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_backup_check,  analytics_backup_run,       LANE_DATABASE_COPY,   0, "copy the database of a named database" },
    { "POST",   "/api/v1/duckdb/databases/{name}/restore",           PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_restore_check, analytics_restore_run,      LANE_DATABASE_COPY,   0, "replace the database by a copy of a named database" },
    { "POST",   "/api/v1/duckdb/databases/{name}/import",            PERSONALITY_ANALYTICS, AUTH_WRITE,  analytics_import_check,  analytics_import_run,       LANE_DATABASE_COPY,   0, "Parquet into a table of a named database" },
    { "POST",   "/api/v1/duckdb/databases/{name}/export",            PERSONALITY_ANALYTICS, AUTH_READ,   analytics_export_check,  analytics_export_run,       LANE_DATABASE_EXPORT, 0, "a query or table to Parquet of a named database" },
    { "GET",    "/api/v1/duckdb/templates/page-stats",               PERSONALITY_ANALYTICS, AUTH_READ,   analytics_pages_check,   analytics_run,              LANE_DATABASE,        0, "pages by domain" },
    { "GET",    "/api/v1/duckdb/templates/performance-metrics",      PERSONALITY_ANALYTICS, AUTH_READ,   analytics_operate_check, analytics_performance_run,  LANE_DATABASE_HEALTH, 0, "performance in short" },
    { "GET",    "/api/v1/duckdb/databases",                          PERSONALITY_ANALYTICS, AUTH_READ,   analytics_operate_check, analytics_list_run,         LANE_DATABASE_HEALTH, 0, "databases" },
    { "POST",   "/api/v1/duckdb/databases",                          PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_make_check,    analytics_make_run,         LANE_DATABASE_CHANGE, 0, "create a database" },
    { "GET",    "/api/v1/duckdb/databases/{name}",                   PERSONALITY_ANALYTICS, AUTH_READ,   analytics_operate_check, analytics_show_run,         LANE_DATABASE_HEALTH, 0, "one database" },
    { "DELETE", "/api/v1/duckdb/databases/{name}",                   PERSONALITY_ANALYTICS, AUTH_ADMIN,  analytics_operate_check, analytics_drop_run,         LANE_DATABASE_CHANGE, 0, "move a database to the trash" },
};
/* clang-format on */

const size_t api_routes_count = COUNT_OF(api_routes);

/* Malformed JSON is told before the path is, as the original service does: such bodies are read on
 * unknown paths too. */
static const struct route snapshot_unknown = {
    "POST", "", PERSONALITY_SNAPSHOT, AUTH_READ, snapshot_unknown_check, NULL, LANE_CHECK, 0, "",
};

static bool on_listener(const struct route *route, enum api_listener listener)
{
    bool health_probe = str_starts(str_of(route->path), STR("/health/"));
    switch (listener) {
    case API_INGEST:
        return route->personality == PERSONALITY_INGEST || route->personality == PERSONALITY_LAKE ||
               health_probe;
    case API_SNAPSHOT:
        return route->personality == PERSONALITY_SNAPSHOT || health_probe;
    case API_SHARED: {
        bool shared_name = strcmp(route->path, "/") == 0 || strcmp(route->path, "/health") == 0;
        return route->personality == PERSONALITY_OPERATE || !shared_name;
    }
    case API_ANALYTICS:
        return route->personality == PERSONALITY_ANALYTICS || health_probe ||
               (route->personality == PERSONALITY_OPERATE && strcmp(route->path, "/health") == 0);
    case API_PROJECTS:
    case API_STAGING:
    case API_LISTENER_COUNT:
        return health_probe;
    }
    return false;
}

static bool segment_matches(struct request *request, struct str wanted, struct str given,
                            bool any_case)
{
    if (wanted.len > 0 && wanted.ptr[0] == '{') {
        buf_reset(&request->parameter);
        return given.len > 0 && http_decode(given, false, &request->parameter) &&
               !buf_failed(&request->parameter) &&
               str_find_byte(buf_str(&request->parameter), '/') == request->parameter.len;
    }
    return any_case ? str_equal_nocase(wanted, given) : str_equal(wanted, given);
}

/* Whether the first byte of the first segment could be the same, in whatever case: most routes end
 * here. */
static bool begins_alike(const char *pattern, struct str path)
{
    char wanted = pattern[1];
    char given = path.len > 1 ? path.ptr[1] : '\0';
    return wanted == '{' || (wanted | 0x20) == (given | 0x20);
}

static bool path_matches(struct request *request, const char *pattern, struct str path,
                         bool any_case)
{
    struct str wanted_rest = str_of(pattern);
    struct str given_rest = path;
    struct str wanted;
    struct str given;
    if (!begins_alike(pattern, path)) {
        return false;
    }
    while (str_next_part(&wanted_rest, '/', &wanted)) {
        if (!str_next_part(&given_rest, '/', &given) ||
            !segment_matches(request, wanted, given, any_case)) {
            return false;
        }
    }
    return given_rest.ptr == NULL;
}

/* HEAD is answered wherever GET is, but by the ingest personality, which never did. */
static bool method_matches(const struct route *route, struct str method)
{
    return str_equal(method, str_of(route->method)) ||
           (str_equal(method, STR("HEAD")) && strcmp(route->method, "GET") == 0 &&
            route->personality != PERSONALITY_INGEST);
}

bool route_has_path(struct request *request, enum api_listener listener, struct str path)
{
    bool found = false;
    for (size_t i = 0; i < api_routes_count && !found; i++) {
        const struct route *route = &api_routes[i];
        found = on_listener(route, listener) && path_matches(request, route->path, path, false);
    }
    return found;
}

static enum api_personality personality_of(enum api_listener listener)
{
    switch (listener) {
    case API_INGEST:
        return PERSONALITY_INGEST;
    case API_SNAPSHOT:
        return PERSONALITY_SNAPSHOT;
    case API_ANALYTICS:
        return PERSONALITY_ANALYTICS;
    case API_PROJECTS:
    case API_STAGING:
        return PERSONALITY_ABSENT;
    case API_SHARED:
    case API_LISTENER_COUNT:
        break;
    }
    return PERSONALITY_OPERATE;
}

/* Whose error shape a request of the route gets. */
static enum api_personality shape_of(const struct route *route, enum api_listener listener)
{
    return route->personality == PERSONALITY_LAKE ? personality_of(listener) : route->personality;
}

/* The methods of a path that has `first`, and another one. */
static const char *add_method(const char *first, const char *other)
{
    return first == NULL                  ? other
           : strcmp(other, "DELETE") == 0 ? "GET, DELETE"
           : strcmp(other, "POST") == 0   ? "GET, POST"
                                          : "GET, PUT";
}

static bool wants_snapshot_unknown(const struct request *request)
{
    return request->personality == PERSONALITY_SNAPSHOT && http_has_body(request->exchange) &&
           snapshot_reads_type(http_header(request->exchange, "Content-Type"));
}

const struct route *route_find(struct request *request, enum api_listener listener,
                               const char **ret_allow)
{
    struct str method = http_method(request->exchange);
    struct str path = http_path(request->exchange);
    request->personality = personality_of(listener);
    *ret_allow = NULL;
    for (size_t i = 0; i < api_routes_count; i++) {
        const struct route *route = &api_routes[i];
        bool snapshot = route->personality == PERSONALITY_SNAPSHOT;
        struct str bare = path;
        if (snapshot && bare.len > 1 && bare.ptr[bare.len - 1] == '/') {
            bare.len--;
        }
        if (!on_listener(route, listener) || !path_matches(request, route->path, bare, snapshot)) {
            continue;
        }
        if (method_matches(route, method)) {
            request->personality = shape_of(route, listener);
            return route;
        }
        *ret_allow = add_method(*ret_allow, route->method);
        request->personality = shape_of(route, listener);
    }
    return wants_snapshot_unknown(request) ? &snapshot_unknown : NULL;
}
