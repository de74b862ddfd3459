/* load.c - sends one HTTP request again and again over kept-alive connections, and measures.
 *
 * usage: load --port N [--method M] [--path P] [--body FILE] [--header 'Name: value']...
 *             [--connections N] [--requests N] [--warmup N] [--save FILE]
 *
 * One thread and one epoll, so that it takes little of the machine it measures on. Each connection
 * has one request under way and sends the next when the answer is whole: N connections are N
 * clients in a closed loop. Answers are counted, not kept; --save writes the body of the first.
 * "########" in the path or the body becomes a number that is another one in each request.
 * Prints one JSON object. Ends with status 1 when an answer was not 200 or broke the protocol. */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 256,
    HEAD_SIZE_MAX = 16 * 1024,
    READ_SIZE = 256 * 1024,
    NUMBER_SIZE = 8
};

#define NUMBER "########"

struct options {
    uint16_t port;
    const char *method;
    const char *path;
    const char *body_file;
    const char *save_file;
    char headers[4096];
    size_t connections;
    size_t requests;
    size_t warmup;
};

/* Where in an answer a connection is. */
enum state {
    READING_HEAD,
    READING_BODY,       /* body_left bytes of a Content-Length */
    READING_CHUNK_SIZE, /* the line with its size */
    READING_CHUNK,      /* body_left bytes of it, and the CR LF behind */
    READING_TRAILER     /* lines up to an empty one */
};

struct connection {
    int fd;
    enum state state;
    size_t sent;
    char *request_text; /* of its own, where each is another */
    int64_t started_ns;
    uint64_t body_left;
    size_t line_size; /* of the chunk's size line, or of a trailer line */
    uint64_t chunk_size;
    size_t head_size;
    char head[HEAD_SIZE_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static char *request_text;
static size_t request_size;
static size_t number_at; /* in request_text; 0: all are the same */
static FILE *save;
static size_t started;      /* requests */
static size_t first_number; /* of this run: what another has asked is not asked again */
static size_t finished;
static size_t cache_hits;
static uint64_t body_bytes;
static uint32_t *latencies_us;

static _Noreturn void fail(const char *what, const char *detail)
{
    (void)fprintf(stderr, "load: %s: %s\n", what, detail);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- the request ---- */

static char *read_file(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "re");
    struct stat info;
    if (file == NULL || fstat(fileno(file), &info) != 0) {
        fail(path, strerror(errno));
    }
    *ret_size = (size_t)info.st_size;
    char *bytes = malloc(*ret_size + 1);
    if (bytes == NULL || fread(bytes, 1, *ret_size, file) != *ret_size) {
        fail(path, "cannot be read");
    }
    (void)fclose(file);
    return bytes;
}

static void make_request(const struct options *options)
{
    size_t size = 0;
    char *body = options->body_file == NULL ? NULL : read_file(options->body_file, &size);
    request_text = malloc(HEAD_SIZE_MAX + size);
    if (request_text == NULL) {
        fail("request", "no memory");
    }
    int head = snprintf(request_text, HEAD_SIZE_MAX,
                        "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n%sContent-Length: %zu\r\n\r\n",
                        options->method, options->path, options->port, options->headers, size);
    if (head < 0 || head >= HEAD_SIZE_MAX) {
        fail("request", "the header is too large");
    }
    if (size > 0) {
        memcpy(request_text + head, body, size);
    }
    request_size = (size_t)head + size;
    free(body);
    const char *number = memmem(request_text, request_size, NUMBER, NUMBER_SIZE);
    number_at = number == NULL ? 0 : (size_t)(number - request_text);
}

/* Eight digits without a zero in front: JSON would not have it. */
static void number_request(struct connection *connection)
{
    char digits[NUMBER_SIZE + 1];
    if (number_at == 0) {
        connection->request_text = request_text;
        return;
    }
    if (connection->request_text == NULL) {
        connection->request_text = malloc(request_size);
        if (connection->request_text == NULL) {
            fail("request", "no memory");
        }
        memcpy(connection->request_text, request_text, request_size);
    }
    (void)snprintf(digits, sizeof(digits), "%u",
                   (unsigned)((first_number + started) % 90000000) + 10000000);
    memcpy(connection->request_text + number_at, digits, NUMBER_SIZE);
}

/* ---- one connection ---- */

static void connect_to(struct connection *connection, uint16_t port, int epoll)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        fail("connect", strerror(errno));
    }
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
    (void)epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
}

static void send_some(struct connection *connection)
{
    while (connection->started_ns != 0 && connection->sent < request_size) {
        ssize_t size = send(connection->fd, connection->request_text + connection->sent,
                            request_size - connection->sent, MSG_NOSIGNAL);
        if (size < 0 && errno == EAGAIN) {
            return;
        }
        if (size < 0) {
            fail("send", strerror(errno));
        }
        connection->sent += (size_t)size;
    }
}

