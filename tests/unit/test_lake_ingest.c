#include "lake_fixture.h"

#include "lake_table.h"
#include "mem.h"

#include <stdlib.h>
#include <unistd.h>

/* A lake without an engine: rows go to the log, and come back from it. */

static bool start(struct fixture *f)
{
    *f = (struct fixture){0};
    return lake_fixture_start(f);
}

static bool write_rows(struct fixture *f, const struct lake_request *request, const char *body,
                       struct lake_result *ret_result)
{
    struct lake_writer *writer = lake_writer_open(f->lake, request, &f->err);
    bool good = writer != NULL && lake_writer_feed(writer, str_of(body), true, NULL, &f->err) &&
                lake_writer_finish(writer, NULL, ret_result, NULL, &f->err);
    lake_writer_close(writer);
    return good;
}

static bool write_plain(struct fixture *f, const char *table, const char *body)
{
    struct lake_request request = lake_fixture_request(table);
    struct lake_result result;
    return write_rows(f, &request, body, &result);
}

/* The tail of a table as text. */
static char *tail_text(struct fixture *f, const char *name)
{
    struct lake_table *table = lake_table_find(f->lake, str_of(name));
    struct lake_lines lines = {.fd = -1};
    char *text = NULL;
    if (table != NULL &&
        lake_lines_gather(f->lake, table->tail, table->tail_count, NULL, &lines, &f->err)) {
        size_t size = 0;
        for (size_t i = 0; i < lines.windows_count; i++) {
            size += lines.windows[i].size;
        }
        text = mem_alloc(size + 1);
        if (size > 0 && pread(lines.fd, text, size, 0) != (ssize_t)size) {
            text[0] = '\0';
        }
    }
    lake_lines_finish(&lines);
    return text;
}

static bool tail_is(struct fixture *f, const char *name, const char *wanted)
{
    char *text = tail_text(f, name);
    bool same = text != NULL && strcmp(text, wanted) == 0;
    if (!same) {
        fprintf(stderr, "tail of %s: %s\nwanted: %s\n", name, text == NULL ? "-" : text, wanted);
    }
    mem_free(text);
    return same;
}

TEST(rows_come_back_from_the_log)
{
    struct fixture f;
    CHECK(start(&f));
    CHECK(write_plain(&f, "a", "{\"x\":1,\"y\":\"b\"}\n{\"x\":2}\n"));
    CHECK(write_plain(&f, "b", "{\"z\":true}"));
    CHECK(write_plain(&f, "a", "{\"y\":\"c\",\"w\":1.5}\n"));
    const char *wanted = "{\"c0\":1,\"c1\":\"b\"}\n{\"c0\":2}\n{\"c1\":\"c\",\"c2\":1.5}\n";
    CHECK(tail_is(&f, "a", wanted));
    for (int i = 0; i < 3; i++) {
        CHECK(lake_fixture_reopen(&f));
        CHECK(tail_is(&f, "a", wanted));
        CHECK(tail_is(&f, "b", "{\"c0\":true}\n"));
        CHECK(lake_buffered_rows(f.lake, STR("a")) == 3);
    }
    CHECK(write_plain(&f, "a", "{\"w\":2,\"v\":null}\n"));
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 4);
    lake_fixture_end(&f);
}

TEST(a_request_that_is_not_finished_leaves_nothing)
{
    struct fixture f;
    CHECK(start(&f));
    struct lake_request request = lake_fixture_request("a");
    struct lake_writer *writer = lake_writer_open(f.lake, &request, &f.err);
    CHECK(writer != NULL);
    CHECK(lake_writer_feed(writer, STR("{\"x\":1}\n{\"q\":2}\n"), true, NULL, &f.err));
    lake_writer_close(writer);
    CHECK(!write_plain(&f, "a", "{\"p\":1}\n{\"x\":\n"));
    CHECK(f.err.kind == ERR_UNPROCESSABLE);
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 0);
    struct lake_table *table = lake_table_find(f.lake, STR("a"));
    CHECK(table == NULL || table->schema->columns_count == 0);
    CHECK(write_plain(&f, "a", "{\"x\":1}\n"));
    CHECK(tail_is(&f, "a", "{\"c0\":1}\n"));
    CHECK(lake_fixture_reopen(&f));
    CHECK(tail_is(&f, "a", "{\"c0\":1}\n"));
    lake_fixture_end(&f);
}

