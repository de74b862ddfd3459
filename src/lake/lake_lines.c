#include "crc32c.h"
#include "fd.h"
#include "lake_internal.h"
#include "lake_table.h"
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    STAGE_SIZE = 256 << 10,
    MEMORY_MAX = 32 << 20 /* more lines than that are in a file of the spool folder */
};

/* One gathering: a window per day, its place in the file fixed before the first byte is copied. The
 * file is written and not mapped: a tail is as large as its table's flush_bytes, and more, and
 * would be the server's memory as long as the flush takes. */
struct gather {
    const struct lake_tail_record *records;
    size_t records_count;
    const int32_t *day; /* of all rows; or NULL */
    struct lake_window *windows;
    size_t windows_count;
    size_t used;      /* the window of the last row: the next is most often of the same day */
    uint64_t *filled; /* bytes per window */
    uint64_t size;
    int fd;
    /* Bytes that belong at `stage_offset` and are not written yet, so that records of one row do
     * not cost a call each. */
    char *stage;
    size_t staged;
    uint64_t stage_offset;
};

static struct lake_window *window_of(struct gather *gather, int32_t day)
{
    if (gather->windows[gather->used].day == day) {
        return &gather->windows[gather->used];
    }
    size_t first = 0;
    size_t end = gather->windows_count;
    while (end - first > 1) {
        size_t middle = first + (end - first) / 2;
        if (gather->windows[middle].day <= day) {
            first = middle;
        } else {
            end = middle;
        }
    }
    assert(gather->windows[first].day == day);
    gather->used = first;
    return &gather->windows[first];
}

static uint64_t lines_size(const struct lake_tail_record *record)
{
    return record->place.size >= record->lines_offset ? record->place.size - record->lines_offset
                                                      : 0;
}

static void count(struct gather *gather, int32_t day, uint64_t rows, uint64_t size)
{
    struct lake_window *window = window_of(gather, gather->day != NULL ? *gather->day : day);
    window->rows += rows;
    window->size += size;
    gather->size += size;
}

static int compare_days(const void *a, const void *b)
{
    const int32_t *left = a;
    const int32_t *right = b;
    return *left < *right ? -1 : *left > *right;
}

/* A window for each day there is, in order. There may be very many. */
static void make_windows(struct gather *gather)
{
    size_t wanted = 1;
    size_t count = 0;
    for (size_t i = 0; i < gather->records_count; i++) {
        wanted += gather->records[i].sections == NULL ? 1 : gather->records[i].sections_count;
    }
    int32_t *days = mem_alloc_array(wanted, sizeof(*days));
    for (size_t i = 0; i < gather->records_count; i++) {
        const struct lake_tail_record *record = &gather->records[i];
        size_t sections = record->sections == NULL ? 1 : record->sections_count;
        for (size_t s = 0; s < sections; s++) {
            int32_t day = record->sections == NULL ? record->day : record->sections[s].day;
            days[count] = gather->day != NULL ? *gather->day : day;
            count += count == 0 || days[count - 1] != days[count] ? 1 : 0;
        }
    }
    qsort(days, count, sizeof(*days), compare_days);
    gather->windows = mem_alloc_array(count + 1, sizeof(*gather->windows));
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || days[i] != days[i - 1]) {
            gather->windows[gather->windows_count++] = (struct lake_window){.day = days[i]};
        }
    }
    mem_free(days);
}

static void lay_out(struct gather *gather)
{
    make_windows(gather);
    for (size_t i = 0; i < gather->records_count; i++) {
        const struct lake_tail_record *record = &gather->records[i];
        if (record->sections == NULL) {
            count(gather, record->day, record->rows, lines_size(record));
        }
        for (uint32_t s = 0; record->sections != NULL && s < record->sections_count; s++) {
            const struct lake_section *section = &record->sections[s];
            count(gather, section->day, section->rows, section->size);
        }
    }
    uint64_t offset = 0;
    for (size_t i = 0; i < gather->windows_count; i++) {
        gather->windows[i].offset = offset;
        offset += gather->windows[i].size;
    }
}

