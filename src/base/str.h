/* str.h - text and bytes for reading: a pointer and a length, passed by value, never assumed
 * NUL-terminated. */
#pragma once

#include "macros.h"

#include <string.h>

struct str {
    const char *ptr;
    size_t len;
};

#define STR(literal) ((struct str){.ptr = "" literal, .len = sizeof(literal) - 1})
/* clang-format off */
#define STR_INIT(literal) {.ptr = "" literal, .len = sizeof(literal) - 1} /* in static tables */
/* clang-format on */
#define STR_ARG(s) (int)(s).len, (s).ptr /* for "%.*s" */

static inline struct str str_of(const char *text)
{
    return (struct str){.ptr = text, .len = text == NULL ? 0 : strlen(text)};
}

static inline struct str str_make(const char *ptr, size_t len)
{
    return (struct str){.ptr = ptr, .len = len};
}

static inline struct str str_from(struct str s, size_t offset)
{
    assert(offset <= s.len);
    return str_make(s.ptr + offset, s.len - offset);
}

static inline struct str str_first(struct str s, size_t len)
{
    return str_make(s.ptr, len < s.len ? len : s.len);
}

bool str_equal(struct str a, struct str b);
bool str_equal_nocase(struct str a, struct str b); /* ASCII letters only */
bool str_starts(struct str s, struct str prefix);
bool str_starts_nocase(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_blank(struct str s); /* empty or white space only */
struct str str_trim(struct str s);
size_t str_find_byte(struct str s, char byte); /* s.len when it is not there */
size_t str_find(struct str s, struct str needle);
int str_compare(struct str a, struct str b); /* by bytes */

/* Splits at the first `byte`: the part before goes to ret_head, the rest after it stays in *rest.
 * False at the end. */
bool str_next_part(struct str *rest, char byte, struct str *ret_head);

bool str_is_utf8(struct str s);
/* The length of the well-formed UTF-8 sequence at the start of s, 0 when there is none. The ranges
 * are those of table 3-7 of the Unicode standard: no overlong forms, no surrogates, at most
 * U+10FFFF. */
size_t str_utf8_size(struct str s);
size_t str_count_code_points(struct str s);
