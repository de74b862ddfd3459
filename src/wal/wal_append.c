/* Records in: the queue, and thread `log`, which empties it into the current segment. */
#include "wal_internal.h"

#include "clock.h"
#include "crc32c.h"
#include "mem.h"

#include <errno.h>

/* ---- the callers' side ---- */

static void entry_free(struct wal_entry *entry)
{
    buf_finish(&entry->payload);
    mem_free(entry);
}

static uint64_t entry_size(const struct wal_entry *entry)
{
    return wal_record_size(entry->payload.len);
}

/* The lock is held. */
static bool may_queue(const struct wal *wal, const struct wal_entry *entry, struct err *err)
{
    uint64_t size = entry_size(entry);
    if (wal->broken) {
        *err = wal->broken_err;
        return false;
    }
    assert(!wal->closing);
    if (wal->queued_bytes > 0 && (wal->queued_bytes >= wal->options.queue_bytes_max ||
                                  size > wal->options.queue_bytes_max - wal->queued_bytes)) {
        return err_set(err, ERR_BUSY, "too many records wait for the disk; try again");
    }
    if (!entry->record.urgent &&
        (wal->queued_bytes >= wal->room_bytes || size > wal->room_bytes - wal->queued_bytes)) {
        return err_set(err, ERR_BUSY, "the log is full; try again later");
    }
    return true;
}

bool wal_append(struct wal *wal, const struct wal_record *record, struct buf *payload_take,
                struct err *err)
{
    assert(record->type >= WAL_TYPE_FIRST && record->type <= UINT8_MAX);
    assert(!buf_failed(payload_take));
    struct wal_entry *entry = mem_alloc(sizeof(*entry));
    *entry = (struct wal_entry){.record = *record, .payload = *payload_take};
    *payload_take = (struct buf){.size_max = payload_take->size_max};
    if (entry->payload.len > WAL_PAYLOAD_SIZE_MAX) {
        entry_free(entry);
        return err_set(err, ERR_TOO_LARGE, "a record of the log has at most %d bytes",
                       WAL_PAYLOAD_SIZE_MAX);
    }
    entry->payload_crc = crc32c(0, entry->payload.ptr, entry->payload.len);
    lock_take(&wal->lock);
    bool taken = may_queue(wal, entry, err);
    if (taken) {
        *wal->queue_end = entry;
        wal->queue_end = &entry->next;
        wal->queued_bytes += entry_size(entry);
        if (wal->waits) {
            condition_signal(&wal->wake);
        }
    }
    lock_release(&wal->lock);
    if (!taken) {
        entry_free(entry);
    }
    return taken;
}

/* ---- waiting ---- */

struct waiter {
    struct lock lock;
    struct condition done;
    bool is_done;
    bool is_durable;
    struct wal_place place;
    struct err err;
};

static void waiter_done(void *context, const struct wal_place *place, const struct err *err)
{
    struct waiter *waiter = context;
    lock_take(&waiter->lock);
    waiter->is_done = true;
    waiter->is_durable = place != NULL;
    if (place != NULL) {
        waiter->place = *place;
    } else {
        waiter->err = *err;
    }
    condition_signal(&waiter->done);
    lock_release(&waiter->lock);
}

bool wal_append_wait(struct wal *wal, const struct wal_record *record, struct buf *payload_take,
                     struct wal_place *ret_place, struct err *err)
{
    struct waiter waiter = {0};
    struct wal_record told = *record;
    told.done = waiter_done;
    told.context = &waiter;
    lock_init(&waiter.lock, LOCK_WAL);
    condition_init(&waiter.done);
    bool queued = wal_append(wal, &told, payload_take, err);
    if (queued) {
        lock_take(&waiter.lock);
        while (!waiter.is_done) {
            condition_wait(&waiter.done, &waiter.lock);
        }
        lock_release(&waiter.lock);
    }
    condition_finish(&waiter.done);
    lock_finish(&waiter.lock);
    if (queued && waiter.is_durable) {
        *ret_place = waiter.place;
    } else if (queued) {
        *err = waiter.err;
    }
    return queued && waiter.is_durable;
}

