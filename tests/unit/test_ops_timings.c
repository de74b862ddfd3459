#include "test.h"

#include "ops_timings.h"

static unsigned redacted;

static void redact(struct str statement, size_t size_max, struct buf *into)
{
    redacted++;
    buf_append(into, str_first(statement, size_max));
}

static void add(struct timings *timings, uint64_t elapsed_us, bool good, const char *statement)
{
    struct timings_entry entry = {
        .elapsed_us = elapsed_us,
        .good = good,
        .wall_ms = (int64_t)elapsed_us,
        .statement = str_of(statement),
        .redact = redact,
    };
    timings_add(timings, &entry);
}

struct seen {
    unsigned count;
    uint64_t elapsed_us[TIMINGS_SLOWEST + 1];
    char first[16];
};

static void see(void *context, const struct timings_slow *slow)
{
    struct seen *seen = context;
    if (seen->count == 0) {
        (void)snprintf(seen->first, sizeof(seen->first), "%.*s", STR_ARG(slow->statement));
    }
    seen->elapsed_us[seen->count++] = slow->elapsed_us;
}

TEST(nothing_yet)
{
    struct timings *timings = timings_create();
    struct timings_status status;
    timings_status(timings, &status);
    CHECK_U64(status.total, 0);
    CHECK_U64(status.kept, 0);
    CHECK_I64(status.last_wall_ms, 0);
    timings_destroy(timings);
}

TEST(times_of_a_hundred)
{
    struct timings *timings = timings_create();
    for (uint64_t i = 100; i > 0; i--) {
        add(timings, i * 100000, i % 4 != 0, "x");
    }
    struct timings_status status;
    timings_status(timings, &status);
    CHECK_U64(status.total, 100);
    CHECK_U64(status.successful, 75);
    CHECK_U64(status.failed, 25);
    CHECK_U64((uint64_t)status.median_us, 5050000);
    CHECK_U64((uint64_t)status.p90_us, 9000000);
    CHECK_U64((uint64_t)status.p99_us, 9900000);
    CHECK_U64(status.over_1s, 90);
    CHECK_U64(status.over_5s, 50);
    CHECK_U64(status.recent_count, TIMINGS_RECENT);
    CHECK_U64(status.recent_us[0], 1000000);
    CHECK_U64(status.recent_us[TIMINGS_RECENT - 1], 100000);
    timings_destroy(timings);
}

TEST(only_the_last_thousand_count)
{
    struct timings *timings = timings_create();
    for (uint64_t i = 0; i < 1500; i++) {
        add(timings, i < 500 ? 9000000 : 1000, true, "x");
    }
    struct timings_status status;
    timings_status(timings, &status);
    CHECK_U64(status.total, 1500);
    CHECK_U64(status.kept, TIMINGS_KEPT);
    CHECK_U64((uint64_t)status.max_us, 1000);
    timings_destroy(timings);
}

TEST(the_slowest_are_kept)
{
    struct timings *timings = timings_create();
    redacted = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        add(timings, 10000 + i * 7919 % 1000, true, i * 7919 % 1000 == 999 ? "slowest" : "x");
    }
    CHECK(redacted < 200); /* only of those that get a place */
    struct seen seen = {0};
    timings_visit_slowest(timings, see, &seen);
    CHECK_U64(seen.count, TIMINGS_SLOWEST);
    for (unsigned i = 0; i < TIMINGS_SLOWEST; i++) {
        CHECK_U64(seen.elapsed_us[i], 10999 - i);
    }
    CHECK(strcmp(seen.first, "slowest") == 0);
    timings_destroy(timings);
}

static const struct test_case cases[] = {
    TEST_CASE(nothing_yet),
    TEST_CASE(times_of_a_hundred),
    TEST_CASE(only_the_last_thousand_count),
    TEST_CASE(the_slowest_are_kept),
};

TEST_MAIN(cases)
