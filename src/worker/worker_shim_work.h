/* worker_shim_work.h - a statement is worked on without burning what it waits for.
 * Promise   as worker_shim.h: nothing throws through here. The engine's own way asks for work
 *           without a pause, and counts how far the statement is each time: while the other threads
 *           have all that there is, as when one of them writes a file, half of the processor time
 *           of a COPY went that way.
 * Threads   the connection's. */
#pragma once

#include <duckdb.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As shim_start_statement, of a statement whose result is wanted whole. */
bool shim_start_whole(duckdb_connection connection, duckdb_extracted_statements statements,
                      uint64_t index, duckdb_pending_result *ret_pending,
                      duckdb_error_type *ret_type);

/* Works on a started statement until duckdb_execute_pending would not have to. On failure the
 * pending result has the text of it. */
bool shim_work(duckdb_pending_result pending, duckdb_error_type *ret_type);

/* duckdb_fetch_chunk, which works on the statement until there is a chunk. */
duckdb_data_chunk shim_fetch(duckdb_result *result);

#ifdef __cplusplus
}
#endif
