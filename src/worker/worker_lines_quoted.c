#include "worker_lines_quoted.h"

#include "json_token.h"
#include "worker_lines_text.h"

enum {
    YEAR_MIN = 1600, /* the calendars of all casts agree from then on */
    YEAR_MAX = 2399,
    FRACTION_DIGITS = 6,
    DOUBLE_TEXT_MAX = 25 /* more is seldom, and a cast may say no to it */
};

duckdb_type lines_quoted_type(const struct worker_column *column)
{
    static const struct {
        const char *name;
        duckdb_type type;
    } types[] = {
        {"BIGINT", DUCKDB_TYPE_BIGINT},       {"INTEGER", DUCKDB_TYPE_INTEGER},
        {"DOUBLE", DUCKDB_TYPE_DOUBLE},       {"BOOLEAN", DUCKDB_TYPE_BOOLEAN},
        {"TIMESTAMP", DUCKDB_TYPE_TIMESTAMP},
    };
    bool text = column->loose == 0 && str_equal(column->line_type, STR("VARCHAR"));
    duckdb_type found = DUCKDB_TYPE_INVALID;
    for (size_t i = 0; text && i < COUNT_OF(types); i++) {
        found = str_equal_nocase(column->sql_type, str_of(types[i].name)) ? types[i].type : found;
    }
    return found;
}

/* ---- moments ---- */

/* `count` digits as a number; -1 when one is none. No digit is a control character, so the line's
 * end stops it. */
static int take_digits(const char *at, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(at[i])) {
            return -1;
        }
        value = value * 10 + (at[i] - '0');
    }
    return value;
}

static bool is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Since 1970-01-01; or INT32_MIN, when there is no such day. */
static int32_t days_of(int year, int month, int day)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    enum {
        DAYS_UNTIL_1970 = 719162
    };
    if (year < YEAR_MIN || year > YEAR_MAX || month < 1 || month > 12 || day < 1) {
        return INT32_MIN;
    }
    int leap = is_leap(year) ? 1 : 0;
    int length = before[month] - before[month - 1] + (month == 2 ? leap : 0);
    int whole = year - 1;
    int32_t first = whole * 365 + whole / 4 - whole / 100 + whole / 400 - DAYS_UNTIL_1970;
    return day > length ? INT32_MIN : first + before[month - 1] + (month > 2 ? leap : 0) + day - 1;
}

/* .5 and the like as microseconds; *at moves behind it. */
static int take_fraction(const char **at)
{
    int value = 0;
    int digits = 0;
    for (*at += 1; is_digit(**at) && digits < FRACTION_DIGITS; *at += 1, digits++) {
        value = value * 10 + (**at - '0');
    }
    int seen = digits;
    for (; digits < FRACTION_DIGITS; digits++) {
        value *= 10;
    }
    return seen == 0 ? -1 : value;
}

/* 2026-03-01T12:30:45.5Z, with a blank for the T, and without fraction or Z: a text without an
 * offset is of UTC, as the worker's time zone is. */
static const char *read_moment(const char *at, int64_t *ret_value)
{
    static const char shape[] = "0000-00-00T00:00:00";
    for (size_t i = 0; i < sizeof(shape) - 1; i++) {
        bool good = shape[i] == '0' ? is_digit(at[i])
                                    : at[i] == shape[i] || (shape[i] == 'T' && at[i] == ' ');
        if (!good) {
            return NULL;
        }
    }
    int32_t days = days_of(take_digits(at, 4), take_digits(at + 5, 2), take_digits(at + 8, 2));
    int hour = take_digits(at + 11, 2);
    int minute = take_digits(at + 14, 2);
    int second = take_digits(at + 17, 2);
    at += sizeof(shape) - 1;
    int micros = *at == '.' ? take_fraction(&at) : 0;
    at += *at == 'Z' ? 1 : 0;
    if (days == INT32_MIN || hour > 23 || minute > 59 || second > 59 || micros < 0) {
        return NULL;
    }
    int64_t seconds = (int64_t)days * 86400 + hour * 3600 + minute * 60 + second;
    *ret_value = seconds * 1000000 + micros;
    return at;
}

/* ---- numbers ---- */

/* An exponent is left to the cast, and so is what may be too long for it. */
static const char *read_double(const char *at, const char *end, double *ret_value)
{
    const char *behind = is_digit(*at) || *at == '-' ? lines_read_double(at, end, ret_value) : NULL;
    if (behind == NULL || behind - at > DOUBLE_TEXT_MAX) {
        return NULL;
    }
    for (const char *digit = at; digit < behind; digit++) {
        if ((*digit | 0x20) == 'e') {
            return NULL;
        }
    }
    return behind;
}

static const char *read_integer(const char *at, int32_t *ret_value)
{
    int64_t value = 0;
    const char *behind = lines_read_bigint(at, &value);
    if (behind == NULL || value < INT32_MIN || value > INT32_MAX) {
        return NULL;
    }
    *ret_value = (int32_t)value;
    return behind;
}

const char *lines_read_quoted(duckdb_type type, const char *at, const char *end, void *values,
                              uint64_t row)
{
    const char *behind;
    if (*at++ != '"') {
        return NULL;
    }
    if (type == DUCKDB_TYPE_BIGINT) {
        behind = lines_read_bigint(at, (int64_t *)values + row);
    } else if (type == DUCKDB_TYPE_INTEGER) {
        behind = read_integer(at, (int32_t *)values + row);
    } else if (type == DUCKDB_TYPE_DOUBLE) {
        behind = read_double(at, end, (double *)values + row);
    } else if (type == DUCKDB_TYPE_BOOLEAN) {
        behind = lines_read_boolean(at, (bool *)values + row);
    } else {
        behind = read_moment(at, (int64_t *)values + row);
    }
    return behind != NULL && *behind == '"' ? behind + 1 : NULL;
}
