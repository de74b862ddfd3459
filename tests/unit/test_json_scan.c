/* The reader of JSON text against CPython's: the table of errors was made with json.loads of
 * Python 3.11, with positions turned into byte offsets. */
#include "json_scan.h"

#include "mem.h"
#include "test.h"

/* clang-format off */
static const struct { struct str text; size_t offset; const char *reason; } malformed[] = {
#define TEXT(literal) { .ptr = "" literal, .len = sizeof(literal) - 1 }
    { TEXT(""), 0, "Expecting value" },
    { TEXT("   "), 3, "Expecting value" },
    { TEXT("\357\273\277"), 0, "Expecting value" },
    { TEXT("["), 1, "Expecting value" },
    { TEXT("[1"), 2, "Expecting ',' delimiter" },
    { TEXT("[1,"), 3, "Expecting value" },
    { TEXT("[1,]"), 3, "Expecting value" },
    { TEXT("[1 2]"), 3, "Expecting ',' delimiter" },
    { TEXT("[,]"), 1, "Expecting value" },
    { TEXT("[1,,2]"), 3, "Expecting value" },
    { TEXT("]"), 0, "Expecting value" },
    { TEXT("{"), 1, "Expecting property name enclosed in double quotes" },
    { TEXT("{ "), 2, "Expecting property name enclosed in double quotes" },
    { TEXT("{\"a\""), 4, "Expecting ':' delimiter" },
    { TEXT("{\"a\":"), 5, "Expecting value" },
    { TEXT("{\"a\": }"), 6, "Expecting value" },
    { TEXT("{\"a\":1"), 6, "Expecting ',' delimiter" },
    { TEXT("{\"a\":1,"), 7, "Expecting property name enclosed in double quotes" },
    { TEXT("{\"a\":1,}"), 7, "Expecting property name enclosed in double quotes" },
    { TEXT("{\"a\":1, \"b\"}"), 11, "Expecting ':' delimiter" },
    { TEXT("{'a':1}"), 1, "Expecting property name enclosed in double quotes" },
    { TEXT("{a:1}"), 1, "Expecting property name enclosed in double quotes" },
    { TEXT("{\"a\" 1}"), 5, "Expecting ':' delimiter" },
    { TEXT("{\"a\":1 \"b\":2}"), 7, "Expecting ',' delimiter" },
    { TEXT("{\"a\":[1,{\"b\":2]}}"), 14, "Expecting ',' delimiter" },
    { TEXT("[1}"), 2, "Expecting ',' delimiter" },
    { TEXT("{\"a\":1]"), 6, "Expecting ',' delimiter" },
    { TEXT("\"abc"), 0, "Unterminated string starting at" },
    { TEXT("\""), 0, "Unterminated string starting at" },
    { TEXT("\"a\\"), 0, "Unterminated string starting at" },
    { TEXT("\"a\\\""), 0, "Unterminated string starting at" },
    { TEXT("\"a\\x\""), 2, "Invalid \\escape" },
    { TEXT("\"\\u12\""), 2, "Invalid \\uXXXX escape" },
    { TEXT("\"\\u12G4\""), 2, "Invalid \\uXXXX escape" },
    { TEXT("\"\\u1234"), 2, "Invalid \\uXXXX escape" },
    { TEXT("\"\\u123\303\251\""), 2, "Invalid \\uXXXX escape" },
    { TEXT("\"\\ud800\\u12\""), 8, "Invalid \\uXXXX escape" },
    { TEXT("\"\\ud800\\ud8zz\""), 8, "Invalid \\uXXXX escape" },
    { TEXT("\"\\ud800\\q\""), 7, "Invalid \\escape" },
    { TEXT("\"a\nb\""), 2, "Invalid control character at" },
    { TEXT("\"a\tb\""), 2, "Invalid control character at" },
    { TEXT("\"0123456789\037\""), 11, "Invalid control character at" },
    { TEXT("\"a\000b\""), 2, "Invalid control character at" },
    { TEXT("\"\177\" x"), 4, "Extra data" },
    { TEXT("01"), 1, "Extra data" },
    { TEXT("-"), 0, "Expecting value" },
    { TEXT("-x"), 0, "Expecting value" },
    { TEXT("1."), 1, "Extra data" },
    { TEXT("1.e3"), 1, "Extra data" },
    { TEXT(".5"), 0, "Expecting value" },
    { TEXT("+1"), 0, "Expecting value" },
    { TEXT("1e"), 1, "Extra data" },
    { TEXT("1e+"), 1, "Extra data" },
    { TEXT("1E-x"), 1, "Extra data" },
    { TEXT("0x10"), 1, "Extra data" },
    { TEXT("-01"), 2, "Extra data" },
    { TEXT("1 2"), 2, "Extra data" },
    { TEXT("1,"), 1, "Extra data" },
    { TEXT("nul"), 0, "Expecting value" },
    { TEXT("nulL"), 0, "Expecting value" },
    { TEXT("truee"), 4, "Extra data" },
    { TEXT("fals"), 0, "Expecting value" },
    { TEXT("True"), 0, "Expecting value" },
    { TEXT("nan"), 0, "Expecting value" },
    { TEXT("NaNx"), 3, "Extra data" },
    { TEXT("Infinit"), 0, "Expecting value" },
    { TEXT("-Infinit"), 0, "Expecting value" },
    { TEXT("[NaN,-Infinity,Infinity,-Inf]"), 24, "Expecting value" },
    { TEXT("{} {}"), 3, "Extra data" },
    { TEXT("null\n\n x"), 7, "Extra data" },
    { TEXT("[\"\303\251\", \"\303\274\" 1]"), 12, "Expecting ',' delimiter" },
    { TEXT("{\"\303\251\": \"\303\274\", }"), 13,
      "Expecting property name enclosed in double quotes" },
    { TEXT("{\"a\":1,\"a\""), 10, "Expecting ':' delimiter" },
    { TEXT("[[[[]]]"), 7, "Expecting ',' delimiter" },
    { TEXT("[[[[]]]]]"), 8, "Extra data" },
    { TEXT("{\"a\":{\"b\":{\"c\":[1,2,{\"d\":}]}}}"), 25, "Expecting value" },
    { TEXT("{\"k\\u00zz\":1}"), 4, "Invalid \\uXXXX escape" },
    { TEXT("{\"k\":\"v"), 5, "Unterminated string starting at" },
    { TEXT("{\"k"), 1, "Unterminated string starting at" },
    { TEXT("[1,\n 2,\n oops]"), 9, "Expecting value" },
    { TEXT("\0141"), 0, "Expecting value" },
    { TEXT("\302\2401"), 0, "Expecting value" },
    { TEXT("1\000"), 1, "Extra data" },
    { TEXT("\000"), 0, "Expecting value" },
    { TEXT("[1,\"x\""), 6, "Expecting ',' delimiter" },
    { TEXT("[1,'x']"), 3, "Expecting value" },
    { TEXT("// c"), 0, "Expecting value" },
    { TEXT("{\"a\":1,\"b\":tru}"), 11, "Expecting value" },
    { TEXT("[\"a\",\n\"b\\z\"]"), 8, "Invalid \\escape" },
    { TEXT("{\"a\"::1}"), 5, "Expecting value" },
    { TEXT("{,}"), 1, "Expecting property name enclosed in double quotes" },
    { TEXT("{\"a\":1,,}"), 7, "Expecting property name enclosed in double quotes" },
    { TEXT("{1:2}"), 1, "Expecting property name enclosed in double quotes" },
    { TEXT("[0123]"), 2, "Expecting ',' delimiter" },
    { TEXT("[-]"), 1, "Expecting value" },
    { TEXT("[1.]"), 2, "Expecting ',' delimiter" },
    { TEXT("[\"\\u\"]"), 3, "Invalid \\uXXXX escape" },
    { TEXT("[\"\\"), 1, "Unterminated string starting at" },
#undef TEXT
};
/* clang-format on */

