#include "fd.h"
#include "mem.h"
#include "worker.h"
#include "worker_main.h"
#include "worker_pages.h"
#include "worker_sandbox.h"
#include "worker_unload.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lz4frame.h>
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
#include <zstd.h>

/* Sanitizers have memory and handlers of their own everywhere. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MEMORY 0
#else
#define OWN_MEMORY 1
#endif

/* When the zygote does what makes forks cheaper, but would keep the first one waiting: in a quiet
 * moment, a long one before there was any job, or after so many forks without one. */
enum {
    QUIET_AT_FIRST_MS = 1000,
    QUIET_MS = 20,
    BUSY_FORKS = 50
};

/* The worker of the next job, forked while there was time. It has not been told anything yet. */
struct spare {
    pid_t pid; /* 0: there is none */
    int turn_fd;
};

struct zygote {
    struct duck duck;
    struct spare spare;
    bool settled;
    unsigned forks; /* until then */
    int signal_fd;
    int null_fd;
};

const char *worker_header_version(void)
{
    return "v" EIDER_DUCKDB_VERSION;
}

int worker_open_library(struct err *err)
{
    Dl_info info;
    int fd = dladdr((void *)(uintptr_t)duckdb_library_version, &info) == 0
                 ? -1
                 : open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot open the DuckDB library");
    }
    return fd;
}

static void send_message(const struct zygote_message *message, int fd)
{
    if (fd_send_message(WORKER_ZYGOTE_FD, message, sizeof(*message), fd, 0) < 0) {
        _exit(0); /* the server is gone */
    }
}

/* Jobs of children that run; the zygote forgets them when they are reaped. */
enum {
    CHILDREN_MAX = 4096
};
static struct child {
    pid_t pid;
    uint64_t job;
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

static void reap(struct zygote *zygote)
{
    int status;
    struct rusage usage;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        if (pid == zygote->spare.pid) {
            zygote->spare.pid = 0;
            fd_close(&zygote->spare.turn_fd);
        }
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
        *child = (struct child){0};
        send_message(&message, -1);
    }
}

static _Noreturn void become_worker(struct zygote *zygote, int turn_fd)
{
    (void)close(WORKER_ZYGOTE_FD);
    (void)close(zygote->signal_fd);
    /* A client's statement must not be able to write to the server's output. */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        (void)dup2(zygote->null_fd, fd);
    }
    (void)close(zygote->null_fd);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over its limit is an error, not the end */
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    worker_wait(&zygote->duck, turn_fd);
}

/* Unless there is one. False: errno. */
static bool fork_spare(struct zygote *zygote)
{
    if (zygote->spare.pid > 0) {
        return true;
    }
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
    pid_t pid = OWN_MEMORY ? unload_fork() : fork();
    if (pid == 0) {
        (void)close(pair[0]); /* or it would not see that the zygote is gone */
        become_worker(zygote, pair[1]);
    }
    int problem = errno;
    (void)close(pair[1]);
    if (pid < 0) {
        (void)close(pair[0]);
        errno = problem;
        return false;
    }
    zygote->spare = (struct spare){.pid = pid, .turn_fd = pair[0]};
    return true;
}

/* Gives the spare worker the job's socket. Returns its pid, or -1 and errno. */
static pid_t use_spare(struct zygote *zygote, int socket_fd)
{
    while (fork_spare(zygote)) {
        pid_t pid = zygote->spare.pid;
        bool sent = fd_send_message(zygote->spare.turn_fd, "", 1, socket_fd, 0) == 1;
        fd_close(&zygote->spare.turn_fd);
        zygote->spare.pid = 0;
        if (sent) {
            return pid;
        } /* somebody has killed it */
    }
    return -1;
}

static void start_worker(struct zygote *zygote, uint64_t job, int socket_fd)
{
    struct zygote_message answer = {.type = ZYGOTE_FORKED, .job = job};
    struct child *child = find_child(0);
    pid_t pid = child == NULL ? -1 : use_spare(zygote, socket_fd);
    int pidfd = -1;
    if (pid < 0) {
        answer.status = child == NULL ? EAGAIN : errno;
    } else {
        *child = (struct child){.pid = pid, .job = job};
        answer.pid = pid;
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    }
    send_message(&answer, pidfd);
    fd_close(&pidfd);
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
        start_worker(zygote, request.job, socket_fd);
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

/* Workers call the engine, and for Arrow bodies two libraries more. */
static void unload_server(void)
{
    const void *const kept[] = {(const void *)(uintptr_t)duckdb_library_version,
                                (const void *)(uintptr_t)ZSTD_decompress,
                                (const void *)(uintptr_t)LZ4F_decompress};
    if (OWN_MEMORY) {
        (void)unload_others(kept, COUNT_OF(kept));
    }
}

static bool prepare(struct zygote *zygote, struct err *err)
{
    wipe_environment();
    offer_to_the_oom_killer();
    (void)prctl(PR_SET_NAME, "eider-zygote", 0, 0, 0);
    (void)signal(SIGHUP, SIG_IGN); /* has the server read its settings; workers inherit it */
    (void)setpgid(0, 0); /* a terminal's ^C goes to the server alone, which drains first */
    (void)close_range(WORKER_ZYGOTE_FD + 1, ~0U, 0);
    (void)mallopt(M_ARENA_MAX,
                  2); /* each arena reserves 64 MiB of address space, which RLIMIT_AS counts */
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    zygote->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    zygote->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (strcmp(duckdb_library_version(), worker_header_version()) != 0) {
        return err_set(err, ERR_UNAVAILABLE, "libduckdb is %s, the headers are %s",
                       duckdb_library_version(), worker_header_version());
    }
    return sandbox_drop_root(err) && sandbox_prepare(err) && duck_open(&zygote->duck, err) &&
           duck_warm(&zygote->duck, err);
}

static int settle_wait_ms(const struct zygote *zygote)
{
    return zygote->settled ? -1 : zygote->forks == 0 ? QUIET_AT_FIRST_MS : QUIET_MS;
}

static void settle(struct zygote *zygote)
{
    if (OWN_MEMORY) {
        (void)pages_enlarge_code((const void *)(uintptr_t)duckdb_library_version);
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
    unload_server();
    struct zygote_message ready = {.type = ZYGOTE_READY, .landlock_abi = sandbox_landlock_abi()};
    (void)snprintf(ready.note, sizeof(ready.note), "%s", duckdb_library_version());
    send_message(&ready, -1);
    for (;;) {
        (void)fork_spare(&zygote); /* when it fails now: the job's fork will tell */
        struct pollfd polled[] = {
            {.fd = WORKER_ZYGOTE_FD, .events = POLLIN},
            {.fd = zygote.signal_fd, .events = POLLIN},
        };
        bool quiet = poll(polled, COUNT_OF(polled), settle_wait_ms(&zygote)) == 0;
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
