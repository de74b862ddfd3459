#include "lake_schema.h"

#include "test.h"

enum {
    TEXT_MAX = 1 << 20
};

static void drop(const struct lake_schema **schema)
{
    lake_schema_drop(*schema);
}

#define SCHEMA CLEANUP(drop) const struct lake_schema *

static bool declare(const struct lake_schema *schema, const char *document,
                    const struct lake_schema **ret_schema, struct err *err)
{
    struct json_scanner scanner;
    struct json_span root;
    json_scanner_init(&scanner, str_of(document));
    return json_scan_document(&scanner, &root, err) &&
           lake_schema_declare(schema, root, ret_schema, err);
}

/* A schema out of a declaration. */
static const struct lake_schema *made(const char *document)
{
    SCHEMA empty = lake_schema_create_empty();
    const struct lake_schema *schema = NULL;
    struct err err;
    if (!declare(empty, document, &schema, &err)) {
        fprintf(stderr, "%s: %s\n", document, err.message);
    }
    return schema;
}

static void describe(const struct lake_schema *schema, struct buf *into)
{
    buf_init(into, TEXT_MAX);
    for (size_t i = 0; i < schema->columns_count; i++) {
        const struct lake_schema_column *column = &schema->columns[i];
        buf_append_format(into, "%s%s %s/%s%s%s%s%s", i > 0 ? ", " : "", column->name,
                          column->sql_type, lake_schema_line_type(column),
                          column->kind == LAKE_CAST ? " cast" : "", column->mixed ? " mixed" : "",
                          column->provisional ? " provisional" : "", column->exact ? " exact" : "");
    }
}

#define CHECK_SCHEMA(schema, expected)             \
    do {                                           \
        CLEANUP(buf_finish) struct buf text = {0}; \
        describe(schema, &text);                   \
        CHECK_STR(buf_str(&text), expected);       \
    } while (0)

TEST(an_empty_schema_has_no_columns)
{
    SCHEMA schema = lake_schema_create_empty();
    CHECK_U64(schema->columns_count, 0);
    CHECK_U64(schema->rest, 0);
    CHECK_U64(lake_schema_find(schema, STR("a")), 0);
    CHECK(schema->partition_rule == LAKE_PARTITION_ARRIVAL);
    lake_schema_drop(NULL);
    const struct lake_schema *again = lake_schema_keep(schema);
    CHECK(again == schema);
    lake_schema_drop(again);
}

TEST(new_columns_get_the_type_of_what_was_seen)
{
    static const struct {
        unsigned saw;
        const char *type;
    } kinds[] = {
        {LAKE_SAW_NULL, "a VARCHAR/VARCHAR provisional"},
        {LAKE_SAW_BOOL | LAKE_SAW_NULL, "a BOOLEAN/BOOLEAN"},
        {LAKE_SAW_INT64, "a BIGINT/BIGINT exact"},
        {LAKE_SAW_INT64 | LAKE_SAW_INEXACT, "a BIGINT/BIGINT"},
        {LAKE_SAW_INT64 | LAKE_SAW_INT128, "a DECIMAL(38,0)/VARCHAR"},
        {LAKE_SAW_INT64 | LAKE_SAW_LONG, "a VARCHAR/VARCHAR mixed"},
        {LAKE_SAW_INT64 | LAKE_SAW_REAL, "a DOUBLE/DOUBLE"},
        {LAKE_SAW_LONG | LAKE_SAW_REAL, "a DOUBLE/DOUBLE"},
        {LAKE_SAW_INT64 | LAKE_SAW_INEXACT | LAKE_SAW_REAL, "a VARCHAR/VARCHAR mixed"},
        {LAKE_SAW_OVERFLOW | LAKE_SAW_REAL, "a VARCHAR/VARCHAR mixed"},
        {LAKE_SAW_BOOL | LAKE_SAW_INT64, "a VARCHAR/VARCHAR mixed"},
        {LAKE_SAW_TEXT | LAKE_SAW_NESTED, "a VARCHAR/VARCHAR"},
        {LAKE_SAW_TEXT | LAKE_SAW_REAL, "a VARCHAR/VARCHAR mixed"},
    };
    SCHEMA empty = lake_schema_create_empty();
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct lake_want want = {.name = STR("a"), .saw = kinds[i].saw};
        SCHEMA schema = NULL;
        struct err err;
        CHECK_OK(lake_schema_widen(empty, &want, 1, &schema, &err), err);
        CHECK_SCHEMA(schema, kinds[i].type);
    }
}

