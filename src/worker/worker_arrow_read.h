/* worker_arrow_read.h - an Arrow IPC stream from outside becomes lines of NDJSON.
 * Promise   any bytes end well: in lines as worker_exact.h has them, or in an error. Nothing that
 *           the stream says of itself is believed: every offset, size, index, text and number of
 *           rows is checked before it is used. Rows come in their order; of a stream that turns out
 *           to be damaged, the batches before have been handed out.
 *           Read are metadata V4 and V5, with the continuation marker and without, dictionaries
 *           (replaced and added to), batches packed with lz4 or zstd or not at all; all types
 *           but unions, run-end encodings and list views.
 * Not here  the engine: its own conversion checks nothing.
 * Owner     the caller.   Threads  one.
 * Errors    ERR_INVALID (the message names the column), ERR_TOO_LARGE (a batch, a dictionary or a
 *           row beyond its memory), and what the callbacks say.
 * Limits    below; a batch's own bytes are mapped, so the address space limits them; what it
 *           unpacks to, and all dictionaries, memory_max each. The lines can be many times
 *           the body: the callback has to count. */
#pragma once

#include "worker_job.h"

enum {
    ARROW_READ_FIELDS_MAX = 100000, /* columns and their parts */
    ARROW_READ_DEPTH_MAX = 64,
    ARROW_READ_DICTIONARIES_MAX = 10000,
    ARROW_READ_ROWS_MAX = 1 << 30 /* of one batch */
};

/* The body. `map` gives a part of it, until `unmap`. */
struct arrow_body {
    uint64_t size;
    bool (*map)(void *context, uint64_t offset, size_t size, struct str *ret_bytes,
                struct err *err);
    void (*unmap)(void *context, struct str bytes);
    void *context;
};

struct arrow_read_options {
    struct arrow_body body;
    size_t memory_max;
    /* Once, before the first line. */
    bool (*columns)(void *context, const struct worker_schema *schema, struct err *err);
    /* Whole lines have been appended; takes what it wants out of `lines`. */
    bool (*rows)(void *context, struct buf *lines, uint64_t rows, struct err *err);
    void *context;
};

bool arrow_read(const struct arrow_read_options *options, struct buf *lines,
                struct err *err) MUST_CHECK;
