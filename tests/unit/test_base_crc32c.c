#include "test.h"

#include "crc32c.h"

/* From RFC 3720, appendix B.4. */
TEST(it_gives_the_published_values)
{
    unsigned char bytes[32] = {0};
    CHECK_U64(crc32c(0, bytes, sizeof(bytes)), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof(bytes));
    CHECK_U64(crc32c(0, bytes, sizeof(bytes)), 0x62A8AB43);
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)i;
    }
    CHECK_U64(crc32c(0, bytes, sizeof(bytes)), 0x46DD794E);
    CHECK_U64(crc32c(0, "123456789", 9), 0xE3069283);
    CHECK_U64(crc32c(0, "", 0), 0);
}

TEST(both_ways_agree_and_pieces_add_up)
{
    unsigned char bytes[20000]; /* several rounds of what is done at once */
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(i * 31 + (i >> 3));
    }
    for (size_t size = 0; size <= sizeof(bytes); size += size < 1000 ? 37 : 509) {
        uint32_t whole = crc32c(0, bytes, size);
        CHECK_U64(crc32c_portable(0, bytes, size), whole);
        CHECK_U64(crc32c(crc32c(0, bytes, size / 3), bytes + size / 3, size - size / 3), whole);
    }
}

static const struct test_case cases[] = {
    TEST_CASE(it_gives_the_published_values),
    TEST_CASE(both_ways_agree_and_pieces_add_up),
};

TEST_MAIN(cases)
