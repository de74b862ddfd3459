/* lake_tail.h - the tail of a table for SQL; for lake*.c only.
 * Promise   a view and its lines are of one moment: each acknowledged row is either in the lines
 *           or in an object that the view does not hide, when the store is listed after
 *           lake_tail_open. Lines that were gathered for one query are used again by the
 *           next, which gathers only what came after.
 * Owner     the caller closes it; counted inside.   Threads  any.
 * Errors    ERR_BUSY (more than the limits would have to be gathered: flush first), ERR_CORRUPT.
 * Limits    1 GiB of lines of a table; query_tails_bytes_max of all, in memory up to 32 MiB of a
 *           table at once, else in the spool folder. What no query reads makes room for others. */
#pragma once

#include "lake_table.h"

struct lake_tail {
    struct lake_view view;
    const struct lake_schema *schema;
    int fd; /* read-only; -1: the tail is empty */
    const struct lake_window *windows;
    size_t windows_count;
    size_t line_size_max;
    uint64_t rows;
    struct tail_file *file; /* the bytes behind fd; counted */
};

bool lake_tail_open(struct lake *lake, struct lake_table *table, struct lake_tail *ret_tail,
                    struct err *err) MUST_CHECK;
/* The same when nothing has to be gathered; false otherwise. Takes no time. */
bool lake_tail_recall(struct lake *lake, struct lake_table *table,
                      struct lake_tail *ret_tail) MUST_CHECK;
void lake_tail_close(struct lake *lake, struct lake_table *table, struct lake_tail *tail);
/* Drops what was gathered for queries; with the table's lock held, or when nobody else uses it. */
void lake_tail_forget(struct lake_table *table);