static size_t longest_line(struct str lines)
{
    size_t longest = 0;
    for (struct str line; str_next_part(&lines, '\n', &line);) {
        longest = line.len > longest ? line.len : longest;
    }
    return longest;
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

static bool copy_lines(struct gather *gather, int32_t day, struct str lines, size_t *longest,
                       struct err *err)
{
    struct lake_window *window = window_of(gather, gather->day != NULL ? *gather->day : day);
    uint64_t *filled = &gather->filled[window - gather->windows];
    if (lines.len > window->size - *filled) {
        return err_set(err, ERR_CORRUPT, "a record of the log is larger than it was");
    }
    size_t line = longest_line(lines);
    *longest = line > *longest ? line : *longest;
    uint64_t offset = window->offset + *filled;
    *filled += lines.len;
    window->crc = crc32c(window->crc, lines.ptr, lines.len);
    return put_lines(gather, lines, offset, err);
}

static bool copy_record(struct gather *gather, const struct lake_tail_record *record,
                        struct str payload, size_t *longest, struct err *err)
{
    if (payload.len < record->lines_offset) {
        return err_set(err, ERR_CORRUPT, "a record of the log is smaller than it was");
    }
    struct str lines = str_from(payload, record->lines_offset);
    if (record->sections == NULL) {
        return copy_lines(gather, record->day, lines, longest, err);
    }
    for (uint32_t i = 0; i < record->sections_count; i++) {
        const struct lake_section *section = &record->sections[i];
        if (section->size > lines.len) {
            return err_set(err, ERR_CORRUPT, "the sections of a record go beyond its lines");
        }
        struct str part = str_first(lines, (size_t)section->size);
        if (!copy_lines(gather, section->day, part, longest, err)) {
            return false;
        }
        lines = str_from(lines, part.len);
    }
    return lines.len == 0 || err_set(err, ERR_CORRUPT, "a record has lines of no section");
}

static bool copy_records(struct lake *lake, struct gather *gather, size_t *longest, struct err *err)
{
    struct wal_reader *reader = wal_reader_open(lake->records);
    bool good = true;
    for (size_t i = 0; good && i < gather->records_count; i++) {
        struct str payload;
        good = wal_reader_get(reader, &gather->records[i].place, &payload, err) &&
               copy_record(gather, &gather->records[i], payload, longest, err);
    }
    wal_reader_close(reader);
    for (size_t i = 0; good && i < gather->windows_count; i++) {
        good = gather->filled[i] == gather->windows[i].size ||
               err_set(err, ERR_CORRUPT, "records of the log are smaller than they were");
    }
    return good;
}

static bool fill_file(struct lake *lake, struct gather *gather, size_t *longest, struct err *err)
{
    gather->stage = mem_alloc(STAGE_SIZE);
    gather->filled = mem_alloc_array(gather->windows_count + 1, sizeof(*gather->filled));
    for (size_t i = 0; i < gather->windows_count; i++) {
        gather->windows[i].crc = 0;
    }
    gather->staged = 0;
    *longest = 0;
    bool good = copy_records(lake, gather, longest, err) && write_stage(gather, err);
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

bool lake_lines_gather(struct lake *lake, const struct lake_tail_record *records,
                       size_t records_count, const int32_t *day, struct lake_lines *ret_lines,
                       struct err *err)
{
    struct gather gather = {
        .records = records, .records_count = records_count, .day = day, .fd = -1};
    *ret_lines = (struct lake_lines){.fd = -1};
    lay_out(&gather);
    if (!make_file(lake, &gather, ret_lines, err)) {
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

void lake_lines_finish(struct lake_lines *lines)
{
    if (lines->fd >= 0) {
        fd_close(&lines->fd);
    }
    mem_free(lines->windows);
    *lines = (struct lake_lines){.fd = -1};
}
