#include "lake_check.h"

#include "mem.h"
#include "test.h"

enum {
    LINES_SIZE_MAX = 64 << 20,
    PASSES_MAX = 3
};

/* What a body became: schema, lines, days, bad records, as text. */
struct outcome {
    const struct lake_schema *schema;
    struct buf columns;
    struct buf lines;
    struct buf days;
    struct buf bad;
    uint64_t rows;
    unsigned passes_most; /* that one piece took */
};

static void outcome_init(struct outcome *outcome)
{
    *outcome = (struct outcome){.schema = lake_schema_create_empty()};
    buf_init(&outcome->columns, LINES_SIZE_MAX);
    buf_init(&outcome->lines, LINES_SIZE_MAX);
    buf_init(&outcome->days, LINES_SIZE_MAX);
    buf_init(&outcome->bad, LINES_SIZE_MAX);
}

static void outcome_finish(struct outcome *outcome)
{
    lake_schema_drop(outcome->schema);
    buf_finish(&outcome->columns);
    buf_finish(&outcome->lines);
    buf_finish(&outcome->days);
    buf_finish(&outcome->bad);
}

static void describe(struct outcome *outcome)
{
    const struct lake_schema *schema = outcome->schema;
    buf_reset(&outcome->columns);
    for (size_t i = 0; i < schema->columns_count; i++) {
        const struct lake_schema_column *column = &schema->columns[i];
        buf_append_format(&outcome->columns, "%s%s %s%s%s%s", i > 0 ? ", " : "", column->name,
                          column->sql_type, column->mixed ? " mixed" : "",
                          column->provisional ? " provisional" : "",
                          column->kind == LAKE_BIGINT && !column->exact ? " inexact" : "");
    }
}

static void note_bad(void *context, const struct lake_bad_record *bad)
{
    struct outcome *outcome = context;
    buf_append_format(&outcome->bad, "%" PRIu64 "@%" PRIu64 " %s: %.*s\n", bad->index, bad->offset,
                      bad->reason, STR_ARG(bad->text));
}

static void note_sections(struct outcome *outcome, const struct lake_checked *checked)
{
    for (size_t i = 0; i < checked->sections_count; i++) {
        buf_append_format(&outcome->days, "%d:%u ", checked->sections[i].day,
                          checked->sections[i].rows);
    }
}

/* Sections say what the lines are. */
static bool sections_agree(const struct lake_checked *checked)
{
    uint64_t rows = 0;
    uint64_t size = 0;
    size_t longest = 0;
    struct str rest = checked->lines;
    struct str line;
    uint64_t lines = 0;
    for (size_t i = 0; i < checked->sections_count; i++) {
        rows += checked->sections[i].rows;
        size += checked->sections[i].size;
    }
    while (str_next_part(&rest, '\n', &line)) {
        lines += line.len > 0;
        longest = line.len > longest ? line.len : longest;
    }
    return rows == checked->rows && size == checked->lines.len && lines == rows &&
           longest == checked->line_size_max;
}

/* One piece until it counts. */
static bool feed(struct lake_check *check, struct outcome *outcome, struct str bytes, bool last,
                 size_t *ret_used, struct err *err)
{
    for (unsigned pass = 1; pass <= PASSES_MAX; pass++) {
        struct lake_checked checked;
        const struct lake_schema *wider;
        outcome->passes_most = pass > outcome->passes_most ? pass : outcome->passes_most;
        if (!lake_check_pass(check, outcome->schema, bytes, last, &checked, NULL, err)) {
            return false;
        }
        if (checked.wants_count == 0) {
            buf_append(&outcome->lines, checked.lines);
            note_sections(outcome, &checked);
            outcome->rows += checked.rows;
            *ret_used = checked.used;
            return sections_agree(&checked) ||
                   err_set(err, ERR_INTERNAL, "the sections are not those of the lines");
        }
        if (!lake_schema_widen(outcome->schema, checked.wants, checked.wants_count, &wider, err)) {
            return false;
        }
        lake_schema_drop(outcome->schema);
        outcome->schema = wider;
    }
    return err_set(err, ERR_INTERNAL, "wants after %d passes", PASSES_MAX);
}

/* The body in pieces of `piece` new bytes; what is not used comes again. */
static bool take(const struct lake_check_options *options, struct outcome *outcome, struct str body,
                 size_t piece, struct err *err)
{
    struct lake_check_options own = *options;
    own.bad = note_bad;
    own.context = outcome;
    own.lines_size_max = own.lines_size_max == 0 ? LINES_SIZE_MAX : own.lines_size_max;
    own.record_size_max = own.record_size_max == 0 ? LINES_SIZE_MAX : own.record_size_max;
    struct lake_check *check = lake_check_create(&own);
    size_t used = 0;
    size_t given = 0;
    bool good = true;
    do {
        size_t now = 0;
        given = body.len - given > piece ? given + piece : body.len;
        char *copy = mem_copy_bytes(body.ptr + used, given - used); /* of exactly this size */
        good = feed(check, outcome, str_make(copy, given - used), given == body.len, &now, err);
        mem_free(copy);
        used += now;
    } while (good && given < body.len);
    lake_check_destroy(check);
    describe(outcome);
    return good &&
           (used == body.len || err_set(err, ERR_INTERNAL, "%zu of %zu used", used, body.len));
}

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

static const struct test_case cases[] = {
    TEST_CASE(types_are_those_of_the_first_records),
    TEST_CASE(columns_widen_only_while_nothing_is_lost),
    TEST_CASE(keys_that_are_one_column),
    TEST_CASE(lines_of_all_kinds),
    TEST_CASE(arrays_and_single_objects),
    TEST_CASE(bodies_that_are_none),
    TEST_CASE(bad_records_are_named),
    TEST_CASE(csv_fields),
    TEST_CASE(rows_go_to_the_day_of_their_column),
    TEST_CASE(limits_are_kept),
    TEST_CASE(a_record_with_too_many_columns_is_bad),
    TEST_CASE(pieces_cut_anywhere),
    TEST_CASE(known_types_are_those_of_new_columns),
};

TEST_MAIN(cases)
