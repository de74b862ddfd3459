#include "engine_zygote.h"

#include "build_word.h"
#include "clock.h"
#include "fd.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    START_PAUSE_MAX_MS = 5000,
    START_WAIT_MS = 60000
};

struct zygote {
    struct lock lock; /* LOCK_ZYGOTE: everything below */
    struct condition changed;
    int socket_fd;
    pid_t pid;
    bool ready;
    bool stopping;
    uint64_t next_job;
    struct zygote_child *children;
    unsigned landlock_abi;
    int program_fd;
    bool (*check)(int library_fd, struct err *err);
    bool refused; /* for good, with this error */
    struct err refusal;
    char problem[128]; /* why the last start failed */
    int stop_fd;
    pthread_t thread;
    struct metric_counter restarts; /* without the lock */
};

/* ---- messages ---- */

static struct zygote_child *find_child(struct zygote *zygote, uint64_t job) REQUIRES(&zygote->lock)
{
    struct zygote_child *child = zygote->children;
    while (child != NULL && child->job != job) {
        child = child->next;
    }
    return child;
}

/* Every zygote is the same program and library: what the first one said of itself stays, so that it
 * can be read without the lock. */
static void take_ready(struct zygote *zygote, const struct zygote_message *message)
    REQUIRES(&zygote->lock)
{
    zygote->ready = true;
    if (zygote->landlock_abi == 0) { /* the same after a restart: readers take no lock */
        zygote->landlock_abi = message->landlock_abi;
    }
}

static void take_message(struct zygote *zygote, const struct zygote_message *message, int *fd)
{
    lock_take(&zygote->lock);
    struct zygote_child *child = find_child(zygote, message->job);
    if (message->type == ZYGOTE_READY) {
        take_ready(zygote, message);
    } else if (child != NULL && message->type == ZYGOTE_FORKED) {
        child->forked = true;
        child->pid = message->pid;
        child->fork_errno = message->status;
        child->pidfd = *fd;
        *fd = -1;
    } else if (message->type == ZYGOTE_FORKED) { /* nobody waits for it any more */
        (void)syscall(SYS_pidfd_send_signal, *fd, SIGKILL, NULL, 0);
    } else if (child != NULL && message->type == ZYGOTE_EXITED) {
        child->exited = true;
        child->status = message->status;
        child->peak_bytes = message->peak_bytes;
    }
    condition_broadcast(&zygote->changed);
    lock_release(&zygote->lock);
}

static void refuse(struct zygote *zygote, const struct err *err)
{
    lock_take(&zygote->lock);
    zygote->refused = true;
    zygote->refusal = *err;
    condition_broadcast(&zygote->changed);
    lock_release(&zygote->lock);
}

/* READY waits in the socket meanwhile, so nothing is forked before the answer. */
static bool pass_library(struct zygote *zygote, int library_fd)
{
    struct err err;
    if (zygote->check == NULL || zygote->check(library_fd, &err)) {
        return true;
    }
    if (err.kind != ERR_INTERNAL) { /* else it could not be read, and the next zygote may show it */
        refuse(zygote, &err);
    }
    return false;
}

/* False at the end of the zygote. */
static bool read_message(struct zygote *zygote, int socket_fd)
{
    struct zygote_message message;
    int fd;
    ssize_t size = fd_receive_message(socket_fd, &message, sizeof(message), &fd, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) {
        return true;
    }
    if (size != (ssize_t)sizeof(message)) {
        fd_close(&fd);
        return false;
    }
    bool good = true;
    if (message.type == ZYGOTE_LIBRARY) {
        good = fd >= 0 && pass_library(zygote, fd); /* without room for one it is tried again */
    } else {
        take_message(zygote, &message, &fd);
    }
    fd_close(&fd);
    return good;
}

/* ---- the process ---- */

/* Starts the program that was opened at the start, whatever has its name by now: nothing of our
 * environment, one inherited socket. The dynamic linker is told to bind every function at once: it
 * takes 25 ms, and saves each worker a sixth of a small query's time, which would bind its own. */
static pid_t spawn_zygote(int program_fd, int socket_fd)
{
    char path[64];
    char program[] = "eider-engine";
    char command[] = "zygote";
    char word[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", program_fd);
    (void)snprintf(word, sizeof(word), "%s", build_word());
    char *const arguments[] = {program, command, word, NULL};
    char bind_now[] = "LD_BIND_NOW=1";
    char *const environment[] = {bind_now, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, socket_fd, WORKER_ZYGOTE_FD);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t pid = -1;
    int problem = posix_spawn(&pid, path, &actions, &attributes, arguments, environment);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return problem == 0 ? pid : -1;
}

static bool start(struct zygote *zygote)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return false;
    }
    /* dup2 onto itself would keep close-on-exec: move the descriptor out of the way. */
    int theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, WORKER_ZYGOTE_FD + 1);
    fd_close(&pair[1]);
    pid_t pid = theirs < 0 ? -1 : spawn_zygote(zygote->program_fd, theirs);
    fd_close(&theirs);
    if (pid < 0) {
        fd_close(&pair[0]);
        return false;
    }
    lock_take(&zygote->lock);
    zygote->socket_fd = pair[0];
    zygote->pid = pid;
    lock_release(&zygote->lock);
    return true;
}

