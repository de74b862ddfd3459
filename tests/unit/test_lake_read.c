/* Bodies of Parquet and Arrow, made by the engine's own encoders, read back as lines: through a
 * real zygote and its workers. `test_lake_read read parquet|arrow FILE` prints a file's lines. */
#include "test.h"

#include "clock.h"
#include "engine.h"
#include "fd.h"
#include "lake_read.h"
#include "worker.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    DEADLINE_MS = 60000,
    LINES_SIZE_MAX = 64 << 20
};

static struct engine *engine;

/* ---- what comes out ---- */

struct seen {
    struct buf columns; /* name type, a line each */
    struct buf lines;
    FILE *print; /* instead of keeping the lines */
    bool refuse_columns;
    bool refuse_lines;
};

static bool see_columns(void *context, const struct lake_known_type *columns, size_t count,
                        struct err *err)
{
    struct seen *seen = context;
    for (size_t i = 0; i < count; i++) {
        buf_append_format(&seen->columns, "%.*s %.*s\n", STR_ARG(columns[i].name),
                          STR_ARG(columns[i].sql_type));
    }
    return !seen->refuse_columns || err_set(err, ERR_CONFLICT, "not these columns");
}

static bool see_lines(void *context, struct str bytes, struct err *err)
{
    struct seen *seen = context;
    if (seen->print != NULL) {
        (void)fwrite(bytes.ptr, 1, bytes.len, seen->print);
    } else {
        buf_append(&seen->lines, bytes);
    }
    return !seen->refuse_lines || err_set(err, ERR_BUSY, "no more of them");
}

static void seen_init(struct seen *seen)
{
    *seen = (struct seen){0};
    buf_init(&seen->columns, LINES_SIZE_MAX);
    buf_init(&seen->lines, LINES_SIZE_MAX);
}

static void seen_finish(struct seen *seen)
{
    buf_finish(&seen->columns);
    buf_finish(&seen->lines);
}

static bool read_body(enum lake_read_format format, int fd, struct seen *seen, struct err *err)
{
    struct lake_read_sink sink = {.columns = see_columns, .lines = see_lines, .context = seen};
    struct cancel cancel;
    cancel_init(&cancel, clock_now_ms() + DEADLINE_MS);
    bool good = lake_read_body_with(engine, format, fd, &cancel, &sink, err);
    cancel_finish(&cancel);
    return good;
}

/* ---- what goes in ---- */

static bool keep_bytes(void *context, struct str bytes, struct err *err)
{
    return fd_write_all(*(int *)context, bytes, err);
}

/* The result of a statement as a file in memory. */
static int make_body(enum lake_read_format format, const char *sql, struct err *err)
{
    int fd = memfd_create("body", MFD_CLOEXEC);
    struct cancel cancel;
    cancel_init(&cancel, clock_now_ms() + DEADLINE_MS);
    struct engine_request request = {
        .job = {.kind = WORKER_QUERY,
                .statement = str_of(sql),
                .format = format == LAKE_READ_ARROW ? WORKER_FORMAT_ARROW : WORKER_FORMAT_PARQUET},
        .input_fd = -1,
        .output_fd = -1,
        .result = keep_bytes,
        .context = &fd,
    };
    struct engine_outcome outcome;
    if (!engine_run(engine, &request, &cancel, &outcome, err)) {
        fd_close(&fd);
    }
    cancel_finish(&cancel);
    return fd;
}

static int body_of(struct str bytes)
{
    struct err err;
    int fd = memfd_create("body", MFD_CLOEXEC);
    if (!fd_write_all(fd, bytes, &err)) {
        fd_close(&fd);
    }
    return fd;
}

/* ---- the tests ---- */

#define CHECK_READ(format, sql, columns_, lines_)                \
    do {                                                         \
        struct err err = {0};                                    \
        struct seen seen;                                        \
        seen_init(&seen);                                        \
        CLEANUP(fd_close) int fd = make_body(format, sql, &err); \
        CHECK_OK(fd >= 0, err);                                  \
        CHECK_OK(read_body(format, fd, &seen, &err), err);       \
        CHECK_STR(buf_str(&seen.columns), columns_);             \
        CHECK_STR(buf_str(&seen.lines), lines_);                 \
        seen_finish(&seen);                                      \
    } while (0)

static const char numbers_sql[] =
    "SELECT * FROM (VALUES "
    "(true, (-128)::TINYINT, (-32768)::SMALLINT, (-2147483648)::INTEGER, "
    "(-9223372036854775808)::BIGINT, "
    "255::UTINYINT, 65535::USMALLINT, 4294967295::UINTEGER, 18446744073709551615::UBIGINT, "
    "0.1::FLOAT, 0.1::DOUBLE), "
    "(false, 0, 0, 0, 9007199254740993, 0, 0, 0, 0, 'nan'::FLOAT, 'nan'::DOUBLE), "
    "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '-inf'::FLOAT, 'inf'::DOUBLE), "
    "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 16777216::FLOAT, '-0.0'::DOUBLE), "
    "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1e30::FLOAT, 1.7976931348623157e308)) "
    "t(b, i1, i2, i4, i8, u1, u2, u4, u8, f4, f8)";

