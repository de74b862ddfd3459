#include "test.h"

#include "buf.h"
#include "mem.h"

TEST(content_is_followed_by_a_nul)
{
    struct buf buf;
    buf_init(&buf, 100);
    CHECK_STR(buf_str(&buf), "");
    buf_append(&buf, STR("one"));
    buf_append_byte(&buf, ' ');
    buf_append_text(&buf, "two");
    buf_append_bytes(&buf, NULL, 0);
    CHECK(!buf_failed(&buf));
    CHECK_STR(buf_str(&buf), "one two");
    CHECK(buf.ptr[buf.len] == '\0');
    buf_finish(&buf);
}

TEST(the_ceiling_is_exact)
{
    struct buf buf;
    buf_init(&buf, 10);
    buf_append_text(&buf, "0123456789");
    CHECK(!buf_failed(&buf));
    CHECK(buf.ptr[10] == '\0');
    buf_append_bytes(&buf, "", 0);
    CHECK(!buf_failed(&buf));
    buf_append_byte(&buf, 'x');
    CHECK(buf_failed(&buf));
    CHECK_STR(buf_str(&buf), "0123456789");
    buf_finish(&buf);
}

TEST(a_failure_stays)
{
    struct buf buf;
    buf_init(&buf, 4);
    buf_append_text(&buf, "12345");
    CHECK(buf_failed(&buf));
    buf_append_text(&buf, "1");
    buf_append_format(&buf, "%d", 1);
    buf_append_u64(&buf, 1);
    CHECK_U64(buf.len, 0);
    CHECK(!buf_reserve(&buf, 0));
    size_t len = 7;
    CHECK(buf_take(&buf, &len) == NULL);
    buf_reset(&buf);
    buf_append_text(&buf, "1234");
    CHECK(!buf_failed(&buf));
    CHECK_STR(buf_str(&buf), "1234");
    buf_finish(&buf);
}

TEST(a_huge_reserve_does_not_wrap)
{
    struct buf buf;
    buf_init(&buf, SIZE_MAX / 8);
    buf_append_byte(&buf, 'a');
    CHECK(!buf_reserve(&buf, SIZE_MAX));
    CHECK(buf_failed(&buf));
    CHECK_U64(buf.len, 1);
    buf_finish(&buf);
}

TEST(finish_takes_zeroed_memory_and_twice)
{
    struct buf buf = {0};
    buf_finish(&buf);
    buf_init(&buf, 8);
    buf_append_text(&buf, "a");
    buf_finish(&buf);
    buf_finish(&buf);
    CHECK(buf.ptr == NULL);
}

TEST(reset_keeps_the_memory_and_truncate_the_front)
{
    struct buf buf;
    buf_init(&buf, 1000);
    buf_append_text(&buf, "abcdef");
    buf_truncate(&buf, 2);
    CHECK_STR(buf_str(&buf), "ab");
    buf_append_text(&buf, "X");
    CHECK_STR(buf_str(&buf), "abX");
    size_t capacity = buf.capacity;
    buf_reset(&buf);
    CHECK_U64(buf.len, 0);
    CHECK_U64(buf.capacity, capacity);
    buf_finish(&buf);
}

TEST(format_short_and_long)
{
    struct buf buf;
    buf_init(&buf, 2000);
    buf_append_format(&buf, "%s-%d", "a", 7);
    CHECK_STR(buf_str(&buf), "a-7");
    buf_reset(&buf);
    /* Around the size of the small buffer that is tried first. */
    for (int width = 250; width < 262; width++) {
        buf_reset(&buf);
        buf_append_format(&buf, "%0*d", width, 5);
        CHECK_U64(buf.len, width);
        CHECK(buf.ptr[buf.len - 1] == '5');
        CHECK(buf.ptr[buf.len] == '\0');
    }
    buf_reset(&buf);
    buf_append_format(&buf, "%02001d", 5);
    CHECK(buf_failed(&buf));
    CHECK_U64(buf.len, 0);
    buf_finish(&buf);
}

