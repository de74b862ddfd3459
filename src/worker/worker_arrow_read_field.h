/* worker_arrow_read_field.h - one column of an Arrow stream from outside, or a part of one: what
 * it is, and where its values are in the batch at hand.
 * Promise   arrow_field_bind() looks at every offset, size, index and text that `append` will use:
 *           when it says yes, `append` of any row below `rows` is safe and cannot fail.
 * Owner     the stream; names and values point into the message, which outlives them.
 * Threads   none shared.   Limits  ARROW_READ_* of worker_arrow_read.h. */
#pragma once

#include "buf.h"
#include "err.h"
#include "worker_arrow_read_flat.h"

/* How a column lies in a batch: a list of its nulls first (but for LAYOUT_NONE), then: */
enum arrow_layout {
    LAYOUT_NONE,       /* nothing at all: every row is null */
    LAYOUT_FIXED,      /* values of `width` bytes */
    LAYOUT_BITS,       /* a bit per value */
    LAYOUT_BYTES,      /* offsets of `width` bytes, then the bytes of all values */
    LAYOUT_VIEWS,      /* views of 16 bytes, then any number of buffers with the bytes */
    LAYOUT_LIST,       /* offsets of `width` bytes into the rows of the one part */
    LAYOUT_FIXED_LIST, /* nothing: `list_size` rows of the one part each */
    LAYOUT_STRUCT,     /* nothing: the same row of each part */
    LAYOUT_INDEX       /* indexes of `width` bytes into a dictionary */
};

struct arrow_field;
typedef void arrow_appender(const struct arrow_field *field, uint64_t row, struct buf *out);

/* The values of a dictionary as JSON, ready to be copied. */
struct arrow_dictionary {
    int64_t id;
    struct arrow_field *values; /* of the field that named it first */
    struct buf texts;
    struct buf ends; /* size_t each: where the value ends in `texts` */
};

struct arrow_field {
    struct str name;
    struct str key; /* owned: "name": and, but for the first, a comma before */
    char sql_type[24];
    enum arrow_layout layout;
    size_t width;
    arrow_appender *append; /* of a row that is not null */
    unsigned digits;        /* TIME, TIMESTAMP, DURATION: 0, 3, 6 or 9 after the second */
    int scale;              /* DECIMAL */
    bool is_signed;         /* INT, and indexes */
    bool zone;              /* TIMESTAMP */
    bool text;              /* has to be UTF-8 */
    bool clock;             /* has to be within a day */
    bool nested;            /* a part of something */
    uint64_t list_size;
    struct arrow_field *parts;
    size_t parts_count;
    struct arrow_dictionary *dictionary; /* of LAYOUT_INDEX; the stream's */
    /* the batch */
    uint64_t rows;
    const unsigned char *validity; /* NULL: no nulls */
    struct str offsets;
    struct str data;
    struct str *buffers; /* of LAYOUT_VIEWS, owned */
    size_t buffers_count;
};

/* Where dictionaries are found by their number; one that is new is made. */
typedef struct arrow_dictionary *arrow_dictionary_finder(void *context, int64_t id);

/* Reads the fields of a schema message's header. They are as many as ret_count says also when this
 * fails; arrow_fields_finish them. ERR_INVALID names the column. */
bool arrow_fields_read(struct flat_source *source, struct flat_table_in schema,
                       arrow_dictionary_finder *find, void *context,
                       struct arrow_field **ret_fields, size_t *ret_count,
                       struct err *err) MUST_CHECK;
void arrow_fields_finish(struct arrow_field *fields, size_t count);

/* ---- values (worker_arrow_read_value.c) ---- */

arrow_appender arrow_append_null, arrow_append_bool, arrow_append_int, arrow_append_half,
    arrow_append_float, arrow_append_double, arrow_append_decimal, arrow_append_text,
    arrow_append_blob, arrow_append_fixed_blob, arrow_append_uuid, arrow_append_text_view,
    arrow_append_blob_view, arrow_append_day, arrow_append_day_ms, arrow_append_time,
    arrow_append_timestamp, arrow_append_duration, arrow_append_months, arrow_append_days_time,
    arrow_append_interval, arrow_append_list, arrow_append_fixed_list, arrow_append_struct,
    arrow_append_map, arrow_append_index;

/* A row of any kind, null or not. */
void arrow_append_value(const struct arrow_field *field, uint64_t row, struct buf *out);

static inline bool arrow_has(const struct arrow_field *field, uint64_t row)
{
    return field->validity == NULL || (field->validity[row / 8] >> (row % 8) & 1) != 0;
}

/* An unsigned number of `width` bytes, sign-extended when is_signed. */
static inline int64_t arrow_load(const struct arrow_field *field, uint64_t row)
{
    uint64_t value = 0;
    memcpy(&value, field->data.ptr + row * field->width, field->width);
    unsigned unused = 64 - 8 * (unsigned)field->width;
    return field->is_signed ? (int64_t)(value << unused) >> unused : (int64_t)value;
}

/* The offset before or (row + 1) behind a row's bytes or items. */
static inline uint64_t arrow_offset(const struct arrow_field *field, uint64_t row)
{
    uint64_t value = 0;
    memcpy(&value, field->offsets.ptr + row * field->width, field->width);
    return value;
}

/* The bytes of a row of LAYOUT_VIEWS; false when they are nowhere. */
bool arrow_view(const struct arrow_field *field, uint64_t row, struct str *ret_bytes);

/* ---- batches (worker_arrow_read_batch.c) ---- */

/* Memory for what was compressed, until the next batch. */
struct arrow_room {
    struct buf blocks; /* void * each */
    size_t size;
    size_t size_max;
};
void arrow_room_init(struct arrow_room *room, size_t size_max);
void arrow_room_reset(struct arrow_room *room);
void arrow_room_finish(struct arrow_room *room);

struct arrow_batch {
    struct flat_source *source;
    struct flat_table_in header; /* RecordBatch */
    struct str body;
    struct arrow_room *room;
};

/* Points the fields at a batch's bytes and checks them. */
bool arrow_batch_bind(const struct arrow_batch *batch, struct arrow_field *fields, size_t count,
                      uint64_t *ret_rows, struct err *err) MUST_CHECK;
