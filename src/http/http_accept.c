/* http_accept.c - the watch thread takes connections and hands them to libmicrohttpd. Its own
 * listening cannot be ended safely: MHD_quiesce_daemon and the daemon's epoll threads race to
 * remove the socket from the epoll set, and who comes second calls abort (0.9.75 and later, open
 * there). tests/unit/test_http_accept.c shows it. */
#include "http_private.h"

#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_ROUND_MAX 64

bool http_accept_open(struct http_server *server, struct err *err)
{
    server->accept_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event inner = {.events = EPOLLIN};
    bool good = server->accept_fd >= 0;
    for (struct http_listener *at = server->listeners; good && at != NULL; at = at->next) {
        good = epoll_ctl(server->accept_fd, EPOLL_CTL_ADD, at->fd, &inner) == 0;
    }
    struct epoll_event outer = {.events = EPOLLIN, .data.ptr = server};
    if (!good || epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->accept_fd, &outer) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the HTTP server cannot be started");
    }
    return true;
}

static size_t count_connections(struct http_server *server)
{
    lock_take(&server->lock);
    size_t count = server->connections_count;
    lock_release(&server->lock);
    return count;
}

/* False: no more for a while, because connections or the machine's descriptors are used up. */
static bool accept_some(struct http_server *server, struct http_listener *listener, size_t most)
{
    for (size_t taken = 0; taken < most && !atomic_load(&server->closed);) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof(peer);
        int fd =
            accept4(listener->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            taken++;
            (void)MHD_add_connection(listener->daemon, fd, (struct sockaddr *)&peer, size);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            return false;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return true; /* nobody waits */
        }
    }
    return most > 0;
}

static void set_listening(struct http_server *server, bool listening)
{
    struct epoll_event wanted = {.events = listening ? EPOLLIN : 0, .data.ptr = server};
    if (listening != server->listening) {
        server->listening = listening;
        (void)epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->accept_fd, &wanted);
    }
}

void http_accept_round(struct http_server *server)
{
    atomic_store(&server->accepting, true);
    bool room = true;
    for (struct http_listener *at = server->listeners; at != NULL && room; at = at->next) {
        size_t open = count_connections(server);
        size_t left =
            open < server->options.connections_max ? server->options.connections_max - open : 0;
        room = accept_some(server, at, left < ACCEPT_ROUND_MAX ? left : ACCEPT_ROUND_MAX);
    }
    atomic_store(&server->accepting, false);
    set_listening(server, room);
}

/* When it returns, no daemon is handed anybody any more. */
void http_stop_accepting(struct http_server *server)
{
    atomic_store(&server->closed, true);
    for (struct http_listener *at = server->listeners; at != NULL; at = at->next) {
        if (server->accept_fd >= 0) {
            (void)epoll_ctl(server->accept_fd, EPOLL_CTL_DEL, at->fd, NULL);
        }
        /* Who connects from now on is refused, and whoever waits in the backlog is told. */
        (void)shutdown(at->fd, SHUT_RDWR);
    }
    /* A connection that has just been accepted still goes to a daemon, which has to be there. */
    while (atomic_load(&server->accepting)) {
        (void)sched_yield();
    }
}
