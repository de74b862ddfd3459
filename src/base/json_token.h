/* json_token.h - the small steps of reading JSON text that json_scan.c, json_walk.c and the check
 * of records (lake_check_*.c) share; for these files only. */
#pragma once

#include "json_scan.h"

#include <endian.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static inline bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline const char *skip_space(const char *at, const char *end)
{
    while (at < end && is_space(*at)) {
        at++;
    }
    return at;
}

static inline const char *skip_digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at)) {
        at++;
    }
    return at;
}

/* Marks with 0x80 the bytes below 0x20, the quotes and the backslashes among eight. A borrow can
 * set marks that are wrong, but only above a right one, so the lowest mark is always right. */
static inline uint64_t mark_special(uint64_t eight)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t tops = UINT64_C(0x8080808080808080);
    uint64_t quotes = eight ^ (ones * '"');
    uint64_t backslashes = eight ^ (ones * '\\');
    uint64_t control = (eight - ones * 0x20) & ~eight;
    quotes = (quotes - ones) & ~quotes;
    backslashes = (backslashes - ones) & ~backslashes;
    return (control | quotes | backslashes) & tops;
}

#if defined(__SSE2__)
/* A bit for each byte that is a quote, a backslash or a control character. */
static inline unsigned find_specials(__m128i bytes)
{
    __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
    __m128i special = _mm_or_si128(_mm_or_si128(quote, backslash), control);
    return (unsigned)_mm_movemask_epi8(special);
}
#endif

/* The first quote, backslash or control character from `at` on, or `end`. */
static inline const char *find_special(const char *at, const char *end)
{
#if defined(__SSE2__)
    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        unsigned marks = find_specials(bytes);
        if (marks != 0) {
            return at + __builtin_ctz(marks);
        }
    }
#endif
    while (end - at >= 8) {
        uint64_t eight;
        memcpy(&eight, at, sizeof(eight));
        uint64_t marks = mark_special(le64toh(eight));
        if (marks != 0) {
            return at + __builtin_ctzll(marks) / 8;
        }
        at += 8;
    }
    while (at < end && (unsigned char)*at >= 0x20 && *at != '"' && *at != '\\') {
        at++;
    }
    return at;
}

static inline int hex_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The value of four hexadecimal digits, or -1. */
static inline int32_t hex_unit(const char *digits)
{
    int32_t unit = 0;
    for (size_t i = 0; i < 4; i++) {
        int value = hex_value(digits[i]);
        if (value < 0) {
            return -1;
        }
        unit = unit * 16 + value;
    }
    return unit;
}

/* The character that a backslash and this letter stand for, or NUL. */
static inline char short_escape(char letter)
{
    switch (letter) {
    case '"':
    case '\\':
    case '/':
        return letter;
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return '\0';
    }
}
