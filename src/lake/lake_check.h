/* lake_check.h - one pass over a client's bytes: checks every byte, and makes canonical lines of
 * the records.
 * Promise   no value changes on the way: integers and decimals keep every digit, nested values
 *           become compact JSON text, the last of duplicate keys wins, keys that differ only in the
 *           case of ASCII letters are one. A line is {"c0":...,"c3":...}: cN is the column at place
 *           N of the schema, null is left out; values as lake_schema.h's table says. What is bad is
 *           named by record index, byte offset (in the decoded body) and reason.
 * Not here  schemas that change (lake_schema_widen), the log (lake_writer).
 * Owner     the caller; lake_check is one request's, fed in pieces cut anywhere.   Threads  one.
 * Errors    ERR_UNPROCESSABLE: a bad record, described by `bad`; ERR_TOO_LARGE: a record over
 *           record_size_max, or lines beyond their limit; ERR_INVALID: the body is none of its kind
 *           (a JSON body that is no array of objects, a CSV without header).
 * Limits    nesting LAKE_DEPTH_MAX; LAKE_COLUMNS_MAX; speed over 1 GB/s per core for plain NDJSON
 *           (bench/check_rate). */
#pragma once

#include "lake_schema.h"

enum {
    LAKE_DEPTH_MAX = 256 /* as much as POST /ingest has always taken */
};

enum lake_input {
    LAKE_NDJSON, /* one object per line; empty lines are nothing; a byte order mark is skipped. NaN,
                    Infinity and -Infinity are taken as in the JSON of the ingest contract */
    LAKE_JSON,   /* one array of objects; or one object: a single record */
    LAKE_CSV     /* RFC 4180: a header line of names, then a record per line; quoted fields may hold
                    line ends. An empty unquoted field is null. A field is a number or boolean when
                    the column wants one and its text is exactly one of JSON's (no leading zero, no
                    `+`), else text; for a new column: when all fields of the first piece are */
};

/* Rows in a row that belong to one day. */
struct lake_section {
    int32_t day; /* days since 1970-01-01, UTC */
    uint32_t rows;
    uint64_t size; /* of their lines, line ends included */
};

struct lake_bad_record {
    uint64_t index;  /* of the record, from 0 */
    uint64_t offset; /* of the byte where it goes wrong */
    char reason[200];
    struct str
        text; /* the record as it came (a JSON body's whole rest when its end is unknown); until
                        the next pass */
};

struct lake_check_options {
    enum lake_input input;
    int32_t day;    /* of rows that no partition column puts elsewhere */
    bool day_given; /* the request named it: no partition column counts */
    bool keep_bad;  /* dead letters: bad records are passed to `bad`, and the rest goes on */
    uint64_t record_size_max;
    size_t lines_size_max; /* of one pass */
    struct buf *lines;     /* lines go behind what is in it; NULL: into memory of the check's own */
    /* A bad record, when keep_bad. */
    void (*bad)(void *context, const struct lake_bad_record *bad);
    void *context;
};

struct lake_check;
struct lake_check *lake_check_create(const struct lake_check_options *options);
void lake_check_destroy(struct lake_check *check); /* accepts NULL */

/* Most of what a small request costs is learning the columns of its schema: a check that has ended
 * well begins anew, as if it had just been made, with what it knows. */
bool lake_check_knows(const struct lake_check *check, const struct lake_schema *schema);
/* It takes little memory, and nothing of its last request is left in it. */
bool lake_check_is_spare(const struct lake_check *check);
/* Only of a spare one. False when the options are of another kind: it stays as it was. */
bool lake_check_restart(struct lake_check *check,
                        const struct lake_check_options *options) MUST_CHECK;

/* What one pass found; memory is the check's (lines: see its options), until the next pass. */
struct lake_checked {
    struct str lines;
    const struct lake_section *sections;
    size_t sections_count;
    uint64_t rows;
    size_t line_size_max;
    size_t used; /* bytes of the input that are done with; the rest has to come again, with more */
    const struct lake_want *wants; /* not empty: the schema is too narrow, and nothing of this pass
                                      counts: widen it and call again with the same bytes */
    size_t wants_count;
};

/* One pass over `bytes`: whole records as far as there are any (`last`: nothing comes after, so
 * that what is left over is bad). On ERR_UNPROCESSABLE `ret_bad` (may be NULL) is filled. After a
 * pass without wants the check stands behind `used`; after one with wants or an error it stands
 * where it stood. */
bool lake_check_pass(struct lake_check *check, const struct lake_schema *schema, struct str bytes,
                     bool last, struct lake_checked *ret_checked, struct lake_bad_record *ret_bad,
                     struct err *err) MUST_CHECK;

/* New columns of these names have these types (a Parquet or Arrow body knows them): their wants say
 * so. The texts must live as long as the check. */
struct lake_known_type {
    struct str name;
    struct str sql_type;
};
void lake_check_know_types(struct lake_check *check, const struct lake_known_type *types,
                           size_t types_count);
