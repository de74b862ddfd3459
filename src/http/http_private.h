/* http_private.h - what the files of this folder share.
 * An exchange has two sides. The http side is libmicrohttpd's thread and whoever may touch the MHD
 * connection; the deferring side is the user's thread between http_defer and its reply. Each holds
 * one reference. The http side goes first when the client leaves: `state` is then HTTP_GONE, `mhd`
 * is NULL, and the other side's reply goes nowhere. Lock order: an exchange's lock before the
 * server's. No lock is held while a handler of the user runs, nor while a response is destroyed
 * (libmicrohttpd holds the response's own lock while it calls our reader). */
#pragma once

#include "http.h"
#include "thread.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdatomic.h>

#define HTTP_HEADER_BYTES_MAX 16384
#define HTTP_HEADER_FIELDS_MAX 100
#define HTTP_RING_BYTES ((size_t)HTTP_BODY_HELD_BYTES) /* the same for a streamed reply */
#define HTTP_STREAM_LAST_MAX ((size_t)4 << 10)         /* of it: kept free for last words */
#define HTTP_DISCARD_BYTES_MAX ((uint64_t)64 << 20)
#define HTTP_BODY_STEP_BYTES ((uint64_t)64 << 10)
#define HTTP_REQUEST_ID_SIZE 129
#define HTTP_WATCH_EVENTS_MAX 64

/* ---- connections and the server ---- */

enum http_phase {
    HTTP_PHASE_IDLE,   /* between two requests */
    HTTP_PHASE_HEADER, /* a header is awaited */
    HTTP_PHASE_BODY,   /* a body is awaited */
    HTTP_PHASE_BUSY,   /* the client waits for us */
    HTTP_PHASE_WRITE,  /* the client is to read */
    HTTP_PHASE_LINGER, /* the rest of a body is dropped, whose answer was sent already */
};

/* One client connection, from accept to close. The http threads write phase and deadline (the
 * deferring side too, when it answers in the middle of a body), the watch thread reads. */
struct http_connection {
    struct http_listener *listener;
    int fd;
    atomic_int phase;
    atomic_llong deadline_ms;
    atomic_llong reader_deadline_ms; /* of one that was told to come later; else INT64_MAX */
    atomic_bool left;                /* the peer has closed its end */
    bool fresh;                      /* http thread: no request line has arrived yet */
    uint64_t acked; /* watch thread: bytes the peer had confirmed when last looked at */
    char address[INET6_ADDRSTRLEN];
    bool closed; /* GUARDED_BY(server->lock), as all below */
    struct http_exchange
        *exchange; /* while one is open; the http side's reference keeps it alive */
    struct http_connection *next, *previous;
};

struct http_listener {
    struct http_server *server;
    struct http_listener *next;
    struct MHD_Daemon *daemon;
    int fd;
    unsigned tag;
};

struct http_server {
    struct http_options options;
    struct http_listener *listeners;
    atomic_bool stopping;
    atomic_uint resuming;  /* connections whose resume has been decided and not been told yet */
    atomic_bool closed;    /* nobody is accepted any more */
    atomic_bool accepting; /* the watch thread may hold a connection that no daemon has yet */
    bool listening;        /* watch thread: it is told of who connects */
    int epoll_fd;          /* all client connections, for hang-ups only; and accept_fd */
    int accept_fd;         /* an epoll of the listeners */
    int wake_fd;
    bool watching;
    pthread_t watch;

    struct lock lock;
    struct condition idle;  /* exchanges_count has become zero */
    size_t exchanges_count; /* GUARDED_BY(lock), as all below */
    size_t connections_count;
    uint64_t connections_total; /* since the start */
    struct http_connection *connections;
    /* Closed connections. Only the watch thread frees them, between two rounds, because an event it
     * has already fetched may still point at one. */
    struct http_connection *retired;
};

bool http_watch_start(struct http_server *server, struct err *err) MUST_CHECK;
void http_watch_stop(struct http_server *server);
/* Once the daemons are there; the watch thread begins to accept. */
bool http_accept_open(struct http_server *server, struct err *err) MUST_CHECK;
/* Watch thread: takes who waits. When there is no room for more, nobody is looked for until the
 * next tick calls this again. */
void http_accept_round(struct http_server *server);
struct http_connection *http_connection_open(struct http_listener *listener,
                                             struct MHD_Connection *mhd);
void http_connection_close(struct http_connection *connection);
void http_connection_enter(struct http_connection *connection, enum http_phase phase);
void http_connection_set_exchange(struct http_connection *connection,
                                  struct http_exchange *exchange);

