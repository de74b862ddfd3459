#include "lake_ship_internal.h"

#include "clock.h"
#include "digest.h"
#include "log.h"
#include "mem.h"

#include <stdio.h>

enum {
    WAIT_SLICE_MS = 100, /* for the caller's cancel, while another flush of the table runs */
    DRAIN_WINDOW_MS = 30000,
    RETRY_AFTER_MAX_S = 300,
    RETRY_AFTER_UNKNOWN_S = 5,
    ROOM_WAIT_MS = 2000,
    ROOM_LOOK_MS = 50 /* the log may have room for other reasons than a trim */
};

/* ---- acts on the log of plans ---- */

void ship_gate_enter(struct lake_ship *ship)
{
    lock_take(&ship->lock);
    while (ship->gate_shut) {
        condition_wait(&ship->gate_changed, &ship->lock);
    }
    ship->gate_acts++;
    lock_release(&ship->lock);
}

void ship_gate_leave(struct lake_ship *ship)
{
    lock_take(&ship->lock);
    ship->gate_acts--;
    condition_broadcast(&ship->gate_changed);
    lock_release(&ship->lock);
}

/* ---- how it is going ---- */

void ship_note_drained(struct lake_ship *ship, uint64_t bytes)
{
    int64_t now_ms = clock_now_ms();
    lock_take(&ship->lock);
    int64_t elapsed_ms = now_ms - ship->drain_start_ms;
    ship->drain_bytes += bytes;
    if (elapsed_ms > DRAIN_WINDOW_MS || (ship->drain_rate == 0 && elapsed_ms > 0)) {
        ship->drain_rate = ship->drain_bytes * 1000 / (uint64_t)elapsed_ms;
        if (elapsed_ms > DRAIN_WINDOW_MS) {
            ship->drain_start_ms = now_ms;
            ship->drain_bytes = 0;
        }
    }
    lock_release(&ship->lock);
}

void ship_note_done(struct lake_ship *ship, uint64_t bytes)
{
    ship_note_drained(ship, bytes);
    lock_take(&ship->lock);
    ship->flushes++;
    metric_add(&ship->lake->counts.flushes[ERR_NONE], 1);
    ship->last_failure[0] = '\0';
    ship->house_wanted = true;
    lock_release(&ship->lock);
    lake_ship_poke(ship);
}

/* Whoever adds to it, or takes it twice, does not have to think of its size. */
static uint64_t at_most_never(uint64_t limit)
{
    const uint64_t never = INT64_MAX / 4;
    return limit < never ? limit : never;
}

struct ship_limits ship_limits_of(const struct lake *lake, const struct lake_schema *schema)
{
    uint64_t bytes =
        schema->flush_bytes > 0 ? schema->flush_bytes : atomic_load(&lake->flush_bytes);
    uint64_t rows = schema->flush_rows > 0 ? schema->flush_rows : atomic_load(&lake->flush_rows);
    uint64_t age_ms = schema->flush_age_ms > 0 ? schema->flush_age_ms
                                               : (uint64_t)atomic_load(&lake->flush_age_ms);
    return (struct ship_limits){
        .bytes = at_most_never(bytes),
        .rows = at_most_never(rows),
        .age_ms = (int64_t)at_most_never(age_ms),
    };
}

/* ---- a table, on the caller's thread ---- */

/* Waits for the flush of this table that runs, and takes its place. */
static bool begin_flush(struct lake_table *table, struct cancel *cancel, struct err *err)
{
    bool good = true;
    lock_take(&table->lock);
    while (table->flushing && good) {
        (void)condition_wait_until(&table->flushed, &table->lock, clock_now_ms() + WAIT_SLICE_MS);
        good = cancel_check(cancel, err);
    }
    if (good) {
        table->flushing = true;
    }
    lock_release(&table->lock);
    return good;
}

void ship_end_flush(struct lake_table *table)
{
    lock_take(&table->lock);
    table->flushing = false;
    condition_broadcast(&table->flushed);
    lock_release(&table->lock);
}

static bool is_behind(struct lake_table *table, uint64_t upto)
{
    lock_take(&table->lock);
    bool behind = table->plan != NULL || (table->tail_count > 0 && table->tail[0].position <= upto);
    lock_release(&table->lock);
    return behind;
}

