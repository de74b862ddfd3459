/* wal_rate.c - how fast the log takes records, beside a bare append + fdatasync loop on the same
 * file system in the same run.
 *
 * usage: wal_rate FOLDER [SECONDS]
 *
 * FOLDER must not be there; it is made, and removed at the end. Each row runs for SECONDS (default
 * 2), all rows once more in each of three rounds, so that a restless machine shows. Columns:
 * records a second, MB/s of payload, records per sync, time of one append (until it is durable) at
 * the median and at 99 %. */
#include "clock.h"
#include "mem.h"
#include "thread.h"
#include "wal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    THREADS_MAX = 64,
    SAMPLES_MAX = 1 << 20,
    ROUNDS = 3,
    SEGMENT_BYTES = 64 << 20
};

struct row {
    const char *name;
    unsigned threads; /* 0: the bare loop */
    size_t size;
};

struct run {
    const struct row *row;
    struct wal *wal;
    const char *folder;
    int fd;
    int64_t until_us;
    uint64_t offset;
    uint64_t syncs;
    atomic_size_t count;
    int64_t *samples_us;
};

static void append_once(struct run *run)
{
    struct err err;
    struct buf payload;
    struct wal_place place;
    const struct wal_record record = {.type = WAL_TYPE_FIRST};
    buf_init(&payload, run->row->size + 1);
    char *bytes = buf_room(&payload, run->row->size);
    if (bytes == NULL) {
        abort();
    }
    bytes[0] = 'x'; /* the rest is what was there: only moving it is measured */
    buf_wrote(&payload, bytes + run->row->size);
    if (!wal_append_wait(run->wal, &record, &payload, &place, &err)) {
        (void)fprintf(stderr, "wal_rate: %s (%s)\n", err.message, err.detail);
        exit(EXIT_FAILURE);
    }
    if (place.sequence % 64 == 0 && !wal_trim(run->wal, place.sequence, &err)) {
        exit(EXIT_FAILURE);
    }
}

/* A fresh file each time, as the log has fresh segments: pages and blocks that were written before
 * are cheaper. */
static bool open_file(struct run *run, const char *folder)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/bare", folder);
    (void)unlink(path);
    if (run->fd >= 0) {
        (void)close(run->fd);
    }
    run->offset = 0;
    run->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = run->fd >= 0 && fallocate(run->fd, 0, 0, SEGMENT_BYTES) == 0;
    if (!good) {
        perror("wal_rate");
    }
    return good;
}

/* What anybody could do with a file: one record, one sync, no bookkeeping. */
static void write_once(struct run *run, const char *bytes)
{
    bool good = run->offset + run->row->size <= SEGMENT_BYTES || open_file(run, run->folder);
    if (!good ||
        pwrite(run->fd, bytes, run->row->size, (off_t)run->offset) != (ssize_t)run->row->size ||
        fdatasync(run->fd) != 0) {
        perror("wal_rate");
        exit(EXIT_FAILURE);
    }
    run->offset += run->row->size;
}

static void *work(void *argument)
{
    struct run *run = argument;
    char *bytes = mem_alloc(run->row->size);
    for (int64_t now = clock_now_us(); now < run->until_us;) {
        int64_t begun = now;
        if (run->row->threads == 0) {
            write_once(run, bytes);
        } else {
            append_once(run);
        }
        now = clock_now_us();
        size_t index = atomic_fetch_add(&run->count, 1);
        run->samples_us[index % SAMPLES_MAX] = now - begun;
    }
    mem_free(bytes);
    return NULL;
}

static int by_time(const void *a, const void *b)
{
    int64_t first = *(const int64_t *)a;
    int64_t second = *(const int64_t *)b;
    return first < second ? -1 : first > second;
}

static void print(struct run *run, double seconds)
{
    size_t count = atomic_load(&run->count);
    size_t kept = count < SAMPLES_MAX ? count : SAMPLES_MAX;
    qsort(run->samples_us, kept, sizeof(*run->samples_us), by_time);
    double rate = (double)count / seconds;
    (void)printf("%-28s %9.0f /s %8.1f MB/s %7.1f per sync   p50 %6" PRId64 " us  p99 %6" PRId64
                 " us\n",
                 run->row->name, rate, rate * (double)run->row->size / 1e6,
                 (double)count / (double)run->syncs, run->samples_us[kept / 2],
                 run->samples_us[kept * 99 / 100]);
    (void)fflush(stdout);
}

static bool open_log(struct run *run, const char *folder)
{
    struct err err;
    const struct wal_options options = {
        .folder = folder, .segment_bytes = SEGMENT_BYTES, .queue_bytes_max = 256 << 20};
    run->wal = wal_open(&options, &err);
    if (run->wal == NULL) {
        (void)fprintf(stderr, "wal_rate: %s (%s)\n", err.message, err.detail);
    }
    return run->wal != NULL;
}

static bool run_row(const struct row *row, const char *folder, double seconds)
{
    struct run run = {.row = row, .folder = folder, .fd = -1};
    pthread_t threads[THREADS_MAX];
    unsigned count = row->threads == 0 ? 1 : row->threads;
    if (row->threads == 0 ? !open_file(&run, folder) : !open_log(&run, folder)) {
        return false;
    }
    run.samples_us = mem_alloc_array(SAMPLES_MAX, sizeof(*run.samples_us));
    int64_t begun_us = clock_now_us();
    run.until_us = begun_us + (int64_t)(seconds * 1e6);
    for (unsigned i = 0; i < count; i++) {
        threads[i] = thread_start("append", work, &run);
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    run.syncs =
        run.wal == NULL ? atomic_load(&run.count) : metric_value(&wal_counts(run.wal)->syncs);
    print(&run, (double)(clock_now_us() - begun_us) / 1e6);
    wal_close(run.wal);
    if (run.fd >= 0) {
        (void)close(run.fd);
    }
    mem_free(run.samples_us);
    return true;
}

int main(int count, char **arguments)
{
    static const struct row rows[] = {
        {"bare, 200 B", 0, 200},
        {"log, 1 client, 200 B", 1, 200},
        {"log, 64 clients, 200 B", 64, 200},
        {"bare, 1 MiB", 0, 1 << 20},
        {"log, 1 client, 1 MiB", 1, 1 << 20},
        {"log, 4 clients, 1 MiB", 4, 1 << 20},
    };
    if (count < 2) {
        (void)fputs("usage: wal_rate FOLDER [SECONDS]\n", stderr);
        return 2;
    }
    double seconds = count > 2 ? strtod(arguments[2], NULL) : 2;
    char command[4200];
    bool good = mkdir(arguments[1], 0700) == 0;
    if (!good) {
        perror("wal_rate");
    }
    for (unsigned i = 0; good && i < ROUNDS * COUNT_OF(rows); i++) {
        good = run_row(&rows[i % COUNT_OF(rows)], arguments[1], seconds);
    }
    (void)snprintf(command, sizeof(command), "rm -rf -- '%s'", arguments[1]);
    return good && system(command) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
