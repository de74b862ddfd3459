/* Matching walks pattern and key with one remembered star, so that a pattern of many stars takes
 * time proportional to the product of both lengths and never more. */
#include "store_internal.h"

bool store_has_glob(struct str pattern)
{
    return store_glob_prefix(pattern).len < pattern.len;
}

/* A bracket without its partner is an ordinary character. */
struct str store_glob_prefix(struct str pattern)
{
    for (size_t i = 0; i < pattern.len; i++) {
        bool opens = pattern.ptr[i] == '[' &&
                     str_find_byte(str_from(pattern, i + 1), ']') < pattern.len - i - 1;
        if (pattern.ptr[i] == '*' || opens) {
            return str_first(pattern, i);
        }
    }
    return pattern;
}

/* The set that begins at pattern[at], an opening bracket. ret_next is what follows it; 0 when it is
 * never closed. A closing bracket in the first place belongs to the set. */
static bool match_set(struct str pattern, size_t at, char byte, size_t *ret_next)
{
    size_t i = at + 1;
    bool negated = i < pattern.len && pattern.ptr[i] == '!';
    i += negated ? 1 : 0;
    bool found = false;
    for (size_t first = i; i < pattern.len && (pattern.ptr[i] != ']' || i == first); i++) {
        unsigned char low = (unsigned char)pattern.ptr[i];
        unsigned char high = low;
        if (i + 2 < pattern.len && pattern.ptr[i + 1] == '-' && pattern.ptr[i + 2] != ']') {
            high = (unsigned char)pattern.ptr[i + 2];
            i += 2;
        }
        found = found || ((unsigned char)byte >= low && (unsigned char)byte <= high);
    }
    *ret_next = i < pattern.len ? i + 1 : 0;
    return found != negated;
}

/* One character of the pattern, or one set, against one byte. */
static bool match_one(struct str pattern, size_t at, char byte, size_t *ret_next)
{
    if (pattern.ptr[at] == '[') {
        bool matches = match_set(pattern, at, byte, ret_next);
        if (*ret_next != 0) {
            return matches;
        }
    }
    *ret_next = at + 1;
    return pattern.ptr[at] == byte;
}

static bool match_segment(struct str pattern, struct str text)
{
    size_t p = 0;
    size_t t = 0;
    size_t star = SIZE_MAX; /* the pattern after the last star, and where its match ends so far */
    size_t star_text = 0;
    for (size_t next; t < text.len;) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = ++p;
            star_text = t;
        } else if (p < pattern.len && match_one(pattern, p, text.ptr[t], &next)) {
            p = next;
            t++;
        } else if (star != SIZE_MAX) {
            p = star;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*') {
        p++;
    }
    return p == pattern.len;
}

/* The part before the next slash; *rest moves behind it, and to NULL after the last part. */
static struct str next_segment(struct str *rest)
{
    size_t slash = str_find_byte(*rest, '/');
    struct str segment = str_first(*rest, slash);
    *rest = slash == rest->len ? (struct str){0} : str_from(*rest, slash + 1);
    return segment;
}

bool store_match_key(struct str pattern, struct str key)
{
    struct str p = pattern;
    struct str k = key;
    struct str star = {0}; /* the pattern after the last `**`, and the key it is tried on next */
    struct str star_key = {0};
    bool after_star = false;
    while (k.ptr != NULL) {
        struct str p_rest = p;
        struct str k_rest = k;
        struct str segment = p.ptr == NULL ? p : next_segment(&p_rest);
        struct str part = next_segment(&k_rest);
        if (p.ptr != NULL && str_equal(segment, STR("**"))) {
            star = p_rest;
            star_key = k;
            after_star = true;
            p = p_rest;
        } else if (p.ptr != NULL && match_segment(segment, part)) {
            p = p_rest;
            k = k_rest;
        } else if (after_star) {
            (void)next_segment(&star_key);
            p = star;
            k = star_key;
        } else {
            return false;
        }
    }
    return p.ptr == NULL;
}
