/* Thread `log`: room for records. The next segment is made ready when half of the current one is
 * full, long before it is needed; so a full disk shows there, where it means "try later", and not
 * in the middle of a sync, where it would be the end of the log. */
#include "wal_internal.h"

#include "clock.h"

#include <errno.h>

static bool within_limits(struct wal *wal, uint64_t bytes)
{
    const struct wal_options *options = &wal->options;
    lock_take(&wal->lock);
    uint64_t all = wal->segments_bytes + wal->spares_count * options->segment_bytes;
    bytes = wal->spares_count > 0 && bytes == options->segment_bytes ? 0 : bytes;
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

/* The number of a spare segment of this size, or 0. */
static uint64_t take_spare(struct wal *wal, uint64_t bytes)
{
    lock_take(&wal->lock);
    bool fits = bytes == wal->options.segment_bytes && wal->spares_count > 0;
    uint64_t number = fits ? wal->spares[--wal->spares_count] : 0;
    lock_release(&wal->lock);
    return number;
}

void wal_drop_spares(struct wal *wal)
{
    for (uint64_t number; (number = take_spare(wal, wal->options.segment_bytes)) > 0;) {
        (void)wal_segment_remove_spare(&wal->folder, number);
    }
}

/* Spare segments are room too, for those of another size. */
static bool may_prepare(struct wal *wal, uint64_t bytes)
{
    if (within_limits(wal, bytes)) {
        return true;
    }
    wal_drop_spares(wal);
    return within_limits(wal, bytes);
}

static int prepare_file(struct wal *wal, uint64_t bytes)
{
    uint64_t spare = take_spare(wal, bytes);
    int code = spare == 0 ? -ENOENT : wal_segment_reuse(&wal->folder, spare, bytes, &wal->ahead);
    bool anew = code == -ENOENT || wal_code_is_room(code);
    return anew ? wal_segment_prepare(&wal->folder, bytes, &wal->ahead) : code;
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
    bool allowed = may_prepare(wal, bytes);
    if (!allowed && !forced) {
        return no_room(err);
    }
    (void)wal_file_close(&wal->folder, &ahead->fd); /* one that is too small */
    int code = prepare_file(wal, bytes);
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

bool wal_begin_next(struct wal *wal, uint64_t record_bytes, bool forced, struct err *err)
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
    wal->stuck = wal->stuck && !good;
    return good;
}

static uint64_t room_now(const struct wal *wal)
{
    uint64_t left = wal->current.bytes - wal->current.used;
    uint64_t kept = wal->reserve_bytes + WAL_RECORD_HEADER_SIZE;
    if (!wal->refused) {
        return UINT64_MAX;
    }
    return wal->current.forced || left <= kept ? 0 : left - kept;
}

void wal_set_room(struct wal *wal)
{
    wal->room_bytes = room_now(wal);
    atomic_store_explicit(&wal->full, wal->room_bytes < wal->reserve_bytes, memory_order_relaxed);
    atomic_store_explicit(&wal->counts.queued_bytes.value, (long long)wal->queued_bytes,
                          memory_order_relaxed);
}

void wal_leave_queue(struct wal *wal, uint64_t bytes)
{
    lock_take(&wal->lock);
    assert(bytes <= wal->queued_bytes);
    wal->queued_bytes -= bytes;
    wal_set_room(wal);
    lock_release(&wal->lock);
}

void wal_keep_room(struct wal *wal)
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

bool wal_fits(const struct wal *wal, const struct wal_entry *entry)
{
    if (wal->stuck && entry->record.type != WAL_TYPE_HEARTBEAT) {
        return false;
    }
    uint64_t left = wal->current.bytes - wal->current.used;
    uint64_t kept = entry->record.type == WAL_TYPE_HEARTBEAT ? 0 : WAL_RECORD_HEADER_SIZE;
    if (wal->refused && !entry->record.urgent) {
        kept += wal->current.forced ? left : wal->reserve_bytes;
    }
    return left >= kept && wal_entry_size(entry) <= left - kept;
}
