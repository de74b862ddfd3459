#include "test.h"

#include "fd.h"
#include "thread.h"
#include "worker_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PROBES_MAX = 80,
    PAGE_SIZE_MOST = 65536,
    OUTPUT_BYTES = 4 << 20
};

static const struct worker_limits limits = {
    .memory_bytes = 64 << 20, .output_bytes = OUTPUT_BYTES, .cpu_seconds = 60, .threads = 2};

/* ---- one child in the sandbox ---- */

/* A child does `run` after it has entered and sends what that returned; then it waits for its
 * parent, who may look at it until then. */
struct child {
    pid_t pid;
    int to_parent[2];
    int to_child[2];
    int file; /* a file that the child has inherited, with the text "inherited" */
};

struct report {
    bool entered;
    int results[PROBES_MAX];
};

typedef void (*probe_function)(const struct child *child, struct report *report);

static void live_in_sandbox(const struct child *child, probe_function run)
{
    struct report report = {.entered = false};
    struct err err;
    char end;
    report.entered = sandbox_prepare(&err) && sandbox_enter(&limits, &err);
    if (report.entered) {
        run(child, &report);
    }
    if (write(child->to_parent[1], &report, sizeof(report)) == sizeof(report)) {
        (void)!read(child->to_child[0], &end, 1);
    }
    _exit(0);
}

static bool child_start(struct child *child, probe_function run, struct report *ret_report)
{
    struct err err;
    *ret_report = (struct report){.entered = false};
    child->file = memfd_create("inherited", MFD_CLOEXEC);
    if (child->file < 0 || !fd_write_all(child->file, STR("inherited"), &err) ||
        pipe2(child->to_parent, O_CLOEXEC) != 0 || pipe2(child->to_child, O_CLOEXEC) != 0) {
        return false;
    }
    (void)fflush(stdout);
    child->pid = fork();
    if (child->pid == 0) {
        fd_close(&child->to_parent[0]);
        fd_close(&child->to_child[1]);
        live_in_sandbox(child, run);
    }
    fd_close(&child->to_parent[1]);
    fd_close(&child->to_child[0]);
    return child->pid > 0 &&
           read(child->to_parent[0], ret_report, sizeof(*ret_report)) == sizeof(*ret_report);
}

/* The status of its end. */
static int child_end(struct child *child)
{
    int status = -1;
    fd_close(&child->to_parent[0]);
    fd_close(&child->to_child[1]);
    fd_close(&child->file);
    (void)waitpid(child->pid, &status, 0);
    return status;
}

/* ---- what is refused ---- */

struct call {
    const char *name;
    long number;
    long arguments[6];
};

static char page[PAGE_SIZE_MOST] __attribute__((aligned(PAGE_SIZE_MOST)));
static char space[4096];
static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/eider-none"};

#define AT(pointer) ((long)(pointer))
#define PROBE_PATH AT("/tmp/eider-sandbox-probe")

/* Each would do something, or fail with another errno than EACCES, where it is let through. The
 * calls without an `at` in their name do not exist on every machine. */
