#include "wal_io.h"

#include "fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- the disk ---- */

static int result_of(int result)
{
    return result < 0 ? -errno : result;
}

static int disk_open_folder(void *context, const char *path, bool make)
{
    (void)context;
    struct err err;
    if (make && !fd_make_directories(path, &err)) {
        return errno == 0 ? -EIO : -errno;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Folders of a log that nobody has used: whoever made them may have been killed before they
     * were durable, and then all that is ever written here would not be. */
    bool unused = make && fd >= 0 && faccessat(fd, WAL_IDENTITY_NAME, F_OK, 0) != 0;
    if (unused && !fd_sync_parents(path, &err)) {
        int code = errno == 0 ? -EIO : -errno;
        fd_close(&fd);
        return code;
    }
    return result_of(fd);
}

static int disk_open(void *context, int folder, const char *name, enum wal_open how)
{
    static const int flags[] = {
        [WAL_OPEN_READ] = O_RDONLY,  [WAL_OPEN_CREATE] = O_RDWR | O_CREAT | O_TRUNC,
        [WAL_OPEN_AGAIN] = O_RDWR,   [WAL_OPEN_LOCK] = O_RDWR | O_CREAT,
        [WAL_OPEN_PROBE] = O_RDONLY,
    };
    static const int locks[] = {
        [WAL_OPEN_LOCK] = LOCK_EX | LOCK_NB,
        [WAL_OPEN_PROBE] = LOCK_SH | LOCK_NB,
    };
    (void)context;
    int fd = openat(folder, name, flags[how] | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && locks[how] != 0 && flock(fd, locks[how]) != 0) {
        int code = -errno;
        fd_close(&fd);
        return code;
    }
    return result_of(fd);
}

static int disk_close(void *context, int fd)
{
    (void)context;
    int result = close(fd);
    return result < 0 && errno == EINTR ? 0 : result_of(result); /* Linux closed it nevertheless */
}

static ssize_t disk_read(void *context, int fd, void *into, size_t size, uint64_t offset)
{
    (void)context;
    ssize_t got = pread(fd, into, size, (off_t)offset);
    return got < 0 ? -errno : got;
}

static ssize_t disk_write(void *context, int fd, const struct iovec *parts, int count,
                          uint64_t offset)
{
    (void)context;
    ssize_t written = pwritev(fd, parts, count, (off_t)offset);
    return written < 0 ? -errno : written;
}

/* Blocks are reserved, not filled with zeros: see the head of wal_segment.c. */
static int disk_reserve(void *context, int fd, uint64_t size)
{
    (void)context;
    if (fallocate(fd, 0, 0, (off_t)size) == 0) {
        return 0;
    }
    /* A file system without it: a full disk will then show in the middle of a write, and end the
     * process. */
    return errno == EOPNOTSUPP ? result_of(ftruncate(fd, (off_t)size)) : -errno;
}

static int disk_sync_data(void *context, int fd)
{
    (void)context;
    return result_of(fdatasync(fd));
}

static int disk_sync(void *context, int fd)
{
    (void)context;
    return result_of(fsync(fd));
}

static int disk_rename(void *context, int folder, const char *from, const char *to)
{
    (void)context;
    return result_of(renameat(folder, from, folder, to));
}

static int disk_unlink(void *context, int folder, const char *name)
{
    (void)context;
    return result_of(unlinkat(folder, name, 0));
}

static int64_t disk_size(void *context, int fd)
{
    (void)context;
    struct stat status;
    return fstat(fd, &status) < 0 ? -errno : (int64_t)status.st_size;
}

static int64_t disk_data(void *context, int fd, uint64_t offset)
{
    (void)context;
    off_t found = lseek(fd, (off_t)offset, SEEK_DATA);
    return found < 0 ? -errno : found;
}

static int64_t disk_free_bytes(void *context, int folder)
{
    (void)context;
    struct statvfs status;
    return fstatvfs(folder, &status) < 0 ? -errno
                                         : (int64_t)(status.f_bavail * (uint64_t)status.f_frsize);
}

static int disk_list(void *context, int folder, void (*each)(void *each_context, const char *name),
                     void *each_context)
{
    (void)context;
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (stream == NULL) {
        int code = -errno;
        fd_close(&fd);
        return code;
    }
    errno = 0;
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL; errno = 0) {
        each(each_context, entry->d_name);
    }
    int code = -errno;
    (void)closedir(stream);
    return code;
}

