#include "api_ingest.h"

/* Errors of a route carry its name in front, as clients of the original expect. */
static const char *prefix_of(const struct request *request)
{
    static const struct {
        const char *path;
        const char *prefix;
    } prefixes[] = {
        {"/ingest", "Ingestion failed: "},
        {"/ingest/stream", "Stream ingestion failed: "},
        {"/flush", "Flush failed: "},
        {"/tables", "Failed to list tables: "},
    };
    for (size_t i = 0; request->route != NULL && i < COUNT_OF(prefixes); i++) {
        if (strcmp(request->route->path, prefixes[i].path) == 0) {
            return prefixes[i].prefix;
        }
    }
    return "";
}

static void write_detail(struct buf *body, const char *prefix, struct str text)
{
    struct buf detail;
    buf_init(&detail, INGEST_REASON_SIZE_MAX);
    buf_append_text(&detail, prefix);
    buf_append(&detail, text);
    struct json_writer writer;
    json_writer_init(&writer, body);
    json_begin_object(&writer);
    json_member_string(&writer, "detail", buf_str(&detail));
    json_end_object(&writer);
    buf_finish(&detail);
}

/* These are of the server as a whole, of HTTP and of its gate, whatever the route. */
static bool is_bare(const struct request *request, const struct err *err)
{
    static const char *const texts[] = {"Not Found", "There was an error parsing the body"};
    bool bare = err->kind == ERR_METHOD || err->kind == ERR_TOO_LARGE ||
                err->kind == ERR_MEDIA_TYPE || err->kind == ERR_BUSY ||
                (request->route != NULL && request->identity.role < request->route->role);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        bare = bare || strcmp(err->message, texts[i]) == 0;
    }
    return bare;
}

/* {"detail":...}. */
void ingest_error(struct request *request, unsigned status, const struct err *err, struct buf *body)
{
    (void)status;
    write_detail(body, is_bare(request, err) ? "" : prefix_of(request), str_of(err->message));
}

void ingest_reply_invalid(struct request *request, struct str text)
{
    struct buf body;
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    write_detail(&body, prefix_of(request), text);
    reply_buf(request, 400, &body);
    buf_finish(&body);
}

/* Where the lake is, is not for everybody. */
static struct str shown(const struct request *request, const char *text)
{
    return gate_shows_all(request) ? str_of(text) : STR("");
}

void ingest_health(struct request *request)
{
    const struct api_options *options = &request->api->options;
    struct buf body;
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    struct json_writer writer;
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("healthy"));
    json_member_string(&writer, "service", STR("duckdb-sidecar"));
    json_member_string(&writer, "s3_endpoint", shown(request, options->lake_endpoint));
    json_member_string(&writer, "s3_bucket", shown(request, options->lake_bucket));
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

void ingest_index(struct request *request)
{
    static const char *const listed[] = {"/health", "/ingest", "/ingest/stream",
                                         "/flush",  "/tables", "/table/{name}/count"};
    const struct api_options *options = &request->api->options;
    struct buf body;
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    struct json_writer writer;
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "service", STR("DuckDB S3 Sidecar"));
    json_member_string(&writer, "version", STR("1.0.0"));
    json_member_string(&writer, "description",
                       STR("Takes JSON records into date-partitioned Parquet; served by Eider"));
    json_key(&writer, STR("endpoints"));
    json_begin_object(&writer);
    for (size_t i = 0; i < COUNT_OF(listed); i++) {
        for (size_t r = 0; r < api_routes_count; r++) {
            if (api_routes[r].personality == PERSONALITY_INGEST &&
                strcmp(api_routes[r].path, listed[i]) == 0) {
                json_member_string(&writer, listed[i], str_of(api_routes[r].summary));
            }
        }
    }
    json_end_object(&writer);
    json_key(&writer, STR("s3_config"));
    json_begin_object(&writer);
    json_member_string(&writer, "endpoint", shown(request, options->lake_endpoint));
    json_member_string(&writer, "bucket", shown(request, options->lake_bucket));
    json_member_string(&writer, "region", shown(request, options->lake_region));
    json_end_object(&writer);
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

/* ---- tables ---- */

void ingest_tables_check(struct request *request)
{
    struct err err;
    if (!request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
}

static bool add_name(void *context, struct str name)
{
    json_put_string(context, name);
    return true;
}

void ingest_tables_run(struct request *request)
{
    struct buf body;
    struct json_writer writer;
    struct err err;
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("success"));
    json_key(&writer, STR("tables"));
    json_begin_array(&writer);
    bool good = lake_visit_tables(request->api->options.lake, false, add_name, &writer,
                                  request->cancel, &err);
    json_end_array(&writer);
    json_end_object(&writer);
    if (good) {
        reply_buf(request, 200, &body);
    } else {
        reply_error(request, &err);
    }
    buf_finish(&body);
}

void ingest_count(struct request *request)
{
    struct buf reason;
    struct buf body;
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    struct str name = buf_str(&request->parameter);
    if (!ingest_check_known_table(name, &reason)) {
        ingest_reply_invalid(request, buf_str(&reason));
    } else {
        struct json_writer writer;
        json_writer_init(&writer, &body);
        json_begin_object(&writer);
        json_member_string(&writer, "status", STR("success"));
        json_member_string(&writer, "table_name", name);
        json_member_u64(&writer, "buffered_count",
                        lake_buffered_rows(request->api->options.lake, name));
        json_end_object(&writer);
        reply_buf(request, 200, &body);
    }
    buf_finish(&reason);
    buf_finish(&body);
}
