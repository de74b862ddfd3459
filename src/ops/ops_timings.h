/* ops_timings.h - how long requests took, and which were the slowest.
 * Promise   counts are exact; times are those of the last TIMINGS_KEPT requests; the slowest
 *           statements are the TIMINGS_SLOWEST longest since the start, without their literals.
 * Not here  what a statement may show: it comes without its literals (worker_redact.h).
 * Owner     whoever creates it.   Threads  any.   Limits  statements are cut at 1 KiB. */
#pragma once

#include "buf.h"

struct timings;

enum {
    TIMINGS_KEPT = 1000,
    TIMINGS_RECENT = 10,
    TIMINGS_SLOWEST = 10
};

struct timings *timings_create(void);
void timings_destroy(struct timings *timings);

/* `redact` appends the statement without its literals; called under the lock, and only when the
 * request is among the slowest. */
struct timings_entry {
    uint64_t elapsed_us;
    uint64_t memory_bytes; /* what it used at most */
    bool good;
    int64_t wall_ms; /* its end */
    struct str statement;
    void (*redact)(struct str statement, size_t size_max, struct buf *into);
};
void timings_add(struct timings *timings, const struct timings_entry *entry);

struct timings_slow {
    uint64_t elapsed_us;
    int64_t wall_ms;
    struct str statement;
};
struct timings_status {
    uint64_t total, successful, failed;
    int64_t last_wall_ms; /* 0: none yet */
    unsigned kept;        /* how many the times below are of */
    double mean_us, min_us, max_us, median_us;
    double p90_us, p95_us, p99_us;
    unsigned over_1s, over_5s;
    double mean_memory_bytes;           /* since the start */
    uint64_t recent_us[TIMINGS_RECENT]; /* the newest last */
    unsigned recent_count;
};
void timings_status(struct timings *timings, struct timings_status *ret_status);
typedef void timings_visit_fn(void *context, const struct timings_slow *slow);
/* The longest first; `visit` runs under the lock, so it only copies. */
void timings_visit_slowest(struct timings *timings, timings_visit_fn *visit, void *context);
