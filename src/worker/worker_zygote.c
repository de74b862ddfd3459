#include "clock.h"
#include "fd.h"
#include "mem.h"
#include "worker.h"
#include "worker_main.h"
#include "worker_pages.h"
#include "worker_sandbox.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Sanitizers have memory and handlers of their own everywhere. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MEMORY 0
#else
#define OWN_MEMORY 1
#endif

enum {
    /* When the zygote does what makes forks cheaper, but would keep the first one waiting: in a
     * quiet moment, a long one before there was any job, or after so many forks without one. */
    QUIET_AT_FIRST_MS = 1000,
    QUIET_MS = 20,
    BUSY_FORKS = 50,

    SPARES_MAX = 8,
    CALM_MS = 1000,  /* so long without a job, and one spare is enough */
    YOUNG_MS = 1000, /* a spare that dies younger than that may do so again */
    PAUSE_MIN_MS = 50,
    PAUSE_MAX_MS = 2000,
    TURN_TRIES = 3
};

/* A worker of a job to come, forked while there was time. It has not been told anything yet. */
struct spare {
    pid_t pid; /* 0: there is none */
    int turn_fd;
    int64_t forked_ms;
};

struct zygote {
    struct duck duck;
    struct spare spares[SPARES_MAX];
    unsigned wanted; /* how many spares there should be: more while jobs find none */
    unsigned wanted_max;
    unsigned running;       /* jobs that end by themselves, not databases */
    int64_t job_ms;         /* when the last job came */
    int64_t pause_until_ms; /* nothing is forked ahead before, */
    int pause_ms;           /* because spares have died so often */
    bool settled;
    unsigned forks; /* until then */
    int signal_fd;
    int null_fd;
};

static void send_message(const struct zygote_message *message, int fd)
{
    if (fd_send_message(WORKER_ZYGOTE_FD, message, sizeof(*message), fd, 0) < 0) {
        _exit(0); /* the server is gone */
    }
}

/* The file that the engine's code was loaded from. */
static bool show_library(struct err *err)
{
    const struct zygote_message message = {.type = ZYGOTE_LIBRARY};
    Dl_info info;
    CLEANUP(fd_close)
    int fd = dladdr((void *)(uintptr_t)duckdb_library_version, &info) == 0
                 ? -1
                 : open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot open the DuckDB library");
    }
    send_message(&message, fd);
    return true;
}

/* Jobs of children that run; the zygote forgets them when they are reaped. */
enum {
    CHILDREN_MAX = 4096
};
static struct child {
    pid_t pid;
    uint64_t job;
    bool counted; /* in `running` */
} children[CHILDREN_MAX];

static struct child *find_child(pid_t pid)
{
    for (size_t i = 0; i < CHILDREN_MAX; i++) {
        if (children[i].pid == pid) {
            return &children[i];
        }
    }
    return NULL;
}

static struct spare *find_spare(struct zygote *zygote, pid_t pid)
{
    for (unsigned i = 0; i < SPARES_MAX; i++) {
        if (zygote->spares[i].pid == pid) {
            return &zygote->spares[i];
        }
    }
    return NULL;
}

static void forget_spare(struct spare *spare)
{
    fd_close(&spare->turn_fd);
    spare->pid = 0;
}

/* One that was killed is forked again at once. When they die one after the other, whatever ends
 * them ends the next one too: that must not take the machine's time from jobs. */
static void note_spare_gone(struct zygote *zygote, pid_t pid)
{
    struct spare *spare = find_spare(zygote, pid);
    if (spare == NULL) {
        return;
    }
    int64_t now_ms = clock_now_ms();
    bool young = now_ms - spare->forked_ms < YOUNG_MS;
    int longer_ms = zygote->pause_ms * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : zygote->pause_ms * 2;
    zygote->pause_ms = !young ? 0 : zygote->pause_ms == 0 ? PAUSE_MIN_MS : longer_ms;
    zygote->pause_until_ms = now_ms + zygote->pause_ms;
    forget_spare(spare);
}

