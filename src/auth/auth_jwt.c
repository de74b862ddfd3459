/* Signed tokens. libjose knows the mathematics; which algorithm a key is for is decided here, once,
 * when the key is read: a token never chooses. */
#include "auth_internal.h"

#include "mem.h"

#include <jansson.h>
#include <jose/b64.h>
#include <jose/jws.h>

#include <stdatomic.h>
#include <stdio.h>

enum {
    KEYS_MAX = 64,
    SECRET_SIZE_MIN = 32,  /* of HS256: as long as its hash */
    MODULUS_SIZE_MIN = 256 /* of RS256: 2048 bits */
};

/* Seconds that another machine's clock may be ahead of ours. */
static const double leeway_s = 60;

struct jwt_key {
    const char *kid; /* of the object; NULL: it has none */
    const char *alg; /* static */
    json_t *object;
};

struct jwt_keys {
    atomic_uint references;
    json_t *set;
    struct jwt_key list[KEYS_MAX];
    size_t count;
};

static void release_json(json_t **value)
{
    json_decref(*value);
}

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

/* ---- keys ---- */

static const char *algorithm_for(const json_t *key)
{
    const char *type = text_of(key, "kty");
    const char *curve = text_of(key, "crv");
    if (type == NULL) {
        return NULL;
    }
    return strcmp(type, "RSA") == 0                                                  ? "RS256"
           : strcmp(type, "oct") == 0                                                ? "HS256"
           : strcmp(type, "EC") == 0 && curve != NULL && strcmp(curve, "P-256") == 0 ? "ES256"
                                                                                     : NULL;
}

static bool is_known_algorithm(const char *name)
{
    return strcmp(name, "RS256") == 0 || strcmp(name, "HS256") == 0 || strcmp(name, "ES256") == 0;
}

static bool is_for_signatures(const json_t *key)
{
    const char *use = text_of(key, "use");
    return use == NULL || strcmp(use, "sig") == 0;
}

static bool has_bytes(const json_t *key, const char *name, size_t size_min)
{
    const json_t *value = json_object_get(key, name);
    size_t size = json_is_string(value) ? jose_b64_dec(value, NULL, 0) : SIZE_MAX;
    return size != SIZE_MAX && size >= size_min;
}

static bool is_strong(const json_t *key, const char *algorithm)
{
    return strcmp(algorithm, "RS256") == 0   ? has_bytes(key, "n", MODULUS_SIZE_MIN)
           : strcmp(algorithm, "HS256") == 0 ? has_bytes(key, "k", SECRET_SIZE_MIN)
                                             : has_bytes(key, "x", 1) && has_bytes(key, "y", 1);
}

/* Sets of keys hold keys for other things too; those are passed over. One that says that it is for
 * an algorithm of another kind of key is a mistake, or an attack, and nothing is used then. */
static bool add_key(struct jwt_keys *keys, json_t *object, size_t number, struct err *err)
{
    const char *fits = algorithm_for(object);
    const char *says = text_of(object, "alg");
    if (fits == NULL || !is_for_signatures(object) || (says != NULL && !is_known_algorithm(says))) {
        return true;
    }
    if (says != NULL && strcmp(says, fits) != 0) {
        return err_set(err, ERR_INVALID, "key %zu of the JWKS says alg %s, and its kty is for %s",
                       number, says, fits);
    }
    if (!is_strong(object, fits)) {
        return err_set(err, ERR_INVALID,
                       "key %zu of the JWKS is broken or too weak: RSA needs 2048 bits, an HMAC "
                       "secret 32 bytes",
                       number);
    }
    if (keys->count == KEYS_MAX) {
        return err_set(err, ERR_INVALID, "the JWKS holds more than %d keys", KEYS_MAX);
    }
    (void)json_object_set_new(object, "alg", json_string(fits));
    keys->list[keys->count++] =
        (struct jwt_key){.kid = text_of(object, "kid"), .alg = fits, .object = object};
    return true;
}

