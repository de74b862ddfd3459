/* lake_ingest.h - records into tables: durable when answered, once in the lake, queryable at once.
 * Promise   when lake_writer_finish says yes, all records of the request are in the log on stable
 *           storage, and no crash loses them; they are in the lake exactly once as soon as the
 *           store can be reached. When it says no, they are in the lake not at all (or, after a
 *           crash before the answer, once and whole). A request is one unit, whatever its size. SQL
 *           sees the rows from the moment of the answer.
 * Not here  HTTP; which names are allowed (api); how files come about (lake_flush).
 * Owner     struct lake.   Threads  any; one writer, one thread. `log` runs the `done` of
 *           lake_writer_finish_later.
 * Errors    ERR_UNPROCESSABLE (a bad record: lake_writer_bad), ERR_INVALID, ERR_TOO_LARGE,
 *           ERR_BUSY (log or disk full, or too much at once), ERR_CONFLICT (a table whose name
 *           differs in case alone; a request with this
 *           idempotency key is running), ERR_UNPROCESSABLE (the key was used with another body),
 *           ERR_STORE*, ERR_TIMEOUT, ERR_CANCELLED (only where the store is waited for),
 *           ERR_UNAVAILABLE (the log is broken).
 * Limits    idempotency: 24 h, 1,000,000 keys; a record 16 MiB; the records of a request belong to
 *           at most LAKE_DAYS_MAX days; columns of all tables together 16 MiB of schemas
 *           (ERR_TOO_LARGE). */
#pragma once

#include "cancel.h"
#include "lake.h"
#include "lake_check.h"
#include "metric.h"

#define LAKE_DEAD_SUFFIX "__dead_letter" /* of the table of a table's bad records */

enum {
    LAKE_KEY_SIZE = 16,
    LAKE_RECORD_SIZE_MAX = 16 << 20
};

enum lake_way {
    LAKE_BUFFERED, /* rows wait for the table's next flush */
    LAKE_BATCH     /* POST /ingest: rows get one object of their own, before the answer */
};

struct lake_request {
    struct str table;
    enum lake_way way;
    enum lake_input input;
    bool dated; /* the request names the day */
    struct lake_date date;
    int64_t arrival_ms; /* wall clock, read once per request */
    bool dead_letter;   /* bad records go to <table>__dead_letter instead of failing the request */
    bool at_once;       /* feed does not wait for another request: lake_writer_would_wait */
    bool patient;       /* may wait a little where the log is full and flushes make room */
    bool has_key;       /* Idempotency-Key: what it hashes to, route and table included */
    unsigned char key[LAKE_KEY_SIZE];
    const struct lake_known_type *types; /* of new columns, when the source knows; borrowed */
    size_t types_count;
};

struct lake_result {
    uint64_t accepted;     /* rows of the table */
    uint64_t dead_letters; /* rows of its dead letter table */
    uint64_t position;     /* sequence number of the record that closed the request */
    bool repeated;         /* nothing was stored: this key was answered before */
    struct lake_date date; /* of LAKE_BATCH: the partition */
};

struct lake_writer;
/* ERR_CONFLICT, ERR_BUSY. The table is made by its first record. `request` is copied, but for the
 * types. */
struct lake_writer *lake_writer_open(struct lake *lake, const struct lake_request *request,
                                     struct err *err);
/* Not finished: nothing is kept. Accepts NULL. */
void lake_writer_close(struct lake_writer *writer);

/* Bytes of the body, decoded, cut anywhere; `last` ends it. For an idempotency key these bytes are
 * the body, and the date when the request names one. What is whole goes to the log while the
 * rest is still to come, so that a body of any size takes little memory. */
bool lake_writer_feed(struct lake_writer *writer, struct str bytes, bool last,
                      struct cancel *cancel, struct err *err) MUST_CHECK;
/* After ERR_UNPROCESSABLE of feed: which record, or NULL. */
const struct lake_bad_record *lake_writer_bad(const struct lake_writer *writer);

/* After ERR_BUSY of feed: it could not go on at once; the same request without `at_once` can. */
bool lake_writer_would_wait(const struct lake_writer *writer);

