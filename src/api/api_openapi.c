#include "api_internal.h"

/* clang-format off */
/* What the ingest service said of itself: seven paths, four schemas. Kept as text, because it
 * describes a contract that does not change. */
#define STRING_QUERY(name_, required_)                                                             \
    "{\"name\":\"" name_ "\",\"in\":\"query\",\"required\":" required_                             \
    ",\"schema\":{\"type\":\"string\"}}"
#define JSON_BODY(schema_)                                                                         \
    "\"requestBody\":{\"required\":true,\"content\":{\"application/json\":{\"schema\":{\"$ref\":"   \
    "\"#/components/schemas/" schema_ "\"}}}},"
#define OK "\"200\":{\"description\":\"Successful Response\",\"content\":{\"application/json\":{}}}"
#define INVALID                                                                                    \
    "\"422\":{\"description\":\"Validation Error\",\"content\":{\"application/json\":{\"schema\":"  \
    "{\"$ref\":\"#/components/schemas/HTTPValidationError\"}}}}"
#define GET(path_, summary_)                                                                       \
    "\"" path_ "\":{\"get\":{\"summary\":\"" summary_ "\",\"responses\":{" OK "}}}"

static const char openapi_text[] =
    "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"DuckDB S3 Sidecar\",\"version\":\"1.0.0\"},"
    "\"paths\":{" GET("/", "Service information") "," GET("/health", "Health check") ","
    "\"/ingest\":{\"post\":{\"summary\":\"Ingest a batch of records\"," JSON_BODY("DataBatch")
    "\"responses\":{" OK "," INVALID "}}},"
    "\"/ingest/stream\":{\"post\":{\"summary\":\"Ingest one record\",\"parameters\":["
    STRING_QUERY("table_name", "true") "]," JSON_BODY("DataRecord")
    "\"responses\":{" OK "," INVALID "}}},"
    "\"/flush\":{\"post\":{\"summary\":\"Flush buffered records\",\"parameters\":["
    STRING_QUERY("table_name", "true") "," STRING_QUERY("partition_date", "false")
    "],\"responses\":{" OK "," INVALID "}}},"
    GET("/tables", "List tables") ","
    "\"/table/{name}/count\":{\"get\":{\"summary\":\"Buffered records of a table\",\"parameters\":["
    "{\"name\":\"name\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"}}],"
    "\"responses\":{" OK "," INVALID "}}}},"
    "\"components\":{\"schemas\":{"
    "\"DataBatch\":{\"title\":\"DataBatch\",\"type\":\"object\",\"required\":[\"table_name\","
    "\"records\"],\"properties\":{\"table_name\":{\"type\":\"string\"},\"records\":{\"type\":"
    "\"array\",\"items\":{\"type\":\"object\"}},\"partition_date\":{\"anyOf\":[{\"type\":"
    "\"string\"},{\"type\":\"null\"}]}}},"
    "\"DataRecord\":{\"title\":\"DataRecord\",\"type\":\"object\",\"required\":[\"data\"],"
    "\"properties\":{\"data\":{\"type\":\"object\"}}},"
    "\"HTTPValidationError\":{\"title\":\"HTTPValidationError\",\"type\":\"object\","
    "\"properties\":{\"detail\":{\"type\":\"array\",\"items\":{\"$ref\":"
    "\"#/components/schemas/ValidationError\"}}}},"
    "\"ValidationError\":{\"title\":\"ValidationError\",\"type\":\"object\",\"required\":[\"loc\","
    "\"msg\",\"type\"],\"properties\":{\"loc\":{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":"
    "\"string\"},{\"type\":\"integer\"}]}},\"msg\":{\"type\":\"string\"},\"type\":{\"type\":"
    "\"string\"}}}}}}";
/* clang-format on */

/* A page without scripts from elsewhere: the list of routes, and where the machine-readable
 * description is. */
static void append_docs(struct buf *page)
{
    buf_append_text(page, "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\">"
                          "<title>DuckDB S3 Sidecar</title><h1>DuckDB S3 Sidecar</h1>"
                          "<p>Machine-readable: <a href=\"/openapi.json\">openapi.json</a></p>"
                          "<table><tr><th>Method<th>Path<th>What it does");
    for (size_t i = 0; i < api_routes_count; i++) {
        if (api_routes[i].personality == PERSONALITY_INGEST ||
            api_routes[i].personality == PERSONALITY_LAKE) {
            buf_append_format(page, "<tr><td>%s<td><code>%s</code><td>%s", api_routes[i].method,
                              api_routes[i].path, api_routes[i].summary);
        }
    }
    buf_append_text(page, "</table></html>\n");
}

void ingest_docs(struct request *request)
{
    struct buf page;
    buf_init(&page, 64 * 1024);
    append_docs(&page);
    struct http_reply reply = {.status = 200, .content_type = "text/html; charset=utf-8"};
    http_reply(request->exchange, &reply, buf_str(&page));
    buf_finish(&page);
}

void ingest_openapi(struct request *request)
{
    reply_json(request, 200, str_of(openapi_text));
}
