#include "worker_helpers.h"

#include "mem.h"
#include "thread.h"
#include "worker_shim.h"
#include "worker_shim_statement.h"

#include <stdatomic.h>

struct helpers {
    duckdb_database database;
    duckdb_task_state state;
    unsigned count;
    atomic_bool started;
};

struct helpers *helpers_create(duckdb_database database, unsigned threads)
{
    struct helpers *helpers = mem_alloc(sizeof(*helpers));
    helpers->database = database;
    helpers->state = duckdb_create_task_state(database);
    /* Otherwise the engine starts its own when it wants them. */
    helpers->count = shim_hold_threads(database, threads) ? threads - 1 : 0;
    return helpers;
}

static void *help(void *argument)
{
    struct helpers *helpers = argument;
    duckdb_execute_tasks_state(helpers->state);
    return NULL;
}

void helpers_start(struct helpers *helpers)
{
    if (atomic_load(&helpers->started) || atomic_exchange(&helpers->started, true)) {
        return;
    }
    for (unsigned i = 0; i < helpers->count; i++) {
        if (!thread_start_detached("engine", help, helpers)) {
            return;
        }
    }
}

bool helpers_wanted(const struct helpers *helpers)
{
    return shim_tasks_count(helpers->database) > 0;
}
