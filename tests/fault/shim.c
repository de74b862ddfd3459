/* shim.c - stands between the server and the disk, by LD_PRELOAD, and makes it fail, stop or tell.
 *
 * It sees the calls that durability depends on, of these only the ones on files below a folder, and
 * only in the process that was started with it: workers get an environment of their own. Calls are
 * counted from 1. The environment says what is to happen:
 *
 *   FAULT_ROOT   the folder (an absolute path without links). Without it nothing happens.
 *   FAULT_ONLY   names of calls, separated by commas: the others are not counted. Names: create
 *                write fsync fdatasync rename unlink mkdir rmdir truncate fallocate link
 *   FAULT_PATH   a part of the path: calls on other files are not counted
 *   FAULT_ARM    a file: only while it is there, calls are counted
 *   FAULT_COUNT  a file of 8 bytes, which holds the number of calls so far
 *   FAULT_KILL   K:before, K:after or K:half: SIGKILL to the process at call K; half: after half of
 *                the bytes (of what writes none, as before)
 *   FAULT_FAIL   K:ERRNO, K:ERRNO:on (all from K on) or K:short (one byte is written). ERRNO is a
 *                name. A sync that fails has synced nothing.
 *   FAULT_GATE   a file: while it is there, fsync and fdatasync of counted files wait
 *   FAULT_TRACE  a file that gets every call with its bytes, and the beginning of what is sent to
 *                sockets; struct trace_record is its format (tests/contract/harness/fault_trace.py)
 *   FAULT_CLOCK  a file of 8 bytes: seconds that the wall clock is wrong by
 */
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind {
    CREATE = 1,
    WRITE,
    FSYNC,
    FDATASYNC,
    RENAME,
    UNLINK,
    MKDIR,
    RMDIR,
    TRUNCATE,
    FALLOCATE,
    LINK,
    REPLY, /* bytes to a socket: told, not counted */
    KINDS
};

static const char *const kind_names[KINDS] = {
    [CREATE] = "create",       [WRITE] = "write",   [FSYNC] = "fsync",
    [FDATASYNC] = "fdatasync", [RENAME] = "rename", [UNLINK] = "unlink",
    [MKDIR] = "mkdir",         [RMDIR] = "rmdir",   [TRUNCATE] = "truncate",
    [FALLOCATE] = "fallocate", [LINK] = "link",     [REPLY] = "reply",
};

/* One call in the trace; the two paths (without a NUL) and the bytes follow. Little endian. */
struct trace_record {
    uint32_t kind;
    int32_t error; /* errno, or 0 */
    uint64_t inode;
    uint64_t offset;
    uint64_t size;  /* of what was written, truncated to, allocated; of FALLOCATE the end */
    uint32_t flags; /* of FALLOCATE: its mode */
    uint32_t path_size;
    uint32_t other_size; /* RENAME, LINK: the new path */
    uint32_t bytes_size;
};
static_assert(sizeof(struct trace_record) == 48, "the reader counts on it");

enum act {
    GO,
    FAIL,
    SHORT,
    KILL_BEFORE,
    KILL_HALF,
    KILL_AFTER
};

struct call {
    enum kind kind;
    enum act act;
    bool counted;
    int error;
    char path[PATH_MAX];
    char other[PATH_MAX];
};

static struct {
    pid_t pid; /* 0: not in use */
    char root[PATH_MAX];
    size_t root_size;
    const char *only;
    const char *path;
    const char *gate;
    const char *arm;
    uint64_t kill_at;
    enum act kill_act;
    uint64_t fail_at;
    bool fail_on;
    enum act fail_act;
    int fail_error;
    int trace_fd;
    _Atomic uint64_t *count;
    _Atomic uint64_t own_count;
    const _Atomic int64_t *clock_s;
} shim = {.trace_fd = -1};

static pthread_mutex_t trace_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

