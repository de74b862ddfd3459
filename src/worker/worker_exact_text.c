#include "worker_exact.h"
#include "worker_number.h"

enum {
    TEXT_SIZE = 96, /* of a date with a time of day */
    SMALL_SCALE_MAX = 6,
    DECIMAL_SIZE = 96, /* 256 bits are at most 78 digits */
    DAY_SECONDS = 86400,
    WORDS_MAX = 8
};

static const int64_t units_per_second[] = {1, 0, 0, 1000, 0, 0, 1000000, 0, 0, 1000000000};

static char *put_two(char *at, int64_t value)
{
    *at++ = (char)('0' + value / 10);
    *at++ = (char)('0' + value % 10);
    return at;
}

/* Four digits at least; years before 1 are counted back from 1 BC, which put_date says at the end.
 */
static char *put_year(char *at, int64_t year)
{
    for (int64_t least = 1000; least > year && least > 1; least /= 10) {
        *at++ = '0';
    }
    return number_put_i64(at, year);
}

static char *put_date(char *at, int64_t days)
{
    struct calendar_day date = number_calendar_of(days);
    at = put_year(at, date.year > 0 ? date.year : 1 - date.year);
    *at++ = '-';
    at = put_two(at, date.month);
    *at++ = '-';
    at = put_two(at, date.day);
    if (date.year <= 0) {
        memcpy(at, " (BC)", 5);
        at += 5;
    }
    return at;
}

/* The fraction without trailing zeros, and nothing at all when it is zero. */
static char *put_fraction(char *at, uint64_t fraction, unsigned digits)
{
    if (fraction == 0) {
        return at;
    }
    for (; fraction % 10 == 0; fraction /= 10) {
        digits--;
    }
    *at = '.';
    for (char *digit = at + digits; digit > at; digit--) {
        *digit = (char)('0' + fraction % 10);
        fraction /= 10;
    }
    return at + digits + 1;
}

/* Hours have two digits at least. */
static char *put_clock(char *at, uint64_t seconds, uint64_t fraction, unsigned digits)
{
    uint64_t hours = seconds / 3600;
    at = hours < 100 ? put_two(at, (int64_t)hours) : number_put_u64(at, hours);
    *at++ = ':';
    at = put_two(at, (int64_t)(seconds / 60 % 60));
    *at++ = ':';
    at = put_two(at, (int64_t)(seconds % 60));
    return put_fraction(at, fraction, digits);
}

void exact_append_date(struct buf *out, int64_t days)
{
    char *at = buf_room(out, TEXT_SIZE);
    if (at != NULL) {
        *at++ = '"';
        at = put_date(at, days);
        *at++ = '"';
        buf_wrote(out, at);
    }
}

void exact_append_time(struct buf *out, int64_t value, unsigned digits)
{
    char *at = buf_room(out, TEXT_SIZE);
    assert(value >= 0);
    if (at != NULL) {
        int64_t unit = units_per_second[digits];
        *at++ = '"';
        at = put_clock(at, (uint64_t)(value / unit), (uint64_t)(value % unit), digits);
        *at++ = '"';
        buf_wrote(out, at);
    }
}

void exact_append_timestamp(struct buf *out, int64_t value, unsigned digits, bool zone)
{
    char *at = buf_room(out, TEXT_SIZE);
    if (at == NULL) {
        return;
    }
    int64_t unit = units_per_second[digits];
    int64_t seconds = value / unit - (value % unit < 0); /* rounded down, also before 1970 */
    int64_t days = seconds / DAY_SECONDS - (seconds % DAY_SECONDS < 0);
    int64_t fraction = value % unit + (value % unit < 0 ? unit : 0);
    *at++ = '"';
    at = put_date(at, days);
    *at++ = ' ';
    at = put_clock(at, (uint64_t)(seconds - days * DAY_SECONDS), (uint64_t)fraction, digits);
    if (zone) {
        memcpy(at, "+00", 3);
        at += 3;
    }
    *at++ = '"';
    buf_wrote(out, at);
}

static char *put_duration(char *at, int64_t value, unsigned digits)
{
    uint64_t unit = (uint64_t)units_per_second[digits];
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    if (value < 0) {
        *at++ = '-';
    }
    return put_clock(at, magnitude / unit, magnitude % unit, digits);
}

void exact_append_duration(struct buf *out, int64_t value, unsigned digits)
{
    char *at = buf_room(out, TEXT_SIZE);
    if (at != NULL) {
        *at++ = '"';
        at = put_duration(at, value, digits);
        *at++ = '"';
        buf_wrote(out, at);
    }
}

void exact_append_interval(struct buf *out, int32_t months, int32_t days, int64_t nanoseconds)
{
    buf_append_format(out, "\"%d months %d days ", months, days);
    char *at = buf_room(out, TEXT_SIZE);
    if (at != NULL) {
        at = put_duration(at, nanoseconds, 9);
        *at++ = '"';
        buf_wrote(out, at);
    }
}

/* ---- decimals ---- */

