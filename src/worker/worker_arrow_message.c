#include "worker_arrow_message.h"

#include "mem.h"

/* Numbers of Message.fbs and Schema.fbs. */
enum {
    VERSION_5 = 4,
    HEADER_SCHEMA = 1,
    HEADER_DICTIONARY = 2,
    HEADER_BATCH = 3
};

enum {
    ALIGNMENT = 64,
    METADATA_SIZE_MAX = 64 << 20,
    PASSED_SIZE = 64 << 10 /* buffers from here on are sent as they are, not gathered first */
};

/* ---- one message: its description, then its body ---- */

/* Begins the description; returns the message's field that links to the header table. */
static size_t begin_message(struct buf *flat, int header_type, int64_t body_size)
{
    buf_init(flat, METADATA_SIZE_MAX);
    flat_put_u32(flat, 0); /* the root */
    struct flat_field fields[] = {
        {.slot = 0, .size = 2, .value = VERSION_5},
        {.slot = 1, .size = 1, .value = header_type},
        {.slot = 2, .size = 4},
        {.slot = 3, .size = 8, .value = body_size},
    };
    flat_link(flat, 0, flat_table(flat, fields, COUNT_OF(fields)));
    return fields[2].at;
}

static void send_description(struct buf *flat, struct sink *sink)
{
    enum {
        PREFIX_SIZE = 8
    };
    while ((flat->len + PREFIX_SIZE) % ALIGNMENT != 0 && !buf_failed(flat)) {
        buf_append_byte(flat, '\0');
    }
    sink->out.failed |= buf_failed(flat);
    flat_put_u32(&sink->out, UINT32_MAX);
    flat_put_u32(&sink->out, (uint32_t)flat->len);
    buf_append(&sink->out, buf_str(flat));
    buf_finish(flat);
}

