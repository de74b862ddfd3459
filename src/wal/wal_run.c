/* Thread `log`: what it does next. */
#include "wal_internal.h"

#include "clock.h"
#include "mem.h"

enum {
    GATHER_FROM = 8, /* records of one turn: fewer come from too few writers to wait for */
    GATHER_STEP_US = 100,
    GATHER_US_MAX = 1000
};

/* Writes a list of records, in as few groups as there are segments. Those that could not be written
 * because the log broke are left in *list. */
static void write_list(struct wal *wal, struct wal_entry **list, struct err *err)
{
    struct wal_group group = {0};
    bool good = true;
    while (good && *list != NULL) {
        struct wal_entry *entry = *list;
        bool fit = wal_fits(wal, entry);
        if (!fit) {
            good = wal_group_finish(wal, &group, err);
            fit = good && wal_begin_next(wal, wal_entry_size(entry), entry->record.urgent, err);
            good = good && !wal_is_broken(wal);
        }
        if (!good) {
            break;
        }
        *list = entry->next;
        if (fit) {
            good = wal_group_add(wal, &group, entry, err);
        } else {
            wal->stuck = wal->stuck || entry->record.urgent;
            wal_leave_queue(wal, wal_entry_size(entry));
            wal_tell(entry, err); /* there is no room: ERR_BUSY */
        }
    }
    good = good && wal_group_finish(wal, &group, err);
    if (!good && group.first != NULL) {
        *group.end = *list;
        *list = group.first;
    }
}

static void write_heartbeat(struct wal *wal, struct err *err)
{
    struct wal_entry *heartbeat = mem_alloc(sizeof(*heartbeat));
    heartbeat->record = (struct wal_record){.type = WAL_TYPE_HEARTBEAT, .urgent = true};
    if (!wal_fits(wal, heartbeat)) {
        wal_entry_free(heartbeat);
        wal->vouched = wal->durable;
        return;
    }
    write_list(wal, &heartbeat, err);
    wal_tell_all(heartbeat, err);
    wal->vouched = wal->durable; /* a heartbeat needs none */
}

struct turn {
    struct wal_entry *list;
    bool rotate;
    bool heartbeat;
    bool last;
};

static int64_t wake_time(const struct wal *wal)
{
    int64_t at = INT64_MAX;
    if (wal->vouched < wal->durable) {
        at = wal->heartbeat_at_ms;
    }
    return wal->refused && wal->try_again_at_ms < at ? wal->try_again_at_ms : at;
}

static bool has_work(const struct wal *wal)
{
    return wal->queue != NULL || wal->closing || wal->broken || wal->may_have_room ||
           (wal->wants_rotation && !wal->refused);
}

/* When many write at once, more records are on their way than have come: a sync that waits for them
 * costs each of them less than one more sync. As long as some come, and not for long. */
static void gather_more(struct wal *wal) REQUIRES(&wal->lock)
{
    int64_t until_us = clock_now_us() + GATHER_US_MAX;
    uint64_t before = 0;
    while (wal->last_count >= GATHER_FROM && wal->queue_count > before && !wal->closing &&
           clock_now_us() < until_us) {
        before = wal->queue_count;
        wal->wake_count = UINT64_MAX;
        (void)condition_wait_us(&wal->wake, &wal->lock, GATHER_STEP_US);
    }
}

/* Waits until there is something to do, and says what. */
static struct turn next_turn(struct wal *wal)
{
    struct turn turn = {0};
    lock_take(&wal->lock);
    wal_set_room(wal);
    while (!has_work(wal)) {
        int64_t at = wake_time(wal);
        wal->wake_count = 1;
        if (at == INT64_MAX) {
            condition_wait(&wal->wake, &wal->lock);
        } else if (!condition_wait_until(&wal->wake, &wal->lock, at)) {
            break;
        }
    }
    gather_more(wal);
    wal->wake_count = 0;
    wal->last_count = wal->queue_count;
    wal->queue_count = 0;
    turn.list = wal->queue;
    turn.rotate = wal->wants_rotation;
    turn.last = wal->queue == NULL && wal->closing;
    wal->queue = NULL;
    wal->queue_end = &wal->queue;
    lock_release(&wal->lock);
    turn.heartbeat = turn.list == NULL && wal->vouched < wal->durable &&
                     (turn.last || clock_now_ms() >= wal->heartbeat_at_ms);
    return turn;
}

static void end_turn(struct wal *wal, bool rotated)
{
    lock_take(&wal->lock);
    wal_set_room(wal);
    wal->wants_rotation = wal->wants_rotation && !rotated;
    lock_release(&wal->lock);
}

static bool rotate_if_wanted(struct wal *wal, const struct turn *turn)
{
    struct err err;
    if (!turn->rotate || wal_is_broken(wal)) {
        return false;
    }
    lock_take(&wal->lock);
    const struct wal_segment *newest = &wal->segments[wal->segments_count - 1];
    bool empty = newest->last_user < newest->first;
    lock_release(&wal->lock);
    wal->rotation_failed = !empty && !wal_begin_next(wal, 0, true, &err);
    return !wal->rotation_failed;
}

/* Everybody who waits is told, then the owner. */
static void tell_broken(struct wal *wal, struct wal_entry *list)
{
    lock_take(&wal->lock);
    struct wal_entry *queued = wal->queue;
    wal->queue = NULL;
    wal->queue_end = &wal->queue;
    wal->queued_bytes = 0;
    struct err err = wal->broken_err;
    lock_release(&wal->lock);
    wal_tell_all(list, &err);
    wal_tell_all(queued, &err);
    if (wal->options.broken != NULL) {
        wal->options.broken(wal->options.context, &err);
    }
}

void *wal_run(void *argument)
{
    struct wal *wal = argument;
    for (;;) {
        struct err err;
        struct turn turn = next_turn(wal);
        struct wal_entry *list = turn.list;
        if (!wal_is_broken(wal)) {
            write_list(wal, &list, &err);
        }
        if (turn.heartbeat && !wal_is_broken(wal)) {
            write_heartbeat(wal, &err);
        }
        bool rotated = rotate_if_wanted(wal, &turn);
        if (!wal_is_broken(wal) && !turn.last) {
            wal_keep_room(wal);
        }
        end_turn(wal, rotated);
        if (wal_is_broken(wal)) {
            tell_broken(wal, list);
            return NULL;
        }
        if (turn.last) {
            return NULL;
        }
    }
}
