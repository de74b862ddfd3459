#include "test.h"

#include "clock.h"
#include "crc32c.h"
#include "lake_ingest.h"
#include "lake_internal.h"
#include "lake_retention.h"
#include "lake_ship.h"
#include "mem.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Two lakes, each with a log of its own, over one store; without an engine, so nothing is
 * flushed. */

struct side {
    char log_path[96];
    struct lake *lake;
};

struct fixture {
    char path[64];
    char store_path[80];
    char spool_path[80];
    struct store *store;
    struct side a;
    struct side b;
    struct cancel cancel;
    struct err err;
};

static bool open_side(struct fixture *f, struct side *side, const char *name)
{
    (void)snprintf(side->log_path, sizeof(side->log_path), "%s/log-%s", f->path, name);
    struct lake_options options = {
        .store = f->store,
        .prefix = STR("p/"),
        .spool_folder = f->spool_path,
        .log_folder = side->log_path,
        .log_segment_bytes = 1 << 20,
        .log_bytes_max = 80 << 20,
        .flush.bytes = 1 << 20,
        .flush.rows = 1000,
        .flush.age_ms = 1000,
        .keys_max = 100,
    };
    side->lake = lake_open(&options, &f->err);
    return side->lake != NULL;
}

static bool start(struct fixture *f)
{
    *f = (struct fixture){.path = "/tmp/eider-ship-XXXXXX"};
    if (mkdtemp(f->path) == NULL) {
        return false;
    }
    (void)snprintf(f->spool_path, sizeof(f->spool_path), "%s/spool", f->path);
    (void)mkdir(f->spool_path, 0700);
    (void)snprintf(f->store_path, sizeof(f->store_path), "%s/lake", f->path);
    f->store = store_open_folder(f->store_path, &f->err);
    cancel_init(&f->cancel, INT64_MAX);
    return f->store != NULL && open_side(f, &f->a, "a") && open_side(f, &f->b, "b");
}

static void end(struct fixture *f)
{
    char command[128];
    lake_close(f->a.lake);
    lake_close(f->b.lake);
    store_close(f->store);
    cancel_finish(&f->cancel);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
    (void)!system(command);
}

static bool write_rows(struct fixture *f, struct side *side, const char *body,
                       const struct lake_date *date, uint64_t *ret_position)
{
    struct lake_request request = {.table = STR("t"),
                                   .way = LAKE_BUFFERED,
                                   .input = LAKE_NDJSON,
                                   .dated = date != NULL,
                                   .arrival_ms = clock_wall_ms()};
    if (date != NULL) {
        request.date = *date;
    }
    struct lake_result result;
    struct lake_writer *writer = lake_writer_open(side->lake, &request, &f->err);
    bool good = writer != NULL && lake_writer_feed(writer, str_of(body), true, NULL, &f->err) &&
                lake_writer_finish(writer, NULL, &result, NULL, &f->err);
    lake_writer_close(writer);
    if (good && ret_position != NULL) {
        *ret_position = result.position;
    }
    return good;
}

static struct lake_table *table_of(const struct side *side)
{
    return lake_table_find(side->lake, STR("t"));
}

static bool count_object(void *context, struct str key, const struct store_object *object,
                         struct err *err)
{
    (void)key;
    (void)object;
    (void)err;
    ++*(size_t *)context;
    return true;
}

static size_t count_objects(struct fixture *f, const char *prefix)
{
    size_t count = 0;
    return store_list(f->store, str_of(prefix), count_object, &count, &f->cancel, &f->err)
               ? count
               : SIZE_MAX;
}

/* ---- names ---- */

