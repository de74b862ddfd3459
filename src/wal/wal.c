/* The log as a whole: opened, closed, trimmed, counted. */
#include "wal_internal.h"

#include "digest.h"
#include "mem.h"

#include <errno.h>
#include <inttypes.h>

/* ---- errors ---- */

bool wal_error(int code, const char *what, uint64_t segment, struct err *err)
{
    assert(code < 0);
    (void)err_set_errno(err, ERR_UNAVAILABLE, -code, "the server's log cannot be used");
    if (segment > 0) {
        err_add_detail(err, "%s, segment %" PRIu64, what, segment);
    } else {
        err_add_detail(err, "%s", what);
    }
    return false;
}

bool wal_break(struct wal *wal, int code, const char *what, uint64_t segment, struct err *err)
{
    lock_take(&wal->lock);
    if (!wal->broken) {
        (void)wal_error(code, what, segment, &wal->broken_err);
        wal->broken = true;
        condition_signal(&wal->wake);
    }
    *err = wal->broken_err;
    lock_release(&wal->lock);
    return false;
}

bool wal_is_broken(struct wal *wal)
{
    lock_take(&wal->lock);
    bool broken = wal->broken;
    lock_release(&wal->lock);
    return broken;
}

/* ---- the list of segments ---- */

static void count_segments(struct wal *wal)
{
    atomic_store_explicit(&wal->counts.segments.value, (long long)wal->segments_count,
                          memory_order_relaxed);
    atomic_store_explicit(&wal->counts.bytes.value, (long long)wal->segments_bytes,
                          memory_order_relaxed);
}

void wal_segments_add(struct wal *wal, struct wal_segment segment)
{
    if (wal->segments_count == wal->segments_capacity) {
        size_t capacity = wal->segments_capacity * 2 + 16;
        struct wal_segment *grown = mem_try_resize(wal->segments, capacity * sizeof(segment));
        assert(grown != NULL); /* some hundred entries */
        wal->segments = grown;
        wal->segments_capacity = capacity;
    }
    wal->segments[wal->segments_count++] = segment;
    wal->segments_bytes += segment.bytes;
    count_segments(wal);
}

static void drop_first(struct wal *wal)
{
    wal->segments_bytes -= wal->segments[0].bytes;
    wal->segments_count--;
    memmove(wal->segments, wal->segments + 1, wal->segments_count * sizeof(*wal->segments));
    count_segments(wal);
}

/* ---- open and close ---- */

static bool use_folder(struct wal *wal, struct err *err)
{
    int code = wal_folder_open(&wal->folder, wal->folder_path, true);
    if (code < 0) {
        return wal_error(code, "open the folder", 0, err);
    }
    wal->lock_fd = wal_file_open(&wal->folder, "lock", WAL_OPEN_LOCK);
    if (wal->lock_fd == -EWOULDBLOCK) {
        return err_set(err, ERR_UNAVAILABLE, "another process uses the log's folder");
    }
    return wal->lock_fd >= 0 || wal_error(wal->lock_fd, "lock the folder", 0, err);
}

static struct wal *create(const struct wal_options *options)
{
    struct wal *wal = mem_alloc(sizeof(*wal));
    wal->options = *options;
    wal->folder_path = mem_copy_text(options->folder);
    wal->options.folder = wal->folder_path;
    wal->folder = (struct wal_folder){options->io == NULL ? &wal_io_disk : options->io, -1};
    wal->lock_fd = -1;
    wal->current.fd = -1;
    wal->ahead.fd = -1;
    wal->queue_end = &wal->queue;
    wal->room_bytes = UINT64_MAX;
    wal->gather = mem_alloc(sizeof(*wal->gather));
    wal->reserve_bytes = options->segment_bytes / 16;
    if (wal->reserve_bytes > WAL_RESERVE_MAX) {
        wal->reserve_bytes = WAL_RESERVE_MAX;
    }
    lock_init(&wal->lock, LOCK_WAL);
    condition_init(&wal->wake);
    condition_init(&wal->trimmed);
    return wal;
}

