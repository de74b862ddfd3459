#include "test.h"

#include "ops_breaker.h"

static const struct breaker_options options = {
    .failure_threshold = 5,
    .success_threshold = 3,
    .timeout_ms = 30000,
    .timeout_max_ms = 300000,
    .window_ms = 300000,
};

/* One request that ends at once. */
static bool pass(struct breaker *breaker, int64_t now_ms, enum breaker_result result)
{
    struct breaker_pass pass;
    int64_t retry_ms;
    struct err err;
    if (!breaker_enter(breaker, now_ms, &pass, &retry_ms, &err)) {
        return false;
    }
    breaker_leave(breaker, &pass, result, now_ms);
    return true;
}

static enum breaker_state state_of(struct breaker *breaker, int64_t now_ms)
{
    struct breaker_status status;
    breaker_status(breaker, now_ms, &status);
    return status.state;
}

static int64_t retry_of(struct breaker *breaker, int64_t now_ms)
{
    struct breaker_status status;
    breaker_status(breaker, now_ms, &status);
    return status.retry_in_ms;
}

static void fail(struct breaker *breaker, int64_t now_ms, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void)pass(breaker, now_ms, BREAKER_FAILURE);
    }
}

TEST(five_failures_open_it)
{
    struct breaker *breaker = breaker_create(&options);
    fail(breaker, 1000, 4);
    CHECK(state_of(breaker, 1000) == BREAKER_CLOSED);
    fail(breaker, 1000, 1);
    CHECK(state_of(breaker, 1000) == BREAKER_OPEN);
    CHECK(!pass(breaker, 1000, BREAKER_SUCCESS));
    CHECK_I64(retry_of(breaker, 11000), 20000);
    CHECK(!pass(breaker, 30999, BREAKER_SUCCESS));
    CHECK(pass(breaker, 31000, BREAKER_SUCCESS));
    breaker_destroy(breaker);
}

TEST(other_peoples_mistakes_never_open_it)
{
    struct breaker *breaker = breaker_create(&options);
    for (int i = 0; i < 1000; i++) {
        CHECK(pass(breaker, i, BREAKER_NEITHER));
    }
    CHECK(state_of(breaker, 1000) == BREAKER_CLOSED);
    breaker_destroy(breaker);
}

TEST(failures_far_apart_do_not_open_it)
{
    struct breaker *breaker = breaker_create(&options);
    for (int64_t i = 1; i <= 20; i++) {
        fail(breaker, i * 100000, 1); /* at most four within the window */
    }
    CHECK(state_of(breaker, 2000000) == BREAKER_CLOSED);
    breaker_destroy(breaker);
}

TEST(few_failures_among_many_successes_do_not_open_it)
{
    struct breaker *breaker = breaker_create(&options);
    for (int64_t i = 0; i < 100; i++) {
        CHECK(pass(breaker, 1000 + i, BREAKER_SUCCESS));
        CHECK(pass(breaker, 1000 + i, BREAKER_SUCCESS));
        CHECK(pass(breaker, 1000 + i, BREAKER_FAILURE));
    }
    CHECK(state_of(breaker, 2000) == BREAKER_CLOSED);
    breaker_destroy(breaker);
}

TEST(half_open_lets_one_probe_through)
{
    struct breaker *breaker = breaker_create(&options);
    fail(breaker, 0, 5);
    struct breaker_pass probe;
    int64_t retry_ms = 0;
    struct err err;
    CHECK_OK(breaker_enter(breaker, 30000, &probe, &retry_ms, &err), err);
    CHECK(!pass(breaker, 30000, BREAKER_SUCCESS));
    CHECK(!pass(breaker, 40000, BREAKER_SUCCESS));
    breaker_leave(breaker, &probe, BREAKER_NEITHER, 40000); /* says nothing: the next may try */
    CHECK(state_of(breaker, 40000) == BREAKER_HALF_OPEN);
    CHECK(pass(breaker, 40000, BREAKER_SUCCESS));
    CHECK(pass(breaker, 40000, BREAKER_SUCCESS));
    CHECK(state_of(breaker, 40000) == BREAKER_HALF_OPEN);
    CHECK(pass(breaker, 40000, BREAKER_SUCCESS));
    CHECK(state_of(breaker, 40000) == BREAKER_CLOSED);
    breaker_destroy(breaker);
}