TEST(names_tell_the_positions_and_views_read_them)
{
    struct fixture f;
    CHECK(start(&f));
    struct buf key;
    struct buf batch;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_init(&batch, STORE_KEY_SIZE_MAX);
    lake_object_append_key(f.a.lake, STR("t"), 19847, INT64_C(1714665599999), LAKE_BUFFERED, 17, 40,
                           LAKE_PART_NONE, &key);
    lake_object_append_key(f.a.lake, STR("t"), 0, 0, LAKE_BATCH, 50, 50, LAKE_PART_NONE, &batch);
    CHECK(str_starts(buf_str(&key), STR("p/data/t/year=2024/month=05/day=04/data_155959_")));
    CHECK(str_ends(buf_str(&key), STR("-r0000000000000017-0000000000000040.parquet")));
    CHECK(str_starts(buf_str(&batch), STR("p/data/t/year=1970/month=01/day=01/data_000000_")));
    CHECK(str_ends(buf_str(&batch), STR("-b0000000000000050.parquet")));
    const uint64_t undecided[] = {49, 50};
    struct lake_view view = {.committed = 39, .position = 60};
    CHECK(lake_view_hides(f.a.lake, &view, buf_str(&key)));
    CHECK(!lake_view_hides(f.b.lake, &view, buf_str(&key))); /* another writer's */
    CHECK(!lake_view_hides(f.a.lake, &view, buf_str(&batch)));
    view.committed = 40;
    CHECK(!lake_view_hides(f.a.lake, &view, buf_str(&key)));
    buf_truncate(&key, 0); /* one of several of the day */
    lake_object_append_key(f.a.lake, STR("t"), 19847, INT64_C(1714665599999), LAKE_BUFFERED, 17, 40,
                           3, &key);
    CHECK(str_ends(buf_str(&key), STR("-r0000000000000017-0000000000000040-p00003.parquet")));
    CHECK(!lake_view_hides(f.a.lake, &view, buf_str(&key)));
    view.committed = 39;
    CHECK(lake_view_hides(f.a.lake, &view, buf_str(&key)));
    view.committed = 40;
    view.undecided = undecided;
    view.undecided_count = COUNT_OF(undecided);
    CHECK(lake_view_hides(f.a.lake, &view, buf_str(&batch)));
    view = (struct lake_view){.committed = 60, .position = 49};
    CHECK(lake_view_hides(f.a.lake, &view, buf_str(&batch))); /* not registered yet */
    view.position = 50;
    lake_ship_delete_later(f.a.lake, buf_str(&batch));
    CHECK(lake_view_hides(f.a.lake, &view, buf_str(&batch)));
    CHECK(!lake_view_hides(f.a.lake, &view, STR("p/data/t/year=2024/data_155959_abc.parquet")));
    CHECK(!lake_view_hides(f.a.lake, &view, STR("")));
    buf_finish(&key);
    buf_finish(&batch);
    end(&f);
}

static bool write_batch(struct fixture *f, const struct lake_request *request)
{
    struct buf url;
    struct lake_result result;
    buf_init(&url, STORE_KEY_SIZE_MAX);
    f->cancel.deadline_ms = 0; /* nobody waits for the store: it is cancelled at once */
    struct lake_writer *writer = lake_writer_open(f->a.lake, request, &f->err);
    bool good = writer != NULL && lake_writer_feed(writer, STR("{\"x\":1}"), true, NULL, &f->err) &&
                lake_writer_finish(writer, &f->cancel, &result, &url, &f->err);
    lake_writer_close(writer);
    buf_finish(&url);
    f->cancel.deadline_ms = INT64_MAX;
    return good;
}

/* The process dies right after CANCEL: the next one still knows the object's name. */
TEST(a_batch_that_was_cancelled_stays_hidden_after_a_restart)
{
    struct fixture f;
    CHECK(start(&f));
    const struct lake_request request = {.table = STR("t"),
                                         .way = LAKE_BATCH,
                                         .input = LAKE_JSON,
                                         .dated = true,
                                         .date = {2024, 5, 4},
                                         .arrival_ms = clock_wall_ms()};
    CHECK(write_rows(&f, &f.a, "{\"x\":1}", NULL, NULL));
    uint64_t before = table_of(&f.a)->position;
    CHECK(!write_batch(&f, &request));
    lake_close(f.a.lake);
    CHECK_OK(open_side(&f, &f.a, "a"), f.err);
    struct lake_view view = {.committed = UINT64_MAX, .position = UINT64_MAX};
    size_t hidden = 0;
    for (uint64_t position = before + 1; position < before + 5; position++) {
        struct buf key;
        buf_init(&key, STORE_KEY_SIZE_MAX);
        lake_object_append_key(f.a.lake, STR("t"), 19847, request.arrival_ms, LAKE_BATCH, position,
                               position, LAKE_PART_NONE, &key);
        hidden += lake_view_hides(f.a.lake, &view, buf_str(&key)) ? 1 : 0;
        buf_finish(&key);
    }
    CHECK_U64(hidden, 1);
    end(&f);
}

