#include "http_private.h"

#include "mem.h"

#include <zlib.h>

/* ---- percent-encoding ---- */

static int hex_digit(char byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    char lower = (char)(byte | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool http_decode(struct str text, bool plus_is_space, struct buf *into)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.ptr[i];
        if (byte == '%') {
            int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_digit(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            byte = (char)(high * 16 + low);
            i += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        buf_append_byte(into, byte);
    }
    return !buf_failed(into);
}

static bool name_matches(struct str encoded, const char *name)
{
    struct buf decoded;
    buf_init(&decoded, encoded.len + 1);
    bool matches =
        http_decode(encoded, true, &decoded) && str_equal(buf_str(&decoded), str_of(name));
    buf_finish(&decoded);
    return matches;
}

bool http_query_parameter(const struct http_exchange *exchange, const char *name, struct buf *into)
{
    struct str rest = exchange->request.query;
    struct str part;
    struct str value = {0};
    bool found = false;
    while (str_next_part(&rest, '&', &part)) {
        size_t equals = str_find_byte(part, '=');
        if (name_matches(str_first(part, equals), name)) {
            value = equals < part.len ? str_from(part, equals + 1) : STR("");
            found = true;
        }
    }
    return found && http_decode(value, true, into);
}

/* ---- content encodings ---- */

#define WINDOW_ZLIB 15
#define WINDOW_GZIP (15 + 16)
#define WINDOW_RAW (-15)
#define INFLATE_STEP_BYTES ((size_t)64 << 10)
#define INFLATE_INPUT_BYTES_MAX ((size_t)1 << 30)

static bool broken(struct err *err)
{
    return err_set(err, ERR_INVALID, "the compressed request body is broken");
}

/* One call of inflate into the free space of `into`, which is let grow to one byte over the limit:
 * that byte tells a body of just the right size from a larger one. */
static int inflate_step(z_stream *stream, struct buf *into)
{
    size_t left = into->size_max - into->len;
    size_t step = left < INFLATE_STEP_BYTES ? left : INFLATE_STEP_BYTES;
    if (!buf_reserve(into, step)) {
        return Z_MEM_ERROR;
    }
    stream->next_out = (Bytef *)(into->ptr + into->len);
    stream->avail_out = (uInt)step;
    int result = inflate(stream, Z_NO_FLUSH);
    into->len += step - stream->avail_out;
    into->ptr[into->len] = '\0';
    return result;
}

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
    if (*ret_more && (!members || inflateReset(stream) != Z_OK)) {
        return err_set(err, ERR_INVALID, "bytes follow the compressed request body");
    }
    return true;
}

static bool inflate_stream(z_stream *stream, struct str input, bool members, struct buf *into,
                           struct err *err)
{
    for (bool more = true; more;) {
        feed(stream, &input);
        int result = inflate_step(stream, into);
        if (into->len == into->size_max) {
            return err_set(err, ERR_TOO_LARGE, "the decoded request body is larger than %zu bytes",
                           into->size_max - 1);
        }
        if (result == Z_MEM_ERROR) {
            return err_set(err, ERR_UNAVAILABLE, "the server is out of memory");
        }
        if (result == Z_STREAM_END) {
            if (!at_end(stream, input, members, &more, err)) {
                return false;
            }
        } else if (result != Z_OK) {
            return broken(err); /* Z_BUF_ERROR too: the input ended early */
        }
    }
    return true;
}

static bool inflate_body(struct str input, int window, struct buf *into, struct err *err)
{
    z_stream stream = {0};
    if (inflateInit2(&stream, window) != Z_OK) {
        return err_set(err, ERR_UNAVAILABLE, "the server is out of memory");
    }
    bool good = inflate_stream(&stream, input, window == WINDOW_GZIP, into, err);
    (void)inflateEnd(&stream);
    return good;
}

/* `deflate` means the zlib format, but some clients send the bare stream. */
static bool inflate_deflate(struct str input, struct buf *into, struct err *err)
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

static bool find_encoding(const struct http_exchange *exchange, struct str *ret_encoding,
                          struct err *err)
{
    const struct http_request *request = &exchange->request;
    *ret_encoding = STR("identity");
    size_t count = 0;
    for (size_t i = 0; i < request->fields_count; i++) {
        if (str_equal_nocase(request->fields[i].name, STR("Content-Encoding"))) {
            *ret_encoding = str_trim(request->fields[i].value);
            count++;
        }
    }
    if (count > 1) {
        return err_set(err, ERR_MEDIA_TYPE, "more than one content encoding is not supported");
    }
    return true;
}

bool http_decode_body(struct http_exchange *exchange, uint64_t decoded_bytes_max, struct err *err)
{
    struct str encoding;
    struct str input = buf_str(&exchange->body);
    size_t most = decoded_bytes_max < SIZE_MAX / 8 ? decoded_bytes_max : SIZE_MAX / 8;
    if (!find_encoding(exchange, &encoding, err)) {
        return false;
    }
    bool gzip =
        str_equal_nocase(encoding, STR("gzip")) || str_equal_nocase(encoding, STR("x-gzip"));
    bool deflated = str_equal_nocase(encoding, STR("deflate"));
    bool identity = encoding.len == 0 || str_equal_nocase(encoding, STR("identity"));
    if (!gzip && !deflated && !identity) {
        return err_set(err, ERR_MEDIA_TYPE, "the content encoding '%.*s' is not supported",
                       STR_ARG(str_first(encoding, 64)));
    }
    if (identity || input.len == 0) {
        return input.len <= most ||
               err_set(err, ERR_TOO_LARGE, "the request body is larger than %zu bytes", most);
    }
    struct buf decoded;
    buf_init(&decoded, most + 1);
    bool good = gzip ? inflate_body(input, WINDOW_GZIP, &decoded, err)
                     : inflate_deflate(input, &decoded, err);
    if (!good) {
        buf_finish(&decoded);
        return false;
    }
    buf_finish(&exchange->body);
    exchange->body = decoded;
    return true;
}
