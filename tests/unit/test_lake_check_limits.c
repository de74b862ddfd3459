#include "lake_check_fixture.h"

static const struct lake_check_options ndjson = {.input = LAKE_NDJSON, .day = 7};
static const struct lake_check_options json = {.input = LAKE_JSON, .day = 7};
static const struct lake_check_options csv = {.input = LAKE_CSV, .day = 7};
static const struct lake_check_options ndjson_keep = {.input = LAKE_NDJSON, .keep_bad = true};

/* A schema made by declaring it. */
static const struct lake_schema *declared(const char *document)
{
    const struct lake_schema *empty = lake_schema_create_empty();
    const struct lake_schema *made = NULL;
    struct json_scanner scanner;
    struct json_span root;
    struct err err;
    json_scanner_init(&scanner, str_of(document));
    if (!json_scan_document(&scanner, &root, &err) ||
        !lake_schema_declare(empty, root, &made, &err)) {
        fprintf(stderr, "%s: %s\n", document, err.message);
    }
    lake_schema_drop(empty);
    return made;
}

static void check_days(const char *type, const char *body, const struct lake_check_options *options,
                       const char *days, const char *bad, bool *test_failed)
{
    CLEANUP(outcome_finish) struct outcome outcome;
    struct err err = {0};
    char document[200];
    (void)snprintf(document, sizeof(document),
                   "{\"columns\":[{\"name\":\"a\",\"type\":\"%s\"}],\"partition_by\":\"A\"}", type);
    outcome_init(&outcome);
    lake_schema_drop(outcome.schema);
    outcome.schema = declared(document);
    CHECK(outcome.schema != NULL);
    CHECK_OK(take(options, &outcome, str_of(body), SIZE_MAX, &err), err);
    CHECK_STR(buf_str(&outcome.days), days);
    CHECK_STR(buf_str(&outcome.bad), bad);
}

TEST(rows_go_to_the_day_of_their_column)
{
    static const struct lake_check_options keep = {
        .input = LAKE_NDJSON, .keep_bad = true, .day = 7};
    static const struct lake_check_options given = {
        .input = LAKE_NDJSON, .day = 7, .day_given = true};
    static const struct {
        const char *value;
        const char *day; /* NULL: bad */
    } texts[] = {
        {"1970-01-01", "0:1 "},
        {"1969-12-31", "-1:1 "},
        {"0001-01-01", "-719162:1 "},
        {"9999-12-31", "2932896:1 "},
        {"2024-02-29", "19782:1 "},
        {"2000-03-01T00:00:00", "11017:1 "},
        {"2000-03-01 23:59:59.999999", "11017:1 "},
        {"2000-03-01T00:00Z", "11017:1 "},
        {"2000-03-01T01:00:00+02:00", "11016:1 "},
        {"2000-03-01T23:00:00-0100", "11018:1 "},
        {"2000-03-01T22:59:59.5-01", "11017:1 "},
        {"2000-03-01\\u0054\\u0031\\u0032:00", "11017:1 "},
        {"2023-02-29", NULL},
        {"2024-13-01", NULL},
        {"2024-1-01", NULL},
        {"24-01-01", NULL},
        {"2024-01-01x", NULL},
        {"2024-01-01T", NULL},
        {"2024-01-01T24:00", NULL},
        {"2024-01-01T10:60", NULL},
        {"2024-01-01T10:00.", NULL},
        {"2024-01-01T10:00:00.", NULL},
        {"2024-01-01T10:00+", NULL},
        {"2024-01-01T10:00+01:", NULL},
        {"2024-01-01T10:00ZZ", NULL},
        {"0001-01-01T00:00+01:00", NULL},
        {"9999-12-31T23:00-01:00", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        char body[128];
        char bad[256];
        (void)snprintf(body, sizeof(body), "{\"a\":\"%s\"}", texts[i].value);
        (void)snprintf(bad, sizeof(bad), "0@5 column \"a\" holds no date to partition by: %s\n",
                       body);
        check_days(i % 2 == 0 ? "TIMESTAMP" : "DATE", body, &keep,
                   texts[i].day == NULL ? "" : texts[i].day, texts[i].day == NULL ? bad : "",
                   test_failed);
        if (*test_failed) {
            TEST_FAIL("in %s", texts[i].value);
        }
    }
    const char *texts_body = "{\"b\":1}\n{\"A\":\"1970-01-02\"}\n{\"a\":\"1970-01-02\",\"b\":2}\n"
                             "{\"a\":null}\n{\"a\":\"1970-01-02\"}\n{\"a\":1,\"A\":\"1970-01-09\"}";
    check_days("TIMESTAMPTZ", texts_body, &keep, "7:1 1:2 7:1 1:1 8:1 ", "", test_failed);
    check_days("TIMESTAMPTZ", texts_body, &given, "7:6 ", "", test_failed);
    check_days("BIGINT",
               "{\"a\":86399999}\n{\"a\":86400000}\n{\"a\":-1}\n{\"a\":\"x\"}\n{\"a\":-0}", &keep,
               "0:1 1:1 -1:1 7:1 0:1 ", "", test_failed);
    check_days("BIGINT", "{\"a\":9223372036854775807}", &keep, "",
               "0@5 column \"a\" holds no date to partition by: {\"a\":9223372036854775807}\n",
               test_failed);
    check_days("DATE", "{\"a\":5}", &keep, "",
               "0@5 column \"a\" holds no date to partition by: {\"a\":5}\n", test_failed);
}

TEST(limits_are_kept)
{
    static const struct lake_check_options small = {
        .input = LAKE_NDJSON, .record_size_max = 10, .keep_bad = true};
    static const struct lake_check_options narrow = {.input = LAKE_NDJSON, .lines_size_max = 12};
    static const struct {
        const struct lake_check_options *options;
        const char *body;
        enum err_kind kind;
    } bodies[] = {
        {&small, "{\"a\":1234}\n{\"a\":1}", ERR_NONE},
        {&small, "{\"a\":12345}", ERR_TOO_LARGE},
        {&small, "{\"a\":1}\n{\"a\":123456", ERR_TOO_LARGE},
        {&narrow, "{\"a\":123}\n", ERR_NONE},
        {&narrow, "{\"a\":123}\n{\"a\":123}\n", ERR_TOO_LARGE},
    };
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        for (size_t piece = 1; piece < 30; piece++) {
            CLEANUP(outcome_finish) struct outcome outcome;
            struct err err = {0};
            outcome_init(&outcome);
            bool good = take(bodies[i].options, &outcome, str_of(bodies[i].body),
                             bodies[i].options == &narrow ? SIZE_MAX : piece, &err);
            CHECK(good == (bodies[i].kind == ERR_NONE));
            CHECK(good || err.kind == bodies[i].kind);
        }
    }
}