TEST(wants_that_change_nothing_give_the_same_schema)
{
    SCHEMA before = made("{\"columns\":[{\"name\":\"a\",\"type\":\"boolean\"},"
                         "{\"name\":\"_rest\",\"type\":\"text\"}]}");
    SCHEMA after = NULL;
    struct err err;
    struct lake_want wants[] = {{.place = 0, .saw = LAKE_SAW_TEXT}};
    CHECK_OK(lake_schema_widen(before, wants, 1, &after, &err), err);
    CHECK(after == before);
    CHECK_U64(before->rest, 1);
}

TEST(wants_change_one_and_leave_the_other)
{
    struct lake_want first[] = {{.name = STR("a"), .saw = LAKE_SAW_INT64},
                                {.name = STR("b"), .saw = LAKE_SAW_TEXT}};
    struct lake_want second[] = {
        {.place = 0, .saw = LAKE_SAW_REAL},
        {.place = 1, .saw = LAKE_SAW_BOOL},
        {.place = 2, .name = STR("c"), .saw = LAKE_SAW_BOOL},
        {.place = 2, .name = STR("d"), .saw = LAKE_SAW_NULL, .sql_type = "timestamp"}};
    SCHEMA empty = lake_schema_create_empty();
    SCHEMA before = NULL;
    SCHEMA after = NULL;
    struct err err;
    CHECK_OK(lake_schema_widen(empty, first, 2, &before, &err), err);
    CHECK_OK(lake_schema_widen(before, second, 4, &after, &err), err);
    CHECK_SCHEMA(before, "a BIGINT/BIGINT exact, b VARCHAR/VARCHAR");
    CHECK_SCHEMA(after, "a DOUBLE/DOUBLE, b VARCHAR/VARCHAR, _rest VARCHAR/VARCHAR, "
                        "c BOOLEAN/BOOLEAN, d TIMESTAMP/VARCHAR cast");
    CHECK_U64(lake_schema_find(after, STR("D")), 4);
    CHECK_U64(lake_schema_find(after, STR("_Rest")), after->rest);
    CHECK_U64(lake_schema_find(after, STR("e")), after->columns_count);
}

TEST(a_declared_column_does_not_widen_by_itself)
{
    SCHEMA before = made("{\"columns\":[{\"name\":\"a\",\"type\":\"BIGINT\"}]}");
    SCHEMA after = NULL;
    struct lake_want want = {.place = 0, .saw = LAKE_SAW_REAL};
    struct err err;
    CHECK_OK(lake_schema_widen(before, &want, 1, &after, &err), err);
    CHECK_SCHEMA(after, "a BIGINT/BIGINT exact, _rest VARCHAR/VARCHAR");
}

TEST(too_many_columns_are_refused)
{
    static struct lake_want wants[LAKE_COLUMNS_MAX + 1];
    static char names[LAKE_COLUMNS_MAX + 1][8];
    SCHEMA empty = lake_schema_create_empty();
    SCHEMA full = NULL;
    SCHEMA fuller = NULL;
    struct err err;
    for (size_t i = 0; i <= LAKE_COLUMNS_MAX; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "k%zu", i);
        wants[i] = (struct lake_want){.name = str_of(names[i]), .saw = LAKE_SAW_BOOL};
    }
    CHECK_OK(lake_schema_widen(empty, wants, LAKE_COLUMNS_MAX, &full, &err), err);
    CHECK_U64(lake_schema_find(full, STR("K9999")), 9999);
    CHECK(!lake_schema_widen(empty, wants, LAKE_COLUMNS_MAX + 1, &fuller, &err));
    CHECK(err.kind == ERR_INVALID);
}

