#include "test.h"

#include "str.h"

TEST(compares)
{
    CHECK(str_equal(STR("a"), STR("a")));
    CHECK(!str_equal(STR("a"), STR("A")));
    CHECK(!str_equal(STR("a"), STR("ab")));
    CHECK(str_equal(STR(""), (struct str){0}));
    CHECK(str_equal_nocase(STR("SeLect"), STR("sELECT")));
    CHECK(!str_equal_nocase(STR("a["), STR("a{")));
    CHECK(str_equal_nocase((struct str){0}, STR("")));
    CHECK(str_compare(STR("a"), STR("b")) < 0);
    CHECK(str_compare(STR("ab"), STR("a")) > 0);
    CHECK(str_compare(STR("\xff"), STR("a")) > 0);
    CHECK(str_compare(STR(""), STR("")) == 0);
}

TEST(begins_and_ends)
{
    CHECK(str_starts(STR("abc"), STR("ab")));
    CHECK(str_starts(STR("abc"), STR("")));
    CHECK(!str_starts(STR("a"), STR("ab")));
    CHECK(str_starts_nocase(STR("ABc"), STR("ab")));
    CHECK(str_ends(STR("abc"), STR("bc")));
    CHECK(!str_ends(STR("c"), STR("bc")));
    CHECK(str_ends((struct str){0}, STR("")));
}

TEST(trims_ascii_white_space)
{
    CHECK_STR(str_trim(STR(" \t\r\n\v\fa b ")), "a b");
    CHECK_STR(str_trim(STR("  ")), "");
    CHECK_STR(str_trim((struct str){0}), "");
    CHECK(str_blank(STR(" \n")));
    CHECK(!str_blank(STR(" \xc2\xa0")));
}

TEST(finds)
{
    CHECK_U64(str_find_byte(STR("abc"), 'c'), 2);
    CHECK_U64(str_find_byte(STR("abc"), 'x'), 3);
    CHECK_U64(str_find_byte((struct str){0}, 'x'), 0);
    CHECK_U64(str_find(STR("a--b"), STR("--")), 1);
    CHECK_U64(str_find(STR("abc"), STR("abcd")), 3);
    CHECK_U64(str_find(STR("abc"), STR("")), 0);
    CHECK_U64(str_find((struct str){0}, STR("a")), 0);
}

/* The parts of text, each followed by '|'. */
static struct str parts_of(struct str text, char *into, size_t size)
{
    struct str part;
    size_t used = 0;
    while (str_next_part(&text, ',', &part) && used + part.len + 1 < size) {
        memcpy(into + used, part.ptr, part.len);
        used += part.len;
        into[used++] = '|';
    }
    return str_make(into, used);
}

TEST(next_part_gives_every_part)
{
    char into[64];
    CHECK_STR(parts_of(STR("a,b"), into, sizeof(into)), "a|b|");
    CHECK_STR(parts_of(STR("a"), into, sizeof(into)), "a|");
    CHECK_STR(parts_of(STR(""), into, sizeof(into)), "|");
    CHECK_STR(parts_of(STR("a,"), into, sizeof(into)), "a||");
    CHECK_STR(parts_of(STR(",a"), into, sizeof(into)), "|a|");
    CHECK_STR(parts_of(STR(",,"), into, sizeof(into)), "|||");
    CHECK_STR(parts_of((struct str){0}, into, sizeof(into)), "");
}

struct utf8_row {
    struct str bytes;
    bool valid;
};

