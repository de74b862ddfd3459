#include "test.h"

#include "worker_number.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

struct double_row {
    double value;
    const char *text;
};

/* What JSON.stringify of a JavaScript engine prints. */
/* clang-format off */
static const struct double_row double_rows[] = {
    { 0.0, "0" },
    { -0.0, "0" },
    { 1.0, "1" },
    { -1.0, "-1" },
    { 1.5, "1.5" },
    { -1.5, "-1.5" },
    { 0.1, "0.1" },
    { 0.3, "0.3" },
    { 0.1 + 0.2, "0.30000000000000004" },
    { (double)0.1F, "0.10000000149011612" },
    { (double)16777216.0F, "16777216" },
    { (double)3.4028235e38F, "3.4028234663852886e+38" },
    { 123456.789, "123456.789" },
    { 1e-6, "0.000001" },
    { 1.5e-6, "0.0000015" },
    { 1e-7, "1e-7" },
    { 1.25e-7, "1.25e-7" },
    { -1.25e-7, "-1.25e-7" },
    { 9.99e-7, "9.99e-7" },
    { 1e15, "1000000000000000" },
    { 1e16, "10000000000000000" },
    { 1e20, "100000000000000000000" },
    { 123456789012345680000.0, "123456789012345680000" },
    { -123456789012345680000.0, "-123456789012345680000" },
    { 999999999999999900000.0, "999999999999999900000" },
    { 1e21, "1e+21" },
    { -1e21, "-1e+21" },
    { 1.5e21, "1.5e+21" },
    { 1.7976931348623157e21, "1.7976931348623157e+21" },
    { 1e100, "1e+100" },
    { 9007199254740991.0, "9007199254740991" },
    { 9007199254740992.0, "9007199254740992" },
    { 9007199254740994.0, "9007199254740994" },
    { 1000000000000000.5, "1000000000000000.5" },
    { 1234567890123456.7, "1234567890123456.8" },
    { 4.35, "4.35" },
    { 100.0 / 3.0, "33.333333333333336" },
    { 5e-324, "5e-324" },
    { 1e-323, "1e-323" },
    { 2.225073858507201e-308, "2.225073858507201e-308" },
    { 2.2250738585072014e-308, "2.2250738585072014e-308" },
    { 1.7976931348623157e308, "1.7976931348623157e+308" },
    { -1.7976931348623157e308, "-1.7976931348623157e+308" },
    { (double)INFINITY, "null" },
    { (double)-INFINITY, "null" },
    { (double)NAN, "null" },
};
/* clang-format on */

TEST(doubles_as_javascript)
{
    struct buf out;
    buf_init(&out, 100);
    for (size_t i = 0; i < COUNT_OF(double_rows); i++) {
        buf_reset(&out);
        number_append_double(&out, double_rows[i].value);
        CHECK_STR(buf_str(&out), double_rows[i].text);
    }
    buf_finish(&out);
}

/* Bit patterns of a fixed sequence: what is printed reads back as the same double, in at most 25
 * bytes. */
TEST(doubles_read_back)
{
    struct buf out;
    uint64_t seed = 88172645463325252U;
    buf_init(&out, 100);
    for (int i = 0; i < 100000; i++) {
        double value;
        double again = 0;
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        memcpy(&value, &seed, sizeof(value));
        buf_reset(&out);
        number_append_double(&out, value);
        if (isfinite(value)) {
            CHECK(sscanf(out.ptr, "%lf", &again) == 1);
            CHECK(memcmp(&again, &value, sizeof(value)) == 0);
        } else {
            CHECK_STR(buf_str(&out), "null");
        }
        CHECK(out.len <= 25);
    }
    buf_finish(&out);
}

/* Those of few decimals go another way than others: both must print the same. */
TEST(doubles_of_few_decimals)
{
    struct buf out;
    uint64_t seed = 88172645463325252U;
    buf_init(&out, 100);
    for (int i = 0; i < 200000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        static const double divisors[] = {1, 10, 100, 1000, 1e4, 1e5, 1e6, 1e7, 1e9};
        int64_t whole = (int64_t)(seed >> 16) >> (seed % 40);
        double value =
            (double)(seed & 1 ? whole : -whole) / divisors[seed / 2 % COUNT_OF(divisors)];
        char expected[64];
        for (int digits = 1; digits <= 17; digits++) {
            (void)snprintf(expected, sizeof(expected), "%.*g", digits, value);
            if (strtod(expected, NULL) == value) {
                break;
            }
        }
        buf_reset(&out);
        number_append_double(&out, value);
        CHECK(strtod(out.ptr, NULL) == value);
        size_t digits = 0;
        size_t expected_digits = 0;
        for (const char *c = out.ptr; *c != '\0' && *c != 'e'; c++) {
            digits += *c >= '0' && *c <= '9' && (digits > 0 || *c != '0');
        }
        for (const char *c = expected; *c != '\0' && *c != 'e'; c++) {
            expected_digits += *c >= '0' && *c <= '9' && (expected_digits > 0 || *c != '0');
        }
        CHECK(value == 0 || strchr(out.ptr, '.') == NULL || digits == expected_digits);
    }
    buf_finish(&out);
}

