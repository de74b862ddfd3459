#include "http_private.h"

#include "fd.h"
#include "mem.h"
#include "num.h"

#include <errno.h>
#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* libmicrohttpd keeps the header, its index and the reply's header of a connection in a block of
 * this size, half of it for what is read at once. It fills the block with zeros after each request:
 * what is not needed costs time and the processor's cache. */
#define CONNECTION_MEMORY_BYTES ((size_t)32 << 10)
#define LISTEN_BACKLOG 1024

static unsigned or_default(unsigned value, unsigned fallback)
{
    return value == 0 ? fallback : value;
}

struct http_server *http_server_create(const struct http_options *options)
{
    assert(options->handlers.begin != NULL);
    assert(options->handlers.ready != NULL);
    assert(options->handlers.refuse != NULL);
    struct http_server *server = mem_alloc(sizeof(*server));
    server->options = *options;
    server->options.threads = or_default(options->threads, 2);
    server->options.connections_max = or_default(options->connections_max, 10240);
    server->options.idle_timeout_ms = or_default(options->idle_timeout_ms, 60000);
    server->options.header_timeout_ms = or_default(options->header_timeout_ms, 10000);
    server->options.body_stall_timeout_ms = or_default(options->body_stall_timeout_ms, 30000);
    server->options.write_stall_timeout_ms = or_default(options->write_stall_timeout_ms, 60000);
    atomic_init(&server->stopping, false);
    atomic_init(&server->resuming, 0);
    lock_init(&server->lock, LOCK_WATCH);
    condition_init(&server->idle);
    atomic_init(&server->closed, false);
    atomic_init(&server->accepting, false);
    server->listening = true;
    server->epoll_fd = -1;
    server->accept_fd = -1;
    server->wake_fd = -1;
    return server;
}

/* ---- listening ---- */

static bool listen_failed(struct str address, int errno_value, struct err *err)
{
    char text[128];
    const char *reason = strerror_r(errno_value, text, sizeof(text));
    /* The C library begins its texts with a capital; ours stand inside a sentence. */
    char first = reason[0] >= 'A' && reason[0] <= 'Z' ? (char)(reason[0] | 0x20) : reason[0];
    return err_set(err, ERR_UNAVAILABLE, "cannot listen on %.*s: %c%s", STR_ARG(address), first,
                   first == '\0' ? "" : reason + 1);
}

static bool split_address(struct str address, char host[static 256], char port[static 8],
                          struct err *err)
{
    size_t colon = address.len;
    while (colon > 0 && address.ptr[colon - 1] != ':') {
        colon--;
    }
    struct str name = str_first(address, colon > 0 ? colon - 1 : 0);
    struct str number = str_from(address, colon);
    uint64_t value = 0;
    bool bracketed = name.len > 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']';
    if (bracketed) {
        name = str_make(name.ptr + 1, name.len - 2);
    }
    bool plain = bracketed || str_find_byte(name, ':') == name.len;
    if (name.len == 0 || name.len > 255 || !plain ||
        !num_parse_u64(number, 0, 65535, &value, err)) {
        return err_set(err, ERR_INVALID,
                       "'%.*s' is not an address to listen on: expected host:port",
                       STR_ARG(address));
    }
    (void)snprintf(host, 256, "%.*s", STR_ARG(name));
    (void)snprintf(port, 8, "%u", (unsigned)value);
    return true;
}

static bool open_socket(struct str address, const struct addrinfo *found, int *ret_fd,
                        struct err *err)
{
    CLEANUP(fd_close)
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd < 0) {
        return listen_failed(address, errno, err);
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (found->ai_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        return listen_failed(address, errno, err);
    }
    *ret_fd = fd;
    fd = -1;
    return true;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    (void)getsockname(fd, (struct sockaddr *)&bound, &size);
    if (bound.ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)&bound)->sin6_port);
    }
    return ntohs(((const struct sockaddr_in *)&bound)->sin_port);
}

static bool open_address(struct str address, int *ret_fd, struct err *err)
{
    char host[256];
    char port[8];
    if (!split_address(address, host, port, err)) {
        return false;
    }
    struct addrinfo wanted = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };
    struct addrinfo *found = NULL;
    int result = getaddrinfo(host, port, &wanted, &found);
    if (result != 0) {
        return err_set(err, ERR_INVALID, "cannot listen on %.*s: %s", STR_ARG(address),
                       gai_strerror(result));
    }
    bool opened = open_socket(address, found, ret_fd, err);
    freeaddrinfo(found);
    return opened;
}

bool http_try_address(struct str address, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    return open_address(address, &fd, err);
}

bool http_listen(struct http_server *server, struct str address, unsigned tag, uint16_t *ret_port,
                 struct err *err)
{
    assert(!server->watching);
    int fd = -1;
    if (!open_address(address, &fd, err)) {
        return false;
    }
    struct http_listener *listener = mem_alloc(sizeof(*listener));
    *listener =
        (struct http_listener){.server = server, .next = server->listeners, .fd = fd, .tag = tag};
    server->listeners = listener;
    *ret_port = bound_port(fd);
    return true;
}

