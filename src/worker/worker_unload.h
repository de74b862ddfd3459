/* worker_unload.h - takes libraries out of the zygote's memory that only the server calls.
 * Promise   unload_others() unmaps every shared library but those that hold one of the addresses
 *           `kept`, and all that these need. Each fork copies, and each worker's end takes apart,
 *           one mapping after the other: the HTTP client and what it drags along were two thirds of
 *           them. A worker that has been taken over finds less code, too.
 * Not here  libraries whose variables new threads get a copy of: they stay. Of the others the page
 *           with their headers stays, which unwinders look at.
 * Threads   one. No code of those libraries may run afterwards, not even their handlers of fork:
 *           hence fork by unload_fork().
 * Limits    symbols have to be bound at the start (LD_BIND_NOW). */
#pragma once

#include "macros.h"

#include <sys/types.h>

/* How many mappings are gone. */
unsigned unload_others(const void *const *kept, size_t kept_count);

/* fork() without the handlers that libraries have registered for it. One thread is all there may
 * be: then there is no lock that another one could hold. */
pid_t unload_fork(void);
