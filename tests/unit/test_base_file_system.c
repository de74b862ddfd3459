#include "test.h"

#include "file_system.h"

TEST(kinds_by_number)
{
    CHECK(file_system_of_magic(0x6969) == FILE_SYSTEM_NETWORK);
    CHECK(file_system_of_magic(0xff534d42) == FILE_SYSTEM_NETWORK);
    CHECK(file_system_of_magic(0x794c7630) == FILE_SYSTEM_OVERLAY);
    CHECK(file_system_of_magic(0xef53) == FILE_SYSTEM_LOCAL);     /* ext4 */
    CHECK(file_system_of_magic(0x01021994) == FILE_SYSTEM_LOCAL); /* tmpfs */
}

TEST(a_folder_that_is_there_and_one_that_is_not)
{
    enum file_system kind;
    struct err err;
    CHECK(file_system_of("/proc", &kind, &err));
    CHECK(kind == FILE_SYSTEM_LOCAL);
    CHECK(!file_system_of("/nowhere/at/all", &kind, &err));
    CHECK(err.kind == ERR_UNAVAILABLE);
}

static const struct test_case cases[] = {
    TEST_CASE(kinds_by_number),
    TEST_CASE(a_folder_that_is_there_and_one_that_is_not),
};

TEST_MAIN(cases)
