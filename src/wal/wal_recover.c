/* From a folder to a log that can be written: reads what is there, and moves the end of it to a new
 * segment, because the pages of the old one may show what the disk does not have.
 *
 * Killed at any point, the next start finds one of: the old segment alone; the old one and its
 * copy, which replaces it; the copy and the new segment. Each of them replays to the same
 * records. */
#include "wal_internal.h"

#include "crc32c.h"

#include <errno.h>
#include <inttypes.h>

struct recovery {
    struct wal *wal;
    struct wal_scan scan;
    uint64_t segment_add; /* to the numbers of places: those of the last segment are in its copy */
    struct wal_scan_end end;
};

static bool replay_one(void *context, const struct wal_place *place,
                       const struct wal_record_header *header, struct str payload, struct err *err)
{
    struct recovery *recovery = context;
    const struct wal_options *options = &recovery->wal->options;
    struct wal_place told = *place;
    told.segment += recovery->segment_add;
    if (header->type == WAL_TYPE_HEARTBEAT || options->replay == NULL) {
        return true;
    }
    return options->replay(options->context, &told, header->type, payload, err);
}

static bool replay_all(struct recovery *recovery, struct err *err)
{
    struct wal_scan *scan = &recovery->scan;
    struct wal *wal = recovery->wal;
    for (size_t i = wal_scan_next(scan, SIZE_MAX); i < scan->count; i = wal_scan_next(scan, i)) {
        bool is_last = wal_scan_next(scan, i) == scan->count;
        recovery->segment_add = is_last ? 1 : 0;
        if (!wal_scan_segment(scan, i, replay_one, recovery, &recovery->end, err)) {
            return false;
        }
        if (!is_last) {
            const struct wal_segment_header *header = &scan->segments[i].header;
            wal_segments_add(wal, (struct wal_segment){
                                      .number = header->number,
                                      .first = header->first,
                                      .last_user = recovery->end.last_user,
                                      .bytes = header->file_bytes,
                                  });
        }
    }
    metric_add(&wal->counts.torn_tails, recovery->end.torn);
    return true;
}

/* ---- removing ---- */

static void remove_unfinished(void *context, const char *name)
{
    struct wal *wal = context;
    if (str_ends(str_of(name), STR(".new"))) {
        (void)wal_folder_unlink(&wal->folder, name);
    }
}

/* Oldest first, and each for good before the next: so that none is missing between others. */
static bool remove_segments(struct wal *wal, const struct wal_scan *scan, bool last_too,
                            struct err *err)
{
    for (size_t i = 0; i < scan->count; i++) {
        uint64_t number = scan->segments[i].header.number;
        bool is_last = i + 1 == scan->count;
        if (is_last ? !last_too : !scan->segments[i].replaced || last_too) {
            continue;
        }
        int code = wal_segment_remove(&wal->folder, number);
        code = code < 0 ? code : wal_folder_sync(&wal->folder);
        if (code < 0) {
            return wal_error(code, "remove", number, err);
        }
    }
    return true;
}

/* ---- the copy ---- */

/* Records once more with the salt of their new segment, all of which will be durable at once. */
static bool seal_again(struct wal_scan *scan, uint64_t offset_end, uint64_t old_salt,
                       uint64_t new_salt)
{
    char *bytes = scan->bytes.ptr;
    uint64_t at = WAL_SEGMENT_HEADER_SIZE;
    while (at < offset_end) {
        struct wal_record_header header;
        struct str payload;
        struct str rest = str_make(bytes + at, (size_t)(offset_end - at));
        if (!wal_record_read(rest, old_salt, &header, &payload)) {
            return false;
        }
        uint32_t payload_crc = crc32c(0, payload.ptr, payload.len);
        wal_record_seal(&header, new_salt, payload_crc);
        memcpy(bytes + at, &header, sizeof(header));
        at += wal_record_size(header.payload_size);
    }
    return true;
}

