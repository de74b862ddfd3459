#include "http_private.h"

#include "clock.h"
#include "mem.h"

#include <sys/socket.h>

/* How much libmicrohttpd asks for at once where a reply is not chunked (HTTP/1.0). */
#define READ_BLOCK_BYTES ((size_t)32 << 10)
/* A raised cancel does not signal our condition, so a blocked writer looks at it this often. */
#define WRITER_LOOK_MS 20
/* A blocked writer is woken when no more than this is unsent: each wake-up is to be worth it. */
#define WRITER_ROOM_BYTES (HTTP_RING_BYTES / 2)

/* ---- making a response ---- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    /* Refused when the value has line breaks: then it is left out rather than sent broken. */
    (void)MHD_add_response_header(response, name, value);
}

/* Trailer fields, which forbid to go on, may arrive while an early reply is being made. */
static bool must_close(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    bool close = exchange->close;
    lock_release(&exchange->lock);
    return close;
}

static void add_headers(struct http_exchange *exchange, struct MHD_Response *response,
                        const struct http_reply *reply)
{
    if (reply->content_type != NULL) {
        add_header(response, "Content-Type", reply->content_type);
    }
    for (size_t i = 0; i < reply->headers_count; i++) {
        add_header(response, reply->headers[i].name, reply->headers[i].value);
    }
    add_header(response, "X-Request-Id", exchange->request.id);
    if (reply->close || must_close(exchange)) {
        add_header(response, "Connection", "close");
    }
}

static enum MHD_Result append_raw_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                         const char *value)
{
    (void)kind;
    struct buf *raw = cls;
    if (!str_equal_nocase(str_of(name), STR("Connection"))) {
        buf_append_format(raw, "%s: %s\r\n", name, value);
    }
    return MHD_YES;
}

/* The same reply as text, with the header fields that libmicrohttpd accepted. */
static void compose_raw(struct http_exchange *exchange, struct MHD_Response *response,
                        unsigned status, struct str body)
{
    struct buf *raw = &exchange->raw;
    buf_init(raw, body.len + 65536);
    buf_append_format(raw, "HTTP/1.1 %u %s\r\n", status, MHD_get_reason_phrase_for(status));
    (void)MHD_get_response_headers(response, append_raw_header, raw);
    buf_append_format(raw, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body.len);
    if (!exchange->request.head) {
        buf_append(raw, body);
    }
}

void http_send_raw(struct http_exchange *exchange)
{
    bool composed = exchange->raw.len > 0 && !buf_failed(&exchange->raw);
    if (composed && !exchange->told) {
        int fd = exchange->connection->fd;
        (void)send(fd, exchange->raw.ptr, exchange->raw.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        exchange->status_sent = exchange->status;
        exchange->told = true;
    }
}

/* Gives the reply to the http side. When that has gone, the response is destroyed with the
 * exchange. */
static void hand_over(struct http_exchange *exchange, struct MHD_Response *response,
                      unsigned status, enum http_state state, uint64_t reply_bytes)
{
    struct MHD_Connection *resumed = NULL;
    lock_take(&exchange->lock);
    assert(exchange->response == NULL);
    exchange->response = response;
    exchange->status = status;
    if (exchange->state != HTTP_GONE) {
        exchange->reply_bytes = reply_bytes;
        http_exchange_enter(exchange, state);
        if (exchange->streams) {
            http_upload_settle(exchange);
        }
        resumed = http_exchange_take_resume(exchange);
    }
    struct http_server *server = exchange->server;
    lock_release(&exchange->lock);
    http_tell_resume(server, resumed);
}

static bool is_receiving(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    bool receiving = exchange->state == HTTP_HEADER || exchange->state == HTTP_BODY ||
                     (exchange->streams && !exchange->body_ended);
    lock_release(&exchange->lock);
    return receiving;
}

void http_reply(struct http_exchange *exchange, const struct http_reply *reply, struct str body)
{
    assert(reply->status >= 200 && reply->status <= 599);
    /* libmicrohttpd only reads what it copies, though its argument is not const. */
    void *bytes = (void *)(uintptr_t)body.ptr;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body.len, bytes, MHD_RESPMEM_MUST_COPY);
    if (response != NULL) {
        add_headers(exchange, response, reply);
        if (is_receiving(exchange)) {
            compose_raw(exchange, response, reply->status, body);
        }
    }
    /* An exchange that was not deferred still belongs to the http thread that called us. */
    bool deferred = exchange->deferred;
    hand_over(exchange, response, reply->status, HTTP_ANSWERED,
              exchange->request.head ? 0 : body.len);
    if (deferred) {
        http_exchange_release(exchange);
    }
}

/* ---- streaming ---- */

/* libmicrohttpd closes the connection. In HTTP/1.0 that is how a whole body ends too: only a reset
 * tells the client that it has not got all. */
