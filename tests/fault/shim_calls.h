/* shim_calls.h - the calls that shim.c stands in for; part of it. */
#pragma once

/* ---- bytes ---- */

static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset, bool at)
{
    __typeof__(&writev) real_writev = (__typeof__(&writev))dlsym(RTLD_NEXT, "writev");
    __typeof__(&pwritev) real_pwritev = (__typeof__(&pwritev))dlsym(RTLD_NEXT, "pwritev");
    return at ? real_pwritev(fd, parts, count, offset) : real_writev(fd, parts, count);
}

/* The first `size` bytes of the parts. */
static int cut_parts(const struct iovec *parts, int count, size_t size, struct iovec *into)
{
    int used = 0;
    for (; used < count && size > 0; used++) {
        into[used] = parts[used];
        into[used].iov_len = parts[used].iov_len < size ? parts[used].iov_len : size;
        size -= into[used].iov_len;
    }
    return used;
}

static uint64_t position_of(int fd)
{
    struct stat status;
    if ((fcntl(fd, F_GETFL) & O_APPEND) != 0 && fstat(fd, &status) == 0) {
        return (uint64_t)status.st_size;
    }
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : (uint64_t)at;
}

static ssize_t write_counted(int fd, const struct iovec *parts, int count, off_t offset, bool at)
{
    struct call call = on_fd(WRITE, fd);
    if (!call.counted) {
        return write_parts(fd, parts, count, offset, at);
    }
    uint64_t from = at ? (uint64_t)offset : position_of(fd);
    struct told told = {.inode = inode_of(fd), .offset = from, .bytes = parts};
    ssize_t got = -1;
    if (begin(&call)) {
        struct iovec cut[1024];
        size_t total = 0;
        for (int i = 0; i < count; i++) {
            total += parts[i].iov_len;
        }
        assert(count <= 1024);
        if (call.act == SHORT || call.act == KILL_HALF) {
            count = cut_parts(parts, count, call.act == SHORT ? 1 : total / 2, cut);
            parts = cut;
        }
        got = write_parts(fd, parts, count, offset, at);
        if (call.act == KILL_HALF) {
            die();
        }
    }
    told.size = got < 0 ? 0 : (uint64_t)got;
    told.bytes_count = count;
    end(&call, got >= 0, &told);
    return got;
}

/* The beginning of what goes to a socket: when an answer left. */
static void tell_reply(int fd, const struct iovec *parts, int count, ssize_t sent)
{
    char path[PATH_MAX];
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    if (sent <= 0 || shim.trace_fd < 0 || !in_use() || !path_of_fd(fd, path) ||
        strncmp(path, "socket:", 7) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6)) {
        return;
    }
    struct call call = {.kind = REPLY};
    struct iovec cut[64];
    (void)snprintf(call.path, sizeof(call.path), "%s", path);
    count = cut_parts(parts, count < 60 ? count : 60, (size_t)sent, cut);
    struct told told = {.inode = (uint64_t)fd, .bytes = cut, .bytes_count = count};
    for (int i = 0; i < count; i++) {
        told.size += cut[i].iov_len;
    }
    tell(&call, 0, &told);
}

/* Told before its first byte leaves, so that nothing that comes later stands before it. */
static void reply_begins(int fd, const struct iovec *parts, int count)
{
    int error = errno;
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    if (shim.trace_fd >= 0 && size > 0) {
        (void)pthread_mutex_lock(&trace_lock);
        tell_reply(fd, parts, count, (ssize_t)(size < 600 ? size : 600));
        (void)pthread_mutex_unlock(&trace_lock);
    }
    errno = error;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    if (!in_use()) {
        REAL(write)
        return real(fd, bytes, size);
    }
    reply_begins(fd, &part, 1);
    return write_counted(fd, &part, 1, 0, false);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (in_use()) {
        reply_begins(fd, parts, count);
        return write_counted(fd, parts, count, 0, false);
    }
    return write_parts(fd, parts, count, 0, false);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    return write_counted(fd, &part, 1, offset, true);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_counted(fd, parts, count, offset, true);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    (void)flags;
    return write_counted(fd, parts, count, offset, offset != -1);
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    REAL(send)
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    reply_begins(fd, &part, 1);
    return real(fd, bytes, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg)
    reply_begins(fd, message->msg_iov, (int)message->msg_iovlen);
    return real(fd, message, flags);
}

/* ---- the same with 64 in the name, for programs that ask for large files ---- */

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    return pwrite(fd, bytes, size, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return pwritev(fd, parts, count, offset);
}

/* ---- syncs ---- */

int fsync(int fd)
{
    REAL(fsync)
    struct call call = on_fd(FSYNC, fd);
    int result = begin(&call) ? real(fd) : -1;
    end(&call, result == 0, &(struct told){.inode = call.counted ? inode_of(fd) : 0});
    return result;
}

