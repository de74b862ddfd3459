/* The content encodings of request bodies. Each unpacker appends to `into` and stops at its
 * ceiling, whatever a few bytes pretend to unfold to. */
#include "http_private.h"

#include <brotli/decode.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define WINDOW_ZLIB 15
#define WINDOW_GZIP (15 + 16)
#define WINDOW_RAW (-15)
#define STEP_BYTES ((size_t)64 << 10)
#define INFLATE_INPUT_BYTES_MAX ((size_t)1 << 30)

/* What a decoder has to support at least (RFC 8878), and at most for this encoding (RFC 9659):
 * 8 MiB. */
#define ZSTD_WINDOW_LOG_MAX 23

/* ---- what the encodings share ---- */

static bool broken(struct err *err)
{
    return err_set(err, ERR_INVALID, "the compressed request body is broken");
}

static bool no_memory(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "the server is out of memory");
}

static bool bytes_follow(struct err *err)
{
    return err_set(err, ERR_INVALID, "bytes follow the compressed request body");
}

/* Room for the next step, 0 when there is no memory. `into` may grow to one byte over the limit:
 * that byte tells a body of just the right size from a larger one. */
static size_t make_room(struct buf *into)
{
    size_t left = into->size_max - into->len;
    size_t step = left < STEP_BYTES ? left : STEP_BYTES;
    return buf_reserve(into, step) ? step : 0;
}

static bool grown(struct buf *into, size_t size, struct err *err)
{
    into->len += size;
    into->ptr[into->len] = '\0';
    return into->len < into->size_max ||
           err_set(err, ERR_TOO_LARGE, "the decoded request body is larger than %zu bytes",
                   into->size_max - 1);
}

/* ---- gzip and deflate ---- */

static void feed(z_stream *stream, struct str *input)
{
    if (stream->avail_in == 0 && input->len > 0) {
        size_t size = input->len < INFLATE_INPUT_BYTES_MAX ? input->len : INFLATE_INPUT_BYTES_MAX;
        stream->next_in = (Bytef *)(uintptr_t)input->ptr;
        stream->avail_in = (uInt)size;
        *input = str_from(*input, size);
    }
}

/* After the end of one gzip member only another one may follow. */
static bool at_end(z_stream *stream, struct str input, bool members, bool *ret_more,
                   struct err *err)
{
    *ret_more = stream->avail_in > 0 || input.len > 0;
    return !*ret_more || (members && inflateReset(stream) == Z_OK) || bytes_follow(err);
}

static bool inflate_stream(z_stream *stream, struct str input, bool members, struct buf *into,
                           struct err *err)
{
    for (bool more = true; more;) {
        size_t room = make_room(into);
        if (room == 0) {
            return no_memory(err);
        }
        feed(stream, &input);
        stream->next_out = (Bytef *)(into->ptr + into->len);
        stream->avail_out = (uInt)room;
        int result = inflate(stream, Z_NO_FLUSH);
        if (!grown(into, room - stream->avail_out, err)) {
            return false;
        }
        if (result == Z_MEM_ERROR) {
            return no_memory(err);
        }
        if (result != Z_OK && result != Z_STREAM_END) {
            return broken(err); /* Z_BUF_ERROR too: the input ended early */
        }
        if (result == Z_STREAM_END && !at_end(stream, input, members, &more, err)) {
            return false;
        }
    }
    return true;
}

static bool inflate_body(struct str input, int window, struct buf *into, struct err *err)
{
    z_stream stream = {0};
    if (inflateInit2(&stream, window) != Z_OK) {
        return no_memory(err);
    }
    bool good = inflate_stream(&stream, input, window == WINDOW_GZIP, into, err);
    (void)inflateEnd(&stream);
    return good;
}

static bool unpack_gzip(struct str input, struct buf *into, struct err *err)
{
    return inflate_body(input, WINDOW_GZIP, into, err);
}

/* `deflate` means the zlib format, but some clients send the bare stream. */
static bool unpack_deflate(struct str input, struct buf *into, struct err *err)
{
    unsigned char first = (unsigned char)input.ptr[0];
    unsigned char second = input.len > 1 ? (unsigned char)input.ptr[1] : 0;
    bool looks_like_zlib = (first & 0x0f) == Z_DEFLATED && (first * 256 + second) % 31 == 0;
    if (looks_like_zlib) {
        if (inflate_body(input, WINDOW_ZLIB, into, err)) {
            return true;
        }
        if (err->kind != ERR_INVALID) {
            return false;
        }
        buf_reset(into);
    }
    return inflate_body(input, WINDOW_RAW, into, err);
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

/* Several frames may follow each other, as gzip members may. */
static bool zstd_stream(ZSTD_DStream *stream, struct str input, struct buf *into, struct err *err)
{
    ZSTD_inBuffer in = {.src = input.ptr, .size = input.len};
    size_t expected = 1;
    while (in.pos < in.size || expected != 0) {
        size_t room = make_room(into);
        if (room == 0) {
            return no_memory(err);
        }
        ZSTD_outBuffer out = {.dst = into->ptr + into->len, .size = room};
        size_t before = in.pos;
        expected = ZSTD_decompressStream(stream, &out, &in);
        if (ZSTD_isError(expected)) {
            return zstd_failed(expected, err);
        }
        if (!grown(into, out.pos, err)) {
            return false;
        }
        if (expected != 0 && in.pos == before && out.pos == 0) {
            return broken(err); /* the input ended early */
        }
    }
    return true;
}

static bool unpack_zstd(struct str input, struct buf *into, struct err *err)
{
    ZSTD_DStream *stream = ZSTD_createDStream();
    if (stream == NULL) {
        return no_memory(err);
    }
    bool good =
        !ZSTD_isError(ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)) &&
        zstd_stream(stream, input, into, err);
    (void)ZSTD_freeDStream(stream);
    return good;
}

/* ---- br ---- */

/* Windows of more than 16 MiB are an extension that stays switched off. */
static bool brotli_stream(BrotliDecoderState *state, struct str input, struct buf *into,
                          struct err *err)
{
    const uint8_t *in = (const uint8_t *)input.ptr;
    size_t in_left = input.len;
    for (;;) {
        size_t room = make_room(into);
        if (room == 0) {
            return no_memory(err);
        }
        uint8_t *out = (uint8_t *)(into->ptr + into->len);
        size_t out_left = room;
        BrotliDecoderResult result =
            BrotliDecoderDecompressStream(state, &in_left, &in, &out_left, &out, NULL);
        if (!grown(into, room - out_left, err)) {
            return false;
        }
        if (result == BROTLI_DECODER_RESULT_SUCCESS) {
            return in_left == 0 || bytes_follow(err);
        }
        if (result != BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT) {
            return broken(err);
        }
    }
}

static bool unpack_br(struct str input, struct buf *into, struct err *err)
{
    BrotliDecoderState *state = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    if (state == NULL) {
        return no_memory(err);
    }
    bool good = brotli_stream(state, input, into, err);
    BrotliDecoderDestroyInstance(state);
    return good;
}

/* ---- the table ---- */

http_unpack_fn *http_find_unpacker(struct str encoding)
{
    static const struct {
        const char *name;
        http_unpack_fn *unpack;
    } unpackers[] = {
        {"gzip", unpack_gzip}, {"x-gzip", unpack_gzip}, {"deflate", unpack_deflate},
        {"br", unpack_br},     {"zstd", unpack_zstd},
    };
    for (size_t i = 0; i < COUNT_OF(unpackers); i++) {
        if (str_equal_nocase(encoding, str_of(unpackers[i].name))) {
            return unpackers[i].unpack;
        }
    }
    return NULL;
}
