/* http_fixture.h - for test_http*.c: a server on the loopback interface whose behaviour is named by
 * the path of the request, and a client over a raw socket. */
#pragma once

#include "test.h"

#include "buf.h"
#include "http.h"
#include "mem.h"
#include "num.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 20000
#define BODY_MAX 4096
#define UPLOAD_MAX ((uint64_t)400 << 20)
#define UPLOAD_SMALL_MAX ((uint64_t)1 << 20)
#define WORKERS_MAX 2048
#define STREAM_BYTES ((size_t)50 << 20)

/* ---- the server under test: what it does with a request is named by the path ---- */

struct fixture {
    struct http_server *server;
    uint16_t port;
    /* Paths under /upload: bodies that are streamed; on a thread of its own. */
    void (*upload)(struct fixture *fixture, struct http_exchange *exchange);
    atomic_int refused;
    atomic_int done;
    atomic_int finished;
    atomic_int ready;
    atomic_int woken; /* readers of streamed bodies that were told to come later, and called */
    atomic_int held;  /* deferred requests whose thread waits for `release` */
    atomic_bool release;
    atomic_llong cancelled_at; /* when a held request saw its cancel */
    atomic_int cancel_reason;
    atomic_int write_failures;
    atomic_llong written;
    atomic_uint last_status;
    atomic_ullong last_bytes;
    pthread_mutex_t lock;
    pthread_t workers[WORKERS_MAX];
    size_t workers_count;
};

/* The context of each exchange. */
struct work {
    struct fixture *fixture;
    struct http_exchange *exchange;
    atomic_int more; /* calls of on_more that the reader did not see yet */
};

static inline void reply_text(struct http_exchange *exchange, unsigned status, struct str text)
{
    struct http_reply_header headers[] = {{"X-Test", "yes"}};
    struct http_reply reply = {
        .status = status,
        .content_type = "text/plain",
        .headers = headers,
        .headers_count = 1,
    };
    http_reply(exchange, &reply, text);
}

static inline char pattern_byte(size_t offset)
{
    return (char)('a' + (offset * 7 + offset / 4096) % 26);
}

static inline void write_pattern(struct fixture *fixture, struct http_exchange *exchange,
                                 size_t total)
{
    char block[30000];
    size_t offset = 0;
    while (offset < total) {
        size_t size = total - offset < sizeof(block) ? total - offset : sizeof(block);
        for (size_t i = 0; i < size; i++) {
            block[i] = pattern_byte(offset + i);
        }
        struct err err;
        if (!http_stream_write(exchange, str_make(block, size), &err)) {
            atomic_fetch_add(&fixture->write_failures, 1);
            http_stream_abort(exchange, STR(""));
            return;
        }
        offset += size;
        atomic_store(&fixture->written, (long long)offset);
    }
    http_stream_end(exchange);
}

static inline void wait_for_release(struct fixture *fixture, struct http_exchange *exchange)
{
    atomic_fetch_add(&fixture->held, 1);
    struct err err;
    while (!atomic_load(&fixture->release)) {
        if (!cancel_wait(http_cancel(exchange), 5, &err)) {
            atomic_store(&fixture->cancel_reason, (int)err.kind);
            atomic_store(&fixture->cancelled_at, test_now_ms());
            break;
        }
    }
    /* `/stubborn` answers only when told, long after its client has left. */
    while (str_equal(http_path(exchange), STR("/stubborn")) && !atomic_load(&fixture->release)) {
        test_pause();
    }
}

static inline void run_stream(struct fixture *fixture, struct http_exchange *exchange)
{
    struct buf text;
    struct err err;
    uint64_t total = STREAM_BYTES;
    buf_init(&text, 64);
    if (http_query_parameter(exchange, "bytes", &text)) {
        (void)!num_parse_u64(buf_str(&text), 0, UINT32_MAX, &total, &err);
    }
    buf_finish(&text);
    struct http_reply reply = {.status = 200, .content_type = "text/plain"};
    http_stream_begin(exchange, &reply);
    if (str_equal(http_path(exchange), STR("/cut"))) {
        (void)!http_stream_write(exchange, STR("only a part"), &err);
        wait_for_release(fixture, exchange);
        http_stream_abort(exchange, STR(""));
    } else if (str_equal(http_path(exchange), STR("/pause"))) {
        (void)!http_stream_write(exchange, STR("first"), &err);
        wait_for_release(fixture, exchange);
        if (!http_stream_write(exchange, STR("second"), &err)) {
            atomic_fetch_add(&fixture->write_failures, 1);
        }
        http_stream_end(exchange);
    } else {
        write_pattern(fixture, exchange, total);
    }
}

