#include "test.h"

#include "clock.h"

struct time_row {
    int64_t wall_ms;
    const char *iso;
    const char *amz;
};

/* clang-format off */
static const struct time_row time_rows[] = {
    { 0, "1970-01-01T00:00:00.000Z", "19700101T000000Z" },
    { 1, "1970-01-01T00:00:00.001Z", "19700101T000000Z" },
    { 951827696789, "2000-02-29T12:34:56.789Z", "20000229T123456Z" },
    { 1369353600000, "2013-05-24T00:00:00.000Z", "20130524T000000Z" },
    { 1709251199999, "2024-02-29T23:59:59.999Z", "20240229T235959Z" },
    { 4107542400000, "2100-03-01T00:00:00.000Z", "21000301T000000Z" },
    { 253402300799999, "9999-12-31T23:59:59.999Z", "99991231T235959Z" },
};
/* clang-format on */

TEST(formats)
{
    for (size_t i = 0; i < COUNT_OF(time_rows); i++) {
        char text[CLOCK_ISO_SIZE];
        clock_format_iso(time_rows[i].wall_ms, text);
        CHECK_STR(str_of(text), time_rows[i].iso);
        clock_format_amz(time_rows[i].wall_ms, text);
        CHECK_STR(str_of(text), time_rows[i].amz);
    }
}

TEST(civil_parts)
{
    struct civil_time t = clock_civil_utc(951827696789);
    CHECK_I64(t.year, 2000);
    CHECK_I64(t.month, 2);
    CHECK_I64(t.day, 29);
    CHECK_I64(t.hour, 12);
    CHECK_I64(t.minute, 34);
    CHECK_I64(t.second, 56);
    CHECK_I64(t.millisecond, 789);
}

struct date_row {
    int year, month, day;
    bool real;
};

static const struct date_row date_rows[] = {
    {1, 1, 1, true},      {9999, 12, 31, true},  {0, 1, 1, false},     {10000, 1, 1, false},
    {-1, 1, 1, false},    {2024, 0, 1, false},   {2024, 13, 1, false}, {2024, 1, 0, false},
    {2024, 1, -1, false}, {2024, 1, 31, true},   {2024, 1, 32, false}, {2024, 4, 30, true},
    {2024, 4, 31, false}, {2024, 6, 31, false},  {2024, 9, 31, false}, {2024, 11, 31, false},
    {2024, 2, 29, true},  {2024, 2, 30, false},  {2023, 2, 28, true},  {2023, 2, 29, false},
    {1900, 2, 29, false}, {2000, 2, 29, true},   {2100, 2, 29, false}, {2400, 2, 29, true},
    {2024, 12, 31, true}, {2024, 12, 32, false},
};

TEST(dates_that_are_real)
{
    for (size_t i = 0; i < COUNT_OF(date_rows); i++) {
        const struct date_row *row = &date_rows[i];
        if (clock_date_is_real(row->year, row->month, row->day) != row->real) {
            TEST_FAIL("%d-%d-%d", row->year, row->month, row->day);
        }
    }
}

/* A day that the calendar has is the same day after a round trip, and they come one by one. */
TEST(days_of_four_centuries)
{
    int64_t day = 0;
    for (int year = 1970; year < 2371; year++) {
        for (int month = 1; month <= 12; month++) {
            for (int number = 1; clock_date_is_real(year, month, number); number++) {
                struct civil_time t = clock_civil_utc(day * 86400000);
                CHECK(t.year == year && t.month == month && t.day == number);
                day++;
            }
        }
    }
    CHECK_I64(day, 146097 + 365);
}

TEST(monotonic_never_goes_back)
{
    int64_t before_us = clock_now_us();
    int64_t before_ms = clock_now_ms();
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock_now_us();
        CHECK(now >= before_us);
        before_us = now;
    }
    CHECK(clock_now_ms() >= before_ms);
    CHECK(clock_now_us() / 1000 - before_ms < 60000);
    CHECK(clock_wall_ms() > 1700000000000);
}

static const struct test_case cases[] = {
    TEST_CASE(formats),
    TEST_CASE(civil_parts),
    TEST_CASE(dates_that_are_real),
    TEST_CASE(days_of_four_centuries),
    TEST_CASE(monotonic_never_goes_back),
};

TEST_MAIN(cases)
