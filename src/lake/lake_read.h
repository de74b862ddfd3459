/* lake_read.h - rows that come as Parquet or as an Arrow IPC stream become NDJSON.
 * Promise   the body is looked at in a worker process, by our own statement. The sink is told the
 *           columns first, then gets whole lines of NDJSON in pieces cut anywhere: one object per
 *           row, in the body's order, under the columns' own names. Values read back from that text
 *           without a loss: worker/worker_exact.h. Nobody holds the whole.
 * Not here  what becomes of the lines (lake_writer); taking the body from the network.
 * Owner     the caller keeps `fd`, a file that nobody changes meanwhile.   Threads  any; blocks.
 * Errors    ERR_INVALID (the body is not what it is said to be, or holds what is not read:
 *           the message says so), what the sink says, and what engine_run gives.
 * Limits    Parquet: the engine's memory. Arrow: ARROW_READ_* in worker_arrow_read.h. */
#pragma once

#include "cancel.h"
#include "lake.h"
#include "lake_check.h"

enum lake_read_format {
    LAKE_READ_PARQUET, /* one file */
    LAKE_READ_ARROW    /* one IPC stream */
};

struct lake_read_sink {
    /* Once, before the lines: the names, and the types that new columns of a table get, out of
     * lake_schema.h's list; columns of nothing but nulls are left out. Valid during the call.
     * False, with err, ends the reading. */
    bool (*columns)(void *context, const struct lake_known_type *columns, size_t count,
                    struct err *err);
    bool (*lines)(void *context, struct str bytes, struct err *err);
    void *context;
};

bool lake_read_body(struct lake *lake, enum lake_read_format format, int fd, struct cancel *cancel,
                    const struct lake_read_sink *sink, struct err *err) MUST_CHECK;

/* The same without a lake. */
bool lake_read_body_with(struct engine *engine, enum lake_read_format format, int fd,
                         struct cancel *cancel, const struct lake_read_sink *sink,
                         struct err *err) MUST_CHECK;