/* The text is copied to memory of its exact size, so that a sanitizer sees a read past its end. */
static char *exact_copy(struct str text)
{
    char *copy = mem_alloc(text.len);
    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    return copy;
}

/* Reads text that is valid; an empty span of kind JSON_NULL when it is not. */
static struct json_span scan(struct str text)
{
    struct json_scanner scanner;
    struct json_span root = {.kind = JSON_NULL};
    struct err err;
    json_scanner_init(&scanner, text);
    scanner.allow_nonfinite = true;
    if (!json_scan_document(&scanner, &root, &err)) {
        fprintf(stderr, "%.*s: %s\n", STR_ARG(text), err.message);
        return (struct json_span){.kind = JSON_NULL};
    }
    return root;
}

TEST(malformed_text_is_refused_in_the_words_of_python)
{
    for (size_t i = 0; i < COUNT_OF(malformed); i++) {
        CLEANUP(mem_free_text) char *copy = exact_copy(malformed[i].text);
        struct json_scanner scanner;
        struct json_span root;
        struct err err;
        json_scanner_init(&scanner, str_make(copy, malformed[i].text.len));
        scanner.allow_nonfinite = true;
        if (json_scan_document(&scanner, &root, &err)) {
            TEST_FAIL("accepted: %.*s", STR_ARG(malformed[i].text));
        }
        if (strcmp(scanner.error_text, malformed[i].reason) != 0 ||
            scanner.error_offset != malformed[i].offset) {
            TEST_FAIL("%.*s: %s at %zu, not %s at %zu", STR_ARG(malformed[i].text),
                      scanner.error_text, scanner.error_offset, malformed[i].reason,
                      malformed[i].offset);
        }
        CHECK(err.kind == ERR_INVALID);
    }
}

