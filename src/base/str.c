#include "str.h"

#include <strings.h>

bool str_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* The two cases of a letter differ in one bit. Most texts differ in another one, of their first
 * bytes: nothing else is looked at then. */
bool str_equal_nocase(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || (((a.ptr[0] ^ b.ptr[0]) & ~0x20) == 0 &&
                                             strncasecmp(a.ptr, b.ptr, a.len) == 0));
}

bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_equal(str_first(s, prefix.len), prefix);
}

bool str_starts_nocase(struct str s, struct str prefix)
{
    return s.len >= prefix.len && str_equal_nocase(str_first(s, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_equal(str_from(s, s.len - suffix.len), suffix);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct str str_trim(struct str s)
{
    while (s.len > 0 && is_space(s.ptr[0])) {
        s = str_from(s, 1);
    }
    while (s.len > 0 && is_space(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

bool str_blank(struct str s)
{
    return str_trim(s).len == 0;
}

size_t str_find_byte(struct str s, char byte)
{
    const char *found = s.len == 0 ? NULL : memchr(s.ptr, byte, s.len);
    return found == NULL ? s.len : (size_t)(found - s.ptr);
}

size_t str_find(struct str s, struct str needle)
{
    const char *found = s.len == 0 ? NULL : memmem(s.ptr, s.len, needle.ptr, needle.len);
    return found == NULL ? s.len : (size_t)(found - s.ptr);
}

int str_compare(struct str a, struct str b)
{
    size_t shared = a.len < b.len ? a.len : b.len;
    int order = shared == 0 ? 0 : memcmp(a.ptr, b.ptr, shared);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

bool str_next_part(struct str *rest, char byte, struct str *ret_head)
{
    if (rest->ptr == NULL) {
        return false;
    }
    size_t at = str_find_byte(*rest, byte);
    *ret_head = str_first(*rest, at);
    *rest = at < rest->len ? str_from(*rest, at + 1) : (struct str){0};
    return true;
}

size_t str_utf8_size(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (s.len == 0) {
        return 0;
    }
    if (p[0] < 0x80) {
        return 1;
    }
    size_t size = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || s.len < size) {
        return 0;
    }
    unsigned char low = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if (p[i] < 0x80 || p[i] > 0xBF) {
            return 0;
        }
    }
    return size;
}

bool str_is_utf8(struct str s)
{
    while (s.len > 0) {
        uint64_t eight;
        if (s.len >= sizeof(eight)) {
            memcpy(&eight, s.ptr, sizeof(eight));
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                s = str_from(s, sizeof(eight));
                continue;
            }
        }
        size_t size = str_utf8_size(s);
        if (size == 0) {
            return false;
        }
        s = str_from(s, size);
    }
    return true;
}

size_t str_count_code_points(struct str s)
{
    size_t count = 0;
    for (size_t i = 0; i < s.len; i++) {
        count += ((unsigned char)s.ptr[i] & 0xC0) != 0x80;
    }
    return count;
}
