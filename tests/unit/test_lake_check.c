#include "lake_check_fixture.h"

static const struct lake_check_options ndjson = {.input = LAKE_NDJSON, .day = 7};
static const struct lake_check_options json = {.input = LAKE_JSON, .day = 7};
static const struct lake_check_options csv = {.input = LAKE_CSV, .day = 7};
static const struct lake_check_options ndjson_keep = {.input = LAKE_NDJSON, .keep_bad = true};
static const struct lake_check_options json_keep = {.input = LAKE_JSON, .keep_bad = true};
static const struct lake_check_options csv_keep = {.input = LAKE_CSV, .keep_bad = true};

struct row {
    const char *body;
    const char *columns;
    const char *lines;
};

static void check_row(const struct lake_check_options *options, const struct row *row,
                      bool *test_failed)
{
    CLEANUP(outcome_finish) struct outcome outcome;
    struct err err;
    outcome_init(&outcome);
    CHECK_OK(take(options, &outcome, str_of(row->body), SIZE_MAX, &err), err);
    CHECK_STR(buf_str(&outcome.columns), row->columns);
    CHECK_STR(buf_str(&outcome.lines), row->lines);
}

#define ROWS(options, ...)                                                    \
    do {                                                                      \
        static const struct row rows[] = {__VA_ARGS__};                       \
        for (size_t row_index = 0; row_index < COUNT_OF(rows); row_index++) { \
            check_row(&options, &rows[row_index], test_failed);               \
            if (*test_failed) {                                               \
                TEST_FAIL("in row %zu: %s", row_index, rows[row_index].body); \
            }                                                                 \
        }                                                                     \
    } while (0)

TEST(types_are_those_of_the_first_records)
{
    ROWS(ndjson, {"{\"a\":true}\n{\"a\":false}", "a BOOLEAN", "{\"c0\":true}\n{\"c0\":false}\n"},
         {"{\"a\":1,\"b\":\"x\"}\n", "a BIGINT, b VARCHAR", "{\"c0\":1,\"c1\":\"x\"}\n"},
         {"{\"a\":-0}\n{\"a\":0}", "a BIGINT", "{\"c0\":0}\n{\"c0\":0}\n"},
         {"{\"a\":1.50}\n{\"a\":2}", "a DOUBLE", "{\"c0\":1.50}\n{\"c0\":2}\n"},
         {"{\"a\":9223372036854775807}\n{\"a\":1}", "a BIGINT inexact",
          "{\"c0\":9223372036854775807}\n{\"c0\":1}\n"},
         {"{\"a\":9223372036854775808}\n{\"a\":-0}", "a DECIMAL(38,0)",
          "{\"c0\":\"9223372036854775808\"}\n{\"c0\":\"0\"}\n"},
         {"{\"a\":1.5}\n{\"a\":9007199254740993}", "a VARCHAR mixed",
          "{\"c0\":\"1.5\"}\n{\"c0\":\"9007199254740993\"}\n"},
         {"{\"a\":1e999}", "a VARCHAR mixed", "{\"c0\":\"1e999\"}\n"},
         {"{\"a\":null}", "a VARCHAR provisional", "{}\n"},
         {"{\"a\":NaN}\n{\"a\":-Infinity}", "a DOUBLE",
          "{\"c0\":\"NaN\"}\n{\"c0\":\"-Infinity\"}\n"},
         {"{\"a\":1}\n{\"a\":\"x\"}", "a VARCHAR mixed", "{\"c0\":\"1\"}\n{\"c0\":\"x\"}\n"},
         {"{\"a\":{\"b\": [1, \"q\\\"\"]}}", "a VARCHAR",
          "{\"c0\":\"{\\\"b\\\":[1,\\\"q\\\\\\\"\\\"]}\"}\n"});
}

