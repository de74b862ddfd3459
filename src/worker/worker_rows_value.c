#include "json_write.h"
#include "worker_exact.h"
#include "worker_json_plan.h"
#include "worker_json_text.h"
#include "worker_number.h"

#include <math.h>

enum {
    TEXT_SIZE = 64,
    DAY_SECONDS = 86400,
    EXPONENT_MIN =
        -4, /* of 10^exponent: below it, and from the next on, Python writes an exponent */
    EXPONENT_MAX = 16,
    MONTH_DAYS = 30
};

#define SECOND_US INT64_C(1000000)
#define DAY_US INT64_C(86400000000)
#define YEAR_1_DAYS INT64_C(-719162)    /* 0001-01-01 */
#define YEAR_9999_DAYS INT64_C(2932896) /* 9999-12-31 */

/* ---- reals ---- */

static void append_zeros(struct buf *out, int count)
{
    for (int i = 0; i < count; i++) {
        buf_append_byte(out, '0');
    }
}

/* The value is 0.DIGITS * 10^exponent. */
static void append_python(struct buf *out, const char *digits, int count, int exponent)
{
    if (exponent <= EXPONENT_MIN || exponent > EXPONENT_MAX) {
        buf_append_byte(out, digits[0]);
        if (count > 1) {
            buf_append_byte(out, '.');
            buf_append_bytes(out, digits + 1, (size_t)(count - 1));
        }
        int power = exponent - 1;
        buf_append_format(out, "e%c%02d", power < 0 ? '-' : '+', power < 0 ? -power : power);
    } else if (exponent <= 0) {
        buf_append_text(out, "0.");
        append_zeros(out, -exponent);
        buf_append_bytes(out, digits, (size_t)count);
    } else if (exponent >= count) {
        buf_append_bytes(out, digits, (size_t)count);
        append_zeros(out, exponent - count);
        buf_append_text(out, ".0");
    } else {
        buf_append_bytes(out, digits, (size_t)exponent);
        buf_append_byte(out, '.');
        buf_append_bytes(out, digits + exponent, (size_t)(count - exponent));
    }
}

static void append_real(struct buf *out, double value)
{
    if (!isfinite(value)) {
        buf_append_text(out, "null");
        return;
    }
    if (signbit(value) != 0) {
        buf_append_byte(out, '-');
        value = -value;
    }
    if (value < 1e9 && value == (double)(int64_t)value) { /* also zero, which has no digits */
        buf_append_i64(out, (int64_t)value);
        buf_append_text(out, ".0");
        return;
    }
    if (value >= 1e-3 && number_append_short_double(out, value)) {
        return;
    }
    char digits[SHIM_DIGITS_SIZE];
    int exponent;
    size_t count = shim_shortest_digits(value, digits, &exponent);
    append_python(out, digits, (int)count, exponent);
}

/* ---- days and times ---- */

static char *put_digits(char *at, uint64_t value, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; value /= 10) {
        at[i] = (char)('0' + value % 10);
    }
    return at + digits;
}

static char *put_day(char *at, int64_t days)
{
    struct calendar_day date = number_calendar_of(days);
    at = put_digits(at, (uint64_t)date.year, 4);
    *at++ = '-';
    at = put_digits(at, (uint64_t)date.month, 2);
    *at++ = '-';
    return put_digits(at, (uint64_t)date.day, 2);
}

/* Six digits after the point, or none. */
static char *put_time(char *at, int64_t micros)
{
    uint64_t seconds = (uint64_t)(micros / SECOND_US);
    at = put_digits(at, seconds / 3600, 2);
    *at++ = ':';
    at = put_digits(at, seconds / 60 % 60, 2);
    *at++ = ':';
    at = put_digits(at, seconds % 60, 2);
    if (micros % SECOND_US != 0) {
        *at++ = '.';
        at = put_digits(at, (uint64_t)(micros % SECOND_US), 6);
    }
    return at;
}

static bool is_year_of_iso(int64_t days)
{
    return days >= YEAR_1_DAYS && days <= YEAR_9999_DAYS;
}

