#include "lake_fixture.h"

#include "json_scan.h"
#include "lake_internal.h"
#include "lake_keys.h"
#include "lake_replay.h"
#include "lake_ship_internal.h"
#include "mem.h"

#include <stdlib.h>
#include <unistd.h>

/* What clients may send and disks may do, to a lake without an engine. */

static bool start(struct fixture *f, uint64_t log_bytes_max, uint64_t segment_bytes)
{
    *f = (struct fixture){.log_bytes_max = log_bytes_max, .segment_bytes = segment_bytes};
    return lake_fixture_start(f);
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
    struct lake_request request = lake_fixture_request("a");
    request.dead_letter = true;
    CHECK(!write_rows(&f, &request, buf_str(&body)));
    CHECK(f.err.kind == ERR_BUSY);
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 0);
    CHECK(lake_fixture_reopen(&f));
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 0);
    buf_finish(&body);
    lake_fixture_end(&f);
}

/* As many columns as a table may have, with names of many bytes. */
static bool write_wide(struct fixture *f, const char *table)
{
    struct buf body;
    buf_init(&body, 8 << 20);
    for (int i = 0; i < LAKE_COLUMNS_MAX - 1; i++) {
        buf_append_format(&body, "%c\"%0240d\":1", i == 0 ? '{' : ',', i);
    }
    buf_append_text(&body, "}\n");
    struct lake_request request = lake_fixture_request(table);
    bool good = write_rows(f, &request, buf_str(&body));
    buf_finish(&body);
    return good;
}

/* All of them begin each segment of the log, in one record. */
TEST(schemas_of_all_tables_together_are_bounded)
{
    struct fixture f;
    CHECK(start(&f, 0, 64 << 20));
    unsigned written = 0;
    bool good = true;
    for (int i = 0; good && i < 16; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "wide_%d", i);
        good = write_wide(&f, name);
        written += good ? 1 : 0;
    }
    CHECK(!good && f.err.kind == ERR_TOO_LARGE);
    CHECK(written > 3);
    struct lake_request request = lake_fixture_request("wide_0");
    char line[300];
    (void)snprintf(line, sizeof(line), "{\"%0240d\":1.5}\n", 0);
    CHECK(write_rows(&f, &request, str_of(line))); /* a column that there is */
    CHECK(lake_fixture_reopen(&f));
    CHECK(lake_buffered_rows(f.lake, STR("wide_0")) == 2);
    CHECK(lake_buffered_rows(f.lake, STR("wide_1")) == 1);
    CHECK(!write_wide(&f, "wide_more"));
    lake_fixture_end(&f);
}

TEST(tables_that_never_had_a_record_do_not_survive_a_start)
{
    struct fixture f;
    CHECK(start(&f, 0, 1 << 20));
    struct lake_request request = lake_fixture_request("never");
    CHECK(!write_rows(&f, &request, STR("no record\n")));
    request = lake_fixture_request("a");
    CHECK(write_rows(&f, &request, STR("{\"x\":1}\n")));
    wal_rotate(f.lake->records);
    wal_rotate(f.lake->plans);
    CHECK(write_rows(&f, &request, STR("{\"x\":2}\n")));
    CHECK(lake_fixture_reopen(&f));
    CHECK(lake_table_find(f.lake, STR("never")) == NULL);
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 2);
    lake_fixture_end(&f);
}

/* A record of a batch, as a server leaves it that dies before the answer. */
static uint64_t append_batch_record(struct fixture *f, bool last,
                                    const struct lake_section *section)
{
    struct buf payload;
    struct wal_place place = {0};
    struct wal_record record = {.type = LAKE_LOG_ROWS};
    struct lake_log_rows rows = {.table = STR("a"), .group = 7, .last = last, .way = LAKE_BATCH};
    rows.sections = section;
    rows.sections_count = section == NULL ? 0 : 1;
    rows.rows = rows.request_rows = section == NULL ? 0 : section->rows;
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    lake_log_put_rows(&payload, &rows);
    for (uint64_t i = 0; section != NULL && i < section->size; i++) {
        buf_append_byte(&payload, i + 1 == section->size ? '\n' : ' ');
    }
    bool good = wal_append_wait(f->lake->records, &record, &payload, &place, &f->err);
    return good ? place.sequence : 0;
}