TEST(columns_widen_only_while_nothing_is_lost)
{
    static const struct {
        const char *first;
        const char *second;
        const char *columns;
        const char *lines; /* of the second */
    } pairs[] = {
        {"{\"a\":1}", "{\"a\":1.5}\n{\"a\":2}", "a DOUBLE", "{\"c0\":1.5}\n{\"c0\":2}\n"},
        {"{\"a\":9007199254740993}", "{\"a\":1.5}", "a BIGINT inexact, _rest VARCHAR",
         "{\"c1\":\"{\\\"a\\\":1.5}\"}\n"},
        {"{\"a\":1}", "{\"a\":9007199254740993}\n{\"a\":1.5}", "a BIGINT inexact, _rest VARCHAR",
         "{\"c0\":9007199254740993}\n{\"c1\":\"{\\\"a\\\":1.5}\"}\n"},
        {"{\"a\":1}", "{\"a\":9007199254740993}", "a BIGINT inexact",
         "{\"c0\":9007199254740993}\n"},
        {"{\"a\":1}", "{\"a\":\"x\"}", "a BIGINT, _rest VARCHAR",
         "{\"c1\":\"{\\\"a\\\":\\\"x\\\"}\"}\n"},
        {"{\"a\":1}", "{\"a\":1e999,\"b\":true}", "a BIGINT, _rest VARCHAR, b BOOLEAN",
         "{\"c2\":true,\"c1\":\"{\\\"a\\\":1e999}\"}\n"},
        {"{\"a\":1}", "{\"a\":9223372036854775808}", "a BIGINT, _rest VARCHAR",
         "{\"c1\":\"{\\\"a\\\":9223372036854775808}\"}\n"},
        {"{\"a\":1.5}", "{\"a\":9007199254740993}\n{\"a\":3}", "a DOUBLE, _rest VARCHAR",
         "{\"c1\":\"{\\\"a\\\":9007199254740993}\"}\n{\"c0\":3}\n"},
        {"{\"a\":true}", "{\"a\":1,\"A\":0}", "a BOOLEAN, _rest VARCHAR",
         "{\"c1\":\"{\\\"A\\\":0}\"}\n"},
        {"{\"a\":\"x\"}", "{\"a\":1}\n{\"a\":[1]}", "a VARCHAR, _rest VARCHAR",
         "{\"c1\":\"{\\\"a\\\":1}\"}\n{\"c0\":\"[1]\"}\n"},
        {"{\"a\":\"x\"}\n{\"a\":1}", "{\"a\":true}", "a VARCHAR mixed", "{\"c0\":\"true\"}\n"},
        {"{\"a\":null}", "{\"a\":null}\n{\"a\":true}", "a BOOLEAN", "{}\n{\"c0\":true}\n"},
        {"{\"a\":null}", "{\"a\":1.5}\n{\"a\":9007199254740993}", "a VARCHAR mixed",
         "{\"c0\":\"1.5\"}\n{\"c0\":\"9007199254740993\"}\n"},
        {"{\"a\":18446744073709551616}", "{\"a\":1.5}\n{\"a\":7}", "a DECIMAL(38,0), _rest VARCHAR",
         "{\"c1\":\"{\\\"a\\\":1.5}\"}\n{\"c0\":\"7\"}\n"},
        {"{\"a\":1}", "{\"a\":[NaN,{\"b\":-Infinity}]}", "a BIGINT, _rest VARCHAR",
         "{\"c1\":\"{\\\"a\\\":[\\\"NaN\\\",{\\\"b\\\":\\\"-Infinity\\\"}]}\"}\n"},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        CLEANUP(outcome_finish) struct outcome outcome;
        struct err err;
        outcome_init(&outcome);
        CHECK_OK(take(&ndjson, &outcome, str_of(pairs[i].first), SIZE_MAX, &err), err);
        buf_reset(&outcome.lines);
        outcome.passes_most = 0;
        CHECK_OK(take(&ndjson, &outcome, str_of(pairs[i].second), SIZE_MAX, &err), err);
        CHECK_STR(buf_str(&outcome.columns), pairs[i].columns);
        CHECK_STR(buf_str(&outcome.lines), pairs[i].lines);
        CHECK(outcome.passes_most <= 2);
    }
}

TEST(keys_that_are_one_column)
{
    ROWS(ndjson, {"{\"a\":1,\"b\":2,\"a\":3}", "a BIGINT, b BIGINT", "{\"c0\":3,\"c1\":2}\n"},
         {"{\"a\":1}\n{\"A\":\"x\",\"a\":5}", "a BIGINT", "{\"c0\":1}\n{\"c0\":5}\n"},
         {"{\"a\":1}\n{\"\\u0041\":5}", "a BIGINT", "{\"c0\":1}\n{\"c0\":5}\n"},
         {"{\"a\":1,\"a\":null}", "a VARCHAR provisional", "{}\n"},
         {"{\"a\":1}\n{\"a\":2,\"a\":null}", "a BIGINT", "{\"c0\":1}\n{}\n"},
         {"{\"_rest\":[1, 2],\"b\":1}", "_rest VARCHAR, b BIGINT",
          "{\"c1\":1,\"c0\":\"{\\\"_rest\\\":[1,2]}\"}\n"},
         {"{\"_REST\":1}\n{\"_rest\":null}\n{\"a\":2}", "_rest VARCHAR, a BIGINT",
          "{\"c0\":\"{\\\"_REST\\\":1}\"}\n{}\n{\"c1\":2}\n"},
         {"{}\n{}", "", "{}\n{}\n"});
}

