/* lake_table.h - what the lake knows of each table while it runs: schema, tail, what is on its way
 * to the store; for lake*.c only.
 * Promise   a request's rows are registered as one, on thread `log`, when its last record is
 *           durable, in the order of their positions; from then on they are in exactly one of: the
 *           tail, or an object that the view shows. lake_table_show and the tail change together,
 *           under the table's lock.
 * Owner     struct lake; a table stays until the lake is destroyed.   Threads  any; LOCK_LAKE_TABLE
 *           of the table, never held while a store, a worker or the disk is waited for. */
#pragma once

#include "lake_log.h"
#include "thread.h"

/* Rows of one ROWS record that wait for a flush. */
struct lake_tail_record {
    uint64_t position; /* of its request: the sequence of the request's last record */
    struct wal_place place;
    uint32_t lines_offset; /* in the payload */
    uint32_t rows;
    int32_t day;                   /* of all rows, when sections is NULL */
    int64_t registered_ms;         /* clock_now_ms */
    struct lake_section *sections; /* when rows have several days, else NULL */
    uint32_t sections_count;
};

/* A request of LAKE_BATCH that is durable and not decided yet. */
struct lake_batch {
    uint64_t position;
    int64_t arrival_ms;
    int32_t day;
    uint64_t rows;
    struct lake_tail_record *records;
    size_t records_count;
    bool owned; /* somebody waits for it; else (after a crash) the flusher stores it */
    bool put;   /* its object is known to be in the store: of the one who owns it */
    struct lake_batch *next;
};

struct lake_table {
    char *name;
    struct str folded; /* LOCK_TABLES: the name in lower case, when it was claimed */
    bool disowned;     /* LOCK_TABLES: and given up again */
    struct lock lock;  /* LOCK_LAKE_TABLE: all below */
    const struct lake_schema *schema;
    uint64_t schema_bytes; /* of its SCHEMA record; 0: nothing was published */
    bool loaded;           /* the store's copy of the schema was looked at */
    bool widening;         /* somebody makes the next schema: lake_table_begin_widening */
    struct condition widened;
    uint64_t generation; /* goes up with every change of what SQL sees */
    /* The tail, in order of position. The first `sealed` records belong to the plan that runs. */
    struct lake_tail_record *tail;
    size_t tail_count;
    size_t tail_capacity;
    size_t sealed;
    uint64_t tail_first; /* the lowest sequence of a record in the tail, when there is one */
    uint64_t tail_rows;
    uint64_t tail_bytes; /* of lines */
    uint64_t committed;  /* buffered rows up to this position are in the lake */
    uint64_t position;   /* of what was registered last */
    struct lake_batch *batches;
    uint64_t *stored; /* positions of batches that are in the lake and may still be in the log */
    size_t stored_count;
    size_t stored_capacity;
    struct lake_plan *plan; /* that runs, or was found by replay; NULL: none */
    bool flushing;          /* one at a time: somebody works on the plan */
    struct condition flushed;
    int64_t retry_at_ms;            /* after a failure: not before (clock_now_ms) */
    unsigned failures;              /* in a row */
    unsigned own_failures;          /* of them, those that were not the store's: ship_pause */
    char *own_failure;              /* the last of these in words, with positions; or NULL */
    uint64_t manifests_new;         /* since old ones were deleted */
    struct lake_gathered *gathered; /* the tail as a file, for queries (lake_tail) */
};

void lake_table_destroy(struct lake_table *table);
/* NULL: no such table. */
struct lake_table *lake_table_find(struct lake *lake, struct str name);
/* Makes it when there is none: ERR_BUSY when there are too many. */
struct lake_table *lake_table_get(struct lake *lake, struct str name, struct err *err);
/* Before it gets its first columns: SQL does not tell names apart by case, so the first table of
 * those that differ in case alone is the only one. ERR_CONFLICT, for another. What a log or a store
 * has of several stays; their rows are one table of SQL. */
bool lake_table_claim(struct lake *lake, struct lake_table *table, struct err *err) MUST_CHECK;
/* It did not get them after all. */
void lake_table_disclaim(struct lake *lake, struct lake_table *table);
bool lake_table_has_columns(struct lake_table *table);
void lake_table_visit(struct lake *lake, bool (*visit)(void *context, struct lake_table *table),
                      void *context);

/* Looks at the store's schema once, unless it was (lake_schema_store). With the store out of reach
 * the table goes on with what is known here: the flush looks again. */
void lake_table_load(struct lake *lake, struct lake_table *table, struct cancel *cancel);

/* One at a time makes a new schema of the one that is there, and may ask the store meanwhile: waits
 * until nobody else does, or cancel (may be NULL) says stop. Keeps the schema once for the
 * caller. */
bool lake_table_begin_widening(struct lake_table *table, struct cancel *cancel,
                               const struct lake_schema **ret_schema, struct err *err) MUST_CHECK;
