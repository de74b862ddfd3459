#include "store_folder.h"
#include "store_probe_internal.h"

#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    CHUNK_SIZE = 256 * 1024
};

/* --- lookups --- */

struct folder_path folder_path_of(struct str text)
{
    struct folder_path path = {.text = "."};
    assert(text.len <= STORE_KEY_SIZE_MAX + 1);
    if (text.len > 0) {
        memcpy(path.text, text.ptr, text.len);
        path.text[text.len] = '\0';
    }
    return path;
}

int folder_open(const struct store_folder *folder, const char *path, int flags)
{
    const struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    /* The kernel gives up with EAGAIN when something is renamed at the same moment. */
    long fd = -1;
    for (int attempt = 0; attempt < 16; attempt++) {
        fd = syscall(SYS_openat2, folder->root_fd, path, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
            break;
        }
    }
    return (int)fd;
}

bool folder_fail(int errno_value, struct str key, struct err *err)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
        return err_set_errno(err, ERR_STORE_MISSING, errno_value,
                             "the object \"%.*s\" does not exist", STR_ARG(key));
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case EXDEV:
        return err_set_errno(err, ERR_STORE_DENIED, errno_value, "access denied to \"%.*s\"",
                             STR_ARG(key));
    case ENOSPC:
    case EDQUOT:
        return err_set_errno(err, ERR_STORE, errno_value, "the disk has no room for \"%.*s\"",
                             STR_ARG(key));
    default:
        return err_set_errno(err, ERR_STORE, errno_value, "the folder failed for \"%.*s\"",
                             STR_ARG(key));
    }
}

void folder_describe(const struct stat *status, struct store_object *ret_object)
{
    ret_object->size = (uint64_t)status->st_size;
    (void)snprintf(ret_object->etag, sizeof(ret_object->etag), "\"%llx-%llx-%llx%09lx\"",
                   (unsigned long long)status->st_size, (unsigned long long)status->st_ino,
                   (unsigned long long)status->st_ctim.tv_sec,
                   (unsigned long)status->st_ctim.tv_nsec);
}

static bool is_temporary(struct str key)
{
    return str_starts(key, STR(FOLDER_TEMPORARY "/")) || str_equal(key, STR(FOLDER_TEMPORARY));
}

/* O_NONBLOCK keeps a FIFO that somebody has put there from stopping us; files do not mind. */
static bool open_object(const struct store_folder *folder, struct str key, int *ret_fd,
                        struct store_object *ret_object, struct err *err)
{
    if (is_temporary(key)) {
        return folder_fail(ENOENT, key, err);
    }
    struct folder_path path = folder_path_of(key);
    CLEANUP(fd_close) int fd = folder_open(folder, path.text, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        return folder_fail(errno, key, err);
    }
    if (!S_ISREG(status.st_mode)) {
        return folder_fail(ENOENT, key, err);
    }
    folder_describe(&status, ret_object);
    *ret_fd = fd;
    fd = -1;
    return true;
}

/* --- opening and closing --- */

static void close_folder(struct store *store)
{
    struct store_folder *folder = (struct store_folder *)store;
    fd_close(&folder->root_fd);
    folder_forget_synced(folder);
    lock_finish(&folder->directories_lock);
    mem_free(folder->path);
    mem_free(folder);
}

static const struct store_operations operations_folder;

struct store *store_open_folder(const char *path, struct err *err)
{
    if (!fd_make_directories(path, err)) {
        return NULL;
    }
    CLEANUP(fd_close) int root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        (void)err_set_errno(err, ERR_STORE, errno, "the folder of the store cannot be opened");
        return NULL;
    }
    /* Nothing was ever stored: who made the folder may have been killed before it was durable. */
    bool unused = faccessat(root_fd, FOLDER_TEMPORARY, F_OK, 0) != 0;
    if (unused && !fd_sync_parents(path, err)) {
        return NULL;
    }
    struct store_folder *folder = mem_alloc(sizeof(*folder));
    folder->base.operations = &operations_folder;
    folder->root_fd = root_fd;
    root_fd = -1;
    lock_init(&folder->directories_lock, LOCK_STORE);
    char absolute[PATH_MAX];
    folder->path = mem_copy_text(realpath(path, absolute));
    CLEANUP(fd_close) int probe = folder_open(folder, ".", O_RDONLY | O_DIRECTORY);
    if (folder->path == NULL || probe < 0) {
        (void)err_set_errno(err, ERR_STORE, errno, "the folder of the store cannot be used");
        close_folder(&folder->base);
        return NULL;
    }
    folder_sweep(folder);
    return &folder->base;
}

static void append_url(const struct store *store, struct str key, struct buf *buf)
{
    const struct store_folder *folder = (const struct store_folder *)store;
    buf_append_format(buf, "file://%s/", strcmp(folder->path, "/") == 0 ? "" : folder->path);
    buf_append(buf, key);
}

static void append_identity(const struct store *store, struct buf *into)
{
    append_url(store, STR(""), into);
}

/* --- reading --- */

static bool head(struct store *store, struct str key, struct cancel *cancel,
                 struct store_object *ret_object, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    return cancel_check(cancel, err) &&
           open_object((struct store_folder *)store, key, &fd, ret_object, err);
}

static bool open_direct(struct store *store, struct str key, int *ret_fd,
                        struct store_object *ret_object, struct err *err)
{
    return open_object((struct store_folder *)store, key, ret_fd, ret_object, err);
}