TEST(days_are_read_from_whole_folders_only)
{
    struct fixture f;
    int32_t day = 0;
    CHECK(start(&f));
    CHECK(lake_object_day(f.a.lake, STR("t"), STR("p/data/t/year=2024/month=05/day=04/x.parquet"),
                          &day));
    CHECK_I64(day, 19847);
    static const char *const others[] = {
        "p/data/t/year=2024/month=05/day=04/x.txt",
        "p/data/t/year=2024/month=02/day=30/x.parquet",
        "p/data/t/year=2024/month=05/day=04/deeper/x.parquet",
        "p/data/t/year=2024/month=05/x.parquet",
        "p/data/t/year=24/month=05/day=04/x.parquet",
        "p/data/tt/year=2024/month=05/day=04/x.parquet",
        "data/t/year=2024/month=05/day=04/x.parquet",
    };
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        CHECK(!lake_object_day(f.a.lake, STR("t"), str_of(others[i]), &day));
    }
    end(&f);
}

/* ---- gathering ---- */

static bool window_is(const struct lake_lines *lines, size_t index, int32_t day, const char *text)
{
    char bytes[256];
    const struct lake_window *window = &lines->windows[index];
    size_t size = strlen(text);
    return window->day == day && window->size == size && size < sizeof(bytes) &&
           pread(lines->fd, bytes, size, (off_t)window->offset) == (ssize_t)size &&
           memcmp(bytes, text, size) == 0 && window->crc == crc32c(0, text, size);
}

TEST(no_gathered_line_is_longer_than_is_said)
{
    struct fixture f;
    struct lake_lines lines;
    struct buf body;
    const size_t text_size = 70000;
    CHECK(start(&f));
    buf_init(&body, 1 << 20);
    buf_append_text(&body, "{\"x\":\"short\"}\n{\"x\":\"");
    for (size_t i = 0; i < text_size; i++) {
        buf_append_byte(&body, 'a');
    }
    buf_append_text(&body, "\"}\n{\"x\":\"short\"}\n");
    buf_append_byte(&body, '\0');
    CHECK(write_rows(&f, &f.a, body.ptr, NULL, NULL));
    struct lake_table *table = table_of(&f.a);
    CHECK(lake_lines_gather(f.a.lake, table->tail, table->tail_count, NULL, &lines, &f.err));
    CHECK_U64(lines.rows, 3);
    CHECK_U64(lines.line_size_max, strlen("{\"c0\":\"\"}") + text_size);
    lake_lines_finish(&lines);
    buf_finish(&body);
    end(&f);
}