static inline void *run_worker(void *argument)
{
    struct work *work = argument;
    struct str path = http_path(work->exchange);
    if (str_starts(path, STR("/upload"))) {
        work->fixture->upload(work->fixture, work->exchange);
    } else if (str_equal(path, STR("/hold")) || str_equal(path, STR("/stubborn"))) {
        wait_for_release(work->fixture, work->exchange);
        reply_text(work->exchange, 200, STR("held"));
    } else if (str_equal(path, STR("/defer"))) {
        reply_text(work->exchange, 200, http_body(work->exchange));
    } else {
        run_stream(work->fixture, work->exchange);
    }
    return NULL;
}

static inline void start_worker(struct fixture *fixture, struct http_exchange *exchange)
{
    http_defer(exchange);
    struct work *work = http_context(exchange);
    pthread_mutex_lock(&fixture->lock);
    if (fixture->workers_count == WORKERS_MAX ||
        pthread_create(&fixture->workers[fixture->workers_count], NULL, run_worker, work) != 0) {
        abort();
    }
    fixture->workers_count++;
    pthread_mutex_unlock(&fixture->lock);
}

static inline void on_finish(void *context)
{
    struct work *work = context;
    atomic_fetch_add(&work->fixture->finished, 1);
    mem_free(work);
}

static inline void on_begin(void *context, struct http_exchange *exchange)
{
    struct fixture *fixture = context;
    struct work *work = mem_alloc(sizeof(*work));
    work->fixture = fixture;
    work->exchange = exchange;
    http_set_context(exchange, work, on_finish);
    struct str path = http_path(exchange);
    if (str_equal(path, STR("/early"))) {
        reply_text(exchange, 403, STR("no"));
    } else if (str_equal(path, STR("/large"))) {
        http_accept_body(exchange, (uint64_t)2 << 20);
    } else if (str_starts(path, STR("/upload"))) {
        bool small = str_equal(path, STR("/upload/small"));
        http_accept_stream(exchange, small ? UPLOAD_SMALL_MAX : UPLOAD_MAX);
    } else if (!str_equal(path, STR("/nobody"))) {
        http_accept_body(exchange, BODY_MAX);
    }
}

static inline void reply_request(struct http_exchange *exchange)
{
    struct buf text;
    struct buf parameter;
    buf_init(&text, 65536);
    buf_init(&parameter, 1024);
    bool found = http_query_parameter(exchange, "name", &parameter);
    buf_append_format(&text, "%.*s %.*s ?%.*s tag=%u from=%.*s name=%s agent=%.*s",
                      STR_ARG(http_method(exchange)), STR_ARG(http_path(exchange)),
                      STR_ARG(http_query(exchange)), http_tag(exchange),
                      STR_ARG(http_client_address(exchange)), found ? parameter.ptr : "-",
                      STR_ARG(http_header(exchange, "user-agent")));
    reply_text(exchange, 200, buf_str(&text));
    buf_finish(&parameter);
    buf_finish(&text);
}

static inline void reply_sum(struct http_exchange *exchange)
{
    struct str body = http_body(exchange);
    bool exact = true;
    for (size_t i = 0; i < body.len; i++) {
        exact = exact && body.ptr[i] == pattern_byte(i);
    }
    struct buf text;
    buf_init(&text, 64);
    buf_append_format(&text, "%zu %s", body.len, exact ? "exact" : "broken");
    reply_text(exchange, 200, buf_str(&text));
    buf_finish(&text);
}