/* Its last record has no lines when the last line was too long for it. */
TEST(a_batch_that_is_replayed_keeps_its_day)
{
    struct fixture f;
    CHECK(start(&f, 0, 1 << 20));
    const struct lake_section section = {.day = 17, .rows = 1, .size = 20};
    CHECK(append_batch_record(&f, false, &section) > 0);
    CHECK(append_batch_record(&f, true, NULL) > 0);
    CHECK(lake_fixture_reopen(&f));
    const struct lake_table *table = lake_table_find(f.lake, STR("a"));
    CHECK(table != NULL && table->batches != NULL);
    CHECK(table->batches->day == 17);
    lake_fixture_end(&f);
}

/* Its object may turn up after the answer, and after a start. */
TEST(the_object_of_a_cancelled_batch_is_looked_for_after_a_start)
{
    struct fixture f;
    struct buf payload;
    struct wal_place place;
    struct wal_record record = {.type = LAKE_LOG_CANCEL};
    struct buf key;
    CHECK(start(&f, 0, 1 << 20));
    const struct lake_section section = {.day = 17, .rows = 1, .size = 20};
    uint64_t position = append_batch_record(&f, true, &section);
    CHECK(position > 0);
    buf_init(&payload, 4096);
    lake_log_put_position(&payload, STR("a"), position);
    CHECK(wal_append_wait(f.lake->records, &record, &payload, &place, &f.err));
    CHECK(lake_fixture_reopen(&f));
    const struct lake_table *table = lake_table_find(f.lake, STR("a"));
    CHECK(table != NULL && table->batches == NULL);
    buf_init(&key, STORE_KEY_SIZE_MAX);
    lake_object_append_key(f.lake, STR("a"), 17, 0, LAKE_BATCH, position, position, LAKE_PART_NONE,
                           &key);
    CHECK(lake_ship_is_cancelled(f.lake, buf_str(&key)));
    buf_finish(&key);
    lake_fixture_end(&f);
}

static bool declare(struct fixture *f, const char *table, const char *document)
{
    struct json_span span;
    struct cancel cancel;
    cancel_init(&cancel, INT64_MAX);
    struct json_scanner scanner;
    json_scanner_init(&scanner, str_of(document));
    bool good = json_scan_document(&scanner, &span, &f->err) &&
                lake_table_declare(f->lake, str_of(table), span, &cancel, &f->err);
    cancel_finish(&cancel);
    return good;
}

/* Rows of many days, in no order. */
TEST(many_days_are_gathered_in_order)
{
    enum {
        DAYS = 50000
    };
    struct fixture f;
    CHECK(start(&f, 0, 1 << 20));
    CHECK(declare(&f, "a",
                  "{\"columns\":[{\"name\":\"d\",\"type\":\"DATE\"}],"
                  "\"partition_by\":\"d\"}"));
    struct lake_request request = lake_fixture_request("a");
    for (int i = 0; i < DAYS; i += 4000) {
        struct buf body;
        buf_init(&body, 1 << 20);
        for (int k = i; k < i + 4000 && k < DAYS; k++) {
            struct lake_date date = lake_date_of(k * 7919 % DAYS * SHIP_DAY_MS);
            buf_append_format(&body, "{\"d\":\"%04d-%02d-%02d\"}\n", date.year, date.month,
                              date.day);
        }
        CHECK(write_rows(&f, &request, buf_str(&body)));
        buf_finish(&body);
    }
    struct lake_table *table = lake_table_find(f.lake, STR("a"));
    struct lake_lines lines;
    CHECK(lake_lines_gather(f.lake, table->tail, table->tail_count, NULL, &lines, &f.err));
    CHECK(lines.windows_count == DAYS && lines.rows == DAYS);
    for (int i = 0; i < DAYS; i++) {
        CHECK(lines.windows[i].day == i && lines.windows[i].rows == 1);
    }
    lake_lines_finish(&lines);
    lake_fixture_end(&f);
}

