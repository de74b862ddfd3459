/* The content encodings of request bodies, unpacked piece by piece: one decoder for bodies that are
 * held and for bodies that are streamed. */
#include "http_private.h"

#include "mem.h"

#include <brotli/decode.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define WINDOW_ZLIB 15
#define WINDOW_GZIP (15 + 16)
#define WINDOW_RAW (-15)
#define INFLATE_BYTES_MAX ((size_t)1 << 30)

/* What a decoder has to support at least (RFC 8878), and at most for this encoding (RFC 9659):
 * 8 MiB. */
#define ZSTD_WINDOW_LOG_MAX 23

/* Where the next unpacked bytes go. */
struct room {
    char *ptr;
    size_t left;
};

struct coding {
    const char *name;
    bool members; /* after the end of one compressed stream another one may follow */
    /* Made with the first bytes, because `deflate` has to see one. */
    bool (*start)(struct http_unpacker *unpacker, struct str input, struct err *err);
    /* Moves on in both; `at_end` when a compressed stream is complete. */
    bool (*run)(struct http_unpacker *unpacker, struct str *input, struct room *room,
                struct err *err);
    bool (*restart)(struct http_unpacker *unpacker);
    void (*finish)(struct http_unpacker *unpacker);
};

struct http_unpacker {
    const struct coding *coding;
    bool started;
    bool at_end;  /* of a compressed stream; the next byte, if any, begins another */
    bool pending; /* the last room was filled: there may be more without more input */
    z_stream zlib;
    ZSTD_DStream *zstd;
    BrotliDecoderState *brotli;
};

/* ---- what the encodings share ---- */

static bool broken(struct err *err)
{
    return err_set(err, ERR_INVALID, "the compressed request body is broken");
}

static bool no_memory(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "the server is out of memory");
}

static void room_use(struct room *room, size_t size)
{
    assert(size <= room->left);
    room->ptr += size;
    room->left -= size;
}

/* ---- gzip and deflate ---- */

static bool inflate_start(struct http_unpacker *unpacker, int window, struct err *err)
{
    return inflateInit2(&unpacker->zlib, window) == Z_OK || no_memory(err);
}

static bool start_gzip(struct http_unpacker *unpacker, struct str input, struct err *err)
{
    (void)input;
    return inflate_start(unpacker, WINDOW_GZIP, err);
}

/* `deflate` means the zlib format, but some clients send the bare stream. The low half of zlib's
 * first byte is 8; a bare stream that began so would be a stored block with a bit set that every
 * encoder leaves clear. */
static bool start_deflate(struct http_unpacker *unpacker, struct str input, struct err *err)
{
    bool is_zlib = ((unsigned char)input.ptr[0] & 0x0f) == Z_DEFLATED;
    return inflate_start(unpacker, is_zlib ? WINDOW_ZLIB : WINDOW_RAW, err);
}

static bool run_inflate(struct http_unpacker *unpacker, struct str *input, struct room *room,
                        struct err *err)
{
    z_stream *zlib = &unpacker->zlib;
    size_t in = input->len < INFLATE_BYTES_MAX ? input->len : INFLATE_BYTES_MAX;
    size_t out = room->left < INFLATE_BYTES_MAX ? room->left : INFLATE_BYTES_MAX;
    zlib->next_in = (Bytef *)(uintptr_t)input->ptr;
    zlib->avail_in = (uInt)in;
    zlib->next_out = (Bytef *)room->ptr;
    zlib->avail_out = (uInt)out;
    int result = inflate(zlib, Z_NO_FLUSH);
    *input = str_from(*input, in - zlib->avail_in);
    room_use(room, out - zlib->avail_out);
    unpacker->at_end = result == Z_STREAM_END;
    if (result == Z_MEM_ERROR) {
        return no_memory(err);
    }
    /* Z_BUF_ERROR: nothing to do without more input. */
    return result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR || broken(err);
}

static bool restart_inflate(struct http_unpacker *unpacker)
{
    return inflateReset(&unpacker->zlib) == Z_OK;
}

static void finish_inflate(struct http_unpacker *unpacker)
{
    (void)inflateEnd(&unpacker->zlib);
}

/* ---- zstd ---- */

static bool zstd_failed(size_t result, struct err *err)
{
    ZSTD_ErrorCode code = ZSTD_getErrorCode(result);
    if (code == ZSTD_error_memory_allocation) {
        return no_memory(err);
    }
    if (code == ZSTD_error_frameParameter_windowTooLarge) {
        return err_set(err, ERR_TOO_LARGE,
                       "the compressed request body needs a window of more than 8 MiB");
    }
    return broken(err);
}

static bool start_zstd(struct http_unpacker *unpacker, struct str input, struct err *err)
{
    (void)input;
    unpacker->zstd = ZSTD_createDStream();
    bool good = unpacker->zstd != NULL &&
                !ZSTD_isError(ZSTD_DCtx_setParameter(unpacker->zstd, ZSTD_d_windowLogMax,
                                                     ZSTD_WINDOW_LOG_MAX));
    return good || no_memory(err);
}

