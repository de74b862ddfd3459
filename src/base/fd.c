#include "fd.h"

#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

int fd_temporary(const char *directory, struct err *err)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
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

bool fd_make_directories(const char *path, struct err *err)
{
    CLEANUP(mem_free_text) char *copy = mem_copy_text(path);
    for (char *slash = copy + 1; *copy != '\0'; slash++) {
        if (*slash != '/' && *slash != '\0') {
            continue;
        }
        char kept = *slash;
        *slash = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST) {
            return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot create the folder %s", copy);
        }
        *slash = kept;
        if (kept == '\0') {
            break;
        }
    }
    return true;
}