static const char numbers_columns[] =
    "b BOOLEAN\ni1 TINYINT\ni2 SMALLINT\ni4 INTEGER\ni8 BIGINT\nu1 UTINYINT\nu2 USMALLINT\n"
    "u4 UINTEGER\nu8 UBIGINT\nf4 FLOAT\nf8 DOUBLE\n";

#define NULLS                                                                              \
    "{\"b\":null,\"i1\":null,\"i2\":null,\"i4\":null,\"i8\":null,\"u1\":null,\"u2\":null," \
    "\"u4\":null,\"u8\":null,"

static const char numbers_lines[] =
    "{\"b\":true,\"i1\":-128,\"i2\":-32768,\"i4\":-2147483648,\"i8\":-9223372036854775808,"
    "\"u1\":255,\"u2\":65535,\"u4\":4294967295,\"u8\":18446744073709551615,\"f4\":0.1,"
    "\"f8\":0.1}\n"
    "{\"b\":false,\"i1\":0,\"i2\":0,\"i4\":0,\"i8\":9007199254740993,\"u1\":0,\"u2\":0,"
    "\"u4\":0,\"u8\":0,\"f4\":NaN,\"f8\":NaN}\n" NULLS "\"f4\":-Infinity,\"f8\":Infinity}\n" NULLS
    "\"f4\":16777216,\"f8\":-0.0}\n" NULLS "\"f4\":1e+30,\"f8\":1.7976931348623157e+308}\n";

TEST(parquet_numbers)
{
    CHECK_READ(LAKE_READ_PARQUET, numbers_sql, numbers_columns, numbers_lines);
}

static const char texts_sql[] =
    "SELECT 12345678901234567.89::DECIMAL(19,2) d, -0.05::DECIMAL(4,2) e, "
    "12345678901234567890123456789012345678::HUGEINT h, DATE '2024-02-29' da, "
    "TIME '10:11:12.5' ti, TIMESTAMP '2024-02-29 10:11:12.123456' us, "
    "TIMESTAMP_S '1969-12-31 23:59:59' s, TIMESTAMP_MS '0001-01-01 00:00:00.001' ms, "
    "TIMESTAMP_NS '2024-02-29 10:11:12.123456789' ns, "
    "TIMESTAMPTZ '2024-02-29 10:11:12.5+02' tz, "
    "'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::UUID u, 'a\\x00\\xFF\\x5C'::BLOB bl, "
    "'x'::ENUM('x','y') en, 'a\"\xc3\xa9' t";

static const char texts_columns[] =
    "d DECIMAL(19,2)\ne DECIMAL(4,2)\nh DECIMAL(38,0)\nda DATE\nti TIME\nus TIMESTAMP\n"
    "s TIMESTAMP\nms TIMESTAMP\nns TIMESTAMP_NS\ntz TIMESTAMPTZ\nu UUID\nbl BLOB\n"
    "en VARCHAR\nt VARCHAR\n";

static const char texts_lines[] =
    "{\"d\":\"12345678901234567.89\",\"e\":\"-0.05\","
    "\"h\":\"12345678901234567890123456789012345678\",\"da\":\"2024-02-29\","
    "\"ti\":\"10:11:12.5\",\"us\":\"2024-02-29 10:11:12.123456\",\"s\":\"1969-12-31 23:59:59\","
    "\"ms\":\"0001-01-01 00:00:00.001\",\"ns\":\"2024-02-29 10:11:12.123456789\","
    "\"tz\":\"2024-02-29 08:11:12.5+00\",\"u\":\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\","
    "\"bl\":\"a\\\\x00\\\\xFF\\\\x5C\",\"en\":\"x\",\"t\":\"a\\\"\xc3\xa9\"}\n";

TEST(parquet_texts)
{
    CHECK_READ(LAKE_READ_PARQUET, texts_sql, texts_columns, texts_lines);
}

static const char nested_sql[] =
    "SELECT * FROM (VALUES "
    "([1, NULL, 3], {'a': 1.50::DECIMAL(4,2), 'b c': [DATE '2024-01-01']}, "
    "MAP {'k': 1, 'l': NULL}, ['nan'::DOUBLE, 0.5]), "
    "([], NULL, MAP {}, NULL), (NULL, {'a': NULL, 'b c': NULL}, NULL, [])) t(l, s, m, f)";

static const char nested_columns[] = "l VARCHAR\ns VARCHAR\nm VARCHAR\nf VARCHAR\n";

static const char nested_lines[] =
    "{\"l\":[1,null,3],\"s\":{\"a\":\"1.50\",\"b c\":[\"2024-01-01\"]},"
    "\"m\":{\"k\":1,\"l\":null},\"f\":[\"NaN\",0.5]}\n"
    "{\"l\":[],\"s\":null,\"m\":{},\"f\":null}\n"
    "{\"l\":null,\"s\":{\"a\":null,\"b c\":null},\"m\":null,\"f\":[]}\n";

