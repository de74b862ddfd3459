#include "test.h"

#include "metric.h"
#include "thread.h"

TEST(a_bound_belongs_to_its_bucket)
{
    struct metric_histogram histogram = {0};
    metric_observe_us(&histogram, metric_bounds_us[0]);
    metric_observe_us(&histogram, metric_bounds_us[0] + 1);
    metric_observe_us(&histogram, metric_bounds_us[METRIC_BOUNDS_COUNT - 1]);
    metric_observe_us(&histogram, metric_bounds_us[METRIC_BOUNDS_COUNT - 1] + 1);
    CHECK_U64(metric_value(&histogram.buckets[0]), 1);
    CHECK_U64(metric_value(&histogram.buckets[1]), 1);
    CHECK_U64(metric_value(&histogram.buckets[METRIC_BOUNDS_COUNT - 1]), 1);
    CHECK_U64(metric_value(&histogram.buckets[METRIC_BOUNDS_COUNT]), 1);
}

TEST(bounds_grow)
{
    for (size_t i = 1; i < METRIC_BOUNDS_COUNT; i++) {
        CHECK(metric_bounds_us[i] > metric_bounds_us[i - 1]);
    }
}

TEST(buckets_are_read_cumulated)
{
    struct metric_histogram histogram = {0};
    struct metric_distribution read;
    metric_observe_us(&histogram, 400);
    metric_observe_us(&histogram, 600);
    metric_observe_us(&histogram, 900);
    metric_observe_us(&histogram, 7000000000);
    metric_read(&histogram, &read);
    CHECK_U64(read.cumulative[0], 1);
    CHECK_U64(read.cumulative[1], 3);
    CHECK_U64(read.cumulative[METRIC_BOUNDS_COUNT - 1], 3);
    CHECK_U64(read.cumulative[METRIC_BOUNDS_COUNT], 4);
    CHECK_U64(read.sum_us, 7000001900);
}

TEST(time_that_went_backwards_is_none)
{
    struct metric_histogram histogram = {0};
    struct metric_distribution read;
    metric_observe_us(&histogram, -5);
    metric_read(&histogram, &read);
    CHECK_U64(read.cumulative[0], 1);
    CHECK_U64(read.sum_us, 0);
}

struct shared {
    struct metric_counter counter;
    struct metric_gauge gauge;
    struct metric_histogram histogram;
    atomic_uint there; /* adders that have arrived: all begin together */
    atomic_bool stop;
};

enum {
    ADDERS = 4,
    ADDITIONS = 1000000
};

static void *add_many(void *argument)
{
    struct shared *shared = argument;
    atomic_fetch_add(&shared->there, 1);
    while (atomic_load(&shared->there) < ADDERS) {
    }
    for (int i = 0; i < ADDITIONS; i++) {
        metric_enter(&shared->gauge);
        metric_add(&shared->counter, 2);
        metric_observe_us(&shared->histogram, i);
        metric_leave(&shared->gauge);
    }
    return NULL;
}

/* What is read while others add never shrinks, within one reading and from one to the next. */
static void *read_many(void *argument)
{
    struct shared *shared = argument;
    uint64_t before = 0;
    bool good = true;
    while (!atomic_load(&shared->stop)) {
        struct metric_distribution read;
        metric_read(&shared->histogram, &read);
        for (size_t i = 1; i <= METRIC_BOUNDS_COUNT; i++) {
            good = good && read.cumulative[i] >= read.cumulative[i - 1];
        }
        good = good && read.cumulative[METRIC_BOUNDS_COUNT] >= before;
        before = read.cumulative[METRIC_BOUNDS_COUNT];
    }
    return good ? shared : NULL;
}

TEST(nothing_is_lost_when_many_add)
{
    struct shared shared = {0};
    pthread_t adders[ADDERS];
    pthread_t reader = thread_start("reader", read_many, &shared);
    for (size_t i = 0; i < ADDERS; i++) {
        adders[i] = thread_start("adder", add_many, &shared);
    }
    for (size_t i = 0; i < ADDERS; i++) {
        (void)pthread_join(adders[i], NULL);
    }
    atomic_store(&shared.stop, true);
    void *good;
    (void)pthread_join(reader, &good);
    struct metric_distribution read;
    metric_read(&shared.histogram, &read);
    CHECK(good != NULL);
    CHECK_U64(metric_value(&shared.counter), 2 * ADDERS * ADDITIONS);
    CHECK_I64(metric_level(&shared.gauge), 0);
    CHECK_U64(read.cumulative[METRIC_BOUNDS_COUNT], ADDERS * ADDITIONS);
    CHECK_U64(read.sum_us, (uint64_t)ADDERS * ADDITIONS * (ADDITIONS - 1) / 2);
}

static const struct test_case cases[] = {
    TEST_CASE(a_bound_belongs_to_its_bucket), TEST_CASE(bounds_grow),
    TEST_CASE(buckets_are_read_cumulated),    TEST_CASE(time_that_went_backwards_is_none),
    TEST_CASE(nothing_is_lost_when_many_add),
};

TEST_MAIN(cases)
