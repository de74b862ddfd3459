/* worker_database_open.h - a database file becomes an engine that serves requests, and ends as a
 * file again.
 * Promise   a file that does not open is not changed. Before a log is replayed for good it is
 *           replayed once with every change to files refused.
 * Owner     the worker's main.   Threads  one.
 * Errors    ERR_CORRUPT (file or log is damaged, or no database at all), ERR_NOT_IMPLEMENTED (made
 *           by another version, or encrypted), ERR_UNAVAILABLE (the disk), ERR_UNPROCESSABLE
 *           (memory): by what the files and the engine's class of error say, never by its words. */
#pragma once

#include "worker_database.h"
#include "worker_duck.h"
#include "worker_storage.h"

/* Fills `duck`, whose connection is for what the worker itself asks. *ret_log_bytes: of log that
 * was replayed. */
bool database_open(struct duck *duck, struct storage *storage, const struct worker_limits *limits,
                   const struct worker_database *options, uint64_t *ret_log_bytes,
                   struct err *err) MUST_CHECK;

/* Makes the last checkpoint. */
bool database_settle(struct duck *duck, const struct worker_database *options,
                     struct err *err) MUST_CHECK;
/* Closes the file; no thread may be in the engine. */
void database_close(struct duck *duck);
