#include "crc32c.h"
#include "fd.h"
#include "lake_cut.h"
#include "lake_internal.h"
#include "mem.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    STAGE_SIZE = 256 << 10,
    LINE_SIZE_SHORT = 64 << 10, /* a reader has room for those anyway: no need to tell them apart */
    MEMORY_MAX = 32 << 20       /* more lines than that are in a file of the spool folder */
};

/* One gathering: a window for each cut, its place in the file fixed before the first byte is
 * copied. The file is written and not mapped: a tail is as large as its table's flush_bytes, and
 * more, and would be the server's memory as long as the flush takes. */
struct gather {
    const struct lake_tail_record *records;
    size_t records_count;
    const int32_t *day; /* of all rows; or NULL */
    const struct lake_cuts *cuts;
    struct lake_cutter cutter;
    struct lake_window *windows; /* one for each cut */
    size_t windows_count;
    uint64_t *filled; /* bytes per window */
    uint64_t size;
    int fd;
    /* Bytes that belong at `stage_offset` and are not written yet, so that records of one row do
     * not cost a call each. */
    char *stage;
    size_t staged;
    uint64_t stage_offset;
};

static bool count_section(void *context, const struct lake_section *section)
{
    struct gather *gather = context;
    size_t index;
    if (!lake_cutter_next(&gather->cutter, section->day, section->rows, &index)) {
        return false;
    }
    gather->windows[index].rows += section->rows;
    gather->windows[index].size += section->size;
    gather->size += section->size;
    return true;
}

static bool lay_out(struct gather *gather, struct err *err)
{
    bool good = true;
    gather->windows_count = gather->cuts->count;
    gather->windows = mem_alloc_array(gather->windows_count + 1, sizeof(*gather->windows));
    for (size_t i = 0; i < gather->windows_count; i++) {
        gather->windows[i].day = gather->cuts->items[i].day;
    }
    lake_cutter_init(&gather->cutter, gather->cuts);
    for (size_t i = 0; good && i < gather->records_count; i++) {
        good = lake_record_visit(&gather->records[i], gather->day, count_section, gather);
    }
    lake_cutter_finish(&gather->cutter);
    uint64_t offset = 0;
    for (size_t i = 0; i < gather->windows_count; i++) {
        gather->windows[i].offset = offset;
        offset += gather->windows[i].size;
    }
    return good || err_set(err, ERR_CORRUPT, "the log holds rows of a day that they were not of");
}

/* At least as long as the longest line. Looks for a line end only where a longer one would end. */
static size_t grow_bound(size_t bound, struct str lines)
{
    while (lines.len > bound) {
        const char *end = memrchr(lines.ptr, '\n', bound + 1);
        if (end == NULL) {
            bound = str_find_byte(lines, '\n');
        }
        size_t size = end == NULL ? bound : (size_t)(end - lines.ptr);
        lines = str_from(lines, size < lines.len ? size + 1 : size);
    }
    return bound;
}

static bool write_at(const struct gather *gather, struct str bytes, uint64_t offset,
                     struct err *err)
{
    return fd_write_at(gather->fd, bytes.ptr, bytes.len, offset) ||
           err_set_errno(err, ERR_UNAVAILABLE, errno != 0 ? errno : EIO,
                         "there is no room for %llu bytes of records",
                         (unsigned long long)gather->size);
}

static bool write_stage(struct gather *gather, struct err *err)
{
    struct str bytes = str_make(gather->stage, gather->staged);
    gather->staged = 0;
    return write_at(gather, bytes, gather->stage_offset, err);
}

static bool put_lines(struct gather *gather, struct str lines, uint64_t offset, struct err *err)
{
    bool follows = offset == gather->stage_offset + gather->staged;
    if ((!follows || lines.len > STAGE_SIZE - gather->staged) && !write_stage(gather, err)) {
        return false;
    }
    if (lines.len >= STAGE_SIZE) {
        return write_at(gather, lines, offset, err);
    }
    if (gather->staged == 0) {
        gather->stage_offset = offset;
    }
    memcpy(gather->stage + gather->staged, lines.ptr, lines.len);
    gather->staged += lines.len;
    return true;
}

/* One record on its way into the file. */
struct copying {
    struct gather *gather;
    struct str lines; /* that are left of it */
    size_t *bound;
    struct err *err;
};

static bool copy_section(void *context, const struct lake_section *section)
{
    struct copying *copying = context;
    struct gather *gather = copying->gather;
    size_t index;
    if (section->size > copying->lines.len ||
        !lake_cutter_next(&gather->cutter, section->day, section->rows, &index)) {
        return err_set(copying->err, ERR_CORRUPT, "the sections of a record go beyond its lines");
    }
    struct lake_window *window = &gather->windows[index];
    struct str lines = str_first(copying->lines, (size_t)section->size);
    copying->lines = str_from(copying->lines, lines.len);
    if (lines.len > window->size - gather->filled[index]) {
        return err_set(copying->err, ERR_CORRUPT, "a record of the log is larger than it was");
    }
    *copying->bound = grow_bound(*copying->bound, lines);
    uint64_t offset = window->offset + gather->filled[index];
    gather->filled[index] += lines.len;
    window->crc = crc32c(window->crc, lines.ptr, lines.len);
    return put_lines(gather, lines, offset, copying->err);
}