/* ---- exchanges ---- */

enum http_state {
    HTTP_HEADER,    /* before and inside begin */
    HTTP_BODY,      /* the body is collected */
    HTTP_READY,     /* the ready handler runs */
    HTTP_WAITING,   /* deferred; a streamed body may still be arriving */
    HTTP_STREAMING, /* a streamed reply is being written */
    HTTP_ANSWERED,  /* the reply is complete on our side; what is left of the body is thrown away */
    HTTP_GONE,      /* the http side has let go */
    HTTP_STATE_COUNT
};

struct http_field {
    struct str name;
    struct str value;
};

struct http_request {
    char *target;            /* the raw request target; path, query and authority point into it */
    const char *wire_target; /* the same in libmicrohttpd's memory, until begin */
    struct str authority;    /* of an absolute target; ptr NULL without one */
    struct str path;
    struct str query;
    char *text; /* method and fields point into it */
    struct str method;
    struct http_field *fields;
    size_t fields_count;
    uint64_t content_length; /* 0 when chunked or absent */
    bool chunked;
    bool head;
    bool is_http_1_0; /* a streamed reply ends where the connection does */
    bool expects_continue;
    char id[HTTP_REQUEST_ID_SIZE];
    char address[INET6_ADDRSTRLEN];
};

/* The last bytes that were put and not yet got; at most `size`. */
struct http_ring {
    char *bytes;
    size_t size;
    size_t start;
    size_t len;
};

void http_ring_open(struct http_ring *ring); /* of HTTP_RING_BYTES */
/* As large as what is in the buffer, and full of it. */
void http_ring_take(struct http_ring *ring, struct buf *bytes);
void http_ring_close(struct http_ring *ring); /* accepts a zeroed one */
size_t http_ring_put(struct http_ring *ring, struct str bytes, size_t len_max); /* what fitted */
size_t http_ring_get(struct http_ring *ring, char *into, size_t size_max);
/* The oldest bytes that lie side by side; they stay until they are dropped. */
struct str http_ring_front(const struct http_ring *ring, size_t size_max);
void http_ring_drop(struct http_ring *ring, size_t size);

struct http_upload;

struct http_exchange {
    struct http_server *server;
    struct http_connection *connection; /* http side only */
    unsigned tag;
    atomic_uint references;
    struct http_request request;
    int64_t start_us;

    /* http side only, until http_defer */
    bool begun;
    bool answer_now;    /* the reply may not wait for the rest of the body */
    bool streams;       /* the body is read while it arrives */
    bool deferred;      /* written once, before the deferring side knows the exchange */
    bool not_suspended; /* deferred, but the client had already left */
    bool cancel_made;
    struct cancel cancel;
    struct buf body;
    uint64_t body_bytes_max;
    uint64_t body_granted; /* what `grow` has agreed to */
    uint64_t discard_left;
    atomic_ullong body_received; /* bytes over the wire, wanted or not */
    void *context;
    void (*finish)(void *);

    struct lock lock;
    struct condition changed; /* room in the reply's ring, bytes in the body's, or the state */
    enum http_state
        state; /* GUARDED_BY(lock), as all below; changed by http_exchange_enter alone */
    bool suspended;
    struct MHD_Connection *mhd;    /* NULL once HTTP_GONE was reached through libmicrohttpd */
    struct MHD_Response *response; /* made, not queued yet */
    unsigned status;               /* of the reply that was made */
    unsigned status_sent;          /* of the reply that was queued; 0 when the client left before */
    uint64_t reply_bytes;
    struct http_ring ring; /* of a streamed reply */
    bool aborted;
    struct buf raw;  /* the reply as text, for when libmicrohttpd cannot send one */
    bool told;       /* `raw` has been sent */
    bool close;      /* nothing that follows on this connection may be read */
    bool in_header;  /* libmicrohttpd's first call goes on: it could still take a reply */
    bool body_ended; /* of a streamed body: all of it has arrived */
    struct http_upload *upload; /* of a streamed body, until the reply */
};

struct http_exchange *http_exchange_create(struct http_connection *connection,
                                           struct MHD_Connection *mhd, const char *target);
void http_exchange_reference(struct http_exchange *exchange);
void http_exchange_release(struct http_exchange *exchange);
void http_exchange_enter(struct http_exchange *exchange, enum http_state state)
    REQUIRES(&exchange->lock);
void http_exchange_suspend(struct http_exchange *exchange) REQUIRES(&exchange->lock);
void http_exchange_resume(struct http_exchange *exchange) REQUIRES(&exchange->lock);
/* The same in two steps, the second without the lock: the http thread that wakes up takes it first
 * thing. NULL, which the second accepts: it was not suspended. */
