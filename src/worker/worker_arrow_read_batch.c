#include "worker_arrow_read_field.h"

#include "mem.h"
#include "num.h"
#include "worker_arrow_unpack.h"

enum {
    NODE_SIZE = 16,      /* rows, nulls: 64 bits each */
    PLACE_SIZE = 16,     /* offset, size: 64 bits each */
    NOT_COMPRESSED = -1, /* in the place of a buffer's size */
    VIEW_SIZE = 16,
    BLOCKS_SIZE_MAX = 1 << 30
};

/* ---- memory for what was compressed ---- */

void arrow_room_init(struct arrow_room *room, size_t size_max)
{
    *room = (struct arrow_room){.size_max = size_max};
    buf_init(&room->blocks, BLOCKS_SIZE_MAX);
}

void arrow_room_reset(struct arrow_room *room)
{
    for (size_t at = 0; at < room->blocks.len; at += sizeof(void *)) {
        void *block;
        memcpy(&block, room->blocks.ptr + at, sizeof(block));
        mem_free(block);
    }
    buf_reset(&room->blocks);
    room->size = 0;
}

void arrow_room_finish(struct arrow_room *room)
{
    arrow_room_reset(room);
    buf_finish(&room->blocks);
}

static char *room_take(struct arrow_room *room, size_t size)
{
    void *block = size > room->size_max - room->size ? NULL : mem_try_resize(NULL, size);
    if (block != NULL) {
        room->size += size;
        buf_append_bytes(&room->blocks, &block, sizeof(block));
    }
    return block;
}

/* ---- nodes and buffers, in the order of the fields ---- */

struct binder {
    const struct arrow_batch *batch;
    enum arrow_codec codec;
    struct flat_list_in nodes;
    struct flat_list_in places;
    struct flat_list_in counts; /* of the buffers behind views */
    size_t next_node;
    size_t next_place;
    size_t next_count;
    struct str column; /* for messages */
    struct err *err;
};

static bool damaged(struct binder *binder, const char *what)
{
    return err_set(binder->err, ERR_INVALID,
                   "the body's Arrow stream is damaged: column \"%.*s\" %s",
                   STR_ARG(str_first(binder->column, 200)), what);
}

static bool decompress(struct binder *binder, struct str packed, struct str *ret_bytes)
{
    int64_t size;
    if (packed.len < sizeof(size)) {
        return damaged(binder, "has a compressed buffer that is too short");
    }
    memcpy(&size, packed.ptr, sizeof(size));
    packed = str_from(packed, sizeof(size));
    if (size == NOT_COMPRESSED) {
        *ret_bytes = packed;
        return true;
    }
    if (size < 0) {
        return damaged(binder, "has a compressed buffer of a negative size");
    }
    char *room = size == 0 ? NULL : room_take(binder->batch->room, (size_t)size);
    if (size > 0 && room == NULL) {
        return err_set(
            binder->err, ERR_TOO_LARGE,
            "a record batch is larger than %zu MB when it is unpacked; send smaller ones",
            binder->batch->room->size_max / 1000000);
    }
    /* What some writers make of nothing is no frame: it is not looked at. */
    if (size > 0 && !arrow_unpack(binder->codec, packed, room, (size_t)size)) {
        return damaged(binder, "has a buffer that does not unpack to the size it announces");
    }
    *ret_bytes = size == 0 ? STR("") : str_make(room, (size_t)size);
    return true;
}

static bool take_buffer(struct binder *binder, struct str *ret_bytes)
{
    if (binder->next_place == binder->places.count) {
        return damaged(binder, "lacks a buffer");
    }
    struct flat_source *source = binder->batch->source;
    size_t at = binder->places.at + binder->next_place++ * PLACE_SIZE;
    int64_t offset = flat_read_i64(source, at);
    int64_t size = flat_read_i64(source, at + 8);
    struct str body = binder->batch->body;
    bool inside = offset >= 0 && size >= 0 && (uint64_t)offset <= body.len &&
                  (uint64_t)size <= body.len - (uint64_t)offset;
    if (!inside) {
        return damaged(binder, "has a buffer outside its message");
    }
    struct str bytes = str_first(str_from(body, (size_t)offset), (size_t)size);
    if (binder->codec != ARROW_CODEC_NONE && bytes.len > 0) {
        return decompress(binder, bytes, ret_bytes);
    }
    *ret_bytes = bytes;
    return true;
}

/* Takes a buffer that has room for `count` items; empty is enough for none. */
static bool take_items(struct binder *binder, uint64_t count, size_t item_size,
                       struct str *ret_bytes)
{
    size_t size;
    if (!take_buffer(binder, ret_bytes)) {
        return false;
    }
    return (num_mul((size_t)count, item_size, &size) && size <= ret_bytes->len) ||
           damaged(binder, "has a buffer that is too short for its rows");
}