static bool copy_record(struct gather *gather, const struct lake_tail_record *record,
                        struct str payload, size_t *bound, struct err *err)
{
    if (payload.len < record->lines_offset) {
        return err_set(err, ERR_CORRUPT, "a record of the log is smaller than it was");
    }
    struct copying copying = {
        .gather = gather,
        .lines = str_from(payload, record->lines_offset),
        .bound = bound,
        .err = err,
    };
    return lake_record_visit(record, gather->day, copy_section, &copying) &&
           (copying.lines.len == 0 ||
            err_set(err, ERR_CORRUPT, "a record has lines of no section"));
}

static bool copy_records(struct lake *lake, struct gather *gather, size_t *bound, struct err *err)
{
    struct wal_reader *reader = wal_reader_open(lake->records);
    bool good = true;
    for (size_t i = 0; good && i < gather->records_count; i++) {
        struct str payload;
        good = wal_reader_get(reader, &gather->records[i].place, &payload, err) &&
               copy_record(gather, &gather->records[i], payload, bound, err);
    }
    wal_reader_close(reader);
    for (size_t i = 0; good && i < gather->windows_count; i++) {
        good = gather->filled[i] == gather->windows[i].size ||
               err_set(err, ERR_CORRUPT, "records of the log are smaller than they were");
    }
    return good;
}

static bool fill_file(struct lake *lake, struct gather *gather, size_t *bound, struct err *err)
{
    gather->stage = mem_alloc(STAGE_SIZE);
    gather->filled = mem_alloc_array(gather->windows_count + 1, sizeof(*gather->filled));
    for (size_t i = 0; i < gather->windows_count; i++) {
        gather->windows[i].crc = 0;
    }
    gather->staged = 0;
    *bound = LINE_SIZE_SHORT;
    lake_cutter_init(&gather->cutter, gather->cuts);
    bool good = copy_records(lake, gather, bound, err) && write_stage(gather, err);
    lake_cutter_finish(&gather->cutter);
    mem_free(gather->filled);
    mem_free(gather->stage);
    return good;
}

/* A disk without room must not keep the log from being emptied: then memory has to do. */
static bool make_file(struct lake *lake, struct gather *gather, struct lake_lines *lines,
                      struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    struct err ignored;
    if (gather->size > MEMORY_MAX) {
        fd = gather->fd = fd_temporary(lake->spool_folder, &ignored);
        if (fd >= 0 && fill_file(lake, gather, &lines->line_size_max, &ignored)) {
            lines->fd = fd_reopen_read_only(fd, err);
            return lines->fd >= 0;
        }
        fd_close(&fd);
    }
    fd = gather->fd = memfd_create("lines", MFD_CLOEXEC);
    if (fd < 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
    }
    lines->fd =
        fill_file(lake, gather, &lines->line_size_max, err) ? fd_reopen_read_only(fd, err) : -1;
    return lines->fd >= 0;
}

bool lake_lines_gather_cut(struct lake *lake, const struct lake_tail_record *records,
                           size_t records_count, const int32_t *day, const struct lake_cuts *cuts,
                           struct lake_lines *ret_lines, struct err *err)
{
    struct gather gather = {
        .records = records, .records_count = records_count, .day = day, .cuts = cuts, .fd = -1};
    *ret_lines = (struct lake_lines){.fd = -1};
    if (!lay_out(&gather, err) || !make_file(lake, &gather, ret_lines, err)) {
        mem_free(gather.windows);
        return false;
    }
    ret_lines->windows = gather.windows;
    ret_lines->windows_count = gather.windows_count;
    for (size_t i = 0; i < gather.windows_count; i++) {
        ret_lines->rows += gather.windows[i].rows;
    }
    return true;
}

bool lake_lines_gather(struct lake *lake, const struct lake_tail_record *records,
                       size_t records_count, const int32_t *day, struct lake_lines *ret_lines,
                       struct err *err)
{
    struct lake_cuts cuts = lake_cuts_by_day(records, records_count, day);
    bool good = lake_lines_gather_cut(lake, records, records_count, day, &cuts, ret_lines, err);
    lake_cuts_finish(&cuts);
    return good;
}

void lake_lines_finish(struct lake_lines *lines)
{
    if (lines->fd >= 0) {
        fd_close(&lines->fd);
    }
    mem_free(lines->windows);
    *lines = (struct lake_lines){.fd = -1};
}
