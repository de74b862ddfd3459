/* Bodies that are read while they arrive. Their first bytes are collected as those of other bodies
 * are, so that a small one costs its reader nothing before it is complete. Then the http thread
 * fills a ring; when that is full it leaves the rest with libmicrohttpd and suspends the
 * connection, which the reader resumes. At the end of the body it suspends too, until the reply is
 * there. A reader that finds nothing is parked, and woken by whoever has something for it.
 * libmicrohttpd takes no reply in the middle of a body, so an early one goes straight to the socket
 * (http_send_raw), and what is left of the body is read and dropped. */
#include "http_private.h"

#include "clock.h"
#include "mem.h"

#define WIRE_PIECE_BYTES ((size_t)64 << 10)
#define UNPACKED_PIECE_BYTES ((size_t)64 << 10)
/* The reader lets the client go on when so little is left in the ring, and is woken when there is
 * so much. */
#define RESUME_BYTES (HTTP_RING_BYTES / 2)

struct http_upload {
    struct http_ring ring; /* GUARDED_BY(exchange->lock), as the next two */
    struct err refused;    /* the body breaks a limit or its framing; ERR_NONE while it does not */
    bool parked;           /* the reader was told to come later */

    /* The deferring side's own. */
    bool opened;                    /* the encoding is known */
    bool wire_ended;                /* the end of the body was taken from the ring */
    bool failed;                    /* for good, with `failure` */
    struct err failure;             /* what the first call that failed said */
    size_t lent;                    /* bytes at the ring's front that the reader still looks at */
    struct http_unpacker *unpacker; /* NULL for identity */
    struct str packed;              /* of what is lent: not unpacked yet */
    char *unpacked;
    uint64_t given_bytes;
};

void http_accept_stream(struct http_exchange *exchange, uint64_t wire_bytes_max)
{
    http_accept_body(exchange, wire_bytes_max);
    exchange->streams = true;
    exchange->body.brief = true;
    if (exchange->body.size_max > HTTP_RING_BYTES) {
        exchange->body.size_max = HTTP_RING_BYTES;
    }
}

void http_upload_destroy(struct http_upload *upload)
{
    if (upload != NULL) {
        http_ring_close(&upload->ring);
        http_unpacker_destroy(upload->unpacker);
        mem_free(upload->unpacked);
        mem_free(upload);
    }
}

/* ---- the http thread ---- */

void http_upload_open(struct http_exchange *exchange)
{
    exchange->upload = mem_alloc(sizeof(*exchange->upload));
    exchange->upload->refused.kind = ERR_NONE;
    http_ring_take(&exchange->upload->ring, &exchange->body);
    /* One that goes on has filled its ring. */
    assert(exchange->body_ended || exchange->upload->ring.size == HTTP_RING_BYTES);
}

bool http_upload_unpark(struct http_exchange *exchange)
{
    struct http_upload *upload = exchange->upload;
    if (upload == NULL || !upload->parked) {
        return false;
    }
    if (exchange->state == HTTP_WAITING && !exchange->body_ended &&
        upload->refused.kind == ERR_NONE && upload->ring.len < RESUME_BYTES &&
        atomic_load(&exchange->cancel.reason) == ERR_NONE &&
        clock_now_ms() < exchange->cancel.deadline_ms) {
        return false;
    }
    upload->parked = false;
    atomic_store(&exchange->connection->reader_deadline_ms, INT64_MAX);
    return true;
}

void http_upload_wake(struct http_exchange *exchange)
{
    const struct http_handlers *handlers = &exchange->server->options.handlers;
    handlers->more(handlers->context, exchange);
}

void http_upload_expire(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    bool wakes = http_upload_unpark(exchange);
    lock_release(&exchange->lock);
    if (wakes) {
        http_upload_wake(exchange);
    }
}

/* False when there is nobody to wait for. */
static bool wait_for_reader(struct http_exchange *exchange) REQUIRES(&exchange->lock)
{
    bool stopping = atomic_load(&exchange->server->stopping);
    if (stopping || atomic_load(&exchange->connection->left)) {
        cancel_raise(&exchange->cancel, stopping ? ERR_UNAVAILABLE : ERR_CANCELLED);
        http_exchange_enter(exchange, HTTP_GONE);
        return false;
    }
    http_exchange_suspend(exchange);
    return true;
}