TEST(types_of_people)
{
    static const struct {
        const char *type;
        const char *normal; /* NULL: unknown */
        enum lake_kind kind;
    } types[] = {
        {"bigint", "BIGINT", LAKE_BIGINT},
        {" Int8 ", "BIGINT", LAKE_BIGINT},
        {"int", "INTEGER", LAKE_CAST},
        {"varchar(20)", "VARCHAR", LAKE_VARCHAR},
        {"decimal", "DECIMAL(18,3)", LAKE_CAST},
        {"numeric( 10 , 2 )", "DECIMAL(10,2)", LAKE_CAST},
        {"DEC(38)", "DECIMAL(38,0)", LAKE_CAST},
        {"timestamp with time zone", "TIMESTAMPTZ", LAKE_CAST},
        {"json", "JSON", LAKE_CAST},
        {"uhugeint", "DECIMAL(38,0)", LAKE_CAST},
        {"decimal(39,0)", NULL, LAKE_CAST},
        {"decimal(10,11)", NULL, LAKE_CAST},
        {"decimal(10", NULL, LAKE_CAST},
        {"decimal()", NULL, LAKE_CAST},
        {"bigint(3)", NULL, LAKE_CAST},
        {"varchar(", NULL, LAKE_CAST},
        {"varchar)", NULL, LAKE_CAST},
        {"struct(a int)", NULL, LAKE_CAST},
        {"int[]", NULL, LAKE_CAST},
        {"", NULL, LAKE_CAST},
        {"(", NULL, LAKE_CAST},
    };
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        CLEANUP(buf_finish) struct buf normal = {0};
        enum lake_kind kind;
        buf_init(&normal, 100);
        bool known = lake_schema_type_kind(str_of(types[i].type), &kind, &normal);
        if (known != (types[i].normal != NULL)) {
            TEST_FAIL("%s is %s", types[i].type, known ? "known" : "unknown");
        }
        if (known) {
            CHECK_STR(buf_str(&normal), types[i].normal);
            CHECK(kind == types[i].kind);
        }
    }
}

static const char first_declaration[] =
    "{\"columns\":[{\"name\":\"at\",\"type\":\"timestamp\"},{\"name\":\"n\",\"type\":\"bigint\"},"
    "{\"name\":\"f\",\"type\":\"FLOAT\"}],\"partition_by\":\"AT\",\"sort_by\":[\"n\",\"at\"],"
    "\"retention_days\":30,\"flush_bytes\":1000,\"flush_age_ms\":2000,\"flush_rows\":3000}";

TEST(declarations_say_all_rules)
{
    SCHEMA schema = made(first_declaration);
    SCHEMA after = NULL;
    struct err err;
    CHECK_SCHEMA(schema, "at TIMESTAMP/VARCHAR cast, n BIGINT/BIGINT exact, f FLOAT/VARCHAR cast, "
                         "_rest VARCHAR/VARCHAR");
    CHECK(schema->partition_rule == LAKE_PARTITION_COLUMN);
    CHECK_U64(schema->partition_column, 0);
    CHECK_U64(schema->sort_count, 2);
    CHECK_U64(schema->sort[0], 1);
    CHECK_U64(schema->retention_days, 30);
    CHECK_U64(schema->flush_bytes, 1000);
    CHECK_U64(schema->flush_age_ms, 2000);
    CHECK_U64(schema->flush_rows, 3000);
    CHECK_OK(declare(schema,
                     "{\"sort_by\":null,\"flush_rows\":null,\"columns\":["
                     "{\"name\":\"N\",\"type\":\"double\"}]}",
                     &after, &err),
             err);
    CHECK_SCHEMA(after, "at TIMESTAMP/VARCHAR cast, n DOUBLE/DOUBLE, f FLOAT/VARCHAR cast, "
                        "_rest VARCHAR/VARCHAR");
    CHECK_U64(after->sort_count, 0);
    CHECK_U64(after->flush_rows, 0);
    CHECK_U64(after->flush_age_ms, 2000);
    CHECK(after->partition_rule == LAKE_PARTITION_COLUMN);
    CHECK(!after->stored);
}

