#include "worker_arrow_flat.h"

enum {
    SLOTS_MAX = 8
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Arrow's and flatbuffers' byte order");

void flat_put_u32(struct buf *out, uint32_t value)
{
    buf_append_bytes(out, &value, sizeof(value));
}

void flat_put_i64(struct buf *out, int64_t value)
{
    buf_append_bytes(out, &value, sizeof(value));
}

void flat_pad(struct buf *out, size_t alignment)
{
    static const char zeros[64];
    assert(alignment <= sizeof(zeros));
    buf_append_bytes(out, zeros, (alignment - out->len % alignment) % alignment);
}

/* The size of the table behind its vtable: a 32-bit offset back to the vtable, then the fields,
 * large ones first, so that all are aligned when the table begins 4 bytes after a multiple of 8. */
static uint16_t lay_out(struct flat_field *fields, size_t count, uint16_t offsets[SLOTS_MAX])
{
    uint16_t next = 4;
    for (uint8_t size = 8; size > 0; size /= 2) {
        for (size_t i = 0; i < count; i++) {
            if (fields[i].size == size) {
                assert(fields[i].slot < SLOTS_MAX);
                offsets[fields[i].slot] = next;
                next = (uint16_t)(next + size);
            }
        }
    }
    return next;
}

size_t flat_table(struct buf *out, struct flat_field *fields, size_t count)
{
    uint16_t offsets[SLOTS_MAX] = {0};
    uint16_t slots = 0;
    uint16_t size = lay_out(fields, count, offsets);
    for (size_t i = 0; i < count; i++) {
        slots = fields[i].slot >= slots ? (uint16_t)(fields[i].slot + 1) : slots;
    }
    uint16_t vtable_size = (uint16_t)(4 + 2 * slots);
    flat_pad(out, 4);
    while ((out->len + vtable_size) % 8 != 4 && !buf_failed(out)) {
        buf_append_byte(out, 0);
    }
    buf_append_bytes(out, &vtable_size, sizeof(vtable_size));
    buf_append_bytes(out, &size, sizeof(size));
    buf_append_bytes(out, offsets, 2 * (size_t)slots);
    size_t table = out->len;
    flat_put_u32(out, vtable_size);
    for (uint8_t width = 8; width > 0; width /= 2) {
        for (size_t i = 0; i < count; i++) {
            if (fields[i].size == width) {
                fields[i].at = table + offsets[fields[i].slot];
                buf_append_bytes(out, &fields[i].value, width);
            }
        }
    }
    return table;
}

void flat_link(struct buf *out, size_t at, size_t target)
{
    if (buf_failed(out)) {
        return;
    }
    assert(target > at);
    uint32_t offset = (uint32_t)(target - at);
    memcpy(out->ptr + at, &offset, sizeof(offset));
}

size_t flat_vector(struct buf *out, size_t count, bool wide)
{
    flat_pad(out, 4);
    if (wide && out->len % 8 == 0) {
        flat_put_u32(out, 0);
    }
    size_t at = out->len;
    flat_put_u32(out, (uint32_t)count);
    return at;
}

size_t flat_offsets(struct buf *out, size_t count)
{
    size_t at = flat_vector(out, count, false);
    for (size_t i = 0; i < count; i++) {
        flat_put_u32(out, 0);
    }
    return at;
}

size_t flat_string(struct buf *out, struct str text)
{
    size_t at = flat_vector(out, text.len, false);
    buf_append(out, text);
    buf_append_byte(out, '\0');
    return at;
}
