#include "test.h"

#include "mem.h"

enum {
    SIZE_MOST = 3000,
    TURNS = 20 /* more than the allocator keeps at hand of one size */
};

static bool is_zeroed(const unsigned char *bytes, size_t size)
{
    bool zeroed = true;
    for (size_t i = 0; i < size; i++) {
        zeroed = zeroed && bytes[i] == 0;
    }
    return zeroed;
}

/* Takes pieces, fills them and gives them back, so that the next ones are old memory. */
static bool stays_zeroed(size_t count, size_t size)
{
    unsigned char *taken[TURNS];
    bool zeroed = true;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < TURNS; i++) {
            taken[i] = count == 1 ? mem_alloc(size) : mem_alloc_array(count, size);
            zeroed = zeroed && is_zeroed(taken[i], count * size);
            memset(taken[i], 0xff, count * size);
        }
        for (size_t i = 0; i < TURNS; i++) {
            mem_free(taken[i]);
        }
    }
    return zeroed;
}

TEST(memory_is_zeroed)
{
    for (size_t size = 0; size <= SIZE_MOST; size += size < 40 ? 1 : 31) {
        CHECK(stays_zeroed(1, size));
        CHECK(stays_zeroed(3, size));
    }
    CHECK(stays_zeroed(0, 8));
}

TEST(copies_end_with_a_nul)
{
    char *copy = mem_copy_bytes("ab\0cd", 4);
    CHECK(memcmp(copy, "ab\0c", 5) == 0);
    mem_free(copy);
    copy = mem_copy_bytes(NULL, 0);
    CHECK(copy[0] == '\0');
    mem_free(copy);
}

static const struct test_case cases[] = {
    TEST_CASE(memory_is_zeroed),
    TEST_CASE(copies_end_with_a_nul),
};

TEST_MAIN(cases)
