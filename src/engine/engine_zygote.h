/* engine_zygote.h - the zygote process, seen from the server.
 * Promise   there is a zygote, or one is being started; it is started again when it dies, at once
 *           the first time, then with growing pauses of up to 5 s.
 * Owner     struct engine.
 * Threads   `zygote` starts it and reads its messages; any thread forks. */
#pragma once

#include "cancel.h"
#include "err.h"
#include "metric.h"
#include "thread.h"
#include "worker.h"

struct zygote;

/* One forked worker, as long as somebody cares. */
struct zygote_child {
    uint64_t job;
    int pidfd;
    int pid;
    bool forked;    /* the zygote has answered */
    int fork_errno; /* 0 when the fork worked */
    bool exited;    /* status and peak_bytes are known */
    bool lost;      /* the zygote died: no more news */
    int status;
    uint64_t peak_bytes;
    struct zygote_child *next;
};

/* Opens the program whose processes run SQL: `path`, or for NULL eider-engine in the folder of this
 * program, or where packages put such programs. -1 on failure. */
int engine_open_program(const char *path, struct err *err);

/* `program_fd` has to stay open. `check` is called on the zygote's thread while a zygote warms up:
 * when it says no, and when the program is of another build, no worker is ever started, and whoever
 * waits is told why. May be NULL. */
struct zygote *zygote_create(int program_fd, bool (*check)(int library_fd, struct err *err));
void zygote_destroy(struct zygote *zygote);
bool zygote_wait_ready(struct zygote *zygote, struct cancel *cancel, struct err *err) MUST_CHECK;
bool zygote_is_ready(struct zygote *zygote);
/* After zygote_wait_ready. */
unsigned zygote_landlock_abi(struct zygote *zygote);
/* How often it ended though the server did not, and was started again. */
uint64_t zygote_restarts(const struct zygote *zygote);

struct zygote_start {
    int socket_fd;               /* the worker's end of the job's socket */
    struct worker_limits limits; /* they hold before the worker gets it, unless it is to be */
    bool unlimited;              /* and to set them itself */
};

/* Asks for a worker, whose socket may be written to from now on. On success the child is registered
 * until zygote_forget. */
bool zygote_fork(struct zygote *zygote, const struct zygote_start *start,
                 struct zygote_child *child, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Waits until it is there, and pidfd known. ERR_CONFLICT: the zygote died meanwhile and a fork may
 * or may not have happened; forget the child and ask again with a new socket pair. A worker that
 * was forgotten before it was there is sent SIGKILL when it is. */
bool zygote_wait_forked(struct zygote *zygote, struct zygote_child *child, struct cancel *cancel,
                        struct err *err) MUST_CHECK;

/* Waits for the exit status, for at most wait_ms; false when it is not known by then. */
bool zygote_wait_status(struct zygote *zygote, struct zygote_child *child, int wait_ms);
void zygote_forget(struct zygote *zygote, struct zygote_child *child); /* closes the pidfd */