TEST(digits_of_any_count)
{
    char text[32];
    char expected[32];
    uint64_t value = 1;
    for (int i = 0; i < 64; i++, value *= 2) {
        for (uint64_t near = value - 1; near <= value + 1; near++) {
            *number_put_u64(text, near) = '\0';
            (void)snprintf(expected, sizeof(expected), "%" PRIu64, near);
            CHECK_STR(str_of(text), expected);
            *number_put_i64(text, (int64_t)near) = '\0';
            (void)snprintf(expected, sizeof(expected), "%" PRId64, (int64_t)near);
            CHECK_STR(str_of(text), expected);
        }
    }
    value = 1;
    for (int i = 0; i < 20; i++, value *= 10) {
        *number_put_u64(text, value) = '\0';
        (void)snprintf(expected, sizeof(expected), "%" PRIu64, value);
        CHECK_STR(str_of(text), expected);
        *number_put_u64(text, value - 1) = '\0';
        (void)snprintf(expected, sizeof(expected), "%" PRIu64, value - 1);
        CHECK_STR(str_of(text), expected);
    }
}

TEST(integers_are_numbers_while_exact)
{
    struct buf out;
    buf_init(&out, 1000);
    static const int64_t values[] = {0,
                                     -1,
                                     9007199254740991,
                                     -9007199254740991,
                                     9007199254740992,
                                     -9007199254740992,
                                     INT64_MAX,
                                     INT64_MIN};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        number_append_i64(&out, values[i]);
        buf_append_byte(&out, ' ');
    }
    CHECK_STR(buf_str(&out), "0 -1 9007199254740991 -9007199254740991 \"9007199254740992\" "
                             "\"-9007199254740992\" \"9223372036854775807\" "
                             "\"-9223372036854775808\" ");
    buf_reset(&out);
    number_append_u64(&out, 9007199254740991);
    buf_append_byte(&out, ' ');
    number_append_u64(&out, 9007199254740992);
    buf_append_byte(&out, ' ');
    number_append_u64(&out, UINT64_MAX);
    CHECK_STR(buf_str(&out), "9007199254740991 \"9007199254740992\" \"18446744073709551615\"");
    buf_finish(&out);
}

TEST(integers_of_128_bits)
{
    struct buf out;
    const unsigned __int128 most = ~(unsigned __int128)0;
    const __int128 largest = (__int128)(most >> 1);
    buf_init(&out, 1000);
    number_append_i128(&out, -9007199254740991);
    buf_append_byte(&out, ' ');
    number_append_i128(&out, -9007199254740992);
    buf_append_byte(&out, ' ');
    number_append_i128(&out, largest);
    buf_append_byte(&out, ' ');
    number_append_i128(&out, -largest - 1);
    buf_append_byte(&out, ' ');
    number_append_u128(&out, 7);
    buf_append_byte(&out, ' ');
    number_append_u128(&out, most);
    CHECK_STR(buf_str(&out), "-9007199254740991 \"-9007199254740992\" "
                             "\"170141183460469231731687303715884105727\" "
                             "\"-170141183460469231731687303715884105728\" 7 "
                             "\"340282366920938463463374607431768211455\"");
    buf_finish(&out);
}

/* value = high * 10^18 + low, so that the table can name large ones. */
struct decimal_row {
    int64_t high, low;
    unsigned scale;
    const char *text;
};

/* clang-format off */
static const struct decimal_row decimal_rows[] = {
    { 0, 0, 0, "0" },
    { 0, 0, 18, "0" },
    { 0, 150, 2, "1.5" },
    { 0, -150, 2, "-1.5" },
    { 0, 100, 2, "1" },
    { 0, 5, 0, "5" },
    { 0, 1, 1, "0.1" },
    { 0, 1, 6, "0.000001" },
    { 0, 1, 7, "1e-7" },
    { 0, -125, 9, "-1.25e-7" },
    { 0, 1, 38, "1e-38" },
    { 0, 123456789012345, 3, "123456789012.345" },          /* 15 digits always survive */
    { 0, 999999999999999, 0, "999999999999999" },
    { 0, 1234567890123456, 2, "12345678901234.56" },        /* 16 that do */
    { 0, 9007199254740993, 0, "\"9007199254740993\"" },     /* 16 that do not */
    { 0, 9007199254740992, 0, "9007199254740992" },
    { 0, 1234567890123456789, 2, "\"12345678901234567.89\"" },
    { 0, -1234567890123456789, 2, "\"-12345678901234567.89\"" },
    { 0, 1234567890123456780, 2, "\"12345678901234567.80\"" }, /* a string keeps all its digits */
    { 0, 1234567890123456789, 18, "\"1.234567890123456789\"" },
    { 0, 123456789012345678, 18, "\"0.123456789012345678\"" },
    { 0, 123456789012345678, 20, "\"0.00123456789012345678\"" },
    { 0, 1000000000000000000, 0, "1000000000000000000" },
    { 1000, 0, 0, "1e+21" },
    { 100, 0, 0, "100000000000000000000" },
    { 1000, 0, 21, "1" },
    { INT64_C(99999999999999999), 999999999999999999, 0, "\"99999999999999999999999999999999999\"" },
    { INT64_C(99999999999999999), 999999999999999999, 35, "\"0.99999999999999999999999999999999999\"" },
};
/* clang-format on */

