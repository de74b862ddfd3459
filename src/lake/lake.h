/* lake.h - tables of the lake: the log and the objects that hold them, and the view that SQL has.
 * Promise   a row that was acknowledged (lake_ingest.h) is in the log or in one object of the
 *           store, through any crash, and SQL sees it exactly once: a table is all its objects,
 *           whoever put them there, and the tail of the log, columns united by name, with year,
 *           month and day from the path. Objects are never replaced. What is not
 *           in the store when the lake is closed stays in the log for the next opening.
 * Not here  taking rows in and flushing them (lake_ingest.h), what HTTP says.
 * Owner     struct server owns one struct lake, and the store and engine it borrows.   Threads
 *           any; it runs `log` (two, of wal) and `flush` itself.
 * Errors    ERR_INVALID (a statement's unknown table), ERR_CORRUPT (the log, when it is opened),
 *           ERR_STORE*, ERR_BUSY, and what engine_run gives.
 * Limits    100,000 objects per table in one statement. Layout:
 *           <prefix>data/<table>/year=YYYY/month=MM/day=DD/data_HHMMSS_<writer>-r<first>-<last>
 *           [-p<part>].parquet, times in UTC; schemas and manifests under <prefix>_eider/. */
#pragma once

#include "cancel.h"
#include "engine.h"
#include "lake_rows.h"
#include "store.h"

struct lake;

struct lake_date {
    int year; /* 1..9999 */
    int month;
    int day;
};

/* When a table is flushed that does not say it itself. */
struct lake_flush_limits {
    uint64_t bytes; /* of lines of a table */
    uint64_t rows;
    int64_t age_ms; /* of the oldest row of a table */
};

/* Everything is borrowed but the texts. */
struct lake_options {
    struct store *store;
    struct str prefix; /* empty, or ends with a slash */
    struct engine *engine;
    const char *spool_folder;
    const char *log_folder;     /* of the durable log; two folders are made in it */
    uint64_t log_bytes_max;     /* of the log of records */
    uint64_t log_segment_bytes; /* 0: 64 MiB */
    uint64_t disk_free_min;
    struct lake_flush_limits flush;
    uint64_t object_bytes_max; /* of lines of one object of a flush; 0: no limit */
    bool set_aside;            /* rows that no worker can write leave the log: ship_set_aside */
    unsigned flush_threads;
    uint64_t tail_bytes_max; /* of memory for what is known of records in tails; 0: no limit */
    uint64_t query_tails_bytes_max; /* of lines that are gathered for queries; 0: no limit */
    uint64_t keys_max;              /* idempotency keys remembered */
    /* The log cannot be written: the process has to end (wal.h). */
    void (*broken)(void *context, const struct err *err);
    void *context;
};

/* Replays the log: what it holds is there again, and what was on its way to the store will be
 * finished by lake_start. ERR_CORRUPT: acknowledged records are damaged; nothing was changed. */
struct lake *lake_open(const struct lake_options *options, struct err *err);
/* Begins to flush, when the engine runs. */
void lake_start(struct lake *lake);
/* In the place of those of the options, from any thread; tables are looked at at once. */
void lake_set_flush_limits(struct lake *lake, const struct lake_flush_limits *limits);
/* Flushes what is there until cancel says stop; new records are still taken. */
void lake_drain(struct lake *lake, struct cancel *cancel);
/* What is not in the store yet stays in the log. Accepts NULL. */
void lake_close(struct lake *lake);

/* The day in UTC. */
struct lake_date lake_date_of(int64_t wall_ms);

/* Names of the tables that have objects (`empty_too`: or a folder), or had a batch since the start;
 * in order, each once. */
bool lake_visit_tables(struct lake *lake, bool empty_too,
                       bool (*visit)(void *context, struct str name), void *context,
                       struct cancel *cancel, struct err *err) MUST_CHECK;

/* SQL over the lake's own tables. What a statement will read is looked up once: by
 * lake_statement_find, or when its worker asks. */
struct lake_statement;
struct lake_statement *lake_statement_create(struct lake *lake);
void lake_statement_destroy(struct lake_statement *statement); /* accepts NULL */

/* Looks up the tables among `names`. With cancel NULL only in memory, so that it takes no time:
 * ERR_BUSY when the store or the log would have to be asked. */
bool lake_statement_find(struct lake_statement *statement, const struct engine_names *names,
                         struct cancel *cancel, struct err *err) MUST_CHECK;
/* Appends a text that is the same for another statement only when it has found the same tables with
 * the same objects. False when an object has no ETag to tell it by. */
bool lake_statement_append_identity(const struct lake_statement *statement, struct buf *into);

/* Runs request->job; resolve and schema are the lake's, input and output stay unset. An unknown
 * table is ERR_INVALID that names those that there are. */
bool lake_statement_run(struct lake_statement *statement, const struct engine_request *request,
                        struct cancel *cancel, struct engine_outcome *ret_outcome,
                        struct err *err) MUST_CHECK;

/* ---- also used for snapshots, which are no lake tables ---- */
struct lake_file_options {
    struct str order_by;     /* a column name; empty keeps the order */
    uint64_t row_group_rows; /* 0: the engine's 122,880 */
    const char *spool_folder;
};

/* Rows to one ZSTD Parquet file without a name: the caller closes ret_fd. */
bool lake_write_file(struct engine *engine, const struct lake_rows *rows,
                     const struct lake_file_options *options, struct cancel *cancel, int *ret_fd,
                     uint64_t *ret_size, struct err *err) MUST_CHECK;
