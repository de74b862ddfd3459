#include "lake_tail.h"

#include "fd.h"
#include "lake_internal.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define TAIL_BYTES_MAX (UINT64_C(1) << 30)
enum {
    WINDOWS_SPARE = 64 /* a file is made anew when it has so many windows more than it needs */
};

/* Lines of the first `records` records of a tail. Bytes that are there never change: the file only
 * grows, so that several queries can share it, each with its own windows. */
struct tail_file {
    atomic_uint holders;
    int fd;        /* of the one who lets it grow */
    int reader_fd; /* read-only */
    uint64_t size;
    struct lake *lake;
    uint64_t reserved; /* of lake->gathered_bytes */
    /* Below: under the table's lock. */
    size_t records;
    uint64_t
        first_sequence; /* of the records at both ends, to see whether the tail still is theirs */
    uint64_t last_sequence;
    struct lake_window *windows;
    size_t windows_count;
    size_t windows_first; /* that one gathering made of what was there then */
    size_t line_size_max;
    uint64_t rows;
};

/* What a table remembers between queries: under its lock. */
struct lake_gathered {
    struct tail_file *file; /* may be NULL */
    bool busy;              /* somebody gathers */
    unsigned waiting;
    struct condition idle;
};

/* ---- files ---- */

static void file_release(struct tail_file *file)
{
    if (file != NULL && atomic_fetch_sub(&file->holders, 1) == 1) {
        fd_close(&file->fd);
        fd_close(&file->reader_fd);
        (void)atomic_fetch_sub(&file->lake->gathered_bytes, file->reserved);
        mem_free(file->windows);
        mem_free(file);
    }
}

static struct tail_file *file_hold(struct tail_file *file)
{
    atomic_fetch_add(&file->holders, 1);
    return file;
}

/* The tail begins with the records of the file, and it is worth going on with it. */
static bool file_is_good(const struct tail_file *file, const struct lake_table *table)
{
    return file != NULL && file->records <= table->tail_count &&
           table->tail[0].place.sequence == file->first_sequence &&
           table->tail[file->records - 1].place.sequence == file->last_sequence &&
           file->windows_count <= 2 * file->windows_first + WINDOWS_SPARE;
}

/* Takes the descriptor of the lines over. */
static struct tail_file *file_create(struct lake *lake, struct lake_lines *lines, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", lines->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
        return NULL;
    }
    struct tail_file *file = mem_alloc(sizeof(*file));
    *file = (struct tail_file){.holders = 1, .fd = fd, .reader_fd = lines->fd, .lake = lake};
    lines->fd = -1;
    return file;
}

static uint64_t lines_bytes(const struct lake_lines *lines)
{
    uint64_t size = 0;
    for (size_t i = 0; i < lines->windows_count; i++) {
        size += lines->windows[i].size;
    }
    return size;
}

static bool file_append(struct tail_file *file, const struct lake_lines *lines, struct err *err)
{
    uint64_t size = lines_bytes(lines);
    off_t from = 0;
    bool good = lseek(file->fd, (off_t)file->size, SEEK_SET) == (off_t)file->size;
    while (good && (uint64_t)from < size) {
        ssize_t copied = sendfile(file->fd, lines->fd, &from, size - (uint64_t)from);
        good = copied > 0 || (copied < 0 && errno == EINTR);
    }
    return good ||
           err_set_errno(err, ERR_UNAVAILABLE, errno, "there is no memory for a table's tail");
}

/* ---- windows ---- */

