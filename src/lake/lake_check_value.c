#include "clock.h"
#include "json_token.h"
#include "lake_check_internal.h"
#include "mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DECIMAL_DIGITS_MAX = 38,
    DOUBLE_DIGITS_MAX = 309,
    DATE_TEXT_MAX = 64,
    MS_PER_DAY = 86400000,
    MINUTES_PER_DAY = 1440
};

/* Years 1 to 9999, as days since 1970. */
#define DAY_MIN (-719162)
#define DAY_MAX 2932896

/* ---- what a number is ---- */

/* Exact when at most 53 bits stand between the highest and the lowest one. */
static bool fits_double(uint64_t magnitude)
{
    return magnitude == 0 || magnitude >> __builtin_ctzll(magnitude) < UINT64_C(1) << 53;
}

/* For integers beyond 64 bits: the double nearest to it, written in full, has the same digits or
 * not. */
static bool long_fits_double(struct str digits)
{
    char text[DOUBLE_DIGITS_MAX + 2];
    char again[DOUBLE_DIGITS_MAX + 2];
    if (digits.len > DOUBLE_DIGITS_MAX) {
        return false;
    }
    memcpy(text, digits.ptr, digits.len);
    text[digits.len] = '\0';
    double value = strtod(text, NULL);
    return isfinite(value) && snprintf(again, sizeof(again), "%.0f", value) == (int)digits.len &&
           memcmp(again, text, digits.len) == 0;
}

