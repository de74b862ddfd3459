/* worker_number.h - numbers and times as the snapshot contract prints them in JSON: the way
 * JavaScript does. */
#pragma once

#include "buf.h"

#include <duckdb.h>

/* Writes the digits at `at`, at most 20 characters, and returns where they end. */
char *number_put_u64(char *at, uint64_t value);
char *number_put_i64(char *at, int64_t value);

/* Shortest round-trip text, 1e21 as 1e+21, -0 as 0; not-a-number and infinities as null. */
void number_append_double(struct buf *out, double value);

/* Appends nothing and answers false unless the value is finite and has at most 15 digits, of which
 * six after the point. The sign of zero is lost. */
bool number_append_short_double(struct buf *out, double value);

/* A number while it is exact in a double (53 bits), else a string of digits. */
void number_append_i64(struct buf *out, int64_t value);
void number_append_u64(struct buf *out, uint64_t value);
void number_append_i128(struct buf *out, __int128 value);
void number_append_u128(struct buf *out, unsigned __int128 value);

/* value / 10^scale: a number without trailing zeros while a double holds it exactly as written,
 * else a string with all its digits. */
void number_append_decimal(struct buf *out, __int128 value, unsigned scale);

/* Days since 1970-01-01 in the Gregorian calendar, for any year. */
struct calendar_day {
    int64_t year;
    int month;
    int day;
};
struct calendar_day number_calendar_of(int64_t days);

/* "2024-01-15T10:11:12.123Z"; null outside the range of a JavaScript Date. */
void number_append_timestamp_ms(struct buf *out, int64_t ms_since_1970);
