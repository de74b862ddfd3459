/* store_probe.h - does a store keep what Eider builds on? Asked with real requests.
 * Promise   each thing is told as one finding: what was seen, and the cause when it is not as it
 *           should be. When the store cannot be reached, or takes no object, that is the only
 *           finding, since the others would say the same. Nothing is written outside
 *           `prefix`.eider-check/, and what was written is removed, also when something failed.
 * Not here  what a person should do about a cause, in terms of settings (the command `eider
 *           check`).
 * Threads   one caller; inside, `probe` threads that put the same key at once.
 * Limits    at most STORE_PROBE_WRITERS_MAX writers and STORE_PROBE_ROUNDS_MAX rounds. */
#pragma once

#include "store.h"

enum {
    STORE_PROBE_WRITERS_MAX = 64,
    STORE_PROBE_ROUNDS_MAX = 32
};

enum store_probe_verdict {
    STORE_PROBE_OK,
    STORE_PROBE_WARN, /* Eider works, but less well */
    STORE_PROBE_FAIL  /* Eider does not work, or would lose or damage data */
};

enum store_cause {
    STORE_CAUSE_NONE,
    STORE_CAUSE_HOST_UNKNOWN, /* the name does not resolve */
    STORE_CAUSE_NO_CONNECTION,
    STORE_CAUSE_NOT_TRUSTED, /* the TLS certificate */
    STORE_CAUSE_NO_TLS,      /* https, and the other side speaks no TLS that suits us */
    STORE_CAUSE_FORBIDDEN,   /* an address that nobody may contact */
    STORE_CAUSE_SILENT,      /* connected, and no whole answer */
    STORE_CAUSE_HOST_STYLE,  /* it does not take the host name's first part for the bucket */
    STORE_CAUSE_NOT_S3,      /* an answer that is none of S3's */
    STORE_CAUSE_BUCKET_MISSING,
    STORE_CAUSE_REGION,
    STORE_CAUSE_KEY_UNKNOWN,
    STORE_CAUSE_SECRET_WRONG,
    STORE_CAUSE_TOKEN_EXPIRED,
    STORE_CAUSE_TOKEN_WRONG,
    STORE_CAUSE_CLOCK,
    STORE_CAUSE_DENIED, /* known, and not allowed to do this */
    STORE_CAUSE_FULL,   /* little or no room */
    STORE_CAUSE_FAILED, /* the store answered with an error of its own */
    /* What it does is not what it should do. */
    STORE_CAUSE_STALE,         /* what was written is not seen, or seen otherwise */
    STORE_CAUSE_OVERWRITES,    /* a create-only put replaced an object */
    STORE_CAUSE_RACES,         /* several create-only puts of one key won */
    STORE_CAUSE_NO_COMPARE,    /* If-Match is ignored */
    STORE_CAUSE_NO_CHECKSUM,   /* damaged bytes are accepted */
    STORE_CAUSE_NO_ETAG,       /* objects have none, or it changes by itself */
    STORE_CAUSE_CANNOT_DELETE, /* objects of the probe are left */
    STORE_CAUSE_COUNT
};

struct store_probe_finding {
    enum store_probe_verdict verdict;
    enum store_cause cause;
    const char *what; /* two or three words */
    const char *found;
};

typedef void store_probe_fn(void *context, const struct store_probe_finding *finding);

struct store_probe_options {
    struct str prefix; /* "" or ends with a slash */
    unsigned writers;  /* create-only puts of one key at once */
    unsigned rounds;   /* how often */
    store_probe_fn *tell;
    void *context;
};

/* False when a finding was STORE_PROBE_FAIL. */
bool store_probe(struct store *store, const struct store_probe_options *options,
                 struct cancel *cancel);