/* ---- the calls of libmicrohttpd ---- */

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = http_connection_open(cls, mhd);
    } else {
        http_connection_close(*socket_context);
        *socket_context = NULL;
    }
}

/* Called with the raw request target as soon as the request line is there. */
static void *on_request_line(void *cls, const char *target, struct MHD_Connection *mhd)
{
    (void)cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    assert(info != NULL && info->socket_context != NULL);
    return http_exchange_create(info->socket_context, mhd, target);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request_context)
{
    (void)cls;
    (void)mhd;
    (void)url;
    assert(*request_context != NULL);
    return http_exchange_serve(*request_context, method, version, upload, upload_size);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **request_context,
                         enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)mhd;
    (void)code;
    if (*request_context != NULL) {
        http_exchange_complete(*request_context);
        *request_context = NULL;
    }
}

/* Paths stay as they were sent: http_decode is the one decoder. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

/* ---- start and stop ---- */

/* The watch thread keeps the real time-outs; this one, later than all of them, is a second net. */
static unsigned backstop_seconds(const struct http_options *options)
{
    unsigned most = options->idle_timeout_ms;
    most = most < options->body_stall_timeout_ms ? options->body_stall_timeout_ms : most;
    most = most < options->write_stall_timeout_ms ? options->write_stall_timeout_ms : most;
    return most / 1000 + 5;
}

static bool start_listener(struct http_server *server, struct http_listener *listener)
{
    const struct http_options *options = &server->options;
    struct MHD_OptionItem items[] = {
        /* http_accept.c keeps the limit; this one is beyond what it can have handed over. */
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)options->connections_max + LISTEN_BACKLOG, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)backstop_seconds(options), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t)CONNECTION_MEMORY_BYTES, NULL},
#if MHD_VERSION >= 0x00097701
        {MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1, NULL}, /* before, http_strict.c does it */
#endif
        {options->threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END,
         (intptr_t)options->threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    listener->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0,
        NULL, NULL, on_request, listener, MHD_OPTION_NOTIFY_CONNECTION, on_connection, listener,
        MHD_OPTION_URI_LOG_CALLBACK, on_request_line, listener, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, listener, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_ARRAY,
        items, MHD_OPTION_END);
    return listener->daemon != NULL;
}

bool http_start(struct http_server *server, struct err *err)
{
    if (!http_watch_start(server, err)) {
        return false;
    }
    for (struct http_listener *at = server->listeners; at != NULL; at = at->next) {
        if (!start_listener(server, at)) {
            return err_set(err, ERR_UNAVAILABLE, "the HTTP server cannot be started");
        }
    }
    return http_accept_open(server, err);
}

bool http_wait_idle(struct http_server *server, int64_t deadline_ms)
{
    lock_take(&server->lock);
    bool in_time = true;
    while (server->exchanges_count > 0 && in_time) {
        in_time = condition_wait_until(&server->idle, &server->lock, deadline_ms);
    }
    bool idle = server->exchanges_count == 0;
    lock_release(&server->lock);
    return idle;
}

struct http_counts http_counts(struct http_server *server)
{
    lock_take(&server->lock);
    struct http_counts counts = {
        .connections = server->connections_count,
        .exchanges = server->exchanges_count,
        .connections_total = server->connections_total,
    };
    lock_release(&server->lock);
    return counts;
}

/* No connection may be suspended when a daemon stops. Whoever would suspend after this sees
 * `stopping`; whoever was about to resume has said so before we had its exchange's lock. */
static void leave_all(struct http_server *server)
{
    atomic_store(&server->stopping, true);
    lock_take(&server->lock);
    size_t count = 0;
    struct http_exchange **open =
        mem_alloc_array(server->connections_count + 1, sizeof(struct http_exchange *));
    for (struct http_connection *at = server->connections; at != NULL; at = at->next) {
        if (at->exchange != NULL) {
            http_exchange_reference(at->exchange);
            open[count++] = at->exchange;
        }
    }
    lock_release(&server->lock);
    for (size_t i = 0; i < count; i++) {
        http_exchange_leave(open[i], ERR_UNAVAILABLE);
        http_exchange_release(open[i]);
    }
    mem_free(open);
    while (atomic_load(&server->resuming) > 0) {
        (void)sched_yield();
    }
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    http_stop_accepting(server);
    leave_all(server);
    for (struct http_listener *at = server->listeners; at != NULL; at = at->next) {
        if (at->daemon != NULL) {
            MHD_stop_daemon(at->daemon);
        }
    }
    (void)http_wait_idle(server, INT64_MAX / 2);
    http_watch_stop(server);
    struct http_listener *listener = server->listeners;
    while (listener != NULL) {
        struct http_listener *next = listener->next;
        fd_close(&listener->fd);
        mem_free(listener);
        listener = next;
    }
    condition_finish(&server->idle);
    lock_finish(&server->lock);
    mem_free(server);
}
