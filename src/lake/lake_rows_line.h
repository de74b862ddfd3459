/* lake_rows_line.h - writes the canonical lines; for lake_rows*.c only. */
#pragma once

#include "json_scan.h"
#include "lake_rows.h"

struct line_writer {
    struct buf *lines;
    size_t line_start;
    size_t line_size_max;
    struct buf scratch; /* the compact text of a nested value */
};

void line_init(struct line_writer *writer, struct buf *lines, size_t lines_bytes_max);
void line_finish(struct line_writer *writer);

void line_begin(struct line_writer *writer);
void line_end(struct line_writer *writer);

/* The name cN and a colon; a value has to follow. */
void line_key(struct line_writer *writer, size_t column_index);
void line_literal(struct line_writer *writer, struct str json);
void line_quoted(struct line_writer *writer, struct str plain); /* text that needs no escapes */
/* The text of a value as a JSON string: a string keeps its escapes, an unpaired surrogate escape
 * becomes U+FFFD; all else is the compact JSON text. */
void line_text(struct line_writer *writer, struct json_span value);

/* Where the first unpaired surrogate escape is in JSON text, or its length. */
size_t line_find_unpaired(struct str json);

/* ERR_TOO_LARGE when the lines have grown over their limit. */
bool line_check(const struct line_writer *writer, struct err *err) MUST_CHECK;
