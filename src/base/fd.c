#include "fd.h"

#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    DIRECTORY_MODE = 0700
};

void fd_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

bool fd_write_all(int fd, struct str bytes, struct err *err)
{
    while (bytes.len > 0) {
        ssize_t written = write(fd, bytes.ptr, bytes.len);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return err_set_errno(err, ERR_UNAVAILABLE, errno,
                                 "the server cannot write to its disk");
        }
        bytes = str_from(bytes, (size_t)written);
    }
    return true;
}

bool fd_read_at(int fd, void *into, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(fd, (char *)into + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            errno = got == 0 ? 0 : errno;
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

bool fd_write_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t put = pwrite(fd, (const char *)bytes + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            errno = put == 0 ? 0 : errno;
            return false;
        }
        done += (size_t)put;
    }
    return true;
}

int fd_reopen_read_only(int fd, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    if (reader < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
    }
    return reader;
}

int fd_temporary(const char *directory, struct err *err)
{
    int fd = FD_UNINTERRUPTED(open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        /* A file system without O_TMPFILE: a name for the blink of an eye. */
        struct str path = str_of(directory);
        char name[4096];
        if (path.len + 16 > sizeof(name)) {
            (void)err_set(err, ERR_INTERNAL, "the data folder has too long a name");
            return -1;
        }
        memcpy(name, path.ptr, path.len);
        memcpy(name + path.len, "/tmp-XXXXXX", 12);
        fd = mkostemp(name, O_CLOEXEC);
        if (fd >= 0) {
            (void)unlink(name);
        }
    }
    if (fd < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno,
                            "the server cannot create a temporary file");
    }
    return fd;
}

bool fd_sync(int fd)
{
    return FD_UNINTERRUPTED(fsync(fd)) == 0;
}

/* Makes the entry of a new directory durable: its name is in its parent. */
static bool sync_parent(const char *path, struct err *err)
{
    CLEANUP(mem_free_text) char *parent = mem_copy_text(path);
    char *slash = strrchr(parent, '/');
    if (slash != NULL) {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    const char *name = slash == NULL ? "." : parent;
    CLEANUP(fd_close)
    int fd = FD_UNINTERRUPTED(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return (fd >= 0 && fd_sync(fd)) ||
           err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot sync the folder of %s", path);
}

static bool looks_made_by_us(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && status.st_uid == geteuid() &&
           (status.st_mode & 07777) == DIRECTORY_MODE;
}

bool fd_sync_parents(const char *path, struct err *err)
{
    CLEANUP(mem_free_text) char *copy = mem_copy_text(path);
    while (*copy != '\0' && looks_made_by_us(copy)) {
        if (!sync_parent(copy, err)) {
            return false;
        }
        char *slash = strrchr(copy, '/');
        *(slash == NULL ? copy : slash) = '\0';
    }
    return true;
}

bool fd_make_directories(const char *path, struct err *err)
{
    CLEANUP(mem_free_text) char *copy = mem_copy_text(path);
    for (char *slash = copy + 1; *copy != '\0'; slash++) {
        if (*slash != '/' && *slash != '\0') {
            continue;
        }
        char kept = *slash;
        *slash = '\0';
        if (FD_UNINTERRUPTED(mkdir(copy, DIRECTORY_MODE)) == 0) {
            if (!sync_parent(copy, err)) {
                return false;
            }
        } else if (errno != EEXIST) {
            return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot create the folder %s", copy);
        }
        *slash = kept;
        if (kept == '\0') {
            break;
        }
    }
    return true;
}

/* Room for one descriptor beside a message. */
union one_fd {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

ssize_t fd_send_message(int socket_fd, const void *bytes, size_t size, int passed_fd, int flags)
{
    union one_fd control = {0};
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed_fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passed_fd, sizeof(passed_fd));
    }
    return sendmsg(socket_fd, &message, flags | MSG_NOSIGNAL);
}

ssize_t fd_receive_message(int socket_fd, void *into, size_t size, int *ret_fd, int flags)
{
    union one_fd control;
    struct iovec part = {into, size};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t got;
    do {
        got = recvmsg(socket_fd, &message, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    *ret_fd = -1;
    struct cmsghdr *header = got < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        memcpy(ret_fd, CMSG_DATA(header), sizeof(*ret_fd));
    }
    return got;
}