/* clang-format off */
static const struct call refused[] = {
#ifdef SYS_open
    { "open",               SYS_open,               { AT("/dev/null"), O_RDONLY } },
    { "creat",              SYS_creat,              { PROBE_PATH, 0600 } },
    { "stat",               SYS_stat,               { AT("/"), AT(space) } },
    { "readlink",           SYS_readlink,           { AT("/proc/self/exe"), AT(space), 64 } },
    { "unlink",             SYS_unlink,             { PROBE_PATH } },
    { "mkdir",              SYS_mkdir,              { PROBE_PATH, 0700 } },
    { "fork",               SYS_fork,               { 0 } },
    { "pipe",               SYS_pipe,               { AT(space) } },
    { "dup2",               SYS_dup2,               { 1, 20 } },
#endif
    { "openat",             SYS_openat,             { AT_FDCWD, AT("/proc/self/status"), O_RDONLY } },
    { "openat for writing", SYS_openat,             { AT_FDCWD, PROBE_PATH, O_WRONLY | O_CREAT, 0600 } },
#ifdef SYS_openat2
    { "openat2",            SYS_openat2,            { AT_FDCWD, AT("/dev/null"), AT(space), 24 } },
#endif
    { "newfstatat",         SYS_newfstatat,         { AT_FDCWD, AT("/"), AT(space), 0 } },
    { "statx",              SYS_statx,              { AT_FDCWD, AT("/"), 0, 1, AT(space) } },
    { "faccessat",          SYS_faccessat,          { AT_FDCWD, AT("/"), 0 } },
    { "unlinkat",           SYS_unlinkat,           { AT_FDCWD, PROBE_PATH, 0 } },
    { "linkat",             SYS_linkat,             { AT_FDCWD, PROBE_PATH, AT_FDCWD, PROBE_PATH, 0 } },
    { "getdents64",         SYS_getdents64,         { 0, AT(space), sizeof(space) } },
    { "chdir",              SYS_chdir,              { AT("/") } },
    { "memfd_create",       SYS_memfd_create,       { AT("x"), 0 } },
    { "dup",                SYS_dup,                { 1 } },
    { "fcntl",              SYS_fcntl,              { 1, F_DUPFD, 20 } },
    { "ioctl",              SYS_ioctl,              { 1, 0x5401, AT(space) } },
    { "socket inet",        SYS_socket,             { AF_INET, SOCK_STREAM, 0 } },
    { "socket unix",        SYS_socket,             { AF_UNIX, SOCK_STREAM, 0 } },
    { "socketpair",         SYS_socketpair,         { AF_UNIX, SOCK_STREAM, 0, AT(space) } },
    { "connect",            SYS_connect,            { 0, AT(&address), sizeof(address) } },
    { "bind",               SYS_bind,               { 0, AT(&address), sizeof(address) } },
    { "listen",             SYS_listen,             { 0, 1 } },
    { "sendto",             SYS_sendto,             { 0, AT(space), 1, 0, AT(&address), sizeof(address) } },
    { "execve",             SYS_execve,             { AT("/bin/true"), 0, 0 } },
    { "execveat",           SYS_execveat,           { AT_FDCWD, AT("/bin/true"), 0, 0, 0 } },
    { "clone of a process", SYS_clone,              { SIGCHLD, 0, 0, 0, 0 } },
    { "clone of a user",    SYS_clone,              { CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0 } },
    { "unshare",            SYS_unshare,            { CLONE_FS } },
    { "setns",              SYS_setns,              { 0, 0 } },
    { "kill the group",     SYS_kill,               { 0, 0 } },
    { "kill init",          SYS_kill,               { 1, 0 } },
    { "kill all",           SYS_kill,               { -1, 0 } },
    { "tkill",              SYS_tkill,              { 1, 0 } },
    { "tgkill another",     SYS_tgkill,             { 1, 1, 0 } },
    { "rt_sigqueueinfo",    SYS_rt_sigqueueinfo,    { 1, SIGUSR1, AT(space) } },
    { "pidfd_open",         SYS_pidfd_open,         { 1, 0 } },
    { "ptrace",             SYS_ptrace,             { 0 /* PTRACE_TRACEME */, 0, 0, 0 } },
    { "process_vm_readv",   SYS_process_vm_readv,   { 1, 0, 0, 0, 0, 0 } },
    { "prctl dumpable",     SYS_prctl,              { PR_SET_DUMPABLE, 1 } },
    { "prctl death signal", SYS_prctl,              { PR_SET_PDEATHSIG, 0 } },
    { "prctl seccomp",      SYS_prctl,              { PR_GET_SECCOMP } },
    { "seccomp",            SYS_seccomp,            { 0, 0, 0 } },
    { "mount",              SYS_mount,              { AT("none"), AT("/tmp"), AT("tmpfs"), 0, 0 } },
    { "umount2",            SYS_umount2,            { PROBE_PATH, 0 } },
    { "chroot",             SYS_chroot,             { AT("/") } },
    { "io_uring_setup",     SYS_io_uring_setup,     { 1, AT(space) } },
    { "bpf",                SYS_bpf,                { 0, AT(space), 128 } },
    { "perf_event_open",    SYS_perf_event_open,    { AT(space), 0, -1, -1, 0 } },
    { "userfaultfd",        SYS_userfaultfd,        { 0 } },
    { "setrlimit",          SYS_setrlimit,          { RLIMIT_CORE, AT(space) } },
    { "prlimit64 to set",   SYS_prlimit64,          { 0, RLIMIT_CORE, AT(space), 0 } },
    { "mmap executable",    SYS_mmap,               { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 } },
    { "mprotect executable", SYS_mprotect,          { AT(page), sizeof(page), PROT_READ | PROT_EXEC } },
    { "pkey_mprotect",      SYS_pkey_mprotect,      { AT(page), sizeof(page), PROT_EXEC, -1 } },
    { "shmget",             SYS_shmget,             { 0, 4096, 0600 } },
    { "setuid",             SYS_setuid,             { 0 } },
    { "setgroups",          SYS_setgroups,          { 0, 0 } },
    { "capset",             SYS_capset,             { AT(space), AT(space) } },
    { "personality",        SYS_personality,        { 0xffffffff } },
    { "keyctl",             SYS_keyctl,             { 0, 0, 0, 0, 0 } },
    { "setpriority",        SYS_setpriority,        { 0, 0, 19 } },
    { "sched_setaffinity",  SYS_sched_setaffinity,  { 0, sizeof(space), AT(space) } },
};
/* clang-format on */
static_assert(COUNT_OF(refused) <= PROBES_MAX, "the report has room for all");