/* After the last byte. Waits for the disk, and for LAKE_BATCH for the store: `ret_url` is then
 * appended the object's address. ERR_STORE, ERR_TIMEOUT and the like mean that nothing is kept, and
 * a record in the log says so. Accepts NULL for ret_url when buffered. */
bool lake_writer_finish(struct lake_writer *writer, struct cancel *cancel,
                        struct lake_result *ret_result, struct buf *ret_url,
                        struct err *err) MUST_CHECK;

/* The same for LAKE_BUFFERED without waiting: takes the writer, also on false. `done` runs once on
 * thread `log` (or at once, on this one, for a repeated request); `result` is NULL when err says
 * why. */
typedef void lake_done_fn(void *context, const struct lake_result *result, const struct err *err);
bool lake_writer_finish_later(struct lake_writer *writer_take, lake_done_fn *done, void *context,
                              struct err *err) MUST_CHECK;

/* Whether lake_writer_open and feed on this table do nothing that waits, when the request says
 * `at_once`: true when its schema is in memory. */
bool lake_table_is_known(struct lake *lake, struct str table);

/* ---- flushing ---- */

struct lake_flushed {
    uint64_t rows;         /* 0: there was nothing to flush */
    struct lake_date date; /* the partition; of several, the last */
    struct buf urls;       /* the addresses of the objects, a line each; lake_flushed_finish */
};
void lake_flushed_finish(struct lake_flushed *flushed); /* accepts zeroed memory */

/* All rows that are buffered now go to the lake; `date` (NULL: by the table's rule) is the
 * partition of all of them. Waits for a flush that runs. ERR_NOT_FOUND: no such table. What fails
 * stays buffered. */
bool lake_flush(struct lake *lake, struct str table, const struct lake_date *date,
                struct cancel *cancel, struct lake_flushed *ret_flushed,
                struct err *err) MUST_CHECK;
/* Until everything of the table up to `position` is in the lake; flushes for that. */
bool lake_wait_stored(struct lake *lake, struct str table, uint64_t position, struct cancel *cancel,
                      struct err *err) MUST_CHECK;

/* ---- tables ---- */

/* Rows that wait for a flush; 0 for a table that does not exist. */
uint64_t lake_buffered_rows(struct lake *lake, struct str table);

/* The schema for people as JSON, with "table", "buffered_rows" and "version". ERR_NOT_FOUND. */
bool lake_table_describe(struct lake *lake, struct str table, struct cancel *cancel,
                         struct buf *into, struct err *err) MUST_CHECK;
/* Declares (lake_schema_declare) and stores; makes the table when there is none. ERR_STORE* when
 * the store does not take it: then nothing has changed. */
bool lake_table_declare(struct lake *lake, struct str table, struct json_span document,
                        struct cancel *cancel, struct err *err) MUST_CHECK;

/* ---- how it is going ---- */

struct lake_backlog {
    uint64_t log_bytes; /* of the log's segments */
    uint64_t log_bytes_max;
    uint64_t rows;         /* acknowledged, and in no object yet */
    uint64_t bytes;        /* of their lines */
    int64_t oldest_age_ms; /* of the oldest of them, 0 without any */
    uint64_t flushes;      /* that went well, since the start */
    uint64_t flush_failures;
    char last_failure[256]; /* of a flush, empty after one that went well; without secrets */
    uint64_t stuck_tables;  /* whose flush fails again and again, and not because of the store */
    char stuck[256];        /* one of them, its positions and why; empty without any */
    bool full;              /* new records are refused */
    unsigned retry_after_s; /* when to try again then */
    bool broken;
};
void lake_backlog(struct lake *lake, struct lake_backlog *ret_backlog);

/* Since the start. */
struct lake_counts {
    struct metric_counter flushes[ERR_KIND_COUNT]; /* attempts, by how they ended; ERR_NONE: well */
};
const struct lake_counts *lake_counts(const struct lake *lake);
/* Of the log of records. */
struct wal_counts;
const struct wal_counts *lake_log_counts(const struct lake *lake);