/* ---- thread log: pieces of one write ---- */

/* Zeros behind the last record of a small write, up to the next multiple of ZERO_AHEAD: the blocks
 * of the writes to come are then written already, and their fdatasync has no extents to change. */
enum {
    ZERO_AHEAD = 256 << 10
};

static int gather_write(struct wal *wal)
{
    struct wal_gather *gather = wal->gather;
    struct wal_file *file = &wal->current;
    int code = gather->count == 0 ? 0
                                  : wal_file_write(&wal->folder, file->fd, gather->parts,
                                                   gather->count, file->used - gather->bytes);
    gather->count = 0;
    gather->staged = 0;
    gather->bytes = 0;
    return code;
}

static int zero_ahead(struct wal *wal, uint64_t written)
{
    static char zeros[ZERO_AHEAD];
    struct wal_file *file = &wal->current;
    if (written >= ZERO_AHEAD / 4 || file->used <= file->zeroed || file->used == file->bytes) {
        file->zeroed = file->zeroed < file->used ? file->used : file->zeroed;
        return 0;
    }
    uint64_t end = file->used / ZERO_AHEAD * ZERO_AHEAD + ZERO_AHEAD;
    end = end < file->bytes ? end : file->bytes;
    struct iovec part = {zeros, end - file->used};
    file->zeroed = end;
    return wal_file_write(&wal->folder, file->fd, &part, 1, file->used);
}

static void gather_part(struct wal_gather *gather, char *bytes, size_t size)
{
    struct iovec *last = &gather->parts[gather->count == 0 ? 0 : gather->count - 1];
    if (gather->count > 0 && (char *)last->iov_base + last->iov_len == bytes) {
        last->iov_len += size;
    } else {
        gather->parts[gather->count++] = (struct iovec){bytes, size};
    }
    gather->bytes += size;
}

static void gather_copy(struct wal_gather *gather, const void *bytes, size_t size)
{
    static const char zeros[WAL_RECORD_ALIGN];
    char *at = gather->stage + gather->staged;
    assert(size <= sizeof(gather->stage) - gather->staged);
    memcpy(at, bytes == NULL ? zeros : bytes, size);
    gather->staged += size;
    gather_part(gather, at, size);
}

/* Gives a record its sequence and its place in the current segment, and writes when the pieces are
 * many. */
static int gather_record(struct wal *wal, struct wal_entry *entry)
{
    struct wal_gather *gather = wal->gather;
    size_t size = entry->payload.len;
    size_t padding = (size_t)entry_size(entry) - WAL_RECORD_HEADER_SIZE - size;
    struct wal_record_header header = {
        .type = (uint8_t)entry->record.type,
        .sequence = wal->sequence++,
        .durable = wal->durable,
        .payload_size = (uint32_t)size,
    };
    wal_record_seal(&header, wal->current.salt, entry->payload_crc);
    entry->place = (struct wal_place){
        .sequence = header.sequence,
        .segment = wal->current.number,
        .offset = (uint32_t)(wal->current.used + WAL_RECORD_HEADER_SIZE),
        .size = header.payload_size,
    };
    wal->current.used += entry_size(entry);
    gather_copy(gather, &header, sizeof(header));
    if (size > WAL_COPY_MAX) {
        gather_part(gather, entry->payload.ptr, size);
    } else if (size > 0) {
        gather_copy(gather, entry->payload.ptr, size);
    }
    gather_copy(gather, NULL, padding);
    bool full = gather->count > WAL_GATHER_PARTS - 4 ||
                sizeof(gather->stage) - gather->staged < WAL_COPY_MAX + 2 * sizeof(header);
    return full ? gather_write(wal) : 0;
}

/* ---- thread log: a group ---- */

/* Records that are synced together. */
struct group {
    struct wal_entry *first;
    struct wal_entry **end;
    uint64_t records;
    uint64_t bytes;
    uint64_t last_user; /* 0: none */
};

static void tell(struct wal_entry *entry, const struct err *err)
{
    if (entry->record.done != NULL) {
        entry->record.done(entry->record.context, err == NULL ? &entry->place : NULL, err);
    }
    entry_free(entry);
}

