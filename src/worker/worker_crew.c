#include "worker_crew.h"

#include "mem.h"
#include "thread.h"
#include "worker_shim.h"

#include <stdatomic.h>

enum {
    SLOT_WAIT_US = 1000, /* for a task of the statement, where none of the crew ends one */
};

struct crew {
    duckdb_database database;
    duckdb_task_state state;
    atomic_uint idle;    /* of the crew: nobody has called them */
    atomic_ullong ended; /* tasks, by the crew */
    atomic_uint waiting; /* slots, for one of them to end */
    struct lock lock;    /* LOCK_REQUESTS; not held in the engine */
    struct condition called;
    struct condition progressed;
    struct condition left;
    unsigned calls GUARDED_BY(lock);   /* that nobody has answered yet */
    unsigned working GUARDED_BY(lock); /* of the crew, in the engine */
    bool stopping GUARDED_BY(lock);
};

/* ---- the threads `engine` ---- */

static void call(struct crew *crew)
{
    if (atomic_load(&crew->idle) == 0) {
        return;
    }
    lock_take(&crew->lock);
    if (crew->calls < atomic_load(&crew->idle)) {
        crew->calls++;
        condition_signal(&crew->called);
    }
    lock_release(&crew->lock);
}

static void note_end(struct crew *crew)
{
    atomic_fetch_add(&crew->ended, 1);
    if (atomic_load(&crew->waiting) > 0) {
        lock_take(&crew->lock);
        condition_broadcast(&crew->progressed);
        lock_release(&crew->lock);
    }
}

/* Whoever finds one task for himself and another behind it calls the next. */
static void work_on_all(struct crew *crew)
{
    do {
        if (shim_tasks_count(crew->database) > 1) {
            call(crew);
        }
        if (duckdb_execute_n_tasks_state(crew->state, 1) == 0) {
            return;
        }
        note_end(crew);
    } while (true);
}

static void *member(void *argument)
{
    struct crew *crew = argument;
    lock_take(&crew->lock);
    atomic_fetch_add(&crew->idle, 1);
    while (!crew->stopping) {
        if (crew->calls == 0) {
            condition_wait(&crew->called, &crew->lock);
            continue;
        }
        crew->calls--;
        crew->working++;
        atomic_fetch_sub(&crew->idle, 1);
        lock_release(&crew->lock);
        work_on_all(crew);
        lock_take(&crew->lock);
        crew->working--;
        atomic_fetch_add(&crew->idle, 1);
        condition_broadcast(&crew->left);
    }
    lock_release(&crew->lock);
    return NULL;
}

/* ---- a slot's thread ---- */

/* `seen` is how many had ended when there was nothing to do. */
static void wait_for_others(struct crew *crew, uint64_t seen)
{
    atomic_fetch_add(&crew->waiting, 1);
    lock_take(&crew->lock);
    if (atomic_load(&crew->ended) == seen) {
        (void)condition_wait_us(&crew->progressed, &crew->lock, SLOT_WAIT_US);
    }
    lock_release(&crew->lock);
    atomic_fetch_sub(&crew->waiting, 1);
}

bool crew_work(struct crew *crew, duckdb_connection connection, duckdb_pending_result pending,
               struct shim_failure *ret_failure)
{
    enum shim_step step = SHIM_STEP_MORE;
    /* The first tasks begin one pipeline each, which takes less than to wake somebody for it. */
    size_t first = crew == NULL ? 0 : shim_statement_tasks(connection);
    while (crew != NULL && (step == SHIM_STEP_MORE || step == SHIM_STEP_NOTHING)) {
        if (shim_statement_tasks(connection) > first + 1) {
            call(crew);
        }
        first -= first > 0 ? 1 : 0;
        uint64_t ended = atomic_load(&crew->ended);
        step = shim_step(pending, ret_failure);
        if (step == SHIM_STEP_NOTHING) {
            wait_for_others(crew, ended);
        }
    }
    return step != SHIM_STEP_FAILED;
}

void crew_offer(struct crew *crew)
{
    if (crew != NULL && shim_tasks_count(crew->database) > 0) {
        call(crew);
    }
}

/* ---- its life ---- */

struct crew *crew_create(duckdb_database database, unsigned threads)
{
    if (threads <= 1 || !shim_hold_threads(database, threads)) {
        return NULL; /* the engine starts its own when it wants them */
    }
    struct crew *crew = mem_alloc(sizeof(*crew));
    crew->database = database;
    crew->state = duckdb_create_task_state(database);
    lock_init(&crew->lock, LOCK_REQUESTS);
    condition_init(&crew->called);
    condition_init(&crew->progressed);
    condition_init(&crew->left);
    for (unsigned i = 1; i < threads; i++) {
        if (!thread_start_detached("engine", member, crew)) {
            break; /* no memory for more */
        }
    }
    return crew;
}

void crew_stop(struct crew *crew)
{
    if (crew == NULL) {
        return;
    }
    lock_take(&crew->lock);
    crew->stopping = true;
    condition_broadcast(&crew->called);
    while (crew->working > 0) {
        condition_wait(&crew->left, &crew->lock);
    }
    lock_release(&crew->lock);
    duckdb_destroy_task_state(crew->state);
}
