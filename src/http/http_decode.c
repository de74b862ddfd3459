#include "http_private.h"

#define UNPACK_STEP_BYTES ((size_t)64 << 10)

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

/* A body packed twice saves nothing and multiplies what one byte can unfold to. */
static bool refuse_several(struct err *err)
{
    return err_set(err, ERR_MEDIA_TYPE, "more than one content encoding at once is not supported");
}

static bool find_encoding(const struct http_request *request, struct str *ret_encoding,
                          struct err *err)
{
    *ret_encoding = STR("identity");
    size_t count = 0;
    for (size_t i = 0; i < request->fields_count; i++) {
        if (str_equal_nocase(request->fields[i].name, STR("Content-Encoding"))) {
            *ret_encoding = str_trim(request->fields[i].value);
            count++;
        }
    }
    return count <= 1 || refuse_several(err);
}

static bool refuse_encoding(struct str encoding, struct err *err)
{
    if (str_find_byte(encoding, ',') < encoding.len) {
        return refuse_several(err);
    }
    return err_set(err, ERR_MEDIA_TYPE,
                   "the content encoding '%.*s' is not supported; gzip, deflate, br and zstd are",
                   STR_ARG(str_first(encoding, 64)));
}

bool http_open_unpacker(const struct http_request *request, struct http_unpacker **ret_unpacker,
                        struct err *err)
{
    struct str encoding;
    *ret_unpacker = NULL;
    if (!find_encoding(request, &encoding, err)) {
        return false;
    }
    if (encoding.len == 0 || str_equal_nocase(encoding, STR("identity"))) {
        return true;
    }
    *ret_unpacker = http_unpacker_create(encoding);
    return *ret_unpacker != NULL || refuse_encoding(encoding, err);
}

bool http_body_too_large(uint64_t bytes_max, struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the request body is larger than %llu bytes",
                   (unsigned long long)bytes_max);
}

bool http_decoded_too_large(uint64_t bytes_max, struct err *err)
{
    return err_set(err, ERR_TOO_LARGE, "the decoded request body is larger than %llu bytes",
                   (unsigned long long)bytes_max);
}

/* `into` may grow to one byte over the limit: that byte tells a body of just the right size from a
 * larger one. */
static bool unpack_body(struct http_unpacker *unpacker, struct str input, struct buf *into,
                        struct err *err)
{
    size_t size = 1;
    while (size > 0) {
        size_t left = into->size_max - into->len;
        size_t step = left < UNPACK_STEP_BYTES ? left : UNPACK_STEP_BYTES;
        if (!buf_reserve(into, step)) {
            return err_set(err, ERR_UNAVAILABLE, "the server is out of memory");
        }
        if (!http_unpack(unpacker, &input, true, into->ptr + into->len, step, &size, err)) {
            return false;
        }
        buf_wrote(into, into->ptr + into->len + size);
        if (into->len == into->size_max) {
            return http_decoded_too_large(into->size_max - 1, err);
        }
    }
    return true;
}

bool http_decode_body(struct http_exchange *exchange, uint64_t decoded_bytes_max, struct err *err)
{
    struct str input = buf_str(&exchange->body);
    size_t most = decoded_bytes_max < SIZE_MAX / 8 ? decoded_bytes_max : SIZE_MAX / 8;
    struct http_unpacker *unpacker = NULL;
    if (!http_open_unpacker(&exchange->request, &unpacker, err)) {
        return false;
    }
    if (unpacker == NULL) {
        return input.len <= most || http_body_too_large(most, err);
    }
    struct buf decoded;
    buf_init(&decoded, most + 1);
    bool good = unpack_body(unpacker, input, &decoded, err);
    http_unpacker_destroy(unpacker);
    if (!good) {
        buf_finish(&decoded);
        return false;
    }
    buf_finish(&exchange->body);
    exchange->body = decoded;
    return true;
}
