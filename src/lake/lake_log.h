/* lake_log.h - what the lake writes into its two logs (wal.h), and how.
 *
 * Log of records (<data>/log/records). All numbers little endian; text is u32 size and bytes.
 *   SCHEMA (16)  text table, text schema as JSON (lake_schema.h). Goes before the first rows that
 *                need it. The prologue of a segment is u32 count, then that many (u64 rows, text
 *                table, text schema): every table of this writer; rows counts those ever accepted.
 *   ROWS (17)    rows of one table: struct lake_log_rows in the order of its members, sections (i32
 *                day, u32 rows, u64 size), then the lines to the end of the payload. A request is
 *                one ROWS with `last`, or several with one `group`, the last of which has it: without
 *                that one none of them counts. Its sequence is the request's position.
 *   CANCEL (18)  u64 position: the request that ended there was answered with an error and is no part
 *                of its table. Written before that answer.
 *
 * Log of plans (<data>/log/plans): what was decided before it was done, so that it can be done again
 * in the same way.
 *   PLAN (32)      struct lake_plan: these positions of a table become these objects
 *   COMMITTED (33) u64 plan: all of its objects are in the store
 *   STORED (34)    u64 position: the object of a LAKE_BATCH request is in the store
 *   KEY (35)       an idempotency key whose ROWS may be trimmed: struct lake_log_key
 * The prologue of a segment of this log repeats all plans, positions and keys that still count, so
 * that older segments can go.
 *
 * Errors   ERR_CORRUPT from decoding; never a read beyond the payload. */
#pragma once

#include "lake_check.h"
#include "lake_ingest.h"
#include "wal.h"

enum {
    LAKE_LOG_SCHEMA = WAL_TYPE_FIRST,
    LAKE_LOG_ROWS,
    LAKE_LOG_CANCEL,
    LAKE_LOG_PLAN = 32,
    LAKE_LOG_COMMITTED,
    LAKE_LOG_STORED,
    LAKE_LOG_KEY
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
    uint64_t rows;         /* of this record */
    uint64_t request_rows; /* of all records of the request, dead letters not counted; in the last */
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
    char *key; /* in the store */
};

/* The buffered rows of a table at positions first..last, cancelled and others' left out. */
struct lake_plan {
    uint64_t plan; /* its number: the sequence of its PLAN record */
    char *table;
    uint64_t first;
    uint64_t last;
    int64_t made_ms;
    bool dated; /* all rows go to the day of the one object: /flush named it */
    struct lake_plan_object *objects;
    size_t objects_count;
};
void lake_log_put_plan(struct buf *into, const struct lake_plan *plan);
bool lake_log_get_plan(struct str payload, struct lake_plan *ret_plan, struct err *err) MUST_CHECK;
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
bool lake_log_get_key(struct worker_cursor *cursor, struct lake_log_key *ret_key);
