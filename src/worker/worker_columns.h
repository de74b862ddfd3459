/* worker_columns.h - what all formats share about a result: the names of its columns, and its
 * chunks brought into the one shape that the encoders read.
 * Promise   columns_names() keeps SQL order and tells repeated names apart: a, a_1, a_2, ...;
 *           columns_flatten() leaves no dictionary or constant at any depth.
 * Owner     the caller; columns_names_free accepts NULL.   Threads  none shared. */
#pragma once

#include "str.h"

#include <duckdb.h>

/* fold: also those apart that differ in case only. */
struct str *columns_names(duckdb_result *result, bool fold);
void columns_names_free(struct str *names, size_t count);

/* False when the engine has no memory for it. */
bool columns_flatten(duckdb_data_chunk chunk) MUST_CHECK;

/* Whether the row of a flat vector holds a value; validity is NULL when all do. */
static inline bool column_has(const uint64_t *validity, uint64_t row)
{
    return validity == NULL || (validity[row / 64] >> (row % 64) & 1) != 0;
}
