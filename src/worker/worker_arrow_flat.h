/* worker_arrow_flat.h - just enough of the flatbuffers format to write Arrow's messages, which
 * describe schemas and batches.
 * Promise   front to back: a table is written before what it points to, so that every offset is
 *           positive; flat_link() fills it in when its target has come. Scalars are aligned.
 * Not here  what the messages mean (worker_arrow_message.h). */
#pragma once

#include "buf.h"

/* One field of a table: a scalar, or (size 4) an offset to be linked later. */
struct flat_field {
    uint16_t slot; /* its number in the table's definition */
    uint8_t size;  /* 1, 2, 4 or 8 */
    int64_t value; /* 0 for an offset */
    size_t at;     /* out: where it stands */
};

/* Appends a table, says in each field where it is, and returns where the table is. */
size_t flat_table(struct buf *out, struct flat_field *fields, size_t count);

/* The head of a vector, whose elements follow; `wide` aligns elements of 64 bits. flat_offsets()
 * also appends its elements, offsets to be linked: the first is 4 bytes behind the vector. All
 * return where they stand. */
size_t flat_vector(struct buf *out, size_t count, bool wide);
size_t flat_offsets(struct buf *out, size_t count);
size_t flat_string(struct buf *out, struct str text);

/* The offset at `at` points to `target`. */
void flat_link(struct buf *out, size_t at, size_t target);

void flat_put_u32(struct buf *out, uint32_t value);
void flat_put_i64(struct buf *out, int64_t value);
void flat_pad(struct buf *out, size_t alignment);