TEST(limits_of_a_table_can_be_added_to)
{
    struct fixture f;
    CHECK(start(&f, 0, 1 << 20));
    CHECK(declare(&f, "a",
                  "{\"flush_age_ms\":9223372036854775807,\"flush_bytes\":9223372036854775807}"));
    struct lake_table *table = lake_table_find(f.lake, STR("a"));
    struct ship_limits limits = ship_limits_of(f.lake, table->schema);
    CHECK(limits.age_ms <= INT64_MAX / 2 && limits.bytes <= INT64_MAX / 2);
    lake_fixture_end(&f);
}

/* A limit that one segment nearly takes up: full is what cannot be written. */
TEST(a_log_of_one_segment_is_not_full_for_ever)
{
    static const uint64_t limits[] = {1 << 20, (1 << 20) * 100 / 85, 2 << 20};
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        struct fixture f;
        unsigned retry_after_s;
        CHECK(start(&f, limits[i], 1 << 20));
        struct lake_request request = lake_fixture_request("a");
        CHECK(write_rows(&f, &request, STR("{\"x\":1}\n")));
        atomic_store(&f.lake->ship->full, true); /* as it was a moment ago */
        CHECK(!lake_ship_is_full(f.lake, &retry_after_s));
        lake_fixture_end(&f);
    }
}

static bool append_plans(struct fixture *f, unsigned type, uint64_t position,
                         uint64_t *ret_sequence)
{
    struct buf payload;
    struct wal_place place = {0};
    struct wal_record record = {.type = type};
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    if (type == LAKE_LOG_STORED) {
        lake_log_put_position(&payload, STR("a"), position);
    } else {
        worker_put_u32(&payload, 0);
    }
    bool good = wal_append_wait(f->lake->plans, &record, &payload, &place, &f->err);
    *ret_sequence = place.sequence;
    return good;
}

/* Its rows are not needed any more, but the segment that they are in is still there. */
TEST(a_stored_batch_is_known_as_long_as_the_log_has_its_rows)
{
    struct fixture f;
    uint64_t mark;
    CHECK(start(&f, 0, 1 << 20));
    const struct lake_section section = {.day = 17, .rows = 1, .size = 20};
    uint64_t position = append_batch_record(&f, true, &section);
    CHECK(position > 0 && lake_fixture_reopen(&f));
    CHECK(append_plans(&f, LAKE_LOG_STORED, position, &mark));
    lake_table_end_batch(lake_table_find(f.lake, STR("a")), position, true);
    wal_rotate(f.lake->plans);
    CHECK(append_plans(&f, LAKE_LOG_KEYS, 0, &mark));
    CHECK(append_plans(&f, LAKE_LOG_KEYS, 0, &mark));
    CHECK(wal_trim(f.lake->plans, mark, &f.err));
    CHECK(lake_fixture_reopen(&f));
    const struct lake_table *table = lake_table_find(f.lake, STR("a"));
    CHECK(table != NULL && table->batches == NULL);
    lake_fixture_end(&f);
}

/* Used once more when it was forgotten, while the first use is still in the log of plans. */
TEST(a_key_that_is_used_again_after_its_time_is_saved_again)
{
    struct fixture f;
    CHECK(start(&f, 0, 1 << 20));
    struct lake_keys *keys = lake_keys_create(10);
    struct lake_log_key key = {.key = "a key", .arrival_ms = clock_wall_ms(), .position = 5};
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_u32(&payload, 1);
    lake_log_put_key(&payload, &key);
    CHECK(lake_keys_replay(keys, 9, buf_str(&payload), &f.err));
    CHECK(lake_keys_needed_from(keys, clock_now_ms()) == 9);
    key.position = 50;
    lake_keys_end(keys, &key);
    CHECK(lake_keys_needed_from(keys, clock_now_ms()) == UINT64_MAX);
    buf_finish(&payload);
    lake_keys_destroy(keys);
    lake_fixture_end(&f);
}

