#include "engine_zygote.h"
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Seen from the folder of this program: as it is built, and as packages put it. */
static const char *const places[] = {"eider-engine", "../libexec/eider-engine"};

/* With a slash at its end; false: errno. */
static bool find_own_folder(char *folder, size_t size)
{
    ssize_t len = readlink("/proc/self/exe", folder, size - 1);
    if (len <= 0) {
        return false;
    }
    folder[len] = '\0';
    strrchr(folder, '/')[1] = '\0'; /* the kernel gives a path from the root */
    return true;
}

/* Not in the place that the zygote's socket has in the process to be. */
static int open_program(const char *path)
{
    CLEANUP(fd_close) int fd = access(path, X_OK) == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, WORKER_ZYGOTE_FD + 1);
}

int engine_open_program(const char *path, struct err *err)
{
    char folder[PATH_MAX];
    char candidate[PATH_MAX + 64];
    int fd = path != NULL ? open_program(path) : -1;
    if (path == NULL && !find_own_folder(folder, sizeof(folder))) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot find this program's folder");
        return -1;
    }
    for (size_t i = 0; path == NULL && fd < 0 && i < COUNT_OF(places); i++) {
        (void)snprintf(candidate, sizeof(candidate), "%s%s", folder, places[i]);
        fd = open_program(candidate);
    }
    if (fd < 0) {
        (void)err_set(err, ERR_UNAVAILABLE,
                      "eider-engine cannot be started; it belongs beside the program eider, or "
                      "in ../libexec, and has to be of the same build");
        err_add_detail(err, "%s", path != NULL ? path : folder);
    }
    return fd;
}