TEST(parquet_nested)
{
    CHECK_READ(LAKE_READ_PARQUET, nested_sql, nested_columns, nested_lines);
}

TEST(parquet_without_rows)
{
    CHECK_READ(LAKE_READ_PARQUET, "SELECT 1 AS a, 'x' AS \"b c\" WHERE false",
               "a INTEGER\nb c VARCHAR\n", "");
}

static const enum lake_read_format formats[] = {LAKE_READ_PARQUET, LAKE_READ_ARROW};

/* Rows of many chunks, in their order. */
TEST(many_rows)
{
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        struct err err = {0};
        struct seen seen;
        seen_init(&seen);
        CLEANUP(fd_close)
        int fd = make_body(formats[i], "SELECT i, i::VARCHAR AS t FROM range(300000) r(i)", &err);
        CHECK_OK(fd >= 0, err);
        CHECK_OK(read_body(formats[i], fd, &seen, &err), err);
        struct str rest = buf_str(&seen.lines);
        struct str line;
        char expected[64];
        uint64_t row = 0;
        while (rest.len > 0 && str_next_part(&rest, '\n', &line)) {
            (void)snprintf(expected, sizeof(expected), "{\"i\":%llu,\"t\":\"%llu\"}",
                           (unsigned long long)row, (unsigned long long)row);
            CHECK_STR(line, expected);
            row++;
        }
        CHECK_U64(row, 300000);
        seen_finish(&seen);
    }
}

TEST(bodies_of_something_else)
{
    static const struct str bodies[] = {STR(""), STR("PAR1"), STR("a,b\n1,2\n"),
                                        STR("{\"a\":1}\n{\"a\":2}\n")};
    for (size_t f = 0; f < COUNT_OF(formats); f++) {
        for (size_t i = 0; i < COUNT_OF(bodies); i++) {
            struct err err = {0};
            struct seen seen;
            seen_init(&seen);
            CLEANUP(fd_close) int fd = body_of(bodies[i]);
            CHECK(!read_body(formats[f], fd, &seen, &err));
            CHECK_U64(err.kind, ERR_INVALID);
            CHECK(strstr(err.message, "the body is not") != NULL);
            CHECK(strstr(err.message, "job://") == NULL);
            CHECK_U64(seen.columns.len, 0);
            seen_finish(&seen);
        }
    }
}

/* The sink's own error is what the caller gets, and the job ends. */
TEST(a_sink_that_refuses)
{
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        struct err err = {0};
        struct seen seen;
        CLEANUP(fd_close)
        int fd = make_body(formats[i], "SELECT i FROM range(1000000) r(i)", &err);
        CHECK_OK(fd >= 0, err);
        seen_init(&seen);
        seen.refuse_columns = true;
        CHECK(!read_body(formats[i], fd, &seen, &err));
        CHECK_U64(err.kind, ERR_CONFLICT);
        CHECK_U64(seen.lines.len, 0);
        seen.refuse_columns = false;
        seen.refuse_lines = true;
        CHECK(!read_body(formats[i], fd, &seen, &err));
        CHECK_U64(err.kind, ERR_BUSY);
        seen_finish(&seen);
    }
}

/* ---- the program ---- */

static void embedded_begin(void)
{
    struct err err = {0};
    struct engine_options options = {
        .memory_total_bytes = UINT64_C(1) << 30,
        .memory_per_job_bytes = UINT64_C(512) << 20,
        .slots = 2,
        .threads_per_job = 2,
        .fetch_threads = 1,
        .program = "/proc/self/exe",
    };
    engine = engine_create(&options);
    if (!engine_start(engine, &err) || !engine_wait_ready(engine, &err)) {
        (void)fprintf(stderr, "no engine: %s (%s)\n", err.message, err.detail);
        exit(1);
    }
}

static int print_file(const char *format, const char *path)
{
    struct err err = {0};
    struct seen seen;
    seen_init(&seen);
    seen.print = stdout;
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    embedded_begin();
    bool good = read_body(strcmp(format, "arrow") == 0 ? LAKE_READ_ARROW : LAKE_READ_PARQUET, fd,
                          &seen, &err);
    (void)fprintf(stderr, "%.*s%s%s\n", STR_ARG(buf_str(&seen.columns)),
                  good ? "" : "error: ", good ? "ok" : err.message);
    seen_finish(&seen);
    engine_destroy(engine);
    return good ? 0 : 2;
}

static const struct test_case cases[] = {
    TEST_CASE(parquet_numbers),      TEST_CASE(parquet_texts), TEST_CASE(parquet_nested),
    TEST_CASE(parquet_without_rows), TEST_CASE(many_rows),     TEST_CASE(bodies_of_something_else),
    TEST_CASE(a_sink_that_refuses),
};

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "zygote") == 0) {
        return worker_zygote_main();
    }
    if (argc == 4 && strcmp(argv[1], "read") == 0) {
        return print_file(argv[2], argv[3]);
    }
    embedded_begin();
    int result = test_run(cases, COUNT_OF(cases), argc > 1 ? argv[1] : NULL);
    engine_destroy(engine);
    return result;
}