static uint64_t last_position(struct lake_table *table)
{
    lock_take(&table->lock);
    uint64_t position = table->tail_count > 0 ? table->tail[table->tail_count - 1].position : 0;
    lock_release(&table->lock);
    return position;
}

bool lake_ship_table(struct lake *lake, struct lake_table *table, const struct lake_date *date,
                     uint64_t position, struct cancel *cancel, struct lake_flushed *ret_flushed,
                     struct err *err)
{
    uint64_t upto = position != 0 ? position : last_position(table);
    if (!is_behind(table, upto)) {
        return true;
    }
    if (!begin_flush(table, cancel, err)) {
        return false;
    }
    bool good = true;
    while (good && is_behind(table, upto)) {
        uint64_t rows;
        good = cancel_check(cancel, err) &&
               ship_run_plan(lake, table, date, upto, cancel, ret_flushed, &rows, err);
    }
    ship_end_flush(table);
    struct err ignored;
    if (good) {
        ship_resume(table);
    } else if (cancel_check(cancel, &ignored)) {
        ship_pause(lake->ship, table, err);
    }
    lake_ship_poke(lake->ship);
    return good;
}

bool lake_flush(struct lake *lake, struct str table_name, const struct lake_date *date,
                struct cancel *cancel, struct lake_flushed *ret_flushed, struct err *err)
{
    struct lake_table *table = lake_table_find(lake, table_name);
    *ret_flushed = (struct lake_flushed){0};
    buf_init(&ret_flushed->urls, 64 << 20);
    return table == NULL
               ? err_set(err, ERR_NOT_FOUND, "there is no table \"%.*s\"", STR_ARG(table_name))
               : lake_ship_table(lake, table, date, 0, cancel, ret_flushed, err);
}

void lake_flushed_finish(struct lake_flushed *flushed)
{
    buf_finish(&flushed->urls);
}

bool lake_wait_stored(struct lake *lake, struct str table_name, uint64_t position,
                      struct cancel *cancel, struct err *err)
{
    struct lake_table *table = lake_table_find(lake, table_name);
    return table == NULL
               ? err_set(err, ERR_NOT_FOUND, "there is no table \"%.*s\"", STR_ARG(table_name))
               : lake_ship_table(lake, table, NULL, position, cancel, NULL, err);
}

/* ---- everything, for the drain ---- */

struct drain {
    struct lake *lake;
    struct cancel *cancel;
};

static bool has_left_batch(struct lake_table *table)
{
    lock_take(&table->lock);
    const struct lake_batch *batch = table->batches;
    while (batch != NULL && batch->owned) {
        batch = batch->next;
    }
    lock_release(&table->lock);
    return batch != NULL;
}

static bool drain_table(void *context, struct lake_table *table)
{
    struct drain *drain = context;
    struct err err;
    bool good = true;
    while (good && has_left_batch(table)) {
        good = ship_store_left(drain->lake, table, drain->cancel, &err);
    }
    /* What does not go is still in the log. */
    (void)!lake_ship_table(drain->lake, table, NULL, 0, drain->cancel, NULL, &err);
    return cancel_check(drain->cancel, &err);
}

void lake_ship_drain(struct lake *lake, struct cancel *cancel)
{
    struct drain drain = {lake, cancel};
    lake_table_visit(lake, drain_table, &drain);
}

/* ---- numbers ---- */

/* With what the log may hold, in hundredths. */
static uint64_t share_of(uint64_t bytes_max, unsigned percent)
{
    return bytes_max / 100 * percent;
}

static unsigned retry_after(struct lake_ship *ship, uint64_t too_much)
{
    lock_take(&ship->lock);
    uint64_t rate = ship->drain_rate;
    lock_release(&ship->lock);
    uint64_t seconds = rate > 0 ? too_much / rate : RETRY_AFTER_UNKNOWN_S;
    seconds = seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S;
    uint32_t random;
    digest_random(&random, sizeof(random));
    seconds = seconds * (80 + random % 41) / 100;
    seconds = seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S;
    return seconds == 0 ? 1 : (unsigned)seconds;
}