/* Takes what fits; the rest stays with libmicrohttpd. */
static bool fill(struct http_exchange *exchange, struct str bytes, size_t *ret_taken)
    REQUIRES(&exchange->lock)
{
    struct http_upload *upload = exchange->upload;
    uint64_t received = atomic_load(&exchange->body_received);
    *ret_taken = 0;
    if (upload->refused.kind == ERR_NONE && bytes.len > exchange->body_bytes_max - received) {
        (void)http_body_too_large(exchange->body_bytes_max, &upload->refused);
    }
    if (upload->refused.kind == ERR_NONE) {
        *ret_taken = http_ring_put(&upload->ring, bytes, HTTP_RING_BYTES);
    }
    return *ret_taken == bytes.len || wait_for_reader(exchange);
}

enum MHD_Result http_upload_serve(struct http_exchange *exchange, struct str bytes,
                                  size_t *ret_taken)
{
    bool good = true;
    *ret_taken = bytes.len;
    lock_take(&exchange->lock);
    if (exchange->state == HTTP_WAITING) {
        http_connection_enter(exchange->connection, HTTP_PHASE_BODY);
        good = fill(exchange, bytes, ret_taken);
    } else {
        /* Answered early: the rest is dropped, within bounds. */
        http_connection_enter(exchange->connection,
                              exchange->told ? HTTP_PHASE_LINGER : HTTP_PHASE_BODY);
        good = exchange->state == HTTP_ANSWERED && bytes.len <= exchange->discard_left;
        exchange->discard_left -= good ? bytes.len : 0;
    }
    atomic_fetch_add(&exchange->body_received, *ret_taken);
    bool wakes = http_upload_unpark(exchange);
    lock_release(&exchange->lock);
    if (wakes) {
        http_upload_wake(exchange);
    }
    return good ? MHD_YES : MHD_NO;
}

bool http_upload_end(struct http_exchange *exchange, bool trailers)
{
    lock_take(&exchange->lock);
    bool waits = exchange->state == HTTP_WAITING;
    bool wakes = false;
    exchange->body_ended = true;
    if (waits) {
        if (trailers) {
            exchange->close = true;
            (void)err_set(&exchange->upload->refused, ERR_INVALID,
                          "trailer fields are not accepted");
        }
        waits = wait_for_reader(exchange);
        wakes = http_upload_unpark(exchange);
    }
    lock_release(&exchange->lock);
    if (wakes) {
        http_upload_wake(exchange);
    }
    return waits;
}

/* ---- an early reply ---- */

void http_upload_settle(struct http_exchange *exchange)
{
    const struct http_request *request = &exchange->request;
    http_upload_destroy(TAKE(exchange->upload));
    if (exchange->body_ended || exchange->in_header) {
        return;
    }
    /* A short rest is soon read, and the connection stays usable. */
    uint64_t received = atomic_load(&exchange->body_received);
    bool short_rest =
        !request->chunked && request->content_length - received <= HTTP_BODY_STEP_BYTES;
    if (!short_rest) {
        http_send_raw(exchange);
        http_connection_enter(exchange->connection, HTTP_PHASE_LINGER);
    }
}

/* ---- the reader ---- */

static bool still_readable(struct http_exchange *exchange, struct err *err)
    REQUIRES(&exchange->lock)
{
    const struct http_upload *upload = exchange->upload;
    if (!cancel_check(&exchange->cancel, err)) {
        return false;
    }
    if (exchange->state != HTTP_WAITING) {
        return err_set(err, ERR_CANCELLED, "the client closed the connection");
    }
    if (upload->refused.kind != ERR_NONE) {
        *err = upload->refused;
        return false;
    }
    return true;
}

static void give_back(struct http_exchange *exchange) REQUIRES(&exchange->lock)
{
    struct http_upload *upload = exchange->upload;
    http_ring_drop(&upload->ring, upload->lent);
    upload->lent = 0;
    bool goes_on = exchange->state == HTTP_WAITING && !exchange->body_ended;
    if (goes_on && upload->ring.len <= RESUME_BYTES && upload->refused.kind == ERR_NONE) {
        http_exchange_resume(exchange);
    }
}