static void tell_all(struct wal_entry *first, const struct err *err)
{
    while (first != NULL) {
        struct wal_entry *entry = first;
        first = entry->next;
        tell(entry, err);
    }
}

static int sync_group(struct wal *wal, const struct group *group)
{
    int code = gather_write(wal);
    code = code < 0 ? code : zero_ahead(wal, group->bytes);
    int64_t begun_us = clock_now_us();
    code = code < 0 ? code : wal_file_sync_data(&wal->folder, wal->current.fd);
    metric_observe_us(&wal->counts.sync_time, clock_now_us() - begun_us);
    metric_add(&wal->counts.syncs, 1);
    return code;
}

static void note_durable(struct wal *wal, const struct group *group)
{
    wal->guarded = wal->durable;
    wal->durable = wal->sequence - 1;
    wal->guard_at_ms = clock_now_ms() + WAL_GUARD_AFTER_MS;
    metric_add(&wal->counts.records, group->records);
    metric_add(&wal->counts.record_bytes, group->bytes);
    lock_take(&wal->lock);
    if (group->last_user > 0) {
        wal->segments[wal->segments_count - 1].last_user = group->last_user;
    }
    lock_release(&wal->lock);
}

/* Writes, syncs, and only then tells. On failure the records stay in the group. */
static bool finish_group(struct wal *wal, struct group *group, struct err *err)
{
    if (group->first != NULL) {
        int code = sync_group(wal, group);
        if (code < 0) {
            return wal_break(wal, code, "write", wal->current.number, err);
        }
        note_durable(wal, group);
        tell_all(group->first, NULL);
    }
    *group = (struct group){.end = NULL};
    return true;
}

static bool add_to_group(struct wal *wal, struct group *group, struct wal_entry *entry,
                         struct err *err)
{
    entry->next = NULL;
    *(group->first == NULL ? &group->first : group->end) = entry;
    group->end = &entry->next;
    group->records++;
    group->bytes += entry_size(entry);
    int code = gather_record(wal, entry);
    if (entry->record.type >= WAL_TYPE_FIRST) {
        group->last_user = entry->place.sequence;
    }
    return code == 0 || wal_break(wal, code, "write", wal->current.number, err);
}

/* ---- thread log: room ---- */

static bool within_limits(struct wal *wal, uint64_t bytes)
{
    const struct wal_options *options = &wal->options;
    lock_take(&wal->lock);
    uint64_t all = wal->segments_bytes;
    lock_release(&wal->lock);
    if (options->bytes_max > 0 && (all > options->bytes_max || bytes > options->bytes_max - all)) {
        return false;
    }
    if (options->disk_free_min == 0) {
        return true;
    }
    int64_t free_bytes = wal_folder_free_bytes(&wal->folder);
    return free_bytes >= 0 && (uint64_t)free_bytes >= bytes &&
           (uint64_t)free_bytes - bytes >= options->disk_free_min;
}

static bool no_room(struct err *err)
{
    return err_set(err, ERR_BUSY, "the log is full; try again later");
}

/* Sees to it that the next segment is there, with room for `bytes`. */
static bool prepare(struct wal *wal, uint64_t bytes, bool forced, struct err *err)
{
    struct wal_file *ahead = &wal->ahead;
    if (ahead->fd >= 0 && ahead->bytes >= bytes) {
        return true;
    }
    bool allowed = within_limits(wal, bytes);
    if (!allowed && !forced) {
        return no_room(err);
    }
    int code;
    if (ahead->fd < 0) {
        code = wal_segment_prepare(&wal->folder, bytes, ahead);
    } else {
        code = wal_file_reserve(&wal->folder, ahead->fd, bytes);
        code = code < 0 ? code : wal_file_sync(&wal->folder, ahead->fd);
        ahead->bytes = code < 0 ? ahead->bytes : bytes;
    }
    if (code == 0) {
        ahead->forced = !allowed;
        return true;
    }
    return wal_code_is_room(code) ? no_room(err)
                                  : wal_break(wal, code, "prepare", wal->current.number + 1, err);
}

