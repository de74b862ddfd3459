#include "lake_rows.h"

#include "test.h"

enum {
    LINES_BYTES_MAX = 64 << 20
};

static struct json_span scan(struct str text)
{
    struct json_scanner scanner;
    struct json_span root = {.kind = JSON_NULL};
    struct err err;
    json_scanner_init(&scanner, text);
    scanner.allow_nonfinite = true;
    if (!json_scan_document(&scanner, &root, &err)) {
        fprintf(stderr, "%.*s: %s\n", STR_ARG(text), err.message);
    }
    return root;
}

static size_t longest_line(struct str lines)
{
    size_t longest = 0;
    struct str line;
    while (str_next_part(&lines, '\n', &line)) {
        longest = line.len > longest ? line.len : longest;
    }
    return longest;
}

static bool declare_one(const char *type, const char *value, struct lake_rows *rows,
                        struct err *err)
{
    CLEANUP(buf_finish) struct buf text = {0};
    struct lake_declared declared = {.source = STR("s"), .target = STR("n"), .type = str_of(type)};
    buf_init(&text, 4096);
    buf_append_format(&text, "[{},{\"s\":null},{\"x\":[],\"s\": %s }]", value);
    return lake_rows_declared(scan(buf_str(&text)), &declared, 1, LINES_BYTES_MAX, rows, err);
}

/* clang-format off */
static const struct { const char *type; const char *value; const char *text; } declared_rows[] = {
    { "VARCHAR", "12345678901", "12345678901" },
    { "varchar(10)", "1.50", "1.50" },
    { "TEXT", "true", "true" },
    { "VARCHAR", "{ \"a\" : [1, \"x\\n\"] }", "{\\\"a\\\":[1,\\\"x\\\\n\\\"]}" },
    { "VARCHAR", "\"a\\ud800b\"", "a\\ufffdb" },
    { "VARCHAR", "\"\\ud83d\\ude00\\udc00\"", "\\ud83d\\ude00\\ufffd" },
    { "VARCHAR", "[\"\\udc00\\\\ud800\"]", "[\\\"\\\\ufffd\\\\\\\\ud800\\\"]" },
    { "VARCHAR", "\"nul\\u0000\"", "nul\\u0000" },
    { "JSON", "{ \"a\": 1 }", "{\\\"a\\\":1}" },
    { "JSON", "\"{\\\"a\\\": 1}\"", "{\\\"a\\\": 1}" },
    { "JSON", "1.0", "1.0" },
    { "BIGINT", "9007199254740993", "9007199254740993" },
    { "bigint", "1.0", "1" },
    { "INTEGER", "1e3", "1000" },
    { "INT", "-12.50e1", "-125" },
    { "LONG", "10e-1", "1" },
    { "INT", "-0", "0" },
    { "INT", "-0.0e-999999999999999999999", "0" },
    { "INT", "0e99999999999999999999", "0" },
    { "BIGINT", "1e40", "1e40" },
    { "BIGINT", "1e99999999999999999999", "1e99999999999999999999" },
    { "HUGEINT", "1e38", "100000000000000000000000000000000000000" },
    { "HUGEINT", "170141183460469231731687303715884105727",
      "170141183460469231731687303715884105727" },
    { "TINYINT", "true", "1" },
    { "UBIGINT", "false", "0" },
    { "BIGINT", "\"1.0\"", "1" },
    { "BIGINT", "\" 42 \"", "42" },
    { "BIGINT", "\"\\u0034\\u0032.\"", "42" },
    { "BIGINT", "\"abc\"", "abc" },
    { "BIGINT", "\"\"", "" },
    { "BIGINT", "\"1e\"", "1e" },
    { "BIGINT", "[1]", "[1]" },
    { "BOOLEAN", "true", "true" },
    { "BOOLEAN", "0.00e5", "false" },
    { "bool", "-0", "false" },
    { "BOOLEAN", "0.001", "true" },
    { "BOOLEAN", "\"no\"", "no" },
    { "DOUBLE", "1e-7", "1e-7" },
    { "DECIMAL( 18 , 2 )", "1.005", "1.005" },
    { "DECIMAL(18,2)", "true", "1" },
    { "FLOAT", "\"nan\"", "nan" },
    { "TIMESTAMP", "\"2024-01-15T10:00:00+02:00\"", "2024-01-15T10:00:00+02:00" },
    { "DATE", "5", "5" },
    { "BLOB", "\"\\\\xFF\"", "\\\\xFF" },
};
/* clang-format on */

TEST(declared_values_become_text_for_the_cast)
{
    for (size_t i = 0; i < COUNT_OF(declared_rows); i++) {
        CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
        CLEANUP(buf_finish) struct buf expected = {0};
        struct err err;
        buf_init(&expected, 4096);
        buf_append_format(&expected, "{}\n{}\n{\"c0\":\"%s\"}\n", declared_rows[i].text);
        CHECK_OK(declare_one(declared_rows[i].type, declared_rows[i].value, &rows, &err), err);
        CHECK_STR(buf_str(&rows.lines), buf_str(&expected).ptr);
        bool wide = str_equal(str_of(declared_rows[i].type), STR("HUGEINT"));
        CHECK_STR(str_of(rows.columns[0].sql_type), wide ? "DECIMAL(38,0)" : declared_rows[i].type);
        CHECK_U64(rows.rows_count, 3);
        CHECK_U64(rows.line_size_max, longest_line(buf_str(&rows.lines)));
    }
}