/* A clock that was years ahead for a moment must not keep a key for years. */
TEST(a_key_of_the_future_lives_as_long_as_any)
{
    struct lake_keys *keys = lake_keys_create(10);
    int64_t now_ms = clock_now_ms();
    struct lake_log_key key = {.key = "a key",
                               .arrival_ms = clock_wall_ms() + INT64_C(1000) * LAKE_KEYS_LIFE_MS,
                               .position = 5};
    struct buf payload;
    struct err err;
    buf_init(&payload, 4096);
    worker_put_u32(&payload, 1);
    lake_log_put_key(&payload, &key);
    CHECK(lake_keys_replay(keys, 9, buf_str(&payload), &err));
    CHECK(lake_keys_needed_from(keys, now_ms + LAKE_KEYS_LIFE_MS - 1000) == 9);
    CHECK(lake_keys_needed_from(keys, now_ms + LAKE_KEYS_LIFE_MS + 60000) == UINT64_MAX);
    buf_finish(&payload);
    lake_keys_destroy(keys);
}

TEST(a_clock_is_believed_when_it_goes_on_without_a_step)
{
    const int64_t day_ms = 24 * 3600 * 1000;
    const int64_t wall_ms = 20000 * day_ms;
    struct clock_doubt clock;
    clock_doubt_init(&clock, "lake.clock_doubted", wall_ms - 1000, wall_ms, 5000);
    CHECK(clock_doubt_look(&clock, wall_ms, 5000));
    CHECK(clock_doubt_look(&clock, wall_ms + 40 * day_ms, 5000 + 40 * day_ms));
    int64_t now_ms = 5000 + 41 * day_ms; /* and a year ahead by then */
    int64_t ahead_ms = wall_ms - 5000 + 365 * day_ms;
    CHECK(!clock_doubt_look(&clock, now_ms + ahead_ms, now_ms));
    CHECK(!clock_doubt_look(&clock, now_ms + ahead_ms + day_ms - 1, now_ms + day_ms - 1));
    CHECK(!clock_doubt_look(&clock, now_ms + wall_ms, now_ms + day_ms - 1)); /* set right again */
    CHECK(!clock_doubt_look(&clock, now_ms + ahead_ms + day_ms, now_ms + day_ms)); /* and wrong */
    CHECK(clock_doubt_look(&clock, now_ms + ahead_ms + 2 * day_ms, now_ms + 2 * day_ms));
    clock_doubt_init(&clock, "lake.clock_doubted", wall_ms - 2 * day_ms, wall_ms, 0);
    CHECK(!clock_doubt_look(&clock, wall_ms, 0));
    clock_doubt_init(&clock, "lake.clock_doubted", 0, wall_ms, 0);
    CHECK(!clock_doubt_look(&clock, wall_ms, 0));
    CHECK(clock_doubt_look(&clock, wall_ms + day_ms, day_ms));
}

/* Each day becomes an object: more than a plan can name would never be flushed. */
TEST(a_request_has_a_bounded_number_of_days)
{
    struct fixture f;
    CHECK(start(&f, 0, 1 << 20));
    CHECK(declare(&f, "a",
                  "{\"columns\":[{\"name\":\"d\",\"type\":\"DATE\"}],"
                  "\"partition_by\":\"d\"}"));
    struct buf body;
    buf_init(&body, 1 << 20);
    for (int i = 0; i < 4500; i++) {
        struct lake_date date = lake_date_of(i * SHIP_DAY_MS);
        buf_append_format(&body, "{\"d\":\"%04d-%02d-%02d\"}\n", date.year, date.month, date.day);
    }
    struct lake_request request = lake_fixture_request("a");
    CHECK(!write_rows(&f, &request, buf_str(&body)));
    CHECK(f.err.kind == ERR_TOO_LARGE);
    CHECK(write_rows(&f, &request, str_first(buf_str(&body), buf_str(&body).len / 9 * 8)));
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 4000);
    buf_finish(&body);
    lake_fixture_end(&f);
}