TEST(every_kind_is_told_from_its_text)
{
    static const struct {
        const char *text;
        enum json_kind kind;
        bool escaped;
    } rows[] = {
        {"null", JSON_NULL, false},
        {"true", JSON_BOOL, false},
        {"false", JSON_BOOL, false},
        {"0", JSON_INTEGER, false},
        {"-0", JSON_INTEGER, false},
        {"12345678901234567890123", JSON_INTEGER, false},
        {"1.0", JSON_REAL, false},
        {"1e3", JSON_REAL, false},
        {"-1.25E-7", JSON_REAL, false},
        {"0e+0", JSON_REAL, false},
        {"NaN", JSON_NONFINITE, false},
        {"Infinity", JSON_NONFINITE, false},
        {"-Infinity", JSON_NONFINITE, false},
        {"\"\"", JSON_STRING, false},
        {"\"a\\u0000b\"", JSON_STRING, true},
        {"[ 1 , [ ] ]", JSON_ARRAY, false},
        {"{ \"]\" : \"}\" }", JSON_OBJECT, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[80];
        struct json_span root = scan(str_of(rows[i].text));
        CHECK(root.kind == rows[i].kind);
        CHECK(root.escaped == rows[i].escaped);
        CHECK_STR(root.text, rows[i].text);
        /* The same as an element, read by the cursor. */
        (void)snprintf(text, sizeof(text), " [ %s ,%s] ", rows[i].text, rows[i].text);
        struct json_cursor cursor = json_open(scan(str_of(text)));
        struct json_span value;
        for (int again = 0; again < 2; again++) {
            CHECK(json_next(&cursor, NULL, &value));
            CHECK(value.kind == rows[i].kind);
            CHECK(value.escaped == rows[i].escaped);
            CHECK_STR(value.text, rows[i].text);
        }
        CHECK(!json_next(&cursor, NULL, &value));
        CHECK(!json_next(&cursor, NULL, &value));
    }
}

TEST(literals_beyond_json_need_permission)
{
    static const char *const texts[] = {"NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct json_scanner scanner;
        struct json_span root;
        struct err err;
        json_scanner_init(&scanner, str_of(texts[i]));
        CHECK(!json_scan_document(&scanner, &root, &err));
        CHECK_STR(str_of(scanner.error_text), "Expecting value");
        CHECK_U64(scanner.error_offset, 0);
    }
}

TEST(a_byte_order_mark_is_skipped)
{
    struct json_scanner scanner;
    struct json_span root;
    struct err err;
    json_scanner_init(&scanner, STR("\xEF\xBB\xBF [1]\n"));
    CHECK_OK(json_scan_document(&scanner, &root, &err), err);
    CHECK_STR(root.text, "[1]");
    json_scanner_init(&scanner, STR("\xEF\xBB\xBF[1"));
    CHECK(!json_scan_document(&scanner, &root, &err));
    CHECK_U64(scanner.error_offset, 2);
}

static bool scan_nested(unsigned depth, unsigned depth_max, struct json_scanner *scanner)
{
    struct buf text = {0};
    struct json_span root;
    struct err err;
    buf_init(&text, 1 << 16);
    for (unsigned i = 0; i < depth; i++) {
        buf_append_text(&text, i % 3 == 0 ? "{\"k\":" : "[");
    }
    buf_append_text(&text, "0");
    for (unsigned i = depth; i > 0; i--) {
        buf_append_text(&text, (i - 1) % 3 == 0 ? "}" : "]");
    }
    json_scanner_init(scanner, buf_str(&text));
    if (depth_max > 0) {
        scanner->depth_max = depth_max;
    }
    bool good = json_scan_document(scanner, &root, &err);
    buf_finish(&text);
    return good;
}

TEST(depth_has_a_limit)
{
    struct json_scanner scanner;
    CHECK(scan_nested(64, 0, &scanner));
    CHECK(!scan_nested(65, 0, &scanner));
    CHECK_STR(str_of(scanner.error_text), JSON_TOO_DEEP);
    CHECK(scan_nested(1024, 1024, &scanner));
    CHECK(!scan_nested(1025, 1024, &scanner));
    CHECK(scan_nested(3, 3, &scanner));
    CHECK(!scan_nested(4, 3, &scanner));
    CHECK_U64(scanner.error_offset, 7); /* {"k":[[ and then the fourth bracket */
}

TEST(members_are_found_by_their_unescaped_name_and_the_last_wins)
{
    struct json_span object = scan(STR(
        "{\"a\":1,\"\\u0061\":{\"b\":2},\"\":3,\"\\ud83d\\ude00\":4,\"b\\\"\":5,\"a\\u0000\":6}"));
    struct json_span value;
    CHECK(json_find(object, STR("a"), &value));
    CHECK_STR(value.text, "{\"b\":2}");
    CHECK(json_find(object, STR(""), &value));
    CHECK_STR(value.text, "3");
    CHECK(json_find(object, STR("\xF0\x9F\x98\x80"), &value));
    CHECK_STR(value.text, "4");
    CHECK(json_find(object, STR("b\""), &value));
    CHECK_STR(value.text, "5");
    CHECK(json_find(object, STR("a\0"), &value));
    CHECK_STR(value.text, "6");
    CHECK(!json_find(object, STR("b"), &value));
    CHECK(!json_find(object, STR("b\"x"), &value));
    CHECK(!json_find(scan(STR("[\"a\"]")), STR("a"), &value));
    CHECK_U64(json_count(object), 6);
    CHECK_U64(json_count(scan(STR("[[1,2],{\"a\":[3]},\",\",4]"))), 4);
    CHECK_U64(json_count(scan(STR("[ ]"))), 0);
    CHECK_U64(json_count(scan(STR("7"))), 0);
}

TEST(elements_are_read_where_they_stand)
{
    struct json_span array = scan(STR("[ {\"a\":[{}],\"b\":\"]}\"} , { }, {\"c\" : 3 } ,4]"));
    static const char *const keys[] = {"\"a\"=[{}];\"b\"=\"]}\";", "", "\"c\"=3;"};
    struct json_cursor cursor = json_open(array);
    struct json_cursor inside;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        struct json_span key;
        struct json_span value;
        struct buf seen;
        buf_init(&seen, 1000);
        CHECK(json_enter(&cursor, &inside));
        CHECK(inside.object);
        while (json_next(&inside, &key, &value)) {
            buf_append_format(&seen, "%.*s=%.*s;", STR_ARG(key.text), STR_ARG(value.text));
        }
        CHECK_STR(buf_str(&seen), keys[i]);
        buf_finish(&seen);
        json_leave(&cursor, &inside);
    }
    CHECK(json_enter(&cursor, &inside));
    CHECK(!inside.object);
    cursor = json_open(scan(STR("[ ]")));
    CHECK(!json_enter(&cursor, &inside));
}

