/* engine_fetch.h - what a job waits for a store for, done by a small pool of threads.
 * Promise   a fetch that was queued is answered exactly once, on its queue's descriptor;
 *           fetch_queue_finish() waits until none is under way, so that what the fetches point at
 *           may be freed.
 * Owner     struct engine owns the pool, each job its queue.   Threads  `fetch` run them; the job's
 *           thread queues and takes.   Limits  8 under way per queue, 6 of them for what nobody
 *           waits for yet; the rest waits in it. */
#pragma once

#include "cancel.h"
#include "err.h"
#include "store_cache.h"
#include "thread.h"

struct fetch_pool;

struct fetch {
    struct job_question *question; /* NULL: nobody waits for it, it reads ahead */
    struct job_object *object;     /* for the job's own thread */
    struct cached_object *cached;
    struct store_cache_source source;
    bool proving; /* store_cache_prove, else fill */
    uint64_t first;
    uint64_t count;
    bool good;
    struct store_cache_fetched fetched;
    struct err err;
    struct fetch_queue *queue;
    struct fetch *next;
};

struct fetch_queue {
    struct fetch_pool *pool;
    struct cancel cancel;     /* raised when the job ends */
    int done_fd;              /* readable while something is done */
    struct fetch *waiting;    /* job's thread only: those with a question first */
    struct fetch *done;       /* pool lock */
    unsigned under_way;       /* job's thread only */
    unsigned ahead_under_way; /* of them */
};

struct fetch_pool *fetch_pool_create(unsigned threads);
void fetch_pool_destroy(struct fetch_pool *pool);

bool fetch_queue_init(struct fetch_queue *queue, struct fetch_pool *pool, int64_t deadline_ms,
                      struct err *err) MUST_CHECK;
/* Takes ownership of the fetch (mem_alloc). */
void fetch_queue_take(struct fetch_queue *queue, struct fetch *fetch);
/* The next finished fetch, to be freed by the caller; NULL when there is none. */
struct fetch *fetch_queue_next(struct fetch_queue *queue);
/* Cancels and waits; frees what is left. */
void fetch_queue_finish(struct fetch_queue *queue);
