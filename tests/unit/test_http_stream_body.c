/* test_http_stream_body.c - bodies that are read while they arrive. */
#include "http_upload_fixture.h"

#include <sys/resource.h>

/* So many bytes of a larger body call its reader. */
#define BEGUN (HTTP_BODY_HELD_BYTES + 10)

/* ---- whole bodies ---- */

TEST(streamed_bodies_and_what_follows_them)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, GET("/upload")));
    CHECK_REPLY(fd, 200, "0 exact");
    CHECK(send_upload(fd, "/upload", 0));
    CHECK_REPLY(fd, 200, "0 exact");
    CHECK(send_upload(fd, "/upload", 1));
    CHECK_REPLY(fd, 200, "1 exact");
    CHECK(send_upload(fd, "/upload", 3 * MIB + 1));
    CHECK_REPLY(fd, 200, "3145729 exact");
    struct buf text;
    buf_init(&text, 16 * MIB);
    for (int i = 0; i < 2; i++) { /* pipelined */
        buf_append_text(&text,
                        "POST /upload HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
        append_pattern_chunks(&text, MIB);
        buf_append_text(
            &text,
            "POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nahoPOST /echo HTTP/1.1"
            "\r\nHost: t\r\nContent-Length: 1\r\n\r\nb");
    }
    CHECK(client_send(fd, buf_str(&text)));
    for (int i = 0; i < 2; i++) {
        CHECK_REPLY(fd, 200, "1048576 exact");
        CHECK_REPLY(fd, 200, "3 exact");
        CHECK_REPLY(fd, 200, "b");
    }
    CHECK_U64(atomic_load(&fixture->refused), 0);
    buf_finish(&text);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(old_and_careful_clients)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(client_send(fd, STR("POST /upload HTTP/1.0\r\nContent-Length: 3\r\n\r\naho")));
    CHECK_REPLY(fd, 200, "3 exact");
    CHECK(is_closed(fd));
    (void)close(fd);
    fd = client_connect(fixture, 0);
    struct reply reply;
    CHECK(send_sized_header(fd, "/upload", MIB, "Expect: 100-continue\r\n"));
    CHECK(client_read(fd, &reply, true));
    CHECK_U64(reply.status, 100);
    reply_finish(&reply);
    CHECK(send_pattern(fd, 0, MIB));
    CHECK_REPLY(fd, 200, "1048576 exact");
    CHECK(send_sized_header(fd, "/upload/full", MIB, "Expect: 100-continue\r\n"));
    CHECK(client_read(fd, &reply, true));
    CHECK_U64(reply.status, 100);
    reply_finish(&reply);
    CHECK(send_pattern(fd, 0, MIB));
    CHECK_REPLY(fd, 503, "full");
    CHECK(is_closed(fd));
    (void)close(fd);
    fixture_stop(fixture);
}

static long resident_most_kib(void)
{
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

TEST(large_body_passes_through_little_memory)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(send_upload(fd, "/upload", MIB));
    CHECK_REPLY(fd, 200, "1048576 exact");
    long before_kib = resident_most_kib();
    CHECK(send_upload(fd, "/upload", 300 * MIB));
    CHECK_REPLY(fd, 200, "314572800 exact");
    CHECK(atomic_load(&seen.most_held) <= HTTP_BODY_HELD_BYTES);
    CHECK(resident_most_kib() - before_kib < 32L << 10);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(reader_is_called_when_it_is_worth_it)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    size_t sizes[] = {500, HTTP_BODY_HELD_BYTES, HTTP_BODY_HELD_BYTES + 1000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        atomic_store(&seen.read, 0);
        CHECK(send_sized_header(fd, "/upload", sizes[i], ""));
        CHECK(send_pattern(fd, 0, sizes[i] - 500));
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&seen.read) >= (i == 2 ? sizes[1] : 0));
        for (size_t at = sizes[i] - 500; at < sizes[i] - 1; at++) {
            CHECK(send_pattern(fd, at, at + 1));
        }
        CHECK_U64(atomic_load(&fixture->ready), i == 2 ? 3 : i);
        CHECK_U64(atomic_load(&fixture->woken), 0);
        CHECK(send_pattern(fd, sizes[i] - 1, sizes[i]));
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "%zu exact", sizes[i]);
        CHECK_REPLY(fd, 200, expected);
    }
    CHECK(atomic_load(&fixture->woken) <= 1);
    (void)close(fd);
    fixture_stop(fixture);
}

