/* worker_parquet.h - a running result becomes one Parquet file, written by the engine itself.
 * Promise   a second connection copies from a function that hands out the result's chunks, so that
 *           no text of the client is part of that statement; what it writes leaves as it is
 *           written. One row group is in memory at a time, made of fewer rows when they are large.
 *           Types that Parquet does not keep (docs/query.md) are cast first.
 * Owner     the caller.   Threads  called by the worker's main thread; the engine's threads write.
 * Errors    as encode_result; a value that cannot be cast is ERR_INVALID. */
#pragma once

#include "worker_encode.h"

bool parquet_encode(struct duck *duck, struct channel *channel, duckdb_result *result,
                    const struct encode_options *options, struct encode_outcome *ret_outcome,
                    struct err *err) MUST_CHECK;
