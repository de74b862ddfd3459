#include "ops_timings.h"

#include "buf.h"
#include "mem.h"
#include "thread.h"

#include <stdlib.h>
#include <string.h>

enum {
    STATEMENT_SIZE_MAX = 1024
};

struct slow {
    uint64_t elapsed_us;
    int64_t wall_ms;
    struct buf statement;
};

struct timings {
    struct lock lock; /* LOCK_TIMINGS: everything below */
    uint64_t total, successful;
    int64_t last_wall_ms;
    double memory_bytes;               /* of all */
    uint64_t elapsed_us[TIMINGS_KEPT]; /* a ring: the request `total` is at total % TIMINGS_KEPT */
    struct slow slowest[TIMINGS_SLOWEST]; /* the longest first */
    unsigned slowest_count;
};

struct timings *timings_create(void)
{
    struct timings *timings = mem_alloc(sizeof(*timings));
    lock_init(&timings->lock, LOCK_TIMINGS);
    for (size_t i = 0; i < TIMINGS_SLOWEST; i++) {
        buf_init(&timings->slowest[i].statement, STATEMENT_SIZE_MAX + 64);
    }
    return timings;
}

void timings_destroy(struct timings *timings)
{
    if (timings == NULL) {
        return;
    }
    for (size_t i = 0; i < TIMINGS_SLOWEST; i++) {
        buf_finish(&timings->slowest[i].statement);
    }
    lock_finish(&timings->lock);
    mem_free(timings);
}

/* ---- the slowest ---- */

static bool is_among_slowest(const struct timings *timings, uint64_t elapsed_us)
    REQUIRES(&timings->lock)
{
    return timings->slowest_count < TIMINGS_SLOWEST ||
           elapsed_us > timings->slowest[TIMINGS_SLOWEST - 1].elapsed_us;
}

/* Takes the last place, and moves up past those that were faster. */
static void add_slow(struct timings *timings, const struct timings_entry *entry)
    REQUIRES(&timings->lock)
{
    unsigned at =
        timings->slowest_count < TIMINGS_SLOWEST ? timings->slowest_count++ : TIMINGS_SLOWEST - 1;
    struct slow slow = timings->slowest[at];
    slow.elapsed_us = entry->elapsed_us;
    slow.wall_ms = entry->wall_ms;
    buf_reset(&slow.statement);
    entry->redact(entry->statement, STATEMENT_SIZE_MAX, &slow.statement);
    for (; at > 0 && timings->slowest[at - 1].elapsed_us < slow.elapsed_us; at--) {
        timings->slowest[at] = timings->slowest[at - 1];
    }
    timings->slowest[at] = slow;
}

void timings_add(struct timings *timings, const struct timings_entry *entry)
{
    lock_take(&timings->lock);
    timings->elapsed_us[timings->total % TIMINGS_KEPT] = entry->elapsed_us;
    timings->total++;
    timings->successful += entry->good;
    timings->memory_bytes += (double)entry->memory_bytes;
    timings->last_wall_ms = entry->wall_ms;
    if (is_among_slowest(timings, entry->elapsed_us)) {
        add_slow(timings, entry);
    }
    lock_release(&timings->lock);
}

/* ---- for who looks ---- */

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* By nearest rank: the smallest time that `part` of all are not above. */
static double percentile(const uint64_t *sorted, unsigned count, double part)
{
    double rank = part * count;
    unsigned at = (unsigned)rank;
    at += (double)at < rank;
    return (double)sorted[at == 0 ? 0 : at - 1];
}

/* Of an even count the mean of the middle two. */
static double median(const uint64_t *sorted, unsigned count)
{
    return ((double)sorted[(count - 1) / 2] + (double)sorted[count / 2]) / 2;
}

static void add_times(const uint64_t *sorted, struct timings_status *status)
{
    unsigned count = status->kept;
    double sum_us = 0;
    for (unsigned i = 0; i < count; i++) {
        sum_us += (double)sorted[i];
        status->over_1s += sorted[i] > 1000000;
        status->over_5s += sorted[i] > 5000000;
    }
    status->mean_us = sum_us / count;
    status->min_us = (double)sorted[0];
    status->max_us = (double)sorted[count - 1];
    status->median_us = median(sorted, count);
    status->p90_us = percentile(sorted, count, 0.90);
    status->p95_us = percentile(sorted, count, 0.95);
    status->p99_us = percentile(sorted, count, 0.99);
}

void timings_status(struct timings *timings, struct timings_status *ret_status)
{
    uint64_t times[TIMINGS_KEPT];
    lock_take(&timings->lock);
    uint64_t total = timings->total;
    struct timings_status status = {
        .total = total,
        .successful = timings->successful,
        .failed = total - timings->successful,
        .last_wall_ms = timings->last_wall_ms,
        .mean_memory_bytes = total == 0 ? 0 : timings->memory_bytes / (double)total,
        .kept = total < TIMINGS_KEPT ? (unsigned)total : TIMINGS_KEPT,
        .recent_count = total < TIMINGS_RECENT ? (unsigned)total : TIMINGS_RECENT,
    };
    memcpy(times, timings->elapsed_us, sizeof(times));
    lock_release(&timings->lock);
    for (unsigned i = 0; i < status.recent_count; i++) {
        status.recent_us[i] = times[(total - status.recent_count + i) % TIMINGS_KEPT];
    }
    if (status.kept > 0) {
        qsort(times, status.kept, sizeof(times[0]), compare);
        add_times(times, &status);
    }
    *ret_status = status;
}

void timings_visit_slowest(struct timings *timings, timings_visit_fn *visit, void *context)
{
    lock_take(&timings->lock);
    for (unsigned i = 0; i < timings->slowest_count; i++) {
        struct timings_slow slow = {
            .elapsed_us = timings->slowest[i].elapsed_us,
            .wall_ms = timings->slowest[i].wall_ms,
            .statement = buf_str(&timings->slowest[i].statement),
        };
        visit(context, &slow);
    }
    lock_release(&timings->lock);
}
