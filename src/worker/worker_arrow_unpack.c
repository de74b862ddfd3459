#include "worker_arrow_unpack.h"

#include "macros.h"

#include <assert.h>
#include <lz4frame.h>
#include <zstd.h>

static bool unpack_zstd(struct str packed, char *room, size_t size)
{
    size_t got = ZSTD_decompress(room, size, packed.ptr, packed.len);
    return ZSTD_isError(got) == 0 && got == size;
}

static void free_context(LZ4F_dctx **context)
{
    (void)LZ4F_freeDecompressionContext(*context);
}

/* One frame, whose end is the end of what is packed. */
static bool unpack_lz4(struct str packed, char *room, size_t size)
{
    CLEANUP(free_context) LZ4F_dctx *context = NULL;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)) != 0) {
        return false;
    }
    size_t done = 0;
    size_t wanted = 1; /* a hint of how much is to come; 0 at the end of the frame */
    bool moves = true;
    while (wanted != 0 && moves) {
        size_t out = size - done;
        size_t in = packed.len;
        wanted = LZ4F_decompress(context, room + done, &out, packed.ptr, &in, NULL);
        if (LZ4F_isError(wanted) != 0) {
            return false;
        }
        done += out;
        packed = str_from(packed, in);
        moves = in > 0 || out > 0;
    }
    return wanted == 0 && done == size && packed.len == 0;
}

bool arrow_unpack(enum arrow_codec codec, struct str packed, char *room, size_t size)
{
    assert(codec != ARROW_CODEC_NONE);
    assert(size > 0);
    return codec == ARROW_CODEC_LZ4 ? unpack_lz4(packed, room, size)
                                    : unpack_zstd(packed, room, size);
}