TEST(a_record_with_too_many_columns_is_bad)
{
    CLEANUP(outcome_finish) struct outcome outcome;
    CLEANUP(buf_finish) struct buf body = {0};
    struct err err = {0};
    outcome_init(&outcome);
    buf_init(&body, 1 << 20);
    buf_append_byte(&body, '{');
    for (unsigned i = 0; i < LAKE_COLUMNS_MAX; i++) {
        buf_append_format(&body, "\"k%u\":%u,", i, i);
    }
    body.ptr[body.len - 1] = '}';
    buf_append_text(&body, "\n{\"k0\":1,\"other\":1}\n{\"K1\":5}");
    CHECK_OK(take(&ndjson_keep, &outcome, buf_str(&body), SIZE_MAX, &err), err);
    CHECK_U64(outcome.rows, 2);
    CHECK_U64(outcome.schema->columns_count, LAKE_COLUMNS_MAX);
    CHECK(str_find(buf_str(&outcome.bad), STR(" more than 10000 columns in all: {")) <
          outcome.bad.len);
}

/* Whatever the pieces, the result is the same once the schema is there. */
TEST(pieces_cut_anywhere)
{
    static const struct {
        const struct lake_check_options *options;
        const char *body;
    } bodies[] = {
        {&ndjson,
         "\xEF\xBB\xBF{\"a\":1,\"b\":\"x\\\"\\\\\"}\r\n\n{\"b\":\"\xC3\xA4\"}\n {\"a\":12345678901,"
         "\"b\":[1, {\"c\":\"}\"}]}\n{\"b\":null,\"a\":-3}"},
        {&json,
         "\xEF\xBB\xBF [ {\"a\":1,\"b\":\"x\\\"\\\\\"} ,{\"b\":\"\xC3\xA4\"},{\"a\":12345678901,"
         "\"b\":[1, {\"c\":\"}\"}]}\n, {\"b\":null,\"a\":-3}] "},
        {&csv, "\xEF\xBB\xBF\"a\",b\r\n1,\"x,\"\"\r\ny\"\r\n,\"\"\n2,\xC3\xA4\n3,\n4,\"z\""},
    };
    for (size_t i = 0; i < COUNT_OF(bodies); i++) {
        struct err err = {0};
        CLEANUP(outcome_finish) struct outcome whole;
        outcome_init(&whole);
        CHECK_OK(take(bodies[i].options, &whole, str_of(bodies[i].body), SIZE_MAX, &err), err);
        buf_reset(&whole.lines);
        CHECK_OK(take(bodies[i].options, &whole, str_of(bodies[i].body), SIZE_MAX, &err), err);
        for (size_t piece = 1; piece < strlen(bodies[i].body); piece++) {
            CLEANUP(outcome_finish) struct outcome cut;
            outcome_init(&cut);
            lake_schema_drop(cut.schema);
            cut.schema = lake_schema_keep(whole.schema);
            CHECK_OK(take(bodies[i].options, &cut, str_of(bodies[i].body), piece, &err), err);
            CHECK(str_equal(buf_str(&cut.lines), buf_str(&whole.lines)));
            CHECK(str_equal(buf_str(&cut.columns), buf_str(&whole.columns)));
        }
    }
}