static void append_date(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    int64_t days = AT(int32_t);
    days = days == INT32_MAX ? YEAR_9999_DAYS : days == -INT32_MAX ? YEAR_1_DAYS : days;
    if (!is_year_of_iso(days)) {
        plan_append_engine_text(plan, view, row, out);
        return;
    }
    char text[TEXT_SIZE];
    char *at = text;
    *at++ = '"';
    at = put_day(at, days);
    *at++ = '"';
    buf_append_bytes(out, text, (size_t)(at - text));
}

static void append_moment(const struct plan *plan, const struct view *view, uint64_t row,
                          struct buf *out, int64_t micros)
{
    int64_t days = micros / DAY_US - (micros % DAY_US < 0);
    char text[TEXT_SIZE];
    char *at = text;
    if (!is_year_of_iso(days)) {
        plan_append_engine_text(plan, view, row, out);
        return;
    }
    *at++ = '"';
    at = put_day(at, days);
    *at++ = 'T';
    at = put_time(at, micros - days * DAY_US);
    if (plan->type == DUCKDB_TYPE_TIMESTAMP_TZ) {
        *at++ = 'Z';
    }
    *at++ = '"';
    buf_append_bytes(out, text, (size_t)(at - text));
}

/* The engine's infinities are the last and the first moment that Python has. */
static void append_timestamp(const struct plan *plan, const struct view *view, uint64_t row,
                             struct buf *out)
{
    int64_t value = AT(int64_t);
    int64_t micros = value;
    bool beyond = false;
    if (value == INT64_MAX) {
        micros = (YEAR_9999_DAYS + 1) * DAY_US - 1;
    } else if (value == -INT64_MAX) {
        micros = YEAR_1_DAYS * DAY_US;
    } else if (plan->type == DUCKDB_TYPE_TIMESTAMP_S) {
        beyond = __builtin_mul_overflow(value, SECOND_US, &micros);
    } else if (plan->type == DUCKDB_TYPE_TIMESTAMP_MS) {
        beyond = __builtin_mul_overflow(value, 1000, &micros);
    } else if (plan->type == DUCKDB_TYPE_TIMESTAMP_NS) {
        micros = value / 1000 - (value % 1000 < 0);
    }
    if (beyond) {
        plan_append_engine_text(plan, view, row, out);
    } else {
        append_moment(plan, view, row, out, micros);
    }
}

static void append_time(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    int64_t micros = plan->type == DUCKDB_TYPE_TIME_NS ? AT(int64_t) / 1000 : AT(int64_t);
    if (micros < 0 || micros >= DAY_US) { /* 24:00:00 is one that the engine has */
        plan_append_engine_text(plan, view, row, out);
        return;
    }
    char text[TEXT_SIZE];
    char *at = text;
    *at++ = '"';
    at = put_time(at, micros);
    *at++ = '"';
    buf_append_bytes(out, text, (size_t)(at - text));
}

static void append_time_tz(const struct plan *plan, const struct view *view, uint64_t row,
                           struct buf *out)
{
    duckdb_time_tz_struct value = duckdb_from_time_tz(AT(duckdb_time_tz));
    int64_t micros =
        ((int64_t)value.time.hour * 3600 + value.time.min * 60 + value.time.sec) * SECOND_US +
        value.time.micros;
    int64_t offset = value.offset < 0 ? -(int64_t)value.offset : value.offset;
    if (micros >= DAY_US || offset % 60 != 0) {
        plan_append_engine_text(plan, view, row, out);
        return;
    }
    char text[TEXT_SIZE];
    char *at = text;
    *at++ = '"';
    at = put_time(at, micros);
    *at++ = value.offset < 0 ? '-' : '+';
    at = put_digits(at, (uint64_t)offset / 3600, 2);
    *at++ = ':';
    at = put_digits(at, (uint64_t)offset / 60 % 60, 2);
    *at++ = '"';
    buf_append_bytes(out, text, (size_t)(at - text));
}

