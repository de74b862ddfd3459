/* http_upload_fixture.h - for test_http_stream_*.c: a reader of streamed bodies, and a client that
 * sends a pattern which the reader knows. */
#pragma once

#include "http_fixture.h"

#define MIB ((size_t)1 << 20)
#define PATTERN_PERIOD ((size_t)4096 * 26)
#define PIECE_MAX ((size_t)64 << 10)

/* ---- what the reader saw; one server at a time ---- */

static struct {
    atomic_ullong most_held; /* came over the wire, and the reader was not done with it */
    atomic_ullong received;  /* while the reader waits for `release` */
    atomic_ullong read;
    atomic_int error;
    atomic_llong error_at;
    atomic_int readers; /* that have read something */
} seen;

static char pattern[PATTERN_PERIOD + PIECE_MAX + 1];

static inline void make_pattern(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = pattern_byte(i);
    }
}

static inline bool matches_pattern(struct str bytes, uint64_t offset)
{
    return bytes.len <= PIECE_MAX &&
           memcmp(bytes.ptr, pattern + offset % PATTERN_PERIOD, bytes.len) == 0;
}

static inline uint64_t parameter_of(struct http_exchange *exchange, const char *name,
                                    uint64_t fallback)
{
    struct buf text;
    struct err err;
    uint64_t value = fallback;
    buf_init(&text, 64);
    if (http_query_parameter(exchange, name, &text)) {
        (void)!num_parse_u64(buf_str(&text), 0, UINT64_MAX, &value, &err);
    }
    buf_finish(&text);
    return value;
}

static inline void note_held(struct http_exchange *exchange, uint64_t wire_done)
{
    unsigned long long held = http_body_received(exchange) - wire_done;
    if (held > atomic_load(&seen.most_held)) {
        atomic_store(&seen.most_held, held);
    }
}

static inline void reply_error(struct http_exchange *exchange, const struct err *err)
{
    atomic_store(&seen.error_at, test_now_ms());
    atomic_store(&seen.error, (int)err->kind);
    reply_text(exchange, err_kind_info(err->kind)->http_status, str_of(err->message));
}

/* `/upload/held` reads one piece and goes on when told to. */
static inline void hold(struct fixture *fixture, struct http_exchange *exchange)
{
    struct err err;
    bool wanted = true;
    while (wanted && !atomic_load(&fixture->release)) {
        atomic_store(&seen.received, http_body_received(exchange));
        wanted = cancel_wait(http_cancel(exchange), 2, &err);
    }
}

/* Called for by on_more, a second time only after another call. */
static inline void await_more(struct work *work)
{
    int none = 0;
    int one = 1;
    while (!atomic_compare_exchange_strong(&work->more, &one, none)) {
        if (one > 1) {
            abort();
        }
        one = 1;
        test_pause();
    }
}

static inline bool read_next(struct work *work, uint64_t most, struct str *ret_piece,
                             struct err *err)
{
    bool later = true;
    while (later) {
        if (!http_body_read(work->exchange, most, ret_piece, &later, err)) {
            return false;
        }
        if (later) {
            await_more(work);
        }
    }
    return true;
}

/* Reads to the end, or until `stop` bytes have come, and says what it got. */
static inline void read_upload(struct fixture *fixture, struct http_exchange *exchange)
{
    uint64_t most = parameter_of(exchange, "most", UINT64_MAX);
    uint64_t stop = parameter_of(exchange, "stop", UINT64_MAX);
    bool held = str_equal(http_path(exchange), STR("/upload/held"));
    bool plain = http_header(exchange, "Content-Encoding").ptr == NULL;
    uint64_t total = 0;
    bool exact = true;
    struct str piece = STR("x");
    struct err err;
    http_cancel(exchange)->deadline_ms =
        test_now_ms() + (int64_t)parameter_of(exchange, "deadline", PATIENCE_MS * 4);
    while (piece.len > 0 && total < stop) {
        struct work *work = http_context(exchange);
        if (!read_next(work, most, &piece, &err)) {
            struct err again;
            if (read_next(work, most, &piece, &again) || again.kind != err.kind) {
                abort(); /* an error stays */
            }
            reply_error(exchange, &err);
            return;
        }
        exact = exact && matches_pattern(piece, total);
        if (plain) {
            note_held(exchange, total);
        }
        total += piece.len;
        atomic_store(&seen.read, total);
        atomic_fetch_add(&seen.readers, total == piece.len ? 1 : 0);
        if (held && total == piece.len) {
            hold(fixture, exchange);
        }
    }
    struct buf text;
    buf_init(&text, 64);
    buf_append_format(&text, "%zu %s", (size_t)total, exact ? "exact" : "broken");
    reply_text(exchange, stop == UINT64_MAX ? 200 : 422, buf_str(&text));
    buf_finish(&text);
}

static inline struct fixture *start(struct http_options options)
{
    make_pattern();
    atomic_store(&seen.most_held, 0);
    atomic_store(&seen.received, 0);
    atomic_store(&seen.read, 0);
    atomic_store(&seen.error, ERR_NONE);
    atomic_store(&seen.readers, 0);
    struct fixture *fixture = fixture_start(options);
    fixture->upload = read_upload;
    return fixture;
}

/* ---- what the client sends ---- */

static inline bool send_header(int fd, const char *path, const char *fields)
{
    struct buf text;
    buf_init(&text, 4096);
    buf_append_format(&text, "POST %s HTTP/1.1\r\nHost: t\r\n%s\r\n", path, fields);
    bool sent = client_send(fd, buf_str(&text));
    buf_finish(&text);
    return sent;
}

static inline bool send_sized_header(int fd, const char *path, size_t size, const char *fields)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "Content-Length: %zu\r\n%s", size, fields);
    return send_header(fd, path, text);
}

static inline bool send_pattern(int fd, size_t offset, size_t end)
{
    bool sent = true;
    while (sent && offset < end) {
        size_t size = end - offset < PIECE_MAX ? end - offset : PIECE_MAX;
        sent = client_send(fd, str_make(pattern + offset % PATTERN_PERIOD, size));
        offset += size;
    }
    return sent;
}

static inline bool send_upload(int fd, const char *path, size_t size)
{
    return send_sized_header(fd, path, size, "") && send_pattern(fd, 0, size);
}

static inline bool send_encoded(int fd, const char *path, const char *encoding, struct str body)
{
    char fields[64];
    (void)snprintf(fields, sizeof(fields), "Content-Encoding: %s\r\n", encoding);
    return send_sized_header(fd, path, body.len, fields) && client_send(fd, body);
}

static inline void leave(int fd, bool reset)
{
    if (reset) {
        struct linger now = {.l_onoff = 1};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    (void)close(fd);
}
