/* worker_main.h - the life of one worker process, after the fork.
 * It is forked before there is a job for it: its turn is a message on `turn_fd`, with the job's
 * socket. */
#pragma once

#include "worker_duck.h"

/* Makes a connection, waits for its turn, and goes on as worker_main. Ends when the zygote does. */
_Noreturn void worker_wait(struct duck *duck, int turn_fd);

/* Receives its job on the socket, gives up its rights, does the job, reports, and ends the process.
 */
_Noreturn void worker_main(struct duck *duck, int socket_fd);
