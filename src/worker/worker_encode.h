/* worker_encode.h - a result on its way out, in the form the client asked for.
 * Promise   encode_result() pulls the result chunk by chunk and sends it as RESULT frames as it
 *           comes: no more than a few chunks are in memory. Every format has the same columns in
 *           the same order, repeated names told apart (a, a_1), NULLs kept, and an empty result
 *           keeps its columns.
 * Not here  HTTP's names for the formats (api).
 * Owner     the caller.   Threads  the worker's main thread.
 * Errors    ERR_UNPROCESSABLE (a row beyond 256 MiB, or memory), and what the engine says.
 *
 *   JSON     {"columns":["a","b"],"rows":[{"a":1,"b":"x"}],"row_count":1}, values as
 *            contracts' section 5 has them; with rows_max also "truncated":true|false
 *   NDJSON   one object of the same values per line
 *   CSV      RFC 4180: CRLF, header line, the engine's own text of each value; NULL is an empty
 *            field, an empty text is ""
 *   ARROW    an IPC stream: schema, record batches, end of stream
 *   PARQUET  one file, ZSTD
 *   EXACT    an object per line, values as worker_exact.h has them: for rows on their way in */
#pragma once

#include "worker_channel.h"
#include "worker_duck.h"

struct encode_options {
    enum worker_format format;
    uint64_t rows_max; /* 0: all */
};

struct encode_outcome {
    uint64_t rows;
    bool truncated; /* rows_max was reached and there was more */
};

bool encode_result(struct duck *duck, struct channel *channel, duckdb_result *result,
                   const struct encode_options *options, struct encode_outcome *ret_outcome,
                   struct err *err) MUST_CHECK;
