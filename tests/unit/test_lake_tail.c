#include "lake_fixture.h"

#include "lake_source.h"
#include "mem.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A lake without an engine: what a query would see of its log. */

static bool start(struct fixture *f)
{
    *f = (struct fixture){0};
    return lake_fixture_start(f);
}

static bool write_rows(struct fixture *f, struct lake_date date, const char *body)
{
    struct lake_request request = {.table = STR("t"),
                                   .way = LAKE_BUFFERED,
                                   .input = LAKE_NDJSON,
                                   .dated = true,
                                   .date = date,
                                   .arrival_ms = clock_wall_ms()};
    struct lake_result result;
    struct lake_writer *writer = lake_writer_open(f->lake, &request, &f->err);
    bool good = writer != NULL && lake_writer_feed(writer, str_of(body), true, NULL, &f->err) &&
                lake_writer_finish(writer, NULL, &result, NULL, &f->err);
    lake_writer_close(writer);
    return good;
}

static const struct lake_date first_day = {2026, 1, 2};
static const struct lake_date second_day = {2026, 1, 3};

static bool window_is(const struct lake_tail *tail, size_t index, const char *wanted)
{
    char text[256] = "";
    const struct lake_window *window = &tail->windows[index];
    return window->size < sizeof(text) &&
           pread(tail->fd, text, window->size, (off_t)window->offset) == (ssize_t)window->size &&
           strcmp(text, wanted) == 0;
}

static ino_t file_of(const struct lake_tail *tail)
{
    struct stat status;
    return fstat(tail->fd, &status) == 0 ? status.st_ino : 0;
}

TEST(a_tail_grows_under_those_who_read_it)
{
    struct fixture f;
    struct lake_tail before;
    struct lake_tail after;
    CHECK(start(&f));
    CHECK(write_rows(&f, first_day, "{\"x\":1}"));
    struct lake_table *table = lake_table_find(f.lake, STR("t"));
    CHECK_OK(lake_tail_open(f.lake, table, &before, &f.err), f.err);
    CHECK(write_rows(&f, first_day, "{\"x\":2}"));
    CHECK(!lake_tail_recall(f.lake, table, &after));
    CHECK_OK(lake_tail_open(f.lake, table, &after, &f.err), f.err);
    CHECK(file_of(&before) == file_of(&after));
    CHECK(after.view.generation > before.view.generation);
    CHECK_U64(before.windows_count, 1);
    CHECK_U64(after.windows_count, 1);
    CHECK(window_is(&before, 0, "{\"c0\":1}\n"));
    CHECK(window_is(&after, 0, "{\"c0\":1}\n{\"c0\":2}\n"));
    CHECK_U64(after.rows, 2);
    CHECK(write(after.fd, "x", 1) < 0);
    lake_tail_close(f.lake, table, &before);
    CHECK(window_is(&after, 0, "{\"c0\":1}\n{\"c0\":2}\n"));
    lake_tail_close(f.lake, table, &after);
    lake_tail_close(f.lake, table, &after);
    CHECK(lake_tail_recall(f.lake, table, &after));
    lake_tail_close(f.lake, table, &after);
    lake_fixture_end(&f);
}

TEST(a_file_of_many_windows_is_made_anew)
{
    struct fixture f;
    struct lake_tail tail;
    CHECK(start(&f));
    for (unsigned i = 0; i < 200; i++) {
        CHECK(write_rows(&f, i % 2 == 0 ? first_day : second_day, "{\"x\":1}"));
        struct lake_table *table = lake_table_find(f.lake, STR("t"));
        CHECK_OK(lake_tail_open(f.lake, table, &tail, &f.err), f.err);
        CHECK(tail.windows_count <= 80);
        uint64_t rows = 0;
        for (size_t at = 0; at < tail.windows_count; at++) {
            rows += tail.windows[at].rows;
        }
        CHECK_U64(rows, i + 1);
        lake_tail_close(f.lake, table, &tail);
    }
    lake_fixture_end(&f);
}