TEST(lines_of_all_kinds)
{
    ROWS(ndjson,
         {"\xEF\xBB\xBF{\"a\":1}\n\n  \r\n {\"a\" : 2 }\t\r\n", "a BIGINT",
          "{\"c0\":1}\n{\"c0\":2}\n"},
         {"", "", ""}, {"\n\n", "", ""},
         {"{\"a\":\"\\u0041\\n\\/\"}", "a VARCHAR", "{\"c0\":\"\\u0041\\n\\/\"}\n"});
}

TEST(arrays_and_single_objects)
{
    ROWS(json, {"[]", "", ""}, {" [ ] \n", "", ""}, {"{\"a\":1}", "a BIGINT", "{\"c0\":1}\n"},
         {"[{\"a\":1},{\"a\":2}]", "a BIGINT", "{\"c0\":1}\n{\"c0\":2}\n"},
         {"\xEF\xBB\xBF [\n {\"a\" : 1 } ,\r\n{ \"a\":\n2}\t]\n", "a BIGINT",
          "{\"c0\":1}\n{\"c0\":2}\n"},
         {"[{\"a\":{\"b\":\"]}\\\"\"}}]", "a VARCHAR",
          "{\"c0\":\"{\\\"b\\\":\\\"]}\\\\\\\"\\\"}\"}\n"});
}

TEST(bodies_that_are_none)
{
    static const struct {
        const struct lake_check_options *options;
        const char *body;
        enum err_kind kind;
    } bodies[] = {
        {&json, "", ERR_INVALID},
        {&json, "5", ERR_INVALID},
        {&json, "[", ERR_INVALID},
        {&json, "[{}", ERR_INVALID},
        {&json, "[{},", ERR_INVALID},
        {&json, "[{},]", ERR_UNPROCESSABLE},
        {&json, "[{}]]", ERR_UNPROCESSABLE},
        {&json, "[{} {}]", ERR_UNPROCESSABLE},
        {&json, "[1]", ERR_UNPROCESSABLE},
        {&json, "{} {}", ERR_UNPROCESSABLE},
        {&json, "[{\"a\":1}}", ERR_UNPROCESSABLE},
        {&csv, "", ERR_INVALID},
        {&csv, "a,\n1,2\n", ERR_INVALID},
        {&csv, "\"a\n1,2\n", ERR_INVALID},
        {&csv, "a\xFF\n1\n", ERR_INVALID},
    };
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        CLEANUP(outcome_finish) struct outcome outcome;
        struct err err = {0};
        outcome_init(&outcome);
        bool good = take(bodies[i].options, &outcome, str_of(bodies[i].body), SIZE_MAX, &err);
        if (good || err.kind != bodies[i].kind) {
            TEST_FAIL("%s: %s (%d)", bodies[i].body, good ? "taken" : err.message, err.kind);
        }
    }
}