/* P1DT3S: days, hours, minutes and seconds, a minus in front of all of it. */
static void append_duration(struct buf *out, duckdb_interval value)
{
    __int128 micros = ((__int128)value.months * MONTH_DAYS + value.days) * DAY_US + value.micros;
    bool negative = micros < 0;
    unsigned __int128 magnitude = (unsigned __int128)(negative ? -micros : micros);
    uint64_t days = (uint64_t)(magnitude / (unsigned __int128)DAY_US);
    uint64_t rest = (uint64_t)(magnitude % (unsigned __int128)DAY_US);
    uint64_t seconds = rest / (uint64_t)SECOND_US;
    uint64_t fraction = rest % (uint64_t)SECOND_US;
    buf_append_text(out, negative ? "\"-P" : "\"P");
    if (days > 0) {
        buf_append_format(out, "%lluD", (unsigned long long)days);
    }
    if (rest > 0 || days == 0) {
        buf_append_byte(out, 'T');
    }
    if (seconds >= 3600) {
        buf_append_format(out, "%lluH", (unsigned long long)(seconds / 3600));
    }
    if (seconds / 60 % 60 > 0) {
        buf_append_format(out, "%lluM", (unsigned long long)(seconds / 60 % 60));
    }
    if (fraction > 0) {
        buf_append_format(out, "%llu.%06lluS", (unsigned long long)(seconds % 60),
                          (unsigned long long)fraction);
    } else if (seconds % 60 > 0 || (days == 0 && seconds == 0)) {
        buf_append_format(out, "%lluS", (unsigned long long)(seconds % 60));
    }
    buf_append_byte(out, '"');
}

/* ---- bytes and texts ---- */

static void append_blob(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    (void)plan;
    duckdb_string_t blob = AT(duckdb_string_t);
    struct str bytes = str_make(duckdb_string_t_data(&blob), duckdb_string_t_length(blob));
    if (str_is_utf8(bytes)) {
        json_text_append(out, bytes);
    } else {
        exact_append_blob(out, bytes);
    }
}

/* The engine flips the first bit, so that UUIDs sort as numbers. */
static void append_uuid(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    (void)plan;
    duckdb_hugeint value = AT(duckdb_hugeint);
    uint64_t upper = (uint64_t)value.upper ^ (UINT64_C(1) << 63);
    unsigned char bytes[16];
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(upper >> (56 - 8 * i));
        bytes[8 + i] = (unsigned char)(value.lower >> (56 - 8 * i));
    }
    exact_append_uuid(out, bytes);
}

static void append_enum(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    plan_json_appender(DUCKDB_TYPE_ENUM)(plan, view, row, out);
}

/* ---- nested values ---- */

static void append_array(const struct plan *plan, const struct view *view, uint64_t row,
                         struct buf *out)
{
    buf_append_byte(out, '[');
    for (uint64_t i = 0; i < plan->array_size; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        plan_append_value(plan->parts, view->parts, row * plan->array_size + i, out);
    }
    buf_append_byte(out, ']');
}

/* A struct without names is a tuple. */
static void append_struct(const struct plan *plan, const struct view *view, uint64_t row,
                          struct buf *out)
{
    bool unnamed = plan->parts_count > 0 && str_equal(plan->parts[0].key, STR("\"\":"));
    if (!unnamed) {
        plan_append_struct(plan, view, row, out);
        return;
    }
    buf_append_byte(out, '[');
    for (size_t i = 0; i < plan->parts_count; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        plan_append_value(&plan->parts[i], &view->parts[i], row, out);
    }
    buf_append_byte(out, ']');
}

/* A key is a JSON string already, or one with quotes around what it is. */
static void append_map_key(const struct plan *plan, const struct view *view, uint64_t row,
                           struct buf *out)
{
    size_t from = out->len;
    plan_append_value(plan, view, row, out);
    if (buf_failed(out) || out->len == from || out->ptr[from] == '"') {
        return;
    }
    buf_append_text(out, "\"\"");
    if (!buf_failed(out)) {
        memmove(out->ptr + from + 1, out->ptr + from, out->len - from - 2);
        out->ptr[from] = '"';
        out->ptr[out->len - 1] = '"';
    }
}

static void append_map_part(const struct plan *plan, const struct view *view,
                            duckdb_list_entry entry, struct buf *out)
{
    buf_append_byte(out, '[');
    for (uint64_t i = entry.offset; i < entry.offset + entry.length; i++) {
        if (i > entry.offset) {
            buf_append_byte(out, ',');
        }
        plan_append_value(plan, view, i, out);
    }
    buf_append_byte(out, ']');
}

