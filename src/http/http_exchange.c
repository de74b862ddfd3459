#include "http_private.h"

#include "clock.h"
#include "mem.h"

/* ---- life and state ---- */

struct http_exchange *http_exchange_create(struct http_connection *connection,
                                           struct MHD_Connection *mhd, const char *target)
{
    struct http_exchange *exchange = mem_alloc(sizeof(*exchange));
    exchange->server = connection->listener->server;
    exchange->connection = connection;
    exchange->tag = connection->listener->tag;
    exchange->mhd = mhd;
    exchange->start_us = clock_now_us();
    exchange->state = HTTP_HEADER;
    exchange->in_header = true;
    atomic_init(&exchange->references, 1);
    atomic_init(&exchange->body_received, 0);
    lock_init(&exchange->lock, LOCK_EXCHANGE);
    condition_init(&exchange->changed);
    http_request_set_target(&exchange->request, target);
    memcpy(exchange->request.address, connection->address, sizeof(connection->address));
    if (!connection->fresh) {
        /* The first header's time runs from accept; a later one's from its request line. */
        http_connection_enter(connection, HTTP_PHASE_HEADER);
    }
    connection->fresh = false;
    http_connection_set_exchange(connection, exchange);
    return exchange;
}

void http_exchange_reference(struct http_exchange *exchange)
{
    unsigned before = atomic_fetch_add(&exchange->references, 1);
    assert(before > 0);
    (void)before;
}

static void leave_count(struct http_server *server)
{
    lock_take(&server->lock);
    assert(server->exchanges_count > 0);
    server->exchanges_count--;
    if (server->exchanges_count == 0) {
        condition_broadcast(&server->idle);
    }
    lock_release(&server->lock);
}

static void exchange_destroy(struct http_exchange *exchange)
{
    struct http_server *server = exchange->server;
    const struct http_handlers *handlers = &server->options.handlers;
    bool begun = exchange->begun;
    if (begun && handlers->done != NULL) {
        handlers->done(handlers->context, exchange, exchange->status_sent, exchange->reply_bytes,
                       clock_now_us() - exchange->start_us);
    }
    if (exchange->finish != NULL) {
        exchange->finish(exchange->context);
    }
    if (exchange->response != NULL) {
        MHD_destroy_response(exchange->response);
    }
    if (exchange->cancel_made) {
        cancel_finish(&exchange->cancel);
    }
    http_request_finish(&exchange->request);
    buf_finish(&exchange->body);
    buf_finish(&exchange->raw);
    http_ring_close(&exchange->ring);
    http_upload_destroy(exchange->upload);
    condition_finish(&exchange->changed);
    lock_finish(&exchange->lock);
    mem_free(exchange);
    if (begun) {
        leave_count(server); /* the server may be gone after this */
    }
}

void http_exchange_release(struct http_exchange *exchange)
{
    if (atomic_fetch_sub(&exchange->references, 1) == 1) {
        exchange_destroy(exchange);
    }
}

void http_exchange_enter(struct http_exchange *exchange, enum http_state state)
{
    static const bool allowed[HTTP_STATE_COUNT][HTTP_STATE_COUNT] = {
        [HTTP_HEADER] = {[HTTP_BODY] = true, [HTTP_ANSWERED] = true, [HTTP_GONE] = true},
        [HTTP_BODY] = {[HTTP_READY] = true, [HTTP_ANSWERED] = true, [HTTP_GONE] = true},
        [HTTP_READY] = {[HTTP_WAITING] = true, [HTTP_ANSWERED] = true, [HTTP_GONE] = true},
        [HTTP_WAITING] = {[HTTP_STREAMING] = true, [HTTP_ANSWERED] = true, [HTTP_GONE] = true},
        [HTTP_STREAMING] = {[HTTP_ANSWERED] = true, [HTTP_GONE] = true},
        [HTTP_ANSWERED] = {[HTTP_GONE] = true},
    };
    assert(allowed[exchange->state][state]);
    exchange->state = state;
    condition_broadcast(&exchange->changed);
}

static bool deferring_side_waits(const struct http_exchange *exchange)
{
    return exchange->state == HTTP_WAITING || exchange->state == HTTP_STREAMING;
}

void http_exchange_suspend(struct http_exchange *exchange)
{
    assert(!exchange->suspended);
    http_connection_enter(exchange->connection, HTTP_PHASE_BUSY);
    exchange->suspended = true;
    MHD_suspend_connection(exchange->mhd);
}

struct MHD_Connection *http_exchange_take_resume(struct http_exchange *exchange)
{
    if (!exchange->suspended) {
        return NULL;
    }
    exchange->suspended = false;
    atomic_fetch_add(&exchange->server->resuming, 1);
    return exchange->mhd;
}

