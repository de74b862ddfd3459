#include "worker_number.h"

#include "worker_shim.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SAFE_INTEGER_MAX INT64_C(9007199254740991)
#define DATE_MS_MAX INT64_C(8640000000000000)

enum {
    DIGITS_SIZE = 40,
    DAY_MS = 86400000,
    DIGITS_EXACT = 15 /* that many decimal digits are the same after a way through a double */
};

#define EXACT_MAX INT64_C(999999999999999) /* of DIGITS_EXACT nines */

/* "00" to "99": most of the time of printing a number goes into dividing by ten. */
static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233"
                            "34353637383940414243444546474849505152535455565758596061626364656667"
                            "68697071727374757677787980818283848586878889909192939495969798"
                            "99";

static char *put_pair(char *at, unsigned value)
{
    memcpy(at, pairs + (size_t)value * 2, 2);
    return at + 2;
}

static unsigned count_digits(uint64_t value)
{
    unsigned count = 1;
    for (; value >= 10000; value /= 10000) {
        count += 4;
    }
    return count + (value >= 10) + (value >= 100) + (value >= 1000);
}

char *number_put_u64(char *at, uint64_t value)
{
    char *end = at + count_digits(value);
    char *front = end;
    for (; value >= 100; value /= 100) {
        front -= 2;
        put_pair(front, (unsigned)(value % 100));
    }
    if (value >= 10) {
        put_pair(at, (unsigned)value);
    } else {
        *at = (char)('0' + value);
    }
    return end;
}

char *number_put_i64(char *at, int64_t value)
{
    uint64_t magnitude = (uint64_t)value;
    if (value < 0) {
        *at++ = '-';
        magnitude = 0 - magnitude;
    }
    return number_put_u64(at, magnitude);
}

/* Number::toString of ECMAScript: digits d1..dn and an exponent with value = 0.d1..dn *
 * 10^exponent. */
static void append_js(struct buf *out, bool negative, const char *digits, int count, int exponent)
{
    if (negative) {
        buf_append_byte(out, '-');
    }
    if (exponent >= count && exponent <= 21) {
        buf_append_bytes(out, digits, (size_t)count);
        for (int i = count; i < exponent; i++) {
            buf_append_byte(out, '0');
        }
    } else if (exponent > 0 && exponent <= 21) {
        buf_append_bytes(out, digits, (size_t)exponent);
        buf_append_byte(out, '.');
        buf_append_bytes(out, digits + exponent, (size_t)(count - exponent));
    } else if (exponent > -6 && exponent <= 0) {
        buf_append_bytes(out, "0.000000", (size_t)(2 - exponent));
        buf_append_bytes(out, digits, (size_t)count);
    } else {
        buf_append_byte(out, digits[0]);
        if (count > 1) {
            buf_append_byte(out, '.');
            buf_append_bytes(out, digits + 1, (size_t)(count - 1));
        }
        buf_append_format(out, "e%+d", exponent - 1);
    }
}

static const int64_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000};

/* value / 10^scale without trailing zeros, for at most DIGITS_EXACT digits and a scale that never
 * needs an exponent. */
static char *put_short_decimal(char *at, int64_t value, unsigned scale)
{
    assert(scale < COUNT_OF(powers));
    if (value < 0) {
        *at++ = '-';
        value = -value;
    }
    at = number_put_u64(at, (uint64_t)(value / powers[scale]));
    uint64_t fraction = (uint64_t)(value % powers[scale]);
    if (fraction == 0) {
        return at;
    }
    for (; fraction % 10 == 0; fraction /= 10) {
        scale--;
    }
    *at = '.';
    for (char *digit = at + scale; digit > at; digit--) {
        *digit = (char)('0' + fraction % 10);
        fraction /= 10;
    }
    return at + scale + 1;
}

/* Whole numbers, and those of a few decimals, which most doubles of tables are: when n / 10^6 is
 * this very double and n has at most 15 digits, no other text of so few digits is. */
bool number_append_short_double(struct buf *out, double value)
{
    if (!(value > -1e9 && value < 1e9)) {
        return false;
    }
    int64_t millionths = (int64_t)(value * 1e6 + (value < 0 ? -0.5 : 0.5));
    if ((double)millionths / 1e6 != value || millionths > EXACT_MAX || millionths < -EXACT_MAX) {
        return false;
    }
    char *at = buf_room(out, DIGITS_SIZE);
    if (at != NULL) {
        buf_wrote(out, put_short_decimal(at, millionths, 6));
    }
    return true;
}

