/* delay_proxy.c - a TCP proxy in front of a store that holds each request back for a while, as a
 * store further away would. Answers pass at once.
 *
 * usage: delay_proxy UPSTREAM-PORT DELAY-MS
 *
 * Listens on a free port of 127.0.0.1 and prints it. The first bytes of a client after an answer
 * (or on a new connection) are a new request. For each byte that arrives on its standard input it
 * prints how many requests and bytes of answers have passed since the last time; it ends when its
 * standard input does. Header bytes are not touched, so signatures stay valid. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER_SIZE = 256 * 1024
};

struct relay {
    int client_fd;
    int upstream_fd;
    atomic_bool answered;
};

static uint16_t upstream_port;
static long delay_ms;
static atomic_ulong requests;
static atomic_ulong answer_bytes;

static _Noreturn void fail(const char *what)
{
    (void)fprintf(stderr, "delay_proxy: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        fail("memory");
    }
    return memory;
}

static void hold_back(void)
{
    struct timespec pause = {.tv_sec = delay_ms / 1000, .tv_nsec = delay_ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = send(fd, bytes, size, MSG_NOSIGNAL);
        if (written <= 0) {
            return false;
        }
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

static void *pass_answers(void *argument)
{
    struct relay *relay = argument;
    char *buffer = allocate(BUFFER_SIZE);
    ssize_t size;
    while ((size = recv(relay->upstream_fd, buffer, BUFFER_SIZE, 0)) > 0) {
        atomic_store(&relay->answered, true);
        atomic_fetch_add(&answer_bytes, (unsigned long)size);
        if (!write_all(relay->client_fd, buffer, (size_t)size)) {
            break;
        }
    }
    (void)shutdown(relay->client_fd, SHUT_RDWR);
    (void)shutdown(relay->upstream_fd, SHUT_RDWR);
    free(buffer);
    return NULL;
}

static void set_no_delay(int fd)
{
    int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void pass_requests(struct relay *relay)
{
    char *buffer = allocate(BUFFER_SIZE);
    ssize_t size;
    while ((size = recv(relay->client_fd, buffer, BUFFER_SIZE, 0)) > 0) {
        if (atomic_exchange(&relay->answered, false)) {
            atomic_fetch_add(&requests, 1);
            hold_back();
        }
        if (!write_all(relay->upstream_fd, buffer, (size_t)size)) {
            break;
        }
    }
    (void)shutdown(relay->upstream_fd, SHUT_RDWR);
    (void)shutdown(relay->client_fd, SHUT_RDWR);
    free(buffer);
}

static void *serve(void *argument)
{
    struct relay *relay = argument;
    struct sockaddr_in address = loopback(upstream_port);
    atomic_store(&relay->answered, true);
    relay->upstream_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(relay->upstream_fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        pthread_t answers;
        set_no_delay(relay->upstream_fd);
        set_no_delay(relay->client_fd);
        if (pthread_create(&answers, NULL, pass_answers, relay) != 0) {
            fail("thread");
        }
        pass_requests(relay);
        (void)pthread_join(answers, NULL);
    }
    (void)close(relay->upstream_fd);
    (void)close(relay->client_fd);
    free(relay);
    return NULL;
}

static void *report(void *argument)
{
    char byte;
    (void)argument;
    while (read(STDIN_FILENO, &byte, 1) == 1) {
        (void)printf("%lu %lu\n", atomic_exchange(&requests, 0), atomic_exchange(&answer_bytes, 0));
        (void)fflush(stdout);
    }
    exit(0);
}

static int listen_somewhere(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 512) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        fail("listen");
    }
    (void)printf("%u\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    return listener;
}

int main(int count, char **arguments)
{
    if (count != 3) {
        (void)fprintf(stderr, "usage: delay_proxy UPSTREAM-PORT DELAY-MS\n");
        return 2;
    }
    upstream_port = (uint16_t)strtoul(arguments[1], NULL, 10);
    delay_ms = strtol(arguments[2], NULL, 10);
    int listener = listen_somewhere();
    pthread_t thread;
    if (pthread_create(&thread, NULL, report, NULL) != 0) {
        fail("thread");
    }
    for (;;) {
        struct relay *relay = allocate(sizeof(*relay));
        relay->client_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (relay->client_fd < 0 || pthread_create(&thread, NULL, serve, relay) != 0) {
            fail("accept");
        }
        (void)pthread_detach(thread);
    }
}