int fdatasync(int fd)
{
    REAL(fdatasync)
    struct call call = on_fd(FDATASYNC, fd);
    int result = begin(&call) ? real(fd) : -1;
    end(&call, result == 0, &(struct told){.inode = call.counted ? inode_of(fd) : 0});
    return result;
}

/* ---- names ---- */

static int create_at(int folder, const char *path, int flags, mode_t mode)
{
    REAL(openat)
    bool temporary = (flags & O_TMPFILE) == O_TMPFILE;
    struct call call = {0};
    if ((flags & O_CREAT) != 0 && !temporary && in_use()) {
        call = on_path(CREATE, folder, path);
        call.counted = call.counted && faccessat(folder, path, F_OK, 0) != 0;
    }
    int fd = begin(&call) ? real(folder, path, flags, mode) : -1;
    end(&call, fd >= 0, &(struct told){.inode = fd < 0 ? 0 : inode_of(fd)});
    if (fd >= 0 && (flags & O_TRUNC) != 0 && !temporary && !call.counted) {
        struct call cut = on_fd(TRUNCATE, fd);
        (void)begin(&cut);
        end(&cut, true, &(struct told){.inode = cut.counted ? inode_of(fd) : 0});
    }
    return fd;
}

#define MODE_OF(flags_)                            \
    mode_t mode = 0;                               \
    if (((flags_) & (O_CREAT | O_TMPFILE)) != 0) { \
        va_list more;                              \
        va_start(more, flags_);                    \
        mode = va_arg(more, mode_t);               \
        va_end(more);                              \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return create_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return create_at(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    MODE_OF(flags)
    return create_at(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    MODE_OF(flags)
    return create_at(folder, path, flags, mode);
}

int renameat2(int folder, const char *path, int into, const char *name, unsigned flags)
{
    REAL(renameat2)
    struct call call = on_path(RENAME, folder, path);
    call.counted = call.counted && path_at(into, name, call.other);
    int result = begin(&call) ? real(folder, path, into, name, flags) : -1;
    end(&call, result == 0, &(struct told){0});
    return result;
}

int renameat(int folder, const char *path, int into, const char *name)
{
    return renameat2(folder, path, into, name, 0);
}

int rename(const char *path, const char *name)
{
    return renameat2(AT_FDCWD, path, AT_FDCWD, name, 0);
}

int linkat(int folder, const char *path, int into, const char *name, int flags)
{
    REAL(linkat)
    struct call call = on_path(LINK, folder, path);
    call.counted = call.counted && path_at(into, name, call.other);
    int result = begin(&call) ? real(folder, path, into, name, flags) : -1;
    end(&call, result == 0, &(struct told){0});
    return result;
}

int link(const char *path, const char *name)
{
    return linkat(AT_FDCWD, path, AT_FDCWD, name, 0);
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat)
    struct call call = on_path((flags & AT_REMOVEDIR) != 0 ? RMDIR : UNLINK, folder, path);
    int result = begin(&call) ? real(folder, path, flags) : -1;
    end(&call, result == 0, &(struct told){0});
    return result;
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdirat(int folder, const char *path, mode_t mode)
{
    REAL(mkdirat)
    struct call call = on_path(MKDIR, folder, path);
    call.counted = call.counted && faccessat(folder, path, F_OK, 0) != 0;
    int result = begin(&call) ? real(folder, path, mode) : -1;
    end(&call, result == 0, &(struct told){0});
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* ---- sizes ---- */

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate)
    struct call call = on_fd(TRUNCATE, fd);
    int result = begin(&call) ? real(fd, size) : -1;
    end(&call, result == 0,
        &(struct told){.inode = call.counted ? inode_of(fd) : 0, .size = (uint64_t)size});
    return result;
}

int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    REAL(fallocate)
    struct call call = on_fd(FALLOCATE, fd);
    int result = begin(&call) ? real(fd, mode, offset, size) : -1;
    struct told told = {.inode = call.counted ? inode_of(fd) : 0, .offset = (uint64_t)offset};
    told.size = (uint64_t)(offset + size);
    told.flags = (uint32_t)mode;
    end(&call, result == 0, &told);
    return result;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return fallocate(fd, mode, offset, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    return fallocate(fd, 0, offset, size) == 0 ? 0 : errno;
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
    return posix_fallocate(fd, offset, size);
}

/* ---- the wall clock ---- */

static int64_t wrong_by(void)
{
    return shim.clock_s == NULL ? 0 : atomic_load((_Atomic int64_t *)(uintptr_t)shim.clock_s);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    REAL(clock_gettime)
    int result = real(id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += wrong_by();
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    REAL(gettimeofday)
    int result = real(now, zone);
    now->tv_sec += wrong_by();
    return result;
}

time_t time(time_t *into)
{
    REAL(time)
    time_t now = real(NULL) + wrong_by();
    if (into != NULL) {
        *into = now;
    }
    return now;
}
