/* test_http_limits.c - what the HTTP server refuses, decodes and cuts. */
#include "http_fixture.h"

#include <zlib.h>

TEST(large_body_announced_is_refused)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    size_t size = (size_t)10 << 20;
    char *bytes = mem_alloc(size);
    CHECK(
        client_send(fd, STR("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10485760\r\n\r\n")));
    CHECK(client_send(fd, str_make(bytes, size)));
    CHECK_REPLY(fd, 413, "the request body is larger than 4096 bytes");
    CHECK(is_closed(fd)); /* told in the middle of the body: the connection ends with it */
    (void)close(fd);
    fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    CHECK_U64(atomic_load(&fixture->refused), 1);
    CHECK_U64(atomic_load(&fixture->ready), 1);
    mem_free(bytes);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(huge_body_announced_is_refused_at_once)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(client_send(
        fd, STR("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n")));
    CHECK_REPLY(fd, 413, "the request body is larger than 4096 bytes");
    CHECK(is_closed(fd));
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(large_chunked_body_is_refused)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct buf text;
    buf_init(&text, (size_t)8 << 20);
    buf_append_text(&text, "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    append_pattern_chunks(&text, (size_t)3 << 20);
    CHECK(client_send(fd, buf_str(&text)));
    CHECK_REPLY(fd, 413, "the request body is larger than 4096 bytes");
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    buf_finish(&text);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(endless_chunked_body_is_cut)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct buf text;
    buf_init(&text, (size_t)2 << 20);
    buf_append_text(&text, "100000\r\n");
    for (size_t i = 0; i < (size_t)1 << 20; i++) {
        buf_append_byte(&text, 'x');
    }
    buf_append_text(&text, "\r\n");
    CHECK(client_send(fd,
                      STR("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")));
    size_t sent = 0;
    while (sent < 1000 && client_send(fd, buf_str(&text))) {
        sent++;
    }
    CHECK(sent >= 64);
    CHECK(sent < 200);
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 1);
    CHECK_U64(atomic_load(&fixture->last_status), 413);
    buf_finish(&text);
    (void)close(fd);
    fixture_stop(fixture);
}

/* ---- leave to grow ---- */

static atomic_int grow_calls;
static atomic_ullong grow_size; /* what was asked for last */

static bool grow_to_128_kib(void *context, struct http_exchange *exchange, uint64_t size)
{
    (void)context;
    (void)exchange;
    atomic_fetch_add(&grow_calls, 1);
    atomic_store(&grow_size, size);
    return size <= (uint64_t)128 << 10;
}

static struct fixture *start_with_grow(void)
{
    atomic_store(&grow_calls, 0);
    atomic_store(&grow_size, 0);
    return fixture_start((struct http_options){.handlers.grow = grow_to_128_kib});
}

static void append_patterned_post(struct buf *text, size_t size)
{
    buf_append_format(text, "POST /large HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n", size);
    for (size_t i = 0; i < size; i++) {
        buf_append_byte(text, pattern_byte(i));
    }
}

