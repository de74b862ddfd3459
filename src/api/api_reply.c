#include "api_reply.h"
#include "api_analytics.h"
#include "api_format.h"
#include "api_queries.h"
#include "clock.h"
#include "log.h"

#include <stdio.h>

enum {
    REPLY_BODY_MAX = 4 << 20
};

static const char *content_type_of(const struct request *request)
{
    return request->personality == PERSONALITY_SNAPSHOT ? "application/json; charset=utf-8"
                                                        : "application/json";
}

/* A weak ETag over the body, as the original snapshot service sends; for GET only. */
static void make_etag(struct str body, char text[static 40])
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < body.len; i++) {
        hash = (hash ^ (unsigned char)body.ptr[i]) * UINT64_C(1099511628211);
    }
    (void)snprintf(text, 40, "W/\"%zx-%016llx\"", body.len, (unsigned long long)hash);
}

/* If-None-Match is a list, or `*`; the comparison is weak. */
static bool matches_etag(struct str list, struct str etag)
{
    struct str item;
    struct str opaque = str_from(etag, 2);
    while (list.len > 0 && str_next_part(&list, ',', &item)) {
        item = str_trim(item);
        if (str_equal(item, etag) || str_equal(item, opaque) || str_equal(item, STR("*"))) {
            return true;
        }
    }
    return false;
}

static bool is_reading(const struct request *request)
{
    struct str method = http_method(request->exchange);
    return str_equal(method, STR("GET")) || str_equal(method, STR("HEAD"));
}

bool reply_matches_etag(const struct request *request, struct str etag)
{
    return matches_etag(http_header(request->exchange, "If-None-Match"), etag);
}

bool reply_cache_control_has(const struct request *request, struct str directive)
{
    struct str rest = http_header(request->exchange, "Cache-Control");
    struct str part;
    while (rest.ptr != NULL && str_next_part(&rest, ',', &part)) {
        if (str_equal_nocase(str_trim(part), directive)) {
            return true;
        }
    }
    return false;
}

void reply_add_header(struct request *request, const char *name, const char *value)
{
    assert(request->headers_count < REQUEST_HEADERS_MAX);
    struct request_header *header = &request->headers[request->headers_count++];
    header->name = name;
    (void)snprintf(header->value, sizeof(header->value), "%s", value);
}

void reply_add_result_header(struct request *request, const char *name, const char *value)
{
    reply_add_header(request, name, value);
    request->headers[request->headers_count - 1].of_result = true;
}

static void drop_result_headers(struct request *request)
{
    size_t kept = 0;
    for (size_t i = 0; i < request->headers_count; i++) {
        if (!request->headers[i].of_result) {
            request->headers[kept++] = request->headers[i];
        }
    }
    request->headers_count = kept;
}

void reply_drop_header(struct request *request, const char *name)
{
    size_t kept = 0;
    for (size_t i = 0; i < request->headers_count; i++) {
        if (strcmp(request->headers[i].name, name) != 0) {
            request->headers[kept++] = request->headers[i];
        }
    }
    request->headers_count = kept;
}

size_t reply_headers(const struct request *request, struct http_reply_header *into)
{
    for (size_t i = 0; i < request->headers_count; i++) {
        const struct request_header *header = &request->headers[i];
        into[i] = (struct http_reply_header){header->name, header->value};
    }
    return request->headers_count;
}

static void send(struct request *request, unsigned status, const char *content_type,
                 struct str body)
{
    struct http_reply reply = {.status = status, .content_type = content_type};
    struct http_reply_header headers[REQUEST_HEADERS_MAX + 1];
    reply.headers = headers;
    reply.headers_count = reply_headers(request, headers);
    char retry_after[16];
    if (status == 503) {
        unsigned seconds = request->retry_after_s == 0 ? 2 : request->retry_after_s;
        (void)snprintf(retry_after, sizeof(retry_after), "%u", seconds);
        headers[reply.headers_count++] = (struct http_reply_header){"Retry-After", retry_after};
    }
    reply.close = request->close;
    queries_answer(request, status, body.len);
    lane_leave();                  /* who has the answer finds the place free, */
    request_release_body(request); /* and its bytes too */
    http_reply(request->exchange, &reply, body);
}

void reply_json(struct request *request, unsigned status, struct str body)
{
    char etag[40];
    if (request->personality == PERSONALITY_SNAPSHOT && is_reading(request) && status == 200) {
        make_etag(body, etag);
        reply_add_header(request, "ETag", etag);
        if (reply_matches_etag(request, str_of(etag))) {
            reply_not_modified(request);
            return;
        }
    }
    send(request, status, content_type_of(request), body);
}

void reply_not_modified(struct request *request)
{
    send(request, 304, NULL, STR(""));
}

void reply_result(struct request *request, struct str body)
{
    send(request, 200, reply_result_type(request), body);
}

const char *reply_result_type(const struct request *request)
{
    const char *type = format_content_type(request->format);
    return type != NULL ? type : content_type_of(request);
}

void reply_buf(struct request *request, unsigned status, const struct buf *body)
{
    if (buf_failed(body)) {
        struct err err;
        (void)err_set(&err, ERR_INTERNAL, "the answer is larger than the server can build");
        reply_error(request, &err);
        return;
    }
    reply_json(request, status, buf_str(body));
}

void reply_begin_object(struct buf *body, size_t size_max, struct json_writer *writer)
{
    buf_init(body, size_max);
    json_writer_init(writer, body);
    json_begin_object(writer);
}

void reply_end_object(struct request *request, unsigned status, struct buf *body,
                      struct json_writer *writer)
{
    json_end_object(writer);
    reply_buf(request, status, body);
    buf_finish(body);
}

