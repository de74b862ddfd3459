#include "test.h"

#include "json_write.h"

#define REPLACED "\xef\xbf\xbd"

struct string_row {
    struct str text;
    const char *json;
};

/* clang-format off */
static const struct string_row string_rows[] = {
    { { "", 0 }, "\"\"" },
    { { "plain", 5 }, "\"plain\"" },
    { { "\"\\/", 3 }, "\"\\\"\\\\/\"" },
    { { "\b\f\n\r\t", 5 }, "\"\\b\\f\\n\\r\\t\"" },
    { { "\0\x01\x0b\x1f", 4 }, "\"\\u0000\\u0001\\u000b\\u001f\"" },
    { { "\x7f", 1 }, "\"\x7f\"" },
    { { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9 }, "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"" },
    { { "a\xff" "b", 3 }, "\"a" REPLACED "b\"" },
    { { "\x80", 1 }, "\"" REPLACED "\"" },
    { { "\xc3\xa9\xff", 3 }, "\"\xc3\xa9" REPLACED "\"" },
    { { "\xc3", 1 }, "\"" REPLACED "\"" },
    { { "\xc3\n", 2 }, "\"" REPLACED "\\n\"" },
    { { "\xff\"\\\x01", 4 }, "\"" REPLACED "\\\"\\\\\\u0001\"" },
    { { "\xe2\x82", 2 }, "\"" REPLACED REPLACED "\"" },
    { { "\xed\xa0\x80", 3 }, "\"" REPLACED REPLACED REPLACED "\"" },
    { { "\xf0\x9f\x98\x80\xf0\x9f\x98", 7 }, "\"\xf0\x9f\x98\x80" REPLACED REPLACED REPLACED "\"" },
};
/* clang-format on */

TEST(strings)
{
    for (size_t i = 0; i < COUNT_OF(string_rows); i++) {
        struct buf buf;
        buf_init(&buf, 200);
        json_append_string(&buf, string_rows[i].text);
        CHECK_STR(buf_str(&buf), string_rows[i].json);
        buf_finish(&buf);
    }
}

TEST(whatever_goes_in_utf8_comes_out)
{
    struct buf buf;
    buf_init(&buf, 1000);
    for (unsigned pair = 0; pair < 65536; pair++) {
        char text[4] = {'a', (char)(pair >> 8), (char)(pair & 255), 'b'};
        buf_reset(&buf);
        json_append_string(&buf, str_make(text, sizeof(text)));
        CHECK(str_is_utf8(buf_str(&buf)));
        CHECK(buf.ptr[0] == '"' && buf.ptr[buf.len - 1] == '"');
    }
    buf_finish(&buf);
}

TEST(commas_are_placed)
{
    struct buf buf;
    struct json_writer writer;
    buf_init(&buf, 1000);
    json_writer_init(&writer, &buf);
    json_begin_object(&writer);
    json_member_string(&writer, "a", STR("x"));
    json_member_u64(&writer, "b", UINT64_MAX);
    json_member_bool(&writer, "c", false);
    json_key(&writer, STR("d"));
    json_begin_array(&writer);
    json_put_i64(&writer, INT64_MIN);
    json_put_null(&writer);
    json_begin_array(&writer);
    json_end_array(&writer);
    json_begin_object(&writer);
    json_end_object(&writer);
    json_put_bool(&writer, true);
    json_put_raw(&writer, STR("[1, 2]"));
    json_put_string(&writer, STR(""));
    json_end_array(&writer);
    json_key(&writer, STR("e\""));
    json_put_u64(&writer, 0);
    json_end_object(&writer);
    CHECK(!buf_failed(&buf));
    CHECK_STR(buf_str(&buf), "{\"a\":\"x\",\"b\":18446744073709551615,\"c\":false,\"d\":["
                             "-9223372036854775808,null,[],{},true,[1, 2],\"\"],\"e\\\"\":0}");
    buf_finish(&buf);
}

TEST(overflow_is_told_at_the_end)
{
    struct buf buf;
    struct json_writer writer;
    buf_init(&buf, 8);
    json_writer_init(&writer, &buf);
    json_begin_array(&writer);
    json_put_string(&writer, STR("too long for it"));
    json_end_array(&writer);
    CHECK(buf_failed(&buf));
    CHECK(buf.len <= 8);
    buf_finish(&buf);
}

static const struct test_case cases[] = {
    TEST_CASE(strings),
    TEST_CASE(whatever_goes_in_utf8_comes_out),
    TEST_CASE(commas_are_placed),
    TEST_CASE(overflow_is_told_at_the_end),
};

TEST_MAIN(cases)