static uint64_t at_least_segment(const struct wal *wal, uint64_t bytes)
{
    return bytes < wal->options.segment_bytes ? wal->options.segment_bytes : bytes;
}

/* The next segment becomes the current one; it has room for a record of `record_bytes`. */
static bool rotate(struct wal *wal, uint64_t record_bytes, bool forced, struct err *err)
{
    struct buf prologue;
    uint64_t bytes = WAL_SEGMENT_HEADER_SIZE + record_bytes + WAL_RECORD_HEADER_SIZE;
    if (!prepare(wal, at_least_segment(wal, bytes), forced, err)) {
        return false;
    }
    wal_prologue(wal, &prologue);
    if (buf_failed(&prologue)) {
        buf_finish(&prologue);
        return wal_break(wal, -EFBIG, "prologue", wal->current.number + 1, err);
    }
    bytes += wal_prologue_bytes(buf_str(&prologue), wal);
    bool good = prepare(wal, at_least_segment(wal, bytes), forced, err);
    if (good) {
        int code = wal_file_close(&wal->folder, &wal->current.fd);
        struct wal_segment_header header = {
            .number = wal->current.number + 1,
            .replaces = wal->current.number + 1,
            .previous = wal->sequence - 1,
        };
        good = code == 0 ? wal_segment_begin(wal, &wal->ahead, &header, buf_str(&prologue), err)
                         : wal_break(wal, code, "close", wal->current.number, err);
    }
    buf_finish(&prologue);
    return good;
}

/* What may be queued now. */
static uint64_t room_now(const struct wal *wal)
{
    uint64_t left = wal->current.bytes - wal->current.used;
    uint64_t kept = wal->reserve_bytes + WAL_RECORD_HEADER_SIZE;
    if (!wal->refused) {
        return UINT64_MAX;
    }
    return wal->current.forced || left <= kept ? 0 : left - kept;
}

/* Prepares the next segment when half of this one is full, long before it is needed; where there is
 * no room for it, tries again when there may be some. */
static void keep_room(struct wal *wal)
{
    struct err err;
    bool wanted = wal->ahead.fd < 0 && (wal->current.forced || wal->rotation_failed ||
                                        wal->current.used > wal->current.bytes / 2);
    lock_take(&wal->lock);
    bool again = wal->may_have_room || clock_now_ms() >= wal->try_again_at_ms;
    wal->may_have_room = false;
    lock_release(&wal->lock);
    if (!wanted) {
        wal->refused = false;
    } else if (!wal->refused || again) {
        wal->refused = !prepare(wal, wal->options.segment_bytes, false, &err);
        wal->current.forced = wal->current.forced && wal->refused;
        wal->try_again_at_ms = clock_now_ms() + WAL_TRY_AGAIN_MS;
    }
}

/* Guards always find room: WAL_RECORD_HEADER_SIZE is left for one. */
static bool fits(const struct wal *wal, const struct wal_entry *entry)
{
    uint64_t left = wal->current.bytes - wal->current.used;
    uint64_t kept = entry->record.type == WAL_TYPE_GUARD ? 0 : WAL_RECORD_HEADER_SIZE;
    if (wal->refused && !entry->record.urgent) {
        kept += wal->current.forced ? left : wal->reserve_bytes;
    }
    return left >= kept && entry_size(entry) <= left - kept;
}

/* ---- thread log: the loop ---- */

/* Writes a list of records, in as few groups as there are segments. Those that could not be written
 * because the log broke are left in *list. */
static void write_list(struct wal *wal, struct wal_entry **list, struct err *err)
{
    struct group group = {0};
    bool good = true;
    while (good && *list != NULL) {
        struct wal_entry *entry = *list;
        bool fit = fits(wal, entry);
        if (!fit) {
            good = finish_group(wal, &group, err);
            fit = good && rotate(wal, entry_size(entry), entry->record.urgent, err);
            good = good && !wal_is_broken(wal);
        }
        if (!good) {
            break;
        }
        *list = entry->next;
        if (fit) {
            good = add_to_group(wal, &group, entry, err);
        } else {
            tell(entry, err); /* there is no room: ERR_BUSY */
        }
    }
    good = good && finish_group(wal, &group, err);
    if (!good && group.first != NULL) {
        *group.end = *list;
        *list = group.first;
    }
}