TEST(what_was_gathered_may_go_at_any_time)
{
    struct fixture f;
    struct lake_tail tail;
    struct lake_tail again;
    CHECK(start(&f));
    CHECK(write_rows(&f, first_day, "{\"x\":1}"));
    struct lake_table *table = lake_table_find(f.lake, STR("t"));
    CHECK_OK(lake_tail_open(f.lake, table, &tail, &f.err), f.err);
    lock_take(&table->lock);
    lake_tail_forget(table);
    lake_tail_forget(table);
    lock_release(&table->lock);
    CHECK(window_is(&tail, 0, "{\"c0\":1}\n"));
    CHECK_OK(lake_tail_open(f.lake, table, &again, &f.err), f.err);
    CHECK(file_of(&tail) != file_of(&again));
    CHECK(window_is(&again, 0, "{\"c0\":1}\n"));
    lake_tail_close(f.lake, table, &tail);
    lake_tail_close(f.lake, table, &again);
    lake_fixture_end(&f);
}

static bool put_object(struct fixture *f, const char *key)
{
    struct store_source source = {.bytes = STR("x"), .fd = -1};
    struct store_put_options options = {.create_only = true};
    struct store_object object;
    struct cancel cancel;
    cancel_init(&cancel, INT64_MAX);
    bool good = store_put(f->store, str_of(key), &source, &options, &cancel, &object, &f->err);
    cancel_finish(&cancel);
    return good;
}

static size_t shown_count(struct fixture *f, struct cancel *cancel)
{
    struct lake_source source = {.folder = STR("t")};
    if (!lake_source_find(f->lake, &source, cancel, &f->err)) {
        return SIZE_MAX;
    }
    size_t count = source.shown_count;
    lake_source_finish(f->lake, &source);
    return count;
}

TEST(a_listing_ends_with_the_next_own_write_or_with_time)
{
    struct fixture f;
    struct cancel cancel;
    CHECK(start(&f));
    cancel_init(&cancel, INT64_MAX);
    CHECK(write_rows(&f, first_day, "{\"x\":1}"));
    CHECK(shown_count(&f, NULL) == SIZE_MAX);
    CHECK(f.err.kind == ERR_BUSY);
    CHECK_U64(shown_count(&f, &cancel), 0);
    CHECK(put_object(&f, "data/t/year=2026/month=01/day=02/of_another.parquet"));
    CHECK(write_rows(&f, first_day, "{\"x\":2}"));
    CHECK_U64(shown_count(&f, &cancel), 1);
    CHECK(put_object(&f, "data/t/year=2026/month=01/day=02/one_more.parquet"));
    int64_t until_ms = clock_now_ms() + 5000;
    while (shown_count(&f, &cancel) != 2 && clock_now_ms() < until_ms) {
    }
    CHECK_U64(shown_count(&f, &cancel), 2);
    cancel_finish(&cancel);
    lake_fixture_end(&f);
}

/* Of those who may not wait, one is turned away before the listing is too old, the next is not. */
static bool sees_renewal(struct fixture *f, struct cancel *cancel)
{
    int64_t until_ms = clock_now_ms() + LAKE_LISTING_AGE_MAX_MS;
    (void)shown_count(f, cancel);
    size_t first = shown_count(f, NULL);
    while (first != SIZE_MAX && clock_now_ms() < until_ms) {
        first = shown_count(f, NULL);
    }
    size_t second = shown_count(f, NULL);
    return first == SIZE_MAX && second != SIZE_MAX;
}

TEST(a_listing_is_renewed_while_others_are_given_it)
{
    struct fixture f;
    struct cancel cancel;
    CHECK(start(&f));
    cancel_init(&cancel, INT64_MAX);
    CHECK(write_rows(&f, first_day, "{\"x\":1}"));
    int64_t until_ms = clock_now_ms() + 10000;
    bool seen = sees_renewal(&f, &cancel);
    while (!seen && clock_now_ms() < until_ms) { /* a busy machine may miss the moment */
        seen = sees_renewal(&f, &cancel);
    }
    CHECK(seen);
    cancel_finish(&cancel);
    lake_fixture_end(&f);
}

static const struct test_case cases[] = {
    TEST_CASE(a_tail_grows_under_those_who_read_it),
    TEST_CASE(a_file_of_many_windows_is_made_anew),
    TEST_CASE(what_was_gathered_may_go_at_any_time),
    TEST_CASE(a_listing_ends_with_the_next_own_write_or_with_time),
    TEST_CASE(a_listing_is_renewed_while_others_are_given_it),
};

TEST_MAIN(cases)
