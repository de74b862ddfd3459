/* worker_arrow_read_flat.h - FlatBuffers as strangers send them.
 * Promise   every read is inside the bytes, or marks the source failed and gives zero; check
 *           `failed` once at the end. Any offsets are taken, aligned or not, shared or not: it is
 *           the reader's business not to walk in circles.
 * Owner     results point into the bytes.   Threads  none shared. */
#pragma once

#include "str.h"

struct flat_source {
    struct str bytes;
    bool failed;
};

/* A table; `at` is 0 for one that is absent, whose fields are absent too. */
struct flat_table_in {
    size_t at;
    size_t vtable;
    size_t vtable_size;
};

struct flat_list_in {
    size_t at; /* of the first item */
    size_t count;
};

struct flat_table_in flat_read_root(struct flat_source *source);
/* A signed number of `size` bytes. */
int64_t flat_read_number(struct flat_source *source, struct flat_table_in table, unsigned slot,
                         size_t size, int64_t otherwise);
struct flat_table_in flat_read_table(struct flat_source *source, struct flat_table_in table,
                                     unsigned slot);
struct str flat_read_text(struct flat_source *source, struct flat_table_in table, unsigned slot);
/* All items are inside the bytes. */
struct flat_list_in flat_read_list(struct flat_source *source, struct flat_table_in table,
                                   unsigned slot, size_t item_size);
struct flat_table_in flat_read_item(struct flat_source *source, struct flat_list_in list,
                                    size_t index);
int64_t flat_read_i64(struct flat_source *source, size_t at);
