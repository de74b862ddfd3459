#include "metric.h"

/* From the quickest answer out of memory to the longest statement that the defaults allow. */
const int64_t metric_bounds_us[METRIC_BOUNDS_COUNT] = {
    500,    1000,    2500,    5000,    10000,    25000,    50000,    100000,    250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000,
};

void metric_observe_us(struct metric_histogram *histogram, int64_t elapsed_us)
{
    size_t bucket = 0;
    while (bucket < METRIC_BOUNDS_COUNT && elapsed_us > metric_bounds_us[bucket]) {
        bucket++;
    }
    metric_add(&histogram->buckets[bucket], 1);
    metric_add(&histogram->sum_us, elapsed_us > 0 ? (uint64_t)elapsed_us : 0);
}

void metric_read(const struct metric_histogram *histogram,
                 struct metric_distribution *ret_distribution)
{
    uint64_t below = 0;
    for (size_t i = 0; i <= METRIC_BOUNDS_COUNT; i++) {
        below += metric_value(&histogram->buckets[i]);
        ret_distribution->cumulative[i] = below;
    }
    ret_distribution->sum_us = metric_value(&histogram->sum_us);
}