/* clang-format off */
static const struct utf8_row utf8_rows[] = {
    { { "", 0 }, true },
    { { "plain text", 10 }, true },
    { { "\0", 1 }, true },
    { { "\x7f", 1 }, true },
    { { "\x80", 1 }, false },                   /* a continuation alone */
    { { "\xbf", 1 }, false },
    { { "\xc0\x80", 2 }, false },               /* overlong NUL */
    { { "\xc1\xbf", 2 }, false },               /* overlong U+007F */
    { { "\xc2\x80", 2 }, true },                /* U+0080 */
    { { "\xc2", 1 }, false },                   /* cut */
    { { "\xc2\x7f", 2 }, false },
    { { "\xc2\xc0", 2 }, false },
    { { "\xdf\xbf", 2 }, true },                /* U+07FF */
    { { "\xe0\x80\x80", 3 }, false },           /* overlong */
    { { "\xe0\x9f\xbf", 3 }, false },           /* overlong U+07FF */
    { { "\xe0\xa0\x80", 3 }, true },            /* U+0800 */
    { { "\xe0\xa0", 2 }, false },
    { { "\xe1\x80\x7f", 3 }, false },
    { { "\xed\x9f\xbf", 3 }, true },            /* U+D7FF */
    { { "\xed\xa0\x80", 3 }, false },           /* the first surrogate */
    { { "\xed\xaf\xbf", 3 }, false },
    { { "\xed\xb0\x80", 3 }, false },
    { { "\xed\xbf\xbf", 3 }, false },           /* the last surrogate */
    { { "\xed\xa0\xbd\xed\xb8\x80", 6 }, false }, /* a pair of them */
    { { "\xee\x80\x80", 3 }, true },            /* U+E000 */
    { { "\xef\xbb\xbf", 3 }, true },
    { { "\xef\xbf\xbf", 3 }, true },            /* U+FFFF */
    { { "\xf0\x80\x80\x80", 4 }, false },       /* overlong */
    { { "\xf0\x8f\xbf\xbf", 4 }, false },       /* overlong U+FFFF */
    { { "\xf0\x90\x80\x80", 4 }, true },        /* U+10000 */
    { { "\xf0\x9f\x98\x80", 4 }, true },
    { { "\xf0\x9f\x98", 3 }, false },
    { { "\xf0\x9f\x98\x28", 4 }, false },
    { { "\xf4\x8f\xbf\xbf", 4 }, true },        /* U+10FFFF */
    { { "\xf4\x90\x80\x80", 4 }, false },       /* U+110000 */
    { { "\xf5\x80\x80\x80", 4 }, false },
    { { "\xf8\x88\x80\x80\x80", 5 }, false },   /* five bytes */
    { { "\xfe", 1 }, false },
    { { "\xff", 1 }, false },
};
/* clang-format on */

TEST(utf8_table)
{
    for (size_t i = 0; i < COUNT_OF(utf8_rows); i++) {
        if (str_is_utf8(utf8_rows[i].bytes) != utf8_rows[i].valid) {
            TEST_FAIL("row %zu of the UTF-8 table", i);
        }
    }
}

/* Eight bytes at a time are looked at while they are ASCII: every place must see a bad byte. */
TEST(utf8_at_every_offset)
{
    for (size_t row = 0; row < COUNT_OF(utf8_rows); row++) {
        struct str bytes = utf8_rows[row].bytes;
        for (size_t before = 0; before < 20; before++) {
            char text[64];
            memset(text, 'a', sizeof(text));
            memcpy(text + before, bytes.ptr, bytes.len);
            CHECK(str_is_utf8(str_make(text, before + bytes.len)) == utf8_rows[row].valid);
            CHECK(str_is_utf8(str_make(text, before + bytes.len + 20)) == utf8_rows[row].valid);
        }
    }
}

TEST(every_code_point_is_valid_once)
{
    size_t valid = 0;
    for (uint32_t c = 0x800; c < 0x10000; c++) {
        char text[3] = {(char)(0xe0 | c >> 12), (char)(0x80 | (c >> 6 & 63)),
                        (char)(0x80 | (c & 63))};
        valid += str_is_utf8(str_make(text, 3));
    }
    CHECK_U64(valid, 0x10000 - 0x800 - 0x800);
}

TEST(counts_code_points)
{
    CHECK_U64(str_count_code_points(STR("")), 0);
    CHECK_U64(str_count_code_points(STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")), 4);
}

TEST(first_and_from)
{
    CHECK_STR(str_first(STR("abc"), 2), "ab");
    CHECK_STR(str_first(STR("abc"), 9), "abc");
    CHECK_STR(str_from(STR("abc"), 3), "");
    CHECK_STR(str_of(NULL), "");
}

static const struct test_case cases[] = {
    TEST_CASE(compares),
    TEST_CASE(begins_and_ends),
    TEST_CASE(trims_ascii_white_space),
    TEST_CASE(finds),
    TEST_CASE(next_part_gives_every_part),
    TEST_CASE(utf8_table),
    TEST_CASE(utf8_at_every_offset),
    TEST_CASE(every_code_point_is_valid_once),
    TEST_CASE(counts_code_points),
    TEST_CASE(first_and_from),
};

TEST_MAIN(cases)