/* So large that it takes several records. */
static bool feed_large(struct fixture *f, struct lake_writer *writer, unsigned rows)
{
    char line[1100];
    struct buf piece;
    buf_init(&piece, 1 << 20);
    bool good = true;
    for (unsigned i = 0; good && i < rows; i++) {
        int size = snprintf(line, sizeof(line), "{\"n\":%u,\"t\":\"%01000d\"}\n", i, 7);
        buf_append(&piece, str_make(line, (size_t)size));
        if (piece.len > 200000 || i + 1 == rows) {
            good = lake_writer_feed(writer, buf_str(&piece), i + 1 == rows, NULL, &f->err);
            buf_reset(&piece);
        }
    }
    buf_finish(&piece);
    return good;
}

TEST(a_large_request_is_one_unit)
{
    enum {
        ROWS = 40000
    };
    struct fixture f;
    CHECK(start(&f));
    struct lake_request request = lake_fixture_request("a");
    struct lake_writer *writer = lake_writer_open(f.lake, &request, &f.err);
    CHECK(writer != NULL);
    CHECK(feed_large(&f, writer, ROWS));
    struct lake_result result;
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 0);
    CHECK(lake_writer_finish(writer, NULL, &result, NULL, &f.err));
    lake_writer_close(writer);
    CHECK(result.accepted == ROWS);
    CHECK(lake_buffered_rows(f.lake, STR("a")) == ROWS);
    writer = lake_writer_open(f.lake, &request, &f.err);
    CHECK(feed_large(&f, writer, ROWS));
    lake_writer_close(writer);
    CHECK(lake_buffered_rows(f.lake, STR("a")) == ROWS);
    CHECK(lake_fixture_reopen(&f));
    CHECK(lake_buffered_rows(f.lake, STR("a")) == ROWS);
    lake_fixture_end(&f);
}

TEST(a_key_is_answered_again_and_not_stored_again)
{
    struct fixture f;
    CHECK(start(&f));
    struct lake_request request = lake_fixture_request("a");
    request.has_key = true;
    memcpy(request.key, "0123456789abcdef", LAKE_KEY_SIZE);
    struct lake_result first;
    struct lake_result second;
    CHECK(write_rows(&f, &request, "{\"x\":1}\n", &first));
    CHECK(!first.repeated && first.accepted == 1 && first.position > 0);
    for (int i = 0; i < 2; i++) {
        CHECK(write_rows(&f, &request, "{\"x\":1}\n", &second));
        CHECK(second.repeated && second.accepted == 1 && second.position == first.position);
        CHECK(!write_rows(&f, &request, "{\"x\":2}\n", &second));
        CHECK(f.err.kind == ERR_UNPROCESSABLE);
        CHECK(lake_buffered_rows(f.lake, STR("a")) == 1);
        CHECK(lake_fixture_reopen(&f));
    }
    struct lake_writer *writer = lake_writer_open(f.lake, &request, &f.err);
    CHECK(writer != NULL);
    lake_writer_close(writer);
    memcpy(request.key, "another key.....", LAKE_KEY_SIZE);
    writer = lake_writer_open(f.lake, &request, &f.err);
    CHECK(writer != NULL);
    CHECK(lake_writer_open(f.lake, &request, &f.err) == NULL);
    CHECK(f.err.kind == ERR_CONFLICT);
    lake_writer_close(writer);
    CHECK(write_rows(&f, &request, "{\"x\":1}\n", &second));
    CHECK(!second.repeated);
    lake_fixture_end(&f);
}

TEST(bad_records_go_to_a_table_of_their_own)
{
    struct fixture f;
    CHECK(start(&f));
    struct lake_request request = lake_fixture_request("a");
    request.dead_letter = true;
    struct lake_result result;
    CHECK(write_rows(&f, &request, "{\"x\":1}\n{\"x\":}\n{\"y\":2}\nno\n", &result));
    CHECK(result.accepted == 2 && result.dead_letters == 2);
    CHECK(tail_is(&f, "a", "{\"c0\":1}\n{\"c1\":2}\n"));
    CHECK(lake_buffered_rows(f.lake, STR("a__dead_letter")) == 2);
    char *text = tail_text(&f, "a__dead_letter");
    CHECK(text != NULL && strstr(text, "{\\\"x\\\":}") != NULL);
    mem_free(text);
    CHECK(lake_fixture_reopen(&f));
    CHECK(lake_buffered_rows(f.lake, STR("a")) == 2);
    CHECK(lake_buffered_rows(f.lake, STR("a__dead_letter")) == 2);
    CHECK(write_rows(&f, &request, "no\n", &result));
    CHECK(result.accepted == 0 && result.dead_letters == 1);
    lake_fixture_end(&f);
}

