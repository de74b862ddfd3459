#include "clock.h"
#include "database_internal.h"
#include "mem.h"
#include "worker_redact.h"

enum {
    KEEP_EVERY_MS = 1000,
    TRASH_EVERY_MS = 3600000
};

/* ---- the keeper ---- */

static void *keep(void *argument)
{
    struct databases *databases = argument;
    int64_t trash_ms = 0;
    lock_take(&databases->lock);
    while (!databases->stopping) {
        int64_t now_ms = clock_now_ms();
        if (now_ms >= trash_ms) {
            trash_ms = now_ms + TRASH_EVERY_MS;
            lock_release(&databases->lock);
            databases_empty_trash(databases);
            lock_take(&databases->lock);
        }
        databases_close_idle(databases, databases->options.idle_close_ms);
        (void)condition_wait_until(&databases->keep, &databases->lock,
                                   clock_now_ms() + KEEP_EVERY_MS);
    }
    lock_release(&databases->lock);
    return NULL;
}

struct databases *databases_create(const struct databases_options *options)
{
    assert(options->open_max > 0 && options->slots > 0 && options->slots < WORKER_SLOTS_MAX);
    struct databases *databases = mem_alloc(sizeof(*databases));
    databases->options = *options;
    lock_init(&databases->lock, LOCK_DATABASES);
    condition_init(&databases->changed);
    condition_init(&databases->keep);
    atomic_init(&databases->close_by_ms, INT64_MAX);
    databases_find_default(databases);
    databases_init_clock(databases);
    databases_remove_half_restored(databases);
    databases->keeper = thread_start("keeper", keep, databases);
    return databases;
}

void databases_destroy(struct databases *databases, int64_t deadline_ms)
{
    if (databases == NULL) {
        return;
    }
    atomic_store(&databases->close_by_ms, deadline_ms); /* also for what the keeper closes now */
    lock_take(&databases->lock);
    databases->stopping = true;
    condition_broadcast(&databases->keep);
    lock_release(&databases->lock);
    (void)pthread_join(databases->keeper, NULL);
    lock_take(&databases->lock);
    databases_close_all(databases, deadline_ms);
    lock_release(&databases->lock);
    map_finish(&databases->by_name);
    while (databases->first != NULL) {
        struct database *next = databases->first->next;
        database_destroy(databases->first);
        databases->first = next;
    }
    condition_finish(&databases->changed);
    condition_finish(&databases->keep);
    lock_finish(&databases->lock);
    mem_free(databases->default_folder);
    mem_free(databases);
}

/* ---- one request ---- */

/* What the breaker makes of it (P22): faults of the engine and of the disk are failures. A
 * statement that was wrong, too large or too slow is its client's, also when the process had to be
 * ended. */
static enum breaker_result judge(const struct databases *databases, bool good,
                                 const struct engine_database_outcome *outcome,
                                 const struct err *err)
{
    if (good) {
        return BREAKER_SUCCESS;
    }
    if (err->kind == ERR_TIMEOUT || err->kind == ERR_CANCELLED || err->kind == ERR_STOPPED ||
        outcome->killed || outcome->out_of_memory) {
        return BREAKER_NEITHER;
    }
    bool broken = outcome->died || outcome->done.fault == WORKER_FAULT_IO ||
                  outcome->done.fault == WORKER_FAULT_ENGINE;
    return broken || databases->options.breaker_counts_statements ? BREAKER_FAILURE
                                                                  : BREAKER_NEITHER;
}

/* Of an opening: whatever is wrong with it is wrong with disk or engine, but for a name that is not
 * there, and who gave up waiting. A file that was set aside is no reason: its refusals cost
 * nothing, and say more than the breaker would. */
static enum breaker_result judge_entry(const struct database_outcome *outcome,
                                       const struct err *err)
{
    bool broken = !outcome->known && (err->kind == ERR_UNAVAILABLE || err->kind == ERR_INTERNAL);
    return broken ? BREAKER_FAILURE : BREAKER_NEITHER;
}

/* `ret_again`: the process had ended before it could be told of the request. */
static bool run_once(struct database *database, const struct database_request *request,
                     struct cancel *cancel, struct database_outcome *outcome, bool *ret_again,
                     struct err *err)
{
    struct databases *databases = database->owner;
    enum database_use use = request->probe ? USE_PROBE : request->writes ? USE_WRITE : USE_READ;
    *ret_again = false;
    lock_take(&databases->lock);
    int64_t began_us = clock_now_us();
    if (!database_enter(database, use, cancel, &outcome->retry_after_ms, err)) {
        outcome->refused = true;
        outcome->known = outcome->retry_after_ms > 0 || database->aside;
        lock_release(&databases->lock);
        return false;
    }
    bool calm = !database->writing;
    outcome->version = database->version;
    lock_release(&databases->lock);
    outcome->waited_us += (uint64_t)(clock_now_us() - began_us);
    bool good = engine_database_run(database->engine, &request->run, cancel, &outcome->run, err);
    *ret_again = !good && !outcome->run.sent && !engine_database_is_alive(database->engine);
    lock_take(&databases->lock);
    database_leave(database, use);
    outcome->stable = good && calm && !request->writes && !database->writing &&
                      outcome->run.done.changing == 0 && database->version == outcome->version;
    lock_release(&databases->lock);
    return good;
}

