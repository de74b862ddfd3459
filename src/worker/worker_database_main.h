/* worker_database_main.h - the life of a database worker, after the fork: one file, many requests.
 * Promise   gives up its rights before it looks at the file. A file that does not open is told in
 *           the OUTCOME and is left as it was: a log is tried out without changing anything before
 *           it is replayed for good. Ends when the server is gone.
 * Threads   the main one opens and closes; `control` reads the control socket; one per slot
 *           (worker_slots.h); the engine's. */
#pragma once

#include "worker_job.h"

_Noreturn void database_main(int socket_fd, const struct worker_job *job);
