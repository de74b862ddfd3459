#include "digest.h"

#include "mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <unistd.h>

enum {
    HMAC_BLOCK_SIZE = 64 /* of SHA-256 */
};

/* EVP_sha256() is looked up among the library's providers each time it is used, which takes longer
 * than a short text: looked up once here, and kept. */
static const EVP_MD *sha256_method(void)
{
    static _Atomic(EVP_MD *) known;
    EVP_MD *method = atomic_load(&known);
    if (method != NULL) {
        return method;
    }
    EVP_MD *found = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (found != NULL && atomic_compare_exchange_strong(&known, &method, found)) {
        return found;
    }
    EVP_MD_free(found);
    return method != NULL ? method : EVP_sha256();
}

struct sha256 digest_sha256(struct str bytes)
{
    struct sha256 digest;
    int good = EVP_Digest(bytes.ptr, bytes.len, digest.bytes, NULL, sha256_method(), NULL);
    assert(good == 1);
    (void)good;
    return digest;
}

/* The library's own object, under a name of ours. */
static EVP_MD_CTX *context_of(struct digest_stream *stream)
{
    return (EVP_MD_CTX *)(void *)stream;
}

struct digest_stream *digest_stream_create(void)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int good = context != NULL ? EVP_DigestInit_ex(context, sha256_method(), NULL) : 0;
    assert(good == 1);
    (void)good;
    return (struct digest_stream *)(void *)context;
}

void digest_stream_add(struct digest_stream *stream, struct str bytes)
{
    (void)EVP_DigestUpdate(context_of(stream), bytes.ptr, bytes.len);
}

struct sha256 digest_stream_end(struct digest_stream *stream)
{
    struct sha256 digest;
    (void)EVP_DigestFinal_ex(context_of(stream), digest.bytes, NULL);
    return digest;
}

void digest_stream_destroy(struct digest_stream *stream)
{
    EVP_MD_CTX_free(context_of(stream));
}

static struct sha256 digest_padded(const unsigned char *key, unsigned char pad, struct str bytes)
{
    unsigned char block[HMAC_BLOCK_SIZE];
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = key[i] ^ pad;
    }
    struct digest_stream *stream = digest_stream_create();
    digest_stream_add(stream, str_make((const char *)block, sizeof(block)));
    digest_stream_add(stream, bytes);
    struct sha256 digest = digest_stream_end(stream);
    digest_stream_destroy(stream);
    mem_wipe(block, sizeof(block));
    return digest;
}

/* RFC 2104. The library's own looks two methods up by their names each time, and a signed request
 * takes five. */
struct sha256 digest_hmac_sha256(struct str key, struct str bytes)
{
    unsigned char padded[HMAC_BLOCK_SIZE] = {0};
    if (key.len > sizeof(padded)) {
        struct sha256 shorter = digest_sha256(key);
        memcpy(padded, shorter.bytes, sizeof(shorter.bytes));
        mem_wipe(&shorter, sizeof(shorter));
    } else if (key.len > 0) {
        memcpy(padded, key.ptr, key.len);
    }
    struct sha256 inner = digest_padded(padded, 0x36, bytes);
    struct str inner_bytes = str_make((const char *)inner.bytes, sizeof(inner.bytes));
    struct sha256 digest = digest_padded(padded, 0x5c, inner_bytes);
    mem_wipe(padded, sizeof(padded));
    return digest;
}

static void free_context(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
}

bool digest_sha256_fd(int fd, uint64_t size, struct sha256 *ret_digest, struct err *err)
{
    enum {
        CHUNK_SIZE = 1 << 18
    };
    CLEANUP(mem_free_text) char *chunk = mem_alloc(CHUNK_SIZE);
    CLEANUP(free_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, sha256_method(), NULL) != 1) {
        return err_set(err, ERR_INTERNAL, "SHA-256 is not available");
    }
    for (uint64_t offset = 0; offset < size;) {
        size_t wanted = size - offset < CHUNK_SIZE ? (size_t)(size - offset) : (size_t)CHUNK_SIZE;
        ssize_t got = pread(fd, chunk, wanted, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return err_set_errno(err, ERR_INTERNAL, got < 0 ? errno : EIO,
                                 "cannot read a file back");
        }
        (void)EVP_DigestUpdate(context, chunk, (size_t)got);
        offset += (uint64_t)got;
    }
    (void)EVP_DigestFinal_ex(context, ret_digest->bytes, NULL);
    return true;
}

void digest_hex(const void *bytes, size_t size, char *text)
{
    static const char letters[] = "0123456789abcdef";
    const unsigned char *from = bytes;
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = letters[from[i] >> 4];
        text[2 * i + 1] = letters[from[i] & 15];
    }
    text[2 * size] = '\0';
}