/* ---- a reader slower than the client ---- */

/* Sends what the kernel and the server take, without waiting. */
static size_t send_until_full(int fd, size_t size)
{
    size_t sent = 0;
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    while (sent < size && poll(&writable, 1, 300) == 1) {
        size_t most = size - sent < PIECE_MAX ? size - sent : PIECE_MAX;
        ssize_t got = send(fd, pattern + sent % PATTERN_PERIOD, most, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += got > 0 ? (size_t)got : 0;
    }
    return sent;
}

TEST(slow_reader_holds_the_client_back)
{
    struct fixture *fixture = start((struct http_options){.body_stall_timeout_ms = 400});
    int fd = client_connect(fixture, 0);
    size_t size = 60 * MIB;
    CHECK(send_sized_header(fd, "/upload/held", size, ""));
    size_t sent = send_until_full(fd, size);
    CHECK(sent < 30 * MIB); /* the rest waits at the client */
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&seen.received) == HTTP_BODY_HELD_BYTES);
    int64_t full_at = test_now_ms();
    /* Not the client's fault: its time-out does not run. */
    CHECK_WITHIN(PATIENCE_MS, test_now_ms() - full_at > 1000);
    CHECK_U64(atomic_load(&seen.received), HTTP_BODY_HELD_BYTES);
    atomic_store(&fixture->release, true);
    CHECK(send_pattern(fd, sent, size));
    CHECK_REPLY(fd, 200, "62914560 exact");
    CHECK(atomic_load(&seen.most_held) <= HTTP_BODY_HELD_BYTES);
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    (void)close(fd);
    fixture_stop(fixture);
}

/* ---- clients that leave or stall ---- */

/* Its goodbye and its last bytes may come as one event. */
TEST(client_that_closes_its_half_in_a_body)
{
    struct fixture *fixture = start(defaults);
    static const char *const paths[] = {"/echo", "/upload", "/upload"};
    for (int i = 0; i < 60; i++) {
        int fd = client_connect(fixture, 0);
        int64_t start_ms = test_now_ms();
        CHECK(send_sized_header(fd, paths[i % 3], i % 3 == 2 ? MIB : 2000, ""));
        CHECK(send_pattern(fd, 0, i % 3 == 2 ? BEGUN : 1000));
        CHECK(shutdown(fd, SHUT_WR) == 0);
        struct reply reply = {0};
        (void)client_read(fd, &reply, false); /* the reader may have had something to say */
        reply_finish(&reply);
        CHECK(is_closed(fd));
        CHECK(test_now_ms() - start_ms < 3000);
        (void)close(fd);
    }
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 60);
    fixture_stop(fixture);
}

TEST(client_that_leaves_wakes_the_reader)
{
    for (int reset = 0; reset < 2; reset++) {
        struct fixture *fixture = start(defaults);
        int fd = client_connect(fixture, 0);
        CHECK(send_sized_header(fd, "/upload", MIB, "") && send_pattern(fd, 0, BEGUN));
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&seen.read) >= HTTP_BODY_HELD_BYTES);
        int64_t left_at = test_now_ms();
        leave(fd, reset == 1);
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 1);
        CHECK_I64(atomic_load(&seen.error), ERR_CANCELLED);
        CHECK(atomic_load(&seen.error_at) - left_at < 1000);
        fixture_stop(fixture);
    }
}

TEST(client_that_leaves_while_it_is_held_back)
{
    for (int reset = 0; reset < 2; reset++) {
        struct fixture *fixture = start(defaults);
        int fd = client_connect(fixture, 0);
        CHECK(send_sized_header(fd, "/upload/held", 2 * MIB, ""));
        /* A goodbye reaches the server only behind what the kernel still has room for. */
        CHECK(send_pattern(fd, 0, reset == 1 ? MIB / 2 : HTTP_BODY_HELD_BYTES + 10000));
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&seen.received) == HTTP_BODY_HELD_BYTES);
        int64_t left_at = test_now_ms();
        leave(fd, reset == 1);
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == 1);
        CHECK_I64(atomic_load(&seen.error), ERR_CANCELLED);
        CHECK(atomic_load(&seen.error_at) - left_at < 1000);
        fixture_stop(fixture);
    }
}

