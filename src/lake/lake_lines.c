#include "crc32c.h"
#include "fd.h"
#include "lake_internal.h"
#include "lake_table.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* One gathering: a window per day, its place in the file fixed before the first byte is copied. */
struct gather {
    const struct lake_tail_record *records;
    size_t records_count;
    const int32_t *day; /* of all rows; or NULL */
    struct lake_window *windows;
    size_t windows_count;
    size_t used;      /* the window of the last row: the next is most often of the same day */
    uint64_t *filled; /* bytes per window */
    uint64_t size;
    char *bytes; /* the file, mapped */
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
    memcpy(gather->bytes + window->offset + *filled, lines.ptr, lines.len);
    *filled += lines.len;
    window->crc = crc32c(window->crc, lines.ptr, lines.len);
    return true;
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

/* Whoever gets the descriptor cannot write. */
static int open_read_only(int fd, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    if (reader < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
    }
    return reader;
}

static bool fill_file(struct lake *lake, struct gather *gather, struct lake_lines *lines,
                      struct err *err)
{
    CLEANUP(fd_close) int fd = memfd_create("lines", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)gather->size) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "there is no memory for %llu bytes",
                             (unsigned long long)gather->size);
    }
    if (gather->size > 0) {
        gather->bytes = mmap(NULL, gather->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (gather->bytes == MAP_FAILED) {
            return err_set_errno(err, ERR_UNAVAILABLE, errno, "there is no memory for %llu bytes",
                                 (unsigned long long)gather->size);
        }
    }
    gather->filled = mem_alloc_array(gather->windows_count + 1, sizeof(*gather->filled));
    bool good = copy_records(lake, gather, &lines->line_size_max, err);
    mem_free(gather->filled);
    if (gather->size > 0) {
        (void)munmap(gather->bytes, gather->size);
    }
    lines->fd = good ? open_read_only(fd, err) : -1;
    return lines->fd >= 0;
}

bool lake_lines_gather(struct lake *lake, const struct lake_tail_record *records,
                       size_t records_count, const int32_t *day, struct lake_lines *ret_lines,
                       struct err *err)
{
    struct gather gather = {.records = records, .records_count = records_count, .day = day};
    *ret_lines = (struct lake_lines){.fd = -1};
    lay_out(&gather);
    if (!fill_file(lake, &gather, ret_lines, err)) {
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