TEST(body_asks_before_it_grows_in_steps)
{
    struct fixture *fixture = start_with_grow();
    int fd = client_connect(fixture, 0);
    struct buf text;
    buf_init(&text, (size_t)4 << 20);
    append_patterned_post(&text, 10);
    CHECK(client_send(fd, buf_str(&text)));
    CHECK_REPLY(fd, 200, "10 exact");
    CHECK_U64(atomic_load(&grow_calls), 1);
    CHECK_U64(atomic_load(&grow_size), 10);
    buf_reset(&text);
    append_patterned_post(&text, 100000);
    CHECK(client_send(fd, buf_str(&text)));
    CHECK_REPLY(fd, 200, "100000 exact");
    CHECK(atomic_load(&grow_calls) <= 3);
    CHECK_U64(atomic_load(&grow_size), 100000);
    buf_finish(&text);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(body_that_may_not_grow_is_refused)
{
    struct fixture *fixture = start_with_grow();
    int fd = client_connect(fixture, 0);
    struct buf text;
    buf_init(&text, (size_t)4 << 20);
    append_patterned_post(&text, (size_t)1 << 20);
    CHECK(client_send(fd, buf_str(&text)));
    CHECK_REPLY(fd, 503, "the server holds as much request data as it may; retry shortly");
    buf_reset(&text);
    buf_append_text(&text, "POST /large HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    append_pattern_chunks(&text, (size_t)1 << 20);
    CHECK(client_send(fd, buf_str(&text)));
    CHECK_REPLY(fd, 503, "the server holds as much request data as it may; retry shortly");
    CHECK_U64(atomic_load(&fixture->refused), 2);
    CHECK_U64(atomic_load(&fixture->ready), 0);
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    buf_finish(&text);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(body_that_is_only_announced_asks_for_one_step)
{
    struct fixture *fixture = start_with_grow();
    int fd = client_connect(fixture, 0);
    CHECK(client_send(
        fd, STR("POST /large HTTP/1.1\r\nHost: t\r\nContent-Length: 2000000\r\n\r\nabc")));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&grow_calls) == 1);
    CHECK_U64(atomic_load(&grow_size), 65536);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(reply_from_begin)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/early")));
    CHECK_REPLY(fd, 403, "no");
    CHECK(client_send(fd, STR("POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody")));
    CHECK_REPLY(fd, 403, "no");
    CHECK(
        client_send(fd, STR("POST /nobody HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody")));
    CHECK_REPLY(fd, 413, "the request body is larger than 0 bytes");
    CHECK(is_closed(fd));
    (void)close(fd);
    fd = client_connect(fixture, 0);
    CHECK(client_send(fd, STR("POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n"
                              "Expect: 100-continue\r\n\r\n")));
    CHECK_REPLY(fd, 403, "no");
    CHECK(is_closed(fd));
    (void)close(fd);
    fd = client_connect(fixture, 0);
    CHECK(client_send(fd, STR("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n"
                              "Expect: 100-continue\r\n\r\n")));
    struct reply reply;
    CHECK(client_read(fd, &reply, true));
    CHECK_U64(reply.status, 100);
    reply_finish(&reply);
    CHECK(client_send(fd, STR("body")));
    CHECK_REPLY(fd, 200, "body");
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(ambiguous_framing_is_refused)
{
    static const char *const fields[] = {
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    };
    struct fixture *fixture = fixture_start(defaults);
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        int fd = client_connect(fixture, 0);
        struct buf text;
        buf_init(&text, 1024);
        buf_append_format(&text, "POST /echo HTTP/1.1\r\nHost: t\r\n%s\r\n", fields[i]);
        CHECK(client_send(fd, buf_str(&text)));
        struct reply reply;
        CHECK(client_read(fd, &reply, false));
        CHECK(reply.status == 400);
        CHECK(is_closed(fd));
        reply_finish(&reply);
        buf_finish(&text);
        (void)close(fd);
    }
    CHECK_U64(atomic_load(&fixture->ready), 0);
    fixture_stop(fixture);
}

TEST(long_header_is_refused)
{
    struct fixture *fixture = fixture_start(defaults);
    for (int kind = 0; kind < 2; kind++) {
        int fd = client_connect(fixture, 0);
        struct buf text;
        buf_init(&text, 65536);
        buf_append_text(&text, "GET /echo HTTP/1.1\r\nHost: t\r\n");
        for (int i = 0; i < (kind == 0 ? 101 : 17); i++) {
            buf_append_format(&text, "X-%d: %0*d\r\n", i, kind == 0 ? 1 : 1000, i);
        }
        buf_append_text(&text, "\r\n");
        CHECK(client_send(fd, buf_str(&text)));
        CHECK_REPLY(fd, 431, "the request header is too large\n");
        CHECK(is_closed(fd));
        buf_finish(&text);
        (void)close(fd);
    }
    fixture_stop(fixture);
}

/* Damages a good request in a few places; what comes back does not matter, only that the server
 * lives. */
TEST(garbage_does_no_harm)
{
    static const char good[] = "POST /echo?a=b HTTP/1.1\r\nHost: t\r\nX: y\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                               "POST /defer HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc";
    struct fixture *fixture = fixture_start(defaults);
    unsigned seed = 1;
    for (int i = 0; i < 400; i++) {
        char text[sizeof(good)];
        memcpy(text, good, sizeof(good));
        for (int damage = 0; damage < 1 + i % 4; damage++) {
            text[(unsigned)rand_r(&seed) % (sizeof(good) - 1)] = (char)(rand_r(&seed) % 256);
        }
        int fd = client_connect(fixture, 0);
        CHECK(client_send(fd, str_make(text, sizeof(good) - 1)));
        (void)shutdown(fd, SHUT_WR);
        char bytes[4096];
        while (client_receive(fd, bytes, sizeof(bytes)) > 0) {
        }
        (void)close(fd);
    }
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    (void)close(fd);
    CHECK(http_wait_idle(fixture->server, test_now_ms() + PATIENCE_MS));
    fixture_stop(fixture);
}

/* ---- compressed bodies ---- */

static void deflate_into(struct buf *into, struct str text, int window)
{
    z_stream stream = {0};
    unsigned char block[65536];
    if (deflateInit2(&stream, 9, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        abort();
    }
    stream.next_in = (Bytef *)(uintptr_t)text.ptr;
    stream.avail_in = (uInt)text.len;
    stream.next_out = block;
    stream.avail_out = sizeof(block);
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END) {
        abort();
    }
    buf_append_bytes(into, block, sizeof(block) - stream.avail_out);
    (void)deflateEnd(&stream);
}

static bool send_encoded(int fd, const char *encoding, struct str body)
{
    struct buf text;
    buf_init(&text, 65536);
    buf_append_format(&text,
                      "POST /decode HTTP/1.1\r\nHost: t\r\nContent-Encoding: %s\r\n"
                      "Content-Length: %zu\r\n\r\n",
                      encoding, body.len);
    buf_append(&text, body);
    bool sent = client_send(fd, buf_str(&text));
    buf_finish(&text);
    return sent;
}

TEST(compressed_bodies)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct buf body;
    buf_init(&body, 65536);
    static const struct {
        const char *encoding;
        int window;
    } kinds[] = {{"gzip", 31}, {"X-GZip", 31}, {"deflate", 15}, {"deflate", -15}};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        buf_reset(&body);
        deflate_into(&body, STR("the text"), kinds[i].window);
        CHECK(send_encoded(fd, kinds[i].encoding, buf_str(&body)));
        CHECK_REPLY(fd, 200, "the text");
        CHECK(send_encoded(fd, kinds[i].encoding, str_first(buf_str(&body), body.len - 3)));
        CHECK_REPLY(fd, 400, "the compressed request body is broken");
        buf_append_text(&body, "garbage");
        CHECK(send_encoded(fd, kinds[i].encoding, buf_str(&body)));
        struct reply reply;
        CHECK(client_read(fd, &reply, false));
        CHECK_U64(reply.status, 400);
        reply_finish(&reply);
    }
    buf_reset(&body);
    deflate_into(&body, STR("one "), 31);
    deflate_into(&body, STR("two"), 31);
    CHECK(send_encoded(fd, "gzip", buf_str(&body)));
    CHECK_REPLY(fd, 200, "one two");
    CHECK(send_encoded(fd, "identity", STR("plain")));
    CHECK_REPLY(fd, 200, "plain");
    CHECK(send_encoded(fd, "gzip, gzip", STR("x")));
    CHECK_REPLY(fd, 415, "more than one content encoding at once is not supported");
    buf_finish(&body);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(compressed_bomb_is_refused)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    size_t size = (size_t)2 << 20;
    char *zeros = mem_alloc(size);
    struct buf body;
    buf_init(&body, 65536);
    deflate_into(&body, str_make(zeros, size), 31);
    CHECK(body.len < BODY_MAX);
    CHECK(send_encoded(fd, "gzip", buf_str(&body)));
    CHECK_REPLY(fd, 413, "the decoded request body is larger than 4096 bytes");
    buf_reset(&body);
    deflate_into(&body, str_make(zeros, BODY_MAX), 31);
    CHECK(send_encoded(fd, "gzip", buf_str(&body)));
    struct reply reply;
    CHECK(client_read(fd, &reply, false));
    CHECK_U64(reply.status, 200);
    CHECK_U64(reply.body.len, BODY_MAX);
    reply_finish(&reply);
    mem_free(zeros);
    buf_finish(&body);
    (void)close(fd);
    fixture_stop(fixture);
}