TEST(what_people_read_they_may_send_back)
{
    SCHEMA schema = made(first_declaration);
    SCHEMA after = NULL;
    CLEANUP(buf_finish) struct buf text = {0};
    CLEANUP(buf_finish) struct buf again = {0};
    struct err err;
    buf_init(&text, TEXT_MAX);
    buf_init(&again, TEXT_MAX);
    lake_schema_append_json(schema, true, &text);
    CHECK_OK(declare(schema, text.ptr, &after, &err), err);
    lake_schema_append_json(after, true, &again);
    CHECK_STR(buf_str(&again), text.ptr);
}

TEST(declarations_that_are_refused)
{
    static const char *const documents[] = {
        "[]",
        "{\"other\":1}",
        "{\"columns\":{}}",
        "{\"columns\":[1]}",
        "{\"columns\":[{\"name\":\"x\"}]}",
        "{\"columns\":[{\"type\":\"int\"}]}",
        "{\"columns\":[{\"name\":\"\",\"type\":\"int\"}]}",
        "{\"columns\":[{\"name\":\"a\\u0000\",\"type\":\"int\"}]}",
        "{\"columns\":[{\"name\":\"x\",\"type\":\"map\"}]}",
        "{\"columns\":[{\"name\":\"x\",\"type\":\"int\",\"size\":3}]}",
        "{\"columns\":[{\"name\":\"n\",\"type\":\"int\"}]}",
        "{\"columns\":[{\"name\":\"at\",\"type\":\"varchar\"}]}",
        "{\"columns\":[{\"name\":\"_rest\",\"type\":\"json\"}]}",
        "{\"partition_by\":\"f\"}",
        "{\"partition_by\":\"none\"}",
        "{\"partition_by\":3}",
        "{\"sort_by\":\"n\"}",
        "{\"sort_by\":[\"n\",\"N\"]}",
        "{\"sort_by\":[\"none\"]}",
        "{\"retention_days\":-1}",
        "{\"retention_days\":1.5}",
        "{\"flush_rows\":\"1\"}",
        "{\"flush_bytes\":18446744073709551616}",
    };
    SCHEMA schema = made(first_declaration);
    for (size_t i = 0; i < COUNT_OF(documents); i++) {
        const struct lake_schema *after = NULL;
        struct err err = {0};
        if (declare(schema, documents[i], &after, &err) || err.kind != ERR_INVALID) {
            TEST_FAIL("%s: %s", documents[i], err.message);
        }
    }
}

TEST(types_widen_to_types_that_hold_them)
{
    static const struct {
        const char *from;
        const char *to;
        bool good;
    } pairs[] = {
        {"tinyint", "integer", true},
        {"integer", "tinyint", false},
        {"uinteger", "bigint", true},
        {"ubigint", "bigint", false},
        {"integer", "uinteger", false},
        {"bigint", "double", true},
        {"ubigint", "double", false},
        {"smallint", "float", true},
        {"integer", "float", false},
        {"float", "double", true},
        {"double", "float", false},
        {"bigint", "decimal(19,0)", true},
        {"bigint", "decimal(20,2)", false},
        {"decimal(10,2)", "decimal(12,4)", true},
        {"decimal(10,2)", "decimal(11,4)", false},
        {"date", "timestamp", true},
        {"timestamp", "date", false},
        {"timestamp_s", "timestamp_ms", true},
        {"timestamp", "timestamptz", false},
        {"uuid", "varchar", true},
        {"varchar", "uuid", false},
        {"boolean", "bigint", false},
        {"bigint", "varchar", true},
        {"decimal(5,0)", "integer", false},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        char from[100];
        char to[100];
        struct err err = {0};
        (void)snprintf(from, sizeof(from), "{\"columns\":[{\"name\":\"a\",\"type\":\"%s\"}]}",
                       pairs[i].from);
        (void)snprintf(to, sizeof(to), "{\"columns\":[{\"name\":\"a\",\"type\":\"%s\"}]}",
                       pairs[i].to);
        SCHEMA before = made(from);
        SCHEMA after = NULL;
        if (declare(before, to, &after, &err) != pairs[i].good) {
            TEST_FAIL("%s to %s", pairs[i].from, pairs[i].to);
        }
    }
}