/* The function that would have been called without us. */
#define REAL(name_)                                          \
    static __typeof__(&name_) real;                          \
    if (real == NULL) {                                      \
        real = (__typeof__(&name_))dlsym(RTLD_NEXT, #name_); \
    }

/* ---- start ---- */

static const struct {
    const char *name;
    int value;
} errors[] = {{"EIO", EIO},     {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT},
              {"EROFS", EROFS}, {"EINTR", EINTR},   {"EMFILE", EMFILE}};

static void *map_number(const char *path)
{
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 8) != 0) {
        return NULL;
    }
    void *page = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    return page == MAP_FAILED ? NULL : page;
}

static void read_kill(const char *text)
{
    if (text != NULL) {
        const char *colon = strchr(text, ':');
        shim.kill_at = strtoull(text, NULL, 10);
        assert(colon != NULL && shim.kill_at > 0);
        shim.kill_act = colon[1] == 'b' ? KILL_BEFORE : colon[1] == 'h' ? KILL_HALF : KILL_AFTER;
    }
}

static void read_fail(const char *text)
{
    if (text == NULL) {
        return;
    }
    char *word;
    shim.fail_at = strtoull(text, &word, 10);
    assert(shim.fail_at > 0 && *word == ':');
    word++;
    size_t size = strcspn(word, ":");
    shim.fail_on = strcmp(word + size, ":on") == 0;
    shim.fail_act = strcmp(word, "short") == 0 ? SHORT : FAIL;
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        if (strlen(errors[i].name) == size && memcmp(errors[i].name, word, size) == 0) {
            shim.fail_error = errors[i].value;
        }
    }
    assert(shim.fail_act == SHORT || shim.fail_error != 0);
}

__attribute__((constructor)) static void shim_start(void)
{
    const char *root = getenv("FAULT_ROOT");
    const char *trace = getenv("FAULT_TRACE");
    shim.clock_s = map_number(getenv("FAULT_CLOCK"));
    if (root == NULL || strlen(root) >= sizeof(shim.root)) {
        return;
    }
    shim.count = map_number(getenv("FAULT_COUNT"));
    shim.count = shim.count == NULL ? &shim.own_count : shim.count;
    memcpy(shim.root, root, strlen(root) + 1);
    shim.root_size = strlen(root);
    shim.only = getenv("FAULT_ONLY");
    shim.path = getenv("FAULT_PATH");
    shim.gate = getenv("FAULT_GATE");
    shim.arm = getenv("FAULT_ARM");
    read_kill(getenv("FAULT_KILL"));
    read_fail(getenv("FAULT_FAIL"));
    if (trace != NULL) {
        shim.trace_fd = open(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    shim.pid = getpid();
}

/* ---- which calls ---- */

static bool path_counts(const char *path)
{
    size_t size = strlen(path);
    return strncmp(path, shim.root, shim.root_size) == 0 &&
           (path[shim.root_size] == '/' || path[shim.root_size] == '\0') &&
           (shim.path == NULL || strstr(path, shim.path) != NULL) &&
           !(size > 10 && strcmp(path + size - 10, " (deleted)") == 0);
}

static bool path_of_fd(int fd, char *into)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, into, PATH_MAX - 1);
    into[size < 0 ? 0 : size] = '\0';
    return size > 0;
}

static bool path_at(int fd, const char *path, char *into)
{
    char folder[PATH_MAX];
    if (path[0] == '/') {
        return (size_t)snprintf(into, PATH_MAX, "%s", path) < PATH_MAX;
    }
    if (fd == AT_FDCWD ? getcwd(folder, sizeof(folder)) == NULL : !path_of_fd(fd, folder)) {
        return false;
    }
    return (size_t)snprintf(into, PATH_MAX, "%s/%s", folder, path) < PATH_MAX;
}

static bool name_counts(enum kind kind)
{
    size_t size = strlen(kind_names[kind]);
    for (const char *at = shim.only; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, kind_names[kind], size) == 0 && (at[size] == ',' || at[size] == '\0')) {
            return true;
        }
    }
    return shim.only == NULL;
}

static bool in_use(void)
{
    return shim.pid != 0 && getpid() == shim.pid;
}

static _Noreturn void die(void)
{
    (void)kill(getpid(), SIGKILL);
    for (;;) {
        (void)pause();
    }
}