/* Bad where a later pass finds it, after the first has found a new column. */
TEST(a_refused_request_lets_others_widen_before_it_is_closed)
{
    struct fixture f;
    CHECK(start(&f, 0, 1 << 20));
    struct buf body;
    buf_init(&body, 16 << 20);
    while (body.len < 6 << 20) {
        buf_append_format(&body, "{\"x\":\"%01000d\"}\n", 1);
        buf_append_text(&body, "{\"y\":\"some text\"}\n");
    }
    buf_append_text(&body, "no record\n");
    struct lake_request request = lake_fixture_request("a");
    struct lake_writer *writer = lake_writer_open(f.lake, &request, &f.err);
    CHECK(writer != NULL);
    CHECK(!lake_writer_feed(writer, buf_str(&body), true, NULL, &f.err));
    CHECK(f.err.kind == ERR_UNPROCESSABLE);
    CHECK(lake_table_is_known(f.lake, STR("a")));
    lake_writer_close(writer);
    buf_finish(&body);
    lake_fixture_end(&f);
}

TEST(a_batch_that_cannot_be_stored_lets_others_try)
{
    struct fixture f;
    char command[256];
    struct cancel cancel;
    CHECK(start(&f, 0, 1 << 20));
    const struct lake_section section = {.day = 17, .rows = 1, .size = 20};
    uint64_t first = append_batch_record(&f, true, &section);
    uint64_t second = append_batch_record(&f, true, &section);
    CHECK(first > 0 && second > 0 && lake_fixture_reopen(&f));
    (void)snprintf(command, sizeof(command), "rm -rf '%s' && touch '%s'", f.store_path,
                   f.store_path);
    CHECK(system(command) == 0);
    struct lake_table *table = lake_table_find(f.lake, STR("a"));
    cancel_init(&cancel, INT64_MAX);
    CHECK(table->batches->position == second);
    CHECK(!ship_store_left(f.lake, table, &cancel, &f.err));
    CHECK(table->batches->position == first && !table->batches->owned);
    CHECK(!ship_store_left(f.lake, table, &cancel, &f.err));
    CHECK(table->batches->position == second);
    cancel_finish(&cancel);
    lake_fixture_end(&f);
}

/* Nothing is flushed: the log must not spend its room on segments that are hardly begun. */
TEST(a_backlog_fills_its_segments)
{
    enum {
        ROWS_SIZE = 1 << 20,
        WRITES = 48
    };
    struct fixture f;
    struct buf body;
    CHECK(start(&f, UINT64_C(8) << 30, 64 << 20));
    lake_start(f.lake);
    buf_init(&body, 2 * ROWS_SIZE);
    buf_append_text(&body, "{\"t\":\"");
    while (body.len < ROWS_SIZE) {
        buf_append_text(&body, "0123456789abcdef");
    }
    buf_append_text(&body, "\"}\n");
    struct lake_request request = lake_fixture_request("a");
    for (int i = 0; i < WRITES; i++) {
        CHECK(write_rows(&f, &request, buf_str(&body)));
    }
    struct lake_backlog backlog;
    lake_backlog(f.lake, &backlog);
    CHECK(backlog.log_bytes <= 4 * (UINT64_C(64) << 20));
    buf_finish(&body);
    lake_fixture_end(&f);
}

static const struct test_case cases[] = {
    TEST_CASE(a_request_of_which_a_record_is_refused_is_not_kept_in_part),
    TEST_CASE(schemas_of_all_tables_together_are_bounded),
    TEST_CASE(tables_that_never_had_a_record_do_not_survive_a_start),
    TEST_CASE(a_batch_that_is_replayed_keeps_its_day),
    TEST_CASE(a_stored_batch_is_known_as_long_as_the_log_has_its_rows),
    TEST_CASE(a_key_that_is_used_again_after_its_time_is_saved_again),
    TEST_CASE(a_key_of_the_future_lives_as_long_as_any),
    TEST_CASE(a_clock_is_believed_when_it_goes_on_without_a_step),
    TEST_CASE(a_request_has_a_bounded_number_of_days),
    TEST_CASE(a_refused_request_lets_others_widen_before_it_is_closed),
    TEST_CASE(a_batch_that_cannot_be_stored_lets_others_try),
    TEST_CASE(a_backlog_fills_its_segments),
    TEST_CASE(the_object_of_a_cancelled_batch_is_looked_for_after_a_start),
    TEST_CASE(many_days_are_gathered_in_order),
    TEST_CASE(limits_of_a_table_can_be_added_to),
    TEST_CASE(a_log_of_one_segment_is_not_full_for_ever),
};

TEST_MAIN(cases)