TEST(the_wait_doubles_and_is_bounded_and_forgotten)
{
    static const int64_t waits_ms[] = {30000, 60000, 120000, 240000, 300000, 300000};
    struct breaker *breaker = breaker_create(&options);
    int64_t now_ms = 1000;
    fail(breaker, now_ms, 5);
    for (size_t i = 0; i < COUNT_OF(waits_ms); i++) {
        CHECK_I64(retry_of(breaker, now_ms), waits_ms[i]);
        now_ms += waits_ms[i];
        fail(breaker, now_ms, 1);
    }
    now_ms += 300000;
    for (int i = 0; i < 3; i++) {
        CHECK(pass(breaker, now_ms, BREAKER_SUCCESS));
    }
    fail(breaker, now_ms, 5);
    CHECK_I64(retry_of(breaker, now_ms), 30000);
    breaker_destroy(breaker);
}

TEST(who_began_before_the_opening_does_not_count_after_it)
{
    struct breaker *breaker = breaker_create(&options);
    struct breaker_pass slow;
    int64_t retry_ms = 0;
    struct err err;
    CHECK_OK(breaker_enter(breaker, 0, &slow, &retry_ms, &err), err);
    fail(breaker, 0, 5);
    breaker_leave(breaker, &slow, BREAKER_FAILURE, 1000);
    CHECK_I64(retry_of(breaker, 1000), 29000);
    struct breaker_pass probe;
    CHECK_OK(breaker_enter(breaker, 30000, &probe, &retry_ms, &err), err);
    breaker_reset(breaker);
    CHECK(state_of(breaker, 30000) == BREAKER_CLOSED);
    breaker_leave(breaker, &probe, BREAKER_FAILURE, 30000);
    CHECK(state_of(breaker, 30000) == BREAKER_CLOSED);
    breaker_destroy(breaker);
}

TEST(the_numbers_are_true)
{
    struct breaker *breaker = breaker_create(&options);
    struct breaker_status status;
    breaker_status(breaker, 5, &status);
    CHECK_I64(status.last_failure_ago_ms, -1);
    CHECK(pass(breaker, 1000, BREAKER_SUCCESS));
    fail(breaker, 2000, 5);
    CHECK(!pass(breaker, 3000, BREAKER_SUCCESS));
    breaker_status(breaker, 3000, &status);
    CHECK_U64(status.total, 6);
    CHECK_U64(status.successful, 1);
    CHECK_U64(status.failed, 5);
    CHECK_U64(status.refused, 1);
    CHECK_U64(status.opened, 1);
    CHECK_U64(status.failure_count, 5);
    CHECK_I64(status.last_failure_ago_ms, 1000);
    CHECK_I64(status.last_success_ago_ms, 2000);
    breaker_reset(breaker);
    breaker_status(breaker, 3000, &status);
    CHECK_U64(status.failure_count, 0);
    CHECK_I64(status.retry_in_ms, 0);
    CHECK_U64(status.total, 6);
    breaker_destroy(breaker);
}

static const struct test_case cases[] = {
    TEST_CASE(five_failures_open_it),
    TEST_CASE(other_peoples_mistakes_never_open_it),
    TEST_CASE(failures_far_apart_do_not_open_it),
    TEST_CASE(few_failures_among_many_successes_do_not_open_it),
    TEST_CASE(half_open_lets_one_probe_through),
    TEST_CASE(the_wait_doubles_and_is_bounded_and_forgotten),
    TEST_CASE(who_began_before_the_opening_does_not_count_after_it),
    TEST_CASE(the_numbers_are_true),
};

TEST_MAIN(cases)
