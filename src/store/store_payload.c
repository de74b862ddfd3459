#include "store_internal.h"

#include "digest.h"
#include "mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>
#include <zlib.h>

static void free_context(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
}

static bool read_source(const struct store_source *source, uint64_t offset, char *chunk,
                        size_t wanted, struct str *ret_bytes, struct err *err)
{
    if (source->fd < 0) {
        *ret_bytes = str_make(source->bytes.ptr + offset, wanted);
        return true;
    }
    ssize_t got;
    do {
        got = pread(source->fd, chunk, wanted, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return err_set_errno(err, ERR_INTERNAL, got < 0 ? errno : EIO,
                             "a file to be stored cannot be read");
    }
    *ret_bytes = str_make(chunk, (size_t)got);
    return true;
}

bool store_digest_source(const struct store_source *source, uint64_t offset, uint64_t size,
                         struct store_payload *ret_payload, struct err *err)
{
    enum {
        CHUNK_SIZE = 256 * 1024
    };
    CLEANUP(mem_free_text) char *chunk = source->fd < 0 ? NULL : mem_alloc(CHUNK_SIZE);
    CLEANUP(free_context) EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1) {
        return err_set(err, ERR_INTERNAL, "SHA-256 is not available");
    }
    uLong crc = crc32(0, NULL, 0);
    for (uint64_t done = 0; done < size;) {
        size_t wanted = size - done < CHUNK_SIZE ? (size_t)(size - done) : (size_t)CHUNK_SIZE;
        struct str bytes = {0};
        if (!read_source(source, offset + done, chunk, wanted, &bytes, err)) {
            return false;
        }
        (void)EVP_DigestUpdate(context, bytes.ptr, bytes.len);
        crc = crc32(crc, (const Bytef *)bytes.ptr, (uInt)bytes.len);
        done += bytes.len;
    }
    struct sha256 digest;
    (void)EVP_DigestFinal_ex(context, digest.bytes, NULL);
    digest_hex(digest.bytes, sizeof(digest.bytes), ret_payload->sha256_hex);
    ret_payload->crc32 = (uint32_t)crc;
    return true;
}
