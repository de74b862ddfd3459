/* cold_start.c - from exec to the first good answers of a server.
 *
 * usage: cold_start PORT QUERY-BODY-FILE PROGRAM [ARGUMENT...]
 *
 * Starts PROGRAM, which is to listen on 127.0.0.1:PORT, and asks GET /health until it answers 200,
 * then POST /query with the body until that does. Between two tries it waits 0.2 ms. Ends the
 * program with SIGTERM and prints one JSON object: milliseconds since just before the fork. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    GIVE_UP_MS = 20000
};

static double wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static _Noreturn void fail(const char *what)
{
    (void)fprintf(stderr, "cold_start: %s\n", what);
    exit(1);
}

/* Sends the request on a connection of its own; true when the answer begins with 200. */
static bool answers(uint16_t port, const char *request)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    char answer[16] = "";
    bool good = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
                send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request) &&
                recv(fd, answer, 12, MSG_WAITALL) == 12 && strcmp(answer, "HTTP/1.1 200") == 0;
    (void)close(fd);
    return good;
}

static double wait_for_answer(uint16_t port, const char *request, pid_t pid, double since_ms)
{
    while (!answers(port, request)) {
        struct timespec pause = {.tv_nsec = 200000};
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            fail("the server ended by itself");
        }
        if (wall_ms() - since_ms > GIVE_UP_MS) {
            (void)kill(pid, SIGKILL);
            fail("no good answer in time");
        }
        (void)nanosleep(&pause, NULL);
    }
    return wall_ms() - since_ms;
}

static const char *query_request(const char *body_file)
{
    static char request[8192];
    char body[4096];
    FILE *file = fopen(body_file, "re");
    size_t size = file == NULL ? 0 : fread(body, 1, sizeof(body), file);
    if (size == 0 || size == sizeof(body)) {
        fail("the body cannot be read, or is too large");
    }
    (void)fclose(file);
    (void)snprintf(request, sizeof(request),
                   "POST /query HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                   "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%.*s",
                   size, (int)size, body);
    return request;
}

int main(int count, char **arguments)
{
    if (count < 4) {
        fail("usage: cold_start PORT QUERY-BODY-FILE PROGRAM [ARGUMENT...]");
    }
    uint16_t port = (uint16_t)strtoul(arguments[1], NULL, 10);
    const char *query = query_request(arguments[2]);
    const char *health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    double from_ms = wall_ms();
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void)dup2(null, STDERR_FILENO);
        (void)execv(arguments[3], arguments + 3);
        _exit(127);
    }
    double health_ms = wait_for_answer(port, health, pid, from_ms);
    double query_ms = wait_for_answer(port, query, pid, from_ms);
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, NULL, 0);
    (void)printf("{\"health_ms\": %.2f, \"query_ms\": %.2f}\n", health_ms, query_ms);
    return 0;
}
