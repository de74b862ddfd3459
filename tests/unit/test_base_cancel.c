#include "test.h"

#include "cancel.h"
#include "clock.h"
#include "thread.h"

#include <poll.h>

static int64_t after_ms(int64_t ms)
{
    return clock_now_ms() + ms;
}

TEST(quiet_until_something_happens)
{
    struct cancel cancel;
    struct err err;
    cancel_init(&cancel, INT64_MAX);
    CHECK_OK(cancel_check(&cancel, &err), err);
    CHECK(cancel_fd(&cancel) >= 0);
    CHECK_I64(cancel_left_ms(&cancel, 1234), 1234);
    CHECK_OK(cancel_wait(&cancel, 0, &err), err);
    int64_t began = clock_now_ms();
    CHECK_OK(cancel_wait(&cancel, 20, &err), err);
    CHECK(clock_now_ms() - began >= 20);
    cancel_finish(&cancel);
    CHECK_I64(cancel.event_fd, -1);
    cancel_finish(&cancel);
}

TEST(the_first_reason_counts)
{
    struct cancel cancel;
    struct err err;
    cancel_init(&cancel, INT64_MAX);
    cancel_raise(&cancel, ERR_CANCELLED);
    cancel_raise(&cancel, ERR_UNAVAILABLE);
    CHECK(!cancel_check(&cancel, &err));
    CHECK(err.kind == ERR_CANCELLED);
    CHECK(!cancel_check(&cancel, &err));
    CHECK(err.kind == ERR_CANCELLED);
    cancel_finish(&cancel);
    cancel_init(&cancel, INT64_MAX);
    cancel_raise(&cancel, ERR_UNAVAILABLE);
    cancel_raise(&cancel, ERR_CANCELLED);
    CHECK(!cancel_check(&cancel, &err));
    CHECK(err.kind == ERR_UNAVAILABLE);
    cancel_finish(&cancel);
}

TEST(a_raise_comes_before_the_deadline)
{
    struct cancel cancel;
    struct err err;
    cancel_init(&cancel, 0);
    CHECK(!cancel_check(&cancel, &err));
    CHECK(err.kind == ERR_TIMEOUT);
    cancel_raise(&cancel, ERR_CANCELLED);
    CHECK(!cancel_check(&cancel, &err));
    CHECK(err.kind == ERR_CANCELLED);
    cancel_finish(&cancel);
}

TEST(the_deadline_ends_a_wait)
{
    struct cancel cancel;
    struct err err = {0};
    int64_t deadline_ms = after_ms(30);
    cancel_init(&cancel, deadline_ms);
    CHECK(cancel_left_ms(&cancel, 1000) <= 30);
    CHECK(!cancel_wait(&cancel, 60000, &err));
    CHECK(err.kind == ERR_TIMEOUT);
    CHECK(clock_now_ms() >= deadline_ms);
    CHECK(clock_now_ms() < deadline_ms + 30000);
    CHECK_I64(cancel_left_ms(&cancel, 1000), 0);
    cancel_finish(&cancel);
}

struct waiter {
    struct cancel cancel;
    struct err err;
    bool waited;
    bool polled;
};

static void *wait_for_cancel(void *argument)
{
    struct waiter *waiter = argument;
    waiter->waited = cancel_wait(&waiter->cancel, 60000, &waiter->err);
    return NULL;
}

TEST(a_raise_wakes_a_waiter)
{
    struct waiter waiter = {.waited = true};
    int64_t began = clock_now_ms();
    cancel_init(&waiter.cancel, INT64_MAX);
    pthread_t thread = thread_start("waiter", wait_for_cancel, &waiter);
    cancel_raise(&waiter.cancel, ERR_CANCELLED);
    (void)pthread_join(thread, NULL);
    CHECK(!waiter.waited);
    CHECK(waiter.err.kind == ERR_CANCELLED);
    CHECK(clock_now_ms() - began < 30000);
    cancel_finish(&waiter.cancel);
}

static void *poll_for_cancel(void *argument)
{
    struct waiter *waiter = argument;
    struct pollfd raised = {.fd = cancel_fd(&waiter->cancel), .events = POLLIN};
    waiter->polled = poll(&raised, 1, 60000) == 1 && (raised.revents & POLLIN) != 0;
    return NULL;
}

/* The descriptor stays readable, so that everybody who polls it wakes. */
TEST(a_raise_wakes_all_who_poll)
{
    struct waiter waiter = {.polled = false};
    cancel_init(&waiter.cancel, INT64_MAX);
    pthread_t thread = thread_start("poller", poll_for_cancel, &waiter);
    cancel_raise(&waiter.cancel, ERR_UNAVAILABLE);
    (void)pthread_join(thread, NULL);
    CHECK(waiter.polled);
    waiter.polled = false;
    (void)poll_for_cancel(&waiter);
    CHECK(waiter.polled);
    cancel_finish(&waiter.cancel);
}

TEST(no_descriptor_is_unavailable)
{
    struct cancel cancel = {.event_fd = -1, .deadline_ms = INT64_MAX};
    struct err err;
    CHECK(!cancel_check(&cancel, &err));
    CHECK(err.kind == ERR_UNAVAILABLE);
    cancel_finish(&cancel);
}

static const struct test_case cases[] = {
    TEST_CASE(quiet_until_something_happens),
    TEST_CASE(the_first_reason_counts),
    TEST_CASE(a_raise_comes_before_the_deadline),
    TEST_CASE(the_deadline_ends_a_wait),
    TEST_CASE(a_raise_wakes_a_waiter),
    TEST_CASE(a_raise_wakes_all_who_poll),
    TEST_CASE(no_descriptor_is_unavailable),
};

TEST_MAIN(cases)