static bool take_validity(struct binder *binder, struct arrow_field *field, uint64_t nulls)
{
    struct str bits;
    if (!take_items(binder, nulls == 0 ? 0 : field->rows / 8 + (field->rows % 8 != 0), 1, &bits)) {
        return false;
    }
    field->validity = nulls == 0 ? NULL : (const unsigned char *)bits.ptr;
    return true;
}

/* ---- what the values have to be ---- */

/* Rising, and within what they lead into: nothing is reached twice. */
static bool check_offsets(struct binder *binder, const struct arrow_field *field, uint64_t end)
{
    uint64_t last = 0;
    for (uint64_t i = 0; field->rows > 0 && i <= field->rows; i++) {
        uint64_t offset = arrow_offset(field, i);
        if (offset < last || offset > end) {
            return damaged(binder, "has offsets that do not rise, or lead outside");
        }
        last = offset;
    }
    return true;
}

static bool take_offsets(struct binder *binder, struct arrow_field *field)
{
    uint64_t count = field->rows == 0 ? 0 : field->rows + 1;
    return take_items(binder, count, field->width, &field->offsets);
}

static bool bad_text(struct binder *binder, uint64_t row)
{
    return err_set(binder->err, ERR_INVALID,
                   "column \"%.*s\": value %llu of its batch is not UTF-8",
                   STR_ARG(str_first(binder->column, 200)), (unsigned long long)row);
}

static bool check_texts(struct binder *binder, const struct arrow_field *field)
{
    for (uint64_t row = 0; row < field->rows; row++) {
        uint64_t begin = arrow_offset(field, row);
        struct str text = str_make(field->data.ptr + begin, arrow_offset(field, row + 1) - begin);
        if (!str_is_utf8(text) && arrow_has(field, row)) {
            return bad_text(binder, row);
        }
    }
    return true;
}

static bool check_views(struct binder *binder, const struct arrow_field *field)
{
    for (uint64_t row = 0; row < field->rows; row++) {
        struct str text;
        if (!arrow_has(field, row)) {
            continue;
        }
        if (!arrow_view(field, row, &text)) {
            return damaged(binder, "has views that lead outside");
        }
        if (field->text && !str_is_utf8(text)) {
            return bad_text(binder, row);
        }
    }
    return true;
}

static bool check_clock(struct binder *binder, const struct arrow_field *field)
{
    static const int64_t units[] = {1, 1000, 1000000, 1000000000};
    int64_t end = 86400 * units[field->digits / 3];
    for (uint64_t row = 0; row < field->rows; row++) {
        int64_t value = arrow_load(field, row);
        if ((value < 0 || value >= end) && arrow_has(field, row)) {
            return err_set(binder->err, ERR_INVALID,
                           "column \"%.*s\": value %llu of its batch is no time of a day",
                           STR_ARG(str_first(binder->column, 200)), (unsigned long long)row);
        }
    }
    return true;
}

static bool check_indexes(struct binder *binder, const struct arrow_field *field)
{
    uint64_t count = field->dictionary->ends.len / sizeof(size_t);
    for (uint64_t row = 0; row < field->rows; row++) {
        if ((uint64_t)arrow_load(field, row) >= count && arrow_has(field, row)) {
            return damaged(binder, "has an index that its dictionary does not");
        }
    }
    return true;
}

/* ---- layouts ---- */

static bool bind_field(struct binder *binder, struct arrow_field *field, uint64_t rows_min);

static bool bind_bytes(struct binder *binder, struct arrow_field *field)
{
    return take_offsets(binder, field) && take_buffer(binder, &field->data) &&
           check_offsets(binder, field, field->data.len) &&
           (!field->text || check_texts(binder, field));
}

static bool bind_views(struct binder *binder, struct arrow_field *field)
{
    if (!take_items(binder, field->rows, VIEW_SIZE, &field->data)) {
        return false;
    }
    if (binder->next_count == binder->counts.count) {
        return damaged(binder, "lacks the number of its buffers");
    }
    int64_t count =
        flat_read_i64(binder->batch->source, binder->counts.at + binder->next_count++ * 8);
    if (count < 0 || (uint64_t)count > binder->places.count - binder->next_place) {
        return damaged(binder, "lacks a buffer");
    }
    mem_free(field->buffers);
    field->buffers_count = (size_t)count;
    field->buffers = mem_alloc_array(field->buffers_count, sizeof(*field->buffers));
    for (size_t i = 0; i < field->buffers_count; i++) {
        if (!take_buffer(binder, &field->buffers[i])) {
            return false;
        }
    }
    return check_views(binder, field);
}

static bool bind_list(struct binder *binder, struct arrow_field *field)
{
    return take_offsets(binder, field) && bind_field(binder, field->parts, 0) &&
           check_offsets(binder, field, field->parts->rows);
}

