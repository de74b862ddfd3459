/* Records in: the callers' side. */
#include "wal_internal.h"

#include "crc32c.h"
#include "mem.h"

/* ---- the callers' side ---- */

/* The lock is held. */
static bool has_room(const struct wal *wal, uint64_t size)
{
    return wal->queued_bytes < wal->room_bytes && size <= wal->room_bytes - wal->queued_bytes;
}

bool wal_has_room(struct wal *wal, uint64_t payload_bytes)
{
    lock_take(&wal->lock);
    bool room = has_room(wal, wal_record_size(payload_bytes));
    lock_release(&wal->lock);
    return room;
}

/* The lock is held. */
static bool may_queue(const struct wal *wal, const struct wal_entry *entry, struct err *err)
{
    uint64_t size = wal_entry_size(entry);
    if (wal->broken) {
        *err = wal->broken_err;
        return false;
    }
    assert(!wal->closing);
    if (wal->queued_bytes > 0 && (wal->queued_bytes >= wal->options.queue_bytes_max ||
                                  size > wal->options.queue_bytes_max - wal->queued_bytes)) {
        return err_set(err, ERR_BUSY, "too many records wait for the disk; try again");
    }
    if (!entry->record.urgent && !has_room(wal, size)) {
        return err_set(err, ERR_BUSY, "the log is full; try again later");
    }
    return true;
}

static void take_piece(struct wal_entry *entry, size_t index, struct buf *piece_take)
{
    assert(!buf_failed(piece_take));
    entry->pieces[index] = *piece_take;
    *piece_take = (struct buf){.size_max = piece_take->size_max, .brief = piece_take->brief};
    entry->payload_crc =
        crc32c(entry->payload_crc, entry->pieces[index].ptr, entry->pieces[index].len);
}

bool wal_append(struct wal *wal, const struct wal_record *record, struct buf *payload_take,
                struct err *err)
{
    struct buf none = {0};
    return wal_append_pieces(wal, record, payload_take, &none, err);
}

bool wal_append_pieces(struct wal *wal, const struct wal_record *record, struct buf *first_take,
                       struct buf *rest_take, struct err *err)
{
    assert(record->type >= WAL_TYPE_FIRST && record->type <= UINT8_MAX);
    struct wal_entry *entry = mem_alloc(sizeof(*entry));
    *entry = (struct wal_entry){.record = *record};
    take_piece(entry, 0, first_take);
    take_piece(entry, 1, rest_take);
    if (wal_entry_payload_size(entry) > WAL_PAYLOAD_SIZE_MAX) {
        wal_entry_free(entry);
        return err_set(err, ERR_TOO_LARGE, "a record of the log has at most %d bytes",
                       WAL_PAYLOAD_SIZE_MAX);
    }
    bool wakes = false;
    lock_take(&wal->lock);
    bool taken = may_queue(wal, entry, err);
    if (taken) {
        *wal->queue_end = entry;
        wal->queue_end = &entry->next;
        wal->queue_count++;
        wal->queued_bytes += wal_entry_size(entry);
        if (wal->wake_count != 0 && wal->queue_count >= wal->wake_count) {
            wal->wake_count = 0; /* once: waking up takes longer than the next record */
            wakes = true;
        }
    }
    lock_release(&wal->lock);
    if (wakes) {
        condition_signal(&wal->wake); /* now it finds the lock free */
    }
    if (!taken) {
        wal_entry_free(entry);
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
