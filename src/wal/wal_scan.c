/* Reads a log's folder: which segments there are, and every byte of each. Changes nothing. */
#include "wal_internal.h"

#include "mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    READ_STEP_BYTES = 1 << 20
};

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

static bool has_bytes(struct str bytes)
{
    return bytes.len > 0 &&
           (bytes.ptr[0] != 0 || memcmp(bytes.ptr, bytes.ptr + 1, bytes.len - 1) != 0);
}

/* The bytes up to the last step that is not all zeros, with `zeros` of those that follow it. */
static void keep_step(struct buf *bytes, size_t size, size_t zeros)
{
    char *into = bytes->ptr + bytes->len;
    if (zeros > 0) {
        memmove(into + zeros, into, size);
        memset(into, 0, zeros);
    }
    buf_wrote(bytes, into + zeros + size);
}

/* A log that has just begun is 64 MiB of zeros: pages of memory are spent on what is behind them
 * only. A header that begins before the zeros is whole. */
static ssize_t read_bytes(struct wal_scan *scan, int fd, size_t file_bytes)
{
    size_t zeros = 0;
    for (size_t at = 0; at < file_bytes;) {
        uint64_t data = wal_file_data(scan->folder, fd, at);
        data = data < file_bytes ? data : file_bytes;
        if (data > at) {
            zeros += data - at;
            at = data;
            continue;
        }
        size_t wanted = file_bytes - at < READ_STEP_BYTES ? file_bytes - at : READ_STEP_BYTES;
        char *into = scan->bytes.ptr + scan->bytes.len;
        ssize_t size = wal_file_read(scan->folder, fd, into, wanted, at);
        if (size <= 0) {
            return size < 0 ? size : (ssize_t)at;
        }
        at += (size_t)size;
        if (has_bytes(str_make(into, (size_t)size))) {
            keep_step(&scan->bytes, (size_t)size, zeros);
            zeros = 0;
        } else {
            zeros += (size_t)size;
        }
    }
    size_t kept = zeros < WAL_RECORD_HEADER_SIZE ? zeros : WAL_RECORD_HEADER_SIZE;
    memset(scan->bytes.ptr + scan->bytes.len, 0, kept);
    buf_wrote(&scan->bytes, scan->bytes.ptr + scan->bytes.len + kept);
    return (ssize_t)file_bytes;
}

static bool load(struct wal_scan *scan, const struct wal_segment_header *header, struct err *err)
{
    buf_reset(&scan->bytes);
    if (buf_room(&scan->bytes, header->file_bytes) == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "segment %" PRIu64 " of the log is too large to read",
                       header->number);
    }
    int fd = open_segment(scan, header->number);
    if (fd < 0) {
        return wal_error(fd, "open", header->number, err);
    }
    ssize_t size = read_bytes(scan, fd, header->file_bytes);
    (void)wal_file_close(scan->folder, &fd);
    if (size < 0) {
        return wal_error((int)size, "read", header->number, err);
    }
    return (uint64_t)size == header->file_bytes ||
           damaged(err, header->number, (uint64_t)size, "the file is cut off");
}

/* A record that ends in zeros that were left out: true when they are there now. */
static bool load_zeros(struct wal_scan *scan, const struct wal_segment_header *segment,
                       uint64_t offset)
{
    struct wal_record_header header;
    struct buf *bytes = &scan->bytes;
    struct str rest = str_from(buf_str(bytes), (size_t)offset);
    if (bytes->len == segment->file_bytes ||
        !wal_record_read_header(rest, segment->salt, &header) ||
        wal_record_size(header.payload_size) <= rest.len) {
        return false;
    }
    memset(bytes->ptr + bytes->len, 0, segment->file_bytes - bytes->len);
    buf_wrote(bytes, bytes->ptr + segment->file_bytes);
    return true;
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
    while (end.last < last) {
        struct wal_record_header header;
        struct str payload;
        struct str rest = str_from(buf_str(&scan->bytes), (size_t)end.offset);
        if (!wal_record_read(rest, segment->salt, &header, &payload)) {
            if (load_zeros(scan, segment, end.offset)) {
                continue;
            }
            break;
        }
        if (header.sequence != end.last + 1) {
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
    return judge_end(segment, buf_str(&scan->bytes), ret_end, err);
}
