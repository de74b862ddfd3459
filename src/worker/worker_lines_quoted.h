/* worker_lines_quoted.h - values whose type is not that of the line: they stand there as texts, for
 * a cast to read. The plainest are read here, without one; for worker_lines*.c only.
 * Promise   what is read is what the cast makes of it (worker_lines.h); NULL for whatever is not of
 *           the plainest shape.
 * Threads   any. */
#pragma once

#include "worker_job.h"

#include <duckdb.h>

/* DUCKDB_TYPE_INVALID: the column's text is left to a cast, or it needs none. */
duckdb_type lines_quoted_type(const struct worker_column *column);
/* One value of such a type, from its opening quote on, into the `row` of a vector; where it ends.
 * `end` is behind the last byte of the lines. */
const char *lines_read_quoted(duckdb_type type, const char *at, const char *end, void *values,
                              uint64_t row);
