/* lake_fixture.h - a lake in a folder of its own, without an engine: rows go to the log, and come
 * back from it. Set the limits after the fixture is zeroed, before lake_fixture_start or
 * lake_fixture_reopen. */
#pragma once

#include "test.h"

#include "clock.h"
#include "lake_ingest.h"

#include <stdlib.h>
#include <unistd.h>

struct fixture {
    char path[64];
    char store_path[80];
    char log_path[80];
    struct store *store;
    struct lake *lake;
    struct err err;
    uint64_t log_bytes_max;
    uint64_t segment_bytes; /* 0: 1 MiB */
    uint64_t tail_bytes_max;
};

static inline bool lake_fixture_open(struct fixture *f)
{
    struct lake_options options = {
        .store = f->store,
        .prefix = STR(""),
        .spool_folder = f->path,
        .log_folder = f->log_path,
        .log_segment_bytes = f->segment_bytes == 0 ? 1 << 20 : f->segment_bytes,
        .log_bytes_max = f->log_bytes_max,
        .flush.bytes = UINT64_MAX / 4,
        .flush.rows = UINT64_MAX / 4,
        .flush.age_ms = INT64_MAX / 4,
        .flush_threads = 1,
        .tail_bytes_max = f->tail_bytes_max,
        .keys_max = 100,
    };
    f->lake = lake_open(&options, &f->err);
    if (f->lake == NULL) {
        fprintf(stderr, "%s %s\n", f->err.message, f->err.detail);
    }
    return f->lake != NULL;
}

static inline bool lake_fixture_start(struct fixture *f)
{
    (void)snprintf(f->path, sizeof(f->path), "/tmp/eider-lake-XXXXXX");
    if (mkdtemp(f->path) == NULL) {
        return false;
    }
    (void)snprintf(f->store_path, sizeof(f->store_path), "%s/lake", f->path);
    (void)snprintf(f->log_path, sizeof(f->log_path), "%s/log", f->path);
    f->store = store_open_folder(f->store_path, &f->err);
    return f->store != NULL && lake_fixture_open(f);
}

static inline bool lake_fixture_reopen(struct fixture *f)
{
    lake_close(f->lake);
    return lake_fixture_open(f);
}

static inline void lake_fixture_end(struct fixture *f)
{
    char command[128];
    lake_close(f->lake);
    store_close(f->store);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
    (void)!system(command);
}

static inline struct lake_request lake_fixture_request(const char *table)
{
    return (struct lake_request){.table = str_of(table),
                                 .way = LAKE_BUFFERED,
                                 .input = LAKE_NDJSON,
                                 .arrival_ms = clock_wall_ms()};
}