TEST(stalled_streamed_body_is_cut)
{
    struct fixture *fixture = start((struct http_options){.body_stall_timeout_ms = 200});
    for (int begun = 0; begun < 2; begun++) {
        int fd = client_connect(fixture, 0);
        CHECK(send_sized_header(fd, "/upload", MIB, ""));
        CHECK(send_pattern(fd, 0, begun == 1 ? BEGUN : 10));
        int64_t start_ms = test_now_ms();
        CHECK_REPLY(fd, 408, "");
        CHECK(is_closed(fd));
        CHECK(test_now_ms() - start_ms < 2000);
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == begun + 1);
        CHECK_I64(atomic_load(&seen.error), begun == 1 ? ERR_CANCELLED : ERR_NONE);
        (void)close(fd);
    }
    fixture_stop(fixture);
}

TEST(deadline_ends_the_reading)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(send_sized_header(fd, "/upload?deadline=150", 10 * MIB, ""));
    CHECK(send_pattern(fd, 0, BEGUN));
    int64_t start_ms = test_now_ms();
    struct reply reply;
    CHECK(client_read(fd, &reply, false)); /* which waits in the middle of its body */
    CHECK_U64(reply.status, err_kind_info(ERR_TIMEOUT)->http_status);
    CHECK(test_now_ms() - start_ms < 2000);
    reply_finish(&reply);
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(server_that_stops_ends_the_reading)
{
    struct fixture *fixture = start(defaults);
    int waiting = client_connect(fixture, 0);
    CHECK(send_sized_header(waiting, "/upload", MIB, "") && send_pattern(waiting, 0, BEGUN));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&seen.readers) == 1);
    int held = client_connect(fixture, 0);
    CHECK(send_sized_header(held, "/upload/held", MIB, ""));
    CHECK(send_pattern(held, 0, HTTP_BODY_HELD_BYTES + 10000));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&seen.received) == HTTP_BODY_HELD_BYTES);
    fixture_stop(fixture);
    CHECK(atomic_load(&seen.error) != ERR_NONE);
    (void)close(waiting);
    (void)close(held);
}

/* ---- limits ---- */

TEST(streamed_body_over_its_limit)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(send_sized_header(fd, "/upload", UPLOAD_MAX + 1, ""));
    CHECK_REPLY(fd, 413, "the request body is larger than 419430400 bytes");
    CHECK_U64(atomic_load(&fixture->ready), 0);
    (void)close(fd);
    fd = client_connect(fixture, 0);
    CHECK(send_upload(fd, "/upload?most=1000", 1000));
    CHECK_REPLY(fd, 200, "1000 exact");
    CHECK(send_upload(fd, "/upload?most=1000", 1001));
    CHECK_REPLY(fd, 413, "the request body is larger than 1000 bytes");
    CHECK(client_send(fd, GET("/echo")));
    CHECK_REPLY(fd, 200, "");
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(chunked_body_over_its_limit)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(send_header(fd, "/upload/small", "Transfer-Encoding: chunked\r\n"));
    CHECK(client_send(fd, STR("100000\r\n"))); /* as many as are allowed */
    CHECK(send_pattern(fd, 0, UPLOAD_SMALL_MAX));
    CHECK(client_send(fd, STR("\r\n")));
    CHECK(client_send(fd, STR("1\r\nx\r\n")));
    CHECK_REPLY(fd, 413, "the request body is larger than 1048576 bytes");
    CHECK(client_send(fd, STR("0\r\n\r\n")));
    CHECK(is_closed(fd));
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(streamed_trailers_are_refused)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(send_header(fd, "/upload", "Transfer-Encoding: chunked\r\n"));
    CHECK(client_send(fd, STR("3\r\naho\r\n0\r\nX-Late: yes\r\n\r\n")));
    CHECK_REPLY(fd, 400, "trailer fields are not accepted");
    CHECK(is_closed(fd));
    (void)close(fd);
    fixture_stop(fixture);
}

