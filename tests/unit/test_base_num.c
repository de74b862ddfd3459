#include "test.h"

#include "num.h"

struct u64_row {
    const char *text;
    uint64_t min, max;
    bool good;
    uint64_t value;
};

/* clang-format off */
static const struct u64_row u64_rows[] = {
    { "0", 0, UINT64_MAX, true, 0 },
    { "18446744073709551615", 0, UINT64_MAX, true, UINT64_MAX },
    { "18446744073709551616", 0, UINT64_MAX, false, 0 },
    { "18446744073709551625", 0, UINT64_MAX, false, 0 },
    { "99999999999999999999999", 0, UINT64_MAX, false, 0 },
    { "007", 0, 10, true, 7 },
    { "5", 5, 5, true, 5 },
    { "4", 5, 5, false, 0 },
    { "6", 5, 5, false, 0 },
    { "", 0, 10, false, 0 },
    { "-1", 0, 10, false, 0 },
    { "+1", 0, 10, false, 0 },
    { " 1", 0, 10, false, 0 },
    { "1 ", 0, 10, false, 0 },
    { "1x", 0, 10, false, 0 },
    { "0x1", 0, 10, false, 0 },
    { "1.0", 0, 10, false, 0 },
    { "1e0", 0, 10, false, 0 },
};
/* clang-format on */

TEST(u64_table)
{
    for (size_t i = 0; i < COUNT_OF(u64_rows); i++) {
        const struct u64_row *row = &u64_rows[i];
        struct err err = {0};
        uint64_t value = 77;
        bool good = num_parse_u64(str_of(row->text), row->min, row->max, &value, &err);
        if (good != row->good || value != (row->good ? row->value : 77) ||
            (!good && err.kind != ERR_INVALID)) {
            TEST_FAIL("'%s' gave %d, %" PRIu64, row->text, good, value);
        }
    }
}

TEST(u64_message_names_text_and_range)
{
    struct err err;
    uint64_t value;
    CHECK(!num_parse_u64(STR("12abc"), 1, 64, &value, &err));
    CHECK_STR(str_of(err.message), "'12abc' is not a whole number from 1 to 64");
}

TEST(u64_ends_at_the_length)
{
    struct err err;
    uint64_t value;
    CHECK_OK(num_parse_u64(str_make("123", 2), 0, 100, &value, &err), err);
    CHECK_U64(value, 12);
}

struct bytes_row {
    const char *text;
    bool good;
    uint64_t value;
};

/* clang-format off */
static const struct bytes_row bytes_rows[] = {
    { "0", true, 0 },
    { "1", true, 1 },
    { "10B", true, 10 },
    { "1KB", true, 1000 },
    { "1KiB", true, 1024 },
    { "512MB", true, 512000000 },
    { "512 MB", true, 512000000 },
    { "  6GB  ", true, 6000000000 },
    { "1gib", true, 1073741824 },
    { "1GIB", true, 1073741824 },
    { "2TiB", true, UINT64_C(2) << 40 },
    { "1TB", true, 1000000000000 },
    { "18446744073709551615", true, UINT64_MAX },
    { "18446744073709551616", false, 0 },
    { "17179869183GiB", true, UINT64_C(17179869183) << 30 },
    { "17179869184GiB", false, 0 },
    { "18446744073709552KB", false, 0 },
    { "", false, 0 },
    { " ", false, 0 },
    { "GB", false, 0 },
    { "-1", false, 0 },
    { "1.5GB", false, 0 },
    { "1G", false, 0 },
    { "1 G B", false, 0 },
    { "1MBx", false, 0 },
    { "80%", false, 0 },
};
/* clang-format on */

TEST(bytes_table)
{
    for (size_t i = 0; i < COUNT_OF(bytes_rows); i++) {
        const struct bytes_row *row = &bytes_rows[i];
        struct err err = {0};
        uint64_t value = 77;
        bool good = num_parse_bytes(str_of(row->text), &value, &err);
        if (good != row->good || value != (row->good ? row->value : 77) ||
            (!good && err.kind != ERR_INVALID)) {
            TEST_FAIL("'%s' gave %d, %" PRIu64, row->text, good, value);
        }
    }
}

TEST(bytes_message_names_the_text)
{
    struct err err;
    uint64_t value;
    CHECK(!num_parse_bytes(STR("99999999999999999999GB"), &value, &err));
    CHECK_STR(str_of(err.message),
              "'99999999999999999999GB' is not a size such as 512MB, 6GB or 1GiB");
}

TEST(bool_words)
{
    static const char *const yes[] = {"true", "TRUE", "1", "yes", "On"};
    static const char *const no[] = {"false", "False", "0", "no", "OFF"};
    static const char *const neither[] = {"", "2", "y", "t", "true ", "00"};
    struct err err;
    bool value;
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        value = false;
        CHECK_OK(num_parse_bool(str_of(yes[i]), &value, &err), err);
        CHECK(value);
        CHECK_OK(num_parse_bool(str_of(no[i]), &value, &err), err);
        CHECK(!value);
    }
    for (size_t i = 0; i < COUNT_OF(neither); i++) {
        CHECK(!num_parse_bool(str_of(neither[i]), &value, &err));
        CHECK(err.kind == ERR_INVALID);
    }
}

TEST(arithmetic_reports_overflow)
{
    size_t result = 0;
    CHECK(num_add(SIZE_MAX - 1, 1, &result));
    CHECK_U64(result, SIZE_MAX);
    CHECK(!num_add(SIZE_MAX, 1, &result));
    CHECK(num_mul(SIZE_MAX / 2, 2, &result));
    CHECK(!num_mul(SIZE_MAX / 2 + 1, 2, &result));
    CHECK(num_mul(0, SIZE_MAX, &result));
    CHECK_U64(result, 0);
}

static const struct test_case cases[] = {
    TEST_CASE(u64_table),
    TEST_CASE(u64_message_names_text_and_range),
    TEST_CASE(u64_ends_at_the_length),
    TEST_CASE(bytes_table),
    TEST_CASE(bytes_message_names_the_text),
    TEST_CASE(bool_words),
    TEST_CASE(arithmetic_reports_overflow),
};

TEST_MAIN(cases)