TEST(known_types_are_those_of_new_columns)
{
    static const struct lake_known_type known[] = {
        {{"A", 1}, {"integer", 7}}, {{"b", 1}, {"DOUBLE", 6}},
        {{"c", 1}, {"BOOLEAN", 7}}, {{"d", 1}, {"STRUCT(x INTEGER)", 17}},
        {{"e", 1}, {"VARCHAR", 7}},
    };
    struct lake_check_options options = ndjson;
    CLEANUP(outcome_finish) struct outcome outcome;
    struct err err = {0};
    size_t used;
    struct str body = STR("{\"a\":1,\"b\":2,\"c\":3,\"d\":[1],\"e\":null}\n");
    outcome_init(&outcome);
    options.lines_size_max = LINES_SIZE_MAX;
    options.record_size_max = LINES_SIZE_MAX;
    struct lake_check *check = lake_check_create(&options);
    lake_check_know_types(check, known, COUNT_OF(known));
    bool good = feed(check, &outcome, body, true, &used, &err);
    lake_check_destroy(check);
    CHECK_OK(good, err);
    describe(&outcome);
    CHECK_STR(buf_str(&outcome.columns),
              "a INTEGER, _rest VARCHAR, b DOUBLE, c BOOLEAN, d VARCHAR, e VARCHAR");
    CHECK_STR(buf_str(&outcome.lines),
              "{\"c0\":\"1\",\"c2\":2,\"c4\":\"[1]\",\"c1\":\"{\\\"c\\\":3}\"}\n");
    CHECK_U64(outcome.passes_most, 2);
}

/* The same records twice, the second time with a tab that sends each the slow way; both times after
 * one with `first`, from which the column has its type. */
static void check_both_ways(const char *first, const char *value, bool *test_failed)
{
    CLEANUP(outcome_finish) struct outcome fast;
    CLEANUP(outcome_finish) struct outcome slow;
    CLEANUP(buf_finish) struct buf plain = {0};
    CLEANUP(buf_finish) struct buf tabbed = {0};
    struct err err = {0};
    outcome_init(&fast);
    outcome_init(&slow);
    buf_init(&plain, LINES_SIZE_MAX);
    buf_init(&tabbed, LINES_SIZE_MAX);
    buf_append_format(&plain, "{\"id\":9,\"a\":%s}\n", first);
    CHECK_OK(take(&ndjson_keep, &fast, buf_str(&plain), SIZE_MAX, &err), err);
    CHECK_OK(take(&ndjson_keep, &slow, buf_str(&plain), SIZE_MAX, &err), err);
    buf_reset(&plain);
    for (unsigned row = 0; row < 3; row++) {
        buf_append_format(&plain, "{\"id\":%u,\"a\":%s}\n", row, value);
        buf_append_format(&tabbed, "{\t\"id\":%u,\"a\":%s}\n", row, value);
    }
    CHECK_OK(take(&ndjson_keep, &fast, buf_str(&plain), SIZE_MAX, &err), err);
    CHECK_OK(take(&ndjson_keep, &slow, buf_str(&tabbed), SIZE_MAX, &err), err);
    CHECK(str_equal(buf_str(&fast.columns), buf_str(&slow.columns)));
    CHECK(str_equal(buf_str(&fast.lines), buf_str(&slow.lines)));
    CHECK_U64(fast.bad.len == 0, slow.bad.len == 0);
    CHECK(fast.rows == 4 || fast.bad.len > 0);
}

