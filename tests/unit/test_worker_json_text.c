#include "test.h"

#include "json_write.h"
#include "worker_json_text.h"

static bool same_as_base(struct str text)
{
    struct buf ours;
    struct buf base;
    buf_init(&ours, 1 << 20);
    buf_init(&base, 1 << 20);
    json_text_append(&ours, text);
    json_append_string(&base, text);
    bool same = str_equal(buf_str(&ours), buf_str(&base));
    buf_finish(&ours);
    buf_finish(&base);
    return same;
}

/* Every byte at every place of texts around the size of the steps. */
TEST(any_byte_anywhere)
{
    char text[40];
    for (size_t size = 0; size < sizeof(text); size++) {
        memset(text, 'a', sizeof(text));
        CHECK(same_as_base(str_make(text, size)));
        for (size_t at = 0; at < size; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                text[at] = (char)byte;
                CHECK(same_as_base(str_make(text, size)));
            }
            text[at] = 'a';
        }
    }
}

TEST(long_texts)
{
    static char text[200000];
    memset(text, 'x', sizeof(text));
    CHECK(same_as_base(str_make(text, sizeof(text))));
    CHECK(same_as_base(str_make(text, 65536)));
    CHECK(same_as_base(str_make(text, 65537)));
    text[sizeof(text) - 1] = '"';
    CHECK(same_as_base(str_make(text, sizeof(text))));
}

TEST(no_room_fails_the_buffer)
{
    struct buf out;
    buf_init(&out, 20);
    json_text_append(&out, STR("123456789012345678"));
    CHECK(!buf_failed(&out));
    CHECK_STR(buf_str(&out), "\"123456789012345678\"");
    json_text_append(&out, STR(""));
    CHECK(buf_failed(&out));
    buf_finish(&out);
}

static const struct test_case cases[] = {
    TEST_CASE(any_byte_anywhere),
    TEST_CASE(long_texts),
    TEST_CASE(no_room_fails_the_buffer),
};

TEST_MAIN(cases)
