#include "test.h"

#include "clock.h"
#include "json_scan.h"
#include "lake_ingest.h"
#include "lake_internal.h"
#include "lake_keys.h"
#include "lake_replay.h"
#include "lake_ship.h"
#include "mem.h"

#include <stdlib.h>
#include <unistd.h>

/* What clients may send and disks may do, to a lake without an engine. */

struct fixture {
    char path[64];
    char store_path[80];
    char log_path[80];
    uint64_t log_bytes_max;
    uint64_t segment_bytes;
    struct store *store;
    struct lake *lake;
    struct err err;
};

static bool open_lake(struct fixture *f)
{
    struct lake_options options = {
        .store = f->store,
        .prefix = STR(""),
        .spool_folder = f->path,
        .log_folder = f->log_path,
        .log_segment_bytes = f->segment_bytes,
        .log_bytes_max = f->log_bytes_max,
        .flush_bytes = UINT64_MAX / 4,
        .flush_rows = UINT64_MAX / 4,
        .flush_age_ms = INT64_MAX / 4,
        .flush_threads = 1,
        .keys_max = 100,
    };
    f->lake = lake_open(&options, &f->err);
    if (f->lake == NULL) {
        fprintf(stderr, "%s %s\n", f->err.message, f->err.detail);
    }
    return f->lake != NULL;
}

static bool start(struct fixture *f, uint64_t log_bytes_max, uint64_t segment_bytes)
{
    *f = (struct fixture){.path = "/tmp/eider-lake-XXXXXX",
                          .log_bytes_max = log_bytes_max,
                          .segment_bytes = segment_bytes};
    if (mkdtemp(f->path) == NULL) {
        return false;
    }
    (void)snprintf(f->store_path, sizeof(f->store_path), "%s/lake", f->path);
    (void)snprintf(f->log_path, sizeof(f->log_path), "%s/log", f->path);
    f->store = store_open_folder(f->store_path, &f->err);
    return f->store != NULL && open_lake(f);
}

static bool reopen(struct fixture *f)
{
    lake_close(f->lake);
    return open_lake(f);
}

static void end(struct fixture *f)
{
    char command[128];
    lake_close(f->lake);
    store_close(f->store);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
    (void)!system(command);
}

static struct lake_request request_for(const char *table)
{
    return (struct lake_request){.table = str_of(table),
                                 .way = LAKE_BUFFERED,
                                 .input = LAKE_NDJSON,
                                 .arrival_ms = clock_wall_ms()};
}

static bool write_rows(struct fixture *f, const struct lake_request *request, struct str body)
{
    struct lake_result result;
    struct lake_writer *writer = lake_writer_open(f->lake, request, &f->err);
    bool good = writer != NULL && lake_writer_feed(writer, body, true, NULL, &f->err) &&
                lake_writer_finish(writer, NULL, &result, NULL, &f->err);
    lake_writer_close(writer);
    return good;
}

/* A good row, and bad ones whose letters are one record that the log has no room for, while it has
 * room for the row. */
TEST(a_request_of_which_a_record_is_refused_is_not_kept_in_part)
{
    enum {
        BAD_SIZE = 1 << 20,
        BAD_COUNT = 7
    };
    struct fixture f;
    CHECK(start(&f, 6 << 20, 1 << 20));
    struct buf body;
    buf_init(&body, 16 << 20);
    buf_append_text(&body, "{\"x\":1}\n");
    for (int i = 0; i < BAD_COUNT; i++) {
        for (int k = 1; k < BAD_SIZE; k++) {
            buf_append_byte(&body, 'n');
        }
        buf_append_byte(&body, '\n');
    }
    struct lake_request request = request_for("a");
    request.dead_letter = true;
    CHECK(!write_rows(&f, &request, buf_str(&body)));
    CHECK(f.err.kind == ERR_BUSY);
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 0);
    CHECK(reopen(&f));
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 0);
    buf_finish(&body);
    end(&f);
}

static const struct test_case cases[] = {
    TEST_CASE(a_request_of_which_a_record_is_refused_is_not_kept_in_part),
};

TEST_MAIN(cases)
