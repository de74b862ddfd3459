/* wal_io.h - every operation on files that the log does, as a table of functions.
 * Promise   nothing else in this folder opens, writes, syncs, renames or removes. So a test can put
 *           a disk of its own here, which forgets what was not synced, or fails.
 * Errors    functions answer a negative errno. -EINTR from any of them means: nothing was done, do
 *           it again.
 * Threads   any, also on one descriptor. */
#pragma once

#include "macros.h"

#include <sys/types.h>
#include <sys/uio.h>

#define WAL_IDENTITY_NAME "identity" /* the first file of a log that is there to stay */

enum wal_open {
    WAL_OPEN_READ,   /* must exist */
    WAL_OPEN_CREATE, /* read and write, made or emptied */
    WAL_OPEN_AGAIN,  /* read and write, must exist */
    WAL_OPEN_LOCK,   /* the same, made but not emptied, with an exclusive flock: -EWOULDBLOCK */
    WAL_OPEN_PROBE   /* as WAL_OPEN_READ, with a shared one */
};

struct wal_io {
    void *context;
    /* A descriptor of the folder; `make` it when it is missing, durably. */
    int (*open_folder)(void *context, const char *path, bool make);
    int (*open)(void *context, int folder, const char *name, enum wal_open how);
    int (*close)(void *context, int fd);
    ssize_t (*read)(void *context, int fd, void *into, size_t size, uint64_t offset);
    ssize_t (*write)(void *context, int fd, const struct iovec *parts, int count, uint64_t offset);
    int (*reserve)(void *context, int fd,
                   uint64_t size);           /* the file's size; its blocks are there */
    int (*sync_data)(void *context, int fd); /* fdatasync */
    int (*sync)(void *context, int fd);      /* fsync, of files and folders */
    int (*rename)(void *context, int folder, const char *from, const char *to);
    int (*unlink)(void *context, int folder, const char *name);
    int64_t (*size)(void *context, int fd);
    /* Where the next bytes are that are not a hole, which reads as zeros; -ENXIO: there are none.
     * NULL: there are no holes. */
    int64_t (*data)(void *context, int fd, uint64_t offset);
    int64_t (*free_bytes)(void *context, int folder); /* of the file system, for this user */
    int (*list)(void *context, int folder, void (*each)(void *each_context, const char *name),
                void *each_context);
};

/* The real ones. */
extern const struct wal_io wal_io_disk;

/* A folder and how it is reached; the functions below begin again after -EINTR and where less was
 * moved than asked for. 0 or a negative errno, where nothing else is said. */
struct wal_folder {
    const struct wal_io *io;
    int fd;
};

int wal_folder_open(struct wal_folder *folder, const char *path, bool make);
void wal_folder_close(struct wal_folder *folder); /* accepts one that is not open: fd -1 */
int wal_folder_sync(const struct wal_folder *folder);
int wal_folder_rename(const struct wal_folder *folder, const char *from, const char *to);
int wal_folder_unlink(const struct wal_folder *folder, const char *name);
int wal_folder_list(const struct wal_folder *folder,
                    void (*each)(void *each_context, const char *name), void *each_context);
int64_t wal_folder_free_bytes(const struct wal_folder *folder);

int wal_file_open(const struct wal_folder *folder, const char *name, enum wal_open how);
int wal_file_close(const struct wal_folder *folder, int *fd); /* -1 afterwards, also on failure */
/* How many bytes were read: fewer than `size` at the end of the file only. */
ssize_t wal_file_read(const struct wal_folder *folder, int fd, void *into, size_t size,
                      uint64_t offset);
int wal_file_write(const struct wal_folder *folder, int fd, struct iovec *parts_used, int count,
                   uint64_t offset);
int wal_file_reserve(const struct wal_folder *folder, int fd, uint64_t size);
int wal_file_sync_data(const struct wal_folder *folder, int fd);
int wal_file_sync(const struct wal_folder *folder, int fd);
int64_t wal_file_size(const struct wal_folder *folder, int fd);
/* From where on there may be anything but zeros: `offset` where nobody knows, UINT64_MAX when there
 * is nothing. */
uint64_t wal_file_data(const struct wal_folder *folder, int fd, uint64_t offset);
