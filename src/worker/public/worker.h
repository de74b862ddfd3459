/* worker.h - the processes that run SQL: the zygote and the workers it forks.
 * Promise   a worker serves one job and exits. By the time it sees the job's SQL it has no way to
 *           open a file, make a socket, start a program or change a setting: limits, Landlock,
 *           seccomp and locked settings are in place, in this order, before any thread exists. It
 *           knows no credentials and has an empty environment.
 * Not here  which objects a job may read (the server decides, object by object), deadlines (the
 *           server kills).
 * Owner     the server starts `eider-engine zygote WORD` with ZYGOTE_FD open, starts it again when
 *           it ends. WORD is the server's build_word(): what is sent here has no versions.
 * Threads   the zygote has exactly one, always. A worker: its main thread, the engine's, and
 *           `control`, which reads the socket and ends the process when the server is gone.
 * Errors    reported in the job's OUTCOME; a worker that cannot sandbox itself ends without running
 *           anything. */
#pragma once

#include "worker_job.h"

enum {
    WORKER_ZYGOTE_FD = 3,
    WORKER_EXIT_OTHER_BUILD = 71 /* of an eider-engine whose word is another */
};

/* Zygote socket (SOCK_SEQPACKET): the server sends FORK with the worker's end of the job's socket,
 * the zygote answers FORKED with a pidfd, and EXITED when the child is gone. LIBRARY is the first
 * word of a zygote, with the engine's library as it was loaded: the server looks at it while the
 * engine warms up, and nothing is forked before it has. READY is sent once, when that is done. */
enum zygote_message_type {
    ZYGOTE_FORK = 1,
    ZYGOTE_LIBRARY,
    ZYGOTE_READY,
    ZYGOTE_FORKED,
    ZYGOTE_EXITED
};

struct zygote_message {
    uint32_t type;
    uint32_t unlimited;  /* FORK: a process that sets its limits and shuts itself, for
                            WORKER_DATABASE */
    int32_t status;      /* EXITED: as waitpid has it. FORKED: errno when fork failed, else 0. */
    uint64_t job;        /* chosen by the server */
    uint64_t peak_bytes; /* EXITED: resident memory */
    struct worker_limits limits; /* FORK: they hold before the worker gets its socket */
    int32_t pid;
    uint32_t landlock_abi; /* READY: 0 when the kernel has none */
    char note[128];        /* READY: the engine's version */
};

/* The body of `eider-engine zygote`; returns the exit code. */
int worker_zygote_main(void);
