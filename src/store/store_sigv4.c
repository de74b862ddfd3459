#include "store_sigv4.h"

#include "digest.h"
#include "mem.h"
#include "store_internal.h"

enum {
    CANONICAL_BYTES_MAX = 64 * 1024
};

static void buf_wipe(struct buf *buf)
{
    if (buf->ptr != NULL) {
        mem_wipe(buf->ptr, buf->capacity);
    }
    buf_finish(buf);
}

static int compare_pairs(const struct sigv4_pair *a, const struct sigv4_pair *b)
{
    int order = str_compare(a->name, b->name);
    return order != 0 ? order : str_compare(a->value, b->value);
}

/* By insertion: a request has a dozen pairs at most. */
void sigv4_sort(struct sigv4_pair *pairs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct sigv4_pair moved = pairs[i];
        size_t at = i;
        for (; at > 0 && compare_pairs(&pairs[at - 1], &moved) > 0; at--) {
            pairs[at] = pairs[at - 1];
        }
        pairs[at] = moved;
    }
}

/* The names S3 has are letters and hyphens, which encoding leaves alone: sorted before is sorted
 * after. */
void sigv4_append_query(struct buf *buf, const struct sigv4_pair *pairs, size_t count)
{
    enum {
        PAIRS_MAX = 16
    };
    struct sigv4_pair sorted[PAIRS_MAX];
    assert(count <= PAIRS_MAX);
    for (size_t i = 0; i < count; i++) {
        sorted[i] = pairs[i];
    }
    sigv4_sort(sorted, count);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_append_byte(buf, '&');
        }
        store_append_encoded(buf, sorted[i].name, false);
        buf_append_byte(buf, '=');
        store_append_encoded(buf, sorted[i].value, false);
    }
}

static void append_header_names(struct buf *buf, const struct sigv4_request *request)
{
    for (size_t i = 0; i < request->headers_count; i++) {
        if (i > 0) {
            buf_append_byte(buf, ';');
        }
        buf_append(buf, request->headers[i].name);
    }
}

/* A value is signed without the spaces around it and with inner runs of spaces as one. */
static void append_header_value(struct buf *buf, struct str value)
{
    value = str_trim(value);
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] != ' ' || value.ptr[i - 1] != ' ') {
            buf_append_byte(buf, value.ptr[i]);
        }
    }
}

static struct sha256 digest_canonical_request(const struct sigv4_request *request)
{
    CLEANUP(buf_finish) struct buf text;
    buf_init(&text, CANONICAL_BYTES_MAX);
    buf_append_text(&text, request->method);
    buf_append_byte(&text, '\n');
    buf_append(&text, request->path);
    buf_append_byte(&text, '\n');
    buf_append(&text, request->query);
    buf_append_byte(&text, '\n');
    for (size_t i = 0; i < request->headers_count; i++) {
        buf_append(&text, request->headers[i].name);
        buf_append_byte(&text, ':');
        append_header_value(&text, request->headers[i].value);
        buf_append_byte(&text, '\n');
    }
    buf_append_byte(&text, '\n');
    append_header_names(&text, request);
    buf_append_byte(&text, '\n');
    buf_append_text(&text, request->payload_sha256_hex);
    return digest_sha256(buf_str(&text));
}

static struct str digest_str(const struct sha256 *digest)
{
    return str_make((const char *)digest->bytes, sizeof(digest->bytes));
}

static struct sha256 make_signing_key(const struct sigv4_keys *keys, struct str day)
{
    CLEANUP(buf_wipe) struct buf first;
    buf_init(&first, CANONICAL_BYTES_MAX);
    buf_append_text(&first, "AWS4");
    buf_append(&first, keys->secret_key);
    struct sha256 key = digest_hmac_sha256(buf_str(&first), day);
    key = digest_hmac_sha256(digest_str(&key), keys->region);
    key = digest_hmac_sha256(digest_str(&key), STR("s3"));
    return digest_hmac_sha256(digest_str(&key), STR("aws4_request"));
}

void sigv4_append_authorization(struct buf *buf, const struct sigv4_keys *keys,
                                const struct sigv4_request *request)
{
    struct str day = str_first(str_of(request->amz_date), 8);
    struct sha256 canonical = digest_canonical_request(request);
    char canonical_hex[DIGEST_SHA256_HEX_SIZE];
    digest_hex(canonical.bytes, sizeof(canonical.bytes), canonical_hex);

    CLEANUP(buf_finish) struct buf text;
    buf_init(&text, CANONICAL_BYTES_MAX);
    buf_append_format(&text, "AWS4-HMAC-SHA256\n%s\n%.*s/%.*s/s3/aws4_request\n%s",
                      request->amz_date, STR_ARG(day), STR_ARG(keys->region), canonical_hex);
    struct sha256 key = make_signing_key(keys, day);
    struct sha256 signature = digest_hmac_sha256(digest_str(&key), buf_str(&text));
    mem_wipe(&key, sizeof(key));
    char signature_hex[DIGEST_SHA256_HEX_SIZE];
    digest_hex(signature.bytes, sizeof(signature.bytes), signature_hex);

    buf_append_format(buf, "AWS4-HMAC-SHA256 Credential=%.*s/%.*s/%.*s/s3/aws4_request",
                      STR_ARG(keys->access_key), STR_ARG(day), STR_ARG(keys->region));
    buf_append_text(buf, ", SignedHeaders=");
    append_header_names(buf, request);
    buf_append_format(buf, ", Signature=%s", signature_hex);
}