static void listen_to(struct zygote *zygote)
{
    for (;;) {
        struct pollfd polled[] = {
            {.fd = zygote->socket_fd, .events = POLLIN},
            {.fd = zygote->stop_fd, .events = POLLIN},
        };
        (void)poll(polled, COUNT_OF(polled), -1);
        if (polled[1].revents != 0) {
            return;
        }
        if (polled[0].revents != 0 && !read_message(zygote, zygote->socket_fd)) {
            return;
        }
    }
}

/* Nobody will hear of these children any more; forks that wait are tried again by their callers. */
static void finish_start(struct zygote *zygote)
{
    int status = 0;
    lock_take(&zygote->lock);
    fd_close(&zygote->socket_fd);
    pid_t pid = zygote->pid;
    zygote->ready = false;
    for (struct zygote_child *child = zygote->children; child != NULL; child = child->next) {
        child->lost = true;
    }
    condition_broadcast(&zygote->changed);
    bool stopping = zygote->stopping;
    lock_release(&zygote->lock);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    lock_take(&zygote->lock);
    (void)snprintf(zygote->problem, sizeof(zygote->problem), "the zygote ended with status %d",
                   status);
    lock_release(&zygote->lock);
    if (WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_OTHER_BUILD) {
        struct err err;
        (void)err_set(&err, ERR_UNAVAILABLE,
                      "eider-engine is of another build than this eider; install both of one "
                      "build (`eider version` and `eider-engine` say which)");
        refuse(zygote, &err);
    }
    if (!stopping) {
        metric_add(&zygote->restarts, 1);
        LOG(LOG_WARN, "engine.zygote_ended", LOG_NUM("pid", pid), LOG_NUM("status", status));
    }
}

static void *zygote_run(void *argument)
{
    struct zygote *zygote = argument;
    int pause_ms = 0;
    for (;;) {
        struct pollfd stop = {.fd = zygote->stop_fd, .events = POLLIN};
        if (poll(&stop, 1, pause_ms) > 0) {
            return NULL;
        }
        int64_t started_ms = clock_now_ms();
        if (start(zygote)) {
            listen_to(zygote);
            finish_start(zygote);
        }
        if (zygote->refused) {
            return NULL;
        }
        bool lived = clock_now_ms() - started_ms > 2000;
        pause_ms = lived ? 0 : pause_ms < 100 ? 100 : pause_ms * 2;
        pause_ms = pause_ms > START_PAUSE_MAX_MS ? START_PAUSE_MAX_MS : pause_ms;
    }
}

/* ---- the public side ---- */

struct zygote *zygote_create(int program_fd, bool (*check)(int library_fd, struct err *err))
{
    struct zygote *zygote = mem_alloc(sizeof(*zygote));
    zygote->socket_fd = -1;
    zygote->next_job = 1;
    zygote->program_fd = program_fd;
    zygote->check = check;
    zygote->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    lock_init(&zygote->lock, LOCK_ZYGOTE);
    condition_init(&zygote->changed);
    zygote->thread = thread_start("zygote", zygote_run, zygote);
    return zygote;
}

void zygote_destroy(struct zygote *zygote)
{
    if (zygote == NULL) {
        return;
    }
    lock_take(&zygote->lock);
    zygote->stopping = true;
    lock_release(&zygote->lock);
    uint64_t one = 1;
    (void)!write(zygote->stop_fd, &one, sizeof(one));
    (void)pthread_join(zygote->thread, NULL);
    assert(zygote->children == NULL);
    (void)close(zygote->stop_fd);
    condition_finish(&zygote->changed);
    lock_finish(&zygote->lock);
    mem_free(zygote);
}

bool zygote_is_ready(struct zygote *zygote)
{
    lock_take(&zygote->lock);
    bool ready = zygote->ready;
    lock_release(&zygote->lock);
    return ready;
}

unsigned zygote_landlock_abi(struct zygote *zygote)
{
    return zygote->landlock_abi;
}

uint64_t zygote_restarts(const struct zygote *zygote)
{
    return metric_value(&zygote->restarts);
}