static inline void on_ready(void *context, struct http_exchange *exchange)
{
    struct fixture *fixture = context;
    struct str path = http_path(exchange);
    struct err err;
    atomic_fetch_add(&fixture->ready, 1);
    if (str_equal(path, STR("/upload/full"))) {
        reply_text(exchange, 503, STR("full"));
    } else if (str_equal(path, STR("/echo")) || str_equal(path, STR("/nobody"))) {
        reply_text(exchange, 200, http_body(exchange));
    } else if (str_equal(path, STR("/large"))) {
        reply_sum(exchange);
    } else if (str_equal(path, STR("/big"))) {
        char *bytes = mem_alloc((size_t)8 << 20);
        http_reply(exchange, &(struct http_reply){.status = 200}, str_make(bytes, (size_t)8 << 20));
        mem_free(bytes);
    } else if (str_equal(path, STR("/decode"))) {
        if (http_decode_body(exchange, BODY_MAX, &err)) {
            reply_text(exchange, 200, http_body(exchange));
        } else {
            reply_text(exchange, err_kind_info(err.kind)->http_status, str_of(err.message));
        }
    } else if (str_starts(path, STR("/request")) || str_starts(path, STR("/%"))) {
        reply_request(exchange);
    } else {
        start_worker(fixture, exchange);
    }
}

static inline void on_more(void *context, struct http_exchange *exchange)
{
    struct fixture *fixture = context;
    struct work *work = http_context(exchange);
    atomic_fetch_add(&fixture->woken, 1);
    atomic_fetch_add(&work->more, 1);
}

static inline void on_refuse(void *context, struct http_exchange *exchange, const struct err *err)
{
    struct fixture *fixture = context;
    atomic_fetch_add(&fixture->refused, 1);
    reply_text(exchange, err_kind_info(err->kind)->http_status, str_of(err->message));
}

static inline void on_done(void *context, struct http_exchange *exchange, unsigned status,
                           uint64_t reply_bytes, int64_t elapsed_us)
{
    struct fixture *fixture = context;
    if (elapsed_us < 0 || http_request_id(exchange).len == 0) {
        abort();
    }
    atomic_store(&fixture->last_status, status);
    atomic_store(&fixture->last_bytes, reply_bytes);
    atomic_fetch_add(&fixture->done, 1);
}

static inline struct fixture *fixture_start(struct http_options options)
{
    struct fixture *fixture = mem_alloc(sizeof(*fixture));
    pthread_mutex_init(&fixture->lock, NULL);
    options.handlers = (struct http_handlers){
        .context = fixture,
        .begin = on_begin,
        .grow = options.handlers.grow, /* a test's own, or none */
        .ready = on_ready,
        .more = on_more,
        .refuse = on_refuse,
        .done = on_done,
    };
    fixture->server = http_server_create(&options);
    struct err err;
    if (!http_listen(fixture->server, STR("127.0.0.1:0"), 7, &fixture->port, &err) ||
        !http_start(fixture->server, &err)) {
        fprintf(stderr, "cannot start: %s\n", err.message);
        abort();
    }
    return fixture;
}

static inline void fixture_stop(struct fixture *fixture)
{
    http_server_destroy(fixture->server);
    for (size_t i = 0; i < fixture->workers_count; i++) {
        pthread_join(fixture->workers[i], NULL);
    }
    /* A request that is refused for its framing never gets as far as begin, which sets the context.
     */
    if (atomic_load(&fixture->finished) > atomic_load(&fixture->done) ||
        (atomic_load(&fixture->finished) == 0 && atomic_load(&fixture->ready) > 0)) {
        abort();
    }
    pthread_mutex_destroy(&fixture->lock);
    mem_free(fixture);
}

/* ---- the client ---- */

struct reply {
    unsigned status;
    struct buf head;
    struct buf body;
    bool whole;  /* its framing was complete */
    bool closed; /* the connection ended */
};

static inline int client_connect(const struct fixture *fixture, int receive_bytes)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(fixture->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_bytes > 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static inline bool client_send(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        bytes = str_from(bytes, (size_t)sent);
    }
    return true;
}

static inline ssize_t client_receive(int fd, char *bytes, size_t size)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, PATIENCE_MS) <= 0) {
        return -2;
    }
    return recv(fd, bytes, size, 0);
}

static inline bool read_byte(int fd, struct reply *reply, char *ret_byte)
{
    if (client_receive(fd, ret_byte, 1) != 1) {
        reply->closed = true;
        return false;
    }
    return true;
}

static inline bool read_line(int fd, struct reply *reply, struct buf *line)
{
    char byte = 0;
    buf_reset(line);
    while (byte != '\n') {
        if (!read_byte(fd, reply, &byte)) {
            return false;
        }
        buf_append_byte(line, byte);
    }
    return true;
}

