/* test_http.c - requests and replies, deferral, streams, and the life of the server. */
#include "http_fixture.h"

TEST(keep_alive_and_pipelining)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    for (int i = 0; i < 2; i++) {
        CHECK(client_send(fd,
                          STR("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello")));
        CHECK_REPLY(fd, 200, "hello");
    }
    CHECK(client_send(fd, STR("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\na"
                              "POST /defer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nb"
                              "GET /stream?bytes=3 HTTP/1.1\r\nHost: t\r\n\r\n"
                              "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nd")));
    CHECK_REPLY(fd, 200, "a");
    CHECK_REPLY(fd, 200, "b");
    char three[] = {pattern_byte(0), pattern_byte(1), pattern_byte(2), '\0'};
    CHECK_REPLY(fd, 200, three);
    CHECK_REPLY(fd, 200, "d");
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(request_is_given_as_sent)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, STR("GET /request/a%2Fb+c?name=1&x=%20&na%6De=two+%2b HTTP/1.1\r\n"
                              "Host: t\r\nUSER-AGENT:  unit \r\n\r\n")));
    CHECK_REPLY(fd, 200,
                "GET /request/a%2Fb+c ?name=1&x=%20&na%6De=two+%2b tag=7 from=127.0.0.1 "
                "name=two + agent=unit");
    CHECK(client_send(fd, STR("PURGE http://h:1/request HTTP/1.1\r\nHost: h:1\r\n\r\n")));
    CHECK_REPLY(fd, 200, "PURGE /request ? tag=7 from=127.0.0.1 name=- agent=");
    CHECK(client_send(fd, GET("/request?name=%zz")));
    CHECK_REPLY(fd, 200, "GET /request ?name=%zz tag=7 from=127.0.0.1 name=- agent=");
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(request_id_goes_in_and_out)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct reply reply;
    CHECK(client_send(fd, STR("GET /echo HTTP/1.1\r\nHost: t\r\nX-Request-Id: my id\r\n\r\n")));
    CHECK(client_read(fd, &reply, false));
    CHECK_STR(header_of(&reply, "x-request-id"), "my id");
    CHECK_STR(header_of(&reply, "X-Test"), "yes");
    CHECK(header_of(&reply, "Server").ptr == NULL);
    CHECK(header_of(&reply, "Date").ptr != NULL);
    reply_finish(&reply);
    CHECK(client_send(fd, GET("/defer")));
    CHECK(client_read(fd, &reply, false));
    CHECK_U64(header_of(&reply, "X-Request-Id").len, 16);
    reply_finish(&reply);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(chunked_body_of_a_megabyte)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct buf text;
    buf_init(&text, (size_t)8 << 20);
    for (int i = 0; i < 2; i++) {
        buf_append_text(&text,
                        "POST /large HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
        append_pattern_chunks(&text, (size_t)1 << 20);
    }
    CHECK(client_send(fd, buf_str(&text)));
    CHECK_REPLY(fd, 200, "1048576 exact");
    CHECK_REPLY(fd, 200, "1048576 exact");
    buf_finish(&text);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(client_that_leaves_raises_cancel)
{
    static const char *const paths[] = {"/hold", "/stubborn", "/pause"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        struct fixture *fixture = fixture_start(defaults);
        int fd = client_connect(fixture, 0);
        struct buf text;
        buf_init(&text, 256);
        buf_append_format(&text, "GET %s HTTP/1.1\r\nHost: t\r\n\r\n", paths[i]);
        CHECK(client_send(fd, buf_str(&text)));
        buf_finish(&text);
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->held) == 1);
        int64_t left_at = test_now_ms();
        (void)close(fd);
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->cancelled_at) > 0);
        CHECK(atomic_load(&fixture->cancelled_at) - left_at <= 100);
        CHECK_U64(atomic_load(&fixture->cancel_reason), ERR_CANCELLED);
        fd = client_connect(fixture, 0);
        CHECK(client_send(fd, GET("/echo")));
        CHECK_REPLY(fd, 200, "");
        atomic_store(&fixture->release, true);
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 2);
        (void)close(fd);
        fixture_stop(fixture);
    }
}

TEST(deferred_200_at_once)
{
    struct fixture *fixture = fixture_start(defaults);
    int fds[200];
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        fds[i] = client_connect(fixture, 0);
        CHECK(fds[i] >= 0);
        CHECK(client_send(fds[i], GET("/hold")));
    }
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->held) == (int)COUNT_OF(fds));
    for (size_t i = 0; i < COUNT_OF(fds); i += 4) {
        (void)close(fds[i]);
    }
    atomic_store(&fixture->release, true);
    for (size_t i = 0; i < COUNT_OF(fds); i++) {
        if (i % 4 != 0) {
            CHECK_REPLY(fds[i], 200, "held");
            (void)close(fds[i]);
        }
    }
    CHECK(http_wait_idle(fixture->server, test_now_ms() + PATIENCE_MS));
    CHECK_U64(atomic_load(&fixture->done), COUNT_OF(fds));
    fixture_stop(fixture);
}