TEST(lines_are_gathered_by_day_in_the_order_of_positions)
{
    struct fixture f;
    const struct lake_date late = {2024, 5, 4};
    const struct lake_date early = {1969, 12, 31};
    CHECK(start(&f));
    CHECK(write_rows(&f, &f.a, "{\"x\":1}\n{\"x\":22}\n", &late, NULL));
    CHECK(write_rows(&f, &f.a, "{\"x\":3}", &early, NULL));
    CHECK(write_rows(&f, &f.a, "{\"x\":4}", &late, NULL));
    struct lake_table *table = table_of(&f.a);
    struct lake_lines lines;
    CHECK_OK(lake_lines_gather(f.a.lake, table->tail, table->tail_count, NULL, &lines, &f.err),
             f.err);
    CHECK_U64(lines.windows_count, 2);
    CHECK_U64(lines.rows, 4);
    CHECK_U64(lines.line_size_max, 64 << 10);
    CHECK(window_is(&lines, 0, -1, "{\"c0\":3}\n"));
    CHECK(window_is(&lines, 1, 19847, "{\"c0\":1}\n{\"c0\":22}\n{\"c0\":4}\n"));
    CHECK(pwrite(lines.fd, "x", 1, 0) < 0); /* whoever gets it cannot write */
    lake_lines_finish(&lines);
    const int32_t only = 5;
    CHECK(lake_lines_gather(f.a.lake, table->tail, 3, &only, &lines, &f.err));
    CHECK_U64(lines.windows_count, 1);
    CHECK_U64(lines.windows[0].rows, 4);
    CHECK(window_is(&lines, 0, 5, "{\"c0\":1}\n{\"c0\":22}\n{\"c0\":3}\n{\"c0\":4}\n"));
    lake_lines_finish(&lines);
    table->tail[1].lines_offset = 1u << 30;
    CHECK(!lake_lines_gather(f.a.lake, table->tail, 3, NULL, &lines, &f.err));
    CHECK(f.err.kind == ERR_CORRUPT);
    end(&f);
}

/* The lines of a window as they are in the file. */
static uint32_t crc_of_file(const struct lake_lines *lines, const struct lake_window *window)
{
    enum {
        PIECE = 1 << 20
    };
    char *piece = mem_alloc(PIECE);
    uint32_t crc = 0;
    for (uint64_t at = 0; at < window->size;) {
        uint64_t left = window->size - at;
        ssize_t got =
            pread(lines->fd, piece, left < PIECE ? left : PIECE, (off_t)(window->offset + at));
        if (got <= 0) {
            break;
        }
        crc = crc32c(crc, piece, (size_t)got);
        at += (uint64_t)got;
    }
    mem_free(piece);
    return crc;
}

static bool is_on_disk(int fd)
{
    char path[64];
    char target[128] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "memfd:") == NULL;
}

/* 40 MB are not the server's memory, unless the disk has no room for them. */
TEST(many_lines_are_gathered_into_a_file)
{
    enum {
        BODY = 1000 * 1000,
        BODIES = 40
    };
    struct fixture f;
    CHECK(start(&f));
    char *body = mem_alloc(BODY + 1);
    memset(body, 'x', BODY);
    memcpy(body, "{\"x\":\"", 6);
    memcpy(body + BODY - 2, "\"}", 2);
    for (int i = 0; i < BODIES; i++) {
        CHECK_OK(write_rows(&f, &f.a, body, NULL, NULL), f.err);
    }
    mem_free(body);
    struct lake_table *table = table_of(&f.a);
    for (int round = 0; round < 2; round++) {
        struct lake_lines lines;
        const int32_t day = 7;
        CHECK_OK(lake_lines_gather(f.a.lake, table->tail, table->tail_count, &day, &lines, &f.err),
                 f.err);
        CHECK_U64(lines.rows, BODIES);
        CHECK_U64(lines.windows_count, 1);
        CHECK_U64(crc_of_file(&lines, &lines.windows[0]), lines.windows[0].crc);
        CHECK(is_on_disk(lines.fd) == (round == 0));
        CHECK(pwrite(lines.fd, "x", 1, 0) < 0);
        lake_lines_finish(&lines);
        CHECK(rmdir(f.spool_path) == 0 || round > 0);
    }
    end(&f);
}

/* ---- schemas ---- */

static bool store_schema(struct fixture *f, struct side *side)
{
    return lake_schema_store(side->lake, table_of(side), &f->cancel, &f->err);
}

static bool types_are(const struct side *side, const char *wanted)
{
    const struct lake_schema *schema = lake_table_schema(table_of(side));
    struct buf text;
    buf_init(&text, 4096);
    for (size_t i = 0; i < schema->columns_count; i++) {
        buf_append_format(&text, "%s %s,", schema->columns[i].name, schema->columns[i].sql_type);
    }
    bool same = str_equal(buf_str(&text), str_of(wanted)) && schema->stored;
    if (!same) {
        fprintf(stderr, "%s%s\n", text.ptr, schema->stored ? "" : " (not stored)");
    }
    buf_finish(&text);
    lake_schema_drop(schema);
    return same;
}