/* Those that follow each other, of one day, become one. */
static void add_windows(struct tail_file *file, const struct lake_lines *lines)
{
    struct lake_window *grown =
        mem_alloc_array(file->windows_count + lines->windows_count, sizeof(*grown));
    if (file->windows_count > 0) {
        memcpy(grown, file->windows, file->windows_count * sizeof(*grown));
    }
    mem_free(file->windows);
    file->windows = grown;
    for (size_t i = 0; i < lines->windows_count; i++) {
        struct lake_window window = lines->windows[i];
        window.offset += file->size;
        struct lake_window *last =
            file->windows_count == 0 ? NULL : &file->windows[file->windows_count - 1];
        if (last != NULL && last->day == window.day && last->offset + last->size == window.offset) {
            last->size += window.size;
            last->rows += window.rows;
        } else {
            file->windows[file->windows_count++] = window;
        }
    }
}

static void note_lines(struct tail_file *file, const struct lake_lines *lines,
                       const struct lake_tail_record *records, size_t records_count)
{
    add_windows(file, lines);
    if (file->records == 0) {
        file->first_sequence = records[0].place.sequence;
        file->windows_first = file->windows_count;
    }
    file->records += records_count;
    file->last_sequence = records[records_count - 1].place.sequence;
    file->size += lines_bytes(lines);
    file->rows += lines->rows;
    if (lines->line_size_max > file->line_size_max) {
        file->line_size_max = lines->line_size_max;
    }
}

/* ---- one moment ---- */

static int compare_positions(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return *left < *right ? -1 : *left > *right;
}

/* `registered` was looked at before the table's lock was taken: batches up to there are in the
 * table's list, or decided; also those of before a start, which the table need not remember. */
static void look(const struct lake_table *table, uint64_t registered, struct lake_tail *tail)
{
    size_t count = 0;
    for (const struct lake_batch *at = table->batches; at != NULL; at = at->next) {
        count++;
    }
    uint64_t *undecided = mem_alloc_array(count, sizeof(*undecided));
    count = 0;
    for (const struct lake_batch *at = table->batches; at != NULL; at = at->next) {
        undecided[count++] = at->position;
    }
    if (count > 0) {
        qsort(undecided, count, sizeof(*undecided), compare_positions);
    }
    *tail = (struct lake_tail){
        .view = {.generation = table->generation,
                 .committed = table->committed,
                 .position = table->position > registered ? table->position : registered,
                 .undecided = undecided,
                 .undecided_count = count},
        .schema = lake_schema_keep(table->schema),
        .fd = -1,
    };
}

static void show(struct tail_file *file, struct lake_tail *tail)
{
    struct lake_window *windows = mem_alloc_array(file->windows_count, sizeof(*windows));
    memcpy(windows, file->windows, file->windows_count * sizeof(*windows));
    tail->file = file_hold(file);
    tail->fd = file->reader_fd;
    tail->windows = windows;
    tail->windows_count = file->windows_count;
    tail->line_size_max = file->line_size_max;
    tail->rows = file->rows;
}

/* Without a disk, when there is nothing new. */
static bool look_at_gathered(struct lake_table *table, uint64_t registered,
                             struct lake_tail *ret_tail)
{
    struct lake_gathered *gathered = table->gathered;
    if (table->tail_count == 0) {
        look(table, registered, ret_tail);
        return true;
    }
    if (gathered == NULL || !file_is_good(gathered->file, table) ||
        gathered->file->records < table->tail_count) {
        return false;
    }
    look(table, registered, ret_tail);
    show(gathered->file, ret_tail);
    return true;
}

/* ---- gathering ---- */

/* Records that are no longer the table's when they are read: copies. */
struct wanted {
    struct lake_tail_record *records;
    size_t count;
    uint64_t sequence_min;
    uint64_t bytes;         /* of their lines */
    struct tail_file *file; /* to go on with; NULL: a new one */
};

static void wanted_finish(struct wanted *wanted)
{
    for (size_t i = 0; i < wanted->count; i++) {
        mem_free(wanted->records[i].sections);
    }
    mem_free(wanted->records);
    file_release(wanted->file);
}