static void reap(struct zygote *zygote)
{
    int status;
    struct rusage usage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        note_spare_gone(zygote, pid);
        struct child *child = find_child(pid);
        if (child == NULL) {
            continue;
        }
        struct zygote_message message = {
            .type = ZYGOTE_EXITED,
            .job = child->job,
            .pid = pid,
            .status = status,
            .peak_bytes = (uint64_t)usage.ru_maxrss * 1024,
        };
        zygote->running -= child->counted;
        *child = (struct child){0};
        send_message(&message, -1);
    }
}

/* It takes processor time and saves the job's: worth it only while there is a processor free. */
static bool may_rehearse(const struct zygote *zygote)
{
    return zygote->running < zygote->wanted_max;
}

static _Noreturn void become_worker(struct zygote *zygote, int turn_fd, bool unlimited)
{
    (void)close(WORKER_ZYGOTE_FD);
    (void)close(zygote->signal_fd);
    for (unsigned i = 0; i < SPARES_MAX; i++) {
        fd_close(&zygote->spares[i].turn_fd); /* or those would not see that the zygote is gone */
    }
    /* A client's statement must not be able to write to the server's output. */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        (void)dup2(zygote->null_fd, fd);
    }
    (void)close(zygote->null_fd);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over its limit is an error, not the end */
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    worker_wait(&zygote->duck, turn_fd,
                unlimited              ? WORKER_UNLIMITED
                : may_rehearse(zygote) ? WORKER_REHEARSES
                                       : WORKER_WAITS);
}

/* Without the handlers that libraries have for it: those take and let go of locks that a single
 * thread needs not, in pages that zygote and worker then copy, some ten for each of them. */
static pid_t fork_alone(void)
{
    return OWN_MEMORY ? _Fork() : fork();
}

/* False: errno. */
static bool fork_waiting(struct zygote *zygote, bool unlimited, struct spare *ret_spare)
{
    /* A thread would be lost in the fork with whatever lock it holds, and would keep its rights in
     * the sandbox. */
    if (duck_thread_count() != 1) {
        (void)fputs("eider zygote: more than one thread before a fork\n", stderr);
        abort();
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return false;
    }
    pid_t pid = fork_alone();
    if (pid == 0) {
        (void)close(pair[0]); /* or it would not see that the zygote is gone */
        become_worker(zygote, pair[1], unlimited);
    }
    int problem = errno;
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        errno = problem;
        return false;
    }
    *ret_spare = (struct spare){.pid = pid, .turn_fd = pair[0], .forked_ms = clock_now_ms()};
    return true;
}

/* Limits it and gives it the job's socket, or ends it. */
static bool send_turn(struct spare spare, const struct zygote_message *request, int socket_fd)
{
    struct err err;
    bool good = request->unlimited != 0 || sandbox_limit(spare.pid, &request->limits, &err);
    good = good && fd_send_message(spare.turn_fd, "", 1, socket_fd, 0) == 1;
    fd_close(&spare.turn_fd);
    return good;
}

/* The oldest, which has had the most time to get ready. */
static struct spare *oldest_spare(struct zygote *zygote)
{
    struct spare *oldest = NULL;
    for (unsigned i = 0; i < SPARES_MAX; i++) {
        struct spare *spare = &zygote->spares[i];
        if (spare->pid > 0 && (oldest == NULL || spare->forked_ms < oldest->forked_ms)) {
            oldest = spare;
        }
    }
    return oldest;
}

/* The pid of a worker that has been given the job's socket, or -1 and errno. */
static pid_t use_worker(struct zygote *zygote, const struct zygote_message *request, int socket_fd)
{
    struct spare *oldest;
    while (request->unlimited == 0 && (oldest = oldest_spare(zygote)) != NULL) {
        struct spare spare = *oldest;
        *oldest = (struct spare){.turn_fd = -1};
        if (send_turn(spare, request, socket_fd)) {
            return spare.pid;
        } /* somebody has killed it */
    }
    for (unsigned i = 0; i < TURN_TRIES; i++) {
        struct spare forked;
        if (!fork_waiting(zygote, request->unlimited != 0, &forked)) {
            return -1;
        }
        if (send_turn(forked, request, socket_fd)) {
            zygote->wanted += request->unlimited == 0 && zygote->wanted < zygote->wanted_max;
            return forked.pid;
        }
    }
    errno = EAGAIN;
    return -1;
}

