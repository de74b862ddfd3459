/* worker_arrow_unpack.h - the buffers of packed record batches.
 * Promise   any bytes end well; nothing is written beyond the room.
 * Owner     nothing is kept.   Threads  any. */
#pragma once

#include "str.h"

/* As Arrow numbers them. */
enum arrow_codec {
    ARROW_CODEC_NONE = -1,
    ARROW_CODEC_LZ4 = 0, /* LZ4 frames */
    ARROW_CODEC_ZSTD = 1
};

/* False unless `packed` unpacks to exactly `size` bytes, which are not 0. */
bool arrow_unpack(enum arrow_codec codec, struct str packed, char *room, size_t size);