/* ---- replies before the end of the body ---- */

TEST(early_reply_reaches_a_client_that_sends_first)
{
    static const char *const paths[] = {"/upload?stop=1", "/upload/full", "/upload?stop=400000"};
    struct fixture *fixture = start(defaults);
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        int fd = client_connect(fixture, 0);
        CHECK(send_upload(fd, paths[i], 40 * MIB));
        struct reply reply;
        CHECK(client_read(fd, &reply, false));
        CHECK(reply.whole);
        CHECK_U64(reply.status, i == 1 ? 503 : 422);
        CHECK_STR(header_of(&reply, "Connection"), "close");
        CHECK(is_closed(fd));
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == (int)i + 1);
        CHECK_U64(atomic_load(&fixture->last_status), i == 1 ? 503 : 422);
        reply_finish(&reply);
        (void)close(fd);
    }
    fixture_stop(fixture);
}

TEST(early_reply_reaches_a_client_that_waits)
{
    struct fixture *fixture = start((struct http_options){.body_stall_timeout_ms = 300});
    static const char *const fields[] = {"Content-Length: 314572800\r\n",
                                         "Transfer-Encoding: chunked\r\n"};
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        int fd = client_connect(fixture, 0);
        CHECK(send_header(fd, "/upload?stop=3", fields[i]));
        CHECK(i == 0 || client_send(fd, STR("4000a\r\n")));
        CHECK(send_pattern(fd, 0, BEGUN));
        CHECK_REPLY(fd, 422, "65536 exact"); /* and not 408 */
        CHECK(client_send(fd, i == 0 ? STR("a") : STR("\r\n3\r\na")));
        CHECK(is_closed(fd)); /* nor after it */
        (void)close(fd);
        fd = client_connect(fixture, 0);
        CHECK(send_header(fd, "/upload/full", fields[i]));
        CHECK(i == 0 || client_send(fd, STR("4000a\r\n")));
        CHECK(send_pattern(fd, 0, BEGUN));
        CHECK_REPLY(fd, 503, "full");
        CHECK(is_closed(fd));
        (void)close(fd);
    }
    fixture_stop(fixture);
}

TEST(early_reply_keeps_the_connection_when_little_is_left)
{
    struct fixture *fixture = start(defaults);
    int fd = client_connect(fixture, 0);
    CHECK(send_upload(fd, "/upload?stop=1", 50000));
    struct reply reply;
    CHECK(client_read(fd, &reply, false));
    CHECK_U64(reply.status, 422);
    reply_finish(&reply);
    CHECK(send_upload(fd, "/upload/full", 60000));
    CHECK_REPLY(fd, 503, "full");
    CHECK(send_upload(fd, "/upload/held?stop=1", HTTP_BODY_HELD_BYTES + 60000));
    CHECK_WITHIN(PATIENCE_MS, atomic_load(&seen.received) == HTTP_BODY_HELD_BYTES);
    atomic_store(&fixture->release, true);
    CHECK(client_read(fd, &reply, false));
    CHECK_U64(reply.status, 422);
    reply_finish(&reply);
    CHECK(send_upload(fd, "/upload", MIB));
    CHECK_REPLY(fd, 200, "1048576 exact");
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(endless_body_after_an_early_reply_is_cut)
{
    struct fixture *fixture = start(defaults);
    static const char *const fields[] = {"Content-Length: 419430400\r\n",
                                         "Transfer-Encoding: chunked\r\n"};
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        int fd = client_connect(fixture, 0);
        CHECK(send_header(fd, "/upload?stop=1", fields[i]));
        CHECK(i == 0 || client_send(fd, STR("19000000\r\n")));
        CHECK(send_pattern(fd, 0, 60 * MIB)); /* as much as it bears */
        CHECK(!send_pattern(fd, 60 * MIB, UPLOAD_MAX));
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) == (int)i + 1);
        CHECK_U64(atomic_load(&fixture->last_status), 422);
        (void)close(fd);
    }
    fixture_stop(fixture);
}

/* ---- all at once ---- */