/* ---- time-outs ---- */

/* Sends a byte every few milliseconds, as a slow-header attack does, until the server has had
 * enough. */
static int64_t trickle_until_cut(int fd)
{
    int64_t start_ms = test_now_ms();
    struct pollfd cut = {.fd = fd, .events = POLLIN};
    while (poll(&cut, 1, 10) == 0 && test_now_ms() - start_ms < PATIENCE_MS) {
        (void)client_send(fd, STR("a"));
    }
    return test_now_ms() - start_ms;
}

TEST(slow_header_is_cut)
{
    struct fixture *fixture = fixture_start((struct http_options){.header_timeout_ms = 300});
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, STR("GET /echo HTTP/1.1\r\nHost: ")));
    int64_t took_ms = trickle_until_cut(fd);
    CHECK(took_ms >= 200);
    CHECK(took_ms < 2000);
    CHECK_REPLY(fd, 408, "");
    (void)close(fd);
    fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    CHECK(client_send(fd, STR("GET /echo HTTP/1.1\r\nHost: ")));
    CHECK(trickle_until_cut(fd) < 2000);
    (void)close(fd);
    fd = client_connect(fixture, 0);
    CHECK(is_closed(fd));
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(idle_connection_is_closed)
{
    struct fixture *fixture = fixture_start((struct http_options){.idle_timeout_ms = 200});
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    int64_t start_ms = test_now_ms();
    CHECK(is_closed(fd));
    CHECK(test_now_ms() - start_ms < 2000);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(stalled_body_is_cut)
{
    struct fixture *fixture = fixture_start((struct http_options){.body_stall_timeout_ms = 200});
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, STR("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc")));
    int64_t start_ms = test_now_ms();
    CHECK_REPLY(fd, 408, "");
    CHECK(is_closed(fd));
    CHECK(test_now_ms() - start_ms < 2000);
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 1);
    CHECK_U64(atomic_load(&fixture->last_status), 0);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(stalled_reader_is_cut)
{
    struct http_options options = {.write_stall_timeout_ms = 300};
    static const char *const requests[] = {
        "GET /stream HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /big HTTP/1.1\r\nHost: t\r\n\r\n",
    };
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        struct fixture *fixture = fixture_start(options);
        int fd = client_connect(fixture, 4096);
        int64_t start_ms = test_now_ms();
        CHECK(client_send(fd, str_of(requests[i])));
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 1);
        CHECK(test_now_ms() - start_ms >= 250);
        CHECK(test_now_ms() - start_ms < 3000);
        CHECK_U64(atomic_load(&fixture->write_failures), i == 0 ? 1 : 0);
        (void)close(fd);
        fixture_stop(fixture);
    }
}