static void start_request(struct connection *connection, const struct options *options)
{
    connection->started_ns = 0;
    if (started == options->warmup + options->requests) {
        return;
    }
    started++;
    connection->state = READING_HEAD;
    connection->head_size = 0;
    connection->sent = 0;
    number_request(connection);
    connection->started_ns = now_ns();
    send_some(connection);
}

static void finish_request(struct connection *connection, const struct options *options)
{
    int64_t took_us = (now_ns() - connection->started_ns) / 1000;
    if (finished >= options->warmup) {
        latencies_us[finished - options->warmup] = (uint32_t)took_us;
    }
    finished++;
    if (save != NULL) {
        (void)fclose(save);
        save = NULL;
    }
    start_request(connection, options);
}

/* ---- the answer ---- */

/* The value of a header field in the NUL-terminated head, or NULL. */
static const char *field(const char *head, const char *name)
{
    size_t size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, size) == 0 && line[size] == ':') {
            return line + size + 1 + strspn(line + size + 1, " ");
        }
    }
    return NULL;
}

static void take_head(struct connection *connection)
{
    const char *head = connection->head;
    if (strncmp(head, "HTTP/1.1 200", 12) != 0) {
        fail("an answer is not 200", head);
    }
    const char *cache = field(head, "X-Cache");
    cache_hits += cache != NULL && strncasecmp(cache, "hit", 3) == 0;
    const char *length = field(head, "Content-Length");
    const char *encoding = field(head, "Transfer-Encoding");
    if (length != NULL) {
        connection->body_left = strtoull(length, NULL, 10);
        connection->state = READING_BODY;
    } else if (encoding != NULL && strncasecmp(encoding, "chunked", 7) == 0) {
        connection->state = READING_CHUNK_SIZE;
        connection->chunk_size = 0;
        connection->line_size = 0;
    } else {
        fail("an answer has no length", head);
    }
}

static size_t read_head(struct connection *connection, const char *bytes, size_t size)
{
    size_t before = connection->head_size;
    size_t take = HEAD_SIZE_MAX - 1 - before < size ? HEAD_SIZE_MAX - 1 - before : size;
    memcpy(connection->head + before, bytes, take);
    connection->head[before + take] = '\0';
    char *end = strstr(connection->head + (before < 3 ? 0 : before - 3), "\r\n\r\n");
    if (end == NULL) {
        connection->head_size = before + take;
        if (connection->head_size == HEAD_SIZE_MAX - 1) {
            fail("answer", "the header is too large");
        }
        return take;
    }
    end[4] = '\0';
    take_head(connection);
    return (size_t)(end + 4 - connection->head) - before;
}

static size_t read_body(struct connection *connection, const char *bytes, size_t size)
{
    size_t take = connection->body_left < size ? (size_t)connection->body_left : size;
    connection->body_left -= take;
    body_bytes += take;
    if (save != NULL) {
        (void)fwrite(bytes, 1, take, save);
    }
    return take;
}

/* The CR LF behind a chunk is read as an empty size line, which is skipped. */
static size_t read_size_line(struct connection *connection, char byte)
{
    const char *digits = "0123456789abcdef";
    const char *digit = byte == '\0' ? NULL : strchr(digits, byte | 0x20);
    if (byte == '\n' && connection->line_size > 0) {
        connection->state = connection->chunk_size == 0 ? READING_TRAILER : READING_CHUNK;
        connection->body_left = connection->chunk_size;
        connection->line_size = 0;
        connection->chunk_size = 0;
    } else if (digit != NULL && byte != '\r' && byte != '\n') {
        connection->chunk_size = connection->chunk_size * 16 + (uint64_t)(digit - digits);
        connection->line_size++;
    }
    return 1;
}

/* True when the answer ends with this byte. */
static bool read_trailer(struct connection *connection, char byte)
{
    if (byte == '\n') {
        bool empty = connection->line_size == 0;
        connection->line_size = 0;
        return empty;
    }
    connection->line_size += byte != '\r';
    return false;
}

static void take_bytes(struct connection *connection, const char *bytes, size_t size,
                       const struct options *options)
{
    size_t at = 0;
    while (at < size) {
        bool whole = false;
        switch (connection->state) {
        case READING_HEAD:
            at += read_head(connection, bytes + at, size - at);
            whole = connection->state == READING_BODY && connection->body_left == 0;
            break;
        case READING_BODY:
            at += read_body(connection, bytes + at, size - at);
            whole = connection->body_left == 0;
            break;
        case READING_CHUNK_SIZE:
            at += read_size_line(connection, bytes[at]);
            break;
        case READING_CHUNK:
            at += read_body(connection, bytes + at, size - at);
            connection->state = connection->body_left == 0 ? READING_CHUNK_SIZE : READING_CHUNK;
            break;
        case READING_TRAILER:
            whole = read_trailer(connection, bytes[at++]);
            break;
        }
        if (whole) {
            finish_request(connection, options);
        }
    }
}

