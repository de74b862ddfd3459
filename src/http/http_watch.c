#include "http_private.h"

#include "clock.h"
#include "fd.h"
#include "mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- connections ---- */

static void write_address(const struct sockaddr *peer, char text[static INET6_ADDRSTRLEN])
{
    (void)snprintf(text, INET6_ADDRSTRLEN, "unknown");
    if (peer != NULL && peer->sa_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, peer, sizeof(four));
        (void)inet_ntop(AF_INET, &four.sin_addr, text, INET6_ADDRSTRLEN);
    } else if (peer != NULL && peer->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, peer, sizeof(six));
        (void)inet_ntop(AF_INET6, &six.sin6_addr, text, INET6_ADDRSTRLEN);
    }
}

static void name_this_thread(void)
{
    static _Thread_local bool named;
    if (!named) {
        (void)pthread_setname_np(pthread_self(), "http");
        named = true;
    }
}

struct http_connection *http_connection_open(struct http_listener *listener,
                                             struct MHD_Connection *mhd)
{
    name_this_thread();
    struct http_server *server = listener->server;
    struct http_connection *connection = mem_alloc(sizeof(*connection));
    connection->listener = listener;
    connection->fresh = true;
    connection->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    write_address(MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr,
                  connection->address);
    atomic_init(&connection->left, false);
    atomic_init(&connection->reader_deadline_ms, INT64_MAX);
    http_connection_enter(connection, HTTP_PHASE_HEADER);
    lock_take(&server->lock);
    connection->next = server->connections;
    if (connection->next != NULL) {
        connection->next->previous = connection;
    }
    server->connections = connection;
    server->connections_count++;
    server->connections_total++;
    lock_release(&server->lock);
    /* Once per connection and only for hang-ups, so that a request costs no system call.
     * Edge-triggered: `left` remembers. */
    struct epoll_event wanted = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = connection};
    (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, connection->fd, &wanted);
    return connection;
}