/* The next bytes as they came over the wire, lent until the next call; empty at the end. */
static bool take_wire(struct http_exchange *exchange, struct str *ret_bytes, bool *ret_later,
                      struct err *err)
{
    struct http_upload *upload = exchange->upload;
    lock_take(&exchange->lock);
    give_back(exchange);
    bool good = still_readable(exchange, err);
    *ret_later = good && upload->ring.len == 0 && !exchange->body_ended;
    if (*ret_later) {
        upload->parked = true;
        atomic_store(&exchange->connection->reader_deadline_ms, exchange->cancel.deadline_ms);
    } else if (good) {
        *ret_bytes = http_ring_front(&upload->ring, WIRE_PIECE_BYTES);
        upload->lent = ret_bytes->len;
        upload->wire_ended = ret_bytes->len == 0;
    }
    lock_release(&exchange->lock);
    return good;
}

static bool take_unpacked(struct http_exchange *exchange, struct str *ret_bytes, bool *ret_later,
                          struct err *err)
{
    struct http_upload *upload = exchange->upload;
    size_t size = 0;
    bool good = true;
    bool ended = false;
    while (good && size == 0 && !ended) {
        bool hungry = upload->packed.len == 0 && !http_unpack_pending(upload->unpacker);
        if (hungry && !upload->wire_ended) {
            good = take_wire(exchange, &upload->packed, ret_later, err);
            if (*ret_later) {
                return true; /* and nothing of the exchange is ours any more */
            }
        }
        ended = upload->wire_ended && upload->packed.len == 0;
        good = good && http_unpack(upload->unpacker, &upload->packed, upload->wire_ended,
                                   upload->unpacked, UNPACKED_PIECE_BYTES, &size, err);
    }
    *ret_bytes = str_make(upload->unpacked, good ? size : 0);
    return good;
}

static bool open_encoding(struct http_exchange *exchange, struct err *err)
{
    struct http_upload *upload = exchange->upload;
    if (upload->opened) {
        return true;
    }
    upload->opened = true;
    if (!http_open_unpacker(&exchange->request, &upload->unpacker, err)) {
        return false;
    }
    upload->unpacked = upload->unpacker == NULL ? NULL : mem_alloc(UNPACKED_PIECE_BYTES);
    return true;
}

static bool count_given(struct http_upload *upload, size_t size, uint64_t decoded_bytes_max,
                        struct err *err)
{
    if (size > decoded_bytes_max || upload->given_bytes > decoded_bytes_max - size) {
        return upload->unpacker == NULL ? http_body_too_large(decoded_bytes_max, err)
                                        : http_decoded_too_large(decoded_bytes_max, err);
    }
    upload->given_bytes += size;
    return true;
}

static bool read_piece(struct http_exchange *exchange, uint64_t decoded_bytes_max,
                       struct str *ret_bytes, bool *ret_later, struct err *err)
{
    struct http_upload *upload = exchange->upload;
    if (!open_encoding(exchange, err)) {
        return false;
    }
    bool good = upload->unpacker == NULL ? take_wire(exchange, ret_bytes, ret_later, err)
                                         : take_unpacked(exchange, ret_bytes, ret_later, err);
    return *ret_later || (good && count_given(upload, ret_bytes->len, decoded_bytes_max, err));
}

bool http_body_read(struct http_exchange *exchange, uint64_t decoded_bytes_max,
                    struct str *ret_bytes, bool *ret_later, struct err *err)
{
    assert(exchange->deferred);
    struct http_upload *upload = exchange->upload;
    assert(upload != NULL); /* http_accept_stream, and not answered */
    *ret_bytes = STR("");
    *ret_later = false;
    if (!upload->failed &&
        read_piece(exchange, decoded_bytes_max, ret_bytes, ret_later, &upload->failure)) {
        return true;
    }
    *ret_bytes = STR("");
    upload->failed = true;
    *err = upload->failure;
    return false;
}

bool http_body_has_ended(struct http_exchange *exchange)
{
    lock_take(&exchange->lock);
    bool ended = exchange->body_ended;
    lock_release(&exchange->lock);
    return ended;
}
