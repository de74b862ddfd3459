/* Canonical lines read by us and by the engine's read_json: the same rows, whatever the cuts. */
#include "test.h"

#include "fd.h"
#include "mem.h"
#include "worker_lines_read.h"
#include "worker_shim.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PLAIN = 6, /* columns whose value is the line's; the others need a cast */
    COLUMNS = 11,
    LINES_SIZE_MAX = 4 << 20
};

static const struct worker_column columns[COLUMNS] = {
    {.line_type = STR_INIT("BIGINT"), .sql_type = STR_INIT("BIGINT")},
    {.line_type = STR_INIT("DOUBLE"), .sql_type = STR_INIT("DOUBLE")},
    {.line_type = STR_INIT("BOOLEAN"), .sql_type = STR_INIT("BOOLEAN")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("VARCHAR")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("DECIMAL(38,0)")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("VARCHAR")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("BIGINT")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("INTEGER")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("DOUBLE")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("BOOLEAN")},
    {.line_type = STR_INIT("VARCHAR"), .sql_type = STR_INIT("TIMESTAMP")},
};

static struct duck *engine(void)
{
    static struct duck duck;
    struct err err;
    if (duck.database == NULL) {
        bool good = duck_open(&duck, &err) && duck_run(&duck, STR("SET threads = 4"), NULL, &err);
        assert(good);
    }
    return &duck;
}

/* ---- one text, read both ways ---- */

struct rig {
    struct worker_lines lines;
    struct lines_file file;
};

static void rig_init(struct rig *rig, struct str before, struct str text, uint64_t slice_size,
                     bool *test_failed)
{
    struct err err;
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("lines", MFD_CLOEXEC);
        files_set_job(engine()->files, NULL, fd, -1);
    }
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(fd_write_at(fd, before.ptr, before.len, 0));
    CHECK(fd_write_at(fd, text.ptr, text.len, before.len));
    files_set_window(engine()->files, before.len, text.len);
    rig->lines = (struct worker_lines){
        .columns = columns, .columns_count = COLUMNS, .line_size_max = 64 << 10, .direct = true};
    struct lines_input input;
    input.fd = files_input(engine()->files, &input.offset, &input.size);
    CHECK(lines_file_init(&rig->file, &rig->lines, &input));
    rig->file.slice_size = slice_size;
    CHECK_OK(lines_file_register(&rig->file, engine(), 4, &err), err);
}

static void rig_finish(struct rig *rig)
{
    lines_file_finish(&rig->file);
}

static bool read_all(struct rig *rig, bool direct, duckdb_result *ret_result, struct err *err)
{
    struct buf sql;
    buf_init(&sql, 1 << 16);
    rig->lines.direct = direct;
    buf_append_text(&sql, "SELECT ");
    for (size_t i = 0; i < COLUMNS; i++) {
        buf_append_text(&sql, i == 0 ? "" : ", ");
        if (i < PLAIN) {
            buf_append_format(&sql, "c%zu", i);
        } else {
            lines_append_value(&sql, &rig->lines, i);
        }
    }
    buf_append_text(&sql, " FROM ");
    lines_append_source(&sql, &rig->lines, STR("'job://in'"), false);
    bool good = duck_run(engine(), buf_str(&sql), ret_result, err);
    buf_finish(&sql);
    return good;
}

static void compare(duckdb_result *ours, duckdb_result *theirs, bool *test_failed)
{
    CHECK_U64(duckdb_row_count(ours), duckdb_row_count(theirs));
    for (idx_t row = 0; row < duckdb_row_count(ours); row++) {
        for (idx_t column = 0; column < COLUMNS; column++) {
            struct buf a;
            struct buf b;
            buf_init(&a, 1 << 20);
            buf_init(&b, 1 << 20);
            CHECK(duckdb_value_is_null(ours, column, row) ==
                  duckdb_value_is_null(theirs, column, row));
            duck_append_text(ours, column, row, &a);
            duck_append_text(theirs, column, row, &b);
            if (!str_equal(buf_str(&a), buf_str(&b))) {
                TEST_FAIL("row %llu, c%llu: %.*s, not %.*s", (unsigned long long)row,
                          (unsigned long long)column, STR_ARG(buf_str(&a)), STR_ARG(buf_str(&b)));
            }
            buf_finish(&a);
            buf_finish(&b);
        }
    }
}