static void try_refused(const struct child *child, struct report *report)
{
    (void)child;
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        const long *a = refused[i].arguments;
        errno = 0;
        long result = syscall(refused[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
        report->results[i] = result < 0 ? errno : 0;
    }
}

TEST(everything_else_is_refused)
{
    struct child child;
    struct report report;
    CHECK(child_start(&child, try_refused, &report));
    (void)child_end(&child);
    CHECK(report.entered);
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        if (report.results[i] != EACCES) {
            TEST_FAIL("%s: errno %d (0: it was let through)", refused[i].name, report.results[i]);
        }
    }
}

/* ---- what works ---- */

enum {
    WORKS_READ,
    WORKS_WRITE,
    WORKS_MEMORY,
    WORKS_THREAD,
    WORKS_CLOCK,
    WORKS_OWN_SIGNAL,
    WORKS_LIMIT_READ,
    WORKS_CLONE3_ABSENT,
    WORKS_COUNT
};

static void *rename_and_count(void *argument)
{
    void *memory = malloc(8 << 20);
    *(int *)argument = memory != NULL ? 1 : 0;
    free(memory);
    return NULL;
}

static void try_allowed(const struct child *child, struct report *report)
{
    char text[16] = {0};
    struct timespec now;
    struct rlimit limit;
    int counted = 0;
    int *results = report->results;
    results[WORKS_READ] = pread(child->file, text, 9, 0) == 9 && memcmp(text, "inherited", 9) == 0;
    results[WORKS_WRITE] = pwrite(child->file, "I", 1, 0) == 1 && ftruncate(child->file, 3) == 0;
    char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    results[WORKS_MEMORY] = memory != MAP_FAILED && mprotect(memory, 4096, PROT_READ) == 0 &&
                            munmap(memory, 1 << 20) == 0;
    pthread_t thread = thread_start("in-the-sandbox", rename_and_count, &counted);
    results[WORKS_THREAD] = pthread_join(thread, NULL) == 0 && counted == 1;
    results[WORKS_CLOCK] =
        clock_gettime(CLOCK_MONOTONIC, &now) == 0 && syscall(SYS_getrandom, text, 4, 0) == 4;
    results[WORKS_OWN_SIGNAL] = syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0;
    results[WORKS_LIMIT_READ] = syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) == 0 &&
                                limit.rlim_cur == limit.rlim_max;
    results[WORKS_CLONE3_ABSENT] = syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS;
}

TEST(what_the_engine_needs_works)
{
    struct child child;
    struct report report;
    CHECK(child_start(&child, try_allowed, &report));
    (void)child_end(&child);
    CHECK(report.entered);
    for (int i = 0; i < WORKS_COUNT; i++) {
        if (report.results[i] != 1) {
            TEST_FAIL("what should work does not: number %d", i);
        }
    }
}

/* A thread that is made in the sandbox is in it. */
static void *open_in_thread(void *argument)
{
    int *result = argument;
    *result = syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY) < 0 ? errno : 0;
    return NULL;
}

static void try_in_thread(const struct child *child, struct report *report)
{
    (void)child;
    (void)pthread_join(thread_start("inside", open_in_thread, &report->results[0]), NULL);
}

TEST(threads_are_inside_too)
{
    struct child child;
    struct report report;
    CHECK(child_start(&child, try_in_thread, &report));
    (void)child_end(&child);
    CHECK(report.entered);
    CHECK_I64(report.results[0], EACCES);
}

/* ---- seen from outside ---- */

static void do_nothing(const struct child *child, struct report *report)
{
    (void)child;
    (void)report;
}

static bool proc_file_has(pid_t pid, const char *file, const char *line)
{
    char path[64];
    char text[8192];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[size < 0 ? 0 : size] = '\0';
    return strstr(text, line) != NULL;
}

