#include "buf.h"

#include "mem.h"

#include <stdarg.h>
#include <stdio.h>

void buf_init(struct buf *buf, size_t size_max)
{
    assert(size_max > 0 && size_max < SIZE_MAX / 4);
    *buf = (struct buf){.size_max = size_max};
}

void buf_init_brief(struct buf *buf, size_t size_max)
{
    buf_init(buf, size_max);
    buf->brief = true;
}

void buf_finish(struct buf *buf)
{
    mem_free(buf->ptr);
    *buf = (struct buf){0};
}

void buf_reset(struct buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

void buf_truncate(struct buf *buf, size_t len)
{
    assert(len <= buf->len);
    buf->len = len;
}

bool buf_reserve(struct buf *buf, size_t extra)
{
    assert(buf->len <= buf->capacity);
    if (buf->failed || extra > buf->size_max - buf->len) {
        buf->failed = true;
        return false;
    }
    size_t needed = buf->len + extra + 1;
    if (needed <= buf->capacity) {
        return true;
    }
    size_t capacity = buf->capacity < 128 ? 256 : buf->capacity * 2;
    capacity = capacity < needed ? needed : capacity;
    capacity = capacity > buf->size_max + 1 ? buf->size_max + 1 : capacity;
    char *grown =
        buf->brief ? mem_try_resize_block(buf->ptr, capacity) : mem_try_resize(buf->ptr, capacity);
    if (grown == NULL) {
        buf->failed = true;
        return false;
    }
    buf->ptr = grown;
    buf->capacity = capacity;
    return true;
}

/* Most pieces fit into what is there, with the NUL behind them. */
static inline bool make_room(struct buf *buf, size_t extra)
{
    return (!buf->failed && extra < buf->capacity - buf->len) || buf_reserve(buf, extra);
}

void buf_append_bytes(struct buf *buf, const void *bytes, size_t size)
{
    if (!make_room(buf, size)) {
        return;
    }
    if (size > 0) {
        memcpy(buf->ptr + buf->len, bytes, size);
    }
    buf->len += size;
    buf->ptr[buf->len] = '\0';
}

void buf_append(struct buf *buf, struct str bytes)
{
    buf_append_bytes(buf, bytes.ptr, bytes.len);
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append_bytes(buf, text, strlen(text));
}

void buf_append_byte(struct buf *buf, char byte)
{
    if (make_room(buf, 1)) {
        buf->ptr[buf->len++] = byte;
        buf->ptr[buf->len] = '\0';
    }
}

void buf_append_format(struct buf *buf, const char *format, ...)
{
    char small[256];
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(small, sizeof(small), format, arguments);
    va_end(arguments);
    if (size < 0) {
        buf->failed = true;
    } else if ((size_t)size < sizeof(small)) {
        buf_append_bytes(buf, small, (size_t)size);
    } else if (buf_reserve(buf, (size_t)size)) {
        (void)vsnprintf(buf->ptr + buf->len, (size_t)size + 1, format, again);
        buf->len += (size_t)size;
    }
    va_end(again);
}

void buf_append_u64(struct buf *buf, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buf_append_bytes(buf, digits + at, sizeof(digits) - at);
}

void buf_append_i64(struct buf *buf, int64_t value)
{
    uint64_t magnitude = (uint64_t)value;
    if (value < 0) {
        buf_append_byte(buf, '-');
        magnitude = 0 - magnitude;
    }
    buf_append_u64(buf, magnitude);
}

char *buf_take(struct buf *buf, size_t *ret_len)
{
    if (!buf_reserve(buf, 0)) {
        return NULL;
    }
    buf->ptr[buf->len] = '\0';
    *ret_len = buf->len;
    char *taken = TAKE(buf->ptr);
    buf->len = 0;
    buf->capacity = 0;
    return taken;
}