TEST(bad_records_are_named)
{
    static const struct {
        const struct lake_check_options *options;
        const char *body;
        const char *bad;
        const char *lines;
    } bodies[] = {
        {&ndjson_keep, "{\"a\":1}\n{\"a\":01}\n{\"a\":2}",
         "1@14 Expecting ',' delimiter: {\"a\":01}\n", "{\"c0\":1}\n{\"c0\":2}\n"},
        {&ndjson_keep, "x\n{\"a\":1}\n[1]\n",
         "0@0 Expecting value: x\n2@10 the record is not an object: [1]\n", "{\"c0\":1}\n"},
        {&ndjson_keep, "{\"b\":1,\"a\":\"\\ud800\"}\n{\"a\":\"\\ud83d\\ude00\"}",
         "0@12 an unpaired surrogate escape: {\"b\":1,\"a\":\"\\ud800\"}\n",
         "{\"c0\":\"\\ud83d\\ude00\"}\n"},
        {&ndjson_keep, "{\"a\":\"\xFF\"}\n{\"a\":\"\xC3\xA4\"}\n{\"a\":\"\xC3\"}",
         "0@6 not UTF-8: {\"a\":\"\xFF\"}\n2@27 not UTF-8: {\"a\":\"\xC3\"}\n",
         "{\"c0\":\"\xC3\xA4\"}\n"},
        {&ndjson_keep, "{\"\":1}\n{\"a\\u0000\":1}\n{\"a\":1}",
         "0@1 a column name is empty: {\"\":1}\n"
         "1@8 a column name holds a control character: {\"a\\u0000\":1}\n",
         "{\"c0\":1}\n"},
        {&ndjson_keep, "{\"a\":1} {\"a\":2}\n{\"a\":3",
         "0@8 Extra data: {\"a\":1} {\"a\":2}\n"
         "1@22 Expecting ',' delimiter: {\"a\":3\n",
         ""},
        {&json_keep, "[{\"a\":1},7,{\"a\":tru},{\"a\":2}]",
         "1@9 the record is not an object: 7\n2@16 Expecting value: {\"a\":tru}\n",
         "{\"c0\":1}\n{\"c0\":2}\n"},
        {&json_keep, "[{\"a\":1},{\"a\":\"x},{\"a\":3}]",
         "1@20 Expecting ',' delimiter: {\"a\":\"x},{\"a\":3}]\n", "{\"c0\":1}\n"},
        {&json_keep, "[{\"a\":1}]x", "1@9 Extra data: x\n", "{\"c0\":1}\n"},
        {&csv_keep, "a,b\n1,2\n1\n\"x\"y,2\nx\"y,2\n3,\xFF\n5,\"",
         "1@8 1 fields, where the header has 2: 1\n"
         "2@13 text after the quote that closes a field: \"x\"y,2\n"
         "3@18 a quote inside a field that has none around it: x\"y,2\n"
         "4@25 not UTF-8: 3,\xFF\n"
         "5@27 a quoted field does not end: 5,\"\n",
         "{\"c0\":1,\"c1\":2}\n"},
    };
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        for (size_t piece = 1; piece < 40; piece++) {
            CLEANUP(outcome_finish) struct outcome outcome;
            struct err err = {0};
            outcome_init(&outcome);
            CHECK_OK(take(bodies[i].options, &outcome, str_of(bodies[i].body), piece, &err), err);
            CHECK_STR(buf_str(&outcome.bad), bodies[i].bad);
            CHECK_STR(buf_str(&outcome.lines), bodies[i].lines);
        }
    }
}

TEST(csv_fields)
{
    ROWS(csv,
         {"a,b\n1,x\n2,y\n", "a BIGINT, b VARCHAR",
          "{\"c0\":1,\"c1\":\"x\"}\n{\"c0\":2,\"c1\":\"y\"}\n"},
         {"\xEF\xBB\xBF\"a\",b\r\n\"1\",\r\n,\"\"", "a BIGINT, b VARCHAR",
          "{\"c0\":1}\n{\"c1\":\"\"}\n"},
         {"a,b\n\"x\"\"y\nz\",01\nq,+1\n", "a VARCHAR, b VARCHAR",
          "{\"c0\":\"x\\\"y\\nz\",\"c1\":\"01\"}\n{\"c0\":\"q\",\"c1\":\"+1\"}\n"},
         {"a,b\n1,true\nx,1.5\n", "a VARCHAR, b VARCHAR",
          "{\"c0\":\"1\",\"c1\":\"true\"}\n{\"c0\":\"x\",\"c1\":\"1.5\"}\n"},
         {"a,b,A\n1,true,3\n2,false,1e3\n", "b BOOLEAN, A DOUBLE",
          "{\"c0\":true,\"c1\":3}\n{\"c0\":false,\"c1\":1e3}\n"},
         {"a\n1\n\n2", "a BIGINT", "{\"c0\":1}\n{}\n{\"c0\":2}\n"},
         {"a,b\n\n,\n", "a VARCHAR provisional, b VARCHAR provisional", "{}\n"},
         {"a,_rest\n1,2\n", "a BIGINT, _rest VARCHAR",
          "{\"c0\":1,\"c1\":\"{\\\"_rest\\\":\\\"2\\\"}\"}\n"},
         {"a b\n1\n", "a b BIGINT", "{\"c0\":1}\n"});
}

static const struct test_case cases[] = {
    TEST_CASE(types_are_those_of_the_first_records),
    TEST_CASE(columns_widen_only_while_nothing_is_lost),
    TEST_CASE(keys_that_are_one_column),
    TEST_CASE(lines_of_all_kinds),
    TEST_CASE(arrays_and_single_objects),
    TEST_CASE(bodies_that_are_none),
    TEST_CASE(bad_records_are_named),
    TEST_CASE(csv_fields),
};

TEST_MAIN(cases)