TEST(the_kernel_confirms_it)
{
    struct child child;
    struct report report;
    struct rlimit core = {1, 1};
    struct rlimit size = {1, 1};
    struct rlimit cpu = {1, 1};
    CHECK(child_start(&child, do_nothing, &report));
    bool filtered = proc_file_has(child.pid, "status", "\nSeccomp:\t2\n");
    bool no_new_privs = proc_file_has(child.pid, "status", "\nNoNewPrivs:\t1\n");
    bool limits_read = prlimit(child.pid, RLIMIT_CORE, NULL, &core) == 0 &&
                       prlimit(child.pid, RLIMIT_FSIZE, NULL, &size) == 0 &&
                       prlimit(child.pid, RLIMIT_CPU, NULL, &cpu) == 0;
    int status = child_end(&child);
    CHECK(report.entered);
    CHECK(filtered);
    CHECK(no_new_privs);
    /* An unprivileged parent may not look at a child that is not dumpable. */
    if (limits_read) {
        CHECK_U64(core.rlim_max, 0);
        CHECK_U64(size.rlim_max, OUTPUT_BYTES);
        CHECK_U64(cpu.rlim_cur, 60);
        CHECK_U64(cpu.rlim_max, 61); /* SIGXCPU, then SIGKILL */
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The output limit is a signal that ends the worker, or an error where that is ignored. */
static void write_too_much(const struct child *child, struct report *report)
{
    report->results[0] = pwrite(child->file, "x", 1, OUTPUT_BYTES - 1) == 1;
    report->results[1] = pwrite(child->file, "x", 1, OUTPUT_BYTES) == 1;
}

TEST(output_beyond_its_limit_ends_the_worker)
{
    struct child child;
    struct report report;
    CHECK(!child_start(&child, write_too_much, &report));
    int status = child_end(&child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
}

/* The filter ends the thread that makes such a call; the thread sanitizer keeps one of its own. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define WITH_32_BIT_CALLS 1
#else
#define WITH_32_BIT_CALLS 0
#endif

#if WITH_32_BIT_CALLS
/* The calls of 32-bit programs have other numbers; the filter must not take one for another. */
static void call_as_32_bit(const struct child *child, struct report *report)
{
    (void)child;
    long result = 20; /* getpid there, writev here, which is allowed */
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    report->results[0] = (int)result;
}

TEST(calls_of_another_architecture_end_the_worker)
{
    struct child child;
    struct report report;
    CHECK(!child_start(&child, call_as_32_bit, &report));
    CHECK(WIFSIGNALED(child_end(&child)));
}
#endif

/* ---- a worker that is shut before it is limited ---- */

/* What it says in the end: y, all is well; b, it was limited before; n, it is not limited. */
static _Noreturn void wait_for_limits(int socket_fd)
{
    struct err err;
    char byte = 'r';
    if (!sandbox_prepare(&err) || !sandbox_shut(&err)) {
        _exit(1);
    }
    bool before = sandbox_is_limited(&limits);
    (void)!write(socket_fd, &byte, 1);
    (void)!read(socket_fd, &byte, 1);
    byte = before ? 'b' : sandbox_is_limited(&limits) ? 'y' : 'n';
    (void)!write(socket_fd, &byte, 1);
    _exit(0);
}

TEST(limits_are_set_from_outside_after_the_door_is_shut)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(pair[0]);
        wait_for_limits(pair[1]);
    }
    (void)close(pair[1]);
    struct err err;
    char byte = 0;
    CHECK(read(pair[0], &byte, 1) == 1 && byte == 'r');
    CHECK_OK(sandbox_limit(pid, &limits, &err), err);
    CHECK(write(pair[0], &byte, 1) == 1);
    CHECK(read(pair[0], &byte, 1) == 1);
    CHECK(byte == 'y');
    (void)close(pair[0]);
    CHECK(waitpid(pid, NULL, 0) == pid);
}

static const struct test_case cases[] = {
    TEST_CASE(limits_are_set_from_outside_after_the_door_is_shut),
    TEST_CASE(everything_else_is_refused),
    TEST_CASE(what_the_engine_needs_works),
    TEST_CASE(threads_are_inside_too),
    TEST_CASE(the_kernel_confirms_it),
    TEST_CASE(output_beyond_its_limit_ends_the_worker),
#if WITH_32_BIT_CALLS
    TEST_CASE(calls_of_another_architecture_end_the_worker),
#endif
};

TEST_MAIN(cases)
