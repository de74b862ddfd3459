/* lake_writer_internal.h - one request on its way into the log; for lake_writer*.c only.
 * Owner     counted: the caller of lake_writer_open has one, each record in flight has one.
 * Threads   the caller's, and `log`, which alone touches what is marked so. */
#pragma once

#include "lake_internal.h"
#include "lake_keys.h"
#include "lake_stream.h"

/* A ROWS record of the request that is durable. */
struct part {
    struct lake_tail_record record;
    bool dead;
};

struct lake_writer {
    struct lake *lake;
    struct lake_request request;
    char *table_name;
    struct lake_table *table;
    struct lake_table *dead_table; /* NULL until the first dead letter */
    struct lake_stream rows;
    struct lake_stream dead;
    struct digest_stream *digest; /* of the body, when there is a key */
    struct lake_log_key answer;   /* of the key: known before, or made here */
    bool repeated;
    bool key_taken;
    struct lake_bad_record *bad; /* and its text; NULL: there is none */
    char *bad_text;
    struct err *dead_err; /* why a dead letter could not be kept, or NULL */
    uint64_t group;
    uint64_t parts_appended;
    uint64_t accepted;
    uint64_t dead_letters;
    uint64_t position; /* once it is durable */
    lake_done_fn *done;
    void *done_context;
    /* Of thread `log` alone, until the request's last record is durable. */
    struct part *parts;
    size_t parts_count;
    size_t parts_capacity;
    struct lake_hold hold;
    bool holds;
    bool batch_added;
    struct lock lock; /* LOCK_WRITER: the rest */
    struct condition changed;
    uint64_t ahead_bytes;
    unsigned references;
    bool ended;          /* the last record was decided on */
    struct err *failure; /* of a record, or NULL */
};

void writer_drop(struct lake_writer *writer);

/* ---- lake_writer_log.c ---- */

struct err *writer_keep_err(const struct err *err);

/* Appends one ROWS record of what lake_stream_take took, or of nothing, and gives back its
 * sections; the rest of `rows` is the writer's. */
bool writer_append_rows(struct lake_writer *writer, struct lake_stream *stream,
                        struct lake_log_rows *rows, struct err *err) MUST_CHECK;
/* Records of what a stream holds, but for the last one when `keep_last`. */
bool writer_append_parts(struct lake_writer *writer, struct lake_stream *stream, bool keep_last,
                         struct err *err) MUST_CHECK;
/* False, with why, when a record of the request did not become durable. */
bool writer_check_failure(struct lake_writer *writer, struct err *err) MUST_CHECK;
/* Not faster than the disk. */
bool writer_wait_for_disk(struct lake_writer *writer, struct err *err) MUST_CHECK;
/* Until all records appended so far are durable. The one that closes the request comes after that:
 * a log without room refuses records one by one, and may take a small one after a large one. */
bool writer_wait_for_parts(struct lake_writer *writer, struct err *err) MUST_CHECK;
/* The request is answered for good: its key is known from now on. */
void writer_end_key(struct lake_writer *writer);
void writer_fill_result(const struct lake_writer *writer, struct lake_result *result);
void writer_tell(struct lake_writer *writer);
