/* Reads a log's folder: which segments there are, and every byte of each. Changes nothing. */
#include "wal_internal.h"

#include "mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static bool damaged(struct err *err, uint64_t number, uint64_t offset, const char *what)
{
    return err_set(err, ERR_CORRUPT,
                   "the log is damaged: segment %" PRIu64 ", offset %" PRIu64 ": %s", number,
                   offset, what);
}

/* ---- which segments ---- */

static void note_name(void *context, const char *name)
{
    struct wal_scan *scan = context;
    uint64_t number;
    if (str_ends(str_of(name), STR(".new"))) {
        scan->unfinished = true;
    }
    if (!wal_segment_number(name, &number)) {
        return;
    }
    struct wal_scanned *grown =
        mem_try_resize(scan->segments, (scan->count + 1) * sizeof(*scan->segments));
    assert(grown != NULL);
    scan->segments = grown;
    scan->segments[scan->count++] = (struct wal_scanned){.header = {.number = number}};
}

static int by_number(const void *a, const void *b)
{
    uint64_t first = ((const struct wal_scanned *)a)->header.number;
    uint64_t second = ((const struct wal_scanned *)b)->header.number;
    return first < second ? -1 : first > second;
}

static int open_segment(const struct wal_scan *scan, uint64_t number)
{
    char name[WAL_NAME_SIZE];
    wal_segment_name(number, name);
    return wal_file_open(scan->folder, name, WAL_OPEN_READ);
}

static bool read_header(struct wal_scan *scan, struct wal_scanned *segment,
                        const struct wal_identity *identity, struct err *err)
{
    char bytes[WAL_SEGMENT_HEADER_SIZE];
    uint64_t number = segment->header.number;
    int fd = open_segment(scan, number);
    if (fd < 0) {
        return wal_error(fd, "open", number, err);
    }
    ssize_t size = wal_file_read(scan->folder, fd, bytes, sizeof(bytes), 0);
    int64_t file_bytes = wal_file_size(scan->folder, fd);
    (void)wal_file_close(scan->folder, &fd);
    if (size < 0 || file_bytes < 0) {
        return wal_error(size < 0 ? (int)size : (int)file_bytes, "read", number, err);
    }
    if (!wal_segment_header_read(str_make(bytes, (size_t)size), &segment->header) ||
        segment->header.number != number) {
        segment->header.number = number;
        return damaged(err, number, 0, "its header is not valid");
    }
    if (memcmp(segment->header.writer, identity->writer, WAL_WRITER_SIZE) != 0) {
        return damaged(err, number, 0, "it belongs to another log");
    }
    if ((uint64_t)file_bytes < segment->header.file_bytes) {
        return damaged(err, number, (uint64_t)file_bytes, "the file is cut off");
    }
    return true;
}

size_t wal_scan_next(const struct wal_scan *scan, size_t index)
{
    do {
        index++;
    } while (index < scan->count && scan->segments[index].replaced);
    return index;
}

static void mark_replaced(struct wal_scan *scan)
{
    for (size_t i = 0; i < scan->count; i++) {
        const struct wal_segment_header *header = &scan->segments[i].header;
        for (size_t k = i; k > 0 && scan->segments[k - 1].header.number >= header->replaces; k--) {
            scan->segments[k - 1].replaced = true;
        }
    }
}

static bool check_chain(const struct wal_scan *scan, struct err *err)
{
    const struct wal_segment_header *before = NULL;
    for (size_t i = wal_scan_next(scan, SIZE_MAX); i < scan->count; i = wal_scan_next(scan, i)) {
        const struct wal_segment_header *header = &scan->segments[i].header;
        if (before != NULL && header->replaces != before->number + 1) {
            return damaged(err, before->number + 1, 0, "the segment is missing");
        }
        if (before != NULL && header->previous + 1 < before->first) {
            return damaged(err, header->number, 0, "its sequences are not after those before it");
        }
        before = header;
    }
    return true;
}