TEST(decimals_are_numbers_while_exact)
{
    struct buf out;
    buf_init(&out, 100);
    for (size_t i = 0; i < COUNT_OF(decimal_rows); i++) {
        const struct decimal_row *row = &decimal_rows[i];
        buf_reset(&out);
        number_append_decimal(&out, (__int128)row->high * 1000000000000000000 + row->low,
                              row->scale);
        CHECK_STR(buf_str(&out), row->text);
    }
    buf_finish(&out);
}

struct timestamp_row {
    int64_t ms;
    const char *text;
};

/* clang-format off */
static const struct timestamp_row timestamp_rows[] = {
    { 0, "\"1970-01-01T00:00:00.000Z\"" },
    { 1705313472123, "\"2024-01-15T10:11:12.123Z\"" },
    { 951782400000, "\"2000-02-29T00:00:00.000Z\"" },
    { -1, "\"1969-12-31T23:59:59.999Z\"" },
    { -86400000, "\"1969-12-31T00:00:00.000Z\"" },
    { -86400001, "\"1969-12-30T23:59:59.999Z\"" },
    { -2208988800000, "\"1900-01-01T00:00:00.000Z\"" },
    { -62135596800000, "\"0001-01-01T00:00:00.000Z\"" },
    { -62135596800001, "\"0000-12-31T23:59:59.999Z\"" },
    { -62162208000000, "\"0000-02-28T00:00:00.000Z\"" },
    { -62162121600000, "\"0000-02-29T00:00:00.000Z\"" },     /* year 0 is a leap year */
    { -62167219200000, "\"0000-01-01T00:00:00.000Z\"" },
    { -62167219200001, "\"-000001-12-31T23:59:59.999Z\"" },
    { 253402300799999, "\"9999-12-31T23:59:59.999Z\"" },
    { 253402300800000, "\"+010000-01-01T00:00:00.000Z\"" },
    { 8640000000000000, "\"+275760-09-13T00:00:00.000Z\"" },
    { 8640000000000001, "null" },
    { -8640000000000000, "\"-271821-04-20T00:00:00.000Z\"" },
    { -8640000000000001, "null" },
    { INT64_MAX, "null" },
    { INT64_MIN, "null" },
};
/* clang-format on */

TEST(timestamps_as_javascript)
{
    struct buf out;
    buf_init(&out, 100);
    for (size_t i = 0; i < COUNT_OF(timestamp_rows); i++) {
        buf_reset(&out);
        number_append_timestamp_ms(&out, timestamp_rows[i].ms);
        CHECK_STR(buf_str(&out), timestamp_rows[i].text);
    }
    buf_finish(&out);
}

static int month_days(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (leap && month == 2);
}

/* Two eras around 1970, counted day by day. */
TEST(every_day_follows_the_one_before)
{
    struct calendar_day day = number_calendar_of(0);
    CHECK(day.year == 1970 && day.month == 1 && day.day == 1);
    day = number_calendar_of(-146098);
    for (int64_t days = -146097; days < 146097; days++) {
        if (++day.day > month_days(day.year, day.month)) {
            day.day = 1;
            day.month++;
        }
        if (day.month > 12) {
            day.month = 1;
            day.year++;
        }
        struct calendar_day found = number_calendar_of(days);
        CHECK_I64(found.year, day.year);
        CHECK_I64(found.month, day.month);
        CHECK_I64(found.day, day.day);
    }
}

static const struct test_case cases[] = {
    TEST_CASE(doubles_as_javascript),
    TEST_CASE(doubles_read_back),
    TEST_CASE(doubles_of_few_decimals),
    TEST_CASE(digits_of_any_count),
    TEST_CASE(integers_are_numbers_while_exact),
    TEST_CASE(integers_of_128_bits),
    TEST_CASE(decimals_are_numbers_while_exact),
    TEST_CASE(timestamps_as_javascript),
    TEST_CASE(every_day_follows_the_one_before),
};

TEST_MAIN(cases)
