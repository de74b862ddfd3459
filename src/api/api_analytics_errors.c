#include "api_analytics.h"

#include <stdio.h>

enum {
    MESSAGE_SIZE = sizeof(((struct err *)0)->message)
};

/* The whole address that the client asked for, as far as its headers tell. */
static void append_address(const struct request *request, struct buf *into)
{
    struct str host = http_header(request->exchange, "Host");
    struct str query = http_query(request->exchange);
    buf_append_text(into, "http://");
    buf_append(into, host.ptr == NULL ? STR("localhost") : str_first(host, 255));
    buf_append(into, str_first(http_path(request->exchange), 4096));
    if (query.len > 0) {
        buf_append_byte(into, '?');
        buf_append(into, str_first(query, 4096));
    }
}

void analytics_error(const struct request *request, unsigned status, const struct err *err,
                     struct buf *body)
{
    struct json_writer writer;
    struct buf address;
    buf_init(&address, 16 << 10);
    append_address(request, &address);
    json_writer_init(&writer, body);
    json_begin_object(&writer);
    json_member_string(&writer, "detail", str_of(err->message));
    json_member_u64(&writer, "status_code", status);
    json_member_string(&writer, "path", buf_str(&address));
    json_end_object(&writer);
    buf_finish(&address);
}

void analytics_plain_error(const struct err *err, struct buf *body)
{
    struct json_writer writer;
    json_writer_init(&writer, body);
    json_begin_object(&writer);
    json_member_string(&writer, "detail", str_of(err->message));
    json_end_object(&writer);
}

/* ---- what a database said ---- */

struct wording {
    unsigned status;
    const char *class;
};

static struct wording wording_of(const struct database_outcome *outcome, const struct err *err)
{
    enum worker_fault fault = (enum worker_fault)outcome->run.done.fault;
    if (err->kind == ERR_TIMEOUT) {
        return (struct wording){408, "Query error: "};
    }
    if (fault == WORKER_FAULT_MEMORY) {
        return (struct wording){503, "Memory limit exceeded: "};
    }
    if (fault == WORKER_FAULT_ROOM) {
        return (struct wording){507, "Storage limit exceeded: "};
    }
    if (fault == WORKER_FAULT_IO || fault == WORKER_FAULT_ENGINE || outcome->run.died ||
        err->kind == ERR_UNAVAILABLE || err->kind == ERR_BUSY) {
        return (struct wording){503,
                                outcome->breaker_open ? "Query error: " : "Connection error: "};
    }
    if (fault == WORKER_FAULT_STATEMENT || fault == WORKER_FAULT_CONFLICT ||
        err->kind == ERR_INVALID || err->kind == ERR_UNPROCESSABLE) {
        return (struct wording){400, "Query error: "};
    }
    return (struct wording){err_kind_info(err->kind)->http_status, ""};
}

void analytics_reply_failure(struct request *request, const char *prefix,
                             const struct database_outcome *outcome, const struct err *err)
{
    struct wording wording = wording_of(outcome, err);
    struct err told = *err;
    const char *text = outcome->breaker_open ? "Circuit breaker 'duckdb' is OPEN" : err->message;
    char message[MESSAGE_SIZE + 64];
    uint32_t at = outcome->run.done.failed_at;
    if (at > 0) {
        (void)snprintf(message, sizeof(message), "%sBatch query %u failed: %s", prefix, at, text);
    } else {
        (void)snprintf(message, sizeof(message), "%s%s%s", prefix, wording.class, text);
    }
    (void)snprintf(told.message, sizeof(told.message), "%.*s", (int)sizeof(told.message) - 1,
                   message);
    if (outcome->retry_after_ms > 0) {
        request->retry_after_s = (unsigned)((outcome->retry_after_ms + 999) / 1000);
    }
    reply_status_error(request, wording.status, &told);
}
