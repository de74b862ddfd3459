#include "thread.h"

#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void must(int result, const char *what)
{
    if (result != 0) {
        (void)fprintf(stderr, "eider: %s failed: error %d\n", what, result);
        abort();
    }
}

void lock_init(struct lock *lock, enum lock_rank rank)
{
    assert(rank < LOCK_RANK_COUNT);
    lock->rank = rank;
    must(pthread_mutex_init(&lock->mutex, NULL), "mutex_init");
}

void lock_finish(struct lock *lock)
{
    must(pthread_mutex_destroy(&lock->mutex), "mutex_destroy");
}

#ifndef NDEBUG
/* The ranks this thread holds, one bit each: taking a lock that stands at or above a held one is a
 * mistake. */
static _Thread_local unsigned held_ranks;
#endif

void lock_take(struct lock *lock)
{
#ifndef NDEBUG
    assert(held_ranks >> lock->rank == 0);
    held_ranks |= 1U << lock->rank;
#endif
    must(pthread_mutex_lock(&lock->mutex), "mutex_lock");
}

bool lock_try(struct lock *lock)
{
    if (pthread_mutex_trylock(&lock->mutex) != 0) {
        return false;
    }
#ifndef NDEBUG
    assert(held_ranks >> lock->rank == 0);
    held_ranks |= 1U << lock->rank;
#endif
    return true;
}

void lock_release(struct lock *lock)
{
#ifndef NDEBUG
    held_ranks &= ~(1U << lock->rank);
#endif
    must(pthread_mutex_unlock(&lock->mutex), "mutex_unlock");
}

void condition_init(struct condition *condition)
{
    pthread_condattr_t attributes;
    must(pthread_condattr_init(&attributes), "condattr_init");
    must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC), "condattr_setclock");
    must(pthread_cond_init(&condition->cond, &attributes), "cond_init");
    must(pthread_condattr_destroy(&attributes), "condattr_destroy");
}

void condition_finish(struct condition *condition)
{
    must(pthread_cond_destroy(&condition->cond), "cond_destroy");
}

void condition_signal(struct condition *condition)
{
    must(pthread_cond_signal(&condition->cond), "cond_signal");
}

void condition_broadcast(struct condition *condition)
{
    must(pthread_cond_broadcast(&condition->cond), "cond_broadcast");
}

void condition_wait(struct condition *condition, struct lock *lock)
{
    must(pthread_cond_wait(&condition->cond, &lock->mutex), "cond_wait");
}

static bool wait_until(struct condition *condition, struct lock *lock, struct timespec until)
{
    int result = pthread_cond_timedwait(&condition->cond, &lock->mutex, &until);
    if (result != ETIMEDOUT) {
        must(result, "cond_timedwait");
    }
    return result != ETIMEDOUT;
}

bool condition_wait_until(struct condition *condition, struct lock *lock, int64_t deadline_ms)
{
    struct timespec until = {
        .tv_sec = (time_t)(deadline_ms / 1000),
        .tv_nsec = (long)(deadline_ms % 1000) * 1000000,
    };
    return wait_until(condition, lock, until);
}

bool condition_wait_us(struct condition *condition, struct lock *lock, int64_t wait_us)
{
    assert(wait_us >= 0 && wait_us <= 1000000);
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)wait_us * 1000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return wait_until(condition, lock, until);
}

/* Handed to the new thread, which frees it. */
struct beginning {
    const char *name;
    void *(*run)(void *);
    void *argument;
};

/* A thread names itself: naming another one goes through /proc, which a sandboxed process does not
 * have. */
static void *begin(void *argument)
{
    struct beginning beginning = *(struct beginning *)argument;
    mem_free(argument);
    must(pthread_setname_np(pthread_self(), beginning.name), "thread_setname");
    return beginning.run(beginning.argument);
}

pthread_t thread_start(const char *name, void *(*run)(void *), void *argument)
{
    struct beginning *beginning = mem_alloc(sizeof(*beginning));
    *beginning = (struct beginning){.name = name, .run = run, .argument = argument};
    pthread_t thread;
    must(pthread_create(&thread, NULL, begin, beginning), "thread_create");
    return thread;
}

bool thread_try_start(const char *name, void *(*run)(void *), void *argument, pthread_t *ret_thread)
{
    struct beginning *beginning = mem_alloc(sizeof(*beginning));
    *beginning = (struct beginning){.name = name, .run = run, .argument = argument};
    bool started = pthread_create(ret_thread, NULL, begin, beginning) == 0;
    if (!started) {
        mem_free(beginning);
    }
    return started;
}

bool thread_start_detached(const char *name, void *(*run)(void *), void *argument)
{
    pthread_t thread;
    if (!thread_try_start(name, run, argument, &thread)) {
        return false;
    }
    must(pthread_detach(thread), "thread_detach");
    return true;
}

void thread_set_init(struct thread_set *set, const char *name, unsigned count_max,
                     void *(*run)(void *), void *argument)
{
    assert(count_max > 0);
    *set = (struct thread_set){
        .name = name,
        .run = run,
        .argument = argument,
        .count = 1,
        .count_max = count_max,
        .threads = mem_alloc_array(count_max, sizeof(*set->threads)),
    };
    set->threads[0] = thread_start(name, run, argument);
}

void thread_set_want(struct thread_set *set, unsigned waiting)
{
    if (waiting > set->idle && set->count < set->count_max &&
        thread_try_start(set->name, set->run, set->argument, &set->threads[set->count])) {
        set->count++;
    }
}

void thread_set_join(struct thread_set *set)
{
    for (unsigned i = 0; i < set->count; i++) {
        (void)pthread_join(set->threads[i], NULL);
    }
    mem_free(set->threads);
    *set = (struct thread_set){0};
}