static bool add_keys(struct jwt_keys *keys, const char *path, struct err *err)
{
    json_t *list = json_object_get(keys->set, "keys");
    if (!json_is_array(list)) {
        return err_set(err, ERR_INVALID, "%s is no JWKS: a JSON object with a list `keys`", path);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!add_key(keys, json_array_get(list, i), i + 1, err)) {
            return false;
        }
    }
    return keys->count > 0 ||
           err_set(err, ERR_INVALID, "%s holds no key for RS256, ES256 or HS256", path);
}

struct jwt_keys *jwt_keys_read(const char *path, struct err *err)
{
    struct buf text;
    bool found;
    buf_init(&text, AUTH_FILE_SIZE_MAX + 1);
    struct jwt_keys *keys = mem_alloc(sizeof(*keys));
    atomic_init(&keys->references, 1);
    bool good = auth_read_file(path, &found, &text, err) &&
                (found || err_set(err, ERR_INVALID, "there is no file %s", path));
    if (good) {
        keys->set =
            json_loadb(text.ptr == NULL ? "" : text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
        good = add_keys(keys, path, err);
    }
    if (text.ptr != NULL) {
        mem_wipe(text.ptr, text.len);
    }
    buf_finish(&text);
    if (!good) {
        jwt_keys_release(keys);
        return NULL;
    }
    return keys;
}

struct jwt_keys *jwt_keys_hold(struct jwt_keys *keys)
{
    if (keys != NULL) {
        (void)atomic_fetch_add(&keys->references, 1);
    }
    return keys;
}

void jwt_keys_release(struct jwt_keys *keys)
{
    if (keys != NULL && atomic_fetch_sub(&keys->references, 1) == 1) {
        json_decref(keys->set);
        mem_free(keys);
    }
}

/* ---- the parts of a token ---- */

struct parts {
    struct str header;
    struct str payload;
    struct str signature;
};

static bool is_base64url(struct str text)
{
    bool good = text.len > 0;
    for (size_t i = 0; good && i < text.len; i++) {
        char byte = text.ptr[i];
        good = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
               (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
    }
    return good;
}

static bool split(struct str token, struct parts *parts)
{
    struct str rest = token;
    return str_next_part(&rest, '.', &parts->header) &&
           str_next_part(&rest, '.', &parts->payload) &&
           str_next_part(&rest, '.', &parts->signature) && rest.ptr == NULL &&
           is_base64url(parts->header) && is_base64url(parts->payload) &&
           is_base64url(parts->signature);
}

/* NULL when it is no JSON object, or a name comes twice. */
static json_t *decode_object(struct str text)
{
    char bytes[TOKEN_SIZE_MAX];
    size_t size = jose_b64_dec_buf(text.ptr, text.len, NULL, 0);
    if (size > sizeof(bytes) ||
        jose_b64_dec_buf(text.ptr, text.len, bytes, sizeof(bytes)) != size) {
        return NULL;
    }
    json_t *object = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

/* ---- the signature ---- */

/* A token without `kid` means the only key of its algorithm. NULL: *ret_refusal says why. */
static const struct jwt_key *choose_key(const struct jwt_keys *keys, const json_t *header,
                                        enum auth_refusal *ret_refusal)
{
    const char *algorithm = text_of(header, "alg");
    const char *kid = text_of(header, "kid");
    const struct jwt_key *found = NULL;
    size_t named = 0;
    size_t fitting = 0;
    for (size_t i = 0; i < keys->count; i++) {
        const struct jwt_key *key = &keys->list[i];
        bool meant = kid == NULL || (key->kid != NULL && strcmp(kid, key->kid) == 0);
        named += meant ? 1 : 0;
        if (meant && algorithm != NULL && strcmp(algorithm, key->alg) == 0) {
            found = fitting++ == 0 ? key : found;
        }
    }
    bool unclear = fitting == 0 || (kid == NULL && fitting > 1);
    *ret_refusal = named > 0 && fitting == 0 ? AUTH_REFUSED_CLAIMS : AUTH_REFUSED_UNKNOWN;
    return unclear ? NULL : found;
}

static void say_nothing(void *misc, const char *file, int line, uint64_t code, const char *format,
                        va_list arguments)
{
    (void)misc;
    (void)file;
    (void)line;
    (void)code;
    (void)format;
    (void)arguments;
}

/* The configuration counts its users without atomics, so that each call has its own; without one
 * libjose writes to stderr. */
static bool is_signed(const struct parts *parts, const struct jwt_key *key)
{
    CLEANUP(jose_cfg_auto) jose_cfg_t *quiet = jose_cfg();
    CLEANUP(release_json)
    json_t *jws = json_pack("{s:s%,s:s%,s:s%}", "protected", parts->header.ptr, parts->header.len,
                            "payload", parts->payload.ptr, parts->payload.len, "signature",
                            parts->signature.ptr, parts->signature.len);
    if (quiet == NULL || jws == NULL) {
        return false;
    }
    jose_cfg_set_err_func(quiet, say_nothing, NULL);
    return jose_jws_ver(quiet, jws, NULL, key->object, false);
}

/* ---- the claims ---- */

static bool names_audience(const json_t *claim, const char *audience)
{
    if (json_is_string(claim)) {
        return strcmp(json_string_value(claim), audience) == 0;
    }
    bool found = false;
    for (size_t i = 0; i < json_array_size(claim) && !found; i++) {
        const char *one = json_string_value(json_array_get(claim, i));
        found = one != NULL && strcmp(one, audience) == 0;
    }
    return found;
}

/* Absent, or a time that has come. */
static bool has_come(const json_t *claim, double now_s)
{
    return claim == NULL || (json_is_number(claim) && json_number_value(claim) <= now_s + leeway_s);
}

static bool check_times(const json_t *claims, int64_t now_wall_ms, int64_t *ret_until_wall_ms,
                        enum auth_refusal *ret_refusal)
{
    const json_t *end = json_object_get(claims, "exp");
    double now_s = (double)now_wall_ms / 1000;
    if (!json_is_number(end) || !has_come(json_object_get(claims, "nbf"), now_s) ||
        !has_come(json_object_get(claims, "iat"), now_s)) {
        *ret_refusal = AUTH_REFUSED_CLAIMS;
        return false;
    }
    double end_s = json_number_value(end);
    *ret_refusal = AUTH_REFUSED_EXPIRED;
    if (!(end_s > now_s)) {
        return false;
    }
    *ret_until_wall_ms = end_s > 1e12 ? INT64_MAX : (int64_t)(end_s * 1000);
    return true;
}

static bool check_claims(const json_t *claims, const struct jwt_rules *rules,
                         struct auth_identity *ret_identity)
{
    const char *issuer = text_of(claims, "iss");
    const char *role = text_of(claims, "role");
    const char *subject = text_of(claims, "sub");
    bool good = (rules->issuer == NULL || (issuer != NULL && strcmp(issuer, rules->issuer) == 0)) &&
                (rules->audience == NULL ||
                 names_audience(json_object_get(claims, "aud"), rules->audience)) &&
                role != NULL && auth_role_parse(str_of(role), &ret_identity->role);
    (void)snprintf(ret_identity->name, sizeof(ret_identity->name), "%s",
                   subject == NULL ? "jwt" : subject);
    return good;
}

bool jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules, struct str token,
                int64_t now_wall_ms, struct auth_identity *ret_identity, int64_t *ret_until_wall_ms,
                enum auth_refusal *ret_refusal)
{
    struct parts parts;
    assert(token.len <= TOKEN_SIZE_MAX);
    *ret_refusal = AUTH_REFUSED_UNKNOWN;
    if (!split(token, &parts)) {
        return false;
    }
    CLEANUP(release_json) json_t *header = decode_object(parts.header);
    CLEANUP(release_json) json_t *claims = decode_object(parts.payload);
    const json_t *kid = json_object_get(header, "kid");
    /* `crit` names what must be understood, and nothing that could be named is. */
    if (header == NULL || claims == NULL || json_object_get(header, "crit") != NULL ||
        (kid != NULL && !json_is_string(kid))) {
        return false;
    }
    const struct jwt_key *key = choose_key(keys, header, ret_refusal);
    if (key == NULL) {
        return false;
    }
    *ret_refusal = AUTH_REFUSED_UNKNOWN;
    if (!is_signed(&parts, key) ||
        !check_times(claims, now_wall_ms, ret_until_wall_ms, ret_refusal)) {
        return false;
    }
    *ret_refusal = AUTH_REFUSED_CLAIMS;
    return check_claims(claims, rules, ret_identity);
}
