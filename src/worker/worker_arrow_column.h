/* worker_arrow_column.h - one column of an Arrow record batch, gathered from the engine's vectors.
 * Promise   column_append() copies rows of the bound chunk behind what is there, nested parts
 *           included; a NULL's slot is zero. A value that Arrow's type cannot hold sets `problem`
 *           and is named by the column. Infinite dates and timestamps are NULL, as in JSON.
 * Not here  the messages (worker_arrow_message.h).
 * Owner     the caller; arrow_column_finish accepts zeroed memory.   Threads  none shared.
 * Limits    2 GiB of text per batch: offsets have 32 bits. */
#pragma once

#include "worker_arrow_flat.h"
#include "worker_shim.h"

/* Numbers of the union `Type` of Arrow's Schema.fbs. */
enum arrow_type {
    ARROW_NULL = 1,
    ARROW_INT = 2,
    ARROW_FLOAT = 3,
    ARROW_BINARY = 4,
    ARROW_UTF8 = 5,
    ARROW_BOOL = 6,
    ARROW_DECIMAL = 7,
    ARROW_DATE = 8,
    ARROW_TIME = 9,
    ARROW_TIMESTAMP = 10,
    ARROW_INTERVAL = 11,
    ARROW_LIST = 12,
    ARROW_STRUCT = 13,
    ARROW_FIXED_BINARY = 15,
    ARROW_FIXED_LIST = 16,
    ARROW_MAP = 17
};

enum {
    ARROW_TYPE_FIELDS_MAX = 3
};

struct arrow_column;
typedef void column_appender(struct arrow_column *column, uint64_t first, uint64_t count);

struct arrow_column {
    /* what it is; made once */
    struct str name; /* owned */
    enum arrow_type type;
    struct flat_field fields[ARROW_TYPE_FIELDS_MAX]; /* of the type's table */
    size_t fields_count;
    bool required;     /* never NULL: the parts of a MAP */
    bool utc;          /* TIMESTAMP: of the zone UTC */
    bool uuid;         /* FIXED_BINARY */
    struct str *texts; /* ENUM: the dictionary, owned; the values are indexes */
    size_t texts_count;
    int64_t dictionary_id; /* given by the encoder */
    size_t width;          /* of a value in `data`; 0 for bits, text and nested ones */
    size_t source_width;   /* of a value in the engine's vector, where they differ */
    int64_t limit;         /* TIME: what a value must be below */
    bool cast;             /* the engine's text of each value */
    column_appender *append;
    struct arrow_column *parts;
    size_t parts_count;
    uint64_t list_size; /* FIXED_LIST */
    /* the batch */
    uint64_t rows;
    uint64_t null_count;
    struct buf validity; /* whole words of 64 bits */
    struct buf offsets;  /* 32 bits each, one more than rows */
    struct buf data;
    const char *problem;
    /* the chunk */
    const void *source;
    const uint64_t *source_validity;
    duckdb_vector texts_vector; /* owned, when cast */
};

/* Takes a copy of the name. */
void arrow_column_init(struct arrow_column *column, struct str name, duckdb_logical_type type);
void arrow_column_finish(struct arrow_column *column);

/* The vector must be flat at every depth (columns_flatten) and stay until the next bind. False,
 * with a text in `problem`, when a value has no text or there is no memory. */
bool arrow_column_bind(struct arrow_column *column, duckdb_vector vector, uint64_t rows,
                       char problem[SHIM_TEXT_SIZE]) MUST_CHECK;
void arrow_column_reset(struct arrow_column *column);

/* Bytes gathered, nested parts included. */
size_t arrow_column_size(const struct arrow_column *column);

/* Bytes of text in these rows of the bound chunk; 0 for other types and nested ones. */
size_t arrow_column_text_size(const struct arrow_column *column, uint64_t first, uint64_t count);

/* The first column, at any depth, that met a value it cannot hold, or had no room; NULL if none. */
const struct arrow_column *arrow_column_failed(const struct arrow_column *column);