/* Waits for news in short turns, so that a raised cancel is seen soon. */
static bool wait_news(struct zygote *zygote, struct cancel *cancel, struct err *err)
    REQUIRES(&zygote->lock)
{
    (void)condition_wait_until(&zygote->changed, &zygote->lock, clock_now_ms() + 50);
    return cancel_check(cancel, err);
}

static bool wait_ready(struct zygote *zygote, struct cancel *cancel, struct err *err)
    REQUIRES(&zygote->lock)
{
    int64_t until_ms = clock_now_ms() + START_WAIT_MS;
    while (!zygote->ready) {
        if (zygote->refused) {
            *err = zygote->refusal;
            return false;
        }
        if (clock_now_ms() > until_ms) {
            (void)err_set(err, ERR_UNAVAILABLE, "the query engine does not start");
            err_add_detail(err, "%s", zygote->problem);
            return false;
        }
        if (!wait_news(zygote, cancel, err)) {
            return false;
        }
    }
    return true;
}

bool zygote_wait_ready(struct zygote *zygote, struct cancel *cancel, struct err *err)
{
    lock_take(&zygote->lock);
    bool ready = wait_ready(zygote, cancel, err);
    lock_release(&zygote->lock);
    return ready;
}

/* Never waits: a zygote that takes no requests is as good as dead. */
static bool send_fork(int zygote_socket, uint64_t job, const struct zygote_start *start)
{
    struct zygote_message message = {
        .type = ZYGOTE_FORK, .job = job, .limits = start->limits, .unlimited = start->unlimited};
    return fd_send_message(zygote_socket, &message, sizeof(message), start->socket_fd,
                           MSG_DONTWAIT) == (ssize_t)sizeof(message);
}

static void unlink_child(struct zygote *zygote, const struct zygote_child *child)
    REQUIRES(&zygote->lock)
{
    struct zygote_child **link = &zygote->children;
    while (*link != child) {
        link = &(*link)->next;
    }
    *link = child->next;
}

static bool fork_locked(struct zygote *zygote, const struct zygote_start *start,
                        struct zygote_child *child, struct cancel *cancel, struct err *err)
    REQUIRES(&zygote->lock)
{
    if (!wait_ready(zygote, cancel, err)) {
        return false;
    }
    *child = (struct zygote_child){.job = zygote->next_job++, .pidfd = -1};
    child->next = zygote->children;
    zygote->children = child;
    bool good = true;
    bool sent = send_fork(zygote->socket_fd, child->job, start);
    while (good && !sent && errno == EAGAIN) {
        good = wait_news(zygote, cancel, err);
        sent = good && send_fork(zygote->socket_fd, child->job, start);
    }
    if (good && !sent) {
        /* It is dead, and its reader has not noticed yet: the next try must wait for a new one.
         * Where it was the system that had no room, this ends it, or none would be ready again. */
        zygote->ready = false;
        (void)shutdown(zygote->socket_fd, SHUT_RDWR);
        child->lost = true;
    }
    if (!good) {
        unlink_child(zygote, child);
    }
    return good;
}

bool zygote_fork(struct zygote *zygote, const struct zygote_start *start,
                 struct zygote_child *child, struct cancel *cancel, struct err *err)
{
    lock_take(&zygote->lock);
    bool good = fork_locked(zygote, start, child, cancel, err);
    lock_release(&zygote->lock);
    return good;
}

bool zygote_wait_forked(struct zygote *zygote, struct zygote_child *child, struct cancel *cancel,
                        struct err *err)
{
    bool good = true;
    lock_take(&zygote->lock);
    while (good && !child->forked && !child->lost) {
        good = wait_news(zygote, cancel, err);
    }
    if (good && !child->forked) {
        good = err_set(err, ERR_CONFLICT, "the zygote ended before it answered");
    } else if (good && (child->fork_errno != 0 || child->pidfd < 0)) {
        good = err_set_errno(err, ERR_UNAVAILABLE, child->fork_errno,
                             "the server cannot start a worker process");
    }
    lock_release(&zygote->lock);
    return good;
}

bool zygote_wait_status(struct zygote *zygote, struct zygote_child *child, int wait_ms)
{
    int64_t until_ms = clock_now_ms() + wait_ms;
    lock_take(&zygote->lock);
    while (!child->exited && !child->lost &&
           condition_wait_until(&zygote->changed, &zygote->lock, until_ms)) {
    }
    bool known = child->exited;
    lock_release(&zygote->lock);
    return known;
}

void zygote_forget(struct zygote *zygote, struct zygote_child *child)
{
    lock_take(&zygote->lock);
    unlink_child(zygote, child);
    if (child->pidfd >= 0 && !child->exited) { /* it came when nobody wanted it any more */
        (void)syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
    }
    lock_release(&zygote->lock);
    fd_close(&child->pidfd);
}
