#include "api_queries.h"
#include "api_reply.h"

enum {
    LAST_LINE_MAX = 4096
};

static bool start_stream(struct request *request, struct err *err)
{
    struct http_reply_header headers[REQUEST_HEADERS_MAX];
    struct http_reply reply = {
        .status = 200,
        .content_type = reply_result_type(request),
        .headers = headers,
        .headers_count = reply_headers(request, headers),
    };
    http_stream_begin(request->exchange, &reply);
    request->streaming = true;
    queries_stream(request);
    queries_sent(request, request->held.len);
    bool good = http_stream_write(request->exchange, buf_str(&request->held), err);
    buf_finish(&request->held);
    return good;
}

bool result_pass(struct request *request, struct str bytes, struct err *err)
{
    if (!request->streaming && bytes.len <= HOLD_BACK_SIZE - request->held.len) {
        buf_append(&request->held, bytes);
        return !buf_failed(&request->held) ||
               err_set(err, ERR_UNAVAILABLE, "the server is out of memory");
    }
    request->line_open = bytes.len > 0 && bytes.ptr[bytes.len - 1] != '\n';
    if ((!request->streaming && !start_stream(request, err)) ||
        !http_stream_write(request->exchange, bytes, err)) {
        return false;
    }
    queries_sent(request, bytes.len);
    return true;
}

/* Who reads line by line gets the reason as a line, and then the cut. In the other formats only the
 * cut can be told from a result. */
static void abort_stream(struct request *request, const struct err *err)
{
    struct buf line;
    buf_init(&line, LAST_LINE_MAX);
    if (request->format == WORKER_FORMAT_NDJSON) {
        struct json_writer writer;
        if (request->line_open) {
            buf_append_byte(&line, '\n');
        }
        json_writer_init(&writer, &line);
        json_begin_object(&writer);
        json_member_string(&writer, "error", str_of(err->message));
        json_member_string(&writer, "code", str_of(err_kind_info(err->kind)->code));
        json_end_object(&writer);
        buf_append_byte(&line, '\n');
    }
    reply_log_failure(request, err_kind_info(err->kind)->http_status, err);
    http_stream_abort(request->exchange, buf_failed(&line) ? STR("") : buf_str(&line));
    buf_finish(&line);
}

void result_end(struct request *request, const struct err *err)
{
    if (request->streaming) {
        queries_end(request, err == NULL ? ERR_NONE : err->kind);
    }
    lane_leave();
    if (request->streaming && err == NULL) {
        http_stream_end(request->exchange);
    } else if (request->streaming) {
        abort_stream(request, err);
    } else if (err == NULL) {
        reply_result(request, buf_str(&request->held));
    } else {
        reply_error(request, err);
    }
}