TEST(a_number_that_became_text_stays_welcome)
{
    SCHEMA before = made("{\"columns\":[{\"name\":\"a\",\"type\":\"bigint\"}]}");
    SCHEMA after = NULL;
    struct err err;
    CHECK_OK(declare(before, "{\"columns\":[{\"name\":\"a\",\"type\":\"text\"}]}", &after, &err),
             err);
    CHECK_SCHEMA(after, "a VARCHAR/VARCHAR mixed");
}

TEST(what_is_stored_is_read_again)
{
    SCHEMA declared = made(first_declaration);
    SCHEMA schema = NULL;
    SCHEMA parsed = NULL;
    CLEANUP(buf_finish) struct buf text = {0};
    CLEANUP(buf_finish) struct buf again = {0};
    struct err err;
    struct lake_want wants[] = {
        {.place = 9, .name = STR("q\"\\\xC3\xA4"), .saw = LAKE_SAW_TEXT | LAKE_SAW_BOOL},
        {.place = 9, .name = STR("big"), .saw = LAKE_SAW_INT128},
        {.place = 9, .name = STR("void"), .saw = LAKE_SAW_NULL}};
    CHECK_OK(lake_schema_widen(declared, wants, 3, &schema, &err), err);
    buf_init(&text, TEXT_MAX);
    buf_init(&again, TEXT_MAX);
    lake_schema_append_json(schema, false, &text);
    CHECK_OK(lake_schema_parse(buf_str(&text), &parsed, &err), err);
    lake_schema_append_json(parsed, false, &again);
    CHECK_STR(buf_str(&again), text.ptr);
    CHECK_U64(parsed->rest, schema->rest);
    CHECK(parsed->partition_rule == LAKE_PARTITION_COLUMN);
    CHECK_U64(lake_schema_find(parsed, STR("BIG")), 5);
}

TEST(damaged_text_is_corrupt)
{
    SCHEMA schema = made(first_declaration);
    CLEANUP(buf_finish) struct buf text = {0};
    CLEANUP(buf_finish) struct buf damaged = {0};
    buf_init(&text, TEXT_MAX);
    buf_init(&damaged, TEXT_MAX);
    lake_schema_append_json(schema, false, &text);
    for (size_t size = 0; size < text.len; size++) {
        const struct lake_schema *parsed = NULL;
        struct err err = {0};
        CHECK(!lake_schema_parse(str_first(buf_str(&text), size), &parsed, &err));
        CHECK(err.kind == ERR_CORRUPT);
    }
    for (size_t i = 0; i < text.len; i++) { /* never a crash, and never another kind of error */
        const struct lake_schema *parsed = NULL;
        struct err err = {0};
        buf_reset(&damaged);
        buf_append(&damaged, buf_str(&text));
        damaged.ptr[i] = damaged.ptr[i] == '9' ? 'x' : '9';
        bool good = lake_schema_parse(buf_str(&damaged), &parsed, &err);
        lake_schema_drop(parsed);
        CHECK(good || err.kind == ERR_CORRUPT);
    }
}

