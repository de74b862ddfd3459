/* worker_csv.h - result chunks become CSV by RFC 4180: CRLF, a header line, quotes where needed.
 * Promise   a value is the engine's own text of it (a cast to VARCHAR); NULL is an empty field, an
 *           empty text is "". Names as in JSON.
 * Owner     the caller; csv_destroy accepts NULL.   Threads  none shared. */
#pragma once

#include "worker_encode.h"
#include "worker_sink.h"

void *csv_create(duckdb_result *result, const struct str *names, struct sink *sink);
bool csv_put(void *state, duckdb_data_chunk chunk, uint64_t rows, struct sink *sink,
             struct err *err) MUST_CHECK;
void csv_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink);
void csv_destroy(void *state);
