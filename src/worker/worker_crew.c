#include "worker_crew.h"

#include "mem.h"
#include "thread.h"
#include "worker_shim.h"

#include <stdatomic.h>

enum {
    TURN_US = 1000,
    KEEP_TURNS = 50,          /* the crew stays so long after it was of use */
    QUIET_TURNS = 20,         /* without a request: then the watch sleeps until one begins */
    AWAY_REQUESTS_MAX = 20000 /* each leaves wake-ups behind that the crew has to go through */
};

struct crew {
    duckdb_database database;
    crew_look_fn *look;
    void *context;
    atomic_uint requests; /* since the crew was called */
    atomic_bool asleep;   /* the watch is */
    struct lock lock;     /* LOCK_REQUESTS; not held while `look` is asked */
    struct condition changed;
    struct condition begun;
    bool stopping GUARDED_BY(lock);
    duckdb_task_state state GUARDED_BY(lock); /* NULL: nobody is called */
    bool leaving GUARDED_BY(lock);            /* those with this state come back */
    unsigned working GUARDED_BY(lock);
};

/* ---- the threads `engine` ---- */

static void *work(void *argument)
{
    struct crew *crew = argument;
    lock_take(&crew->lock);
    while (!crew->stopping) {
        if (crew->state == NULL || crew->leaving) {
            condition_wait(&crew->changed, &crew->lock);
            continue;
        }
        duckdb_task_state state = crew->state;
        crew->working++;
        lock_release(&crew->lock);
        duckdb_execute_tasks_state(state);
        lock_take(&crew->lock);
        crew->working--;
        condition_broadcast(&crew->changed);
    }
    lock_release(&crew->lock);
    return NULL;
}

/* A state is used once: the engine has no way to take back that it is finished. */
static void forget_state(struct crew *crew) REQUIRES(&crew->lock)
{
    if (crew->leaving && crew->working == 0) {
        duckdb_destroy_task_state(crew->state);
        crew->state = NULL;
        crew->leaving = false;
    }
}

static void call(struct crew *crew) REQUIRES(&crew->lock)
{
    forget_state(crew);
    if (crew->state == NULL) {
        crew->state = duckdb_create_task_state(crew->database);
        condition_broadcast(&crew->changed);
        atomic_store(&crew->requests, 0);
    }
}

static void send_home(struct crew *crew) REQUIRES(&crew->lock)
{
    if (crew->state != NULL && !crew->leaving) {
        crew->leaving = true;
        duckdb_finish_execution(crew->state);
    }
    forget_state(crew);
}

/* ---- the thread `watch` ---- */

/* Until a request begins. One that began while nobody looked is seen here: crew_note looks at
 * `asleep` only after its request can be seen. */
static void sleep_until_begun(struct crew *crew)
{
    bool any = false;
    atomic_store(&crew->asleep, true);
    (void)crew->look(crew->context, &any);
    if (any) {
        atomic_store(&crew->asleep, false);
        return;
    }
    lock_take(&crew->lock);
    while (atomic_load(&crew->asleep) && !crew->stopping) {
        condition_wait(&crew->begun, &crew->lock);
    }
    lock_release(&crew->lock);
}

static void *watch(void *argument)
{
    struct crew *crew = argument;
    unsigned keep = 0;
    unsigned quiet = 0;
    bool stopping = false;
    while (!stopping) {
        bool any = false;
        bool wanted =
            crew->look(crew->context, &any) || atomic_load(&crew->requests) > AWAY_REQUESTS_MAX;
        quiet = any ? 0 : quiet + 1;
        keep = wanted ? KEEP_TURNS : keep > 0 ? keep - 1 : 0;
        lock_take(&crew->lock);
        stopping = crew->stopping;
        if (wanted && !stopping) {
            call(crew);
        } else if (keep == 0) {
            send_home(crew);
        }
        if (!stopping) {
            (void)condition_wait_us(&crew->begun, &crew->lock, TURN_US);
        }
        lock_release(&crew->lock);
        if (keep == 0 && quiet > QUIET_TURNS) {
            sleep_until_begun(crew);
        }
    }
    return NULL;
}

void crew_note(struct crew *crew)
{
    if (crew == NULL) {
        return;
    }
    atomic_fetch_add(&crew->requests, 1);
    if (atomic_load(&crew->asleep) && atomic_exchange(&crew->asleep, false)) {
        lock_take(&crew->lock);
        condition_signal(&crew->begun);
        lock_release(&crew->lock);
    }
}

/* ---- its life ---- */

struct crew *crew_create(duckdb_database database, unsigned threads, crew_look_fn *look,
                         void *context)
{
    if (threads <= 1 || !shim_hold_threads(database, threads)) {
        return NULL; /* the engine starts its own when it wants them */
    }
    struct crew *crew = mem_alloc(sizeof(*crew));
    crew->database = database;
    crew->look = look;
    crew->context = context;
    lock_init(&crew->lock, LOCK_REQUESTS);
    condition_init(&crew->changed);
    condition_init(&crew->begun);
    for (unsigned i = 1; i < threads; i++) {
        if (!thread_start_detached("engine", work, crew)) {
            break; /* no memory for more */
        }
    }
    if (!thread_start_detached("watch", watch, crew)) {
        lock_take(&crew->lock);
        call(crew); /* nobody could later */
        lock_release(&crew->lock);
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
    condition_broadcast(&crew->begun);
    condition_broadcast(&crew->changed);
    send_home(crew);
    while (crew->state != NULL) {
        condition_wait(&crew->changed, &crew->lock);
        forget_state(crew);
    }
    lock_release(&crew->lock);
}
