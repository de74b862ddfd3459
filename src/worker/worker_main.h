/* worker_main.h - the life of one worker process, after the fork.
 * It is forked before there is a job for it: its turn is a message on `turn_fd`, with the job's
 * socket. */
#pragma once

#include "worker_duck.h"

enum worker_start {
    WORKER_UNLIMITED, /* sets its limits and shuts itself when it has its job */
    WORKER_WAITS,     /* shuts itself (sandbox_shut), and waits to be limited */
    WORKER_REHEARSES, /* the same, and rehearses meanwhile */
};

/* Waits for its turn, and goes on as worker_main. Ends when the zygote does. */
_Noreturn void worker_wait(struct duck *duck, int turn_fd, enum worker_start start);

/* Receives its job on the socket, gives up the rest of its rights, does the job, reports, and ends
 * the process. `shut`: it has, and its limits are set. */
_Noreturn void worker_main(struct duck *duck, int socket_fd, bool shut);
