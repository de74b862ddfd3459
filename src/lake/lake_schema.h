/* lake_schema.h - the columns of a table, how they widen, and what else people declared of it.
 * Promise   a schema never changes: what changes it makes another one. A column keeps its place in
 *           the list for ever (lines name it by that: lake_check.h) and its name; its type only
 *           widens, so that every line made for an older schema holds values of the newer one.
 * Not here  reading records (lake_check), where schemas are kept (lake_schema_store, lake_replay).
 * Owner     counted: lake_schema_keep and lake_schema_drop.   Threads  any.
 * Errors    ERR_INVALID, naming the column, from what people declare; ERR_CORRUPT from text that we
 *           wrote ourselves.
 * Limits    LAKE_COLUMNS_MAX columns; a name has 1..255 bytes of UTF-8 without control characters.
 *           Names that differ only in the case of ASCII letters are one column. */
#pragma once

#include "buf.h"
#include "err.h"
#include "json_scan.h"

enum {
    LAKE_COLUMNS_MAX = 10000,
    LAKE_COLUMN_NAME_MAX = 255
};

/* What a line holds for the column, and with that which values fit.
 *   kind       line holds            what fits
 *   BOOLEAN    true, false           true and false
 *   BIGINT     the digits            integers within 64 bits, signed. A real widens the column to
 *                                    DOUBLE while every integer so far is exact in it (`exact`)
 *   DECIMAL    "the digits"          integers of at most 38 digits: DECIMAL(38,0)
 *   DOUBLE     the digits, or "NaN"  reals (with what JSON lacks), and integers that are exact in
 *                                    it
 *   VARCHAR    "text"                strings, and objects and arrays as compact JSON text; numbers
 *                                    and booleans only when `mixed`: as the digits sent
 *   CAST       "text"                anything, as text (the digits sent): the engine casts it to
 *                                    the declared type when a file is written, and a value that it
 *                                    cannot cast goes to _rest then
 * null fits everywhere and is left out of the line. A value that does not fit, and that no widening
 * lets fit, goes to the column _rest, a JSON object with the names and values of such, as text. */
enum lake_kind {
    LAKE_BOOLEAN,
    LAKE_BIGINT,
    LAKE_DECIMAL,
    LAKE_DOUBLE,
    LAKE_VARCHAR,
    LAKE_CAST
};

struct lake_schema_column {
    char *name;
    size_t name_size;
    char *sql_type; /* what files hold: BIGINT, ..., or as declared, upper case */
    enum lake_kind kind;
    bool exact;       /* BIGINT: every integer so far is exact in a double */
    bool mixed;       /* VARCHAR, because its first records mixed texts and others */
    bool provisional; /* VARCHAR, only nulls so far: the first value decides */
    bool declared;    /* by people: does not widen by itself */
};

enum lake_partition_rule {
    LAKE_PARTITION_ARRIVAL, /* UTC day of the arrival; a request's own date goes before */
    LAKE_PARTITION_COLUMN   /* UTC day of a column's value; a row without goes by arrival */
};

struct lake_schema {
    struct lake_schema_column *columns;
    size_t columns_count;
    size_t rest; /* the place of _rest, or columns_count: there is none */
    enum lake_partition_rule partition_rule;
    size_t partition_column; /* of LAKE_PARTITION_COLUMN: DATE, TIMESTAMP, TIMESTAMPTZ (text as ISO
                                8601), or BIGINT (milliseconds since 1970) */
    size_t *sort;            /* places of the columns that files are sorted by */
    size_t sort_count;
    uint32_t retention_days; /* 0: for ever */
    uint64_t flush_bytes;    /* 0: the server's setting; likewise below */
    uint64_t flush_age_ms;
    uint64_t flush_rows;
    uint64_t version; /* of the copy in the store that this one has seen last; 0: none */
    bool stored;      /* that copy says all that this one says */
};

const struct lake_schema *lake_schema_create_empty(void);
const struct lake_schema *lake_schema_keep(const struct lake_schema *schema);
void lake_schema_drop(const struct lake_schema *schema); /* accepts NULL */