/* The same without waiting: NULL when somebody else does. */
const struct lake_schema *lake_table_try_widening(struct lake_table *table);
/* With the table's lock held: `schema` (kept once more here) is the table's from now on; SCHEMA
 * goes to the log before whatever comes later. False: the log does not take it, nothing has
 * changed. All schemas together have to fit the one record that each segment begins with. */
bool lake_table_publish(struct lake *lake, struct lake_table *table,
                        const struct lake_schema *schema, struct err *err) MUST_CHECK;
void lake_table_end_widening(struct lake_table *table);
/* Whether clients may still add columns, which end long before a flush may not. */
bool lake_schemas_have_room(struct lake *lake, struct err *err) MUST_CHECK;
/* The schema as it is now, kept once for the caller. */
const struct lake_schema *lake_table_schema(struct lake_table *table);

/* ---- registering, on thread `log` or in replay ---- */
void lake_table_register(struct lake *lake, struct lake_table *table,
                         const struct lake_tail_record *records, size_t records_count);
void lake_table_add_batch(struct lake_table *table, struct lake_batch *batch_take);
/* The batch is in the lake (`shown`), or cancelled. */
void lake_table_end_batch(struct lake_table *table, uint64_t position, bool shown);
/* The running plan's objects are in the store: its rows leave the tail, its objects show. */
void lake_table_end_plan(struct lake *lake, struct lake_table *table);

/* `stored` in ascending order, each position once; with the table's lock held, or in replay. */
void lake_table_sort_stored(struct lake_table *table);
/* Needs that order. */
bool lake_table_is_stored(const struct lake_table *table, uint64_t position);

/* Days since 1970-01-01. */
int32_t lake_day_of_date(const struct lake_date *date);

/* ---- names of objects ---- */

/* <prefix>data/<table>/year=YYYY/month=MM/day=DD/data_HHMMSS_<writer>-r<first>-<last>.parquet for
 * buffered rows, ...-b<position>.parquet for a batch; <writer> is 12 hex digits. An object of a
 * plan that has several of one day is ...-r<first>-<last>-p<part>.parquet. */
#define LAKE_PART_NONE SIZE_MAX
void lake_object_append_key(const struct lake *lake, struct str table, int32_t day, int64_t time_ms,
                            enum lake_way way, uint64_t first, uint64_t last, size_t part,
                            struct buf *key);
/* Whether the key's last part is a name that this writer makes. */
bool lake_object_is_own(const struct lake *lake, struct str key);

/* What of a table SQL sees at one moment. */
struct lake_view {
    uint64_t generation;
    uint64_t committed;
    uint64_t position;         /* registered last */
    const uint64_t *undecided; /* positions of batches that are in no answer yet, ascending */
    size_t undecided_count;
};
/* Whether an object of this writer is no part of the view: its rows are in the tail, or nobody was
 * told of them yet. Objects of others are always part. */
bool lake_view_hides(const struct lake *lake, const struct lake_view *view, struct str key);

/* ---- the tail as a file ---- */

struct lake_window {
    int32_t day;
    uint64_t offset;
    uint64_t size;
    uint64_t rows;
    uint32_t crc; /* CRC-32C of the lines */
};

/* Lines of records, gathered by day, or by finer cuts, into a memory file, or, when they are many,
 * into an unnamed one of the spool folder; every payload's CRC is checked again. */
struct lake_lines {
    int fd; /* -1: none */
    struct lake_window
        *windows; /* in the order of days; a day may have several (a file that grew) */
    size_t windows_count;
    size_t line_size_max; /* no line is longer; 64 KiB for all that are shorter */
    uint64_t rows;
    bool yields; /* nobody waits for their file, and the log has room */
};
/* `day` (may be NULL) puts all rows there. */
bool lake_lines_gather(struct lake *lake, const struct lake_tail_record *records,
                       size_t records_count, const int32_t *day, struct lake_lines *ret_lines,
                       struct err *err) MUST_CHECK;
/* The same with a window for each of `cuts` (lake_cut.h). ERR_CORRUPT: rows of another day. */
struct lake_cuts;
bool lake_lines_gather_cut(struct lake *lake, const struct lake_tail_record *records,
                           size_t records_count, const int32_t *day, const struct lake_cuts *cuts,
                           struct lake_lines *ret_lines, struct err *err) MUST_CHECK;
void lake_lines_finish(struct lake_lines *lines); /* accepts fd -1 and nothing else set */

/* ---- trimming ---- */

/* Keeps records from `sequence` on in the log until it is let go. */
struct lake_hold {
    uint64_t sequence;
    struct lake_hold *next;
};
void lake_hold_add(struct lake *lake, struct lake_hold *hold);
void lake_hold_end(struct lake *lake, struct lake_hold *hold);
/* The first sequence that somebody still needs: a tail, a batch, an open request, a hold. */
uint64_t lake_needed_from(struct lake *lake);