/* The magnitude as words of 32 bits, the lowest first; returns whether the value is negative. */
static bool load_magnitude(const unsigned char *bytes, size_t width, uint32_t *words)
{
    bool negative = (bytes[width - 1] & 0x80) != 0;
    uint64_t carry = negative;
    for (size_t i = 0; i < width / 4; i++) {
        uint32_t word;
        memcpy(&word, bytes + i * 4, sizeof(word));
        carry += negative ? ~word : word;
        words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return negative;
}

/* Nine digits at a time, written from the end; returns where they begin. */
static size_t put_digits(char *text, uint32_t *words, size_t count)
{
    size_t at = DECIMAL_SIZE;
    while (count > 0 && words[count - 1] == 0) {
        count--;
    }
    while (count > 0) {
        uint64_t rest = 0;
        for (size_t i = count; i-- > 0;) {
            rest = rest << 32 | words[i];
            words[i] = (uint32_t)(rest / 1000000000);
            rest %= 1000000000;
        }
        count -= words[count - 1] == 0;
        for (int i = 0; i < 9; i++) {
            text[--at] = (char)('0' + rest % 10);
            rest /= 10;
        }
    }
    while (at < DECIMAL_SIZE && text[at] == '0') {
        at++;
    }
    return at;
}

static void append_zeros(struct buf *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_append_byte(out, '0');
    }
}

/* Whether the number fits 64 bits, as most do. */
static bool load_small(const unsigned char *bytes, size_t width, int64_t *ret_value)
{
    if (width != sizeof(int64_t) && width != 2 * sizeof(int64_t)) {
        return false;
    }
    memcpy(ret_value, bytes, sizeof(*ret_value));
    int64_t upper = *ret_value >> 63;
    if (width > sizeof(*ret_value)) {
        memcpy(&upper, bytes + sizeof(*ret_value), sizeof(upper));
    }
    return upper == *ret_value >> 63;
}

static char *put_small_decimal(char *at, int64_t value, unsigned scale)
{
    static const uint64_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000};
    assert(scale < COUNT_OF(powers));
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint64_t fraction = magnitude % powers[scale];
    *at++ = '"';
    if (value < 0) {
        *at++ = '-';
    }
    at = number_put_u64(at, magnitude / powers[scale]);
    if (scale > 0) {
        *at = '.';
        for (char *digit = at + scale; digit > at; digit--) {
            *digit = (char)('0' + fraction % 10);
            fraction /= 10;
        }
        at += scale + 1;
    }
    *at++ = '"';
    return at;
}

void exact_append_decimal(struct buf *out, const unsigned char *bytes, size_t width, int scale)
{
    int64_t small;
    if (scale >= 0 && scale <= SMALL_SCALE_MAX && load_small(bytes, width, &small)) {
        char *at = buf_room(out, TEXT_SIZE);
        if (at != NULL) {
            buf_wrote(out, put_small_decimal(at, small, (unsigned)scale));
        }
        return;
    }
    assert(width % 4 == 0 && width > 0 && width / 4 <= WORDS_MAX);
    uint32_t words[WORDS_MAX];
    char text[DECIMAL_SIZE];
    bool negative = load_magnitude(bytes, width, words);
    size_t from = put_digits(text, words, width / 4);
    size_t count = DECIMAL_SIZE - from;
    size_t fraction = scale > 0 ? (size_t)scale : 0;
    size_t whole = count > fraction ? count - fraction : 0;
    buf_append_text(out, negative ? "\"-" : "\"");
    if (whole == 0) {
        buf_append_byte(out, '0');
    }
    buf_append_bytes(out, text + from, whole);
    append_zeros(out, scale < 0 && count > 0 ? (size_t)-scale : 0);
    if (fraction > 0) {
        buf_append_byte(out, '.');
        append_zeros(out, fraction - (count - whole));
        buf_append_bytes(out, text + from + whole, count - whole);
    }
    buf_append_byte(out, '"');
}

/* ---- bytes ---- */

static const char hex[] = "0123456789ABCDEF";

/* As the engine casts blobs to text: printable ASCII as it is, but for quotes and backslashes. The
 * backslash of \xNN is one more in JSON. */
void exact_append_blob(struct buf *out, struct str bytes)
{
    buf_append_byte(out, '"');
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char byte = (unsigned char)bytes.ptr[i];
        if (byte >= 32 && byte <= 126 && byte != '\\' && byte != '\'' && byte != '"') {
            buf_append_byte(out, (char)byte);
            continue;
        }
        char *at = buf_room(out, 5);
        if (at == NULL) {
            return;
        }
        memcpy(at, "\\\\x", 3);
        at[3] = hex[byte >> 4];
        at[4] = hex[byte & 15];
        buf_wrote(out, at + 5);
    }
    buf_append_byte(out, '"');
}

void exact_append_uuid(struct buf *out, const unsigned char bytes[static 16])
{
    static const char digits[] = "0123456789abcdef";
    char *at = buf_room(out, TEXT_SIZE);
    if (at == NULL) {
        return;
    }
    *at++ = '"';
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
    *at++ = '"';
    buf_wrote(out, at);
}