static inline bool read_exactly(int fd, struct reply *reply, size_t size)
{
    char block[65536];
    while (size > 0) {
        ssize_t got = client_receive(fd, block, size < sizeof(block) ? size : sizeof(block));
        if (got <= 0) {
            reply->closed = true;
            return false;
        }
        buf_append_bytes(&reply->body, block, (size_t)got);
        size -= (size_t)got;
    }
    return true;
}

static inline struct str header_of(const struct reply *reply, const char *name)
{
    struct str rest = buf_str(&reply->head);
    struct str line;
    while (str_next_part(&rest, '\n', &line)) {
        size_t colon = str_find_byte(line, ':');
        if (colon < line.len && str_equal_nocase(str_first(line, colon), str_of(name))) {
            return str_trim(str_from(line, colon + 1));
        }
    }
    return (struct str){0};
}

static inline bool read_chunks(int fd, struct reply *reply)
{
    struct buf line;
    buf_init(&line, 1024);
    size_t size = 1;
    bool good = true;
    while (good && size > 0) {
        good = read_line(fd, reply, &line);
        size = good ? strtoul(line.ptr, NULL, 16) : 0;
        good = good && read_exactly(fd, reply, size) && read_line(fd, reply, &line);
    }
    buf_finish(&line);
    return good;
}

static inline void read_until_close(int fd, struct reply *reply)
{
    char block[65536];
    ssize_t got;
    while ((got = client_receive(fd, block, sizeof(block))) > 0) {
        buf_append_bytes(&reply->body, block, (size_t)got);
    }
    reply->closed = true;
    reply->whole = got == 0;
}

static inline void read_body(int fd, struct reply *reply, bool head)
{
    struct err err;
    uint64_t size = 0;
    struct str length = header_of(reply, "Content-Length");
    if (head) {
        reply->whole = true;
    } else if (str_equal(header_of(reply, "Transfer-Encoding"), STR("chunked"))) {
        reply->whole = read_chunks(fd, reply);
    } else if (length.ptr != NULL) {
        reply->whole =
            num_parse_u64(length, 0, UINT32_MAX, &size, &err) && read_exactly(fd, reply, size);
    } else {
        read_until_close(fd, reply);
    }
}

/* False when no reply came. */
static inline bool client_read(int fd, struct reply *reply, bool head)
{
    *reply = (struct reply){0};
    buf_init(&reply->head, 65536);
    buf_init(&reply->body, (size_t)100 << 20);
    struct buf line;
    buf_init(&line, 65536);
    bool good = read_line(fd, reply, &line);
    if (good) {
        reply->status = (unsigned)strtoul(line.ptr + 9, NULL, 10);
    }
    while (good && line.len > 2) {
        buf_append(&reply->head, buf_str(&line));
        good = read_line(fd, reply, &line);
    }
    buf_finish(&line);
    if (good) {
        read_body(fd, reply, head);
    }
    return good;
}

static inline void reply_finish(struct reply *reply)
{
    buf_finish(&reply->head);
    buf_finish(&reply->body);
}

static inline bool is_closed(int fd)
{
    char byte;
    return client_receive(fd, &byte, 1) <= 0;
}

#define CHECK_REPLY(fd_, status_, body_)         \
    do {                                         \
        struct reply reply_;                     \
        CHECK(client_read(fd_, &reply_, false)); \
        CHECK_U64(reply_.status, status_);       \
        CHECK(reply_.whole);                     \
        CHECK_STR(buf_str(&reply_.body), body_); \
        reply_finish(&reply_);                   \
    } while (0)

#define GET(path) STR("GET " path " HTTP/1.1\r\nHost: t\r\n\r\n")

static const struct http_options defaults;

/* A chunked body of the pattern, in chunks of changing size. */
static inline void append_pattern_chunks(struct buf *text, size_t total)
{
    size_t offset = 0;
    for (size_t size = 1; offset < total; size = size * 3 % 70001 + 1) {
        size = size < total - offset ? size : total - offset;
        buf_append_format(text, "%zx\r\n", size);
        for (size_t i = 0; i < size; i++) {
            buf_append_byte(text, pattern_byte(offset + i));
        }
        buf_append_text(text, "\r\n");
        offset += size;
    }
    buf_append_text(text, "0\r\n\r\n");
}