/* The place of a column, compared without the case of ASCII letters, or columns_count. */
size_t lake_schema_find(const struct lake_schema *schema, struct str name);
/* BOOLEAN, BIGINT, DOUBLE or VARCHAR: what read_json has to read in a line. */
const char *lake_schema_line_type(const struct lake_schema_column *column);

/* ---- widening by what records hold ---- */

/* What was seen of a column, as bits. */
enum lake_saw {
    LAKE_SAW_NULL = 1 << 0,
    LAKE_SAW_BOOL = 1 << 1,
    LAKE_SAW_INT64 = 1 << 2,
    LAKE_SAW_INT128 = 1 << 3,   /* an integer beyond 64 bits, within 38 digits */
    LAKE_SAW_LONG = 1 << 4,     /* beyond that */
    LAKE_SAW_INEXACT = 1 << 5,  /* an integer that no double holds */
    LAKE_SAW_REAL = 1 << 6,     /* with a fraction or exponent, NaN, infinite */
    LAKE_SAW_OVERFLOW = 1 << 7, /* a real too large for a double */
    LAKE_SAW_TEXT = 1 << 8,
    LAKE_SAW_NESTED = 1 << 9,
};

/* One column that records asked for: a new one (place == columns_count of the schema, in the order
 * of the list), or more of one that there is. */
struct lake_want {
    size_t place;
    struct str name; /* of a new one */
    const char
        *sql_type; /* of a new one, when its source knows: lake_schema_type_kind(); or NULL */
    unsigned saw;
};

/* The schema with these wants, or the same one (kept once more) when they change nothing. A new
 * column's type is that of lake_check.h's table; a column that cannot widen stays, and the values
 * go to _rest, which is then there. ERR_INVALID: too many columns. */
bool lake_schema_widen(const struct lake_schema *schema, const struct lake_want *wants,
                       size_t wants_count, const struct lake_schema **ret_schema,
                       struct err *err) MUST_CHECK;

/* What another writer stored, taken into ours: its columns that we lack are added, types widen to
 * hold both. Where no type holds both, the stored one stands: the column's kind becomes CAST with
 * that type. Rules (partition, sort, retention, flush) are those of `stored`. */
bool lake_schema_merge(const struct lake_schema *schema, const struct lake_schema *stored,
                       const struct lake_schema **ret_schema, struct err *err) MUST_CHECK;

/* ---- text ---- */

/* As JSON: what is stored, logged, and (with `for_people`: without places and marks) answered by
 * GET /tables/{name}. */
void lake_schema_append_json(const struct lake_schema *schema, bool for_people, struct buf *into);
bool lake_schema_parse(struct str json, const struct lake_schema **ret_schema,
                       struct err *err) MUST_CHECK;

/* PUT /tables/{name}: an object with any of "columns" ([{"name","type"}]), "partition_by"
 * ("arrival" or the name of a column), "sort_by" ([names]), "retention_days", "flush_bytes",
 * "flush_age_ms", "flush_rows"; a member that is absent stays as it is, null goes back to the
 * default. Columns that are not named stay. A type may be declared for a new column, or for one
 * that it widens. Types: BOOLEAN, TINYINT..BIGINT and unsigned, HUGEINT and UHUGEINT (which become
 * DECIMAL(38,0)), FLOAT, DOUBLE, DECIMAL(p,s), VARCHAR, DATE, TIME, TIMESTAMP (_S, _MS, _NS),
 * TIMESTAMPTZ, UUID, BLOB, JSON and their usual aliases; all but BOOLEAN, BIGINT, DOUBLE and
 * VARCHAR are of kind CAST, and bring _rest with them. */
bool lake_schema_declare(const struct lake_schema *schema, struct json_span document,
                         const struct lake_schema **ret_schema, struct err *err) MUST_CHECK;

/* The kind of a type's name (upper case or not), and its normal spelling; false: unknown. */
bool lake_schema_type_kind(struct str type, enum lake_kind *ret_kind, struct buf *ret_normal);
