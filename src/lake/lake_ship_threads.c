#include "lake_ship_internal.h"

#include "clock.h"
#include "mem.h"

enum {
    NAP_MS = 10, /* between two looks at the tables, however often somebody pokes */
    SLEEP_MAX_MS = 3600000,
    HOUSE_PAUSE_MS = 500, /* more often only when no table is due: some table always may be */
    WORK_TIME_MS = 600000 /* for one plan: a store that hangs does not hold a thread for ever */
};

enum work_kind {
    WORK_NONE,
    WORK_PLAN,
    WORK_BATCH,
    WORK_LATE,
    WORK_SWEEP,
    WORK_HOUSE
};

struct work {
    enum work_kind kind;
    struct lake_table *table;
};

struct look {
    struct lake *lake;
    struct work work;
    int64_t now_ms;
    int64_t next_ms; /* when something becomes due by itself */
    bool pressed;    /* the log is half full: everything goes */
    size_t index;    /* of the table that is looked at */
    size_t first;    /* those before, and from `end` on, are passed over */
    size_t end;
};

/* ---- what is due ---- */

static void note_next(struct look *look, int64_t at_ms)
{
    look->next_ms = at_ms < look->next_ms ? at_ms : look->next_ms;
}

static bool plan_is_due(struct look *look, const struct lake_table *table)
{
    if (table->flushing || (table->plan == NULL && table->tail_count == 0)) {
        return false;
    }
    struct ship_limits limits = ship_limits_of(look->lake, table->schema);
    if (table->plan != NULL || look->pressed || table->tail_bytes >= limits.bytes ||
        table->tail_rows >= limits.rows) {
        return true;
    }
    int64_t due_ms = table->tail[0].registered_ms + limits.age_ms;
    note_next(look, due_ms);
    return due_ms <= look->now_ms;
}

static bool has_left(const struct lake_table *table)
{
    const struct lake_batch *batch = table->batches;
    while (batch != NULL && batch->owned) {
        batch = batch->next;
    }
    return batch != NULL;
}

/* Takes the table's plan for this thread at once, so that no other does. */
static bool look_at_table(void *context, struct lake_table *table)
{
    struct look *look = context;
    size_t index = look->index++;
    if (index < look->first || index >= look->end) {
        return true;
    }
    lock_take(&table->lock);
    bool left = has_left(table);
    bool plan = plan_is_due(look, table);
    if ((left || plan) && table->retry_at_ms > look->now_ms) {
        note_next(look, table->retry_at_ms);
    } else if (left || plan) {
        left = left && !(plan && table->failures % 2 == 1); /* a batch that fails stops no plan */
        look->work = (struct work){left ? WORK_BATCH : WORK_PLAN, table};
        table->flushing = table->flushing || !left;
    }
    lock_release(&table->lock);
    return look->work.kind == WORK_NONE;
}

/* Those behind the table that was last first: with fewer threads than tables that are always due,
 * each has its turn. */
static void look_at_tables(struct lake_ship *ship, struct look *look)
{
    size_t start = atomic_load(&ship->next_table);
    look->first = start;
    look->end = SIZE_MAX;
    lake_table_visit(ship->lake, look_at_table, look);
    if (look->work.kind == WORK_NONE) {
        look->index = 0;
        look->first = 0;
        look->end = start;
        lake_table_visit(ship->lake, look_at_table, look);
    }
    if (look->work.kind != WORK_NONE) {
        atomic_store(&ship->next_table, look->index);
    }
}

bool ship_is_pressed(const struct lake *lake)
{
    uint64_t bytes_max = lake->options.log_bytes_max;
    uint64_t bytes = (uint64_t)metric_level(&wal_counts(lake->records)->bytes);
    return wal_is_full(lake->records) || (bytes_max > 0 && bytes > bytes_max / 2);
}

static struct work look_around(struct lake_ship *ship, int64_t *ret_next_ms)
{
    struct look look = {
        .lake = ship->lake,
        .now_ms = clock_now_ms(),
        .next_ms = INT64_MAX,
        .pressed = ship_is_pressed(ship->lake),
    };
    int64_t house_ms;
    int64_t sweep_ms;
    if (ship_sweep_is_due(ship, look.now_ms, &sweep_ms)) {
        return (struct work){.kind = WORK_SWEEP};
    }
    note_next(&look, sweep_ms);
    if (ship_house_is_due(ship, look.now_ms, HOUSE_PAUSE_MS, &house_ms)) {
        return (struct work){.kind = WORK_HOUSE};
    }
    look_at_tables(ship, &look);
    if (look.work.kind == WORK_NONE && ship_house_is_due(ship, look.now_ms, 0, &house_ms)) {
        look.work.kind = WORK_HOUSE;
    } else if (look.work.kind == WORK_NONE) {
        note_next(&look, house_ms);
        int64_t late_ms = ship_next_late_ms(ship);
        note_next(&look, late_ms);
        look.work.kind = late_ms <= look.now_ms ? WORK_LATE : WORK_NONE;
    }
    *ret_next_ms = look.next_ms;
    return look.work;
}

/* ---- the threads ---- */

void lake_ship_poke(struct lake_ship *ship)
{
    if (!atomic_exchange(&ship->poked, true)) {
        lock_take(&ship->lock);
        condition_signal(&ship->wake);
        lock_release(&ship->lock);
    }
}

