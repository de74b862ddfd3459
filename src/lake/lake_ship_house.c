#include "lake_ship_internal.h"

#include "clock.h"
#include "lake_retention.h"
#include "mem.h"

enum {
    HOUR_MS = 3600000,
    PLANS_PAUSE_MS = 300000, /* a crowded log of plans is trimmed no more often */
    PLANS_SEGMENTS = 2,
    BEHIND_SEGMENTS = 2, /* when there are more, their records wait for the store */
    SOON_MS = 1000       /* a rotation is seen by then */
};

#define ROTATE_BYTES (UINT64_C(8) << 20)        /* of records that the newest segment holds */
#define ROTATE_IDLE_BYTES (UINT64_C(256) << 10) /* likewise, when none of them is needed any more */

static uint64_t record_bytes(const struct lake *lake)
{
    return metric_value(&wal_counts(lake->records)->record_bytes);
}

bool ship_house_is_due(struct lake_ship *ship, int64_t now_ms, int64_t pause_ms,
                       int64_t *ret_next_ms)
{
    uint64_t bytes = record_bytes(ship->lake);
    lock_take(&ship->lock);
    bool rested = pause_ms == 0 || now_ms - ship->house_kept_ms >= pause_ms;
    bool due = !ship->keeping_house && rested &&
               (ship->house_wanted || now_ms >= ship->house_at_ms ||
                bytes - ship->house_bytes >= ROTATE_BYTES);
    *ret_next_ms = ship->keeping_house ? INT64_MAX : ship->house_at_ms;
    lock_release(&ship->lock);
    return due;
}

/* ---- the log of plans ---- */

/* KEYS without any: nothing, but whatever was appended before is durable afterwards. */
static bool append_mark(struct lake *lake, struct wal_place *ret_place, struct err *err)
{
    struct buf payload;
    struct wal_record record = {.type = LAKE_LOG_KEYS, .urgent = true};
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    worker_put_u32(&payload, 0);
    bool good = wal_append_wait(lake->plans, &record, &payload, ret_place, err);
    buf_finish(&payload);
    return good;
}

/* A mark that is in a segment begun after the call. */
static bool begin_segment(struct lake *lake, struct wal_place *ret_place, struct err *err)
{
    struct wal_place before;
    if (!append_mark(lake, &before, err)) {
        return false;
    }
    wal_rotate(lake->plans);
    /* The first may still go to the old segment, and is over before the rotation is. */
    return append_mark(lake, ret_place, err) &&
           (ret_place->segment != before.segment || append_mark(lake, ret_place, err)) &&
           (ret_place->segment != before.segment ||
            err_set(err, ERR_BUSY, "the log of plans has no room for a new segment"));
}

/* The prologue of a new segment says what the older ones did, keys aside, provided that nothing is
 * on its way between the log and the tables while it is made. */
static bool renew_plans(struct lake_ship *ship, struct wal_place *ret_place, struct err *err)
{
    lock_take(&ship->lock);
    ship->gate_shut = true;
    while (ship->gate_acts > 0) {
        condition_wait(&ship->gate_changed, &ship->lock);
    }
    lock_release(&ship->lock);
    bool good = begin_segment(ship->lake, ret_place, err);
    lock_take(&ship->lock);
    ship->gate_shut = false;
    condition_broadcast(&ship->gate_changed);
    lock_release(&ship->lock);
    return good;
}

static bool trim_plans(struct lake_ship *ship, int64_t now_ms, struct err *err)
{
    struct lake *lake = ship->lake;
    int64_t segments = metric_level(&wal_counts(lake->plans)->segments);
    int64_t pause_ms = segments > PLANS_SEGMENTS ? PLANS_PAUSE_MS : HOUR_MS;
    if (now_ms - ship->plans_trimmed_ms < pause_ms) {
        return true;
    }
    ship->plans_trimmed_ms = now_ms;
    struct wal_place mark;
    if (!renew_plans(ship, &mark, err)) {
        return false;
    }
    uint64_t keys = lake_keys_needed_from(lake->keys, now_ms);
    return wal_trim(lake->plans, keys < mark.sequence ? keys : mark.sequence, err);
}

/* ---- the log of records ---- */

struct forgetting {
    uint64_t below;
};

