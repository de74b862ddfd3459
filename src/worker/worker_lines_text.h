/* worker_lines_text.h - the values of a canonical line; for worker_lines_*.c only.
 * Promise   NULL for whatever is not of the usual shape. Nothing is read beyond the first control
 *           character, which every line has at its end, but for LINES_PADDING bytes.
 * Threads   any. */
#pragma once

#include <duckdb.h>
#include <stdint.h>

enum {
    LINES_PADDING = 64
};

/* Each returns where the value ends. `end` is behind the last byte of the lines. */
const char *lines_read_bigint(const char *at, int64_t *ret_value);
const char *lines_read_double(const char *at, const char *end, double *ret_value);
const char *lines_read_boolean(const char *at, bool *ret_value);
/* The text points into the line when it is long; escapes are replaced there. */
const char *lines_read_text(char *at, duckdb_string_t *ret_value);