TEST(the_end_of_the_longest_member_is_known)
{
    static const struct {
        const char *text;
        const char *bulk;
    } texts[] = {
        {"{\"a\":1,\"b\" : [1,{\"c\":[2]},3] ,\"c\":\"x\"}", "[1,{\"c\":[2]},3]"},
        {"{\"a\":[\"]\",\"}\"] }", "[\"]\",\"}\"]"},
        {"[7,{\"a\":{}},[ ] ]", "{\"a\":{}}"},
        {"{\"a\":[1],\"b\":[22]}", "[22]"},
        {"{\"a\":[4444],\"b\":[333]}", "[4444]"},
        {"{}", ""},
        {"\"text\"", ""},
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct json_scanner scanner;
        struct json_span root;
        struct err err;
        json_scanner_init(&scanner, str_of(texts[i].text));
        CHECK_OK(json_scan_document(&scanner, &root, &err), err);
        CHECK_STR(scanner.bulk, texts[i].bulk);
        struct json_cursor plain = json_open(root);
        struct json_cursor quick = plain;
        quick.bulk = scanner.bulk;
        struct json_span keys[2] = {0};
        struct json_span values[2] = {0};
        while (json_next(&plain, &keys[0], &values[0])) {
            CHECK(json_next(&quick, &keys[1], &values[1]));
            CHECK(str_equal(keys[0].text, keys[1].text));
            CHECK(str_equal(values[0].text, values[1].text));
            CHECK(values[0].kind == values[1].kind);
        }
        CHECK(!json_next(&quick, &keys[1], &values[1]));
    }
}

