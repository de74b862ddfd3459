/* worker_shim.h - what DuckDB's C API cannot do, offered to C by files in C++.
 * Promise   no C++ exception crosses this line. Works with a libduckdb of exactly the version of
 *           the headers.
 * Threads   the file operations are called from any of the engine's threads. */
#pragma once

#include "macros.h"

#include <duckdb.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SHIM_TEXT_SIZE = 512
};

enum shim_open_flags {
    SHIM_OPEN_WRITE = 1 << 0,
    SHIM_OPEN_CREATE = 1 << 1,
    SHIM_OPEN_TRUNCATE = 1 << 2,
};

struct shim_open {
    unsigned flags;
    const void *client; /* shim_client of the connection whose statement wants the file; NULL: the
                           engine's own storage */
};

enum shim_change {
    SHIM_EXISTS,
    SHIM_REMOVE,
    SHIM_MOVE,
};

/* A file system made of functions. Every path that begins with one of the prefixes goes to it. */
struct shim_files {
    void *context;
    /* NULL on failure, with a text in `problem`; without one: there is no such file. */
    void *(*open)(void *context, const char *path, const struct shim_open *how, char *problem,
                  size_t size);
    bool (*read)(void *file, void *into, uint64_t size, uint64_t offset, char *problem,
                 size_t problem_size);
    bool (*write)(void *file, const void *bytes, uint64_t size, uint64_t offset);
    uint64_t (*size)(void *file);
    void (*close)(void *file);
    /* For a database's own files, db://; NULL where there are none. */
    bool (*sync)(void *file);
    bool (*truncate)(void *file, uint64_t size);
    /* 1: done, or it exists; 0: no such file; -1: it failed. */
    int (*change)(void *context, enum shim_change change, const char *path, const char *to);
};

bool shim_register_files(duckdb_database database, const struct shim_files *files,
                         const char *const *prefixes, size_t prefixes_count);

/* A database that lives in files: `path` begins with db://. */
struct shim_database {
    const struct shim_files *files;
    const char *path;
    bool read_only;
    uint64_t memory_bytes;
    uint64_t temp_bytes_max;   /* of what is spilled to db://tmp/; 0: nothing is */
    uint64_t checkpoint_bytes; /* of log; 0: the engine's default */
    unsigned threads;
};

/* False with *ret_type and a text. IO and SERIALIZATION are of the files' bytes, OUT_OF_MEMORY is
 * what it says, INTERNAL all the rest: it says nothing about the files. */
bool shim_open_database(const struct shim_database *options, duckdb_database *ret_database,
                        duckdb_error_type *ret_type, char *problem, size_t size);

/* Names a connection in struct shim_open. */
const void *shim_client(duckdb_connection connection);

/* Which files this engine reads: versions from least to most, up to this compatibility. */
void shim_storage_versions(uint64_t *ret_least, uint64_t *ret_most, uint64_t *ret_compatibility);

/* As the engine computes it over its pages. */
uint64_t shim_checksum(const void *bytes, size_t size);

/* From now on a name that is no table is an error, and never a file of that name. */
bool shim_forget_file_names(duckdb_database database);

/* What `SET memory_limit`, `SET threads` and `SET lock_configuration = true` do, without the three
 * statements: those take a tenth of a small job's time. The engine keeps the memory it has for
 * later. False, with a text in `problem`, also when the configuration is not locked afterwards. */
bool shim_lock_limits(duckdb_database database, uint64_t memory_bytes, unsigned threads,
                      char *problem, size_t size);

/* The connection's random numbers begin anew: a copy of it in another process has others. */
bool shim_seed_random(duckdb_connection connection, uint64_t seed);

/* The engine plans for so many threads and starts none of them: worker_helpers.h does. */
bool shim_hold_threads(duckdb_database database, unsigned threads);

/* What `CREATE OR REPLACE VIEW name AS query` does, but that nothing is bound, that is, no file is
 * looked at, before a statement uses the view: the engine would read each footer once for the view
 * and once more for the statement. False, with a text in `problem`, when the query is no SELECT. */