static void check_text(const char *fill, size_t count, const char *last, bool *test_failed)
{
    CLEANUP(buf_finish) struct buf value = {0};
    buf_init(&value, LINES_SIZE_MAX);
    buf_append_byte(&value, '"');
    for (size_t i = 0; i < count; i++) {
        buf_append_text(&value, fill);
    }
    buf_append_text(&value, last);
    buf_append_byte(&value, '"');
    check_both_ways("\"x\"", value.ptr, test_failed);
}

TEST(the_fast_way_and_the_slow_one_agree_on_texts)
{
    static const char *const lasts[] = {"",
                                        "\\n",
                                        "\\\"",
                                        "\\\\",
                                        "\\/",
                                        "\\x",
                                        "\\u0041",
                                        "\\u00e",
                                        "\\ud83d\\ude00",
                                        "\\ud83d",
                                        "\\ud83d\\u0041",
                                        "\\ude00",
                                        "\\ud83d\\",
                                        "\xC3\xA4",
                                        "\xC3",
                                        "\xED\xA0\x80",
                                        "\x01",
                                        "\x7F",
                                        "\t",
                                        "\\",
                                        "\\ud83d\\ude0g",
                                        "\\uD83Dx\\ude00"};
    for (size_t i = 0; i < COUNT_OF(lasts); i++) {
        for (size_t count = 0; count < 36; count++) {
            check_text("x", count, lasts[i], test_failed);
            if (*test_failed) {
                TEST_FAIL("%zu and %s", count, lasts[i]);
            }
        }
    }
    static const size_t counts[] = {10920, 10921, 65400, 65450, 65472, 65500, 65536, 70000};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        check_text("x", counts[i], "", test_failed);
        check_text("\\u0041", counts[i], "\\n", test_failed);
    }
}

TEST(the_fast_way_and_the_slow_one_agree_on_numbers)
{
    static const char *const forms[] = {
        "%.*s",   "-%.*s",   "0.%.*s", "1.%.*s", "-%.*s.5", "%.*s.", "0%.*s",  "%.*se5",
        "%.*sE+", "%.*se-1", "-0%.*s", "+%.*s",  "%.*s.5.", "%.*sx", "[%.*s]", "%.*s1.25e",
    };
    static const char *const firsts[] = {"1",    "1.5", "9007199254740993", "18446744073709551616",
                                         "true", "[1]"};
    static const char digits[] = "9223372036854775808123456789012345678901234567890";
    static const char others[] = "1000000000000000000000000000000000000000000000000";
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        const char *percent = strchr(forms[i], '%');
        for (size_t count = 1; count < 45; count++) {
            char value[100];
            int head = (int)(percent - forms[i]);
            (void)snprintf(value, sizeof(value), "%.*s%.*s%s", head, forms[i], (int)count,
                           count % 3 == 0 ? others : digits, percent + strlen("%.*s"));
            for (size_t first = 0; first < COUNT_OF(firsts); first++) {
                check_both_ways(firsts[first], value, test_failed);
            }
            if (*test_failed) {
                TEST_FAIL("%s", value);
            }
        }
    }
    static const char *const words[] = {"true",
                                        "false",
                                        "null",
                                        "NaN",
                                        "-Infinity",
                                        "tru",
                                        "nulll",
                                        "-",
                                        "{}",
                                        "[",
                                        "0",
                                        "-0",
                                        "-0.0",
                                        "00",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "-9223372036854775809"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        for (size_t first = 0; first < COUNT_OF(firsts); first++) {
            check_both_ways(firsts[first], words[i], test_failed);
        }
    }
}

static const struct test_case cases[] = {
    TEST_CASE(rows_go_to_the_day_of_their_column),
    TEST_CASE(limits_are_kept),
    TEST_CASE(a_record_with_too_many_columns_is_bad),
    TEST_CASE(pieces_cut_anywhere),
    TEST_CASE(known_types_are_those_of_new_columns),
    TEST_CASE(the_fast_way_and_the_slow_one_agree_on_texts),
    TEST_CASE(the_fast_way_and_the_slow_one_agree_on_numbers),
};

TEST_MAIN(cases)
