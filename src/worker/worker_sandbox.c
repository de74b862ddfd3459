#include "worker_sandbox.h"

#include "fd.h"

#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The rights of newer kernels, which Debian 12's header does not name yet. */
#define FS_TRUNCATE (UINT64_C(1) << 14)
#define FS_IOCTL_DEV (UINT64_C(1) << 15)
#define NET_BIND_TCP (UINT64_C(1) << 0)
#define NET_CONNECT_TCP (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0)
#define SCOPE_SIGNAL (UINT64_C(1) << 1)
#define CREATE_RULESET_VERSION (1U << 0)

/* struct landlock_ruleset_attr of ABI 6; older kernels are given the part they know. */
struct ruleset_attributes {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

enum {
    UNPRIVILEGED_ID = 65534,
    DESCRIPTORS_MAX = 1024,
    FILTER_SIZE_MAX = 512,
    /* Stands in a filter for the process that will enter it: no process has this number. */
    ANY_PROCESS = 0x5eedface
};

struct filter {
    struct sock_filter code[FILTER_SIZE_MAX];
    unsigned short size;
    unsigned short process_at; /* the comparison with ANY_PROCESS */
};

unsigned sandbox_landlock_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    return abi < 0 ? 0 : (unsigned)abi;
}

/* An empty set of rules: every right the kernel knows of is handled, none is granted. */
static bool enter_landlock(struct err *err)
{
    unsigned abi = sandbox_landlock_abi();
    if (abi == 0) {
        return true; /* the server has warned; seccomp still denies every open */
    }
    struct ruleset_attributes attributes = {.handled_access_fs = (UINT64_C(1) << 13) - 1};
    attributes.handled_access_fs |= abi >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0;
    attributes.handled_access_fs |= abi >= 3 ? FS_TRUNCATE : 0;
    attributes.handled_access_fs |= abi >= 5 ? FS_IOCTL_DEV : 0;
    attributes.handled_access_net = abi >= 4 ? NET_BIND_TCP | NET_CONNECT_TCP : 0;
    attributes.scoped = abi >= 6 ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0;
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    long ruleset = syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "Landlock refused its rules");
    }
    long restricted = syscall(SYS_landlock_restrict_self, (int)ruleset, 0);
    int problem = errno;
    (void)close((int)ruleset);
    return restricted == 0 ||
           err_set_errno(err, ERR_UNAVAILABLE, problem, "Landlock refused to restrict the worker");
}

/* clang-format off */
static const int allowed_calls[] = {
    /* bytes on descriptors it was given */
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(readv), SCMP_SYS(writev),
    SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(ftruncate),
    SCMP_SYS(close), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(fdatasync),
    /* memory */
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
    /* threads and their life */
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(set_tid_address),
    SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(exit),
    SCMP_SYS(exit_group), SCMP_SYS(restart_syscall), SCMP_SYS(membarrier),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    /* time and randomness */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday), SCMP_SYS(getrandom), SCMP_SYS(getrusage), SCMP_SYS(sysinfo),
};
/* clang-format on */

/* Calls that are allowed for some arguments only. */
static int add_conditional_rules(scmp_filter_ctx filter)
{
    const uint64_t thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    const uint64_t executable = 0x4; /* PROT_EXEC */
    int result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, thread_flags, thread_flags));
    /* clone3 hides its flags in memory: say it does not exist, and libc falls back to clone. */
    result |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                               SCMP_A0(SCMP_CMP_EQ, ANY_PROCESS));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, executable, 0));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, executable, 0));
    /* Plain messages only: out-of-band data on Unix sockets has been a way out of sandboxes. */
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendmsg), 1,
                               SCMP_A2(SCMP_CMP_EQ, MSG_NOSIGNAL));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(recvmsg), 1,
                               SCMP_A2(SCMP_CMP_EQ, MSG_CMSG_CLOEXEC));
    /* Reading a limit is harmless, setting one is not: the new-limit pointer must be NULL. */
    result |=
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0));
    result |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                               SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    return result;
}

static int add_rules(scmp_filter_ctx context)
{
    /* Calls by another architecture's numbers end the whole process, not one thread of it. */
    int result = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* A tree of comparisons instead of a list: the kernel walks it once for each call there is when
     * it takes the filter. */
    result = result != 0 ? result : seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < COUNT_OF(allowed_calls) && result == 0; i++) {
        result = seccomp_rule_add(context, SCMP_ACT_ALLOW, allowed_calls[i], 0);
    }
    return result != 0 ? result : add_conditional_rules(context);
}

/* The program has one place for the process, or something is wrong with it. */
static bool find_process(struct filter *filter)
{
    unsigned found = 0;
    for (unsigned short i = 0; i < filter->size; i++) {
        if (filter->code[i].k == ANY_PROCESS) {
            filter->process_at = i;
            found++;
        }
    }
    return found == 1;
}

/* The library gives its program to descriptors only. */
static bool read_program(scmp_filter_ctx context, struct filter *filter)
{
    CLEANUP(fd_close) int fd = memfd_create("filter", MFD_CLOEXEC);
    int result = fd < 0 ? -1 : seccomp_export_bpf(context, fd);
    ssize_t size = result == 0 ? pread(fd, filter->code, sizeof(filter->code), 0) : -1;
    bool whole = size > 0 && (size_t)size < sizeof(filter->code) &&
                 (size_t)size % sizeof(filter->code[0]) == 0;
    filter->size = whole ? (unsigned short)((size_t)size / sizeof(filter->code[0])) : 0;
    return whole && find_process(filter);
}

