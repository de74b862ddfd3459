/* http.h - the HTTP/1.1 server edge, over libmicrohttpd. The only folder that includes it.
 * Promise   every request gets exactly one reply, or its connection is closed. `begin` is called
 *           when the header is complete, `ready` when the body is; both run on an http thread and
 *           must not block. A handler that has to wait calls http_defer() and answers from another
 *           thread: the connection is suspended meanwhile, and a client that leaves raises the
 *           exchange's cancel (ERR_CANCELLED) within 100 ms. A streamed reply is pulled by the
 *           socket: http_stream_write blocks while 256 KiB are unsent.
 *           A streamed body (http_accept_stream) is pulled by its reader: the client waits while
 *           256 KiB of it are unread. Its goodbye may then wait as well, behind bytes that nobody
 *           took; it is noticed when the reader goes on. No thread waits for a client: the reader
 *           is called when there is something to read, and lets go when there is not.
 *           A reply may come before a streamed body was read. When at most 64 KiB are known to be
 *           left, they are read and dropped first, and the connection stays. Otherwise the reply is
 *           sent at once, what follows it is dropped, up to 64 MiB, so that a client that sends
 *           everything before it reads still finds the reply, and the connection ends.
 * Not here  routes, error shapes, who may do what (api). Nothing here knows a personality.
 * Owner     struct server owns one struct http_server. An exchange belongs to http; after
 *           http_defer the deferring side holds it until it has called http_reply, http_stream_end
 *           or http_stream_abort - exactly one of them - and must not touch it afterwards.
 * Threads   `http` (libmicrohttpd's, options.threads) and `watch` (notices clients that leave, and
 *           slow ones).
 * Limits    header block 16 KiB, at most 100 header fields; idle keep-alive, slow header and slow
 *           body time-outs below; bodies as begin says. Request bodies may be chunked and gzip,
 *           deflate, br or zstd encoded. */
#pragma once

#include "buf.h"
#include "cancel.h"
#include "err.h"

struct http_server;
struct http_exchange;

struct http_handlers {
    void *context;
    /* The header is complete. Either reply at once (the body is then not wanted) or call
     * http_accept_body; doing neither is the same as accepting an empty body. */
    void (*begin)(void *context, struct http_exchange *exchange);
    /* The body is about to grow to at most `size` bytes, of which so far less was granted: asked
     * for in steps, as bytes arrive, never for what is only announced. False refuses the body with
     * ERR_BUSY. May be NULL. */
    bool (*grow)(void *context, struct http_exchange *exchange, uint64_t size);
    /* The body is complete: http_body() is what came over the wire; of a streamed one
     * HTTP_BODY_HELD_BYTES have come, or all. Reply at once or http_defer(). */
    void (*ready)(void *context, struct http_exchange *exchange);
    /* The reader of a streamed body that was told to come later may go on: there is more, or the
     * end, or an error. Runs on an http thread or on watch, and may not block nor reply; NULL where
     * no body is streamed. */
    void (*more)(void *context, struct http_exchange *exchange);
    /* The body broke a limit (ERR_TOO_LARGE) or its framing (ERR_INVALID, and then begin was not
     * called), or may not grow (ERR_BUSY): reply at once with this error. What was read of the body
     * is dropped. */
    void (*refuse)(void *context, struct http_exchange *exchange, const struct err *err);
    /* The exchange is over: for the access log and counters. May be NULL. `status` is 0 when the
     * client had left before it could be sent one. Runs on whichever thread let go last: http,
     * watch or the deferring one. */
    void (*done)(void *context, struct http_exchange *exchange, unsigned status,
                 uint64_t reply_bytes, int64_t elapsed_us);
};

struct http_options {
    unsigned threads;           /* 0 means 2 */
    unsigned connections_max;   /* 0 means 10240 */
    unsigned idle_timeout_ms;   /* between requests; 0 means 60000 */
    unsigned header_timeout_ms; /* from accept, or from the first byte of a later header; 0 means
                                   10000 */
    unsigned body_stall_timeout_ms;  /* no byte of a body for so long; 0 means 30000 */
    unsigned write_stall_timeout_ms; /* a reader that takes nothing for so long; 0 means 60000 */
    struct http_handlers handlers;
};

struct http_server *http_server_create(const struct http_options *options);

/* Opens one listener on "host:port" ([v6]:port, port 0 for any). `tag` comes back in http_tag().
 * Before http_start. ret_port is the port in use. */
bool http_listen(struct http_server *server, struct str address, unsigned tag, uint16_t *ret_port,
                 struct err *err) MUST_CHECK;
/* Whether an address can be listened on now: opens it and closes it again. */
bool http_try_address(struct str address, struct err *err) MUST_CHECK;
bool http_start(struct http_server *server, struct err *err) MUST_CHECK;

/* Stops accepting connections; requests on open ones are still handed to begin (which refuses
 * them). */
void http_stop_accepting(struct http_server *server);
/* Waits until no exchange is in flight; false when deadline_ms (clock_now_ms) came first. */
bool http_wait_idle(struct http_server *server, int64_t deadline_ms);
/* As they are now, but for connections_total. */
struct http_counts {
    uint64_t connections;
    uint64_t exchanges; /* requests that are not over */
    uint64_t connections_total;
};
struct http_counts http_counts(struct http_server *server);
void http_server_destroy(
    struct http_server *server); /* raises cancel on what is left, and waits for it */