static bool run_zstd(struct http_unpacker *unpacker, struct str *input, struct room *room,
                     struct err *err)
{
    ZSTD_inBuffer in = {.src = input->ptr, .size = input->len};
    ZSTD_outBuffer out = {.dst = room->ptr, .size = room->left};
    size_t expected = ZSTD_decompressStream(unpacker->zstd, &out, &in);
    if (ZSTD_isError(expected)) {
        return zstd_failed(expected, err);
    }
    *input = str_from(*input, in.pos);
    room_use(room, out.pos);
    unpacker->at_end = expected == 0;
    return true;
}

/* The next frame is begun without being told. */
static bool restart_zstd(struct http_unpacker *unpacker)
{
    (void)unpacker;
    return true;
}

static void finish_zstd(struct http_unpacker *unpacker)
{
    (void)ZSTD_freeDStream(unpacker->zstd);
}

/* ---- br ---- */

/* Windows of more than 16 MiB are an extension that stays switched off. */
static bool start_br(struct http_unpacker *unpacker, struct str input, struct err *err)
{
    (void)input;
    unpacker->brotli = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    return unpacker->brotli != NULL || no_memory(err);
}

static bool run_br(struct http_unpacker *unpacker, struct str *input, struct room *room,
                   struct err *err)
{
    const uint8_t *in = (const uint8_t *)input->ptr;
    size_t in_left = input->len;
    uint8_t *out = (uint8_t *)room->ptr;
    size_t out_left = room->left;
    BrotliDecoderResult result =
        BrotliDecoderDecompressStream(unpacker->brotli, &in_left, &in, &out_left, &out, NULL);
    *input = str_from(*input, input->len - in_left);
    room_use(room, room->left - out_left);
    unpacker->at_end = result == BROTLI_DECODER_RESULT_SUCCESS;
    return result != BROTLI_DECODER_RESULT_ERROR || broken(err);
}

static void finish_br(struct http_unpacker *unpacker)
{
    BrotliDecoderDestroyInstance(unpacker->brotli);
}

/* ---- the table ---- */

static const struct coding codings[] = {
    {"gzip", true, start_gzip, run_inflate, restart_inflate, finish_inflate},
    {"x-gzip", true, start_gzip, run_inflate, restart_inflate, finish_inflate},
    {"deflate", false, start_deflate, run_inflate, NULL, finish_inflate},
    {"br", false, start_br, run_br, NULL, finish_br},
    {"zstd", true, start_zstd, run_zstd, restart_zstd, finish_zstd},
};

struct http_unpacker *http_unpacker_create(struct str encoding)
{
    for (size_t i = 0; i < COUNT_OF(codings); i++) {
        if (str_equal_nocase(encoding, str_of(codings[i].name))) {
            struct http_unpacker *unpacker = mem_alloc(sizeof(*unpacker));
            unpacker->coding = &codings[i];
            return unpacker;
        }
    }
    return NULL;
}

void http_unpacker_destroy(struct http_unpacker *unpacker)
{
    if (unpacker != NULL && unpacker->started) {
        unpacker->coding->finish(unpacker);
    }
    mem_free(unpacker);
}

/* ---- a piece ---- */

static bool begin_stream(struct http_unpacker *unpacker, struct str input, struct err *err)
{
    const struct coding *coding = unpacker->coding;
    if (!unpacker->started) {
        unpacker->started = true; /* `finish` accepts what a failed start leaves */
        return coding->start(unpacker, input, err);
    }
    if (!unpacker->at_end) {
        return true;
    }
    unpacker->at_end = false;
    return (coding->members && coding->restart(unpacker)) ||
           err_set(err, ERR_INVALID, "bytes follow the compressed request body");
}

bool http_unpack(struct http_unpacker *unpacker, struct str *input, bool last, char *into,
                 size_t size_max, size_t *ret_size, struct err *err)
{
    assert(size_max > 0);
    struct room room = {.ptr = into, .left = size_max};
    bool pending = unpacker->pending && !unpacker->at_end;
    while (room.left > 0 && (input->len > 0 || pending)) {
        size_t in_before = input->len;
        size_t out_before = room.left;
        if (input->len > 0 && !begin_stream(unpacker, *input, err)) {
            return false;
        }
        if (!unpacker->coding->run(unpacker, input, &room, err)) {
            return false;
        }
        if (input->len == in_before && room.left == out_before && !unpacker->at_end && !pending) {
            return broken(err); /* it moves neither way */
        }
        pending = false;
    }
    unpacker->pending = room.left == 0;
    *ret_size = size_max - room.left;
    bool complete = unpacker->at_end || !unpacker->started;
    return complete || unpacker->pending || input->len > 0 || !last || broken(err);
}

bool http_unpack_pending(const struct http_unpacker *unpacker)
{
    return unpacker->pending;
}