/* Batches whose records are gone cannot be found by a replay any more. */
static bool forget_stored(void *context, struct lake_table *table)
{
    const struct forgetting *forgetting = context;
    lock_take(&table->lock);
    size_t kept = 0;
    for (size_t i = 0; i < table->stored_count; i++) {
        if (table->stored[i] >= forgetting->below) {
            table->stored[kept++] = table->stored[i];
        }
    }
    table->stored_count = kept;
    lock_release(&table->lock);
    return true;
}

/* What nobody needs goes, once everything that says so is durable. */
static bool trim_records(struct lake_ship *ship, uint64_t needed, struct err *err)
{
    struct lake *lake = ship->lake;
    struct wal_place mark;
    if (!lake_keys_save(lake, needed, err)) {
        return false;
    }
    unsigned long long pending = atomic_exchange(&ship->stored_pending, 0);
    if (pending > 0 && !append_mark(lake, &mark, err)) {
        (void)atomic_fetch_add(&ship->stored_pending, pending);
        return false;
    }
    if (!wal_trim(lake->records, needed, err)) {
        return false;
    }
    lock_take(&ship->lock);
    condition_broadcast(&ship->trimmed);
    lock_release(&ship->lock);
    struct forgetting forgetting = {wal_first(lake->records)};
    lake_table_visit(lake, forget_stored, &forgetting);
    return true;
}

/* A segment goes as a whole, so that the newest is left behind before it is old. Not while older
 * ones are kept: each takes its whole size of the disk, however little is in it. */
static bool rotate_records(struct lake_ship *ship, uint64_t needed)
{
    struct lake *lake = ship->lake;
    lock_take(&lake->tables_lock);
    bool idle = needed > lake->registered;
    lock_release(&lake->tables_lock);
    uint64_t bytes = record_bytes(lake);
    uint64_t grown = bytes - ship->rotated_bytes;
    bool behind = metric_level(&wal_counts(lake->records)->segments) > BEHIND_SEGMENTS;
    if ((grown < ROTATE_BYTES || behind) && (!idle || grown < ROTATE_IDLE_BYTES)) {
        return false;
    }
    ship->rotated_bytes = bytes;
    wal_rotate(lake->records);
    return true;
}

/* Deletes by the thousand take their time: the logs are trimmed meanwhile, by another thread. */
static void clean(struct lake_ship *ship, struct cancel *cancel)
{
    struct lake *lake = ship->lake;
    int64_t now_ms = clock_now_ms();
    lock_take(&ship->lock);
    bool due = !ship->cleaning && (now_ms - ship->cleaned_ms >= HOUR_MS || ship->cleaned_ms == 0);
    ship->cleaning = ship->cleaning || due;
    ship->cleaned_ms = due ? now_ms : ship->cleaned_ms;
    lock_release(&ship->lock);
    if (!due) {
        return;
    }
    lake_manifests_prune(lake, LAKE_MANIFESTS_KEPT, cancel);
    if (clock_doubt_look(&lake->clock, clock_wall_ms(), now_ms)) {
        lake_retain(lake, cancel);
    }
    lock_take(&ship->lock);
    ship->cleaning = false;
    lock_release(&ship->lock);
}

/* A trim that fails is tried again with the next. */
void ship_keep_house(struct lake_ship *ship, struct cancel *cancel)
{
    struct lake *lake = ship->lake;
    struct err ignored;
    int64_t now_ms = clock_now_ms();
    uint64_t bytes = record_bytes(lake);
    lock_take(&ship->lock);
    bool mine = !ship->keeping_house;
    ship->keeping_house = true;
    ship->house_wanted = false;
    lock_release(&ship->lock);
    if (!mine) {
        return;
    }
    uint64_t needed = lake_needed_from(lake);
    bool rotated = rotate_records(ship, needed);
    if (metric_level(&wal_counts(lake->records)->segments) > 1) {
        (void)!trim_records(ship, needed, &ignored);
    }
    (void)!trim_plans(ship, now_ms, &ignored);
    lock_take(&ship->lock);
    ship->keeping_house = false;
    ship->house_kept_ms = now_ms;
    ship->house_bytes = bytes;
    ship->house_at_ms = now_ms + (rotated ? SOON_MS : HOUR_MS);
    lock_release(&ship->lock);
    clean(ship, cancel);
}
