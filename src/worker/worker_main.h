/* worker_main.h - the life of one worker process, after the fork. */
#pragma once

#include "worker_duck.h"

/* Receives its job on the socket, gives up its rights, does the job, reports, and ends the process.
 */
_Noreturn void worker_main(struct duck *duck, int socket_fd);