static void read_both_ways(struct str before, struct str text, uint64_t slice_size,
                           bool *test_failed)
{
    struct rig rig;
    struct err err;
    duckdb_result ours = {0};
    duckdb_result theirs = {0};
    rig_init(&rig, before, text, slice_size, test_failed);
    CHECK_OK(read_all(&rig, true, &ours, &err), err);
    CHECK_OK(read_all(&rig, false, &theirs, &err), err);
    CHECK(!atomic_load(&rig.file.odd));
    compare(&ours, &theirs, test_failed);
    duckdb_destroy_result(&ours);
    duckdb_destroy_result(&theirs);
    rig_finish(&rig);
}

/* ---- lines by chance ---- */

static uint64_t chance_state;

static uint64_t chance(uint64_t below)
{
    chance_state = chance_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (chance_state >> 20) % below;
}

static void put_digits(struct buf *into, uint64_t count)
{
    buf_append_byte(into, (char)('1' + chance(9)));
    for (uint64_t i = 1; i < count; i++) {
        buf_append_byte(into, (char)('0' + chance(10)));
    }
}

static void put_bigint(struct buf *into)
{
    static const char *const edges[] = {"0", "9223372036854775807", "-9223372036854775807", "-1"};
    if (chance(8) == 0) {
        buf_append_text(into, edges[chance(COUNT_OF(edges))]);
        return;
    }
    buf_append_text(into, chance(2) == 0 ? "-" : "");
    put_digits(into, 1 + chance(18));
}

static void put_double(struct buf *into)
{
    static const char *const edges[] = {"0",
                                        "0.0",
                                        "\"NaN\"",
                                        "\"Infinity\"",
                                        "\"-Infinity\"",
                                        "5e-324",
                                        "1.7976931348623157e308",
                                        "9007199254740993.0",
                                        "9007199254740992",
                                        "0.1",
                                        "123456789012345678901234567890.5",
                                        "8.5e22",
                                        "2.2250738585072014E-308",
                                        "1e+2",
                                        "0.30000000000000004"};
    if (chance(4) == 0) {
        buf_append_text(into, edges[chance(COUNT_OF(edges))]);
        return;
    }
    buf_append_text(into, chance(2) == 0 ? "-" : "");
    put_digits(into, 1 + chance(8));
    if (chance(4) != 0) {
        buf_append_byte(into, '.');
        put_digits(into, 1 + chance(14));
    }
}

static void put_text(struct buf *into)
{
    static const char *const parts[] = {"a",
                                        "bc",
                                        "the quick brown fox",
                                        "\xC3\xA4",
                                        "\xF0\x9F\xA6\x86",
                                        "\\n",
                                        "\\\"",
                                        "\\\\",
                                        "\\u00e4",
                                        "\\uD83E\\uDD86",
                                        "\\/",
                                        "{\\\"",
                                        "0123456789012345678901234",
                                        "}\\n{",
                                        "\\u20AC"};
    buf_append_byte(into, '"');
    for (uint64_t count = chance(6); count > 0; count--) {
        buf_append_text(into, parts[chance(COUNT_OF(parts))]);
    }
    buf_append_byte(into, '"');
}