/* One that comes just after the process was killed finds another process, like those that come
 * later. */
static bool run_inside(struct database *database, const struct database_request *request,
                       struct cancel *cancel, struct database_outcome *outcome, struct err *err)
{
    bool again;
    if (run_once(database, request, cancel, outcome, &again, err)) {
        return true;
    }
    return again && run_once(database, request, cancel, outcome, &again, err);
}

/* Only the engine knows what some texts do: a macro that asks a sequence looks like a function. */
static bool run_as_it_is(struct database *database, const struct database_request *request,
                         struct cancel *cancel, struct database_outcome *outcome, struct err *err)
{
    bool good = run_inside(database, request, cancel, outcome, err);
    if (good || err->kind != ERR_FORBIDDEN || outcome->refused || request->writes ||
        request->or_as <= WORKER_ROLE_READ) {
        return good;
    }
    struct database_request again = *request;
    again.writes = true;
    again.run.request.role = again.or_as;
    *outcome = (struct database_outcome){0};
    return run_inside(database, &again, cancel, outcome, err);
}

static struct str shown_statement(const struct worker_request *request)
{
    return request->statements_count > 0 ? request->statements[0] : STR("");
}

static void note(struct database *database, const struct database_request *request, bool good,
                 uint64_t memory_bytes, int64_t elapsed_us)
{
    struct timings_entry entry = {
        .elapsed_us = (uint64_t)elapsed_us,
        .memory_bytes = memory_bytes,
        .good = good,
        .wall_ms = clock_wall_ms(),
        .statement = shown_statement(&request->run.request),
        .redact = worker_redact,
    };
    timings_add(database->timings, &entry);
}

static bool run_counted(struct database *database, const struct database_request *request,
                        struct cancel *cancel, struct database_outcome *outcome, struct err *err)
{
    struct breaker_pass pass;
    int64_t began_us = clock_now_us();
    if (!breaker_enter(database->breaker, began_us / 1000, &pass, &outcome->retry_after_ms, err)) {
        outcome->refused = true;
        outcome->breaker_open = true;
        return false;
    }
    bool good = run_as_it_is(database, request, cancel, outcome, err);
    int64_t ended_us = clock_now_us();
    enum breaker_result result = outcome->refused
                                     ? judge_entry(outcome, err)
                                     : judge(database->owner, good, &outcome->run, err);
    breaker_leave(database->breaker, &pass, result, ended_us / 1000);
    note(database, request, good, outcome->run.done.memory_bytes, ended_us - began_us);
    return good;
}

bool databases_run(struct databases *databases, const struct database_request *request,
                   struct cancel *cancel, struct database_outcome *ret_outcome, struct err *err)
{
    *ret_outcome = (struct database_outcome){0};
    struct database *database = database_find(databases, request->database, err);
    if (database == NULL) {
        ret_outcome->refused = true;
        return false;
    }
    return request->probe ? run_inside(database, request, cancel, ret_outcome, err)
                          : run_counted(database, request, cancel, ret_outcome, err);
}

bool databases_open(struct databases *databases, struct str name, struct cancel *cancel,
                    struct err *err)
{
    struct database *database = database_find(databases, name, err);
    if (database == NULL) {
        return false;
    }
    int64_t retry_ms;
    lock_take(&databases->lock);
    bool good = database_enter(database, USE_PROBE, cancel, &retry_ms, err);
    if (good) {
        database_leave(database, USE_PROBE);
    }
    lock_release(&databases->lock);
    return good;
}

bool databases_version(struct databases *databases, struct str name, uint64_t *ret_version)
{
    lock_take(&databases->lock);
    const struct database *database =
        map_find(&databases->by_name, database_own_name(databases, name));
    /* While one writes, its change may have been seen by others already: what was kept before it
     * would take that back. */
    bool known = database != NULL && database->phase == PHASE_OPEN && !database->writing;
    *ret_version = known ? database->version : 0;
    lock_release(&databases->lock);
    return known;
}

struct timings *databases_timings(struct databases *databases, struct str name)
{
    struct err ignored;
    struct database *database = database_find(databases, name, &ignored);
    return database == NULL ? NULL : database->timings;
}

bool databases_reset_breaker(struct databases *databases, struct str name)
{
    struct err ignored;
    struct database *database = database_find(databases, name, &ignored);
    if (database != NULL) {
        breaker_reset(database->breaker);
    }
    return database != NULL;
}