static bool bind_fixed_list(struct binder *binder, struct arrow_field *field)
{
    size_t items;
    if (!num_mul((size_t)field->rows, (size_t)field->list_size, &items)) {
        return damaged(binder, "has too many rows");
    }
    return bind_field(binder, field->parts, items);
}

static bool bind_struct(struct binder *binder, struct arrow_field *field)
{
    for (size_t i = 0; i < field->parts_count; i++) {
        if (!bind_field(binder, &field->parts[i], field->rows)) {
            return false;
        }
    }
    return true;
}

static bool bind_layout(struct binder *binder, struct arrow_field *field)
{
    switch (field->layout) {
    case LAYOUT_FIXED:
        return take_items(binder, field->rows, field->width, &field->data) &&
               (!field->clock || check_clock(binder, field));
    case LAYOUT_BITS:
        return take_items(binder, field->rows / 8 + (field->rows % 8 != 0), 1, &field->data);
    case LAYOUT_BYTES:
        return bind_bytes(binder, field);
    case LAYOUT_VIEWS:
        return bind_views(binder, field);
    case LAYOUT_LIST:
        return bind_list(binder, field);
    case LAYOUT_FIXED_LIST:
        return bind_fixed_list(binder, field);
    case LAYOUT_STRUCT:
        return bind_struct(binder, field);
    case LAYOUT_INDEX:
        return take_items(binder, field->rows, field->width, &field->data) &&
               check_indexes(binder, field);
    case LAYOUT_NONE:
    default:
        return true;
    }
}

/* Null rows of a list or struct that has no bytes of its own are counted all the same: rows are
 * what a parent reaches, so a part with fewer is damaged. */
static bool bind_field(struct binder *binder, struct arrow_field *field, uint64_t rows_min)
{
    if (binder->next_node == binder->nodes.count) {
        return damaged(binder, "is missing in a batch");
    }
    size_t at = binder->nodes.at + binder->next_node++ * NODE_SIZE;
    int64_t rows = flat_read_i64(binder->batch->source, at);
    int64_t nulls = flat_read_i64(binder->batch->source, at + 8);
    if (rows < 0 || nulls < 0 || nulls > rows) {
        return damaged(binder, "has a number of rows or nulls that cannot be");
    }
    if ((uint64_t)rows < rows_min) {
        return damaged(binder, "has fewer rows than its batch");
    }
    field->rows = (uint64_t)rows;
    field->validity = NULL;
    if (field->layout != LAYOUT_NONE && !take_validity(binder, field, (uint64_t)nulls)) {
        return false;
    }
    return bind_layout(binder, field);
}

static bool choose_codec(struct binder *binder)
{
    struct flat_source *source = binder->batch->source;
    struct flat_table_in table = flat_read_table(source, binder->batch->header, 3);
    if (table.at == 0) {
        binder->codec = ARROW_CODEC_NONE;
        return true;
    }
    int64_t codec = flat_read_number(source, table, 0, 1, 0);
    binder->codec = codec == ARROW_CODEC_ZSTD ? ARROW_CODEC_ZSTD : ARROW_CODEC_LZ4;
    return (codec == (int64_t)binder->codec && flat_read_number(source, table, 1, 1, 0) == 0) ||
           err_set(binder->err, ERR_INVALID,
                   "the body's record batches are packed in a way that is not read; send them "
                   "packed with lz4 or zstd, or not at all");
}

bool arrow_batch_bind(const struct arrow_batch *batch, struct arrow_field *fields, size_t count,
                      uint64_t *ret_rows, struct err *err)
{
    struct flat_source *source = batch->source;
    struct binder binder = {
        .batch = batch,
        .nodes = flat_read_list(source, batch->header, 1, NODE_SIZE),
        .places = flat_read_list(source, batch->header, 2, PLACE_SIZE),
        .counts = flat_read_list(source, batch->header, 4, sizeof(int64_t)),
        .err = err,
    };
    int64_t rows = flat_read_number(source, batch->header, 0, 8, 0);
    bool good = choose_codec(&binder);
    if (source->failed || rows < 0) {
        return err_set(err, ERR_INVALID,
                       "the body's Arrow stream is damaged: a batch's description is broken");
    }
    for (size_t i = 0; good && i < count; i++) {
        binder.column = fields[i].name;
        good = bind_field(&binder, &fields[i], (uint64_t)rows);
    }
    if (good && (binder.next_node != binder.nodes.count ||
                 binder.next_place != binder.places.count || source->failed)) {
        return err_set(err, ERR_INVALID,
                       "the body's Arrow stream is damaged: a batch has more than its schema");
    }
    *ret_rows = (uint64_t)rows;
    return good;
}