/* What is read without a cast. */
static void put_quoted(struct buf *into, size_t place)
{
    static const char *const moments[] = {
        "1970-01-01T00:00:00Z",        "1600-03-01 00:00:00",  "2399-12-31T23:59:59.999999Z",
        "2000-02-29T12:00:00.5",       "1969-12-31T23:59:59Z", "1900-02-28T01:02:03.000001Z",
        "2026-03-01T10:20:30.123456Z", "1752-09-10T00:00:00Z", "1700-03-01T00:00:00Z"};
    static const char *const integers[] = {"2147483647", "-2147483648", "0", "-1", "77"};
    static const char *const doubles[] = {
        "0", "0.1", "-12.75", "0.30000000000000004", "9007199254740993", "123456789012345678901"};
    static const char *const bigints[] = {"0", "-1", "9223372036854775807", "1740000000000"};
    if (place == PLAIN) {
        buf_append_text(into, bigints[chance(COUNT_OF(bigints))]);
    } else if (place == PLAIN + 1) {
        buf_append_text(into, integers[chance(COUNT_OF(integers))]);
    } else if (place == PLAIN + 2) {
        buf_append_text(into, doubles[chance(COUNT_OF(doubles))]);
    } else if (place == PLAIN + 3) {
        buf_append_text(into, chance(2) == 0 ? "true" : "false");
    } else if (chance(2) == 0) {
        buf_append_text(into, moments[chance(COUNT_OF(moments))]);
    } else {
        buf_append_format(into, "%04d-%02d-%02dT%02d:%02d:%02dZ", 1600 + (int)chance(800),
                          1 + (int)chance(12), 1 + (int)chance(28), (int)chance(24),
                          (int)chance(60), (int)chance(60));
    }
}

static void put_value(struct buf *into, size_t place)
{
    if (place >= PLAIN) {
        buf_append_byte(into, '"');
        put_quoted(into, place);
        buf_append_byte(into, '"');
    } else if (place == 0) {
        put_bigint(into);
    } else if (place == 1) {
        put_double(into);
    } else if (place == 2) {
        buf_append_text(into, chance(2) == 0 ? "true" : "false");
    } else {
        put_text(into);
    }
}

static void put_line(struct buf *into)
{
    size_t first = (size_t)chance(COLUMNS);
    const char *comma = "";
    buf_append_byte(into, '{');
    for (size_t i = 0; i < COLUMNS; i++) {
        size_t place = (first + i) % COLUMNS;
        if (chance(5) > 0) {
            buf_append_format(into, "%s\"c%zu\":", comma, place);
            put_value(into, place);
            comma = ",";
        }
    }
    buf_append_text(into, "}\n");
}

TEST(lines_by_chance)
{
    static const uint64_t slice_sizes[] = {1, 50, 1000, 100000, 8 << 20};
    for (size_t i = 0; i < COUNT_OF(slice_sizes); i++) {
        struct buf text;
        buf_init(&text, LINES_SIZE_MAX);
        chance_state = i;
        for (size_t line = 0; line < (i < 2 ? 300 : 10000); line++) {
            put_line(&text);
        }
        read_both_ways(STR("no line\n"), buf_str(&text), slice_sizes[i], test_failed);
        buf_finish(&text);
    }
}

/* A line may be as long as the buffer, and longer than slices. */
TEST(long_lines)
{
    struct buf text;
    buf_init(&text, LINES_SIZE_MAX);
    for (size_t line = 0; line < 60; line++) {
        buf_append_text(&text, "{\"c3\":\"");
        for (size_t i = 0; i < line * 1000; i++) {
            buf_append_byte(&text, (char)('a' + i % 26));
        }
        buf_append_text(&text, "\"}\n{}\n");
    }
    read_both_ways(STR(""), buf_str(&text), 5000, test_failed);
    buf_finish(&text);
}