bool shim_create_view(duckdb_connection connection, const char *name, const char *query,
                      char problem[SHIM_TEXT_SIZE]);

/* Of a statement that has not been prepared: its type, and whether it is without parameters. */
bool shim_look_at_statement(duckdb_extracted_statements statements, uint64_t index,
                            duckdb_statement_type *ret_type);

/* Starts a statement without parameters, which is used up, as
 * duckdb_pending_prepared_streaming does, but plans it once: a prepared one is planned to be
 * prepared and, since the catalog's version counts every transaction, once more to be run. On
 * failure *ret_pending has the text of it. */
bool shim_start_statement(duckdb_connection connection, duckdb_extracted_statements statements,
                          uint64_t index, duckdb_pending_result *ret_pending,
                          duckdb_error_type *ret_type);

/* The connection counts how far its statements are, and prints nothing: for
 * duckdb_query_progress. */
bool shim_count_progress(duckdb_connection connection);

/* A table function without parameters, whose rows are made by functions of ours; its columns are
 * c0, c1, ... The types are copied, the context has to live as long as the connection. Rows of a
 * chunk with a lower batch go before those of a higher one, whichever thread made them. */
struct shim_source {
    const char *name;
    void *context;
    const duckdb_type *types;
    size_t columns_count;
    uint64_t threads_max;
    void *(*open)(void *context); /* for one thread */
    /* No rows: the end. False on failure, with a text in `problem`. */
    bool (*read)(void *reader, duckdb_data_chunk chunk, uint64_t *ret_batch,
                 char problem[SHIM_TEXT_SIZE]);
    void (*close)(void *reader);
};

bool shim_register_source(duckdb_connection connection, const struct shim_source *source);

/* The engine's own text of one value of a vector, as a cast to VARCHAR gives it: appends with
 * `append`. */
bool shim_value_text(duckdb_vector vector, uint64_t row,
                     void (*append)(void *context, const char *bytes, size_t size), void *context);

/* Makes a vector of `rows` values flat, and all vectors inside it. */
bool shim_flatten(duckdb_vector vector, uint64_t rows);

/* Casts `rows` values into a vector of another type, which is flat afterwards. False, with a text
 * in `problem`, when a value does not fit the type or there is no memory. */
bool shim_cast(duckdb_vector from, duckdb_vector into, uint64_t rows, char problem[SHIM_TEXT_SIZE]);

/* The type that keeps all of a value in a Parquet file as the engine writes them, at any depth: its
 * writer would make a DOUBLE of a HUGEINT, drop the microseconds of an INTERVAL and the offset of a
 * TIMETZ, write a NULL among ARRAYs so that others cannot read it, and has nothing for some. */
duckdb_logical_type shim_parquet_type(duckdb_logical_type type);
bool shim_types_equal(duckdb_logical_type a, duckdb_logical_type b);

/* The type to cast to before a value is written as worker_exact.h has it: types that the
 * encoder has no text for are VARCHAR, an ARRAY is a LIST, the keys of a MAP are VARCHAR; at any
 * depth. */
duckdb_logical_type shim_line_type(duckdb_logical_type type);
/* The type's name, as SQL takes it: appends with `append`. */
bool shim_type_text(duckdb_logical_type type,
                    void (*append)(void *context, const char *bytes, size_t size), void *context);

/* The shortest decimal digits that read back as the same double: `digits` without leading or
 * trailing zeros and no point, *ret_exponent such that value = 0.DIGITS * 10^exponent. Finite,
 * positive, nonzero values only. */
enum {
    SHIM_DIGITS_SIZE = 32
};
size_t shim_shortest_digits(double value, char digits[SHIM_DIGITS_SIZE], int *ret_exponent);

/* The shortest text, with or without an exponent, that reads back as the same number, which is
 * finite: returns where it ends, at most SHIM_DIGITS_SIZE bytes on. */
char *shim_put_double(char *at, double value);
char *shim_put_float(char *at, float value);

/* The number nearest to the decimal text at `at`: where the text ends, or NULL, also for one beyond
 * what a double can be. */
const char *shim_get_double(const char *at, const char *end, double *ret_value);

#ifdef __cplusplus
}
#endif
