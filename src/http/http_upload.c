/* Bodies that are read while they arrive. The http thread fills a ring; when that is full it leaves
 * the rest with libmicrohttpd and suspends the connection, which the reader resumes. At the end of
 * the body it suspends too, until the reply is there.
 * libmicrohttpd takes no reply in the middle of a body, so an early one goes straight to the socket
 * (http_send_raw), and what is left of the body is read and dropped. */
#include "http_private.h"

#include "clock.h"
#include "mem.h"

#define WIRE_PIECE_BYTES ((size_t)64 << 10)
#define UNPACKED_PIECE_BYTES ((size_t)64 << 10)
/* The reader lets the client go on when so little is left in the ring. */
#define RESUME_BYTES (HTTP_RING_BYTES / 2)
/* A raised cancel does not signal our condition, so a blocked reader looks at it this often. */
#define READER_LOOK_MS 20

struct http_upload {
    struct http_ring ring; /* GUARDED_BY(exchange->lock), as `refused` */
    struct err refused;    /* the body breaks a limit or its framing; ERR_NONE while it does not */

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
    http_ring_open(&exchange->upload->ring);
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
        condition_broadcast(&exchange->changed);
    }
    if (upload->refused.kind == ERR_NONE) {
        bool was_empty = upload->ring.len == 0;
        *ret_taken = http_ring_put(&upload->ring, bytes, HTTP_RING_BYTES);
        if (was_empty) {
            condition_broadcast(&exchange->changed);
        }
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
    lock_release(&exchange->lock);
    return good ? MHD_YES : MHD_NO;
}

bool http_upload_end(struct http_exchange *exchange, bool trailers)
{
    lock_take(&exchange->lock);
    bool waits = exchange->state == HTTP_WAITING;
    if (waits) {
        exchange->body_ended = true;
        if (trailers) {
            exchange->close = true;
            (void)err_set(&exchange->upload->refused, ERR_INVALID,
                          "trailer fields are not accepted");
        }
        condition_broadcast(&exchange->changed);
        waits = wait_for_reader(exchange);
    }
    lock_release(&exchange->lock);
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
static bool take_wire(struct http_exchange *exchange, struct str *ret_bytes, struct err *err)
{
    struct http_upload *upload = exchange->upload;
    lock_take(&exchange->lock);
    give_back(exchange);
    bool good = still_readable(exchange, err);
    while (good && upload->ring.len == 0 && !exchange->body_ended) {
        int wait_ms = cancel_left_ms(&exchange->cancel, READER_LOOK_MS);
        (void)condition_wait_until(&exchange->changed, &exchange->lock, clock_now_ms() + wait_ms);
        good = still_readable(exchange, err);
    }
    if (good) {
        *ret_bytes = http_ring_front(&upload->ring, WIRE_PIECE_BYTES);
        upload->lent = ret_bytes->len;
        upload->wire_ended = ret_bytes->len == 0;
    }
    lock_release(&exchange->lock);
    return good;
}

static bool take_unpacked(struct http_exchange *exchange, struct str *ret_bytes, struct err *err)
{
    struct http_upload *upload = exchange->upload;
    size_t size = 0;
    bool good = true;
    bool ended = false;
    while (good && size == 0 && !ended) {
        bool hungry = upload->packed.len == 0 && !http_unpack_pending(upload->unpacker);
        if (hungry && !upload->wire_ended) {
            good = take_wire(exchange, &upload->packed, err);
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
                       struct str *ret_bytes, struct err *err)
{
    struct http_upload *upload = exchange->upload;
    if (!open_encoding(exchange, err)) {
        return false;
    }
    bool good = upload->unpacker == NULL ? take_wire(exchange, ret_bytes, err)
                                         : take_unpacked(exchange, ret_bytes, err);
    return good && count_given(upload, ret_bytes->len, decoded_bytes_max, err);
}

bool http_body_read(struct http_exchange *exchange, uint64_t decoded_bytes_max,
                    struct str *ret_bytes, struct err *err)
{
    assert(exchange->deferred);
    struct http_upload *upload = exchange->upload;
    assert(upload != NULL); /* http_accept_stream, and not answered */
    *ret_bytes = STR("");
    if (!upload->failed && read_piece(exchange, decoded_bytes_max, ret_bytes, &upload->failure)) {
        return true;
    }
    *ret_bytes = STR("");
    upload->failed = true;
    *err = upload->failure;
    return false;
}
