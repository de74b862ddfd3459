#include "worker_arrow_read_flat.h"

#include <endian.h>

enum {
    OFFSET_SIZE = 4,
    SLOT_SIZE = 2,
    VTABLE_HEAD_SIZE = 4
};

static uint64_t load(struct flat_source *source, size_t at, size_t size)
{
    uint64_t value = 0;
    assert(size <= sizeof(value));
    if (source->bytes.len < size || at > source->bytes.len - size) {
        source->failed = true;
        return 0;
    }
    memcpy(&value, source->bytes.ptr + at, size);
    return le64toh(value);
}

/* Where the offset at `at` leads, always forward; 0 when that is nowhere. */
static size_t follow(struct flat_source *source, size_t at)
{
    uint64_t offset = load(source, at, OFFSET_SIZE);
    if (offset == 0 || source->failed || offset > source->bytes.len - at) {
        source->failed = true;
        return 0;
    }
    return at + (size_t)offset;
}

/* The table's first word says how far before (or, signed, behind) it its vtable is. */
static struct flat_table_in table_at(struct flat_source *source, size_t at)
{
    int32_t back = (int32_t)load(source, at, OFFSET_SIZE);
    int64_t vtable = (int64_t)at - back;
    if (source->failed || vtable < 0 || (uint64_t)vtable > source->bytes.len) {
        source->failed = true;
        return (struct flat_table_in){0};
    }
    struct flat_table_in table = {.at = at, .vtable = (size_t)vtable};
    table.vtable_size = (size_t)load(source, table.vtable, SLOT_SIZE);
    return table;
}

/* Where the field's value is; 0 when the field is absent. */
static size_t field_at(struct flat_source *source, struct flat_table_in table, unsigned slot)
{
    size_t entry = VTABLE_HEAD_SIZE + (size_t)slot * SLOT_SIZE;
    if (table.at == 0 || entry + SLOT_SIZE > table.vtable_size) {
        return 0;
    }
    size_t offset = (size_t)load(source, table.vtable + entry, SLOT_SIZE);
    return offset == 0 ? 0 : table.at + offset;
}

struct flat_table_in flat_read_root(struct flat_source *source)
{
    size_t at = follow(source, 0);
    return at == 0 ? (struct flat_table_in){0} : table_at(source, at);
}

int64_t flat_read_number(struct flat_source *source, struct flat_table_in table, unsigned slot,
                         size_t size, int64_t otherwise)
{
    size_t at = field_at(source, table, slot);
    if (at == 0) {
        return otherwise;
    }
    unsigned unused_bits = 64 - 8 * (unsigned)size;
    return (int64_t)(load(source, at, size) << unused_bits) >> unused_bits;
}

struct flat_table_in flat_read_table(struct flat_source *source, struct flat_table_in table,
                                     unsigned slot)
{
    size_t field = field_at(source, table, slot);
    size_t at = field == 0 ? 0 : follow(source, field);
    return at == 0 ? (struct flat_table_in){0} : table_at(source, at);
}

struct flat_list_in flat_read_list(struct flat_source *source, struct flat_table_in table,
                                   unsigned slot, size_t item_size)
{
    size_t field = field_at(source, table, slot);
    size_t at = field == 0 ? 0 : follow(source, field);
    if (at == 0) {
        return (struct flat_list_in){0};
    }
    uint64_t count = load(source, at, OFFSET_SIZE);
    if (source->failed || count > (source->bytes.len - at - OFFSET_SIZE) / item_size) {
        source->failed = true;
        return (struct flat_list_in){0};
    }
    return (struct flat_list_in){.at = at + OFFSET_SIZE, .count = (size_t)count};
}

struct str flat_read_text(struct flat_source *source, struct flat_table_in table, unsigned slot)
{
    struct flat_list_in bytes = flat_read_list(source, table, slot, 1);
    return bytes.count == 0 ? STR("") : str_make(source->bytes.ptr + bytes.at, bytes.count);
}

struct flat_table_in flat_read_item(struct flat_source *source, struct flat_list_in list,
                                    size_t index)
{
    assert(index < list.count);
    size_t at = follow(source, list.at + index * OFFSET_SIZE);
    return at == 0 ? (struct flat_table_in){0} : table_at(source, at);
}

int64_t flat_read_i64(struct flat_source *source, size_t at)
{
    return (int64_t)load(source, at, sizeof(int64_t));
}