bool lake_ship_is_full(struct lake *lake, unsigned *ret_retry_after_s)
{
    struct lake_ship *ship = lake->ship;
    uint64_t bytes_max = lake->options.log_bytes_max;
    uint64_t bytes = (uint64_t)metric_level(&wal_counts(lake->records)->bytes);
    bool full = atomic_load(&ship->full);
    /* One segment is always there, also when the log's limit has hardly room for more. */
    uint64_t tail_bytes = atomic_load(&lake->tail_records) * sizeof(struct lake_tail_record);
    uint64_t tail_bytes_max = lake->options.tail_bytes_max;
    bool tails = tail_bytes_max > 0 && tail_bytes >= share_of(tail_bytes_max, full ? 80 : 95);
    bool least = metric_level(&wal_counts(lake->records)->segments) <= 1;
    if (wal_is_full(lake->records) ||
        (bytes_max > 0 && !least && bytes >= share_of(bytes_max, 95))) {
        full = true;
    } else if (least || bytes <= share_of(bytes_max, 80) || bytes_max == 0) {
        full = false;
    }
    full = full || tails;
    atomic_store(&ship->full, full);
    if (full) {
        uint64_t enough = share_of(bytes_max, 80);
        *ret_retry_after_s = retry_after(ship, bytes > enough ? bytes - enough : 0);
    }
    return full;
}

/* Until somebody trims the log, or for a little while; false when that helps nobody. */
static bool wait_for_trim(struct lake_ship *ship, int64_t until_ms)
{
    int64_t now_ms = clock_now_ms();
    int64_t look_ms = now_ms + ROOM_LOOK_MS;
    lock_take(&ship->lock);
    bool hope = now_ms < until_ms && !ship->stopping && ship->last_failure[0] == '\0';
    if (hope) {
        (void)condition_wait_until(&ship->trimmed, &ship->lock,
                                   look_ms < until_ms ? look_ms : until_ms);
    }
    lock_release(&ship->lock);
    return hope;
}

void lake_ship_wait_for_room(struct lake *lake, uint64_t bytes)
{
    int64_t until_ms = clock_now_ms() + ROOM_WAIT_MS;
    unsigned retry_after_s;
    while ((lake_ship_is_full(lake, &retry_after_s) || !wal_has_room(lake->records, bytes)) &&
           wait_for_trim(lake->ship, until_ms)) {
    }
}

struct counting {
    struct lake_backlog *into;
    int64_t now_ms;
};

static void count_oldest(struct counting *counting, const struct lake_tail_record *record)
{
    int64_t age_ms = counting->now_ms - record->registered_ms;
    if (age_ms > counting->into->oldest_age_ms) {
        counting->into->oldest_age_ms = age_ms;
    }
}

static bool count_table(void *context, struct lake_table *table)
{
    struct counting *counting = context;
    struct lake_backlog *into = counting->into;
    lock_take(&table->lock);
    into->rows += table->tail_rows;
    into->bytes += table->tail_bytes;
    if (table->tail_count > 0) {
        count_oldest(counting, &table->tail[0]);
    }
    for (const struct lake_batch *batch = table->batches; batch != NULL; batch = batch->next) {
        for (size_t i = 0; i < batch->records_count; i++) {
            into->rows += batch->records[i].rows;
            into->bytes += batch->records[i].place.size - batch->records[i].lines_offset;
            count_oldest(counting, &batch->records[i]);
        }
    }
    lock_release(&table->lock);
    return true;
}

void lake_ship_backlog(struct lake *lake, struct lake_backlog *into)
{
    struct lake_ship *ship = lake->ship;
    struct counting counting = {into, clock_now_ms()};
    into->rows = 0;
    into->bytes = 0;
    into->oldest_age_ms = 0;
    lake_table_visit(lake, count_table, &counting);
    into->full = lake_ship_is_full(lake, &into->retry_after_s);
    lock_take(&ship->lock);
    into->flushes = ship->flushes;
    into->flush_failures = ship->failures;
    memcpy(into->last_failure, ship->last_failure, sizeof(into->last_failure));
    lock_release(&ship->lock);
    ship_count_stuck(lake, into);
}