void number_append_double(struct buf *out, double value)
{
    if (!isfinite(value)) {
        buf_append_text(out, "null");
        return;
    }
    if (number_append_short_double(out, value)) {
        return;
    }
    if (value >= -1e15 && value <= 1e15 && value == (double)(int64_t)value) {
        buf_append_i64(out, (int64_t)value);
        return;
    }
    char digits[SHIM_DIGITS_SIZE];
    int exponent;
    size_t count = shim_shortest_digits(fabs(value), digits, &exponent);
    append_js(out, value < 0, digits, (int)count, exponent);
}

void number_append_i64(struct buf *out, int64_t value)
{
    char *at = buf_room(out, DIGITS_SIZE);
    if (at == NULL) {
        return;
    }
    bool safe = value >= -SAFE_INTEGER_MAX && value <= SAFE_INTEGER_MAX;
    *at = '"';
    at = number_put_i64(at + !safe, value);
    *at = '"';
    buf_wrote(out, at + !safe);
}

void number_append_u64(struct buf *out, uint64_t value)
{
    if (value <= INT64_MAX) {
        number_append_i64(out, (int64_t)value);
    } else {
        number_append_u128(out, value);
    }
}

/* Writes the digits at the end of `text` and returns where they begin. */
static size_t digits_of(unsigned __int128 value, char text[static DIGITS_SIZE])
{
    size_t at = DIGITS_SIZE;
    do {
        text[--at] = (char)('0' + (int)(value % 10));
        value /= 10;
    } while (value > 0);
    return at;
}

static unsigned __int128 magnitude_of(__int128 value)
{
    unsigned __int128 bits = (unsigned __int128)value;
    return value < 0 ? 0 - bits : bits;
}

static void append_digits_string(struct buf *out, bool negative, unsigned __int128 magnitude)
{
    char text[DIGITS_SIZE];
    size_t at = digits_of(magnitude, text);
    buf_append_text(out, negative ? "\"-" : "\"");
    buf_append_bytes(out, text + at, DIGITS_SIZE - at);
    buf_append_byte(out, '"');
}

void number_append_i128(struct buf *out, __int128 value)
{
    if (value >= -SAFE_INTEGER_MAX && value <= SAFE_INTEGER_MAX) {
        buf_append_i64(out, (int64_t)value);
    } else {
        append_digits_string(out, value < 0, magnitude_of(value));
    }
}

void number_append_u128(struct buf *out, unsigned __int128 value)
{
    if (value <= (unsigned __int128)SAFE_INTEGER_MAX) {
        buf_append_i64(out, (int64_t)value);
    } else {
        append_digits_string(out, false, value);
    }
}

/* Whether reading these digits as a double and printing that gives the same digits. 15 always do.
 */
static bool survives_double(const char *digits, int count, int exponent)
{
    if (count <= DIGITS_EXACT) {
        return true;
    }
    if (count > 17) {
        return false;
    }
    char text[64];
    (void)snprintf(text, sizeof(text), "0.%.*se%d", count, digits, exponent);
    char shortest[SHIM_DIGITS_SIZE];
    int shortest_exponent;
    size_t size = shim_shortest_digits(strtod(text, NULL), shortest, &shortest_exponent);
    return size == (size_t)count && shortest_exponent == exponent &&
           memcmp(shortest, digits, size) == 0;
}

static void append_decimal_string(struct buf *out, bool negative, const char *digits, int count,
                                  int scale)
{
    buf_append_text(out, negative ? "\"-" : "\"");
    int whole = count > scale ? count - scale : 0;
    if (whole == 0) {
        buf_append_byte(out, '0');
    }
    buf_append_bytes(out, digits, (size_t)whole);
    if (scale > 0) {
        buf_append_byte(out, '.');
        for (int i = count; i < scale; i++) {
            buf_append_byte(out, '0');
        }
        buf_append_bytes(out, digits + whole, (size_t)(count - whole));
    }
    buf_append_byte(out, '"');
}

