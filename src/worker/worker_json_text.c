#include "worker_json_text.h"

#include "json_write.h"

enum {
    PLAIN_SIZE_MAX = 64 << 10 /* texts up to here are copied before they are looked at closely */
};

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether one of eight bytes has to be looked at: a control, a quote, a backslash, or not ASCII.
 * (word - 0x01..) & ~word & 0x80.. finds a zero byte; a borrow only runs on from a true find. */
static bool has_special(uint64_t word)
{
    uint64_t quote = word ^ EACH_BYTE('"');
    uint64_t backslash = word ^ EACH_BYTE('\\');
    uint64_t found = ((word - EACH_BYTE(0x20)) & ~word) | ((quote - EACH_BYTE(1)) & ~quote) |
                     ((backslash - EACH_BYTE(1)) & ~backslash) | word;
    return (found & EACH_BYTE(0x80)) != 0;
}

/* Copies a text that stands in JSON as it is; false when it does not, and what was written is to be
 * forgotten. The last bytes of a text of eight or more are looked at with some of those before. */
static bool copy_plain(char *into, struct str text)
{
    uint64_t word = EACH_BYTE(' ');
    if (text.len < sizeof(word)) {
        memcpy(&word, text.ptr, text.len);
        memcpy(into, text.ptr, text.len);
        return !has_special(word);
    }
    size_t last = text.len - sizeof(word);
    for (size_t i = 0;; i = i + sizeof(word) < last ? i + sizeof(word) : last) {
        memcpy(&word, text.ptr + i, sizeof(word));
        if (has_special(word)) {
            return false;
        }
        memcpy(into + i, &word, sizeof(word));
        if (i == last) {
            return true;
        }
    }
}

void json_text_append(struct buf *out, struct str text)
{
    char *at = text.len <= PLAIN_SIZE_MAX ? buf_room(out, text.len + 2) : NULL;
    if (at == NULL || !copy_plain(at + 1, text)) {
        json_append_string(out, text);
        return;
    }
    at[0] = '"';
    at[text.len + 1] = '"';
    buf_wrote(out, at + text.len + 2);
}