/* Until then libmicrohttpd leaves the connection alone; afterwards it may be gone, and the exchange
 * of whoever holds no reference too. */
void http_tell_resume(struct http_server *server, struct MHD_Connection *mhd)
{
    if (mhd != NULL) {
        MHD_resume_connection(mhd);
        atomic_fetch_sub(&server->resuming, 1);
    }
}

void http_exchange_resume(struct http_exchange *exchange)
{
    http_tell_resume(exchange->server, http_exchange_take_resume(exchange));
}

void http_exchange_leave(struct http_exchange *exchange, enum err_kind reason)
{
    lock_take(&exchange->lock);
    bool wakes = false;
    if (deferring_side_waits(exchange)) {
        cancel_raise(&exchange->cancel, reason);
        condition_broadcast(&exchange->changed);
        wakes = http_upload_unpark(exchange);
        if (exchange->suspended) {
            http_exchange_enter(exchange, HTTP_GONE);
            http_exchange_resume(exchange);
        }
    }
    lock_release(&exchange->lock);
    if (wakes) {
        http_upload_wake(exchange);
    }
}

void http_exchange_complete(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    http_connection_set_exchange(connection, NULL);
    http_connection_enter(connection, HTTP_PHASE_IDLE);
    lock_take(&exchange->lock);
    if (deferring_side_waits(exchange)) {
        cancel_raise(&exchange->cancel, ERR_CANCELLED);
    }
    if (exchange->state != HTTP_GONE) {
        http_exchange_enter(exchange, HTTP_GONE);
    }
    assert(!exchange->suspended);
    exchange->mhd = NULL;
    bool wakes = http_upload_unpark(exchange);
    lock_release(&exchange->lock);
    exchange->connection = NULL;
    if (wakes) {
        http_upload_wake(exchange);
    }
    http_exchange_release(exchange);
}

/* ---- what libmicrohttpd asks ---- */

static enum http_state state_of(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    enum http_state state = exchange->state;
    lock_release(&exchange->lock);
    return state;
}

static void refuse(struct http_exchange *exchange, const struct err *err)
{
    const struct http_handlers *handlers = &exchange->server->options.handlers;
    handlers->refuse(handlers->context, exchange, err);
    assert(state_of(exchange) == HTTP_ANSWERED); /* refuse answers */
    buf_finish(&exchange->body);
}

static void refuse_size(struct http_exchange *exchange)
{
    struct err err;
    (void)err_set(&err, ERR_TOO_LARGE, "the request body is larger than %llu bytes",
                  (unsigned long long)exchange->body_bytes_max);
    refuse(exchange, &err);
}

/* Hands the reply to libmicrohttpd, which accepts one only before the body and after it. */
static enum MHD_Result queue_reply(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    struct MHD_Response *response = NULL;
    if (exchange->state == HTTP_ANSWERED || exchange->state == HTTP_STREAMING) {
        response = TAKE(exchange->response);
        exchange->status_sent = exchange->status;
    }
    struct MHD_Connection *mhd = exchange->mhd;
    lock_release(&exchange->lock);
    if (response == NULL) {
        return MHD_NO;
    }
    http_connection_enter(exchange->connection, HTTP_PHASE_WRITE);
    enum MHD_Result result = MHD_queue_response(mhd, exchange->status_sent, response);
    MHD_destroy_response(response);
    return result;
}

static bool must_answer_now(const struct http_exchange *exchange)
{
    const struct http_request *request = &exchange->request;
    uint64_t wanted = exchange->body_bytes_max; /* 0 when begin has answered */
    uint64_t excess = request->content_length > wanted ? request->content_length - wanted : 0;
    return exchange->answer_now || request->expects_continue || excess > HTTP_DISCARD_BYTES_MAX;
}

static void run_begin(struct http_exchange *exchange)
{
    const struct http_handlers *handlers = &exchange->server->options.handlers;
    handlers->begin(handlers->context, exchange);
    if (state_of(exchange) == HTTP_HEADER) {
        http_accept_body(exchange, 0);
    }
    if (state_of(exchange) == HTTP_BODY &&
        exchange->request.content_length > exchange->body_bytes_max) {
        refuse_size(exchange);
    }
}

static void answer_long_header(struct http_exchange *exchange)
{
    struct http_reply reply = {.status = 431, .content_type = "text/plain", .close = true};
    http_reply(exchange, &reply, STR("the request header is too large\n"));
}

static void send_raw(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    http_send_raw(exchange);
    lock_release(&exchange->lock);
}