/* Until somebody pokes or `until_ms`; at least a nap, whoever pokes. False: the end. */
static bool sleep_until(struct lake_ship *ship, int64_t until_ms)
{
    int64_t now_ms = clock_now_ms();
    int64_t nap_ms = now_ms + NAP_MS;
    until_ms = until_ms < now_ms + SLEEP_MAX_MS ? until_ms : now_ms + SLEEP_MAX_MS;
    lock_take(&ship->lock);
    while (!ship->stopping && clock_now_ms() < nap_ms) {
        (void)condition_wait_until(&ship->wake, &ship->lock, nap_ms);
    }
    while (!ship->stopping && !atomic_load(&ship->poked) && clock_now_ms() < until_ms) {
        (void)condition_wait_until(&ship->wake, &ship->lock, until_ms);
    }
    bool go_on = !ship->stopping;
    lock_release(&ship->lock);
    return go_on;
}

bool ship_is_stopping(struct lake_ship *ship)
{
    lock_take(&ship->lock);
    bool stopping = ship->stopping;
    lock_release(&ship->lock);
    return stopping;
}

static bool next_work(struct lake_ship *ship, struct work *ret_work)
{
    while (!ship_is_stopping(ship)) {
        int64_t next_ms = INT64_MAX;
        atomic_store(&ship->poked, false);
        *ret_work = look_around(ship, &next_ms);
        if (ret_work->kind != WORK_NONE) {
            lake_ship_poke(ship); /* there may be more, for another thread */
            return true;
        }
        if (!sleep_until(ship, next_ms)) {
            return false;
        }
    }
    return false;
}

static bool do_table_work(struct lake_ship *ship, const struct work *work, struct cancel *cancel,
                          struct err *err)
{
    if (work->kind == WORK_BATCH) {
        return ship_store_left(ship->lake, work->table, cancel, err);
    }
    uint64_t rows;
    bool good = ship_run_plan(ship->lake, work->table, NULL, UINT64_MAX, cancel, NULL, &rows, err);
    ship_end_flush(work->table);
    return good;
}

static void do_work(struct lake_ship *ship, const struct work *work, struct cancel *cancel)
{
    struct err err;
    switch (work->kind) {
    case WORK_PLAN:
    case WORK_BATCH:
        if (do_table_work(ship, work, cancel, &err)) {
            ship_resume(work->table);
        } else if (!ship_is_stopping(ship)) {
            ship_pause(ship, work->table, &err);
        }
        break;
    case WORK_LATE:
        ship_delete_late(ship, cancel);
        break;
    case WORK_SWEEP:
        ship_sweep_uploads(ship, cancel);
        break;
    case WORK_HOUSE:
        ship_keep_house(ship, cancel);
        break;
    case WORK_NONE:
    default:
        break;
    }
}

static void *run_thread(void *argument)
{
    struct ship_thread *thread = argument;
    struct work work;
    while (next_work(thread->ship, &work)) {
        thread->cancel.deadline_ms = clock_now_ms() + WORK_TIME_MS;
        do_work(thread->ship, &work, &thread->cancel);
    }
    return NULL;
}

/* ---- life ---- */

struct lake_ship *lake_ship_create(struct lake *lake)
{
    struct lake_ship *ship = mem_alloc(sizeof(*ship));
    int64_t now_ms = clock_now_ms();
    ship->lake = lake;
    lock_init(&ship->lock, LOCK_SHIP);
    condition_init(&ship->wake);
    condition_init(&ship->trimmed);
    condition_init(&ship->gate_changed);
    ship->drain_start_ms = now_ms;
    ship->sweep_at_ms = now_ms;
    ship->plans_trimmed_ms = now_ms;
    return ship;
}

void lake_ship_start(struct lake_ship *ship)
{
    unsigned count = ship->lake->options.flush_threads;
    count = count < 1 ? 1 : count < SHIP_THREADS_MAX ? count : SHIP_THREADS_MAX;
    ship->threads = mem_alloc_array(count, sizeof(*ship->threads));
    for (unsigned i = 0; i < count; i++) {
        struct ship_thread *thread = &ship->threads[i];
        thread->ship = ship;
        cancel_init(&thread->cancel, INT64_MAX);
        thread->thread = thread_start("flush", run_thread, thread);
    }
    ship->threads_count = count;
}

static void stop_threads(struct lake_ship *ship)
{
    lock_take(&ship->lock);
    ship->stopping = true;
    condition_broadcast(&ship->wake);
    lock_release(&ship->lock);
    for (unsigned i = 0; i < ship->threads_count; i++) {
        cancel_raise(&ship->threads[i].cancel, ERR_UNAVAILABLE);
    }
    for (unsigned i = 0; i < ship->threads_count; i++) {
        (void)pthread_join(ship->threads[i].thread, NULL);
        cancel_finish(&ship->threads[i].cancel);
    }
    mem_free(ship->threads);
}

void lake_ship_destroy(struct lake_ship *ship)
{
    if (ship == NULL) {
        return;
    }
    stop_threads(ship);
    for (size_t i = 0; i < ship->late_count; i++) {
        mem_free(ship->late[i].key);
    }
    condition_finish(&ship->wake);
    condition_finish(&ship->trimmed);
    condition_finish(&ship->gate_changed);
    lock_finish(&ship->lock);
    mem_free(ship);
}