struct sender {
    struct fixture *fixture;
    unsigned seed;
    bool good;
};

/* Sends in pieces and ways that chance chooses; some leave in the middle. */
static bool send_once(struct sender *sender)
{
    size_t size = (size_t)rand_r(&sender->seed) % (2 * MIB);
    size_t leave_at = rand_r(&sender->seed) % 4 == 0 ? size / 2 : size;
    bool chunked = rand_r(&sender->seed) % 2 == 0;
    bool early = rand_r(&sender->seed) % 4 == 0;
    const char *path = early ? "/upload?stop=1000" : "/upload";
    int fd = client_connect(sender->fixture, 0);
    struct reply reply = {0};
    bool sent = chunked ? send_header(fd, path, "Transfer-Encoding: chunked\r\n")
                        : send_sized_header(fd, path, size, "");
    for (size_t at = 0; sent && at < leave_at;) {
        size_t piece = 1 + (size_t)rand_r(&sender->seed) % 200000;
        piece = piece < leave_at - at ? piece : leave_at - at;
        char text[32];
        (void)snprintf(text, sizeof(text), "%zx\r\n", piece);
        sent = (!chunked || client_send(fd, str_of(text))) && send_pattern(fd, at, at + piece) &&
               (!chunked || client_send(fd, STR("\r\n")));
        at += piece;
    }
    bool good = true;
    if (leave_at == size) {
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "%zu exact", size);
        sent = sent && (!chunked || client_send(fd, STR("0\r\n\r\n")));
        good = sent && client_read(fd, &reply, false) && reply.whole &&
               (early || str_equal(buf_str(&reply.body), str_of(expected)));
        reply_finish(&reply);
    }
    leave(fd, rand_r(&sender->seed) % 2 == 0);
    return good;
}

static void *send_many(void *argument)
{
    struct sender *sender = argument;
    for (int i = 0; i < 30 && sender->good; i++) {
        sender->good = send_once(sender);
    }
    return NULL;
}

TEST(many_senders_at_once)
{
    struct fixture *fixture = start(defaults);
    struct sender senders[8];
    pthread_t threads[COUNT_OF(senders)];
    for (size_t i = 0; i < COUNT_OF(senders); i++) {
        senders[i] = (struct sender){.fixture = fixture, .seed = (unsigned)i + 1, .good = true};
        CHECK(pthread_create(&threads[i], NULL, send_many, &senders[i]) == 0);
    }
    for (size_t i = 0; i < COUNT_OF(senders); i++) {
        (void)pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < COUNT_OF(senders); i++) {
        CHECK(senders[i].good);
    }
    CHECK(http_wait_idle(fixture->server, test_now_ms() + PATIENCE_MS));
    CHECK(atomic_load(&seen.error) == ERR_NONE || atomic_load(&seen.error) == ERR_CANCELLED);
    fixture_stop(fixture);
}

static const struct test_case cases[] = {
    TEST_CASE(streamed_bodies_and_what_follows_them),
    TEST_CASE(old_and_careful_clients),
    TEST_CASE(large_body_passes_through_little_memory),
    TEST_CASE(reader_is_called_when_it_is_worth_it),
    TEST_CASE(slow_reader_holds_the_client_back),
    TEST_CASE(client_that_closes_its_half_in_a_body),
    TEST_CASE(client_that_leaves_wakes_the_reader),
    TEST_CASE(client_that_leaves_while_it_is_held_back),
    TEST_CASE(stalled_streamed_body_is_cut),
    TEST_CASE(deadline_ends_the_reading),
    TEST_CASE(server_that_stops_ends_the_reading),
    TEST_CASE(streamed_body_over_its_limit),
    TEST_CASE(chunked_body_over_its_limit),
    TEST_CASE(streamed_trailers_are_refused),
    TEST_CASE(early_reply_reaches_a_client_that_sends_first),
    TEST_CASE(early_reply_reaches_a_client_that_waits),
    TEST_CASE(early_reply_keeps_the_connection_when_little_is_left),
    TEST_CASE(endless_body_after_an_early_reply_is_cut),
    TEST_CASE(many_senders_at_once),
};

TEST_MAIN(cases)