const struct wal_io wal_io_disk = {
    .open_folder = disk_open_folder,
    .open = disk_open,
    .close = disk_close,
    .read = disk_read,
    .write = disk_write,
    .reserve = disk_reserve,
    .sync_data = disk_sync_data,
    .sync = disk_sync,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .size = disk_size,
    .data = disk_data,
    .free_bytes = disk_free_bytes,
    .list = disk_list,
};

/* ---- the same, until it is done ---- */

#define UNTIL_DONE(call)           \
    __extension__({                \
        __typeof__(call) code_;    \
        do {                       \
            code_ = (call);        \
        } while (code_ == -EINTR); \
        code_;                     \
    })

int wal_folder_open(struct wal_folder *folder, const char *path, bool make)
{
    int fd = UNTIL_DONE(folder->io->open_folder(folder->io->context, path, make));
    folder->fd = fd < 0 ? -1 : fd;
    return fd < 0 ? fd : 0;
}

void wal_folder_close(struct wal_folder *folder)
{
    (void)wal_file_close(folder, &folder->fd);
}

int wal_folder_sync(const struct wal_folder *folder)
{
    return wal_file_sync(folder, folder->fd);
}

int wal_folder_rename(const struct wal_folder *folder, const char *from, const char *to)
{
    return UNTIL_DONE(folder->io->rename(folder->io->context, folder->fd, from, to));
}

int wal_folder_unlink(const struct wal_folder *folder, const char *name)
{
    return UNTIL_DONE(folder->io->unlink(folder->io->context, folder->fd, name));
}

int wal_folder_list(const struct wal_folder *folder,
                    void (*each)(void *each_context, const char *name), void *each_context)
{
    return UNTIL_DONE(folder->io->list(folder->io->context, folder->fd, each, each_context));
}

int64_t wal_folder_free_bytes(const struct wal_folder *folder)
{
    return UNTIL_DONE(folder->io->free_bytes(folder->io->context, folder->fd));
}

int wal_file_open(const struct wal_folder *folder, const char *name, enum wal_open how)
{
    return UNTIL_DONE(folder->io->open(folder->io->context, folder->fd, name, how));
}

int wal_file_close(const struct wal_folder *folder, int *fd)
{
    int code = *fd < 0 ? 0 : folder->io->close(folder->io->context, *fd);
    *fd = -1;
    return code == -EINTR ? 0 : code;
}

ssize_t wal_file_read(const struct wal_folder *folder, int fd, void *into, size_t size,
                      uint64_t offset)
{
    size_t got = 0;
    while (got < size) {
        ssize_t now = UNTIL_DONE(folder->io->read(folder->io->context, fd, (char *)into + got,
                                                  size - got, offset + got));
        if (now < 0) {
            return now;
        }
        if (now == 0) {
            break;
        }
        got += (size_t)now;
    }
    return (ssize_t)got;
}

int wal_file_write(const struct wal_folder *folder, int fd, struct iovec *parts_used, int count,
                   uint64_t offset)
{
    struct iovec *part = parts_used;
    while (count > 0) {
        ssize_t written =
            UNTIL_DONE(folder->io->write(folder->io->context, fd, part, count, offset));
        if (written < 0) {
            return (int)written;
        }
        size_t left = (size_t)written;
        offset += left;
        if (left == 0 && part->iov_len > 0) {
            return -EIO; /* a disk that takes nothing and does not say why */
        }
        for (; count > 0 && left >= part->iov_len; part++, count--) {
            left -= part->iov_len;
        }
        if (count > 0) {
            part->iov_base = (char *)part->iov_base + left;
            part->iov_len -= left;
        }
    }
    return 0;
}

int wal_file_reserve(const struct wal_folder *folder, int fd, uint64_t size)
{
    return UNTIL_DONE(folder->io->reserve(folder->io->context, fd, size));
}

int wal_file_sync_data(const struct wal_folder *folder, int fd)
{
    return UNTIL_DONE(folder->io->sync_data(folder->io->context, fd));
}

int wal_file_sync(const struct wal_folder *folder, int fd)
{
    return UNTIL_DONE(folder->io->sync(folder->io->context, fd));
}

int64_t wal_file_size(const struct wal_folder *folder, int fd)
{
    return UNTIL_DONE(folder->io->size(folder->io->context, fd));
}

uint64_t wal_file_data(const struct wal_folder *folder, int fd, uint64_t offset)
{
    const struct wal_io *io = folder->io;
    int64_t found =
        io->data == NULL ? (int64_t)offset : UNTIL_DONE(io->data(io->context, fd, offset));
    return found >= 0 ? (uint64_t)found : found == -ENXIO ? UINT64_MAX : offset;
}
