/* worker_main.h - the life of one worker process, after the fork.
 * It is forked before there is a job for it: its turn is a message on `turn_fd`, with the job's
 * socket. */
#pragma once

#include "worker_duck.h"

/* Shuts itself (sandbox_shut), unless it is to be `unlimited`; waits for its turn, and goes on as
 * worker_main. Ends when the zygote does. */
_Noreturn void worker_wait(struct duck *duck, int turn_fd, bool unlimited);

/* Receives its job on the socket, gives up the rest of its rights, does the job, reports, and ends
 * the process. `shut`: it has, and its limits are set. */
_Noreturn void worker_main(struct duck *duck, int socket_fd, bool shut);
