/* digest.h - SHA-256, HMAC-SHA-256 and hexadecimal text, over OpenSSL's libcrypto. */
#pragma once

#include "err.h"
#include "str.h"

#define DIGEST_SHA256_SIZE 32
#define DIGEST_SHA256_HEX_SIZE 65 /* with the NUL */

struct sha256 {
    unsigned char bytes[DIGEST_SHA256_SIZE];
};

struct sha256 digest_sha256(struct str bytes);
struct sha256 digest_hmac_sha256(struct str key, struct str bytes);

/* The same over bytes that come in pieces. digest_stream_destroy accepts NULL. */
struct digest_stream;
struct digest_stream *digest_stream_create(void);
void digest_stream_add(struct digest_stream *stream, struct str bytes);
struct sha256 digest_stream_end(struct digest_stream *stream); /* of all so far; once */
void digest_stream_destroy(struct digest_stream *stream);

/* Reads `size` bytes from fd at offset 0, without moving its position. */
bool digest_sha256_fd(int fd, uint64_t size, struct sha256 *ret_digest, struct err *err) MUST_CHECK;

void digest_hex(const void *bytes, size_t size, char *text); /* 2 * size + 1 bytes, lower case */

/* Random bytes from the kernel; a failure ends the process. */
void digest_random(void *bytes, size_t size);
/* At most 256 of them out of a supply that each thread has, for what is needed again and again and
 * is no key: a child process that goes on after a fork has the same supply as its parent. */
void digest_random_id(void *bytes, size_t size);