TEST(numbers_at_their_ends)
{
    struct buf buf;
    buf_init(&buf, 200);
    buf_append_u64(&buf, 0);
    buf_append_byte(&buf, ' ');
    buf_append_u64(&buf, UINT64_MAX);
    buf_append_byte(&buf, ' ');
    buf_append_i64(&buf, INT64_MIN);
    buf_append_byte(&buf, ' ');
    buf_append_i64(&buf, INT64_MAX);
    buf_append_byte(&buf, ' ');
    buf_append_i64(&buf, -1);
    CHECK_STR(buf_str(&buf), "0 18446744073709551615 -9223372036854775808 9223372036854775807 -1");
    buf_finish(&buf);
}

TEST(take_hands_the_bytes_over)
{
    struct buf buf;
    size_t len = 99;
    buf_init(&buf, 100);
    buf_append_bytes(&buf, "a\0b", 3);
    CLEANUP(mem_free_text) char *taken = buf_take(&buf, &len);
    CHECK_U64(len, 3);
    CHECK(taken != NULL && memcmp(taken, "a\0b", 4) == 0);
    CHECK_U64(buf.len, 0);
    buf_append_text(&buf, "again");
    CHECK_STR(buf_str(&buf), "again");
    buf_finish(&buf);
}

TEST(take_of_nothing_is_an_empty_text)
{
    struct buf buf;
    size_t len = 99;
    buf_init(&buf, 100);
    CLEANUP(mem_free_text) char *taken = buf_take(&buf, &len);
    CHECK_U64(len, 0);
    CHECK(taken != NULL && taken[0] == '\0');
    buf_finish(&buf);
}

TEST(grows_byte_by_byte)
{
    struct buf buf;
    buf_init(&buf, 5000);
    for (int i = 0; i < 5000; i++) {
        buf_append_byte(&buf, (char)('a' + i % 26));
    }
    CHECK(!buf_failed(&buf));
    for (size_t i = 0; i < 5000; i++) {
        CHECK(buf.ptr[i] == (char)('a' + (int)i % 26));
    }
    CHECK(buf.capacity <= 5001);
    buf_finish(&buf);
}

/* Fills with a pattern, and says whether it is there: while it grows, it moves from the heap into a
 * block, stays there, and is too large for one in the end. */
static bool grow_and_look(struct buf *buf, size_t size)
{
    while (buf->len < size) {
        buf_append_u64(buf, buf->len);
    }
    bool good = !buf_failed(buf);
    for (size_t at = 0; good && at < buf->len;) {
        char digits[24];
        int count = snprintf(digits, sizeof(digits), "%zu", at);
        good = memcmp(buf->ptr + at, digits, (size_t)count) == 0;
        at += (size_t)count;
    }
    return good;
}

TEST(brief_ones_move_through_blocks)
{
    static const size_t sizes[] = {1000, 100 << 10, 129 << 10, 1 << 20, 3 << 20, 5 << 20, 9 << 20};
    mem_keep_freed(4);
    for (size_t round = 0; round < 2; round++) {
        struct buf buf;
        buf_init_brief(&buf, 16 << 20);
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            CHECK(grow_and_look(&buf, sizes[i]));
        }
        buf_finish(&buf);
    }
}

TEST(more_brief_ones_than_blocks)
{
    enum {
        COUNT = MEM_BLOCKS_COUNT + 6
    };
    static struct buf bufs[COUNT];
    mem_keep_freed(4);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            buf_init_brief(&bufs[i], 1 << 20);
            CHECK(grow_and_look(&bufs[i], 140 << 10));
        }
        for (size_t i = 0; i < COUNT; i++) {
            CHECK(grow_and_look(&bufs[i], 141 << 10));
            size_t size;
            char *taken = buf_take(&bufs[i], &size);
            mem_free(taken);
        }
    }
}

static const struct test_case cases[] = {
    TEST_CASE(content_is_followed_by_a_nul),
    TEST_CASE(the_ceiling_is_exact),
    TEST_CASE(a_failure_stays),
    TEST_CASE(a_huge_reserve_does_not_wrap),
    TEST_CASE(finish_takes_zeroed_memory_and_twice),
    TEST_CASE(reset_keeps_the_memory_and_truncate_the_front),
    TEST_CASE(format_short_and_long),
    TEST_CASE(numbers_at_their_ends),
    TEST_CASE(take_hands_the_bytes_over),
    TEST_CASE(take_of_nothing_is_an_empty_text),
    TEST_CASE(grows_byte_by_byte),
    TEST_CASE(brief_ones_move_through_blocks),
    TEST_CASE(more_brief_ones_than_blocks),
};

TEST_MAIN(cases)