TEST(schemas_of_two_writers_merge)
{
    static const struct {
        const char *ours;
        const char *stored;
        const char *both;
    } pairs[] = {
        {"bigint", "bigint", "a BIGINT/BIGINT exact"},
        {"bigint", "double", "a DOUBLE/DOUBLE"},
        {"double", "bigint", "a DOUBLE/DOUBLE"},
        {"boolean", "bigint", "a BIGINT/VARCHAR cast, _rest VARCHAR/VARCHAR"},
        {"varchar", "bigint", "a BIGINT/VARCHAR cast, _rest VARCHAR/VARCHAR"},
        {"bigint", "varchar", "a VARCHAR/VARCHAR cast, _rest VARCHAR/VARCHAR"},
        {"bigint", "timestamp", "a TIMESTAMP/VARCHAR cast, _rest VARCHAR/VARCHAR"},
        {"timestamp", "bigint", "a BIGINT/VARCHAR cast, _rest VARCHAR/VARCHAR"},
    };
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        char ours[100];
        char theirs[100];
        struct err err;
        (void)snprintf(ours, sizeof(ours), "{\"columns\":[{\"name\":\"a\",\"type\":\"%s\"}]}",
                       pairs[i].ours);
        (void)snprintf(theirs, sizeof(theirs), "{\"columns\":[{\"name\":\"A\",\"type\":\"%s\"}]}",
                       pairs[i].stored);
        SCHEMA schema = made(ours);
        SCHEMA stored = made(theirs);
        SCHEMA both = NULL;
        CHECK_OK(lake_schema_merge(schema, stored, &both, &err), err);
        CLEANUP(buf_finish) struct buf text = {0};
        describe(both, &text);
        if (!str_starts(buf_str(&text), str_of(pairs[i].both)) || text.len > 60) {
            TEST_FAIL("%s and %s: %s", pairs[i].ours, pairs[i].stored, text.ptr);
        }
    }
}

TEST(a_merge_takes_the_rules_and_adds_columns)
{
    SCHEMA schema = made("{\"columns\":[{\"name\":\"x\",\"type\":\"int\"}],\"flush_rows\":5}");
    SCHEMA stored = made(first_declaration);
    SCHEMA both = NULL;
    SCHEMA again = NULL;
    struct err err;
    CHECK_OK(lake_schema_merge(schema, stored, &both, &err), err);
    CHECK_SCHEMA(both, "x INTEGER/VARCHAR cast, _rest VARCHAR/VARCHAR, at TIMESTAMP/VARCHAR cast, "
                       "n BIGINT/BIGINT exact, f FLOAT/VARCHAR cast");
    CHECK_U64(both->partition_column, 2);
    CHECK_U64(both->sort[0], 3);
    CHECK_U64(both->flush_rows, 3000);
    CHECK(!both->stored);
    SCHEMA empty = lake_schema_create_empty();
    CHECK_OK(lake_schema_merge(empty, stored, &again, &err), err);
    CHECK(again->stored);
}

static const struct test_case cases[] = {
    TEST_CASE(an_empty_schema_has_no_columns),
    TEST_CASE(new_columns_get_the_type_of_what_was_seen),
    TEST_CASE(wants_that_change_nothing_give_the_same_schema),
    TEST_CASE(wants_change_one_and_leave_the_other),
    TEST_CASE(a_declared_column_does_not_widen_by_itself),
    TEST_CASE(too_many_columns_are_refused),
    TEST_CASE(types_of_people),
    TEST_CASE(declarations_say_all_rules),
    TEST_CASE(what_people_read_they_may_send_back),
    TEST_CASE(declarations_that_are_refused),
    TEST_CASE(types_widen_to_types_that_hold_them),
    TEST_CASE(a_number_that_became_text_stays_welcome),
    TEST_CASE(what_is_stored_is_read_again),
    TEST_CASE(damaged_text_is_corrupt),
    TEST_CASE(schemas_of_two_writers_merge),
    TEST_CASE(a_merge_takes_the_rules_and_adds_columns),
};

TEST_MAIN(cases)
