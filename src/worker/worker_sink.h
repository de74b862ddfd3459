/* worker_sink.h - where encoded bytes go: gathered into RESULT frames of a good size.
 * Promise   sink_offer() sends what has gathered when it is much or a tenth of a second old, so
 *           that a slow statement's rows do not wait for the next ones. A sink without a channel
 *           only gathers.
 * Owner     whoever called sink_init.   Threads  one at a time.   Limits  one row, 256 MiB. */
#pragma once

#include "worker_channel.h"

enum {
    SINK_FRAME_SIZE = 256 << 10,
    SINK_END_SIZE = 16 << 10,
    SINK_SIZE_MAX = 256 << 20,
    SINK_WAIT_MS = 100
};

struct sink {
    struct channel *channel;
    struct buf out;
    int64_t sent_ms;
};

void sink_init(struct sink *sink, struct channel *channel);
void sink_finish(struct sink *sink);
void sink_flush(struct sink *sink);
/* The last bytes: they go with the frame that follows them at once, if they are few. */
void sink_end(struct sink *sink);
void sink_offer(struct sink *sink);

static inline bool sink_is_full(const struct sink *sink)
{
    return sink->out.len >= SINK_FRAME_SIZE;
}

/* A files_writer (worker_files.h) whose context is a sink: false when a row is beyond the limit. */
bool sink_write(void *sink, const void *bytes, uint64_t size);
/* Sends these bytes behind what has gathered, without a copy of them. */
void sink_pass(struct sink *sink, struct str bytes);
