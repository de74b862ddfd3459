/* Thread `log`: records into the current segment, in groups that are synced together. */
#include "wal_internal.h"

#include "clock.h"
#include "mem.h"

void wal_entry_free(struct wal_entry *entry)
{
    for (size_t i = 0; i < WAL_PIECES; i++) {
        buf_finish(&entry->pieces[i]);
    }
    mem_free(entry);
}

size_t wal_entry_payload_size(const struct wal_entry *entry)
{
    size_t size = 0;
    for (size_t i = 0; i < WAL_PIECES; i++) {
        size += entry->pieces[i].len;
    }
    return size;
}

uint64_t wal_entry_size(const struct wal_entry *entry)
{
    return wal_record_size(wal_entry_payload_size(entry));
}

/* ---- pieces of one write ---- */

/* Zeros behind the last record of a small write, up to the next multiple of ZERO_AHEAD: the blocks
 * of the writes to come are then written already, and their fdatasync has no extents to change. */
enum {
    ZERO_AHEAD = 256 << 10,
    RECORD_PARTS_MAX = WAL_PIECES + 3, /* its header, its padding, and what ends the segment */
    RECORD_STAGED_MAX = WAL_PIECES * WAL_COPY_MAX + 2 * WAL_RECORD_HEADER_SIZE
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

static void gather_payload(struct wal_gather *gather, const struct wal_entry *entry)
{
    for (size_t i = 0; i < WAL_PIECES; i++) {
        const struct buf *piece = &entry->pieces[i];
        if (piece->len > WAL_COPY_MAX) {
            gather_part(gather, piece->ptr, piece->len);
        } else if (piece->len > 0) {
            gather_copy(gather, piece->ptr, piece->len);
        }
    }
}

/* Gives a record its sequence and its place in the current segment, and writes when the pieces are
 * many. */
static int gather_record(struct wal *wal, struct wal_entry *entry)
{
    struct wal_gather *gather = wal->gather;
    size_t size = wal_entry_payload_size(entry);
    size_t padding = (size_t)wal_entry_size(entry) - WAL_RECORD_HEADER_SIZE - size;
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
    wal->current.used += wal_entry_size(entry);
    gather_copy(gather, &header, sizeof(header));
    gather_payload(gather, entry);
    gather_copy(gather, NULL, padding);
    bool full = gather->count > WAL_GATHER_PARTS - RECORD_PARTS_MAX ||
                sizeof(gather->stage) - gather->staged < RECORD_STAGED_MAX;
    return full ? gather_write(wal) : 0;
}

/* ---- a group ---- */

void wal_tell(struct wal_entry *entry, const struct err *err)
{
    if (entry->record.done != NULL) {
        entry->record.done(entry->record.context, err == NULL ? &entry->place : NULL, err);
    }
    wal_entry_free(entry);
}

void wal_tell_all(struct wal_entry *first, const struct err *err)
{
    while (first != NULL) {
        struct wal_entry *entry = first;
        first = entry->next;
        wal_tell(entry, err);
    }
}

/* Behind the last record, where a reader would find the remains of another: with the same write. It
 * is not counted, since the next record comes in its place. */
static void gather_end(struct wal_gather *gather, const struct wal_file *file)
{
    if (file->again && file->bytes - file->used >= sizeof(wal_end)) {
        gather->parts[gather->count++] =
            (struct iovec){(void *)(uintptr_t)wal_end, sizeof(wal_end)};
    }
}

static int sync_group(struct wal *wal, const struct wal_group *group)
{
    gather_end(wal->gather, &wal->current);
    int code = gather_write(wal);
    code = code < 0 ? code : zero_ahead(wal, group->bytes);
    int64_t begun_us = clock_now_us();
    code = code < 0 ? code : wal_file_sync_data(&wal->folder, wal->current.fd);
    metric_observe_us(&wal->counts.sync_time, clock_now_us() - begun_us);
    metric_add(&wal->counts.syncs, 1);
    return code;
}

static void note_durable(struct wal *wal, const struct wal_group *group)
{
    wal->vouched = wal->durable;
    wal->durable = wal->sequence - 1;
    wal->heartbeat_at_ms = clock_now_ms() + WAL_HEARTBEAT_AFTER_MS;
    metric_add(&wal->counts.records, group->records);
    metric_add(&wal->counts.record_bytes, group->bytes);
    lock_take(&wal->lock);
    if (group->last_user > 0) {
        wal->segments[wal->segments_count - 1].last_user = group->last_user;
    }
    lock_release(&wal->lock);
    wal_leave_queue(wal, group->queued_bytes);
}

bool wal_group_finish(struct wal *wal, struct wal_group *group, struct err *err)
{
    if (group->first != NULL) {
        int code = sync_group(wal, group);
        if (code < 0) {
            return wal_break(wal, code, "write", wal->current.number, err);
        }
        note_durable(wal, group);
        wal_tell_all(group->first, NULL);
    }
    *group = (struct wal_group){.end = NULL};
    return true;
}

bool wal_group_add(struct wal *wal, struct wal_group *group, struct wal_entry *entry,
                   struct err *err)
{
    entry->next = NULL;
    *(group->first == NULL ? &group->first : group->end) = entry;
    group->end = &entry->next;
    group->records++;
    group->bytes += wal_entry_size(entry);
    int code = gather_record(wal, entry);
    if (entry->record.type >= WAL_TYPE_FIRST) {
        group->last_user = entry->place.sequence;
        group->queued_bytes += wal_entry_size(entry);
    }
    return code == 0 || wal_break(wal, code, "write", wal->current.number, err);
}
