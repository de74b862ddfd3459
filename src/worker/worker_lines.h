/* worker_lines.h - canonical lines as SQL: {"c0":..,"c3":..}, where cN is the column at place N.
 * Promise   one text for both who read lines: what COPY writes to a file and what a query sees of
 *           the same rows before that is the same, value by value.
 * Owner     the caller's buffer.   Threads  any. */
#pragma once

#include "worker_duck.h"
#include "worker_job.h"

struct worker_lines {
    const struct worker_column *columns; /* by place */
    size_t columns_count;
    uint32_t rest; /* as in struct worker_job */
    uint64_t line_size_max;
    bool direct; /* from eider_lines() (worker_lines_read.h), and no read_json */
};

/* What stands in FROM: read_json(SOURCE, ...), where `source` is SQL, a literal or a list of them.
 * With `filename` each row knows the path it came from. */
void lines_append_source(struct buf *sql, const struct worker_lines *lines, struct str source,
                         bool filename);

/* Over that: the value of one column in its SQL type. A value that a loose column cannot take is
 * NULL there, and a member of the column `rest`. */
void lines_append_value(struct buf *sql, const struct worker_lines *lines, size_t index);

/* CAST or TRY_CAST (`cast`) of a column's text to its type. */
void lines_append_cast(struct buf *sql, const struct worker_column *column, size_t index,
                       const char *cast);