TEST(lines_of_another_shape)
{
    static const char *const odd[] = {
        "{\"c0\":1.5}\n",
        "{\"c0\":01}\n",
        "{\"c0\":-0}\n",
        "{\"c0\":9223372036854775808}\n",
        "{\"c0\":\"1\"}\n",
        "{\"c0\":null}\n",
        "{\"c0\":1,\"c0\":2}\n",
        "{\"c1\":-0.0}\n",
        "{\"c1\":1.}\n",
        "{\"c1\":1e400}\n",
        "{\"c1\":\"nan\"}\n",
        "{\"c2\":1}\n",
        "{\"c3\":12}\n",
        "{\"c3\":\"\\u0000\"}\n",
        "{\"c3\":\"\\uD800\"}\n",
        "{\"c3\":\"\\uDC00\"}\n",
        "{\"c3\":\"\\uD800\\u0041\"}\n",
        "{\"c3\":\"\\x\"}\n",
        "{\"c3\":\"\xFF\"}\n",
        "{\"c3\":\"a\tb\"}\n",
        "{\"c3\":\"open\n",
        "{\"c3\":\"open\\\n",
        "{\"c6\":1}\n",
        "{\"c11\":1}\n",
        "{\"c6\":\"1.0\"}\n",
        "{\"c6\":\" 1\"}\n",
        "{\"c6\":\"1\n",
        "{\"c7\":\"2147483648\"}\n",
        "{\"c7\":\"\"}\n",
        "{\"c8\":\"1e3\"}\n",
        "{\"c8\":\"NaN\"}\n",
        "{\"c8\":\"+1\"}\n",
        "{\"c8\":\"12345678901234567890123456\"}\n",
        "{\"c9\":\"TRUE\"}\n",
        "{\"c9\":\"1\"}\n",
        "{\"c10\":\"2026-02-29T00:00:00Z\"}\n",
        "{\"c10\":\"2026-13-01T00:00:00Z\"}\n",
        "{\"c10\":\"2026-01-00T00:00:00Z\"}\n",
        "{\"c10\":\"2026-01-01T24:00:00Z\"}\n",
        "{\"c10\":\"2026-01-01T23:59:60Z\"}\n",
        "{\"c10\":\"2026-01-01T00:00:00+02\"}\n",
        "{\"c10\":\"2026-01-01T00:00:00.1234567Z\"}\n",
        "{\"c10\":\"2026-01-01T00:00:00.Z\"}\n",
        "{\"c10\":\"2026-01-01\"}\n",
        "{\"c10\":\"1599-12-31T00:00:00Z\"}\n",
        "{\"c10\":\"2026-01-01T00:0\n",
        "{\"c18446744073709551617\":1}\n",
        "{\"c\":1}\n",
        "{\"d0\":1}\n",
        "{ \"c0\":1}\n",
        "{\"c0\":1 }\n",
        "{\"c0\":1}",
        "{\"c0\":1} \n",
        "{\"c0\":1,}\n",
        "\n",
        "[]\n",
        "{\"c0\":1}\n{\"c0\":",
    };
    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        struct rig rig;
        struct err err;
        duckdb_result result = {0};
        rig_init(&rig, STR("{\"c0\":7}\n"), str_of(odd[i]), 8 << 20, test_failed);
        if (read_all(&rig, true, &result, &err) || !atomic_load(&rig.file.odd)) {
            TEST_FAIL("%s", odd[i]);
        }
        duckdb_destroy_result(&result);
        rig_finish(&rig);
    }
}

TEST(a_slice_is_as_large_as_a_row_group)
{
    const uint64_t usual = 8 << 20;
    struct lines_file file = {.input = {.fd = -1, .size = 40 << 20}, .slice_size = usual};
    lines_file_fit(&file, 1000, 1000); /* all is one group */
    CHECK_U64(file.slice_size, usual);
    lines_file_fit(&file, 1000, 999); /* it would be too large */
    CHECK_U64(file.slice_size, usual);
    lines_file_fit(&file, 1000, 1); /* too small */
    CHECK_U64(file.slice_size, usual);
    lines_file_fit(&file, 1000, 250);
    CHECK_U64(file.slice_size, 10 << 20);
}

TEST(types_that_are_not_read_here)
{
    static const struct worker_column other = {.line_type = STR_INIT("HUGEINT")};
    const struct worker_lines lines = {.columns = &other, .columns_count = 1};
    const struct lines_input input = {.fd = 0};
    struct lines_file file;
    CHECK(!lines_file_init(&file, &lines, &input));
    lines_file_finish(&file);
}

static const struct test_case cases[] = {
    TEST_CASE(lines_by_chance),
    TEST_CASE(long_lines),
    TEST_CASE(lines_of_another_shape),
    TEST_CASE(a_slice_is_as_large_as_a_row_group),
    TEST_CASE(types_that_are_not_read_here),
};

TEST_MAIN(cases)