static void write_error(const struct request *request, const struct err *err,
                        struct json_writer *writer)
{
    json_begin_object(writer);
    json_member_string(writer, "error", str_of(err->message));
    if (request->personality != PERSONALITY_SNAPSHOT) {
        json_member_string(writer, "code", str_of(err_kind_info(err->kind)->code));
        json_member_string(writer, "request_id", http_request_id(request->exchange));
    }
    json_end_object(writer);
}

/* What a person who runs the server needs and the client does not get. */
void reply_log_failure(const struct request *request, unsigned status, const struct err *err)
{
    if (status >= 500 && err->kind != ERR_BUSY && err->kind != ERR_NOT_IMPLEMENTED) {
        LOG(LOG_WARN, "api.request_failed", LOG_TEXT("request", http_request_id(request->exchange)),
            LOG_TEXT("code", str_of(err_kind_info(err->kind)->code)), LOG_NUM("status", status),
            LOG_ERR(err));
    }
}

void reply_status_error(struct request *request, unsigned status, const struct err *err)
{
    queries_end(request, err->kind);
    reply_log_failure(request, status, err);
    drop_result_headers(request);
    struct buf body;
    buf_init(&body, REPLY_BODY_MAX);
    if (request->personality == PERSONALITY_INGEST) {
        ingest_error(request, status, err, &body);
    } else if (request->personality == PERSONALITY_ANALYTICS) {
        analytics_error(request, status, err, &body);
    } else {
        struct json_writer writer;
        json_writer_init(&writer, &body);
        write_error(request, err, &writer);
    }
    /* An error is small: only a lack of memory cuts it. */
    reply_json(request, status, buf_failed(&body) ? STR("{}") : buf_str(&body));
    buf_finish(&body);
}

void reply_error(struct request *request, const struct err *err)
{
    /* A put that ran out of time leaves its outcome open, and is late all the same. */
    bool late = err->kind == ERR_UNCERTAIN && clock_now_ms() >= request->cancel->deadline_ms;
    /* Who brings keys is told that they do not suffice; the server's own are the server's fault. */
    bool denied = err->kind == ERR_STORE_DENIED && request->own_keys;
    enum err_kind kind = late ? ERR_TIMEOUT : denied ? ERR_FORBIDDEN : err->kind;
    reply_status_error(request, err_kind_info(kind)->http_status, err);
}

void reply_not_found(struct request *request)
{
    struct err err;
    if (request->personality == PERSONALITY_ANALYTICS) {
        reply_json(request, 404, STR("{\"detail\":\"Not Found\"}"));
        return;
    }
    if (request->personality == PERSONALITY_INGEST) {
        (void)err_set(&err, ERR_NOT_FOUND, "Not Found");
    } else if (request->personality == PERSONALITY_SNAPSHOT) {
        (void)err_set(&err, ERR_NOT_FOUND, "Cannot %.*s %.*s",
                      STR_ARG(http_method(request->exchange)),
                      STR_ARG(str_first(http_path(request->exchange), 200)));
    } else {
        (void)err_set(&err, ERR_NOT_FOUND, "there is no %.*s here; GET / lists what there is",
                      STR_ARG(str_first(http_path(request->exchange), 200)));
    }
    reply_error(request, &err);
}

void reply_not_there(struct request *request)
{
    struct err err;
    (void)err_set(&err, ERR_NOT_IMPLEMENTED, "this service is not part of this version of Eider");
    reply_error(request, &err);
}

static void reply_with_allow(struct request *request, unsigned status, const char *content_type,
                             const char *allow, struct str body)
{
    struct http_reply_header header = {"Allow", allow};
    struct http_reply reply = {
        .status = status,
        .content_type = content_type,
        .headers = &header,
        .headers_count = 1,
    };
    http_reply(request->exchange, &reply, body);
}

/* The snapshot personality answers 404 for a wrong method, and OPTIONS with the methods as text;
 * all others 405. */
void reply_wrong_method(struct request *request, const char *allow)
{
    if (request->personality == PERSONALITY_SNAPSHOT) {
        if (str_equal(http_method(request->exchange), STR("OPTIONS"))) {
            const char *methods = strcmp(allow, "GET") == 0 ? "GET, HEAD" : allow;
            reply_with_allow(request, 200, "text/plain; charset=utf-8", methods, str_of(methods));
        } else {
            reply_not_found(request);
        }
        return;
    }
    struct err err;
    bool like_fastapi =
        request->personality == PERSONALITY_INGEST || request->personality == PERSONALITY_ANALYTICS;
    if (like_fastapi) {
        (void)err_set(&err, ERR_METHOD, "Method Not Allowed");
    } else {
        (void)err_set(&err, ERR_METHOD, "this path wants %s", allow);
    }
    struct buf body;
    buf_init(&body, REPLY_BODY_MAX);
    if (request->personality == PERSONALITY_INGEST) {
        ingest_error(request, 405, &err, &body);
    } else if (request->personality == PERSONALITY_ANALYTICS) {
        analytics_plain_error(&err, &body);
    } else {
        struct json_writer writer;
        json_writer_init(&writer, &body);
        write_error(request, &err, &writer);
    }
    reply_with_allow(request, 405, content_type_of(request), allow, buf_str(&body));
    buf_finish(&body);
}

void reply_busy(struct request *request, const char *text, const struct lane_counts *counts)
{
    struct buf body;
    struct json_writer writer;
    buf_init(&body, REPLY_BODY_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "error", str_of(text));
    json_member_string(&writer, "status", STR("busy"));
    json_member_u64(&writer, "queue_running", counts->running);
    json_member_u64(&writer, "queue_queued", counts->queued);
    json_end_object(&writer);
    reply_buf(request, 503, &body);
    buf_finish(&body);
}