static void run_ready(struct http_exchange *exchange)
{
    const struct http_handlers *handlers = &exchange->server->options.handlers;
    lock_take(&exchange->lock);
    http_exchange_enter(exchange, HTTP_READY);
    lock_release(&exchange->lock);
    handlers->ready(handlers->context, exchange);
    assert(exchange->deferred || state_of(exchange) == HTTP_ANSWERED); /* one of the two */
}

static enum MHD_Result serve_header(struct http_exchange *exchange, const char *method,
                                    const char *version)
{
    struct http_server *server = exchange->server;
    exchange->begun = true;
    exchange->discard_left = HTTP_DISCARD_BYTES_MAX;
    lock_take(&server->lock);
    server->exchanges_count++;
    lock_release(&server->lock);
    http_connection_enter(exchange->connection, HTTP_PHASE_BODY);

    struct err err;
    if (http_request_load(&exchange->request, exchange->mhd, method, version, &err)) {
        run_begin(exchange);
    } else {
        /* Where this request ends is not known: nothing that follows it may be read. */
        exchange->answer_now = true;
        exchange->close = true;
        if (err.kind == ERR_TOO_LARGE) {
            answer_long_header(exchange);
        } else {
            refuse(exchange, &err);
        }
    }
    exchange->in_header = false;
    if (state_of(exchange) == HTTP_ANSWERED && must_answer_now(exchange)) {
        return queue_reply(exchange);
    }
    /* A small body that is not wanted is soon read, and the connection stays usable. */
    uint64_t unwanted = exchange->request.content_length;
    if (state_of(exchange) == HTTP_ANSWERED && unwanted > HTTP_BODY_STEP_BYTES) {
        send_raw(exchange);
    }
    return MHD_YES;
}

/* A step ahead, but never beyond the end of the body as far as that is known. */
static bool grow_body(struct http_exchange *exchange, uint64_t size)
{
    const struct http_handlers *handlers = &exchange->server->options.handlers;
    if (handlers->grow == NULL || size <= exchange->body_granted) {
        return true;
    }
    uint64_t most = exchange->body.size_max;
    if (!exchange->request.chunked && exchange->request.content_length < most) {
        most = exchange->request.content_length;
    }
    assert(size <= most);
    bool near_end = most - exchange->body_granted < HTTP_BODY_STEP_BYTES;
    uint64_t step_end = near_end ? most : exchange->body_granted + HTTP_BODY_STEP_BYTES;
    uint64_t wanted = size > step_end ? size : step_end;
    if (!handlers->grow(handlers->context, exchange, wanted)) {
        return false;
    }
    exchange->body_granted = wanted;
    return true;
}

static void refuse_kind(struct http_exchange *exchange, enum err_kind kind, const char *text)
{
    struct err err;
    (void)err_set(&err, kind, "%s", text);
    refuse(exchange, &err);
}

static void keep_bytes(struct http_exchange *exchange, struct str bytes)
{
    if (!grow_body(exchange, exchange->body.len + bytes.len)) {
        refuse_kind(exchange, ERR_BUSY,
                    "the server holds as much request data as it may; retry shortly");
        return;
    }
    buf_append(&exchange->body, bytes);
    if (buf_failed(&exchange->body)) {
        refuse_kind(exchange, ERR_UNAVAILABLE, "the server is out of memory");
    }
}

/* The beginning of a streamed body: true when there is more than is collected before `ready`. */
static bool collect(struct http_exchange *exchange, struct str *bytes)
{
    struct str kept = str_first(*bytes, HTTP_RING_BYTES - exchange->body.len);
    http_connection_enter(exchange->connection, HTTP_PHASE_BODY);
    if (bytes->len > exchange->body_bytes_max - exchange->body.len) {
        refuse_size(exchange);
        return false;
    }
    *bytes = str_from(*bytes, kept.len);
    keep_bytes(exchange, kept);
    atomic_fetch_add(&exchange->body_received, kept.len);
    return bytes->len > 0 && state_of(exchange) == HTTP_BODY;
}

static enum MHD_Result serve_stream(struct http_exchange *exchange, struct str bytes,
                                    size_t *ret_left)
{
    if (state_of(exchange) == HTTP_BODY && collect(exchange, &bytes)) {
        http_upload_open(exchange);
        run_ready(exchange);
    }
    if (exchange->not_suspended) {
        return MHD_NO;
    }
    size_t taken = 0;
    enum MHD_Result result = MHD_YES;
    if (bytes.len > 0) {
        result = http_upload_serve(exchange, bytes, &taken);
    }
    *ret_left = bytes.len - taken;
    return result;
}