/* ---- the request; everything returned lives as long as the exchange ---- */
unsigned http_tag(const struct http_exchange *exchange);
struct str http_method(const struct http_exchange *exchange);
struct str http_path(
    const struct http_exchange *exchange); /* as sent, still percent-encoded, without the query */
struct str http_query(const struct http_exchange
                          *exchange); /* the text after `?`, still encoded; empty without one */
struct str http_header(const struct http_exchange *exchange,
                       const char *name); /* ptr NULL when absent */
struct str http_body(const struct http_exchange *exchange);
/* Bytes of the body that came over the wire, those that nobody wanted included; of a streamed body
 * so far. */
uint64_t http_body_received(const struct http_exchange *exchange);
struct str http_client_address(const struct http_exchange *exchange);
bool http_has_body(
    const struct http_exchange *exchange); /* Content-Length above zero, or chunked */
struct cancel *http_cancel(struct http_exchange *exchange);
/* X-Request-Id of the client when it is 1..128 printable ASCII characters, else 16 random hex
 * digits. It is sent back with every reply. */
struct str http_request_id(const struct http_exchange *exchange);
/* Percent-decoding; `+` is a space only where plus_is_space says so. False when an escape is
 * broken. */
bool http_decode(struct str text, bool plus_is_space, struct buf *into);
/* The last value of a query parameter, decoded into `into`; false when it is absent or broken. */
bool http_query_parameter(const struct http_exchange *exchange, const char *name, struct buf *into);

/* One pointer for the user of the exchange; `finish` runs when the exchange is over. */
void http_set_context(struct http_exchange *exchange, void *context, void (*finish)(void *));
void *http_context(const struct http_exchange *exchange);

/* ---- the body ---- */
#define HTTP_BODY_HELD_BYTES ((uint64_t)256 << 10)
void http_accept_body(struct http_exchange *exchange, uint64_t wire_bytes_max);
/* From begin, instead of http_accept_body: the body is not held but read while it arrives. `ready`
 * is called when HTTP_BODY_HELD_BYTES have come and are not all; of a smaller body all has come. It
 * replies or defers, and then http_body_read gives the body. A body over wire_bytes_max is refused
 * before `ready` when it was announced, else http_body_read fails. `grow` is asked for what is held
 * before `ready`; later it never is more. Where bytes are encoded, a stream takes 64 KiB more for
 * decoded ones and what the decoder needs (a window, at most 16 MiB). */
void http_accept_stream(struct http_exchange *exchange, uint64_t wire_bytes_max);
/* The next bytes of a streamed body, without its Content-Encoding, at most 64 KiB; empty at the
 * end. They live until the next call or the reply. From the deferring side; does not block:
 * *ret_later says that what has come was read. The exchange is not to be touched then before `more`
 * is called, which may be at once, and on another thread; that is when 128 KiB have come, or the
 * end. Errors, which stay: those of http_decode_body; ERR_TOO_LARGE (over wire_bytes_max);
 * ERR_INVALID (trailer fields); ERR_CANCELLED (the client has left, or stalled and was told 408 by
 * http); what else http_cancel() was raised for, ERR_TIMEOUT at its deadline. The caller replies in
 * every case. */
bool http_body_read(struct http_exchange *exchange, uint64_t decoded_bytes_max,
                    struct str *ret_bytes, bool *ret_later, struct err *err) MUST_CHECK;
/* All of a streamed body has come over the wire. From the deferring side, before its reply. */
bool http_body_has_ended(struct http_exchange *exchange);
/* The body without its Content-Encoding (identity, gzip, x-gzip, deflate, br, zstd; one at a time),
 * which it replaces: http_body() then returns the decoded bytes. Runs on the caller's thread: call
 * it after http_defer for large bodies. Errors: ERR_MEDIA_TYPE (unknown encoding), ERR_INVALID
 * (broken data), ERR_TOO_LARGE (over decoded_bytes_max, or a zstd window over 8 MiB). */
bool http_decode_body(struct http_exchange *exchange, uint64_t decoded_bytes_max,
                      struct err *err) MUST_CHECK;

/* ---- the reply: exactly one of these ---- */
struct http_reply_header {
    const char *name;
    const char *value;
};

struct http_reply {
    unsigned status;
    const char *content_type;                /* NULL for none */
    const struct http_reply_header *headers; /* copied */
    size_t headers_count;
    bool close; /* close the connection afterwards */
};

void http_defer(struct http_exchange *exchange);
/* `body` is copied. A HEAD request gets the header only. From an http thread inside begin, ready or
 * refuse, or from any thread after http_defer. */
void http_reply(struct http_exchange *exchange, const struct http_reply *reply, struct str body);

/* After http_defer only, and after the end of a streamed body: a chunked reply. write fails with
 * ERR_CANCELLED when the client has left, or as cancel says. */
void http_stream_begin(struct http_exchange *exchange, const struct http_reply *reply);
bool http_stream_write(struct http_exchange *exchange, struct str bytes,
                       struct err *err) MUST_CHECK;
void http_stream_end(struct http_exchange *exchange);
/* Cuts the body, so that the client notices; what was written before, and `last` (at most 4 KiB),
 * are still sent. */
void http_stream_abort(struct http_exchange *exchange, struct str last);
