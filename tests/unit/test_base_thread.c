#include "test.h"

#include "clock.h"
#include "thread.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Takes the two locks in this order in a child process; true when that ended in abort(). */
NOT_ANALYSED static bool dies_taking(enum lock_rank first, enum lock_rank second,
                                     bool release_first)
{
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct lock a;
        struct lock b;
        (void)close(STDERR_FILENO);
        lock_init(&a, first);
        lock_init(&b, second);
        lock_take(&a);
        if (release_first) {
            lock_release(&a);
        }
        lock_take(&b);
        _exit(0);
    }
    int status = 0;
    (void)waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

TEST(locks_are_taken_down_the_table)
{
    for (int first = 0; first < LOCK_RANK_COUNT; first += 3) {
        for (int second = 0; second < LOCK_RANK_COUNT; second += 2) {
            bool died = dies_taking((enum lock_rank)first, (enum lock_rank)second, false);
            if (died != (second <= first)) {
                TEST_FAIL("rank %d and then %d: %s", first, second, died ? "died" : "went on");
            }
        }
    }
}

TEST(neighbours_in_the_table)
{
    CHECK(!dies_taking(LOCK_LANE, LOCK_EXCHANGE, false));
    CHECK(dies_taking(LOCK_EXCHANGE, LOCK_LANE, false));
    CHECK(!dies_taking(LOCK_CHANNEL, LOCK_SEND, false));
    CHECK(dies_taking(LOCK_SEND, LOCK_CHANNEL, false));
}

TEST(the_same_rank_twice_dies)
{
    CHECK(dies_taking(LOCK_STORE, LOCK_STORE, false));
}

TEST(a_released_lock_is_forgotten)
{
    CHECK(!dies_taking(LOCK_SEND, LOCK_LANE, true));
}

struct shared {
    struct lock lock;
    struct condition changed;
    uint64_t count;
    bool go;
    char name[16];
};

static void *count_up(void *argument)
{
    struct shared *shared = argument;
    for (int i = 0; i < 10000; i++) {
        lock_take(&shared->lock);
        shared->count++;
        lock_release(&shared->lock);
    }
    return NULL;
}

static void shared_init(struct shared *shared)
{
    *shared = (struct shared){.count = 0};
    lock_init(&shared->lock, LOCK_LANE);
    condition_init(&shared->changed);
}

static void shared_finish(struct shared *shared)
{
    condition_finish(&shared->changed);
    lock_finish(&shared->lock);
}

TEST(a_lock_excludes)
{
    struct shared shared;
    pthread_t threads[4];
    shared_init(&shared);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        threads[i] = thread_start("counter", count_up, &shared);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        (void)pthread_join(threads[i], NULL);
    }
    CHECK_U64(shared.count, 40000);
    shared_finish(&shared);
}

static void *wait_for_go(void *argument)
{
    struct shared *shared = argument;
    (void)pthread_getname_np(pthread_self(), shared->name, sizeof(shared->name));
    lock_take(&shared->lock);
    while (!shared->go) {
        condition_wait(&shared->changed, &shared->lock);
    }
    shared->count++;
    lock_release(&shared->lock);
    return NULL;
}

TEST(a_broadcast_wakes_all_and_threads_have_names)
{
    struct shared shared;
    shared_init(&shared);
    pthread_t one = thread_start("fifteen-letters", wait_for_go, &shared);
    (void)pthread_join(thread_start("counter", count_up, &shared), NULL);
    lock_take(&shared.lock);
    shared.go = true;
    condition_broadcast(&shared.changed);
    lock_release(&shared.lock);
    (void)pthread_join(one, NULL);
    CHECK_STR(str_of(shared.name), "fifteen-letters");
    CHECK_U64(shared.count, 10001);
    shared_finish(&shared);
}

TEST(a_wait_ends_at_its_deadline)
{
    struct shared shared;
    shared_init(&shared);
    int64_t deadline_ms = clock_now_ms() + 30;
    bool late = false;
    lock_take(&shared.lock);
    /* A wake-up without a reason is allowed: the deadline must come all the same. */
    while (!late && condition_wait_until(&shared.changed, &shared.lock, deadline_ms)) {
        late = clock_now_ms() >= deadline_ms + 30000;
    }
    lock_release(&shared.lock);
    CHECK(!late && clock_now_ms() >= deadline_ms);
    shared_finish(&shared);
}

static const struct test_case cases[] = {
    TEST_CASE(locks_are_taken_down_the_table),
    TEST_CASE(neighbours_in_the_table),
    TEST_CASE(the_same_rank_twice_dies),
    TEST_CASE(a_released_lock_is_forgotten),
    TEST_CASE(a_lock_excludes),
    TEST_CASE(a_broadcast_wakes_all_and_threads_have_names),
    TEST_CASE(a_wait_ends_at_its_deadline),
};

TEST_MAIN(cases)