static enum MHD_Result serve_body(struct http_exchange *exchange, struct str bytes)
{
    http_connection_enter(exchange->connection, HTTP_PHASE_BODY);
    if (state_of(exchange) == HTTP_BODY) {
        if (bytes.len > exchange->body_bytes_max - exchange->body.len) {
            refuse_size(exchange);
        } else {
            keep_bytes(exchange, bytes);
        }
        return MHD_YES;
    }
    if (exchange->request.chunked) {
        if (bytes.len > exchange->discard_left) {
            send_raw(exchange);
            return MHD_NO;
        }
        exchange->discard_left -= bytes.len;
    }
    return MHD_YES;
}

/* Nobody here reads them, and a proxy that does would have them refused there. */
static bool has_trailers(const struct http_exchange *exchange)
{
    return exchange->request.chunked &&
           MHD_get_connection_values(exchange->mhd, MHD_FOOTER_KIND, NULL, NULL) > 0;
}

static bool is_told(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    bool told = exchange->told;
    lock_release(&exchange->lock);
    return told;
}

static enum MHD_Result serve_end(struct http_exchange *exchange)
{
    if (is_told(exchange)) {
        return MHD_NO;
    }
    if (exchange->streams && http_upload_end(exchange, has_trailers(exchange))) {
        return MHD_YES;
    }
    if (!exchange->deferred && state_of(exchange) == HTTP_BODY && has_trailers(exchange)) {
        exchange->close = true;
        refuse_kind(exchange, ERR_INVALID, "trailer fields are not accepted");
    }
    if (exchange->deferred || state_of(exchange) == HTTP_ANSWERED) {
        return queue_reply(exchange);
    }
    http_connection_enter(exchange->connection, HTTP_PHASE_BUSY);
    if (exchange->streams) {
        http_upload_open(exchange);
    }
    run_ready(exchange);
    if (exchange->deferred) {
        /* A suspended connection may only be ended after its resume. */
        return exchange->not_suspended ? MHD_NO : MHD_YES;
    }
    return queue_reply(exchange);
}

enum MHD_Result http_exchange_serve(struct http_exchange *exchange, const char *method,
                                    const char *version, const char *upload, size_t *upload_size)
{
    if (!exchange->begun) {
        return serve_header(exchange, method, version);
    }
    if (*upload_size == 0) {
        return serve_end(exchange);
    }
    struct str bytes = str_make(upload, *upload_size);
    if (exchange->streams) {
        return serve_stream(exchange, bytes, upload_size);
    }
    *upload_size = 0;
    atomic_fetch_add(&exchange->body_received, bytes.len);
    return serve_body(exchange, bytes);
}

/* ---- what the user asks ---- */

void http_accept_body(struct http_exchange *exchange, uint64_t wire_bytes_max)
{
    lock_take(&exchange->lock);
    assert(exchange->state == HTTP_HEADER);
    http_exchange_enter(exchange, HTTP_BODY);
    lock_release(&exchange->lock);
    uint64_t most = wire_bytes_max < SIZE_MAX / 8 ? wire_bytes_max : SIZE_MAX / 8;
    exchange->body_bytes_max = most;
    buf_init(&exchange->body, most == 0 ? 1 : most);
}

static void make_cancel(struct http_exchange *exchange)
{
    if (!exchange->cancel_made) {
        cancel_init(&exchange->cancel, INT64_MAX);
        exchange->cancel_made = true;
    }
}

/* Made on first use, because it costs a descriptor; http_defer makes it before a second thread
 * comes near. */
struct cancel *http_cancel(struct http_exchange *exchange)
{
    make_cancel(exchange);
    return &exchange->cancel;
}

void http_defer(struct http_exchange *exchange)
{
    make_cancel(exchange);
    http_exchange_reference(exchange);
    exchange->deferred = true;
    lock_take(&exchange->lock);
    assert(exchange->state == HTTP_READY);
    http_exchange_enter(exchange, HTTP_WAITING);
    bool stopping = atomic_load(&exchange->server->stopping);
    if (stopping || atomic_load(&exchange->connection->left)) {
        exchange->not_suspended = true;
        cancel_raise(&exchange->cancel, stopping ? ERR_UNAVAILABLE : ERR_CANCELLED);
        http_exchange_enter(exchange, HTTP_GONE);
    } else if (!exchange->streams || exchange->body_ended) {
        http_exchange_suspend(exchange); /* else the body goes on arriving */
    }
    lock_release(&exchange->lock);
}

void http_set_context(struct http_exchange *exchange, void *context, void (*finish)(void *))
{
    exchange->context = context;
    exchange->finish = finish;
}

void *http_context(const struct http_exchange *exchange)
{
    return exchange->context;
}

unsigned http_tag(const struct http_exchange *exchange)
{
    return exchange->tag;
}

struct str http_body(const struct http_exchange *exchange)
{
    return buf_str(&exchange->body);
}

uint64_t http_body_received(const struct http_exchange *exchange)
{
    return atomic_load(&exchange->body_received);
}