TEST(slow_work_and_slow_readers_outlive_the_time_outs)
{
    struct http_options options = {
        .idle_timeout_ms = 150,
        .header_timeout_ms = 150,
        .body_stall_timeout_ms = 150,
        .write_stall_timeout_ms = 400,
    };
    struct fixture *fixture = fixture_start(options);
    int fd = client_connect(fixture, 131072);
    CHECK(client_send(fd, GET("/hold")));
    int64_t start_ms = test_now_ms();
    CHECK_WITHIN(PATIENCE_MS, test_now_ms() - start_ms > 600);
    atomic_store(&fixture->release, true);
    CHECK_REPLY(fd, 200, "held");
    /* A reply that takes several time-outs to read, with pauses shorter than one. */
    CHECK(client_send(fd, GET("/big")));
    char *block = mem_alloc(1 << 19);
    size_t total = 0;
    start_ms = test_now_ms();
    while (total < (size_t)8 << 20) {
        ssize_t got = client_receive(fd, block, 1 << 19);
        CHECK(got > 0);
        total += (size_t)got;
        int64_t until_ms = test_now_ms() + (test_now_ms() - start_ms < 1500 ? 50 : 0);
        CHECK_WITHIN(PATIENCE_MS, test_now_ms() >= until_ms);
    }
    mem_free(block);
    (void)close(fd);
    fixture_stop(fixture);
}

static const struct test_case cases[] = {
    TEST_CASE(large_body_announced_is_refused),
    TEST_CASE(huge_body_announced_is_refused_at_once),
    TEST_CASE(large_chunked_body_is_refused),
    TEST_CASE(endless_chunked_body_is_cut),
    TEST_CASE(body_asks_before_it_grows_in_steps),
    TEST_CASE(body_that_may_not_grow_is_refused),
    TEST_CASE(body_that_is_only_announced_asks_for_one_step),
    TEST_CASE(reply_from_begin),
    TEST_CASE(ambiguous_framing_is_refused),
    TEST_CASE(long_header_is_refused),
    TEST_CASE(garbage_does_no_harm),
    TEST_CASE(compressed_bodies),
    TEST_CASE(compressed_bomb_is_refused),
    TEST_CASE(slow_header_is_cut),
    TEST_CASE(idle_connection_is_closed),
    TEST_CASE(stalled_body_is_cut),
    TEST_CASE(stalled_reader_is_cut),
    TEST_CASE(slow_work_and_slow_readers_outlive_the_time_outs),
};

TEST_MAIN(cases)