static void start_worker(struct zygote *zygote, const struct zygote_message *request, int socket_fd)
{
    struct zygote_message answer = {.type = ZYGOTE_FORKED, .job = request->job};
    struct child *child = find_child(0);
    pid_t pid = child == NULL ? -1 : use_worker(zygote, request, socket_fd);
    int pidfd = -1;
    if (pid < 0) {
        answer.status = child == NULL ? EAGAIN : errno;
    } else {
        *child =
            (struct child){.pid = pid, .job = request->job, .counted = request->unlimited == 0};
        zygote->running += child->counted;
        answer.pid = pid;
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    }
    send_message(&answer, pidfd);
    fd_close(&pidfd);
    zygote->job_ms = clock_now_ms();
}

/* Without a job for a while one is enough: each takes a megabyte. */
static void calm_down(struct zygote *zygote)
{
    zygote->wanted = 1;
    unsigned count = 0;
    for (unsigned i = 0; i < SPARES_MAX; i++) {
        count += zygote->spares[i].pid > 0;
        if (zygote->spares[i].pid > 0 && count > zygote->wanted) {
            forget_spare(&zygote->spares[i]); /* it sees that nobody will come */
        }
    }
}

static unsigned count_spares(const struct zygote *zygote)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SPARES_MAX; i++) {
        count += zygote->spares[i].pid > 0;
    }
    return count;
}

static bool spare_is_due(struct zygote *zygote)
{
    int64_t now_ms = clock_now_ms();
    if (zygote->wanted > 1 && now_ms - zygote->job_ms > CALM_MS) {
        calm_down(zygote);
    }
    return now_ms >= zygote->pause_until_ms && count_spares(zygote) < zygote->wanted;
}

/* When it fails, a job's fork will tell. */
static void fork_ahead(struct zygote *zygote)
{
    if (!fork_waiting(zygote, false, find_spare(zygote, 0))) {
        zygote->pause_until_ms = clock_now_ms() + PAUSE_MAX_MS;
    }
}

/* False when the server has closed the socket. */
static bool serve_request(struct zygote *zygote)
{
    struct zygote_message request;
    int socket_fd;
    ssize_t size = fd_receive_message(WORKER_ZYGOTE_FD, &request, sizeof(request), &socket_fd, 0);
    if (size <= 0) {
        return false;
    }
    if (size == sizeof(request) && request.type == ZYGOTE_FORK && socket_fd >= 0) {
#ifdef EIDER_TEST_LAYERS
        request.unlimited |= request.limits.layers_off != 0;
#endif
        start_worker(zygote, &request, socket_fd);
        zygote->forks += !zygote->settled;
    }
    fd_close(&socket_fd);
    return true;
}

/* When memory runs out, the kernel takes a worker rather than the server. Needs root while it is
 * still there. */
static void offer_to_the_oom_killer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "800", 3);
        (void)close(fd);
    }
}

/* It held a word for the dynamic linker, which has been read. */
static void wipe_environment(void)
{
    for (char **entry = environ; *entry != NULL; entry++) {
        mem_wipe(*entry, strlen(*entry));
    }
    environ[0] = NULL;
}