static void receive_some(struct connection *connection, const struct options *options)
{
    static char bytes[READ_SIZE];
    for (;;) {
        ssize_t size = recv(connection->fd, bytes, sizeof(bytes), 0);
        if (size < 0 && errno == EAGAIN) {
            return;
        }
        if (size <= 0 && connection->started_ns == 0) {
            return; /* idle: nothing is lost */
        }
        if (size <= 0) {
            fail("receive", size == 0 ? "the server closed the connection" : strerror(errno));
        }
        take_bytes(connection, bytes, (size_t)size, options);
    }
}

/* ---- the run ---- */

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double cpu_ms(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

static void print_figures(const struct options *options, double seconds)
{
    qsort(latencies_us, options->requests, sizeof(*latencies_us), compare);
    size_t count = options->requests;
    (void)printf("{\"requests\": %zu, \"seconds\": %.6f, \"per_second\": %.2f, \"p50_ms\": %.3f, "
                 "\"p99_ms\": %.3f, \"min_ms\": %.3f, \"max_ms\": %.3f, \"body_bytes\": %llu, "
                 "\"cache_hits\": %zu, \"client_cpu_ms\": %.1f}\n",
                 count, seconds, (double)count / seconds, latencies_us[count / 2] / 1e3,
                 latencies_us[(count * 99) / 100] / 1e3, latencies_us[0] / 1e3,
                 latencies_us[count - 1] / 1e3, (unsigned long long)body_bytes, cache_hits,
                 cpu_ms());
}

static void run(const struct options *options)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < options->connections; i++) {
        connect_to(&connections[i], options->port, epoll);
    }
    size_t total = options->warmup + options->requests;
    int64_t measured_from_ns = now_ns();
    for (size_t i = 0; i < options->connections; i++) {
        start_request(&connections[i], options);
    }
    bool warm = options->warmup == 0;
    while (finished < total) {
        struct epoll_event events[CONNECTIONS_MAX];
        int count = epoll_wait(epoll, events, CONNECTIONS_MAX, 120000);
        if (count == 0) {
            fail("no answer", "for 120 s");
        }
        for (int i = 0; i < count; i++) {
            send_some(events[i].data.ptr);
            receive_some(events[i].data.ptr, options);
        }
        if (!warm && finished >= options->warmup) {
            warm = true;
            measured_from_ns = now_ns();
        }
    }
    print_figures(options, (double)(now_ns() - measured_from_ns) / 1e9);
}

static void add_header(struct options *options, const char *header)
{
    size_t used = strlen(options->headers);
    int size = snprintf(options->headers + used, sizeof(options->headers) - used, "%s\r\n", header);
    if (size < 0 || (size_t)size >= sizeof(options->headers) - used) {
        fail("--header", "too many");
    }
}

static void take_option(struct options *options, const char *name, const char *value)
{
    if (strcmp(name, "--port") == 0) {
        options->port = (uint16_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--method") == 0) {
        options->method = value;
    } else if (strcmp(name, "--path") == 0) {
        options->path = value;
    } else if (strcmp(name, "--body") == 0) {
        options->body_file = value;
    } else if (strcmp(name, "--save") == 0) {
        options->save_file = value;
    } else if (strcmp(name, "--header") == 0) {
        add_header(options, value);
    } else if (strcmp(name, "--connections") == 0) {
        options->connections = strtoul(value, NULL, 10);
    } else if (strcmp(name, "--requests") == 0) {
        options->requests = strtoul(value, NULL, 10);
    } else if (strcmp(name, "--warmup") == 0) {
        options->warmup = strtoul(value, NULL, 10);
    } else {
        fail("unknown option", name);
    }
}

int main(int count, char **arguments)
{
    struct options options = {.method = "GET", .path = "/", .connections = 1, .requests = 1};
    for (int i = 1; i + 1 < count; i += 2) {
        take_option(&options, arguments[i], arguments[i + 1]);
    }
    if (count % 2 == 0 || options.port == 0 || options.requests == 0 || options.connections == 0 ||
        options.connections > CONNECTIONS_MAX) {
        fail("usage", "see the head of load.c");
    }
    first_number = (size_t)(now_ns() / 1000 * 7919);
    make_request(&options);
    latencies_us = calloc(options.requests, sizeof(*latencies_us));
    save = options.save_file == NULL ? NULL : fopen(options.save_file, "we");
    if (latencies_us == NULL || (options.save_file != NULL && save == NULL)) {
        fail("start", strerror(errno));
    }
    run(&options);
    return 0;
}