static void copy_wanted(const struct lake_table *table, struct wanted *wanted)
{
    size_t first = wanted->file == NULL ? 0 : wanted->file->records;
    wanted->count = table->tail_count - first;
    wanted->records = mem_alloc_array(wanted->count, sizeof(*wanted->records));
    wanted->sequence_min = UINT64_MAX;
    for (size_t i = 0; i < wanted->count; i++) {
        struct lake_tail_record *record = &wanted->records[i];
        *record = table->tail[first + i];
        if (record->sections != NULL) {
            record->sections = mem_alloc_array(record->sections_count, sizeof(*record->sections));
            memcpy(record->sections, table->tail[first + i].sections,
                   record->sections_count * sizeof(*record->sections));
        }
        wanted->bytes += record->place.size - record->lines_offset;
        if (record->place.sequence < wanted->sequence_min) {
            wanted->sequence_min = record->place.sequence;
        }
    }
}

/* Becomes the one who gathers, unless there is nothing to gather any more: then *ret_tail is
 * filled, and *ret_busy false. */
static bool begin(struct lake_table *table, uint64_t registered, struct lake_tail *ret_tail,
                  struct wanted *wanted, bool *ret_busy, struct err *err)
{
    *ret_busy = false;
    lock_take(&table->lock);
    if (table->gathered == NULL) {
        table->gathered = mem_alloc(sizeof(*table->gathered));
        condition_init(&table->gathered->idle);
    }
    struct lake_gathered *gathered = table->gathered;
    gathered->waiting++;
    while (gathered->busy) {
        condition_wait(&gathered->idle, &table->lock);
    }
    gathered->waiting--;
    bool good = true;
    if (!look_at_gathered(table, registered, ret_tail)) {
        good = table->tail_bytes <= TAIL_BYTES_MAX;
        if (good) {
            if (file_is_good(gathered->file, table)) {
                wanted->file = file_hold(gathered->file);
            } else {
                file_release(gathered->file);
                gathered->file = NULL;
            }
            copy_wanted(table, wanted);
            look(table, registered, ret_tail);
            gathered->busy = true;
            *ret_busy = true;
        }
    }
    lock_release(&table->lock);
    return good || err_set(err, ERR_BUSY,
                           "the table has more rows that are not in the lake yet than a query can "
                           "see: flush it first");
}

/* ---- room: all files of all tables together are bounded ---- */

static bool take_room(struct lake *lake, uint64_t bytes)
{
    uint64_t most = lake->options.query_tails_bytes_max;
    unsigned long long before = atomic_fetch_add(&lake->gathered_bytes, bytes);
    if (most == 0 || (before <= most && bytes <= most - before)) {
        return true;
    }
    (void)atomic_fetch_sub(&lake->gathered_bytes, bytes);
    return false;
}

/* What no query reads now is only kept for the next. */
static bool forget_idle(void *context, struct lake_table *table)
{
    (void)context;
    lock_take(&table->lock);
    struct lake_gathered *gathered = table->gathered;
    if (gathered != NULL && !gathered->busy && gathered->file != NULL &&
        atomic_load(&gathered->file->holders) == 1) {
        file_release(gathered->file);
        gathered->file = NULL;
    }
    lock_release(&table->lock);
    return true;
}

static bool make_room(struct lake *lake, uint64_t bytes, struct err *err)
{
    if (take_room(lake, bytes)) {
        return true;
    }
    lake_table_visit(lake, forget_idle, NULL);
    return take_room(lake, bytes) ||
           err_set(err, ERR_BUSY,
                   "the rows that are not in the lake yet are more than all queries together may "
                   "hold: try again, or flush the table first");
}

static bool gather(struct lake *lake, struct wanted *wanted, struct lake_lines *ret_lines,
                   struct err *err)
{
    if (!make_room(lake, wanted->bytes, err)) {
        return false;
    }
    bool good = lake_lines_gather(lake, wanted->records, wanted->count, NULL, ret_lines, err);
    if (good && wanted->file != NULL) {
        good = file_append(wanted->file, ret_lines, err);
    } else if (good) {
        wanted->file = file_create(lake, ret_lines, err);
        good = wanted->file != NULL;
    }
    if (good) {
        wanted->file->reserved += wanted->bytes;
    } else {
        (void)atomic_fetch_sub(&lake->gathered_bytes, wanted->bytes);
    }
    return good;
}

