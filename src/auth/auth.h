/* auth.h - who a caller is, and what they may do.
 * Promise   a role comes from a token that was made here (auth_tokens.h) or from a signed one (JWT)
 *           whose key, algorithm, issuer, audience and times are right: the algorithm is the key's
 *           own, so an RSA public key is never an HMAC secret. Comparison takes the same time for
 *           every wrong token. No secret is kept in clear text, logged or told.
 * Not here  which route wants which role (api_routes), the words of a refusal (the personality's).
 * Owner     struct server owns one struct auth.   Threads  any; never blocks but for reading its
 *           files again (auth_reload; and auth_refresh, when one has changed).
 * Errors    ERR_UNAUTHENTICATED: no token, or none that counts; ERR_FORBIDDEN: its role is too low.
 * Limits    tokens of at most 8 KiB; 1,000 tokens in a file; 64 keys. */
#pragma once

#include "err.h"
#include "metric.h"
#include "str.h"

struct auth;

enum auth_role {
    AUTH_NOBODY, /* no token is asked for */
    AUTH_READ,   /* SQL that reads, lists, counts, metrics */
    AUTH_WRITE,  /* records, SQL that changes */
    AUTH_ADMIN,  /* databases, breakers, other people's queries */
};

struct auth_options {
    bool required;             /* false: everybody is an admin without a token */
    const char *tokens_path;   /* of eider token; need not be there */
    const char *jwt_keys_path; /* a JWKS file, or NULL: no JWT */
    const char *jwt_issuer;    /* NULL: not checked; likewise the audience */
    const char *jwt_audience;
    const char *graph_api_key; /* of the staging personality, or NULL */
};

/* Fails when a file is there and cannot be used: ERR_INVALID says what to do. */
struct auth *auth_create(const struct auth_options *options, struct err *err);
void auth_destroy(struct auth *auth);
/* Reads the files again; what was there stays when they are wrong. */
bool auth_reload(struct auth *auth, struct err *err) MUST_CHECK;
/* The same when one of them has changed, looked at once a second; nothing else. Whoever asks before
 * each auth_check has every change within a second. False once for each change that is wrong. */
bool auth_refresh(struct auth *auth, int64_t now_ms, struct err *err) MUST_CHECK;
bool auth_is_required(const struct auth *auth);
/* Whether there is any token or key that could open a required gate. */
bool auth_has_any(struct auth *auth);

/* What a request brought; empty where it did not. */
struct auth_credentials {
    struct str authorization; /* the header: Bearer <token> */
    struct str session_id;    /* the cookie of that name */
    struct str api_key;       /* X-Graph-API-Key of the staging personality; opens its gate alone */
    bool bearer_may_be_key;   /* there, Bearer may name it as well */
};

struct auth_identity {
    enum auth_role role; /* AUTH_NOBODY: none was proved */
    char name[64];       /* of the token, or the JWT's subject, for the log */
};

/* Who it is; AUTH_ADMIN for everybody when nothing is required and nothing was brought. A wrong
 * Authorization is refused even then, as long as there are tokens or keys that it could have been
 * meant for; a wrong cookie, which browsers send by themselves, counts as none. */
bool auth_check(struct auth *auth, const struct auth_credentials *credentials, int64_t now_wall_ms,
                struct auth_identity *ret_identity, struct err *err) MUST_CHECK;

const char *auth_role_name(enum auth_role role);
bool auth_role_parse(struct str text, enum auth_role *ret_role);

enum auth_refusal {
    AUTH_REFUSED_MISSING,
    AUTH_REFUSED_UNKNOWN, /* no such token, or a signature that is wrong */
    AUTH_REFUSED_EXPIRED,
    AUTH_REFUSED_CLAIMS, /* issuer, audience, role, algorithm */
    AUTH_REFUSED_ROLE,   /* counted by who asks for the role (auth_count_role) */
    AUTH_REFUSAL_COUNT
};
const struct metric_counter *auth_refusals(const struct auth *auth); /* AUTH_REFUSAL_COUNT */
void auth_count_role(struct auth *auth);