static bool fail_changed(struct str key, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "the object \"%.*s\" has changed", STR_ARG(key));
}

static bool write_at(int fd, const char *bytes, size_t size, uint64_t offset, struct err *err)
{
    while (size > 0) {
        ssize_t written = pwrite(fd, bytes, size, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return err_set_errno(err, ERR_UNAVAILABLE, errno,
                                 "the server cannot write to its disk");
        }
        bytes += written;
        size -= (size_t)written;
        offset += (uint64_t)written;
    }
    return true;
}

static bool copy_range(int from_fd, uint64_t offset, uint64_t size, int into_fd,
                       uint64_t into_offset, struct str key, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_free_text) char *chunk = mem_alloc(CHUNK_SIZE);
    while (size > 0) {
        size_t wanted = size < CHUNK_SIZE ? (size_t)size : (size_t)CHUNK_SIZE;
        if (!cancel_check(cancel, err)) {
            return false;
        }
        ssize_t got = pread(from_fd, chunk, wanted, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return folder_fail(errno, key, err);
        }
        if (got == 0) {
            return fail_changed(key, err);
        }
        if (!write_at(into_fd, chunk, (size_t)got, into_offset, err)) {
            return false;
        }
        offset += (uint64_t)got;
        into_offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return true;
}

/* A descriptor stays with its file, so a replaced object cannot mix; a file that somebody writes in
 * place can, and its ETag tells. */
static bool still_same(int fd, const struct store_object *object)
{
    struct stat status;
    struct store_object now;
    if (fstat(fd, &status) != 0) {
        return false;
    }
    folder_describe(&status, &now);
    return status.st_nlink == 0 || strcmp(now.etag, object->etag) == 0;
}

static bool get_range(struct store *store, struct str key, const char *if_match, uint64_t offset,
                      uint64_t size, int into_fd, uint64_t into_offset, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    struct store_object object;
    if (!open_object((struct store_folder *)store, key, &fd, &object, err)) {
        return false;
    }
    if (if_match != NULL && strcmp(if_match, object.etag) != 0) {
        return fail_changed(key, err);
    }
    if (offset + size > object.size) {
        return err_set(err, ERR_INVALID, "the object \"%.*s\" is shorter than the range asked for",
                       STR_ARG(key));
    }
    return copy_range(fd, offset, size, into_fd, into_offset, key, cancel, err) &&
           (if_match == NULL || still_same(fd, &object) || fail_changed(key, err));
}

static bool get(struct store *store, struct str key, struct buf *into, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    if (!open_object((struct store_folder *)store, key, &fd, ret_object, err)) {
        return false;
    }
    if (ret_object->size > into->size_max - into->len ||
        !buf_reserve(into, (size_t)ret_object->size)) {
        return err_set(err, ERR_TOO_LARGE, "the object \"%.*s\" is larger than %zu bytes",
                       STR_ARG(key), into->size_max - into->len);
    }
    uint64_t done = 0;
    while (done < ret_object->size) {
        if (!cancel_check(cancel, err)) {
            return false;
        }
        uint64_t left = ret_object->size - done;
        size_t wanted = left < CHUNK_SIZE ? (size_t)left : (size_t)CHUNK_SIZE;
        ssize_t got = pread(fd, into->ptr + into->len, wanted, (off_t)done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? folder_fail(errno, key, err) : fail_changed(key, err);
        }
        into->len += (size_t)got;
        into->ptr[into->len] = '\0';
        done += (uint64_t)got;
    }
    return still_same(fd, ret_object) || fail_changed(key, err);
}

/* --- deleting --- */

/* Folders stay when they become empty: removing them would race with a put into them, and lists do
 * not show them. */
static bool delete_key(struct store *store, struct str key, struct cancel *cancel, struct err *err)
{
    const struct store_folder *folder = (const struct store_folder *)store;
    if (!cancel_check(cancel, err)) {
        return false;
    }
    size_t leaf = key.len;
    while (leaf > 0 && key.ptr[leaf - 1] != '/') {
        leaf--;
    }
    struct folder_path parent = folder_path_of(str_first(key, leaf == 0 ? 0 : leaf - 1));
    struct folder_path name = folder_path_of(str_from(key, leaf));
    CLEANUP(fd_close) int fd = folder_open(folder, parent.text, O_RDONLY | O_DIRECTORY);
    struct stat status;
    bool found = fd >= 0 && fstatat(fd, name.text, &status, AT_SYMLINK_NOFOLLOW) == 0;
    int cause = found ? 0 : errno;
    if (found && S_ISREG(status.st_mode) && !is_temporary(key)) {
        cause = FD_UNINTERRUPTED(unlinkat(fd, name.text, 0)) == 0 ? 0 : errno;
    }
    bool gone = cause == 0 || cause == ENOENT || cause == ENOTDIR || cause == ENAMETOOLONG;
    return gone || folder_fail(cause, key, err);
}

static const struct store_operations operations_folder = {
    .close = close_folder,
    .append_url = append_url,
    .append_identity = append_identity,
    .put = folder_put,
    .head = head,
    .get_range = get_range,
    .get = get,
    .open_direct = open_direct,
    .list = folder_list,
    .list_folders = folder_list_folders,
    .delete_key = delete_key,
    .probe_reach = folder_probe_reach,
    .probe_end = folder_probe_end,
};