TEST(stream_to_a_slow_reader_is_bounded_and_exact)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 16384);
    CHECK(client_send(fd, GET("/stream")));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->written) > 0);
    /* The writer gets stuck once ring and socket buffers are full. */
    long long before;
    do {
        before = atomic_load(&fixture->written);
        for (int i = 0; i < 100; i++) {
            test_pause();
        }
    } while (before != atomic_load(&fixture->written));
    CHECK(before < (long long)8 << 20);
    struct reply reply;
    CHECK(client_read(fd, &reply, false));
    CHECK(reply.whole);
    CHECK_U64(reply.body.len, STREAM_BYTES);
    size_t wrong = 0;
    for (size_t i = 0; i < reply.body.len; i++) {
        wrong += reply.body.ptr[i] != pattern_byte(i);
    }
    CHECK_U64(wrong, 0);
    reply_finish(&reply);
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    (void)close(fd);
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 2);
    fixture_stop(fixture);
}

TEST(stream_shows_the_first_bytes_at_once)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/pause")));
    char bytes[4096];
    size_t len = 0;
    while (str_find(str_make(bytes, len), STR("first")) == len) {
        ssize_t got = client_receive(fd, bytes + len, sizeof(bytes) - len);
        CHECK(got > 0);
        len += (size_t)got;
    }
    atomic_store(&fixture->release, true);
    while (str_find(str_make(bytes, len), STR("second\r\n0\r\n\r\n")) == len) {
        ssize_t got = client_receive(fd, bytes + len, sizeof(bytes) - len);
        CHECK(got > 0);
        len += (size_t)got;
    }
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(stream_abort_cuts_the_body)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct reply reply;
    CHECK(client_send(fd, GET("/cut")));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->held) == 1);
    atomic_store(&fixture->release, true);
    CHECK(client_read(fd, &reply, false));
    CHECK(!reply.whole);
    CHECK(reply.closed);
    reply_finish(&reply);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(stream_to_http_1_0_ends_with_the_connection)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct reply reply;
    CHECK(client_send(fd, STR("GET /stream?bytes=1000000 HTTP/1.0\r\n\r\n")));
    CHECK(client_read(fd, &reply, false));
    CHECK(header_of(&reply, "Transfer-Encoding").ptr == NULL);
    CHECK(reply.whole);
    CHECK_U64(reply.body.len, 1000000);
    reply_finish(&reply);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(stream_to_a_client_that_leaves)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 16384);
    CHECK(client_send(fd, GET("/stream")));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->written) > 100000);
    (void)close(fd);
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->write_failures) == 1);
    CHECK(http_wait_idle(fixture->server, test_now_ms() + PATIENCE_MS));
    fixture_stop(fixture);
}

TEST(head_has_no_body)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    struct reply reply;
    CHECK(client_send(fd, STR("HEAD /request HTTP/1.1\r\nHost: t\r\n\r\n")));
    CHECK(client_read(fd, &reply, true));
    CHECK_STR(header_of(&reply, "Content-Length"), "50");
    reply_finish(&reply);
    CHECK(client_send(fd, STR("HEAD /hold HTTP/1.1\r\nHost: t\r\n\r\n")));
    atomic_store(&fixture->release, true);
    CHECK(client_read(fd, &reply, true));
    CHECK_STR(header_of(&reply, "Content-Length"), "4");
    reply_finish(&reply);
    CHECK(client_send(fd, STR("HEAD /stream?bytes=5000000 HTTP/1.1\r\nHost: t\r\n\r\n")));
    CHECK(client_read(fd, &reply, true));
    CHECK_U64(reply.status, 200);
    CHECK(is_closed(fd));
    reply_finish(&reply);
    (void)close(fd);
    fixture_stop(fixture);
}

/* ---- clients that come and go ---- */

struct visitor {
    struct fixture *fixture;
    unsigned seed;
    int broken; /* replies that were neither right nor cut by ourselves */
};

static const char *const visited[] = {
    "/echo", "/defer", "/hold", "/stubborn", "/stream?bytes=300000", "/pause", "/cut", "/big",
};

static void visit_once(struct visitor *visitor)
{
    struct buf text;
    struct reply reply;
    char some[1000];
    const char *path = visited[(unsigned)rand_r(&visitor->seed) % COUNT_OF(visited)];
    int fd = client_connect(visitor->fixture, 0);
    buf_init(&text, 1024);
    buf_append_format(&text, "GET %s HTTP/1.1\r\nHost: t\r\n\r\n", path);
    (void)client_send(fd, buf_str(&text));
    switch (rand_r(&visitor->seed) % 5) {
    case 0: /* gone at once, with a reset where data is unread */
        break;
    case 1:
        (void)client_receive(fd, some, sizeof(some));
        break;
    case 2:
        (void)shutdown(fd, SHUT_WR);
        (void)client_receive(fd, some, sizeof(some));
        break;
    default:
        if (!client_read(fd, &reply, false) || reply.status != 200 ||
            reply.whole == (strcmp(path, "/cut") == 0)) {
            visitor->broken++;
        }
        reply_finish(&reply);
    }
    buf_finish(&text);
    (void)close(fd);
}

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    for (int i = 0; i < 150; i++) {
        visit_once(visitor);
    }
    return NULL;
}