TEST(strings_are_unescaped)
{
    static const struct {
        const char *json;
        struct str text;
        bool paired;
    } rows[] = {
        {"\"plain \xC3\xA9\"", {"plain \xC3\xA9", 8}, true},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", {"\"\\/\b\f\n\r\t", 8}, true},
        {"\"\\u0041\\u00e9\\u20AC\\u0000!\"", {"A\xC3\xA9\xE2\x82\xAC\0!", 8}, true},
        {"\"\\ud83d\\uDE00\\uFFFF\"", {"\xF0\x9F\x98\x80\xEF\xBF\xBF", 7}, true},
        {"\"\\udbff\\udfff\"", {"\xF4\x8F\xBF\xBF", 4}, true},
        {"\"a\\ud800\"", {"a\xEF\xBF\xBD", 4}, false},
        {"\"\\udc00b\"",
         {"\xEF\xBF\xBD"
          "b",
          4},
         false},
        {"\"\\ud800\\ud800\\udc00\"", {"\xEF\xBF\xBD\xF0\x90\x80\x80", 7}, false},
        {"\"\\ud800\\n\"", {"\xEF\xBF\xBD\n", 4}, false},
        {"\"\\ud800u0041\"",
         {"\xEF\xBF\xBD"
          "u0041",
          8},
         false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(buf_finish) struct buf text = {0};
        struct json_span span = scan(str_of(rows[i].json));
        buf_init(&text, 100);
        CHECK(json_unescape(span, &text) == rows[i].paired);
        CHECK(str_equal(buf_str(&text), rows[i].text));
        CHECK(json_string_equal(span, rows[i].text));
        CHECK(!json_string_equal(span, str_first(rows[i].text, rows[i].text.len - 1)));
        CHECK(!json_string_equal(span, STR("something else")));
    }
}

TEST(compact_text_keeps_strings_and_numbers)
{
    static const char *const rows[][2] = {
        {" [ 1.50 ,\n\t-0 , 1E5 ] ", "[1.50,-0,1E5]"},
        {"{ \"a b\" : [ ] , \"c\\\" d\" : { } }", "{\"a b\":[],\"c\\\" d\":{}}"},
        {"\" x  y \"", "\" x  y \""},
        {"[{\"a\":null}]", "[{\"a\":null}]"},
        {"  12", "12"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        CLEANUP(buf_finish) struct buf text = {0};
        buf_init(&text, 100);
        json_append_compact(scan(str_of(rows[i][0])), &text);
        CHECK_STR(buf_str(&text), rows[i][1]);
    }
}

/* The eight-byte steps must see each byte at each offset. */
TEST(every_special_byte_is_seen_at_every_offset)
{
    for (size_t offset = 1; offset < 20; offset++) {
        for (unsigned byte = 0; byte < 0x80; byte++) {
            char text[24];
            struct json_scanner scanner;
            struct json_span root;
            struct err err;
            memset(text, 'x', sizeof(text));
            text[0] = '"';
            text[sizeof(text) - 1] = '"';
            text[offset] = (char)byte;
            json_scanner_init(&scanner, str_make(text, sizeof(text)));
            bool good = json_scan_document(&scanner, &root, &err);
            CHECK(good == (byte >= 0x20 && byte != '"' && byte != '\\'));
            if (byte < 0x20) {
                CHECK_U64(scanner.error_offset, offset);
            }
        }
    }
}

static const struct test_case cases[] = {
    TEST_CASE(malformed_text_is_refused_in_the_words_of_python),
    TEST_CASE(every_kind_is_told_from_its_text),
    TEST_CASE(literals_beyond_json_need_permission),
    TEST_CASE(a_byte_order_mark_is_skipped),
    TEST_CASE(depth_has_a_limit),
    TEST_CASE(members_are_found_by_their_unescaped_name_and_the_last_wins),
    TEST_CASE(elements_are_read_where_they_stand),
    TEST_CASE(the_end_of_the_longest_member_is_known),
    TEST_CASE(strings_are_unescaped),
    TEST_CASE(compact_text_keeps_strings_and_numbers),
    TEST_CASE(every_special_byte_is_seen_at_every_offset),
};

TEST_MAIN(cases)
