/* lake_rows.h - JSON records become the canonical lines that a worker turns into Parquet.
 * Promise   no value changes on the way: 64-bit integers and long decimals keep every digit, nested
 *           values become JSON text, the last of duplicate keys wins, columns are the union over
 *           all records in order of first appearance. Column names that differ only in the case of
 *           ASCII letters are one column (the engine compares so), under the name first seen. A
 *           line is {"c0":...,"c1":...}: cN is the Nth column, a null or missing value is left out.
 *           Values of BOOLEAN, BIGINT and DOUBLE columns are JSON literals (NaN and infinities are
 *           strings); values of all other columns are JSON strings with the client's own digits, to
 *           be cast in SQL.
 * Not here  table names, partitions, objects; running the worker (lake_write).
 * Owner     the caller; lake_rows_finish accepts zeroed memory.   Threads  none shared.
 * Errors    ERR_INVALID, naming the record by index and the column; ERR_TOO_LARGE when the lines do
 *           not fit.
 * Limits    columns_max 10,000; the lines are held in memory, at most lines_bytes_max. */
#pragma once

#include "json_scan.h"

enum {
    LAKE_ROWS_COLUMNS_MAX = 10000
};

struct lake_column {
    char *name;     /* as it will stand in the file */
    char *sql_type; /* what the file holds: BOOLEAN, BIGINT, DOUBLE, DECIMAL(38,0), VARCHAR, or as
                       declared */
    const char *line_type; /* what read_json reads: BOOLEAN, BIGINT, DOUBLE or VARCHAR */
};

struct lake_rows {
    struct lake_column *columns;
    size_t columns_count;
    uint64_t rows_count;
    size_t line_size_max; /* the longest line, without its line end */
    struct buf lines;
};

void lake_rows_finish(struct lake_rows *rows);

/* Infers one type per column over all records (an array span of object spans):
 *   only booleans                         BOOLEAN
 *   only integers, all within 64 bits     BIGINT;   within 38 digits DECIMAL(38,0);   beyond that
 *                                         VARCHAR
 *   integers and reals (NaN, infinity)    DOUBLE when every integer is exact in it, else VARCHAR
 *                                         with the digits sent
 *   objects or arrays                     VARCHAR with compact JSON text
 *   any other mix, strings, only nulls    VARCHAR (numbers with the digits sent, true, false)
 * An unpaired surrogate escape is ERR_INVALID. Record `{}` is a row of nulls as long as some record
 * has a column; no column at all is ERR_INVALID. */
bool lake_rows_infer(struct json_span records, size_t lines_bytes_max, struct lake_rows *ret_rows,
                     struct err *err) MUST_CHECK;

/* One declared column of a snapshot: member `source` of each record (own members only, literally,
 * no path) goes to column `target` of SQL type `type` (already checked to be safe text). */
struct lake_declared {
    struct str source;
    struct str target;
    struct str type;
};

/* Lines for declared columns. By type (compared without case, parameters ignored):
 *   VARCHAR and other text types    a string as it is; a number with the digits sent; true, false;
 *                                   nested values as
 *                                   compact JSON text
 *   JSON                            compact JSON text; a string is taken as JSON text itself
 *   integer types (TINYINT..HUGEINT, unsigned too, INT, LONG, ... and their aliases) a number whose
 *   value is whole
 *                                   (1, 1.0, 1e3 written out in digits); with a fraction
 *                                   ERR_INVALID naming row and
 *                                   column; the same for strings; true and false are 1 and 0
 *   BOOLEAN                         true, false; a number: nonzero is true; strings as they are
 *   DOUBLE, FLOAT, REAL, DECIMAL    numbers with the digits sent; true and false are 1 and 0
 *   all others                      strings as they are; numbers with the digits sent; nested
 *                                   values as JSON text
 * All lines hold strings (line_type VARCHAR). An unpaired surrogate becomes U+FFFD. HUGEINT and
 * UHUGEINT become sql_type DECIMAL(38,0). Two targets that differ at most in case are
 * ERR_INVALID. */
bool lake_rows_declared(struct json_span records, const struct lake_declared *declared,
                        size_t declared_count, size_t lines_bytes_max, struct lake_rows *ret_rows,
                        struct err *err) MUST_CHECK;
