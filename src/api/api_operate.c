#include "api_internal.h"
#include "lake_ingest.h"

enum {
    BODY_SIZE_MAX = 64 << 10
};

/* The body that health probes of the original services look for, and what is ours. */
void operate_health(struct request *request)
{
    struct buf body;
    struct json_writer writer;
    reply_begin_object(&body, BODY_SIZE_MAX, &writer);
    json_member_string(&writer, "status", STR("ok"));
    json_member_string(&writer, "service", STR("duckdb-sidecar"));
    json_member_string(&writer, "server", STR("eider"));
    json_member_string(&writer, "version", str_of(request->api->options.version));
    json_member_bool(&writer, "ready",
                     engine_is_ready(request->api->options.engine) &&
                         !atomic_load(&request->api->draining));
    reply_end_object(request, 200, &body, &writer);
}

void operate_live(struct request *request)
{
    reply_json(request, 200, STR("{\"status\":\"live\"}"));
}

/* Why new work is not welcome, or NULL. */
static const char *unready(const struct api *api, const struct lake_backlog *backlog)
{
    bool late = backlog->oldest_age_ms > atomic_load(&api->backlog_age_max_ms);
    return atomic_load(&api->draining)             ? "draining"
           : !engine_is_ready(api->options.engine) ? "engine"
           : backlog->broken                       ? "the log cannot be written"
           : backlog->full                         ? "the log is full"
           : late                                  ? "records wait too long for the store"
           : backlog->stuck_tables > 0             ? "a flush fails again and again"
                                                   : NULL;
}

static void put_text(struct json_writer *writer, struct str name, const char *text)
{
    json_key(writer, name);
    if (text[0] == '\0') {
        json_put_null(writer);
    } else {
        json_put_string(writer, str_of(text));
    }
}

static void put_backlog(struct json_writer *writer, const struct lake_backlog *backlog,
                        bool with_texts)
{
    json_key(writer, STR("backlog"));
    json_begin_object(writer);
    json_member_u64(writer, "rows", backlog->rows);
    json_member_u64(writer, "bytes", backlog->bytes);
    json_member_u64(writer, "oldest_age_ms",
                    backlog->oldest_age_ms > 0 ? (uint64_t)backlog->oldest_age_ms : 0);
    json_member_u64(writer, "log_bytes", backlog->log_bytes);
    json_member_u64(writer, "log_bytes_max", backlog->log_bytes_max);
    put_text(writer, STR("last_flush_failure"), with_texts ? backlog->last_failure : "");
    json_member_u64(writer, "stuck_tables", backlog->stuck_tables);
    put_text(writer, STR("stuck"), with_texts ? backlog->stuck : "");
    json_end_object(writer);
}

void operate_ready(struct request *request)
{
    struct lake_backlog backlog;
    lake_backlog(request->api->options.lake, &backlog);
    const char *why = unready(request->api, &backlog);
    struct buf body;
    struct json_writer writer;
    reply_begin_object(&body, BODY_SIZE_MAX, &writer);
    json_member_string(&writer, "status", why == NULL ? STR("ready") : STR("not ready"));
    if (why != NULL) {
        json_member_string(&writer, "reason", str_of(why));
    }
    put_backlog(&writer, &backlog, gate_shows_all(request));
    reply_end_object(request, why == NULL ? 200 : 503, &body, &writer);
}

void operate_index(struct request *request)
{
    struct buf body;
    struct json_writer writer;
    reply_begin_object(&body, BODY_SIZE_MAX, &writer);
    json_member_string(&writer, "service", STR("eider"));
    json_member_string(&writer, "version", str_of(request->api->options.version));
    json_member_string(&writer, "engine", str_of(engine_version()));
    json_key(&writer, STR("endpoints"));
    json_begin_array(&writer);
    for (size_t i = 0; i < api_routes_count; i++) {
        const struct route *route = &api_routes[i];
        bool other_index = strcmp(route->path, "/") == 0 || strcmp(route->path, "/health") == 0;
        if (route->personality != PERSONALITY_OPERATE && other_index) {
            continue;
        }
        json_begin_object(&writer);
        json_member_string(&writer, "method", str_of(route->method));
        json_member_string(&writer, "path", str_of(route->path));
        json_member_string(&writer, "summary", str_of(route->summary));
        json_end_object(&writer);
    }
    json_end_array(&writer);
    reply_end_object(request, 200, &body, &writer);
}
