#include "worker_lines_text.h"

#include "json_token.h"
#include "worker_shim.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    DIGITS_SAFE = 18, /* of an integer: fewer cannot overflow */
    INLINED_MAX = 12, /* of a text that is part of its duckdb_string_t */
};

/* ---- numbers ---- */

const char *lines_read_bigint(const char *at, int64_t *ret_value)
{
    bool negative = *at == '-';
    const char *start = at + negative;
    uint64_t value = 0;
    for (at = start; is_digit(*at) && at - start < DIGITS_SAFE; at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (is_digit(*at)) { /* the last that may fit */
        value = value * 10 + (uint64_t)(*at++ - '0');
    }
    bool zeros = *start == '0' && (at - start > 1 || negative);
    if (at == start || zeros || is_digit(*at) || value > (uint64_t)INT64_MAX) {
        return NULL;
    }
    *ret_value = negative ? -(int64_t)value : (int64_t)value;
    return at;
}

/* Powers of ten that a double holds exactly. */
static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* What JSON has no number for. */
static const char *read_nonfinite(const char *at, double *ret_value)
{
    static const struct {
        const char *text;
        double value;
    } names[] = {{"\"NaN\"", __builtin_nan("")},
                 {"\"Infinity\"", __builtin_inf()},
                 {"\"-Infinity\"", -__builtin_inf()}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t size = strlen(names[i].text);
        if (strncmp(at, names[i].text, size) == 0) {
            *ret_value = names[i].value;
            return at + size;
        }
    }
    return NULL;
}

/* A quotient of two numbers that are exact in a double is rounded once, and so right (Clinger). */
const char *lines_read_double(const char *at, const char *end, double *ret_value)
{
    const uint64_t exact_max = UINT64_C(1) << 53;
    const char *start = at;
    bool negative = *at == '-';
    const char *first = at + negative;
    uint64_t value = 0;
    size_t fraction = 0;
    for (at = first; is_digit(*at); at++) {
        value = value * 10 + (uint64_t)(*at - '0');
    }
    size_t digits = (size_t)(at - first);
    if (digits == 0) {
        return read_nonfinite(start, ret_value);
    }
    if (*at == '.') {
        const char *point = at++;
        for (; is_digit(*at); at++) {
            value = value * 10 + (uint64_t)(*at - '0');
        }
        fraction = (size_t)(at - point) - 1;
        digits = fraction == 0 ? 0 : digits;
    }
    if (digits == 0 || (digits > 1 && *first == '0') || (negative && value == 0)) {
        return NULL; /* no JSON, or a zero with a sign */
    }
    if (digits + fraction > DIGITS_SAFE || value > exact_max || (*at | 0x20) == 'e') {
        return shim_get_double(start, end, ret_value);
    }
    double magnitude = (double)value / tens[fraction];
    *ret_value = negative ? -magnitude : magnitude;
    return at;
}

const char *lines_read_boolean(const char *at, bool *ret_value)
{
    static const char yes[] = {'t', 'r', 'u', 'e'};
    static const char no[] = {'f', 'a', 'l', 's', 'e'};
    *ret_value = memcmp(at, yes, sizeof(yes)) == 0;
    if (*ret_value) {
        return at + sizeof(yes);
    }
    return memcmp(at, no, sizeof(no)) == 0 ? at + sizeof(no) : NULL;
}

/* ---- texts ---- */

static void put_text(const char *text, size_t size, duckdb_string_t *ret_value)
{
    duckdb_string_t value = {0};
    if (size > INLINED_MAX) {
        value.value.pointer.length = (uint32_t)size;
        memcpy(value.value.pointer.prefix, text, sizeof(value.value.pointer.prefix));
        value.value.pointer.ptr = (char *)(uintptr_t)text;
        *ret_value = value;
        return;
    }
#if defined(__SSE2__)
    __m128i bytes = _mm_slli_si128(_mm_loadu_si128((const __m128i *)(const void *)text), 4);
    __m128i places = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m128i wanted = _mm_cmplt_epi8(places, _mm_set1_epi8((char)(size + 4)));
    __m128i all = _mm_or_si128(_mm_and_si128(bytes, wanted), _mm_cvtsi32_si128((int)size));
    _mm_storeu_si128((__m128i *)(void *)ret_value, all);
#else
    value.value.inlined.length = (uint32_t)size;
    memcpy(value.value.inlined.inlined, text, size);
    *ret_value = value;
#endif
}

/* Where the text is no longer plain: a quote, a backslash or a control character. *ret_wide: there
 * may be bytes beyond ASCII in it. */
static const char *find_end(const char *at, bool *ret_wide)
{
#if defined(__SSE2__)
    for (;; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        unsigned marks = find_specials(bytes);
        unsigned wide = (unsigned)_mm_movemask_epi8(bytes);
        if (marks != 0) {
            *ret_wide |= (wide & (marks - 1) & ~marks) != 0;
            return at + __builtin_ctz(marks);
        }
        *ret_wide |= wide != 0;
    }
#else
    for (; (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\'; at++) {
        *ret_wide |= (unsigned char)*at >= 0x80;
    }
    return at;
#endif
}

static char *put_code_point(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* The four digits at `at`, or -1; no digit is a control character, so the line's end stops it. */
static int32_t unit_at(const char *at)
{
    for (size_t i = 0; i < 4; i++) {
        if (hex_value(at[i]) < 0) {
            return -1;
        }
    }
    return hex_unit(at);
}

/* The escape at `at`, a backslash; behind it then. NUL and lone surrogates are not for here. */
static const char *replace_escape(const char *at, char **out)
{
    char plain = short_escape(at[1]);
    if (plain != '\0') {
        *(*out)++ = plain;
        return at + 2;
    }
    int32_t unit = at[1] == 'u' ? unit_at(at + 2) : -1;
    if (unit <= 0 || (unit >= 0xDC00 && unit < 0xE000)) {
        return NULL;
    }
    if (unit < 0xD800 || unit >= 0xE000) {
        *out = put_code_point(*out, (uint32_t)unit);
        return at + 6;
    }
    int32_t low = at[6] == '\\' && at[7] == 'u' ? unit_at(at + 8) : -1;
    if (low < 0xDC00 || low >= 0xE000) {
        return NULL;
    }
    *out = put_code_point(*out,
                          0x10000 + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(low - 0xDC00));
    return at + 12;
}

/* What an escape stands for is never longer than it, so the line has room for it. */
static const char *read_escaped(char *start, const char *at, bool wide, duckdb_string_t *ret_value)
{
    char *out = start + (at - start);
    while (*at == '\\') {
        at = replace_escape(at, &out);
        if (at == NULL) {
            return NULL;
        }
        const char *plain = at;
        at = find_end(at, &wide);
        memmove(out, plain, (size_t)(at - plain));
        out += at - plain;
    }
    struct str text = str_make(start, (size_t)(out - start));
    if (*at != '"' || text.len > UINT32_MAX || (wide && !str_is_utf8(text))) {
        return NULL;
    }
    put_text(text.ptr, text.len, ret_value);
    return at + 1;
}

const char *lines_read_text(char *at, duckdb_string_t *ret_value)
{
    if (*at != '"') {
        return NULL;
    }
    char *start = at + 1;
    bool wide = false;
    const char *end = find_end(start, &wide);
    struct str text = str_make(start, (size_t)(end - start));
    if (*end != '"') {
        return *end == '\\' ? read_escaped(start, end, wide, ret_value) : NULL;
    }
    if (text.len > UINT32_MAX || (wide && !str_is_utf8(text))) {
        return NULL;
    }
    put_text(text.ptr, text.len, ret_value);
    return end + 1;
}
