/* fd.h - small helpers around descriptors and files. */
#pragma once

#include "err.h"
#include "str.h"

#include <errno.h>
#include <sys/types.h>

/* A call that answers -1 and errno, made again while a signal came between. Some file systems let
 * signals interrupt mkdir, open and rename too. */
#define FD_UNINTERRUPTED(call)                     \
    __extension__({                                \
        __typeof__(call) answer_;                  \
        do {                                       \
            answer_ = (call);                      \
        } while (answer_ == -1 && errno == EINTR); \
        answer_;                                   \
    })

void fd_close(int *fd); /* for CLEANUP; -1 afterwards */
bool fd_write_all(int fd, struct str bytes, struct err *err) MUST_CHECK;

/* All of it, or false: errno says why, 0 that the file ends before. Their position is not moved. */
bool fd_read_at(int fd, void *into, size_t size, uint64_t offset) MUST_CHECK;
bool fd_write_at(int fd, const void *bytes, size_t size, uint64_t offset) MUST_CHECK;

/* A second description of the same file that cannot write, for who must not: -1 on failure. */
int fd_reopen_read_only(int fd, struct err *err);

/* An unlinked file beneath `directory`, read and write, that is gone when its last descriptor
 * closes. -1 on failure. */
int fd_temporary(const char *directory, struct err *err);

/* fsync, again when a signal came between. Any other error is final: asking again may answer 0 for
 * pages that were dropped. */
bool fd_sync(int fd) MUST_CHECK;

/* Creates every directory of an absolute or relative path that is missing, mode 0700; what it made
 * is durable. */
bool fd_make_directories(const char *path, struct err *err) MUST_CHECK;

/* The path's folder, and those above it, are durable, also those that fd_make_directories made and
 * did not live to sync. It ends at the first that looks as if somebody else had made it. */
bool fd_sync_parents(const char *path, struct err *err) MUST_CHECK;

/* One message on a Unix socket, and a descriptor with it where passed_fd is not -1. As sendmsg;
 * never raises SIGPIPE. */
ssize_t fd_send_message(int socket_fd, const void *bytes, size_t size, int passed_fd, int flags);

/* One message, and the descriptor that came with it (close-on-exec) or -1. As recvmsg; begins again
 * after a signal. */
ssize_t fd_receive_message(int socket_fd, void *into, size_t size, int *ret_fd, int flags);
