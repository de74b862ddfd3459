#include "encoding.h"

#include <iconv.h>

const char *encoding_sniff(struct str text)
{
    const char *p = text.ptr;
    if (text.len >= 4 && memcmp(p, "\xFF\xFE\0\0", 4) == 0) {
        return "UTF-32";
    }
    if (text.len >= 4 && memcmp(p, "\0\0\xFE\xFF", 4) == 0) {
        return "UTF-32";
    }
    if (text.len >= 2 && (memcmp(p, "\xFF\xFE", 2) == 0 || memcmp(p, "\xFE\xFF", 2) == 0)) {
        return "UTF-16";
    }
    if (text.len >= 4 && p[0] == 0) {
        return p[1] == 0 ? "UTF-32BE" : "UTF-16BE";
    }
    if (text.len >= 4 && p[1] == 0) {
        return p[2] == 0 && p[3] == 0 ? "UTF-32LE" : "UTF-16LE";
    }
    return text.len >= 2 && p[0] == 0 ? "UTF-16BE" : text.len >= 2 && p[1] == 0 ? "UTF-16LE" : NULL;
}

bool encoding_to_utf8(struct str text, const char *encoding, struct buf *into)
{
    iconv_t converter = iconv_open("UTF-8", encoding);
    if (converter == (iconv_t)-1 || !buf_reserve(into, 3 * text.len / 2 + 16)) {
        return false;
    }
    char *from = (char *)(uintptr_t)text.ptr;
    size_t from_left = text.len;
    char *to = into->ptr;
    size_t to_left = 3 * text.len / 2 + 16;
    size_t result = iconv(converter, &from, &from_left, &to, &to_left);
    (void)iconv_close(converter);
    into->len = (size_t)(to - into->ptr);
    into->ptr[into->len] = '\0';
    return result != (size_t)-1 && from_left == 0;
}