static bool prepare(struct zygote *zygote, struct err *err)
{
    wipe_environment();
    offer_to_the_oom_killer();
    (void)prctl(PR_SET_NAME, "eider-zygote", 0, 0, 0);
    (void)signal(SIGHUP, SIG_IGN); /* has the server read its settings; workers inherit it */
    (void)setpgid(0, 0); /* a terminal's ^C goes to the server alone, which drains first */
    (void)close_range(WORKER_ZYGOTE_FD + 1, ~0U, 0);
    if (OWN_MEMORY) {
        pages_align_heap();
    }
    (void)mallopt(M_ARENA_MAX,
                  2); /* each arena reserves 64 MiB of address space, which RLIMIT_AS counts */
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    zygote->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    zygote->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!show_library(err)) {
        return false;
    }
    if (strcmp(duckdb_library_version(), "v" EIDER_DUCKDB_VERSION) != 0) {
        return err_set(err, ERR_UNAVAILABLE, "libduckdb is %s, the headers are v%s",
                       duckdb_library_version(), EIDER_DUCKDB_VERSION);
    }
    return sandbox_drop_root(err) && sandbox_prepare(err) && duck_open(&zygote->duck, err) &&
           duck_warm(&zygote->duck, err) && duck_make_connection(&zygote->duck, err) &&
           (duck_rehearse(&zygote->duck) || err_set(err, ERR_INTERNAL, "the engine does not run"));
}

/* Until there is something to do besides. -1: nothing. */
static int wait_ms(const struct zygote *zygote)
{
    int64_t now_ms = clock_now_ms();
    int64_t wait_ms = zygote->settled ? INT_MAX : zygote->forks == 0 ? QUIET_AT_FIRST_MS : QUIET_MS;
    if (count_spares(zygote) < zygote->wanted) {
        int64_t pause_ms = zygote->pause_until_ms - now_ms;
        wait_ms = pause_ms < 0 ? 0 : pause_ms < wait_ms ? pause_ms : wait_ms;
    }
    if (zygote->wanted > 1) {
        int64_t calm_ms = zygote->job_ms + CALM_MS + 1 - now_ms;
        wait_ms = calm_ms < 0 ? 0 : calm_ms < wait_ms ? calm_ms : wait_ms;
    }
    return wait_ms == INT_MAX ? -1 : (int)wait_ms;
}

static void settle(struct zygote *zygote)
{
    if (OWN_MEMORY) {
        (void)pages_enlarge_code((const void *)(uintptr_t)duckdb_library_version);
        (void)pages_enlarge_constants(duckdb_library_version());
    }
    zygote->settled = true;
}

int worker_zygote_main(void)
{
    static struct zygote zygote;
    struct err err;
    if (!prepare(&zygote, &err)) {
        (void)fprintf(stderr, "eider zygote: %s %s\n", err.message, err.detail);
        return 70;
    }
    if (OWN_MEMORY) { /* a fork is to have little to copy */
        pages_fill_gaps();
        (void)pages_enlarge_heap();
    }
    struct zygote_message ready = {.type = ZYGOTE_READY, .landlock_abi = sandbox_landlock_abi()};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    for (unsigned i = 0; i < SPARES_MAX; i++) {
        zygote.spares[i].turn_fd = -1;
    }
    zygote.wanted = 1;
    zygote.wanted_max = processors < 1            ? 1
                        : processors < SPARES_MAX ? (unsigned)processors
                                                  : SPARES_MAX;
    (void)snprintf(ready.note, sizeof(ready.note), "%s", duckdb_library_version());
    send_message(&ready, -1);
    for (;;) {
        struct pollfd polled[] = {
            {.fd = WORKER_ZYGOTE_FD, .events = POLLIN},
            {.fd = zygote.signal_fd, .events = POLLIN},
        };
        bool due = spare_is_due(&zygote);
        bool quiet = poll(polled, COUNT_OF(polled), due ? 0 : wait_ms(&zygote)) == 0;
        if (quiet && due) { /* jobs that are there already go first */
            fork_ahead(&zygote);
            continue;
        }
        if (!zygote.settled && (quiet || zygote.forks >= BUSY_FORKS)) {
            settle(&zygote);
        }
        if ((polled[1].revents & POLLIN) != 0) {
            struct signalfd_siginfo info;
            while (read(zygote.signal_fd, &info, sizeof(info)) > 0) {
            }
            reap(&zygote);
        }
        if (polled[0].revents != 0 && !serve_request(&zygote)) {
            _exit(0); /* the server is gone; its workers see that on their own sockets */
        }
    }
}
