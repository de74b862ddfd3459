/* worker_arrow.h - result chunks become an Arrow IPC stream.
 * Promise   types as docs/query.md lists them; a value that its Arrow type cannot hold is an error
 *           that names the column. A batch has up to 16384 rows, the first ones fewer, so that they
 *           leave early.
 * Owner     the caller; arrow_destroy accepts NULL.   Threads  none shared. */
#pragma once

#include "worker_encode.h"
#include "worker_sink.h"

void *arrow_create(duckdb_result *result, const struct str *names, struct sink *sink);
bool arrow_put(void *state, duckdb_data_chunk chunk, uint64_t rows, struct sink *sink,
               struct err *err) MUST_CHECK;
void arrow_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink);
void arrow_destroy(void *state);