TEST(writers_of_one_lake_agree_on_a_schema)
{
    struct fixture f;
    CHECK(start(&f));
    CHECK(write_rows(&f, &f.a, "{\"x\":1,\"y\":\"t\"}", NULL, NULL));
    CHECK(write_rows(&f, &f.b, "{\"z\":true,\"X\":1.5}", NULL, NULL));
    CHECK_OK(store_schema(&f, &f.a), f.err);
    CHECK_OK(store_schema(&f, &f.b), f.err);
    CHECK(types_are(&f.b, "z BOOLEAN,X DOUBLE,y VARCHAR,"));
    CHECK_U64(count_objects(&f, "p/_eider/schemas/t/"), 2);
    CHECK(write_rows(&f, &f.a, "{\"w\":1}", NULL, NULL));
    CHECK_OK(store_schema(&f, &f.a), f.err);
    CHECK(types_are(&f.a, "x DOUBLE,y VARCHAR,w BIGINT,z BOOLEAN,"));
    CHECK_U64(count_objects(&f, "p/_eider/schemas/t/"), 3);
    for (int i = 0; i < 3; i++) { /* their own orders of columns are no news */
        CHECK_OK(store_schema(&f, &f.a), f.err);
        CHECK_OK(store_schema(&f, &f.b), f.err);
    }
    CHECK_U64(count_objects(&f, "p/_eider/schemas/t/"), 3);
    end(&f);
}

TEST(a_new_writer_begins_with_the_schema_that_is_stored)
{
    struct fixture f;
    CHECK(start(&f));
    CHECK(write_rows(&f, &f.a, "{\"x\":1,\"y\":\"t\"}", NULL, NULL));
    CHECK_OK(store_schema(&f, &f.a), f.err);
    CHECK(write_rows(&f, &f.b, "{\"y\":\"u\"}", NULL, NULL));
    CHECK(types_are(&f.b, "x BIGINT,y VARCHAR,"));
    CHECK_OK(store_schema(&f, &f.b), f.err);
    CHECK_U64(count_objects(&f, "p/_eider/schemas/t/"), 1);
    lake_close(f.b.lake);
    CHECK(open_side(&f, &f.b, "b"));
    CHECK(types_are(&f.b, "x BIGINT,y VARCHAR,")); /* from its log */
    end(&f);
}

static bool declare(struct fixture *f, struct side *side, const char *text)
{
    struct json_scanner scanner;
    struct json_span root;
    json_scanner_init(&scanner, str_of(text));
    return json_scan_document(&scanner, &root, &f->err) &&
           lake_table_declare(side->lake, STR("t"), root, &f->cancel, &f->err);
}

TEST(what_people_declare_goes_before_what_the_store_says)
{
    struct fixture f;
    CHECK(start(&f));
    CHECK(write_rows(&f, &f.a, "{\"x\":1,\"y\":\"t\"}", NULL, NULL));
    CHECK(write_rows(&f, &f.b, "{\"x\":1}", NULL, NULL));
    CHECK_OK(declare(&f, &f.a, "{\"retention_days\":7,\"sort_by\":[\"y\"]}"), f.err);
    CHECK_OK(declare(&f, &f.b, "{\"retention_days\":3,\"sort_by\":[\"x\"]}"), f.err);
    const struct lake_schema *schema = lake_table_schema(table_of(&f.b));
    CHECK_U64(schema->retention_days, 3);
    CHECK_U64(schema->sort_count, 1);
    CHECK_U64(schema->sort[0], 0);
    CHECK_U64(schema->columns_count, 2); /* y came from the store */
    CHECK(schema->stored);
    lake_schema_drop(schema);
    end(&f);
}

/* ---- manifests ---- */