static void destroy(struct wal *wal)
{
    (void)wal_file_close(&wal->folder, &wal->ahead.fd);
    (void)wal_file_close(&wal->folder, &wal->current.fd);
    (void)wal_file_close(&wal->folder, &wal->lock_fd);
    wal_folder_close(&wal->folder);
    condition_finish(&wal->trimmed);
    condition_finish(&wal->wake);
    lock_finish(&wal->lock);
    mem_free(wal->gather);
    mem_free(wal->segments);
    mem_free(wal->folder_path);
    mem_free(wal);
}

struct wal *wal_open(const struct wal_options *options, struct err *err)
{
    assert(options->segment_bytes >= WAL_SEGMENT_BYTES_MIN);
    assert(options->segment_bytes <= WAL_SEGMENT_BYTES_MAX);
    struct wal *wal = create(options);
    if (!use_folder(wal, err) || !wal_recover(wal, err)) {
        destroy(wal);
        return NULL;
    }
    wal->thread = thread_start("log", wal_run, wal);
    return wal;
}

void wal_close(struct wal *wal)
{
    if (wal == NULL) {
        return;
    }
    lock_take(&wal->lock);
    wal->closing = true;
    condition_signal(&wal->wake);
    lock_release(&wal->lock);
    (void)pthread_join(wal->thread, NULL);
    assert(wal->queue == NULL);
    wal_drop_spares(wal);
    destroy(wal);
}

/* ---- trim and rotate ---- */

/* The oldest segment that can go, or 0. The lock is held. */
static uint64_t next_to_trim(const struct wal *wal, uint64_t sequence)
{
    bool can_go = wal->segments_count > 1 && wal->segments[0].last_user < sequence;
    return can_go && !wal->broken ? wal->segments[0].number : 0;
}

/* For good before the next one goes: so that none is missing between others after a crash. A sync
 * that fails breaks the log: the next one of the same folder would say that all is well. */
static bool trim_one(struct wal *wal, uint64_t number, bool *spare, struct err *err)
{
    int code = *spare ? wal_segment_spare(&wal->folder, number) : 0;
    if (code < 0 && !wal_code_is_room(code)) {
        return wal_break(wal, code, "remove", number, err);
    }
    *spare = *spare && code == 0;
    code = *spare ? 0 : wal_segment_remove(&wal->folder, number);
    if (code < 0) {
        return wal_error(code, "remove", number, err);
    }
    code = wal_folder_sync(&wal->folder);
    return code == 0 || wal_break(wal, code, "remove", number, err);
}

bool wal_trim(struct wal *wal, uint64_t sequence, struct err *err)
{
    bool good = true;
    lock_take(&wal->lock);
    while (wal->trimming) {
        condition_wait(&wal->trimmed, &wal->lock);
    }
    wal->trimming = true;
    for (uint64_t number; good && (number = next_to_trim(wal, sequence)) > 0;) {
        bool spare = wal->spares_count < WAL_SPARES_MAX &&
                     wal->segments[0].bytes == wal->options.segment_bytes;
        lock_release(&wal->lock);
        good = trim_one(wal, number, &spare, err);
        lock_take(&wal->lock);
        if (good && spare) {
            wal->spares[wal->spares_count++] = number; /* there is room: only thread `log` takes */
        }
        if (good) {
            drop_first(wal);
        }
    }
    if (good && wal->broken) {
        *err = wal->broken_err;
        good = false;
    }
    wal->trimming = false;
    wal->may_have_room = true;
    condition_signal(&wal->trimmed);
    condition_signal(&wal->wake);
    lock_release(&wal->lock);
    return good;
}

void wal_rotate(struct wal *wal)
{
    lock_take(&wal->lock);
    wal->wants_rotation = true;
    condition_signal(&wal->wake);
    lock_release(&wal->lock);
}

/* ---- how it is ---- */

uint64_t wal_first(struct wal *wal)
{
    lock_take(&wal->lock);
    uint64_t first = wal->segments_count > 0 ? wal->segments[0].first : 0;
    lock_release(&wal->lock);
    return first;
}

const char *wal_writer(const struct wal *wal)
{
    return wal->writer;
}

uint64_t wal_epoch(const struct wal *wal)
{
    return wal->identity.epoch;
}

bool wal_is_full(const struct wal *wal)
{
    return atomic_load_explicit(&wal->full, memory_order_relaxed);
}

const struct wal_counts *wal_counts(const struct wal *wal)
{
    return &wal->counts;
}
