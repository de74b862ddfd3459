/* thread.h - locks, conditions and named threads. Every lock of the server is a row of LOCK_TABLE,
 * in lock order: a thread that holds a lock may only take one further down the list. Clang checks
 * REQUIRES on functions; GUARDED_BY on members is for people. */
#pragma once

#include "macros.h"

#include <pthread.h>

#if defined(__clang__)
#define REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define LOCK_CAPABILITY __attribute__((capability("mutex")))
#define ACQUIRES(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define RELEASES(...) __attribute__((release_capability(__VA_ARGS__)))
#define TRIES(...) __attribute__((try_acquire_capability(true, __VA_ARGS__)))
/* The locks' own code, and a lock that is held under another name (a = b->owner). */
#define NOT_ANALYSED __attribute__((no_thread_safety_analysis))
#else
#define REQUIRES(...)
#define LOCK_CAPABILITY
#define ACQUIRES(...)
#define RELEASES(...)
#define TRIES(...)
#define NOT_ANALYSED
#endif
#define GUARDED_BY(lock)

/* clang-format off */
#define LOCK_TABLE(ROW)                                                             \
    ROW(LOCK_LANE,      "lane: its queue of requests and its counters")             \
    ROW(LOCK_EXCHANGE,  "http: the state of one request between its threads")       \
    ROW(LOCK_WATCH,     "http: the set of suspended client connections")            \
    ROW(LOCK_AUTH,      "auth: tokens, keys, and signed tokens that were right")    \
    ROW(LOCK_RESULTS,   "ops: results kept for who asks again")                     \
    ROW(LOCK_TEXTS,     "api: what is known of statements' texts")                  \
    ROW(LOCK_DATABASES, "database: which are open, and who runs in them")           \
    ROW(LOCK_BREAKER,   "ops: the state of one circuit breaker")                    \
    ROW(LOCK_SYSTEM,    "ops: how busy the machine is")                             \
    ROW(LOCK_TIMINGS,   "ops: how long requests took")                              \
    ROW(LOCK_MEMORY,    "engine: bytes of worker memory handed out")                \
    ROW(LOCK_TABLES,    "lake: which tables there are, and what keeps the log")     \
    ROW(LOCK_LAKE_TABLE, "lake: one table's schema, tail and plan")                 \
    ROW(LOCK_KEYS,      "lake: idempotency keys")                                   \
    ROW(LOCK_WRITER,    "lake: what of a request is not durable yet")               \
    ROW(LOCK_SHIP,      "lake: what the flush threads share")                       \
    ROW(LOCK_SCHEMA,    "lake: schemas of objects already read")                    \
    ROW(LOCK_WAL,       "wal: the queue and the list of segments")                  \
    ROW(LOCK_SLOTS,     "engine: who runs and who waits in one database's process") \
    ROW(LOCK_ZYGOTE,    "engine: the socket to the zygote and the jobs that wait")  \
    ROW(LOCK_FETCH,     "engine: ranges that workers wait for")                     \
    ROW(LOCK_CACHE,     "store: which blocks of which objects are kept")            \
    ROW(LOCK_STORE,     "store: retry budgets per endpoint")                        \
    ROW(LOCK_NET,       "net: idle connections, and the list of endpoints")         \
    ROW(LOCK_RUNNING,   "ops: the queries that are listed")                         \
    ROW(LOCK_REQUESTS,  "worker: which request runs in which slot of a database")   \
    ROW(LOCK_VFS,       "worker: which ranges of an object are there")              \
    ROW(LOCK_CHANNEL,   "worker: the questions that wait for an answer")            \
    ROW(LOCK_SEND,      "worker, engine: whole frames on a worker's socket")        \
    ROW(LOCK_LOG,       "base: lines of the log that wait to be written")
/* clang-format on */

#define LOCK_ENUM_ROW(name, meaning) name,
enum lock_rank {
    LOCK_TABLE(LOCK_ENUM_ROW) LOCK_RANK_COUNT
};
#undef LOCK_ENUM_ROW

/* Nothing moves across it, in the compiler or the processor: for memory that is shared with another
 * process, where a lock or an atomic of the language does not reach. (ThreadSanitizer does not know
 * atomic_thread_fence.) */
static inline void thread_full_barrier(void)
{
    __sync_synchronize();
}

struct LOCK_CAPABILITY lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
};

struct condition {
    pthread_cond_t cond; /* on the monotonic clock */
};

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_finish(struct lock *lock);
void lock_take(struct lock *lock) ACQUIRES(lock) NOT_ANALYSED;
/* False when another thread holds it: for work that may as well be left out. */
bool lock_try(struct lock *lock) TRIES(lock) NOT_ANALYSED;
void lock_release(struct lock *lock) RELEASES(lock) NOT_ANALYSED;

void condition_init(struct condition *condition);
void condition_finish(struct condition *condition);
void condition_signal(struct condition *condition);
void condition_broadcast(struct condition *condition);
void condition_wait(struct condition *condition, struct lock *lock) REQUIRES(lock);
/* False when deadline_ms (clock_now_ms) passed first. */
bool condition_wait_until(struct condition *condition, struct lock *lock, int64_t deadline_ms)
    REQUIRES(lock);
/* False when wait_us, at most a second, passed first. */
bool condition_wait_us(struct condition *condition, struct lock *lock, int64_t wait_us)
    REQUIRES(lock);

/* Starts a thread with a name of at most 15 bytes; a failure ends the process (it happens at start
 * only). */
pthread_t thread_start(const char *name, void *(*run)(void *), void *argument);
/* For one that is started while the server runs; false when the system has none to give. */
bool thread_try_start(const char *name, void *(*run)(void *), void *argument,
                      pthread_t *ret_thread) MUST_CHECK;
/* Threads of one kind, started as they are needed: the first at once, the others when more waits
 * than there are idle ones. Guarded by a lock of the caller's, in which each of them counts itself
 * idle while it waits for work. */
struct thread_set {
    const char *name;
    void *(*run)(void *);
    void *argument;
    unsigned count;
    unsigned count_max;
    unsigned idle;
    pthread_t *threads;
};

/* `name` is kept. A failure ends the process, as with thread_start. */
void thread_set_init(struct thread_set *set, const char *name, unsigned count_max,
                     void *(*run)(void *), void *argument);
/* One more, if `waiting` pieces of work are more than there are idle threads. When the system has
 * none to give, those that are there do the work. */
void thread_set_want(struct thread_set *set, unsigned waiting);
/* Without the lock, when they are about to end and no more are wanted. */
void thread_set_join(struct thread_set *set);
/* Starts a thread that nobody waits for; false when the system has none to give. */
bool thread_start_detached(const char *name, void *(*run)(void *), void *argument) MUST_CHECK;