TEST(a_manifest_is_written_once_per_plan)
{
    struct fixture f;
    CHECK(start(&f));
    CHECK(write_rows(&f, &f.a, "{\"x\":1}", NULL, NULL));
    struct lake_table *table = table_of(&f.a);
    char name[] = "t";
    char key[] = "p/data/t/x";
    struct lake_plan_object object = {.day = 0, .rows = 1, .key = key};
    struct lake_plan plan = {
        .table = name, .first = 3, .last = 9, .objects = &object, .objects_count = 1};
    for (int i = 0; i < 2; i++) { /* a second time after a crash is no conflict */
        CHECK_OK(lake_manifest_put(f.a.lake, table, &plan, &f.cancel, &f.err), f.err);
    }
    plan.last = 100;
    CHECK_OK(lake_manifest_put(f.a.lake, table, &plan, &f.cancel, &f.err), f.err);
    CHECK_U64(count_objects(&f, "p/_eider/commits/t/"), 2);
    end(&f);
}

static bool put_manifests(struct fixture *f, struct side *side, uint64_t from, uint64_t to)
{
    char name[] = "t";
    bool good = true;
    for (uint64_t last = from; good && last < to; last++) {
        struct lake_plan plan = {.table = name, .first = last, .last = last};
        good = lake_manifest_put(side->lake, table_of(side), &plan, &f->cancel, &f->err);
    }
    return good;
}

static bool last_is(struct fixture *f, const struct side *side, unsigned last, bool there)
{
    struct buf key;
    struct store_object found;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_append_format(&key, "p/_eider/commits/t/%s/%020u.json", wal_writer(side->lake->records),
                      last);
    bool is_there = store_head(f->store, buf_str(&key), &f->cancel, &found, &f->err);
    buf_finish(&key);
    return is_there == there;
}

TEST(old_manifests_of_this_writer_go_and_no_others)
{
    struct fixture f;
    CHECK(start(&f));
    CHECK(write_rows(&f, &f.a, "{\"x\":1}", NULL, NULL));
    CHECK(write_rows(&f, &f.b, "{\"x\":1}", NULL, NULL));
    CHECK_OK(put_manifests(&f, &f.a, 95, 105), f.err);
    CHECK_OK(put_manifests(&f, &f.b, 1, 9), f.err);
    struct store_source note = {.bytes = STR("mine"), .fd = -1};
    struct store_put_options options = {.create_only = true};
    struct buf key;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_append_format(&key, "p/_eider/commits/t/%s/00-notes.json", wal_writer(f.a.lake->records));
    CHECK_OK(store_put(f.store, buf_str(&key), &note, &options, &f.cancel, NULL, &f.err), f.err);
    lake_manifests_prune(f.a.lake, 3, &f.cancel);
    CHECK_U64(count_objects(&f, "p/_eider/commits/t/"), 3 + 1 + 8);
    CHECK(last_is(&f, &f.a, 101, false));
    CHECK(last_is(&f, &f.a, 102, true));
    CHECK(last_is(&f, &f.a, 104, true));
    CHECK_OK(put_manifests(&f, &f.a, 104, 106), f.err); /* a plan of before a crash, and the next */
    lake_manifests_prune(f.a.lake, 3, &f.cancel);
    CHECK_U64(count_objects(&f, "p/_eider/commits/t/"), 3 + 1 + 8);
    CHECK(last_is(&f, &f.a, 103, true));
    buf_finish(&key);
    end(&f);
}

static const struct test_case cases[] = {
    TEST_CASE(names_tell_the_positions_and_views_read_them),
    TEST_CASE(a_batch_that_was_cancelled_stays_hidden_after_a_restart),
    TEST_CASE(days_are_read_from_whole_folders_only),
    TEST_CASE(no_gathered_line_is_longer_than_is_said),
    TEST_CASE(lines_are_gathered_by_day_in_the_order_of_positions),
    TEST_CASE(many_lines_are_gathered_into_a_file),
    TEST_CASE(writers_of_one_lake_agree_on_a_schema),
    TEST_CASE(a_new_writer_begins_with_the_schema_that_is_stored),
    TEST_CASE(what_people_declare_goes_before_what_the_store_says),
    TEST_CASE(a_manifest_is_written_once_per_plan),
    TEST_CASE(old_manifests_of_this_writer_go_and_no_others),
};

TEST_MAIN(cases)
