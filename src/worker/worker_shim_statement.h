/* worker_shim_statement.h - statements one by one, as DuckDB's C++ classes offer them: the type of
 * a statement before it is planned, its values bound before it is planned (the C API plans twice),
 * and the class of an error where the C API has only its words.
 * Promise   no C++ exception crosses this line. A text is parsed once, a statement planned once.
 * Owner     what shim_parse() answers: shim_parsed_destroy. A failure's text: the caller,
 *           duckdb_free.
 * Threads   as the connection's.
 * Errors    false or NULL, with *ret_failure filled. */
#pragma once

#include "str.h"

#include <duckdb.h>

#ifdef __cplusplus
extern "C" {
#endif

struct shim_failure {
    duckdb_error_type type;
    char *text; /* begins with the class, as the engine words it */
};

struct shim_parsed;

struct shim_parsed *shim_parse(duckdb_connection connection, struct str text,
                               struct shim_failure *ret_failure);
void shim_parsed_destroy(struct shim_parsed *parsed);
size_t shim_parsed_count(const struct shim_parsed *parsed);
duckdb_statement_type shim_parsed_type(const struct shim_parsed *parsed, size_t index);
/* Whether it is none of the text, but one of those that the engine runs in place of one. */
bool shim_parsed_is_added(const struct shim_parsed *parsed, size_t index);
/* Whether the statement has a parameter of that name, or number, without regard to case. */
bool shim_parsed_asks(const struct shim_parsed *parsed, size_t index, struct str name);
size_t shim_parsed_asks_count(const struct shim_parsed *parsed, size_t index);

struct shim_value {
    struct str name;
    duckdb_value value;
};

struct shim_plan_options {
    const struct shim_value *values;
    size_t values_count;
    bool reads_only; /* a plan that changes anything is refused (DUCKDB_ERROR_PERMISSION) */
    bool stream;     /* the result's chunks are made as they are fetched, where that can be */
};

/* Plans one statement, which is used up: what it answers is for duckdb_execute_pending. */
duckdb_pending_result shim_plan(duckdb_connection connection, struct shim_parsed *parsed,
                                size_t index, const struct shim_plan_options *options,
                                struct shim_failure *ret_failure);

enum shim_step {
    SHIM_STEP_MORE,    /* there is more to do */
    SHIM_STEP_NOTHING, /* others have all the tasks, or wait */
    SHIM_STEP_READY,   /* duckdb_execute_pending answers at once */
    SHIM_STEP_FAILED,  /* and has nothing to say any more */
};
/* Works for a moment on what shim_plan() answered. */
enum shim_step shim_step(duckdb_pending_result pending, struct shim_failure *ret_failure);
/* Tasks that nobody has taken yet: of a statement that is planned and neither ready nor failed, by
 * its own thread; of the whole engine. */
size_t shim_statement_tasks(duckdb_connection connection);
size_t shim_tasks_count(duckdb_database database);

struct shim_copy_options {
    struct shim_plan_options plan; /* the query's: its types have to be known */
    const char *path;
    uint64_t rows_max; /* 0: all */
};

/* Makes of a query a statement that writes its rows to a Parquet file, with the types of
 * shim_parquet_type() and no name twice; its result is the number of rows. */
bool shim_parsed_copy_to(duckdb_connection connection, struct shim_parsed *parsed, size_t index,
                         const struct shim_copy_options *options, struct shim_failure *ret_failure);

/* Whether a transaction was begun that has not ended. */
bool shim_in_transaction(duckdb_connection connection);
/* Whether the open transaction has changed something other than temporary tables. */
bool shim_transaction_changed(duckdb_connection connection);
/* From then on the engine's plans are looked at, also those of what views and macros stand for.
 * After the opening. */
bool shim_watch_plans(duckdb_database database) MUST_CHECK;
/* Whether plans of this connection that change something are refused, before any of it runs. */
void shim_plans_only_read(duckdb_connection connection, bool only_read);
#define SHIM_ONLY_READS "this statement changes something: it needs a role that may"
/* Whether a plan of this connection may answer something else when it is run again over the same
 * data: it has a time, a random number, a sequence, a sample or the state of the engine in it. */
bool shim_plans_change(duckdb_connection connection);
/* What the engine has allocated, of its memory limit. */
uint64_t shim_memory_used(duckdb_connection connection);

#ifdef __cplusplus
}
#endif
