/* worker_json.h - result chunks become the JSON of the snapshot contract:
 * {"columns":["a","b"],"rows":[{"a":1,"b":"x"}],"row_count":1}
 * Promise   column names in SQL order, repeated ones told apart (a, a_1); values as
 *           contracts/snapshot-query.md section 4 has them, by the same rule at any depth.
 * Owner     the caller; json_encoder_destroy accepts NULL.   Threads  none shared. */
#pragma once

#include "buf.h"

#include <duckdb.h>

struct json_encoder;

/* Reads names and types from the result; appends the head of the document to `out`. */
struct json_encoder *json_encoder_create(duckdb_result *result, struct buf *out);
void json_encoder_destroy(struct json_encoder *encoder);

/* Appends all rows of the chunk, calling `flush` whenever `out` holds more than 64 KiB. */
void json_encode_chunk(struct json_encoder *encoder, duckdb_data_chunk chunk, struct buf *out,
                       void (*flush)(void *context, struct buf *out), void *context);

/* Appends the tail; returns the number of rows. */
uint64_t json_encode_end(struct json_encoder *encoder, struct buf *out);
