/* ops_breaker.h - a circuit breaker: whoever keeps failing is left alone for a while.
 * Promise   closed: everything passes; `failure_threshold` failures within `window_ms`, when they
 *           are also at least half of what ended in that time, open it. Open: everything is refused
 *           for timeout_ms, doubled with each opening in a row up to timeout_max_ms. Then half
 *           open: exactly one request passes at a time as a probe (P22); success_threshold
 *           successes in a row close it and forget the doubling, one failure opens it again.
 *           A probe whose outcome says nothing (cancelled, the client's own mistake) gives its
 *           place to the next.
 * Not here  what counts as a failure: the caller's. Only faults of the engine or the disk should.
 * Owner     whoever embeds it.   Threads  any; never blocks but for its own lock.
 * Limits    remembers the last 64 failures; times are those of clock_now_ms. */
#pragma once

#include "err.h"
#include "thread.h"

struct breaker_options {
    unsigned failure_threshold; /* 1..64; the contract's 5 */
    unsigned success_threshold; /* 3 */
    int64_t timeout_ms;         /* 30 s */
    int64_t timeout_max_ms;     /* 300 s */
    int64_t window_ms;          /* 300 s */
};

enum breaker_state {
    BREAKER_CLOSED,
    BREAKER_OPEN,
    BREAKER_HALF_OPEN,
};

enum breaker_result {
    BREAKER_SUCCESS,
    BREAKER_FAILURE,
    BREAKER_NEITHER, /* cancelled, or the caller's own mistake */
};

struct breaker;

struct breaker *breaker_create(const struct breaker_options *options);
void breaker_destroy(struct breaker *breaker);

/* What breaker_enter gives, for breaker_leave. */
struct breaker_pass {
    bool probe;
    uint64_t epoch; /* what began before a reset or an opening does not count after it */
    int64_t began_ms;
};
/* False with ERR_UNAVAILABLE, and *ret_retry_ms (at least 1): not now. */
bool breaker_enter(struct breaker *breaker, int64_t now_ms, struct breaker_pass *ret_pass,
                   int64_t *ret_retry_ms, struct err *err) MUST_CHECK;
/* Once for each breaker_enter that said yes. */
void breaker_leave(struct breaker *breaker, const struct breaker_pass *pass,
                   enum breaker_result result, int64_t now_ms);
/* Closed, everything forgotten but the totals. */
void breaker_reset(struct breaker *breaker);

struct breaker_status {
    enum breaker_state state;
    unsigned failure_count; /* within the window */
    unsigned success_count; /* in a row, while half open */
    int64_t retry_in_ms;    /* while open; else 0 */
    uint64_t total;         /* that passed; refusals are counted apart */
    uint64_t successful;
    uint64_t failed;
    uint64_t refused;
    uint64_t opened;
    int64_t last_failure_ago_ms, last_success_ago_ms; /* -1: never */
    double mean_ms;                                   /* of those that passed */
};
void breaker_status(struct breaker *breaker, int64_t now_ms, struct breaker_status *ret_status);
const char *breaker_state_name(enum breaker_state state); /* closed, open, half_open */