static bool copy_last(struct recovery *recovery, const struct wal_segment_header *last,
                      struct err *err)
{
    struct wal *wal = recovery->wal;
    struct wal_scan *scan = &recovery->scan;
    struct wal_file file = {.fd = -1};
    uint64_t end = recovery->end.offset;
    struct wal_segment_header header = {
        .number = last->number + 1,
        .replaces = last->replaces,
        .previous = last->previous,
        .first = last->first,
    };
    int code = wal_segment_prepare(&wal->folder, end, &file);
    if (code == 0 && !seal_again(scan, end, last->salt, file.salt)) {
        code = -EIO; /* memory that was checked a moment ago */
    }
    struct iovec part = {scan->bytes.ptr + WAL_SEGMENT_HEADER_SIZE, end - WAL_SEGMENT_HEADER_SIZE};
    code =
        code < 0 ? code : wal_file_write(&wal->folder, file.fd, &part, 1, WAL_SEGMENT_HEADER_SIZE);
    code = code < 0 ? code : wal_segment_publish(wal, &file, &header);
    int closed = wal_file_close(&wal->folder, &file.fd);
    code = code < 0 ? code : closed;
    if (code < 0) {
        return wal_error(code, "copy", last->number, err);
    }
    wal_segments_add(wal, (struct wal_segment){
                              .number = header.number,
                              .first = header.first,
                              .last_user = recovery->end.last_user,
                              .bytes = end,
                          });
    return true;
}

/* ---- the segment to write to ---- */

static bool begin_first(struct wal *wal, struct wal_segment_header *header, struct err *err)
{
    struct buf prologue;
    wal_prologue(wal, &prologue);
    bool good = !buf_failed(&prologue) ||
                err_set(err, ERR_INTERNAL, "the prologue of a log's segment is too large");
    uint64_t bytes = WAL_SEGMENT_HEADER_SIZE + wal_prologue_bytes(buf_str(&prologue), wal) +
                     2 * WAL_RECORD_HEADER_SIZE;
    bytes = bytes < wal->options.segment_bytes ? wal->options.segment_bytes : bytes;
    int code = good ? wal_segment_prepare(&wal->folder, bytes, &wal->ahead) : 0;
    good = good && (code == 0 || wal_error(code, "prepare", header->number, err)) &&
           wal_segment_begin(wal, &wal->ahead, header, buf_str(&prologue), err);
    buf_finish(&prologue);
    return good;
}

static bool move_on(struct recovery *recovery, struct err *err)
{
    struct wal *wal = recovery->wal;
    const struct wal_scan *scan = &recovery->scan;
    const struct wal_segment_header *last =
        scan->count == 0 ? NULL : &scan->segments[scan->count - 1].header;
    struct wal_segment_header header = {.number = 1, .replaces = 1};
    wal->sequence = 1;
    if (last != NULL && recovery->end.last_user >= last->first) {
        if (!copy_last(recovery, last, err)) {
            return false;
        }
        header.number = last->number + 2;
        header.replaces = header.number;
        header.previous = recovery->end.last;
    } else if (last != NULL) {
        header.number = last->number + 1;
        header.replaces = last->replaces;
        header.previous = last->previous;
    }
    wal->sequence = last == NULL ? 1 : recovery->end.highest + 1;
    wal->durable = wal->sequence - 1;
    return begin_first(wal, &header, err);
}

bool wal_recover(struct wal *wal, struct err *err)
{
    struct recovery recovery = {.wal = wal};
    struct wal_scan *scan = &recovery.scan;
    bool good = wal_scan_init(scan, &wal->folder, NULL, err) &&
                wal_identity_renew(wal, scan->count > 0, err);
    wal_scan_finish(scan);
    good = good && wal_scan_init(scan, &wal->folder, &wal->identity, err) &&
           replay_all(&recovery, err);
    if (good) {
        int code = wal_folder_list(&wal->folder, remove_unfinished, wal);
        good = (code == 0 || wal_error(code, "list", 0, err)) &&
               remove_segments(wal, scan, false, err) && move_on(&recovery, err) &&
               remove_segments(wal, scan, true, err);
    }
    wal_scan_finish(scan);
    return good;
}
