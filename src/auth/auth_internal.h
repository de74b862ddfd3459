/* auth_internal.h - what the files of this folder share: lines of the token file, keys of a JWKS.
 */
#pragma once

#include "auth_tokens.h"
#include "buf.h"
#include "digest.h"

enum {
    TOKENS_MAX = 1000,
    TOKEN_SIZE_MAX = 8 << 10, /* of what a client brings, JWTs included */
    AUTH_FILE_SIZE_MAX = 1 << 20
};

/* Appends the whole file; *ret_found is false, and nothing appended, when there is none. */
bool auth_read_file(const char *path, bool *ret_found, struct buf *into,
                    struct err *err) MUST_CHECK;

/* ---- the token file (auth_tokens.c) ---- */

struct token_line {
    struct token_info info;
    struct sha256 hash;
};

/* A file that is not there has no lines. The caller frees the lines with mem_free. */
bool tokens_read(const char *path, struct token_line **ret_lines, size_t *ret_count,
                 struct err *err) MUST_CHECK;

/* ---- signed tokens (auth_jwt.c) ---- */

struct jwt_keys; /* never changed once read; each user holds a reference */

struct jwt_rules {
    const char *issuer;   /* NULL: not checked */
    const char *audience; /* likewise */
};

/* ERR_INVALID names the key that is wrong. Keys for other uses are passed over. */
struct jwt_keys *jwt_keys_read(const char *path, struct err *err);
struct jwt_keys *jwt_keys_hold(struct jwt_keys *keys);
void jwt_keys_release(struct jwt_keys *keys); /* accepts NULL */

/* ret_until_wall_ms is the end of its life. On failure *ret_refusal says why. */
bool jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules, struct str token,
                int64_t now_wall_ms, struct auth_identity *ret_identity, int64_t *ret_until_wall_ms,
                enum auth_refusal *ret_refusal) MUST_CHECK;