/* Each request in a tail takes memory, however small it is. */
TEST(a_tail_of_too_many_requests_takes_no_more)
{
    enum {
        REQUESTS = 100
    };
    struct fixture f;
    CHECK(start(&f));
    f.tail_bytes_max = REQUESTS * sizeof(struct lake_tail_record);
    CHECK(lake_fixture_reopen(&f));
    unsigned taken = 0;
    while (taken <= REQUESTS && write_plain(&f, taken % 2 == 0 ? "a" : "b", "{\"x\":1}\n")) {
        taken++;
    }
    CHECK(taken > REQUESTS / 2 && taken <= REQUESTS);
    CHECK(f.err.kind == ERR_BUSY);
    CHECK(lake_fixture_reopen(&f));
    CHECK(!write_plain(&f, "a", "{\"x\":1}\n"));
    CHECK(lake_buffered_rows(f.lake, STR("a")) + lake_buffered_rows(f.lake, STR("b")) == taken);
    f.tail_bytes_max = 0;
    CHECK(lake_fixture_reopen(&f));
    CHECK(write_plain(&f, "a", "{\"x\":1}\n"));
    lake_fixture_end(&f);
}

TEST(days_are_counted_from_1970)
{
    static const struct {
        struct lake_date date;
        int32_t day;
    } known[] = {{{1970, 1, 1}, 0},     {{1969, 12, 31}, -1},    {{2000, 2, 29}, 11016},
                 {{2000, 3, 1}, 11017}, {{2026, 11, 21}, 20778}, {{1, 1, 1}, -719162}};
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        CHECK(lake_day_of_date(&known[i].date) == known[i].day);
        struct lake_date date = lake_date_of((int64_t)known[i].day * 86400000);
        CHECK(date.year == known[i].date.year && date.month == known[i].date.month &&
              date.day == known[i].date.day);
    }
}

/* Somebody asks the store what columns there are, for as long as it takes. */
TEST(who_may_not_wait_for_anothers_new_columns_is_told)
{
    struct fixture f;
    CHECK(start(&f));
    CHECK(write_plain(&f, "t", "{\"x\":1}"));
    struct lake_table *table = lake_table_find(f.lake, STR("t"));
    const struct lake_schema *schema = lake_table_try_widening(table);
    CHECK(schema != NULL && lake_table_try_widening(table) == NULL);
    struct lake_request request = lake_fixture_request("t");
    struct cancel soon;
    cancel_init(&soon, clock_now_ms() + 50);
    for (int at_once = 0; at_once < 2; at_once++) {
        request.at_once = at_once == 1;
        struct lake_writer *writer = lake_writer_open(f.lake, &request, &f.err);
        CHECK(writer != NULL);
        CHECK(
            !lake_writer_feed(writer, STR("{\"y\":1}"), true, at_once == 1 ? NULL : &soon, &f.err));
        CHECK(f.err.kind == (at_once == 1 ? ERR_BUSY : ERR_TIMEOUT));
        CHECK(lake_writer_would_wait(writer) == (at_once == 1));
        lake_writer_close(writer);
    }
    CHECK(write_plain(&f, "t", "{\"x\":2}")); /* without new columns nobody waits */
    lake_table_end_widening(table);
    lake_schema_drop(schema);
    CHECK(write_plain(&f, "t", "{\"y\":1}"));
    cancel_finish(&soon);
    lake_fixture_end(&f);
}

static const struct test_case cases[] = {
    TEST_CASE(who_may_not_wait_for_anothers_new_columns_is_told),
    TEST_CASE(rows_come_back_from_the_log),
    TEST_CASE(a_request_that_is_not_finished_leaves_nothing),
    TEST_CASE(a_large_request_is_one_unit),
    TEST_CASE(a_key_is_answered_again_and_not_stored_again),
    TEST_CASE(bad_records_go_to_a_table_of_their_own),
    TEST_CASE(a_tail_of_too_many_requests_takes_no_more),
    TEST_CASE(days_are_counted_from_1970),
};

TEST_MAIN(cases)
