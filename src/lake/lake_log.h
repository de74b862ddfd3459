/* lake_log.h - what the lake writes into its two logs (wal.h), and how.
 *
 * Log of records (<data>/log/records). All numbers little endian; text is u32 size and bytes.
 *   SCHEMA (16)  text table, text schema as JSON (lake_schema.h). Goes before the first rows that
 *                need it. The prologue of a segment is u32 count, then that many: every table of
 *                this writer that has a schema.
 *   ROWS (17)    rows of one table: struct lake_log_rows in the order of its members, sections (i32
 *                day, u32 rows, u64 size), then the lines to the end of the payload. A request is
 *                one ROWS with `last`, or several with one `group`, the last of which has it:
 *                without that one none of them counts. Its sequence is the request's position.
 *   CANCEL (18)  text table, u64 position: the request that ended there was answered with an error
 *                and is no part of its table. Written before that answer.
 *
 * Log of plans (<data>/log/plans): what was decided before it was done, so that it can be done
 * again in the same way.
 *   PLAN (32)      struct lake_plan: these positions of a table become these objects
 *   COMMITTED (33) text table, u64 last: the table's plan up to there is in the store
 *   STORED (34)    text table, u64 position: the object of a LAKE_BATCH request is in the store
 *   KEYS (35)      u32 count, then idempotency keys whose ROWS may be trimmed: struct lake_log_key
 * The prologue of a segment of this log is u32 count, then for each table that has any of it: text
 * table, u64 committed (buffered rows up to there are in the lake), u64 count and positions of
 * batches that are stored, u32 1 and its struct lake_plan when one is not finished, else u32 0. So
 * of older segments only KEYS count, until they expire.
 *
 * Errors   ERR_CORRUPT from decoding; never a read beyond the payload. */
#pragma once

#include "lake_check.h"
#include "lake_ingest.h"
#include "wal.h"
#include "worker_job.h"

enum {
    LAKE_LOG_SCHEMA = WAL_TYPE_FIRST,
    LAKE_LOG_ROWS,
    LAKE_LOG_CANCEL,
    LAKE_LOG_PLAN = 32,
    LAKE_LOG_COMMITTED,
    LAKE_LOG_STORED,
    LAKE_LOG_KEYS
};

struct lake_log_rows {
    struct str table;
    uint64_t group; /* 0: the request is this record alone */
    bool last;
    enum lake_way way;
    bool dead; /* these are dead letters of the request: they count on their own */
    int64_t arrival_ms;
    bool has_key;
    unsigned char key[LAKE_KEY_SIZE];
    unsigned char body[LAKE_KEY_SIZE]; /* hash of the body; valid in the last record */
    uint64_t rows;                     /* of this record */
    uint64_t
        request_rows; /* of all records of the request, dead letters not counted; in the last */
    uint64_t request_dead;
    const struct lake_section *sections;
    size_t sections_count;
    struct str lines;
    uint32_t lines_offset; /* decoded only: of the lines in the payload */
};

/* The head of ROWS; the caller appends the lines. */
void lake_log_put_rows(struct buf *into, const struct lake_log_rows *rows);
/* `sections` are allocated: mem_free them. */
bool lake_log_get_rows(struct str payload, struct lake_log_rows *ret_rows,
                       struct err *err) MUST_CHECK;

struct lake_plan_object {
    int32_t day;
    uint64_t rows;
    char *key;  /* in the store */
    bool aside; /* its lines are elsewhere (ship_set_aside): not in the log */
};

/* The buffered rows of a table at positions first..last, cancelled and others' left out. */
struct lake_plan {
    char *table;
    uint64_t first;
    uint64_t last;
    int64_t made_ms;
    bool dated; /* all rows go to the day of the one object: /flush named it */
    struct lake_plan_object *objects;
    size_t objects_count;
    /* Not in the log: */
    size_t objects_stored; /* so many of them are in the store */
    size_t objects_tried;  /* so many may be: of a plan that was read from the log, all */
    uint64_t bytes;        /* of its record */
};
void lake_log_put_plan(struct buf *into, const struct lake_plan *plan);
/* What cannot be read fails the cursor; the plan may be finished all the same. */
void lake_log_get_plan(struct worker_cursor *cursor, struct lake_plan *ret_plan);
void lake_plan_finish(struct lake_plan *plan); /* accepts zeroed memory */

struct lake_log_key {
    unsigned char key[LAKE_KEY_SIZE];
    unsigned char body[LAKE_KEY_SIZE];
    int64_t arrival_ms;
    uint64_t accepted;
    uint64_t dead_letters;
    uint64_t position;
    int32_t day; /* of LAKE_BATCH */
};
void lake_log_put_key(struct buf *into, const struct lake_log_key *key);
void lake_log_get_key(struct worker_cursor *cursor, struct lake_log_key *ret_key);

/* COMMITTED, STORED, CANCEL: a table and a position. */
void lake_log_put_position(struct buf *into, struct str table, uint64_t position);
bool lake_log_get_position(struct str payload, struct str *ret_table, uint64_t *ret_position,
                           struct err *err) MUST_CHECK;

/* What a payload of either log means, for people (wal_print.describe): one line's worth of text. */
void lake_log_describe(unsigned type, struct str payload, struct buf *into);
