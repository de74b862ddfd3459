/* worker_json.h - result chunks become the JSON of the snapshot contract, or its rows as lines:
 * {"columns":["a","b"],"rows":[{"a":1,"b":"x"}],"row_count":1}
 * Promise   values as contracts/snapshot-query.md section 4 has them, by the same rule at any
 *           depth. NDJSON's lines are the objects in `rows`, byte for byte.
 *           Exact lines are of other values: worker_exact.h. Their result has only types that
 *           shim_line_type() answers.
 * Owner     the caller; json_destroy accepts NULL.   Threads  none shared. */
#pragma once

#include "worker_encode.h"
#include "worker_sink.h"

/* Reads types from the result; JSON's head goes to the sink. */
void *json_create(duckdb_result *result, const struct str *names, struct sink *sink);
void *ndjson_create(duckdb_result *result, const struct str *names, struct sink *sink);
void *exact_create(duckdb_result *result, const struct str *names, struct sink *sink);
void json_destroy(void *state);

/* Appends the first rows of the chunk. */
bool json_put(void *state, duckdb_data_chunk chunk, uint64_t rows, struct sink *sink,
              struct err *err) MUST_CHECK;

/* "truncated" is part of the document when the result was limited. */
void json_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink);
void ndjson_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink);