static void append_map(const struct plan *plan, const struct view *view, uint64_t row,
                       struct buf *out)
{
    duckdb_list_entry entry = AT(duckdb_list_entry);
    const struct plan *key = &plan->parts->parts[0];
    const struct plan *value = &plan->parts->parts[1];
    const struct view *pairs = view->parts;
    if (key->parts_count > 0) { /* nested keys are no names */
        buf_append_text(out, "{\"key\":");
        append_map_part(key, &pairs->parts[0], entry, out);
        buf_append_text(out, ",\"value\":");
        append_map_part(value, &pairs->parts[1], entry, out);
        buf_append_byte(out, '}');
        return;
    }
    buf_append_byte(out, '{');
    for (uint64_t i = entry.offset; i < entry.offset + entry.length; i++) {
        if (i > entry.offset) {
            buf_append_byte(out, ',');
        }
        append_map_key(key, &pairs->parts[0], i, out);
        buf_append_byte(out, ':');
        plan_append_value(value, &pairs->parts[1], i, out);
    }
    buf_append_byte(out, '}');
}

static void append_union(const struct plan *plan, const struct view *view, uint64_t row,
                         struct buf *out)
{
    uint64_t tag = ((const uint8_t *)view->parts[0].data)[row];
    if (tag + 1 < plan->parts_count) {
        plan_append_value(&plan->parts[tag + 1], &view->parts[tag + 1], row, out);
    } else {
        buf_append_text(out, "null");
    }
}

/* clang-format off */
APPENDER(append_null,     buf_append_text(out, "null"))
APPENDER(append_float,    append_real(out, (double)AT(float)))
APPENDER(append_double,   append_real(out, AT(double)))
APPENDER(append_interval, append_duration(out, AT(duckdb_interval)))

static value_appender *const appenders[] = {
    [DUCKDB_TYPE_SQLNULL]      = append_null,
    [DUCKDB_TYPE_FLOAT]        = append_float,
    [DUCKDB_TYPE_DOUBLE]       = append_double,
    [DUCKDB_TYPE_DATE]         = append_date,
    [DUCKDB_TYPE_TIME]         = append_time,
    [DUCKDB_TYPE_TIME_NS]      = append_time,
    [DUCKDB_TYPE_TIME_TZ]      = append_time_tz,
    [DUCKDB_TYPE_TIMESTAMP]    = append_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_TZ] = append_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_S]  = append_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_MS] = append_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_NS] = append_timestamp,
    [DUCKDB_TYPE_INTERVAL]     = append_interval,
    [DUCKDB_TYPE_ENUM]         = append_enum,
    [DUCKDB_TYPE_BLOB]         = append_blob,
    [DUCKDB_TYPE_UUID]         = append_uuid,
    [DUCKDB_TYPE_ARRAY]        = append_array,
    [DUCKDB_TYPE_STRUCT]       = append_struct,
    [DUCKDB_TYPE_MAP]          = append_map,
    [DUCKDB_TYPE_UNION]        = append_union,
};

/* As in exact lines: all digits of an integer, a decimal as a string with its zeros. */
static bool is_as_exact(duckdb_type type)
{
    static const duckdb_type types[] = {
        DUCKDB_TYPE_BOOLEAN, DUCKDB_TYPE_TINYINT, DUCKDB_TYPE_SMALLINT, DUCKDB_TYPE_INTEGER, DUCKDB_TYPE_BIGINT,
        DUCKDB_TYPE_UTINYINT, DUCKDB_TYPE_USMALLINT, DUCKDB_TYPE_UINTEGER, DUCKDB_TYPE_UBIGINT, DUCKDB_TYPE_HUGEINT,
        DUCKDB_TYPE_UHUGEINT, DUCKDB_TYPE_DECIMAL, DUCKDB_TYPE_LIST, DUCKDB_TYPE_VARCHAR,
    };
    bool found = false;
    for (size_t i = 0; !found && i < COUNT_OF(types); i++) {
        found = types[i] == type;
    }
    return found;
}
/* clang-format on */

value_appender *plan_rows_appender(duckdb_type type)
{
    if (is_as_exact(type)) {
        return plan_exact_appender(type);
    }
    bool known = (size_t)type < COUNT_OF(appenders) && appenders[type] != NULL;
    return known ? appenders[type] : plan_append_engine_text;
}
