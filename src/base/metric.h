/* metric.h - numbers that any layer may count, without knowing who reads them.
 * Promise   adding is one atomic instruction per number, without a lock and without memory; a
 *           reader sees each number whole. Counters only grow, and begin at 0 in zeroed memory.
 * Not here  names, labels, and the text that is scraped (ops_metrics.h).
 * Owner     the module that counts; readers get a const pointer that lives as long as the module.
 * Threads   any may add and read. Numbers that were added together may be read apart: nothing that
 *           is decided may depend on them. */
#pragma once

#include "macros.h"

#include <stdatomic.h>

struct metric_counter {
    atomic_ullong value;
};

static inline void metric_add(struct metric_counter *counter, uint64_t amount)
{
    (void)atomic_fetch_add_explicit(&counter->value, amount, memory_order_relaxed);
}

static inline uint64_t metric_value(const struct metric_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

/* How many there are at the moment. */
struct metric_gauge {
    atomic_llong value;
};

static inline void metric_enter(struct metric_gauge *gauge)
{
    (void)atomic_fetch_add_explicit(&gauge->value, 1, memory_order_relaxed);
}

static inline void metric_leave(struct metric_gauge *gauge)
{
    (void)atomic_fetch_sub_explicit(&gauge->value, 1, memory_order_relaxed);
}

static inline int64_t metric_level(const struct metric_gauge *gauge)
{
    return atomic_load_explicit(&gauge->value, memory_order_relaxed);
}

/* Durations in fixed buckets, the same for all, so that any two can be compared and added. */
enum {
    METRIC_BOUNDS_COUNT = 17
};

/* The upper ends of the buckets, in growing order; an upper end belongs to its bucket. */
extern const int64_t metric_bounds_us[METRIC_BOUNDS_COUNT];

struct metric_histogram {
    struct metric_counter buckets[METRIC_BOUNDS_COUNT + 1]; /* the last: beyond every bound */
    struct metric_counter sum_us;
};

/* A time that went backwards counts as none. */
void metric_observe_us(struct metric_histogram *histogram, int64_t elapsed_us);

/* The buckets as Prometheus wants them: each holds those before it, the last is the count. */
struct metric_distribution {
    uint64_t cumulative[METRIC_BOUNDS_COUNT + 1];
    uint64_t sum_us;
};

void metric_read(const struct metric_histogram *histogram,
                 struct metric_distribution *ret_distribution);
