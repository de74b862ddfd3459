/* lake_rows.h - a snapshot's records as canonical lines that a worker turns into Parquet.
 * Promise   a line is {"c0":...,"c1":...}: cN is the Nth column, a null or missing one is left out.
 *           Values are JSON strings with the client's own digits, to be cast in SQL; nested values
 *           become compact JSON text, the last of duplicate keys wins.
 * Not here  records of tables (lake_check.h), objects; running the worker (lake_write_file).
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
    char *sql_type; /* what the file holds, as declared; read_json reads VARCHAR */
};

struct lake_rows {
    struct lake_column *columns;
    size_t columns_count;
    uint64_t rows_count;
    size_t line_size_max; /* the longest line, without its line end */
    struct buf lines;
};

void lake_rows_finish(struct lake_rows *rows);

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
 * An unpaired surrogate becomes U+FFFD. HUGEINT and UHUGEINT become sql_type DECIMAL(38,0). Two
 * targets that differ at most in case are ERR_INVALID. */
bool lake_rows_declared(struct json_span records, const struct lake_declared *declared,
                        size_t declared_count, size_t lines_bytes_max, struct lake_rows *ret_rows,
                        struct err *err) MUST_CHECK;