void http_connection_close(struct http_connection *connection)
{
    struct http_server *server = connection->listener->server;
    lock_take(&server->lock);
    assert(connection->exchange == NULL);
    (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    if (connection->previous != NULL) {
        connection->previous->next = connection->next;
    } else {
        server->connections = connection->next;
    }
    server->connections_count--;
    connection->closed = true;
    connection->next = server->retired;
    server->retired = connection;
    lock_release(&server->lock);
}

void http_connection_enter(struct http_connection *connection, enum http_phase phase)
{
    const struct http_options *options = &connection->listener->server->options;
    const unsigned timeout_ms[] = {
        [HTTP_PHASE_IDLE] = options->idle_timeout_ms,
        [HTTP_PHASE_HEADER] = options->header_timeout_ms,
        [HTTP_PHASE_BODY] = options->body_stall_timeout_ms,
        [HTTP_PHASE_BUSY] = 0,
        [HTTP_PHASE_WRITE] = options->write_stall_timeout_ms,
        [HTTP_PHASE_LINGER] = options->body_stall_timeout_ms,
    };
    int64_t deadline_ms = timeout_ms[phase] == 0 ? INT64_MAX : clock_now_ms() + timeout_ms[phase];
    atomic_store(&connection->phase, (int)phase);
    atomic_store(&connection->deadline_ms, deadline_ms);
}

void http_connection_set_exchange(struct http_connection *connection,
                                  struct http_exchange *exchange)
{
    struct http_server *server = connection->listener->server;
    lock_take(&server->lock);
    connection->exchange = exchange;
    lock_release(&server->lock);
}

/* ---- the watch thread ---- */

/* libmicrohttpd may have read up to the goodbye and be waiting for an event that never comes, since
 * one event stood for the last bytes and for the goodbye. This makes another one; bytes that are
 * unread stay, and the peer does not notice. */
static void repeat_hang_up(struct http_connection *connection)
{
    (void)shutdown(connection->fd, SHUT_RD);
}

static void handle_hang_up(struct http_server *server, struct http_connection *connection)
{
    struct http_exchange *exchange = NULL;
    lock_take(&server->lock);
    /* The shutdown makes an event for this epoll too, which says nothing new. */
    bool known = atomic_load(&connection->left);
    if (!connection->closed && !known) {
        /* Before the exchange is looked at: whoever suspends it later checks `left` after that. */
        atomic_store(&connection->left, true);
        repeat_hang_up(connection);
        exchange = connection->exchange;
        if (exchange != NULL) {
            http_exchange_reference(exchange);
        }
    }
    lock_release(&server->lock);
    if (exchange != NULL) {
        http_exchange_leave(exchange, ERR_CANCELLED);
        http_exchange_release(exchange);
    }
}

static struct tcp_info tcp_state(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    (void)getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    return info;
}

/* A reader that confirmed bytes since the last look gets its time again. */
static void extend_writer(struct http_connection *connection, long long seen_ms, int64_t now_ms)
{
    uint64_t acked = tcp_state(connection->fd).tcpi_bytes_acked;
    if (acked != connection->acked) {
        connection->acked = acked;
        unsigned stall_ms = connection->listener->server->options.write_stall_timeout_ms;
        /* Unless an http thread has moved on meanwhile. */
        (void)atomic_compare_exchange_strong(&connection->deadline_ms, &seen_ms,
                                             now_ms + (int64_t)stall_ms);
    }
}

/* libmicrohttpd sees the end of the connection and closes it. */
static void cut(struct http_connection *connection, enum http_phase phase)
{
    static const char timed_out[] = "HTTP/1.1 408 Request Timeout\r\n"
                                    "Connection: close\r\n"
                                    "Content-Length: 0\r\n\r\n";
    bool reading = phase == HTTP_PHASE_HEADER || phase == HTTP_PHASE_BODY;
    if (reading && tcp_state(connection->fd).tcpi_bytes_received > 0) {
        (void)send(connection->fd, timed_out, sizeof(timed_out) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    (void)shutdown(connection->fd, SHUT_RDWR);
    atomic_store(&connection->deadline_ms, INT64_MAX);
}

static void check_deadline(struct http_connection *connection, int64_t now_ms)
{
    enum http_phase phase = (enum http_phase)atomic_load(&connection->phase);
    long long deadline_ms = atomic_load(&connection->deadline_ms);
    if (phase == HTTP_PHASE_WRITE && deadline_ms != INT64_MAX) {
        extend_writer(connection, deadline_ms, now_ms);
        deadline_ms = atomic_load(&connection->deadline_ms);
    }
    bool reading = phase != HTTP_PHASE_BUSY && phase != HTTP_PHASE_WRITE;
    if (now_ms >= deadline_ms) {
        cut(connection, phase);
    } else if (reading && atomic_load(&connection->left)) {
        repeat_hang_up(connection); /* the first may have come before the last bytes were read */
    }
}

static void free_retired(struct http_server *server)
{
    lock_take(&server->lock);
    struct http_connection *at = server->retired;
    server->retired = NULL;
    lock_release(&server->lock);
    while (at != NULL) {
        struct http_connection *next = at->next;
        mem_free(at);
        at = next;
    }
}

/* A few at a time: the rest follows with the next round. */
static void check_deadlines(struct http_server *server)
{
    struct http_exchange *late[HTTP_WATCH_EVENTS_MAX];
    size_t late_count = 0;
    int64_t now_ms = clock_now_ms();
    lock_take(&server->lock);
    for (struct http_connection *at = server->connections; at != NULL; at = at->next) {
        check_deadline(at, now_ms);
        if (now_ms >= atomic_load(&at->reader_deadline_ms) && at->exchange != NULL &&
            late_count < COUNT_OF(late)) {
            http_exchange_reference(at->exchange);
            late[late_count++] = at->exchange;
        }
    }
    lock_release(&server->lock);
    for (size_t i = 0; i < late_count; i++) {
        http_upload_expire(late[i]);
        http_exchange_release(late[i]);
    }
}

static int tick_ms(const struct http_options *options)
{
    unsigned least = options->idle_timeout_ms;
    least = least > options->header_timeout_ms ? options->header_timeout_ms : least;
    least = least > options->body_stall_timeout_ms ? options->body_stall_timeout_ms : least;
    least = least > options->write_stall_timeout_ms ? options->write_stall_timeout_ms : least;
    least /= 4;
    return least < 10 ? 10 : least > 250 ? 250 : (int)least;
}

static void *watch(void *argument)
{
    struct http_server *server = argument;
    int round_ms = tick_ms(&server->options);
    int64_t next_check_ms = clock_now_ms() + round_ms;
    for (;;) {
        struct epoll_event events[HTTP_WATCH_EVENTS_MAX];
        int64_t left_ms = next_check_ms - clock_now_ms();
        int count = epoll_wait(server->epoll_fd, events, HTTP_WATCH_EVENTS_MAX,
                               left_ms < 0 ? 0 : (int)left_ms);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                return NULL; /* http_watch_stop */
            }
            if (events[i].data.ptr == server) {
                http_accept_round(server);
            } else {
                handle_hang_up(server, events[i].data.ptr);
            }
        }
        if (clock_now_ms() >= next_check_ms) {
            check_deadlines(server);
            if (!server->listening) {
                http_accept_round(server);
            }
            next_check_ms = clock_now_ms() + round_ms;
        }
        free_retired(server);
    }
}

bool http_watch_start(struct http_server *server, struct err *err)
{
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event wake = {.events = EPOLLIN, .data.ptr = NULL};
    if (server->epoll_fd < 0 || server->wake_fd < 0 ||
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->wake_fd, &wake) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the HTTP server cannot be started");
    }
    server->watch = thread_start("watch", watch, server);
    server->watching = true;
    return true;
}

void http_watch_stop(struct http_server *server)
{
    if (server->watching) {
        uint64_t one = 1;
        (void)!write(server->wake_fd, &one, sizeof(one));
        (void)pthread_join(server->watch, NULL);
        server->watching = false;
    }
    free_retired(server);
    assert(server->connections == NULL);
    fd_close(&server->wake_fd);
    fd_close(&server->accept_fd);
    fd_close(&server->epoll_fd);
}
