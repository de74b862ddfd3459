/* worker_run.h - the jobs a worker can do. Each fills rows, or err; results go out through the
 * channel.
 * Threads   the worker's main thread; the engine adds its own. */
#pragma once

#include "worker_duck.h"
#include "worker_encode.h"

/* One statement of a client: judged, its tables resolved, its result streamed in the job's format.
 */
bool run_query(struct duck *duck, struct channel *channel, const struct worker_job *job,
               struct encode_outcome *ret_outcome, struct err *err) MUST_CHECK;

#ifdef EIDER_TEST_LAYERS
/* The test build, without the guard: runs whatever the text says, answers the values as text. */
bool run_unjudged(struct duck *duck, struct channel *channel, const struct worker_job *job,
                  uint64_t *ret_rows, struct err *err) MUST_CHECK;
#endif

/* Canonical lines from job://in to Parquet in job://out. A value that does not fit its column is
 * ERR_INVALID naming row and column, or goes to the column `rest` when its own is loose. */
bool run_write(struct duck *duck, const struct worker_job *job, uint64_t *ret_rows,
               struct err *err) MUST_CHECK;

/* A body's rows as lines of NDJSON (worker_exact.h), after its columns. Names that are empty or
 * repeated (without case) are ERR_INVALID, and so is everything that a reader makes no sense of. */
bool run_read(struct duck *duck, struct channel *channel, const struct worker_job *job,
              int input_fd, struct encode_outcome *ret_outcome, struct err *err) MUST_CHECK;

/* Makes a view for each table that the server answered: the payload of a TABLES frame, without its
 * id. */
bool tables_create(struct duck *duck, struct channel *channel, struct str tables,
                   struct err *err) MUST_CHECK;