TEST(clients_that_come_and_go)
{
    struct fixture *fixture = fixture_start(defaults);
    struct visitor visitors[6] = {0};
    pthread_t threads[COUNT_OF(visitors)];
    atomic_store(&fixture->release, true);
    for (size_t i = 0; i < COUNT_OF(visitors); i++) {
        visitors[i] = (struct visitor){.fixture = fixture, .seed = (unsigned)i + 1};
        CHECK(pthread_create(&threads[i], NULL, visit, &visitors[i]) == 0);
    }
    int broken = 0;
    for (size_t i = 0; i < COUNT_OF(visitors); i++) {
        pthread_join(threads[i], NULL);
        broken += visitors[i].broken;
    }
    CHECK_U64(broken, 0);
    CHECK(http_wait_idle(fixture->server, test_now_ms() + PATIENCE_MS));
    CHECK_U64(atomic_load(&fixture->done), atomic_load(&fixture->finished));
    fixture_stop(fixture);
}

/* ---- start and stop ---- */

TEST(stop_accepting_and_wait_idle)
{
    struct fixture *fixture = fixture_start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/hold")));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->held) == 1);
    http_stop_accepting(fixture->server);
    CHECK(client_connect(fixture, 0) < 0);
    CHECK(!http_wait_idle(fixture->server, test_now_ms() + 30));
    atomic_store(&fixture->release, true);
    CHECK_REPLY(fd, 200, "held");
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    CHECK(http_wait_idle(fixture->server, test_now_ms() + PATIENCE_MS));
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(destroy_raises_cancel_on_what_is_left)
{
    struct fixture *fixture = fixture_start(defaults);
    int held = client_connect(fixture, 0);
    int streaming = client_connect(fixture, 4096);
    int receiving = client_connect(fixture, 0);
    CHECK(client_send(held, GET("/hold")));
    CHECK(client_send(streaming, GET("/stream")));
    CHECK(client_send(receiving,
                      STR("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\na")));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->held) == 1);
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->written) > 100000);
    http_server_destroy(fixture->server);
    fixture->server = NULL;
    CHECK_U64(atomic_load(&fixture->cancel_reason), ERR_UNAVAILABLE);
    CHECK_U64(atomic_load(&fixture->write_failures), 1);
    CHECK(is_closed(held));
    (void)close(held);
    (void)close(streaming);
    (void)close(receiving);
    fixture_stop(fixture);
}

TEST(listen_errors_are_told)
{
    struct fixture *fixture = fixture_start(defaults);
    struct http_options options = {
        .handlers = {.begin = on_begin, .ready = on_ready, .refuse = on_refuse}};
    struct http_server *server = http_server_create(&options);
    struct err err = {0};
    uint16_t port = 0;
    struct buf address;
    buf_init(&address, 64);
    buf_append_format(&address, "127.0.0.1:%u", (unsigned)fixture->port);
    CHECK(!http_listen(server, buf_str(&address), 0, &port, &err));
    CHECK(str_starts(str_of(err.message), STR("cannot listen on 127.0.0.1:")));
    CHECK(str_ends(str_of(err.message), STR(": address already in use")));
    CHECK(!http_listen(server, STR("nonsense"), 0, &port, &err));
    CHECK_U64(err.kind, ERR_INVALID);
    CHECK(!http_listen(server, STR("127.0.0.1:70000"), 0, &port, &err));
    CHECK(!http_listen(server, STR("::1:80"), 0, &port, &err));
    CHECK_OK(http_listen(server, STR("localhost:0"), 1, &port, &err), err);
    CHECK(port > 0);
    if (http_listen(server, STR("[::1]:0"), 2, &port, &err)) {
        CHECK(port > 0);
    }
    CHECK_OK(http_start(server, &err), err);
    http_server_destroy(server);
    buf_finish(&address);
    fixture_stop(fixture);
}

static const struct test_case cases[] = {
    TEST_CASE(keep_alive_and_pipelining),
    TEST_CASE(request_is_given_as_sent),
    TEST_CASE(request_id_goes_in_and_out),
    TEST_CASE(chunked_body_of_a_megabyte),
    TEST_CASE(client_that_leaves_raises_cancel),
    TEST_CASE(deferred_200_at_once),
    TEST_CASE(stream_to_a_slow_reader_is_bounded_and_exact),
    TEST_CASE(stream_shows_the_first_bytes_at_once),
    TEST_CASE(stream_abort_cuts_the_body),
    TEST_CASE(stream_to_http_1_0_ends_with_the_connection),
    TEST_CASE(stream_to_a_client_that_leaves),
    TEST_CASE(head_has_no_body),
    TEST_CASE(clients_that_come_and_go),
    TEST_CASE(stop_accepting_and_wait_idle),
    TEST_CASE(destroy_raises_cancel_on_what_is_left),
    TEST_CASE(listen_errors_are_told),
};

TEST_MAIN(cases)
