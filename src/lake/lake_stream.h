/* lake_stream.h - one table's part of a request: bytes in, payloads of ROWS records out; for
 * lake_writer.c only.
 * Promise   lines that were made under a schema hold under every later one (lake_schema.h), so only
 *           who needs a wider schema makes the others that do wait: from the pass that asked for it
 *           until lake_stream_publish or the end. What is never published leaves no trace in the
 *           table.
 * Owner     the writer.   Threads  the writer's. */
#pragma once

#include "lake_days.h"
#include "lake_table.h"

struct lake_stream {
    struct lake *lake;
    struct lake_table *table;
    struct lake_check *check;
    const struct lake_schema *schema; /* of the next pass, kept */
    bool widening;                    /* this stream makes the table's next schema */
    bool at_once;                     /* it does not wait for another that does ... */
    bool would_wait;                  /* ... and had to: feed has failed */
    struct cancel *cancel;            /* of who waits; may be NULL */
    bool whole;         /* all bytes in one pass, so that types come from all records */
    bool has_lines;     /* the body's records are lines */
    bool by_piece;      /* they are checked where they are; else what comes is gathered in `held` */
    struct buf held;    /* bytes that wait for more */
    struct buf lines;   /* the check writes behind them */
    size_t lines_start; /* what is before was taken */
    struct lake_section *sections; /* of the lines */
    size_t sections_count;
    size_t sections_capacity;
    struct lake_days days; /* of all lines so far */
    uint64_t rows;         /* of the lines */
};

void lake_stream_init(struct lake_stream *stream, struct lake *lake, struct lake_table *table,
                      const struct lake_check_options *options, bool whole);
void lake_stream_finish(struct lake_stream *stream); /* accepts zeroed memory */

bool lake_stream_feed(struct lake_stream *stream, struct str bytes, bool last,
                      struct lake_bad_record *ret_bad, struct err *err) MUST_CHECK;

/* The wider schema becomes the table's, and is in the log before what is appended next. */
bool lake_stream_publish(struct lake_stream *stream, struct err *err) MUST_CHECK;

/* Others may make the table's next schema; what this stream made is lost, unless it was
 * published. */
void lake_stream_let_go(struct lake_stream *stream); /* accepts zeroed memory */

/* Bytes of lines that were not taken yet. */
size_t lake_stream_left(const struct lake_stream *stream);
/* Takes lines of at most size_max bytes (one line more when it is longer) off the front, and
 * describes them in `rows`; the caller frees rows->sections. False when there are none. */
bool lake_stream_take(struct lake_stream *stream, size_t size_max, struct lake_log_rows *rows);
/* Then either: their memory is the caller's from now on, without a copy. False when that does not
 * pay; or */
bool lake_stream_hand_over(struct lake_stream *stream, struct str lines, struct buf *ret_lines);
/* they were used where they are. */
void lake_stream_taken(struct lake_stream *stream, size_t size);