static ssize_t end_badly(const struct http_exchange *exchange)
{
    if (exchange->request.is_http_1_0) {
        static const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
        (void)connect(exchange->connection->fd, &nobody, sizeof(nobody));
    }
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static ssize_t wait_for_writer(struct http_exchange *exchange) REQUIRES(&exchange->lock);

/* Nothing to send yet: wait for the writer, unless there is nobody to send it to. */
static ssize_t wait_for_writer(struct http_exchange *exchange)
{
    bool stopping = atomic_load(&exchange->server->stopping);
    if (stopping || atomic_load(&exchange->connection->left)) {
        cancel_raise(&exchange->cancel, stopping ? ERR_UNAVAILABLE : ERR_CANCELLED);
        http_exchange_enter(exchange, HTTP_GONE);
        return end_badly(exchange);
    }
    http_exchange_suspend(exchange);
    return 0;
}

/* libmicrohttpd asks for the next bytes, when the socket has taken what it got before. */
static ssize_t read_stream(void *cls, uint64_t position, char *into, size_t size_max)
{
    (void)position;
    struct http_exchange *exchange = cls;
    ssize_t result;
    lock_take(&exchange->lock);
    if (exchange->state == HTTP_GONE) {
        result = end_badly(exchange);
    } else if (exchange->ring.len > 0) {
        result = (ssize_t)http_ring_get(&exchange->ring, into, size_max);
        exchange->reply_bytes += (uint64_t)result;
        http_connection_enter(exchange->connection, HTTP_PHASE_WRITE);
        if (exchange->ring.len <= WRITER_ROOM_BYTES) {
            condition_broadcast(&exchange->changed);
        }
    } else if (exchange->aborted) {
        result = end_badly(exchange);
    } else if (exchange->state == HTTP_ANSWERED) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
        http_connection_enter(exchange->connection, HTTP_PHASE_WRITE);
    } else {
        result = wait_for_writer(exchange);
    }
    lock_release(&exchange->lock);
    return result;
}

/* libmicrohttpd sends nothing while a body arrives. */
static bool may_stream(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    bool may = !exchange->streams || exchange->body_ended || exchange->state == HTTP_GONE;
    lock_release(&exchange->lock);
    return may;
}

void http_stream_begin(struct http_exchange *exchange, const struct http_reply *reply)
{
    assert(exchange->deferred);
    assert(reply->status >= 200 && reply->status <= 599);
    assert(may_stream(exchange));
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, READ_BLOCK_BYTES, read_stream, exchange, NULL);
    if (response != NULL) {
        add_headers(exchange, response, reply);
        if (exchange->request.head) {
            /* libmicrohttpd would end the empty body of a chunked reply with a chunk, which the
             * client would take for the next reply. Not chunked, and without a length, it closes
             * the connection instead. */
            (void)MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
        }
    }
    http_ring_open(&exchange->ring);
    hand_over(exchange, response, reply->status, HTTP_STREAMING, 0);
}

static bool still_wanted(struct http_exchange *exchange, struct err *err)
{
    if (!cancel_check(&exchange->cancel, err)) {
        return false;
    }
    if (exchange->state != HTTP_STREAMING) {
        return err_set(err, ERR_CANCELLED, "the client closed the connection");
    }
    return true;
}

bool http_stream_write(struct http_exchange *exchange, struct str bytes, struct err *err)
{
    static const size_t written_max = HTTP_RING_BYTES - HTTP_STREAM_LAST_MAX;
    lock_take(&exchange->lock);
    bool wanted = still_wanted(exchange, err);
    if (exchange->request.head) {
        bytes.len = 0; /* the header is all that is sent */
    }
    while (wanted && bytes.len > 0) {
        if (exchange->ring.len < written_max) {
            bytes = str_from(bytes, http_ring_put(&exchange->ring, bytes, written_max));
            http_exchange_resume(exchange);
        } else {
            int wait_ms = cancel_left_ms(&exchange->cancel, WRITER_LOOK_MS);
            (void)condition_wait_until(&exchange->changed, &exchange->lock,
                                       clock_now_ms() + wait_ms);
            wanted = still_wanted(exchange, err);
        }
    }
    lock_release(&exchange->lock);
    return wanted;
}

static void finish_stream(struct http_exchange *exchange, bool aborted, struct str last)
{
    lock_take(&exchange->lock);
    if (exchange->state != HTTP_GONE) {
        exchange->aborted = aborted;
        if (!exchange->request.head) {
            (void)http_ring_put(&exchange->ring, last, HTTP_RING_BYTES);
        }
        http_exchange_enter(exchange, HTTP_ANSWERED);
        http_exchange_resume(exchange);
    }
    lock_release(&exchange->lock);
    http_exchange_release(exchange);
}

void http_stream_end(struct http_exchange *exchange)
{
    finish_stream(exchange, false, STR(""));
}

void http_stream_abort(struct http_exchange *exchange, struct str last)
{
    finish_stream(exchange, true, last);
}