static int64_t padded(size_t size)
{
    return (int64_t)((size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

static void send_buffer(struct str bytes, struct sink *sink)
{
    static const char zeros[ALIGNMENT];
    if (bytes.len >= PASSED_SIZE) {
        sink_pass(sink, bytes);
    } else {
        buf_append(&sink->out, bytes);
    }
    buf_append_bytes(&sink->out, zeros, (size_t)padded(bytes.len) - bytes.len);
}

/* ---- the schema ---- */

static size_t put_key_value(struct buf *flat, struct str key, struct str value)
{
    struct flat_field fields[] = {{.slot = 0, .size = 4}, {.slot = 1, .size = 4}};
    size_t table = flat_table(flat, fields, COUNT_OF(fields));
    flat_link(flat, fields[0].at, flat_string(flat, key));
    flat_link(flat, fields[1].at, flat_string(flat, value));
    return table;
}

/* What tells readers that 16 bytes are a UUID: Arrow's own extension type of that name. */
static size_t put_uuid_metadata(struct buf *flat)
{
    size_t list = flat_offsets(flat, 2);
    flat_link(flat, list + 4, put_key_value(flat, STR("ARROW:extension:name"), STR("arrow.uuid")));
    flat_link(flat, list + 8, put_key_value(flat, STR("ARROW:extension:metadata"), STR("")));
    return list;
}

/* The index type is unsigned, as the engine stores it. */
static size_t put_dictionary_encoding(struct buf *flat, const struct arrow_column *column)
{
    struct flat_field fields[] = {
        {.slot = 0, .size = 8, .value = column->dictionary_id},
        {.slot = 1, .size = 4},
    };
    struct flat_field index[] = {
        {.slot = 0, .size = 4, .value = (int64_t)column->width * 8},
        {.slot = 1, .size = 1, .value = 0},
    };
    size_t table = flat_table(flat, fields, COUNT_OF(fields));
    flat_link(flat, fields[1].at, flat_table(flat, index, COUNT_OF(index)));
    return table;
}

static size_t put_type(struct buf *flat, const struct arrow_column *column)
{
    struct flat_field fields[ARROW_TYPE_FIELDS_MAX];
    memcpy(fields, column->fields, sizeof(fields));
    size_t table = flat_table(flat, fields, column->fields_count);
    if (column->utc) {
        flat_link(flat, fields[1].at, flat_string(flat, STR("UTC")));
    }
    return table;
}

static size_t put_columns(struct buf *flat, const struct arrow_column *columns, size_t count);

static size_t put_column(struct buf *flat, const struct arrow_column *column)
{
    enum {
        NAME,
        NULLABLE,
        KIND,
        TYPE,
        CHILDREN,
        EXTRA
    };
    bool dictionary = column->texts != NULL;
    struct flat_field fields[] = {
        [NAME] = {.slot = 0, .size = 4},
        [NULLABLE] = {.slot = 1, .size = 1, .value = !column->required},
        [KIND] = {.slot = 2, .size = 1, .value = (int64_t)column->type},
        [TYPE] = {.slot = 3, .size = 4},
        [CHILDREN] = {.slot = 5, .size = 4},
        [EXTRA] = {.slot = dictionary ? 4 : 6, .size = 4},
    };
    size_t table = flat_table(flat, fields, dictionary || column->uuid ? EXTRA + 1 : EXTRA);
    flat_link(flat, fields[NAME].at, flat_string(flat, column->name));
    flat_link(flat, fields[TYPE].at, put_type(flat, column));
    flat_link(flat, fields[CHILDREN].at, put_columns(flat, column->parts, column->parts_count));
    if (dictionary) {
        flat_link(flat, fields[EXTRA].at, put_dictionary_encoding(flat, column));
    } else if (column->uuid) {
        flat_link(flat, fields[EXTRA].at, put_uuid_metadata(flat));
    }
    return table;
}

static size_t put_columns(struct buf *flat, const struct arrow_column *columns, size_t count)
{
    size_t list = flat_offsets(flat, count);
    for (size_t i = 0; i < count; i++) {
        flat_link(flat, list + 4 + i * 4, put_column(flat, &columns[i]));
    }
    return list;
}

void arrow_send_schema(const struct arrow_column *columns, size_t count, struct sink *sink)
{
    struct buf flat;
    size_t header = begin_message(&flat, HEADER_SCHEMA, 0);
    struct flat_field fields[] = {
        {.slot = 0, .size = 2, .value = 0 /* little-endian */},
        {.slot = 1, .size = 4},
    };
    flat_link(&flat, header, flat_table(&flat, fields, COUNT_OF(fields)));
    flat_link(&flat, fields[1].at, put_columns(&flat, columns, count));
    send_description(&flat, sink);
}

/* ---- batches ---- */

/* A batch's columns, nested ones after what holds them, are `nodes`; their buffers follow in the
 * same order. */
struct body {
    struct buf nodes;   /* rows, NULLs: 64 bits each */
    struct buf places;  /* offset, size: 64 bits each */
    struct buf buffers; /* struct str each */
    int64_t size;
};

static void add_buffer(struct body *body, struct str bytes)
{
    flat_put_i64(&body->places, body->size);
    flat_put_i64(&body->places, (int64_t)bytes.len);
    buf_append_bytes(&body->buffers, &bytes, sizeof(bytes));
    body->size += padded(bytes.len);
}

static void add_node(struct body *body, const struct arrow_column *column)
{
    flat_put_i64(&body->nodes, (int64_t)column->rows);
    flat_put_i64(&body->nodes, (int64_t)column->null_count);
    if (column->type == ARROW_NULL) {
        return;
    }
    bool text = column->type == ARROW_UTF8 || column->type == ARROW_BINARY;
    bool list = column->type == ARROW_LIST || column->type == ARROW_MAP;
    add_buffer(body, column->null_count > 0 ? buf_str(&column->validity) : STR(""));
    if (list || (text && column->texts == NULL)) {
        add_buffer(body, buf_str(&column->offsets));
    }
    if (column->parts_count == 0) {
        add_buffer(body, buf_str(&column->data));
    }
    for (size_t i = 0; i < column->parts_count; i++) {
        add_node(body, &column->parts[i]);
    }
}

static void body_init(struct body *body)
{
    *body = (struct body){0};
    buf_init(&body->nodes, METADATA_SIZE_MAX);
    buf_init(&body->places, METADATA_SIZE_MAX);
    buf_init(&body->buffers, METADATA_SIZE_MAX);
}

static size_t put_batch(struct buf *flat, const struct body *body, uint64_t rows)
{
    struct flat_field fields[] = {
        {.slot = 0, .size = 8, .value = (int64_t)rows},
        {.slot = 1, .size = 4},
        {.slot = 2, .size = 4},
    };
    size_t table = flat_table(flat, fields, COUNT_OF(fields));
    flat_link(flat, fields[1].at, flat_vector(flat, body->nodes.len / 16, true));
    buf_append(flat, buf_str(&body->nodes));
    flat_link(flat, fields[2].at, flat_vector(flat, body->places.len / 16, true));
    buf_append(flat, buf_str(&body->places));
    return table;
}

/* Sends the description, then the buffers. */
static void send_body(struct buf *flat, struct body *body, struct sink *sink)
{
    flat->failed |= buf_failed(&body->nodes) || buf_failed(&body->places);
    send_description(flat, sink);
    for (size_t at = 0; at < body->buffers.len; at += sizeof(struct str)) {
        struct str bytes;
        memcpy(&bytes, body->buffers.ptr + at, sizeof(bytes));
        send_buffer(bytes, sink);
    }
    buf_finish(&body->nodes);
    buf_finish(&body->places);
    buf_finish(&body->buffers);
}

void arrow_send_batch(const struct arrow_column *columns, size_t count, uint64_t rows,
                      struct sink *sink)
{
    struct body body;
    struct buf flat;
    body_init(&body);
    for (size_t i = 0; i < count; i++) {
        add_node(&body, &columns[i]);
    }
    size_t header = begin_message(&flat, HEADER_BATCH, body.size);
    flat_link(&flat, header, put_batch(&flat, &body, rows));
    send_body(&flat, &body, sink);
}

/* The texts as a column of their own. */
static void fill_texts(struct arrow_column *texts, const struct arrow_column *column)
{
    texts->type = ARROW_UTF8;
    texts->rows = column->texts_count;
    arrow_column_reset(texts);
    texts->rows = column->texts_count;
    for (size_t i = 0; i < column->texts_count; i++) {
        buf_append(&texts->data, column->texts[i]);
        flat_put_u32(&texts->offsets, (uint32_t)texts->data.len);
    }
}

void arrow_send_dictionary(const struct arrow_column *column, struct sink *sink)
{
    struct arrow_column texts = {0};
    struct body body;
    struct buf flat;
    fill_texts(&texts, column);
    body_init(&body);
    add_node(&body, &texts);
    size_t header = begin_message(&flat, HEADER_DICTIONARY, body.size);
    struct flat_field fields[] = {
        {.slot = 0, .size = 8, .value = column->dictionary_id},
        {.slot = 1, .size = 4},
    };
    flat_link(&flat, header, flat_table(&flat, fields, COUNT_OF(fields)));
    flat_link(&flat, fields[1].at, put_batch(&flat, &body, column->texts_count));
    send_body(&flat, &body, sink);
    arrow_column_finish(&texts);
}

void arrow_send_end(struct sink *sink)
{
    flat_put_u32(&sink->out, UINT32_MAX);
    flat_put_u32(&sink->out, 0);
}