static void end(struct lake_table *table, struct lake_tail *tail, const struct wanted *wanted,
                const struct lake_lines *lines)
{
    lock_take(&table->lock);
    struct lake_gathered *gathered = table->gathered;
    if (lines != NULL) {
        note_lines(wanted->file, lines, wanted->records, wanted->count);
        show(wanted->file, tail);
        if (gathered->file != wanted->file) {
            file_release(gathered->file);
            gathered->file = file_hold(wanted->file);
        }
    }
    gathered->busy = false;
    condition_broadcast(&gathered->idle);
    if (table->tail_count == 0) {
        lake_tail_forget(table);
    }
    lock_release(&table->lock);
}

/* Until it is known which records are wanted, all of the log is kept; that takes no longer than the
 * table's lock. */
static bool gather_new(struct lake *lake, struct lake_table *table, uint64_t registered,
                       struct lake_tail *ret_tail, struct err *err)
{
    struct lake_hold all = {.sequence = 1};
    struct lake_hold some = {0};
    struct wanted wanted = {0};
    bool busy;
    lake_hold_add(lake, &all);
    bool good = begin(table, registered, ret_tail, &wanted, &busy, err);
    if (busy) {
        some.sequence = wanted.sequence_min;
        lake_hold_add(lake, &some);
    }
    lake_hold_end(lake, &all);
    if (!busy) {
        return good;
    }
    struct lake_lines lines = {.fd = -1};
    good = gather(lake, &wanted, &lines, err);
    lake_hold_end(lake, &some);
    end(table, ret_tail, &wanted, good ? &lines : NULL);
    if (!good) {
        lake_tail_close(lake, table, ret_tail);
    }
    lake_lines_finish(&lines);
    wanted_finish(&wanted);
    return good;
}

static uint64_t registered_of(struct lake *lake)
{
    lock_take(&lake->tables_lock);
    uint64_t registered = lake->registered;
    lock_release(&lake->tables_lock);
    return registered;
}

static bool recall(struct lake_table *table, uint64_t registered, struct lake_tail *ret_tail)
{
    *ret_tail = (struct lake_tail){.fd = -1};
    lock_take(&table->lock);
    bool found = look_at_gathered(table, registered, ret_tail);
    lock_release(&table->lock);
    return found;
}

bool lake_tail_open(struct lake *lake, struct lake_table *table, struct lake_tail *ret_tail,
                    struct err *err)
{
    uint64_t registered = registered_of(lake);
    return recall(table, registered, ret_tail) ||
           gather_new(lake, table, registered, ret_tail, err);
}

bool lake_tail_recall(struct lake *lake, struct lake_table *table, struct lake_tail *ret_tail)
{
    return recall(table, registered_of(lake), ret_tail);
}

void lake_tail_close(struct lake *lake, struct lake_table *table, struct lake_tail *tail)
{
    (void)lake;
    (void)table;
    file_release(tail->file);
    lake_schema_drop(tail->schema);
    mem_free((void *)(uintptr_t)tail->windows);
    mem_free((void *)(uintptr_t)tail->view.undecided);
    *tail = (struct lake_tail){.fd = -1};
}

void lake_tail_forget(struct lake_table *table)
{
    struct lake_gathered *gathered = table->gathered;
    if (gathered == NULL) {
        return;
    }
    file_release(gathered->file);
    gathered->file = NULL;
    if (!gathered->busy && gathered->waiting == 0) {
        condition_finish(&gathered->idle);
        mem_free(gathered);
        table->gathered = NULL;
    }
}
