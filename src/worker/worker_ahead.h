/* worker_ahead.h - which blocks of an object will be read next, as far as that can be told from the
 * reads so far. A reader that moves forward is run ahead of, twice as far as it has come and at
 * most 16 MiB; one that jumps about is not. Several may be under way in one object: each of the
 * engine's threads reads a row group of its own.
 * Owner     one struct ahead per object.   Threads  none shared. */
#pragma once

#include "macros.h"

enum {
    AHEAD_STREAMS_MAX = 4,
    AHEAD_WINDOW_MAX = 128, /* blocks */
    AHEAD_STEP_MIN = 8,     /* fewer are not worth a question, but at the end */
};

/* One reader that moves forward; all numbers are blocks. */
struct ahead_stream {
    uint64_t begin; /* where it was first seen */
    uint64_t next;  /* the end of what it has read */
    uint64_t asked; /* the end of what was asked for ahead of it */
    uint64_t read;  /* of those between begin and next */
    uint64_t used;  /* when it last read; 0 for none */
};

struct ahead {
    struct ahead_stream streams[AHEAD_STREAMS_MAX];
    uint64_t clock;
};

struct ahead_read {
    uint64_t first;
    uint64_t end;
    uint64_t fresh; /* of them, those that were not read before */
};

/* Notes one read. True when the blocks [*ret_first, *ret_first + *ret_count) should be fetched
 * ahead; never beyond blocks_count. */
bool ahead_note_read(struct ahead *ahead, uint64_t blocks_count, const struct ahead_read *read,
                     uint64_t *ret_first, uint64_t *ret_count);
