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

/* The columns as text: name TYPE/read as, ... */
static void describe(const struct lake_rows *rows, struct buf *into)
{
    for (size_t i = 0; i < rows->columns_count; i++) {
        const struct lake_column *column = &rows->columns[i];
        buf_append_format(into, "%s%s %s/%s", i > 0 ? ", " : "", column->name, column->sql_type,
                          column->line_type);
    }
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

struct infer_row {
    const char *records;
    const char *columns;
    const char *lines;
};

static void check_inferred(const struct infer_row *row, bool *test_failed)
{
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    CLEANUP(buf_finish) struct buf columns = {0};
    struct err err;
    buf_init(&columns, 4096);
    CHECK_OK(lake_rows_infer(scan(str_of(row->records)), LINES_BYTES_MAX, &rows, &err), err);
    describe(&rows, &columns);
    CHECK_STR(buf_str(&columns), row->columns);
    CHECK_STR(buf_str(&rows.lines), row->lines);
    CHECK_U64(rows.rows_count, json_count(scan(str_of(row->records))));
    CHECK_U64(rows.line_size_max, longest_line(buf_str(&rows.lines)));
}

#define INFERRED(...)                                                                  \
    do {                                                                               \
        static const struct infer_row infer_rows[] = {__VA_ARGS__};                    \
        for (size_t row_index = 0; row_index < COUNT_OF(infer_rows); row_index++) {    \
            check_inferred(&infer_rows[row_index], test_failed);                       \
            if (*test_failed) {                                                        \
                TEST_FAIL("in row %zu: %s", row_index, infer_rows[row_index].records); \
            }                                                                          \
        }                                                                              \
    } while (0)

TEST(each_type_is_inferred)
{
    INFERRED(
        {"[{\"a\":true},{\"a\":false}]", "a BOOLEAN/BOOLEAN", "{\"c0\":true}\n{\"c0\":false}\n"},
        {"[{\"a\":1,\"b\":\"x\"}]", "a BIGINT/BIGINT, b VARCHAR/VARCHAR",
         "{\"c0\":1,\"c1\":\"x\"}\n"},
        {"[{\"a\":-0},{\"a\":0}]", "a BIGINT/BIGINT", "{\"c0\":0}\n{\"c0\":0}\n"},
        {"[{\"a\":1.50},{\"a\":2}]", "a DOUBLE/DOUBLE", "{\"c0\":1.50}\n{\"c0\":2}\n"},
        {"[{\"a\":NaN},{\"a\":-Infinity},{\"a\":1}]", "a DOUBLE/DOUBLE",
         "{\"c0\":\"NaN\"}\n{\"c0\":\"-Infinity\"}\n{\"c0\":1}\n"},
        {"[{\"a\":null}]", "a VARCHAR/VARCHAR", "{}\n"},
        {"[{\"a\":null},{\"a\":7}]", "a BIGINT/BIGINT", "{}\n{\"c0\":7}\n"},
        {"[{\"a\":true},{\"a\":1}]", "a VARCHAR/VARCHAR", "{\"c0\":\"true\"}\n{\"c0\":\"1\"}\n"},
        {"[{\"a\":1.10},{\"a\":\"x\"},{\"a\":NaN}]", "a VARCHAR/VARCHAR",
         "{\"c0\":\"1.10\"}\n{\"c0\":\"x\"}\n{\"c0\":\"NaN\"}\n"},
        {"[{\"a\":false},{\"a\":1.5}]", "a VARCHAR/VARCHAR",
         "{\"c0\":\"false\"}\n{\"c0\":\"1.5\"}\n"});
}

TEST(integers_keep_every_digit)
{
    INFERRED({"[{\"v\":9007199254740993}]", "v BIGINT/BIGINT", "{\"c0\":9007199254740993}\n"},
             {"[{\"v\":-9223372036854775808},{\"v\":9223372036854775807}]", "v BIGINT/BIGINT",
              "{\"c0\":-9223372036854775808}\n{\"c0\":9223372036854775807}\n"},
             {"[{\"v\":9223372036854775808},{\"v\":-0}]", "v DECIMAL(38,0)/VARCHAR",
              "{\"c0\":\"9223372036854775808\"}\n{\"c0\":\"0\"}\n"},
             {"[{\"v\":-9223372036854775809}]", "v DECIMAL(38,0)/VARCHAR",
              "{\"c0\":\"-9223372036854775809\"}\n"},
             {"[{\"v\":12345678901234567890},{\"v\":1}]", "v DECIMAL(38,0)/VARCHAR",
              "{\"c0\":\"12345678901234567890\"}\n{\"c0\":\"1\"}\n"},
             {"[{\"v\":-99999999999999999999999999999999999999}]", "v DECIMAL(38,0)/VARCHAR",
              "{\"c0\":\"-99999999999999999999999999999999999999\"}\n"},
             {"[{\"v\":100000000000000000000000000000000000000}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"100000000000000000000000000000000000000\"}\n"},
             {"[{\"v\":1},{\"v\":true},{\"v\":12345678901234567890}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"1\"}\n{\"c0\":\"true\"}\n{\"c0\":\"12345678901234567890\"}\n"});
}

TEST(integers_among_reals_must_be_exact)
{
    INFERRED({"[{\"v\":9007199254740992},{\"v\":0.5}]", "v DOUBLE/DOUBLE",
              "{\"c0\":9007199254740992}\n{\"c0\":0.5}\n"},
             {"[{\"v\":9007199254740993},{\"v\":0.5}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"9007199254740993\"}\n{\"c0\":\"0.5\"}\n"},
             {"[{\"v\":0.5},{\"v\":-9007199254740993}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"0.5\"}\n{\"c0\":\"-9007199254740993\"}\n"},
             {"[{\"v\":9007199254740994},{\"v\":0.5}]", "v DOUBLE/DOUBLE",
              "{\"c0\":9007199254740994}\n{\"c0\":0.5}\n"},
             {"[{\"v\":-9223372036854775808},{\"v\":1e2}]", "v DOUBLE/DOUBLE",
              "{\"c0\":-9223372036854775808}\n{\"c0\":1e2}\n"},
             {"[{\"v\":9223372036854775807},{\"v\":1e2}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"9223372036854775807\"}\n{\"c0\":\"1e2\"}\n"},
             {"[{\"v\":36893488147419103232},{\"v\":1.0}]", "v DOUBLE/DOUBLE",
              "{\"c0\":36893488147419103232}\n{\"c0\":1.0}\n"},
             {"[{\"v\":36893488147419103233},{\"v\":1.0}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"36893488147419103233\"}\n{\"c0\":\"1.0\"}\n"},
             {"[{\"v\":10000000000000000000000},{\"v\":1.0}]", "v DOUBLE/DOUBLE",
              "{\"c0\":10000000000000000000000}\n{\"c0\":1.0}\n"},
             {"[{\"v\":9007199254740993},{\"v\":NaN}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"9007199254740993\"}\n{\"c0\":\"NaN\"}\n"});
}

TEST(reals_beyond_a_double_keep_their_digits)
{
    INFERRED(
        {"[{\"v\":1e400},{\"v\":1.5}]", "v VARCHAR/VARCHAR",
         "{\"c0\":\"1e400\"}\n{\"c0\":\"1.5\"}\n"},
        {"[{\"v\":-1E+309}]", "v VARCHAR/VARCHAR", "{\"c0\":\"-1E+309\"}\n"},
        {"[{\"v\":1e308},{\"v\":1e-400}]", "v DOUBLE/DOUBLE", "{\"c0\":1e308}\n{\"c0\":1e-400}\n"});
}

TEST(nested_values_become_json_text)
{
    INFERRED(
        {"[{\"v\":{ \"k\" : [ 1 , \"a b\" ] }}]", "v VARCHAR/VARCHAR",
         "{\"c0\":\"{\\\"k\\\":[1,\\\"a b\\\"]}\"}\n"},
        {"[{\"v\":[ \"q\\\"\\\\\\n\\u0041\" ]},{\"v\":1}]", "v VARCHAR/VARCHAR",
         "{\"c0\":\"[\\\"q\\\\\\\"\\\\\\\\\\\\n\\\\u0041\\\"]\"}\n{\"c0\":\"1\"}\n"},
        {"[{\"v\":[]},{\"v\":{}}]", "v VARCHAR/VARCHAR", "{\"c0\":\"[]\"}\n{\"c0\":\"{}\"}\n"});
}

TEST(strings_keep_their_escapes)
{
    INFERRED({"[{\"v\":\"a\\u0000\\n\\\"\\ud83d\\ude00 \xC3\xA9\"}]", "v VARCHAR/VARCHAR",
              "{\"c0\":\"a\\u0000\\n\\\"\\ud83d\\ude00 \xC3\xA9\"}\n"},
             {"[{\"v\":\"\"}]", "v VARCHAR/VARCHAR", "{\"c0\":\"\"}\n"});
}

TEST(columns_are_the_union_in_order_of_appearance)
{
    INFERRED({"[{\"a\":1},{\"b\":2},{},{\"b\":3,\"a\":4}]", "a BIGINT/BIGINT, b BIGINT/BIGINT",
              "{\"c0\":1}\n{\"c1\":2}\n{}\n{\"c1\":3,\"c0\":4}\n"},
             {"[{\"\xC3\xA9\":1,\"\":2},{\"\\u00e9\":3,\"\xC3\x89\":4}]",
              "\xC3\xA9 BIGINT/BIGINT,  BIGINT/BIGINT, \xC3\x89 BIGINT/BIGINT",
              "{\"c0\":1,\"c1\":2}\n{\"c0\":3,\"c2\":4}\n"});
}

TEST(the_last_duplicate_wins_before_types_are_inferred)
{
    INFERRED(
        {"[{\"a\":\"x\",\"a\":1}]", "a BIGINT/BIGINT", "{\"c0\":1}\n"},
        {"[{\"a\":1,\"b\":2,\"a\":null}]", "a VARCHAR/VARCHAR, b BIGINT/BIGINT", "{\"c1\":2}\n"},
        {"[{\"Id\":1,\"id\":2}]", "Id BIGINT/BIGINT", "{\"c0\":2}\n"},
        {"[{\"Id\":1},{\"ID\":2},{\"iD\":3,\"x\":1}]", "Id BIGINT/BIGINT, x BIGINT/BIGINT",
         "{\"c0\":1}\n{\"c0\":2}\n{\"c0\":3,\"c1\":1}\n"},
        {"[{\"a\":\"\\ud800\",\"\\u0061\":1}]", "a BIGINT/BIGINT", "{\"c0\":1}\n"},
        {"[{\"a[\":1,\"a{\":2,\"A@\":3,\"a`\":4,\"aZ\":5,\"Az\":6}]",
         "a[ BIGINT/BIGINT, a{ BIGINT/BIGINT, A@ BIGINT/BIGINT, a` BIGINT/BIGINT, aZ BIGINT/BIGINT",
         "{\"c0\":1,\"c1\":2,\"c2\":3,\"c3\":4,\"c4\":6}\n"});
}
TEST(what_cannot_be_stored_is_named)
{
    static const char *const rows[][2] = {
        {"[{\"v\":1},{},{},{\"v\":\"\\ud800\"}]",
         "record 3, column \"v\": the string has an unpaired surrogate escape"},
        {"[{\"v\":[{\"x\":\"\\udc00\\ud800\"}]}]",
         "record 0, column \"v\": the nested value has an unpaired surrogate escape"},
        {"[{},{\"\\ud800\":1}]", "record 1: a column name has an unpaired surrogate escape"},
        {"[{\"a\\u0000b\":1}]", "record 0: a column name holds a NUL character"},
        {"[{\"a\":1},5]", "record 1 is not an object"},
        {"[{},{}]", "the records have no columns"},
        {"[]", "the records have no columns"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct lake_rows result = {0};
        struct err err;
        CHECK(!lake_rows_infer(scan(str_of(rows[i][0])), LINES_BYTES_MAX, &result, &err));
        CHECK(err.kind == ERR_INVALID);
        CHECK_STR(str_of(err.message), rows[i][1]);
        CHECK(result.columns == NULL);
    }
}

/* One record with so many columns, or as many records with one each. */
static bool infer_wide(size_t columns, bool spread, struct lake_rows *rows, struct err *err)
{
    CLEANUP(buf_finish) struct buf text = {0};
    buf_init(&text, 1 << 20);
    buf_append_text(&text, "[{");
    for (size_t i = 0; i < columns; i++) {
        buf_append_format(&text, "%s\"Column%zu\":%zu", i == 0 ? "" : spread ? "},{" : ",", i, i);
    }
    buf_append_text(&text, "}]");
    return lake_rows_infer(scan(buf_str(&text)), LINES_BYTES_MAX, rows, err);
}

TEST(columns_have_a_limit)
{
    struct err err;
    for (int spread = 0; spread < 2; spread++) {
        struct lake_rows rows = {0};
        CHECK_OK(infer_wide(LAKE_ROWS_COLUMNS_MAX, spread == 1, &rows, &err), err);
        CHECK_U64(rows.columns_count, LAKE_ROWS_COLUMNS_MAX);
        CHECK_STR(str_of(rows.columns[9999].name), "Column9999");
        CHECK(str_ends(buf_str(&rows.lines), STR("\"c9999\":9999}\n")));
        lake_rows_finish(&rows);
        CHECK(!infer_wide(LAKE_ROWS_COLUMNS_MAX + 1, spread == 1, &rows, &err));
        CHECK(err.kind == ERR_INVALID);
        CHECK_STR(str_of(err.message), spread == 1 ? "record 10000: more than 10000 columns in all"
                                                   : "record 0: more than 10000 columns in all");
    }
}

TEST(lines_have_a_limit)
{
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    struct err err;
    struct json_span records = scan(STR("[{\"a\":\"12345\"},{\"a\":[\"1\", 2345]}]"));
    CHECK(!lake_rows_infer(records, 36, &rows, &err));
    CHECK(err.kind == ERR_TOO_LARGE);
    CHECK_OK(lake_rows_infer(records, 37, &rows, &err), err);
    CHECK_U64(rows.lines.len, 37);
}

/* --- declared -------------------------------------------------------------------------- */

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
        CHECK_STR(str_of(rows.columns[0].line_type), "VARCHAR");
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
    TEST_CASE(each_type_is_inferred),
    TEST_CASE(integers_keep_every_digit),
    TEST_CASE(integers_among_reals_must_be_exact),
    TEST_CASE(reals_beyond_a_double_keep_their_digits),
    TEST_CASE(nested_values_become_json_text),
    TEST_CASE(strings_keep_their_escapes),
    TEST_CASE(columns_are_the_union_in_order_of_appearance),
    TEST_CASE(the_last_duplicate_wins_before_types_are_inferred),
    TEST_CASE(what_cannot_be_stored_is_named),
    TEST_CASE(columns_have_a_limit),
    TEST_CASE(lines_have_a_limit),
    TEST_CASE(declared_values_become_text_for_the_cast),
    TEST_CASE(fractions_for_integer_columns_are_refused),
    TEST_CASE(declared_members_are_found_literally),
    TEST_CASE(declared_rows_may_be_none),
    TEST_CASE(wrong_declarations_are_refused),
};

TEST_MAIN(cases)