/* ---- before and after a call ---- */

static void wait_for_gate(const struct call *call)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    while (shim.gate != NULL && (call->kind == FSYNC || call->kind == FDATASYNC) &&
           access(shim.gate, F_OK) == 0) {
        (void)nanosleep(&pause, NULL);
    }
}

static void choose_act(struct call *call)
{
    uint64_t number = atomic_fetch_add(shim.count, 1) + 1;
    if (number == shim.kill_at) {
        call->act = shim.kill_act;
    } else if (shim.fail_at != 0 &&
               (shim.fail_on ? number >= shim.fail_at : number == shim.fail_at)) {
        call->act = shim.fail_act;
    }
    if (call->act == KILL_BEFORE || (call->act == KILL_HALF && call->kind != WRITE)) {
        die();
    }
    call->act = call->act == SHORT && call->kind != WRITE ? GO : call->act;
}

/* False: errno is set, and the call must not happen. */
static bool begin(struct call *call)
{
    if (!call->counted) {
        return true;
    }
    wait_for_gate(call);
    if (shim.trace_fd >= 0) {
        (void)pthread_mutex_lock(&trace_lock);
    }
    if (name_counts(call->kind) && (shim.arm == NULL || access(shim.arm, F_OK) == 0)) {
        choose_act(call);
    }
    errno = call->act == FAIL ? shim.fail_error : 0;
    return call->act != FAIL;
}

/* What there is to tell of a call that went well. */
struct told {
    uint64_t inode;
    uint64_t offset;
    uint64_t size;
    uint32_t flags;
    const struct iovec *bytes;
    int bytes_count;
};

static char *append(char *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

/* One write, so that a process that is killed leaves whole records. */
static void tell(const struct call *call, int error, const struct told *told)
{
    struct trace_record record = {.kind = call->kind, .error = error, .inode = told->inode};
    record.offset = told->offset;
    record.size = told->size;
    record.flags = told->flags;
    record.path_size = (uint32_t)strlen(call->path);
    record.other_size = (uint32_t)strlen(call->other);
    record.bytes_size = told->bytes_count > 0 ? (uint32_t)told->size : 0;
    size_t size = sizeof(record) + record.path_size + record.other_size + record.bytes_size;
    char *text = malloc(size);
    assert(text != NULL);
    char *at = append(text, &record, sizeof(record));
    at = append(at, call->path, record.path_size);
    at = append(at, call->other, record.other_size);
    size_t left = record.bytes_size;
    for (int i = 0; i < told->bytes_count && left > 0; i++) {
        size_t part = told->bytes[i].iov_len < left ? told->bytes[i].iov_len : left;
        at = append(at, told->bytes[i].iov_base, part);
        left -= part;
    }
    REAL(write)
    ssize_t written = real(shim.trace_fd, text, size);
    assert(written == (ssize_t)size);
    (void)written;
    free(text);
}

/* errno stays as it is. */
static void end(const struct call *call, bool good, const struct told *told)
{
    if (!call->counted) {
        return;
    }
    int error = errno;
    if (shim.trace_fd >= 0) {
        const struct told nothing = {.inode = told->inode};
        tell(call, good ? 0 : error, good ? told : &nothing);
        (void)pthread_mutex_unlock(&trace_lock);
    }
    if (call->act == KILL_AFTER) {
        die();
    }
    errno = error;
}

static uint64_t inode_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

static struct call on_fd(enum kind kind, int fd)
{
    struct call call;
    call.kind = kind;
    call.act = GO;
    call.error = 0;
    call.other[0] = '\0';
    int error = errno;
    call.counted = in_use() && path_of_fd(fd, call.path) && path_counts(call.path);
    errno = error;
    return call;
}

static struct call on_path(enum kind kind, int fd, const char *path)
{
    struct call call;
    call.kind = kind;
    call.act = GO;
    call.error = 0;
    call.other[0] = '\0';
    int error = errno;
    call.counted = in_use() && path_at(fd, path, call.path) && path_counts(call.path);
    errno = error;
    return call;
}

#include "shim_calls.h"