static void write_guard(struct wal *wal, struct err *err)
{
    struct wal_entry *guard = mem_alloc(sizeof(*guard));
    guard->record = (struct wal_record){.type = WAL_TYPE_GUARD, .urgent = true};
    if (!fits(wal, guard)) {
        entry_free(guard);
        wal->guarded = wal->durable;
        return;
    }
    write_list(wal, &guard, err);
    tell_all(guard, err);
    wal->guarded = wal->durable; /* a guard needs none */
}

/* The lock is held. */
static void set_room(struct wal *wal)
{
    wal->room_bytes = room_now(wal);
    atomic_store_explicit(&wal->full, wal->room_bytes < 2 * WAL_RECORD_HEADER_SIZE,
                          memory_order_relaxed);
}

struct turn {
    struct wal_entry *list;
    uint64_t bytes;
    bool rotate;
    bool guard;
    bool last;
};

static int64_t wake_time(const struct wal *wal)
{
    int64_t at = INT64_MAX;
    if (wal->guarded < wal->durable) {
        at = wal->guard_at_ms;
    }
    return wal->refused && wal->try_again_at_ms < at ? wal->try_again_at_ms : at;
}

static bool has_work(const struct wal *wal)
{
    return wal->queue != NULL || wal->closing || wal->broken || wal->may_have_room ||
           (wal->wants_rotation && !wal->refused);
}

/* Waits until there is something to do, and says what. */
static struct turn next_turn(struct wal *wal)
{
    struct turn turn = {0};
    lock_take(&wal->lock);
    set_room(wal);
    while (!has_work(wal)) {
        int64_t at = wake_time(wal);
        wal->waits = true;
        if (at == INT64_MAX) {
            condition_wait(&wal->wake, &wal->lock);
        } else if (!condition_wait_until(&wal->wake, &wal->lock, at)) {
            break;
        }
    }
    wal->waits = false;
    turn.list = wal->queue;
    turn.bytes = wal->queued_bytes;
    turn.rotate = wal->wants_rotation;
    turn.last = wal->queue == NULL && wal->closing;
    wal->queue = NULL;
    wal->queue_end = &wal->queue;
    lock_release(&wal->lock);
    turn.guard = turn.list == NULL && wal->guarded < wal->durable &&
                 (turn.last || clock_now_ms() >= wal->guard_at_ms);
    return turn;
}

static void end_turn(struct wal *wal, const struct turn *turn, bool rotated)
{
    lock_take(&wal->lock);
    wal->queued_bytes -= turn->bytes;
    set_room(wal);
    wal->wants_rotation = wal->wants_rotation && !rotated;
    atomic_store_explicit(&wal->counts.queued_bytes.value, (long long)wal->queued_bytes,
                          memory_order_relaxed);
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
    wal->rotation_failed = !empty && !rotate(wal, 0, true, &err);
    return !wal->rotation_failed;
}

/* Everybody who waits is told, then the owner. */
static void tell_broken(struct wal *wal, struct wal_entry *list)
{
    lock_take(&wal->lock);
    struct wal_entry *queued = wal->queue;
    wal->queue = NULL;
    wal->queue_end = &wal->queue;
    struct err err = wal->broken_err;
    lock_release(&wal->lock);
    tell_all(list, &err);
    tell_all(queued, &err);
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
        if (turn.guard && !wal_is_broken(wal)) {
            write_guard(wal, &err);
        }
        bool rotated = rotate_if_wanted(wal, &turn);
        if (!wal_is_broken(wal) && !turn.last) {
            keep_room(wal);
        }
        end_turn(wal, &turn, rotated);
        if (wal_is_broken(wal)) {
            tell_broken(wal, list);
            return NULL;
        }
        if (turn.last) {
            return NULL;
        }
    }
}