bool wal_scan_init(struct wal_scan *scan, const struct wal_folder *folder,
                   const struct wal_identity *identity, struct err *err)
{
    *scan = (struct wal_scan){.folder = folder};
    buf_init(&scan->bytes, UINT32_MAX);
    int code = wal_folder_list(folder, note_name, scan);
    if (code < 0) {
        return wal_error(code, "list", 0, err);
    }
    if (scan->count > 0) {
        qsort(scan->segments, scan->count, sizeof(*scan->segments), by_number);
    }
    for (size_t i = 0; identity != NULL && i < scan->count; i++) {
        if (!read_header(scan, &scan->segments[i], identity, err)) {
            return false;
        }
    }
    mark_replaced(scan);
    return identity == NULL || check_chain(scan, err);
}

void wal_scan_finish(struct wal_scan *scan)
{
    buf_finish(&scan->bytes);
    mem_free(scan->segments);
    *scan = (struct wal_scan){0};
}

/* ---- one segment ---- */

static bool load(struct wal_scan *scan, const struct wal_segment_header *header, struct err *err)
{
    buf_reset(&scan->bytes);
    char *into = buf_room(&scan->bytes, header->file_bytes);
    if (into == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "segment %" PRIu64 " of the log is too large to read",
                       header->number);
    }
    int fd = open_segment(scan, header->number);
    if (fd < 0) {
        return wal_error(fd, "open", header->number, err);
    }
    ssize_t size = wal_file_read(scan->folder, fd, into, header->file_bytes, 0);
    (void)wal_file_close(scan->folder, &fd);
    if (size < 0) {
        return wal_error((int)size, "read", header->number, err);
    }
    buf_wrote(&scan->bytes, into + size);
    return (uint64_t)size == header->file_bytes ||
           damaged(err, header->number, (uint64_t)size, "the file is cut off");
}

static bool has_bytes(struct str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.ptr[i] != 0) {
            return true;
        }
    }
    return false;
}

/* In the last segment, behind the last valid record: torn, or damaged? See wal_format.h. */
static bool judge_end(const struct wal_segment_header *segment, struct str bytes,
                      struct wal_scan_end *end, struct err *err)
{
    struct wal_record_header header;
    uint64_t expected = end->last + 1;
    for (size_t at = (size_t)end->offset; at + sizeof(header) <= bytes.len;
         at += WAL_RECORD_ALIGN) {
        if (!wal_record_read_header(str_from(bytes, at), segment->salt, &header)) {
            continue;
        }
        if (at > end->offset && header.durable >= expected) {
            return damaged(err, segment->number, end->offset,
                           "a record that was acknowledged cannot be read");
        }
        end->torn++;
        end->highest = header.sequence > end->highest ? header.sequence : end->highest;
    }
    struct str place = str_first(str_from(bytes, (size_t)end->offset), sizeof(header));
    end->torn += end->torn == 0 && has_bytes(place) ? 1 : 0;
    return true;
}

bool wal_scan_segment(struct wal_scan *scan, size_t index, wal_scan_fn *each, void *context,
                      struct wal_scan_end *ret_end, struct err *err)
{
    const struct wal_segment_header *segment = &scan->segments[index].header;
    size_t next = wal_scan_next(scan, index);
    uint64_t last = next < scan->count ? scan->segments[next].header.previous : UINT64_MAX;
    struct wal_scan_end end = {.last = segment->first - 1,
                               .last_user = segment->first - 1,
                               .offset = WAL_SEGMENT_HEADER_SIZE};
    if (!load(scan, segment, err)) {
        return false;
    }
    struct str bytes = buf_str(&scan->bytes);
    while (end.last < last) {
        struct wal_record_header header;
        struct str payload;
        if (!wal_record_read(str_from(bytes, (size_t)end.offset), segment->salt, &header,
                             &payload) ||
            header.sequence != end.last + 1) {
            break;
        }
        const struct wal_place place = {
            .sequence = header.sequence,
            .segment = segment->number,
            .offset = (uint32_t)(end.offset + WAL_RECORD_HEADER_SIZE),
            .size = header.payload_size,
        };
        if (each != NULL && !each(context, &place, &header, payload, err)) {
            return false;
        }
        end.last = header.sequence;
        end.last_user = header.type >= WAL_TYPE_FIRST ? header.sequence : end.last_user;
        end.offset += wal_record_size(header.payload_size);
    }
    end.highest = end.last;
    *ret_end = end;
    if (next < scan->count) {
        return end.last == last ||
               damaged(err, segment->number, end.offset, "a record cannot be read");
    }
    return judge_end(segment, bytes, ret_end, err);
}
