#include "engine_fetch.h"

#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    UNDER_WAY_MAX = 8,
    AHEAD_UNDER_WAY_MAX = 6
};

struct fetch_pool {
    struct lock lock; /* LOCK_FETCH: the list and every queue's `done` */
    struct condition work;
    struct fetch *first;
    struct fetch **last;
    unsigned waiting; /* how many are in it */
    bool stopping;
    struct thread_set threads;
};

static struct fetch *take_work(struct fetch_pool *pool)
{
    lock_take(&pool->lock);
    pool->threads.idle++;
    while (pool->first == NULL && !pool->stopping) {
        condition_wait(&pool->work, &pool->lock);
    }
    pool->threads.idle--;
    struct fetch *fetch = pool->first;
    if (fetch != NULL) {
        pool->waiting--;
        pool->first = fetch->next;
        if (pool->first == NULL) {
            pool->last = &pool->first;
        }
    }
    lock_release(&pool->lock);
    return fetch;
}

static void give_back(struct fetch_pool *pool, struct fetch *fetch)
{
    struct fetch_queue *queue = fetch->queue;
    uint64_t one = 1;
    lock_take(&pool->lock);
    fetch->next = queue->done;
    queue->done = fetch;
    /* Under the lock: the job may be gone the moment it has seen its last fetch. */
    (void)!write(queue->done_fd, &one, sizeof(one));
    lock_release(&pool->lock);
}

static void *fetch_run(void *argument)
{
    struct fetch_pool *pool = argument;
    struct fetch *fetch;
    while ((fetch = take_work(pool)) != NULL) {
        struct cancel *cancel = &fetch->queue->cancel;
        fetch->good = fetch->proving
                          ? store_cache_prove(fetch->cached, &fetch->source, cancel,
                                              &fetch->fetched, &fetch->err)
                          : store_cache_fill(fetch->cached, &fetch->source, fetch->first,
                                             fetch->count, cancel, &fetch->fetched, &fetch->err);
        give_back(pool, fetch);
    }
    return NULL;
}

struct fetch_pool *fetch_pool_create(unsigned threads)
{
    struct fetch_pool *pool = mem_alloc(sizeof(*pool));
    lock_init(&pool->lock, LOCK_FETCH);
    condition_init(&pool->work);
    pool->last = &pool->first;
    lock_take(&pool->lock);
    thread_set_init(&pool->threads, "fetch", threads, fetch_run, pool);
    lock_release(&pool->lock);
    return pool;
}

void fetch_pool_destroy(struct fetch_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    lock_take(&pool->lock);
    pool->stopping = true;
    condition_broadcast(&pool->work);
    lock_release(&pool->lock);
    thread_set_join(&pool->threads);
    assert(pool->first == NULL);
    condition_finish(&pool->work);
    lock_finish(&pool->lock);
    mem_free(pool);
}

bool fetch_queue_init(struct fetch_queue *queue, struct fetch_pool *pool, int64_t deadline_ms,
                      struct err *err)
{
    *queue = (struct fetch_queue){.pool = pool};
    cancel_init(&queue->cancel, deadline_ms);
    queue->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->done_fd < 0 || cancel_fd(&queue->cancel) < 0) {
        int problem = errno;
        cancel_finish(&queue->cancel);
        fd_close(&queue->done_fd);
        return err_set_errno(err, ERR_UNAVAILABLE, problem, "the server has too many open files");
    }
    return true;
}

/* What somebody waits for goes first, and always finds a thread that does not read ahead. */
static bool may_start(const struct fetch_queue *queue)
{
    const struct fetch *fetch = queue->waiting;
    return fetch != NULL && queue->under_way < UNDER_WAY_MAX &&
           (fetch->question != NULL || queue->ahead_under_way < AHEAD_UNDER_WAY_MAX);
}

static void start_waiting(struct fetch_queue *queue)
{
    struct fetch_pool *pool = queue->pool;
    while (may_start(queue)) {
        struct fetch *fetch = queue->waiting;
        queue->waiting = fetch->next;
        fetch->next = NULL;
        queue->under_way++;
        queue->ahead_under_way += fetch->question == NULL;
        lock_take(&pool->lock);
        *pool->last = fetch;
        pool->last = &fetch->next;
        pool->waiting++;
        condition_signal(&pool->work);
        thread_set_want(&pool->threads, pool->waiting);
        lock_release(&pool->lock);
    }
}

void fetch_queue_take(struct fetch_queue *queue, struct fetch *fetch)
{
    struct fetch **end = &queue->waiting;
    while (*end != NULL && (fetch->question == NULL || (*end)->question != NULL)) {
        end = &(*end)->next;
    }
    fetch->queue = queue;
    fetch->next = *end;
    *end = fetch;
    start_waiting(queue);
}

struct fetch *fetch_queue_next(struct fetch_queue *queue)
{
    uint64_t count;
    lock_take(&queue->pool->lock);
    (void)!read(queue->done_fd, &count, sizeof(count));
    struct fetch *fetch = queue->done;
    if (fetch != NULL) {
        queue->done = fetch->next;
        if (queue->done != NULL) {
            count = 1;
            (void)!write(queue->done_fd, &count, sizeof(count));
        }
    }
    lock_release(&queue->pool->lock);
    if (fetch != NULL) {
        queue->under_way--;
        queue->ahead_under_way -= fetch->question == NULL;
        start_waiting(queue);
    }
    return fetch;
}

void fetch_queue_finish(struct fetch_queue *queue)
{
    cancel_raise(&queue->cancel, ERR_CANCELLED);
    while (queue->waiting != NULL) {
        struct fetch *fetch = queue->waiting;
        queue->waiting = fetch->next;
        mem_free(fetch);
    }
    while (queue->under_way > 0) {
        struct pollfd done = {.fd = queue->done_fd, .events = POLLIN};
        (void)poll(&done, 1, -1);
        mem_free(fetch_queue_next(queue));
    }
    cancel_finish(&queue->cancel);
    fd_close(&queue->done_fd);
}
