/* test_http_accept.c - how connections come, wait and stop coming. */
#include "http_fixture.h"

#include <sys/resource.h>

#define ROUNDS 800
#define CLIENTS 3

static void *come_and_go(void *argument)
{
    struct fixture *fixture = argument;
    for (;;) {
        int fd = client_connect(fixture, 0);
        if (fd < 0) {
            return NULL;
        }
        char reply[512];
        if (client_send(fd, GET("/echo"))) {
            (void)client_receive(fd, reply, sizeof(reply));
        }
        (void)close(fd);
    }
}

/* MHD_quiesce_daemon races with the threads of an epoll daemon, and the loser calls abort: about
 * one of some hundred stops under load ended the server in the middle of its drain. */
TEST(stopping_while_clients_come_does_no_harm)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct fixture *fixture = fixture_start(defaults);
        pthread_t clients[CLIENTS];
        for (size_t i = 0; i < COUNT_OF(clients); i++) {
            CHECK(pthread_create(&clients[i], NULL, come_and_go, fixture) == 0);
        }
        CHECK_WITHIN(PATIENCE_MS, atomic_load(&fixture->done) >= round % 16);
        http_stop_accepting(fixture->server);
        for (size_t i = 0; i < COUNT_OF(clients); i++) {
            CHECK(pthread_join(clients[i], NULL) == 0);
        }
        CHECK(http_wait_idle(fixture->server, test_now_ms() + PATIENCE_MS));
        fixture_stop(fixture);
    }
}

/* Answered, and kept open. */
static void connect_and_ask(const struct fixture *fixture, int *ret_fd, bool *test_failed)
{
    *ret_fd = client_connect(fixture, 0);
    CHECK(client_send(*ret_fd, GET("/echo")));
    CHECK_REPLY(*ret_fd, 200, "");
}

static bool is_silent(int fd, int ms)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    return poll(&readable, 1, ms) == 0;
}

TEST(beyond_the_limit_of_connections_the_next_waits)
{
    struct http_options options = defaults;
    options.connections_max = 2;
    struct fixture *fixture = fixture_start(options);
    int first = -1;
    int second = -1;
    connect_and_ask(fixture, &first, test_failed);
    connect_and_ask(fixture, &second, test_failed);
    int third = client_connect(fixture, 0);
    CHECK(client_send(third, GET("/echo")));
    CHECK(is_silent(third, 400));
    CHECK_U64(http_counts(fixture->server).connections, 2);
    (void)close(first);
    CHECK_REPLY(third, 200, "");
    (void)close(second);
    (void)close(third);
    fixture_stop(fixture);
}

TEST(without_descriptors_the_next_waits)
{
    struct fixture *fixture = fixture_start(defaults);
    int first = -1;
    connect_and_ask(fixture, &first, test_failed);
    int next = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct rlimit before;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit none = {.rlim_cur = (rlim_t)next + 1, .rlim_max = before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(fixture->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    CHECK(connect(next, (const struct sockaddr *)&to, sizeof(to)) == 0);
    CHECK(client_send(next, GET("/echo")));
    CHECK(is_silent(next, 400));
    CHECK(client_send(first, GET("/echo"))); /* who is there is served */
    CHECK_REPLY(first, 200, "");
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_REPLY(next, 200, "");
    (void)close(first);
    (void)close(next);
    fixture_stop(fixture);
}

static const struct test_case cases[] = {
    TEST_CASE(stopping_while_clients_come_does_no_harm),
    TEST_CASE(beyond_the_limit_of_connections_the_next_waits),
    TEST_CASE(without_descriptors_the_next_waits),
};

TEST_MAIN(cases)