void number_append_decimal(struct buf *out, __int128 value, unsigned scale)
{
    if (value >= -EXACT_MAX && value <= EXACT_MAX && scale < COUNT_OF(powers)) {
        char *short_text = buf_room(out, DIGITS_SIZE);
        if (short_text != NULL) {
            buf_wrote(out, put_short_decimal(short_text, (int64_t)value, scale));
        }
        return;
    }
    if (value == 0) {
        buf_append_byte(out, '0');
        return;
    }
    char text[DIGITS_SIZE];
    size_t at = digits_of(magnitude_of(value), text);
    int count = (int)(DIGITS_SIZE - at);
    int exponent = count - (int)scale;
    int kept = count;
    while (kept > 1 && text[at + (size_t)kept - 1] == '0') {
        kept--;
    }
    if (survives_double(text + at, kept, exponent)) {
        append_js(out, value < 0, text + at, kept, exponent);
    } else {
        append_decimal_string(out, value < 0, text + at, count, (int)scale);
    }
}

/* Eras of 400 years, centuries and years that begin on March 1st, so that what is odd comes last: a
 * day in an era is 4n + 3 quarters of a day into it, of which a century has 146097 and a year 1461.
 * The last two divisions, by 1461 and, for the month, by 30.6, are multiplications, exact for all
 * days of a century and of a year: 2939745 is 2^32 / 1461, 2141 is 2^16 / 30.6, rounded. */
struct calendar_day number_calendar_of(int64_t days)
{
    enum {
        DAYS_BEFORE_1970 = 719468,
        ERA_DAYS = 146097,
        JANUARY = 306 /* its first day in such a year */
    };
    days += DAYS_BEFORE_1970;
    int64_t era = (days >= 0 ? days : days - (ERA_DAYS - 1)) / ERA_DAYS;
    uint32_t in_era = 4 * (uint32_t)(days - era * ERA_DAYS) + 3;
    uint32_t century = in_era / ERA_DAYS;
    uint32_t in_century = in_era % ERA_DAYS | 3;
    uint64_t years = UINT64_C(2939745) * in_century;
    uint32_t day_of_year = (uint32_t)years / 2939745 / 4;
    uint32_t months = 2141 * day_of_year + 197913; /* three months more than have gone */
    bool next_year = day_of_year >= JANUARY;
    return (struct calendar_day){
        .year = era * 400 + century * 100 + (int64_t)(years >> 32) + next_year,
        .month = (int)(months >> 16) - (next_year ? 12 : 0),
        .day = (int)((months & 0xFFFF) / 2141) + 1,
    };
}

/* The years that take four digits; others have a sign and six. */
static char *put_year(char *at, int64_t year)
{
    unsigned magnitude = (unsigned)(year < 0 ? -year : year);
    if (year < 0 || year > 9999) {
        *at++ = year < 0 ? '-' : '+';
        at = put_pair(at, magnitude / 10000);
    }
    at = put_pair(at, magnitude / 100 % 100);
    return put_pair(at, magnitude % 100);
}

void number_append_timestamp_ms(struct buf *out, int64_t ms)
{
    if (ms > DATE_MS_MAX || ms < -DATE_MS_MAX) {
        buf_append_text(out, "null");
        return;
    }
    char *at = buf_room(out, DIGITS_SIZE);
    if (at == NULL) {
        return;
    }
    int64_t days = ms / DAY_MS - (ms % DAY_MS < 0);
    unsigned rest = (unsigned)(ms - days * DAY_MS);
    struct calendar_day date = number_calendar_of(days);
    *at++ = '"';
    at = put_year(at, date.year);
    *at++ = '-';
    at = put_pair(at, (unsigned)date.month);
    *at++ = '-';
    at = put_pair(at, (unsigned)date.day);
    *at++ = 'T';
    at = put_pair(at, rest / 3600000);
    *at++ = ':';
    at = put_pair(at, rest / 60000 % 60);
    *at++ = ':';
    at = put_pair(at, rest / 1000 % 60);
    *at++ = '.';
    *at++ = (char)('0' + rest % 1000 / 100);
    at = put_pair(at, rest % 100);
    *at++ = 'Z';
    *at++ = '"';
    buf_wrote(out, at);
}
