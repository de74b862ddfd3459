/* auth_fixture.h - a folder for token files and key sets, and signed tokens of every kind, good and
 * forged. */
#pragma once

#include "auth.h"
#include "auth_tokens.h"
#include "digest.h"
#include "test.h"

#include <jansson.h>
#include <jose/b64.h>
#include <jose/jwk.h>
#include <jose/jws.h>
#include <jose/openssl.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <unistd.h>

#define NOW_MS (INT64_C(1800000000) * 1000)
#define NOW_S "1800000000"

struct folder {
    char path[64];
    char tokens[96];
    char keys[96];
};

static inline struct folder folder_make(void)
{
    struct folder folder = {.path = "/tmp/eider-auth-XXXXXX"};
    if (mkdtemp(folder.path) == NULL) {
        abort();
    }
    (void)snprintf(folder.tokens, sizeof(folder.tokens), "%s/tokens", folder.path);
    (void)snprintf(folder.keys, sizeof(folder.keys), "%s/keys", folder.path);
    return folder;
}

static inline void folder_remove(struct folder *folder)
{
    (void)unlink(folder->tokens);
    (void)unlink(folder->keys);
    (void)rmdir(folder->path);
}

static inline void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static inline UNUSED bool check_bearer(struct auth *auth, const char *token,
                                       struct auth_identity *identity, struct err *err)
{
    static char text[32 << 10];
    (void)snprintf(text, sizeof(text), "Bearer %s", token);
    const struct auth_credentials credentials = {.authorization = str_of(text)};
    return auth_check(auth, &credentials, NOW_MS, identity, err);
}

/* ---- keys ---- */

static inline UNUSED json_t *key_make(const char *text)
{
    json_t *key = json_loads(text, 0, NULL);
    if (!jose_jwk_gen(NULL, key)) {
        abort();
    }
    return key;
}

static inline UNUSED json_t *key_public(const json_t *key)
{
    json_t *copy = json_deep_copy(key);
    if (!jose_jwk_pub(NULL, copy)) {
        abort();
    }
    return copy;
}

/* Takes the keys. */
static inline UNUSED void write_keys(const char *path, json_t *list_take)
{
    json_t *set = json_pack("{s:o}", "keys", list_take);
    if (json_dump_file(set, path, 0) != 0) {
        abort();
    }
    json_decref(set);
}

/* ---- tokens ---- */

static inline UNUSED void encode(struct str bytes, char *into, size_t size)
{
    size_t len = jose_b64_enc_buf(bytes.ptr, bytes.len, into, size - 1);
    if (len == SIZE_MAX) {
        abort();
    }
    into[len] = '\0';
}

/* header.payload.signature, by libjose: `header` is the protected one, alg included. */
static inline UNUSED void sign(const json_t *key, const char *header, const char *claims,
                               char token[static 4096])
{
    char payload[2048];
    encode(str_of(claims), payload, sizeof(payload));
    json_t *jws = json_pack("{s:s}", "payload", payload);
    json_t *how = json_pack("{s:o}", "protected", json_loads(header, 0, NULL));
    json_t *bare = json_deep_copy(key);
    json_object_del(bare, "alg"); /* so that a key signs what it is not for */
    if (!jose_jws_sig(NULL, jws, how, bare)) {
        abort();
    }
    (void)snprintf(token, 4096, "%s.%s.%s", json_string_value(json_object_get(jws, "protected")),
                   payload, json_string_value(json_object_get(jws, "signature")));
    json_decref(bare);
    json_decref(how);
    json_decref(jws);
}

/* The same with an HMAC over whatever secret: the classic forgery takes the public key's text. */
static inline UNUSED void sign_hmac(struct str secret, const char *header, const char *claims,
                                    char token[static 4096])
{
    char parts[2][1900];
    char signature[64];
    encode(str_of(header), parts[0], sizeof(parts[0]));
    encode(str_of(claims), parts[1], sizeof(parts[1]));
    (void)snprintf(token, 4096, "%s.%s", parts[0], parts[1]);
    struct sha256 mac = digest_hmac_sha256(secret, str_of(token));
    encode(str_make((const char *)mac.bytes, sizeof(mac.bytes)), signature, sizeof(signature));
    (void)snprintf(token, 4096, "%s.%s.%s", parts[0], parts[1], signature);
}

static inline UNUSED void public_pem(const json_t *key, char *text, size_t size)
{
    EVP_PKEY *parsed = jose_openssl_jwk_to_EVP_PKEY(NULL, key);
    BIO *memory = BIO_new(BIO_s_mem());
    if (parsed == NULL || PEM_write_bio_PUBKEY(memory, parsed) != 1) {
        abort();
    }
    int len = BIO_read(memory, text, (int)size - 1);
    text[len] = '\0';
    BIO_free(memory);
    EVP_PKEY_free(parsed);
}