struct MHD_Connection *http_exchange_take_resume(struct http_exchange *exchange)
    REQUIRES(&exchange->lock);
void http_tell_resume(struct http_server *server, struct MHD_Connection *mhd);
/* The client has left, or the server stops: raises cancel and, when suspended, ends the http side.
 */
void http_exchange_leave(struct http_exchange *exchange, enum err_kind reason);
/* The two calls of libmicrohttpd. */
enum MHD_Result http_exchange_serve(struct http_exchange *exchange, const char *method,
                                    const char *version, const char *upload, size_t *upload_size);
void http_exchange_complete(struct http_exchange *exchange);

/* Sends a reply that libmicrohttpd would not take, in the middle of a body, straight to the socket;
 * once. The connection ends with the body. A client that waits for an answer before it sends the
 * body gets one, and so does a client that reads only after it has sent everything. */
void http_send_raw(struct http_exchange *exchange) REQUIRES(&exchange->lock);

/* ---- streamed bodies ---- */

/* Before `ready`: takes what was collected in exchange->body. */
void http_upload_open(struct http_exchange *exchange);
void http_upload_destroy(struct http_upload *upload);
/* The reader that was told to come later has a reason to come now: the caller calls
 * http_upload_wake once it has let go of the lock. */
bool http_upload_unpark(struct http_exchange *exchange) REQUIRES(&exchange->lock);
void http_upload_wake(struct http_exchange *exchange);
/* Its deadline has passed. */
void http_upload_expire(struct http_exchange *exchange);
/* Bytes of the body, from `ready` on; what is not taken comes again after a resume. */
enum MHD_Result http_upload_serve(struct http_exchange *exchange, struct str bytes,
                                  size_t *ret_taken);
/* All bytes were served. True: `ready` was called before, and the connection is suspended until the
 * reply is there. */
bool http_upload_end(struct http_exchange *exchange, bool trailers);
/* The reply was made: lets go of the body, and sends the reply itself when it cannot wait for what
 * is left of the body. */
void http_upload_settle(struct http_exchange *exchange) REQUIRES(&exchange->lock);

/* Copies method and header fields out of libmicrohttpd, which forgets them when the client leaves,
 * and checks the framing. False with ERR_INVALID or ERR_TOO_LARGE; the accessors work in either
 * case. */
bool http_request_load(struct http_request *request, struct MHD_Connection *mhd, const char *method,
                       const char *version, struct err *err) MUST_CHECK;
size_t http_count_fields(const struct http_request *request, struct str name,
                         struct str *ret_first);
void http_request_set_target(struct http_request *request, const char *target);
void http_request_finish(struct http_request *request);

/* ---- strictness ---- */

/* Follows the header through libmicrohttpd's memory, field by field. */
struct http_wire {
    const char *end; /* of what has been seen */
    bool odd;
};

void http_wire_begin(struct http_wire *wire, const char *target, size_t target_len,
                     const char *version);
void http_wire_take(struct http_wire *wire, const char *name, size_t name_len, const char *value,
                    size_t value_len);
bool http_wire_is_strict(const struct http_wire *wire);
/* Line ends, field names and values, target, Host. ERR_INVALID: the request is to be refused, and
 * its connection closed. */
bool http_check_strict(const struct http_request *request, const struct http_wire *wire,
                       bool is_http_1_0, struct err *err) MUST_CHECK;

/* ---- content encodings ---- */

struct http_unpacker;
struct http_unpacker *http_unpacker_create(struct str encoding); /* NULL: not known */
void http_unpacker_destroy(struct http_unpacker *unpacker);
/* Unpacks from the front of `input`, which it shortens, until that is empty or size_max bytes have
 * been written. `last`: nothing follows `input`; then 0 bytes mean that the body is complete, and
 * one that ends early is ERR_INVALID. An empty body is complete in every encoding. */
bool http_unpack(struct http_unpacker *unpacker, struct str *input, bool last, char *into,
                 size_t size_max, size_t *ret_size, struct err *err) MUST_CHECK;
/* There may be more to unpack without more input. */
bool http_unpack_pending(const struct http_unpacker *unpacker);
/* The decoder of a request's Content-Encoding; NULL for identity. */
bool http_open_unpacker(const struct http_request *request, struct http_unpacker **ret_unpacker,
                        struct err *err) MUST_CHECK;
bool http_decoded_too_large(uint64_t bytes_max, struct err *err); /* sets the error */
bool http_body_too_large(uint64_t bytes_max, struct err *err);