/* Built once by the zygote and inherited: building costs more than entering. */
static struct filter prepared;

bool sandbox_prepare(struct err *err)
{
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EACCES));
    if (context == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "no memory for the seccomp filter");
    }
    int result = add_rules(context);
    bool good = result == 0 && read_program(context, &prepared);
    seccomp_release(context);
    return good ||
           err_set_errno(err, ERR_UNAVAILABLE, -result, "seccomp makes no filter for the worker");
}

static bool enter_seccomp(struct err *err)
{
    assert(prepared.size > 0);
    assert(prepared.code[prepared.process_at].k == ANY_PROCESS);
    prepared.code[prepared.process_at].k = (uint32_t)getpid();
    struct sock_fprog program = {.len = prepared.size, .filter = prepared.code};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) {
        return true;
    }
    prepared.code[prepared.process_at].k = ANY_PROCESS; /* it is tried again with the job */
    return err_set_errno(err, ERR_UNAVAILABLE, errno, "seccomp refused the worker's filter");
}

/* As it was when it was asked for first: the zygote's hardly changes, and to ask takes as long as a
 * tenth of a fork. */
static uint64_t own_address_space(void)
{
    static uint64_t bytes;
    unsigned long pages = 0;
    if (bytes > 0) {
        return bytes;
    }
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%lu", &pages) != 1) {
            pages = 0;
        }
        (void)fclose(file);
    }
    bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return bytes;
}

/* Of the process `pid`; 0 is the caller. */
static bool set_limit(pid_t pid, __rlimit_resource_t resource, uint64_t value, struct err *err)
{
    struct rlimit limit;
    if (prlimit(pid, resource, NULL, &limit) == 0 && limit.rlim_max < value) {
        value = limit.rlim_max; /* stricter already */
    }
    limit = (struct rlimit){.rlim_cur = value, .rlim_max = value};
    return prlimit(pid, resource, &limit, NULL) == 0 ||
           err_set_errno(err, ERR_UNAVAILABLE, errno, "a limit of the worker could not be set");
}

/* SIGXCPU first, which says what happened; SIGKILL a second later. */
static bool set_cpu_limit(pid_t pid, uint64_t seconds, struct err *err)
{
    struct rlimit limit = {.rlim_cur = seconds, .rlim_max = seconds + 1};
    return prlimit(pid, RLIMIT_CPU, &limit, NULL) == 0 || set_limit(pid, RLIMIT_CPU, seconds, err);
}

/* Added to what it has from its parents. Where the system does not allow that, it is not nice. */
static void make_nice(pid_t pid, uint64_t niceness)
{
    assert(niceness < 20);
    int before = getpriority(PRIO_PROCESS, (id_t)pid);
    (void)setpriority(PRIO_PROCESS, (id_t)pid, before + (int)niceness);
}

bool sandbox_limit(pid_t pid, const struct worker_limits *limits, struct err *err)
{
    bool good = set_limit(pid, RLIMIT_FSIZE, limits->output_bytes, err) &&
                (limits->cpu_seconds == 0 || set_cpu_limit(pid, limits->cpu_seconds, err));
    if (good && limits->address_space_bytes > 0) {
        good = set_limit(pid, RLIMIT_AS, own_address_space() + limits->address_space_bytes, err);
    }
    if (good && limits->niceness > 0) {
        make_nice(pid, limits->niceness);
    }
    return good;
}

static bool is_limited(__rlimit_resource_t resource, uint64_t most)
{
    struct rlimit limit;
    return getrlimit(resource, &limit) == 0 && limit.rlim_cur <= most && limit.rlim_max <= most;
}

bool sandbox_is_limited(const struct worker_limits *limits)
{
    return is_limited(RLIMIT_FSIZE, limits->output_bytes) &&
           (limits->cpu_seconds == 0 || is_limited(RLIMIT_CPU, limits->cpu_seconds + 1)) &&
           (limits->address_space_bytes == 0 || is_limited(RLIMIT_AS, RLIM_INFINITY - 1));
}

bool sandbox_shut(struct err *err)
{
    if (!set_limit(0, RLIMIT_CORE, 0, err) || !set_limit(0, RLIMIT_NOFILE, DESCRIPTORS_MAX, err)) {
        return false;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the kernel refused no_new_privs");
    }
    return enter_landlock(err) && enter_seccomp(err);
}

bool sandbox_enter(const struct worker_limits *limits, struct err *err)
{
    return sandbox_limit(0, limits, err) && sandbox_shut(err);
}

bool sandbox_drop_root(struct err *err)
{
    if (geteuid() != 0) {
        return true;
    }
    if (setgroups(0, NULL) != 0 ||
        setresgid(UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID) != 0 ||
        setresuid(UNPRIVILEGED_ID, UNPRIVILEGED_ID, UNPRIVILEGED_ID) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot become an unprivileged user");
    }
    return true;
}
