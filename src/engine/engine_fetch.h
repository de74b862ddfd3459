/* engine_fetch.h - ranged reads for workers, done by a small pool of threads.
 * Promise   a fetch that was queued is answered exactly once, on its queue's descriptor;
 *           fetch_queue_drain() waits until none is under way, so that what the fetches point at
 *           may be freed.
 * Owner     struct engine owns the pool, each job its queue.   Threads  `fetch` run them; the job's
 *           thread queues and takes.   Limits  4 under way per queue, the rest waits in it. */
#pragma once

#include "cancel.h"
#include "err.h"
#include "store.h"
#include "thread.h"

struct fetch_pool;

struct fetch {
    uint32_t question; /* the worker's id for it */
    struct store *store;
    struct str key;
    const char *etag;
    uint64_t offset;
    uint64_t size;
    int into_fd;
    uint64_t into_offset;
    bool good;
    struct err err;
    struct fetch_queue *queue;
    struct fetch *next;
};

struct fetch_queue {
    struct fetch_pool *pool;
    struct cancel cancel;  /* raised when the job ends */
    int done_fd;           /* readable while something is done */
    struct fetch *waiting; /* job's thread only */
    struct fetch *done;    /* pool lock */
    unsigned under_way;    /* job's thread only */
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