static unsigned look_at_integer(struct str text)
{
    bool negative = text.ptr[0] == '-';
    struct str digits = str_from(text, negative ? 1 : 0);
    uint64_t magnitude = 0;
    bool small = digits.len <= 19; /* 19 digits always fit 64 bits without a sign */
    for (size_t i = 0; small && i < digits.len; i++) {
        magnitude = magnitude * 10 + (uint64_t)(digits.ptr[i] - '0');
    }
    if (small && magnitude <= (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return LAKE_SAW_INT64 | (fits_double(magnitude) ? 0U : LAKE_SAW_INEXACT);
    }
    unsigned exact = long_fits_double(digits) ? 0 : LAKE_SAW_INEXACT;
    return exact | (digits.len <= DECIMAL_DIGITS_MAX ? LAKE_SAW_INT128 : LAKE_SAW_LONG);
}

/* Only a long number or an exponent can lead beyond the range of a double. */
static unsigned look_at_real(struct str text)
{
    bool exponent = str_find_byte(text, 'e') < text.len || str_find_byte(text, 'E') < text.len;
    if (!exponent && text.len < DOUBLE_DIGITS_MAX) {
        return LAKE_SAW_REAL;
    }
    CLEANUP(mem_free_text) char *copy = mem_copy_bytes(text.ptr, text.len);
    return isinf(strtod(copy, NULL)) ? LAKE_SAW_OVERFLOW : LAKE_SAW_REAL;
}

unsigned check_look_at(struct json_span value)
{
    switch (value.kind) {
    case JSON_NULL:
        return LAKE_SAW_NULL;
    case JSON_BOOL:
        return LAKE_SAW_BOOL;
    case JSON_INTEGER:
        return look_at_integer(value.text);
    case JSON_REAL:
        return look_at_real(value.text);
    case JSON_NONFINITE:
        return LAKE_SAW_REAL;
    case JSON_STRING:
        return LAKE_SAW_TEXT;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return LAKE_SAW_NESTED;
}

bool check_plain_value(struct str text)
{
    const char *at = text.ptr;
    const char *end = text.ptr + text.len;
    if (text.len > 0 && (*at == 't' || *at == 'f')) {
        return str_equal(text, STR("true")) || str_equal(text, STR("false"));
    }
    at += text.len > 0 && *at == '-';
    const char *digits = at;
    at = skip_digits(at, end);
    if (at == digits || (*digits == '0' && at > digits + 1)) {
        return false;
    }
    if (at < end && *at == '.') {
        digits = at + 1;
        at = skip_digits(digits, end);
        if (at == digits) {
            return false;
        }
    }
    if (at < end && (*at | 0x20) == 'e') {
        digits = at + 1;
        digits += digits < end && (*digits == '+' || *digits == '-');
        at = skip_digits(digits, end);
        return at > digits && at == end;
    }
    return at == end;
}

/* ---- days ---- */

/* Takes a number of exactly `size` digits; -1 when there is none. */
static int take_number(struct str *rest, size_t size)
{
    int value = 0;
    if (rest->len < size) {
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        char c = rest->ptr[i];
        if (c < '0' || c > '9') {
            return -1;
        }
        value = value * 10 + (c - '0');
    }
    *rest = str_from(*rest, size);
    return value;
}

static bool take_byte(struct str *rest, char byte)
{
    if (rest->len == 0 || rest->ptr[0] != byte) {
        return false;
    }
    *rest = str_from(*rest, 1);
    return true;
}

/* Days since 1970 of a real date: years are counted from March, so that a leap day is the last. */
static int32_t day_of_date(int year, int month, int day)
{
    int shifted = month <= 2 ? year - 1 : year;
    int era = shifted / 400;
    int year_of_era = shifted % 400;
    int day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static bool take_date(struct str *rest, int32_t *ret_day)
{
    int year = take_number(rest, 4);
    bool first = take_byte(rest, '-');
    int month = take_number(rest, 2);
    bool second = take_byte(rest, '-');
    int day = take_number(rest, 2);
    if (!first || !second || !clock_date_is_real(year, month, day)) {
        return false;
    }
    *ret_day = day_of_date(year, month, day);
    return true;
}

/* hh:mm, then optional seconds with an optional fraction; as minutes of the day. */
static bool take_time(struct str *rest, int *ret_minutes)
{
    int hour = take_number(rest, 2);
    bool colon = take_byte(rest, ':');
    int minute = take_number(rest, 2);
    if (!colon || hour < 0 || hour > 23 || minute < 0 || minute > 59) {
        return false;
    }
    *ret_minutes = hour * 60 + minute;
    if (!take_byte(rest, ':')) {
        return true;
    }
    int second = take_number(rest, 2);
    if (second < 0 || second > 59) {
        return false;
    }
    if (!take_byte(rest, '.')) {
        return true;
    }
    bool digits = false;
    while (rest->len > 0 && rest->ptr[0] >= '0' && rest->ptr[0] <= '9') {
        *rest = str_from(*rest, 1);
        digits = true;
    }
    return digits;
}

/* Z, +hh, +hhmm or +hh:mm, or nothing; in minutes. */
static bool take_offset(struct str *rest, int *ret_minutes)
{
    *ret_minutes = 0;
    if (rest->len == 0 || take_byte(rest, 'Z') || take_byte(rest, 'z')) {
        return true;
    }
    bool minus = take_byte(rest, '-');
    if (!minus && !take_byte(rest, '+')) {
        return false;
    }
    int hours = take_number(rest, 2);
    bool colon = take_byte(rest, ':');
    int minutes = rest->len > 0 || colon ? take_number(rest, 2) : 0;
    if (hours < 0 || hours > 15 || minutes < 0 || minutes > 59) {
        return false;
    }
    *ret_minutes = (minus ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

static bool day_of_text(struct str text, int32_t *ret_day)
{
    int32_t day;
    int minutes;
    int offset;
    if (!take_date(&text, &day)) {
        return false;
    }
    if (text.len > 0) {
        if (!(take_byte(&text, 'T') || take_byte(&text, 't') || take_byte(&text, ' ')) ||
            !take_time(&text, &minutes) || !take_offset(&text, &offset) || text.len > 0) {
            return false;
        }
        minutes -= offset;
        day += minutes < 0 ? -1 : minutes >= MINUTES_PER_DAY ? 1 : 0;
    }
    *ret_day = day;
    return day >= DAY_MIN && day <= DAY_MAX;
}

static bool day_of_ms(struct str digits, int32_t *ret_day)
{
    bool negative = digits.ptr[0] == '-';
    int64_t ms = 0;
    for (size_t i = negative; i < digits.len; i++) { /* within 64 bits: the column is a BIGINT */
        int digit = digits.ptr[i] - '0';
        ms = ms * 10 + (negative ? -digit : digit);
    }
    int64_t day = ms / MS_PER_DAY - (ms % MS_PER_DAY < 0 ? 1 : 0);
    *ret_day = day >= DAY_MIN && day <= DAY_MAX ? (int32_t)day : 0;
    return day >= DAY_MIN && day <= DAY_MAX;
}

/* A value that does not fit the column goes to _rest, and its row has none then. */
enum check_day check_day_of(const struct lake_schema_column *column, struct json_span value,
                            int32_t *ret_day)
{
    if (value.kind == JSON_NULL) {
        return CHECK_DAY_MISSING;
    }
    if (column->kind == LAKE_BIGINT) {
        if ((check_look_at(value) & LAKE_SAW_INT64) == 0) {
            return CHECK_DAY_MISSING;
        }
        return day_of_ms(value.text, ret_day) ? CHECK_DAY_KNOWN : CHECK_DAY_WRONG;
    }
    bool good;
    if (value.kind == JSON_STRING && !value.escaped) {
        good = day_of_text(str_make(value.text.ptr + 1, value.text.len - 2), ret_day);
    } else {
        CLEANUP(buf_finish) struct buf text = {0};
        buf_init(&text, DATE_TEXT_MAX);
        good = value.kind == JSON_STRING && json_unescape(value, &text) && !buf_failed(&text) &&
               day_of_text(buf_str(&text), ret_day);
    }
    return good ? CHECK_DAY_KNOWN : CHECK_DAY_WRONG;
}
