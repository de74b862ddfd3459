#include "http_private.h"

#include "mem.h"

void http_ring_open(struct http_ring *ring)
{
    assert(ring->bytes == NULL);
    ring->bytes = mem_alloc(HTTP_RING_BYTES);
    ring->size = HTTP_RING_BYTES;
}

void http_ring_take(struct http_ring *ring, struct buf *bytes)
{
    assert(ring->bytes == NULL);
    if (bytes->len > 0) {
        ring->bytes = buf_take(bytes, &ring->len);
        ring->size = ring->len;
    }
}

void http_ring_close(struct http_ring *ring)
{
    mem_free(ring->bytes);
    *ring = (struct http_ring){0};
}

size_t http_ring_put(struct http_ring *ring, struct str bytes, size_t len_max)
{
    assert(len_max <= ring->size);
    assert(ring->len <= len_max);
    size_t room = len_max - ring->len;
    size_t size = bytes.len < room ? bytes.len : room;
    if (size == 0) {
        return 0;
    }
    size_t end = (ring->start + ring->len) % ring->size;
    size_t until_wrap = ring->size - end;
    size_t first = size < until_wrap ? size : until_wrap;
    memcpy(ring->bytes + end, bytes.ptr, first);
    memcpy(ring->bytes, bytes.ptr + first, size - first);
    ring->len += size;
    return size;
}

struct str http_ring_front(const struct http_ring *ring, size_t size_max)
{
    if (ring->len == 0) {
        return STR("");
    }
    size_t until_wrap = ring->size - ring->start;
    size_t size = ring->len < until_wrap ? ring->len : until_wrap;
    return str_make(ring->bytes + ring->start, size < size_max ? size : size_max);
}

void http_ring_drop(struct http_ring *ring, size_t size)
{
    assert(size <= ring->len);
    if (size > 0) {
        ring->start = (ring->start + size) % ring->size;
        ring->len -= size;
    }
}

size_t http_ring_get(struct http_ring *ring, char *into, size_t size_max)
{
    size_t done = 0;
    while (ring->len > 0 && done < size_max) {
        struct str front = http_ring_front(ring, size_max - done);
        memcpy(into + done, front.ptr, front.len);
        http_ring_drop(ring, front.len);
        done += front.len;
    }
    return done;
}
