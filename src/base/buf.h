/* buf.h - growing bytes for writing, with a ceiling given at the start.
 * Promise   an append that does not fit marks the buffer failed and changes nothing more; check
 *           buf_failed() once at the end. The content is always followed by a NUL that is not
 *           counted.
 * Owner     whoever called buf_init; buf_finish accepts zeroed memory.   Limits  size_max bytes. */
#pragma once

#include "macros.h"
#include "str.h"

struct buf {
    char *ptr;
    size_t len;
    size_t capacity;
    size_t size_max;
    bool failed;
    bool brief; /* its memory may be a block: mem_try_resize_block */
};

void buf_init(struct buf *buf, size_t size_max);
void buf_init_brief(struct buf *buf, size_t size_max); /* for much that is soon over */
void buf_finish(struct buf *buf);
void buf_reset(struct buf *buf); /* empties it, keeps the memory */
void buf_truncate(struct buf *buf, size_t len);

bool buf_reserve(struct buf *buf, size_t extra); /* room for extra more bytes */
void buf_append(struct buf *buf, struct str bytes);
void buf_append_bytes(struct buf *buf, const void *bytes, size_t size);
void buf_append_text(struct buf *buf, const char *text);
void buf_append_byte(struct buf *buf, char byte);
void buf_append_format(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_append_u64(struct buf *buf, uint64_t value);
void buf_append_i64(struct buf *buf, int64_t value);

/* Room for `size` more bytes that the caller writes itself, NULL when they do not fit; buf_wrote()
 * says where they ended. For the few places where an append per piece is too slow. */
static inline char *buf_room(struct buf *buf, size_t size)
{
    bool there = size < buf->capacity - buf->len;
    return there || buf_reserve(buf, size) ? buf->ptr + buf->len : NULL;
}

static inline void buf_wrote(struct buf *buf, char *end)
{
    assert(end < buf->ptr + buf->capacity);
    *end = '\0';
    buf->len = (size_t)(end - buf->ptr);
}

static inline bool buf_failed(const struct buf *buf)
{
    return buf->failed;
}

static inline struct str buf_str(const struct buf *buf)
{
    return str_make(buf->ptr == NULL ? "" : buf->ptr, buf->len);
}

/* Hands the bytes to the caller, who frees them with mem_free; the buffer is empty afterwards. */
char *buf_take(struct buf *buf, size_t *ret_len);