TEST(fractions_for_integer_columns_are_refused)
{
    static const char *const rows[][3] = {
        {"BIGINT", "1.5", "data[2], column \"n\": 1.5 is not a whole number"},
        {"INTEGER", "15e-1", "data[2], column \"n\": 15e-1 is not a whole number"},
        {"uhugeint", "1e-9999999999999999999",
         "data[2], column \"n\": 1e-9999999999999999999 is not a whole number"},
        {"SHORT", "\"1.5\"", "data[2], column \"n\": \"1.5\" is not a whole number"},
        {"SHORT", "\"\\u002b.5\"", "data[2], column \"n\": \"\\u002b.5\" is not a whole number"},
        {"BIGINT", "NaN", "data[2], column \"n\": NaN is not a whole number"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct lake_rows result = {0};
        struct err err;
        CHECK(!declare_one(rows[i][0], rows[i][1], &result, &err));
        CHECK(err.kind == ERR_INVALID);
        CHECK_STR(str_of(err.message), rows[i][2]);
    }
}

TEST(declared_members_are_found_literally)
{
    static const struct lake_declared declared[] = {
        {{"a.b", 3}, {"first", 5}, {"VARCHAR", 7}},
        {{"toString", 8}, {"second", 6}, {"BIGINT", 6}},
        {{"a.b", 3}, {"third", 5}, {"BIGINT", 6}},
        {{"ID", 2}, {"", 0}, {"BIGINT", 6}},
    };
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    struct err err;
    struct json_span records = scan(
        STR("[{\"a\":{\"b\":9},\"id\":8,\"a.b\":1,\"\\u0061.b\":2.0},{\"ID\":3,\"__proto__\":1}]"));
    CHECK_OK(lake_rows_declared(records, declared, COUNT_OF(declared), 4096, &rows, &err), err);
    CHECK_STR(buf_str(&rows.lines), "{\"c2\":\"2\",\"c0\":\"2.0\"}\n{\"c3\":\"3\"}\n");
    CHECK_U64(rows.columns_count, 4);
    CHECK_STR(str_of(rows.columns[3].name), "");
}

TEST(declared_rows_may_be_none)
{
    struct lake_declared declared = {STR("a"), STR("a"), STR("DATE")};
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    struct err err;
    CHECK_OK(lake_rows_declared(scan(STR("[]")), &declared, 1, 4096, &rows, &err), err);
    CHECK_U64(rows.rows_count, 0);
    CHECK_U64(rows.columns_count, 1);
    CHECK_U64(rows.lines.len, 0);
}

TEST(lines_have_a_limit)
{
    const struct lake_declared declared = {STR("a"), STR("a"), STR("VARCHAR")};
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    struct err err;
    struct json_span records = scan(STR("[{\"a\":\"12345\"},{\"a\":[\"1\", 2345]}]"));
    CHECK(!lake_rows_declared(records, &declared, 1, 36, &rows, &err));
    CHECK(err.kind == ERR_TOO_LARGE);
    CHECK_OK(lake_rows_declared(records, &declared, 1, 37, &rows, &err), err);
    CHECK_U64(rows.lines.len, 37);
}

TEST(columns_have_a_limit)
{
    static struct lake_declared declared[LAKE_ROWS_COLUMNS_MAX + 1];
    static char names[COUNT_OF(declared)][8];
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    struct err err;
    for (size_t i = 0; i < COUNT_OF(declared); i++) {
        (void)snprintf(names[i], sizeof(names[i]), "c%zu", i);
        declared[i] = (struct lake_declared){str_of(names[i]), str_of(names[i]), STR("BIGINT")};
    }
    struct json_span records = scan(STR("[{\"c9999\":9999,\"c10000\":1}]"));
    CHECK_OK(lake_rows_declared(records, declared, LAKE_ROWS_COLUMNS_MAX, 4096, &rows, &err), err);
    CHECK_STR(buf_str(&rows.lines), "{\"c9999\":\"9999\"}\n");
    struct lake_rows none = {0};
    CHECK(!lake_rows_declared(records, declared, COUNT_OF(declared), 4096, &none, &err));
    CHECK(err.kind == ERR_INVALID);
}

TEST(wrong_declarations_are_refused)
{
    static const struct lake_declared twice[] = {
        {{"a", 1}, {"Total", 5}, {"DATE", 4}},
        {{"b", 1}, {"total", 5}, {"DATE", 4}},
    };
    static const struct lake_declared nul = {{"a", 1}, {"a\0b", 3}, {"DATE", 4}};
    struct lake_rows rows = {0};
    struct err err;
    struct json_span records = scan(STR("[{\"a\":1},[]]"));
    CHECK(!lake_rows_declared(records, twice, 2, 4096, &rows, &err));
    CHECK_STR(str_of(err.message), "columns[1].target \"total\" is that of columns[0]");
    CHECK(!lake_rows_declared(records, &nul, 1, 4096, &rows, &err));
    CHECK(!lake_rows_declared(records, twice, 0, 4096, &rows, &err));
    CHECK(!lake_rows_declared(records, twice, 1, 4096, &rows, &err));
    CHECK_STR(str_of(err.message), "data[1] must be an object");
    CHECK(!lake_rows_declared(records, twice, 1, 8, &rows, &err));
    CHECK(err.kind == ERR_TOO_LARGE);
}

static const struct test_case cases[] = {
    TEST_CASE(declared_values_become_text_for_the_cast),
    TEST_CASE(fractions_for_integer_columns_are_refused),
    TEST_CASE(declared_members_are_found_literally),
    TEST_CASE(declared_rows_may_be_none),
    TEST_CASE(lines_have_a_limit),
    TEST_CASE(columns_have_a_limit),
    TEST_CASE(wrong_declarations_are_refused),
};

TEST_MAIN(cases)
