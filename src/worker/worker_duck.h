/* worker_duck.h - the one in-memory DuckDB of a zygote, and small helpers around its C API.
 * Promise   opened with one thread and with everything shut that needs no job: no file but those of
 *           worker_files.h, no extension is loaded or installed, no spill to disk, no secrets on
 *           disk. The configuration is locked for good, and duck_lock() adds the job's limits.
 * Owner     the zygote; each worker inherits it by fork.   Threads  one, until duck_lock(). */
#pragma once

#include "buf.h"
#include "worker_files.h"

struct duck {
    duckdb_database database;
    duckdb_connection connection;
    struct files *files;
    int sample_fd;     /* a small Parquet file, of duck_warm */
    struct crew *crew; /* of a database worker (worker_crew.h), else NULL */
};

bool duck_open(struct duck *duck, struct err *err) MUST_CHECK;

/* Shuts what no statement may use: extensions, secrets, and all files but those of the directories
 * that this statement allows. */
bool duck_shut(struct duck *duck, const char *allowed_directories, struct err *err) MUST_CHECK;

/* Runs typical work once, so that each fork finds code and catalogs in memory. */
bool duck_warm(struct duck *duck, struct err *err) MUST_CHECK;

/* Makes the connection that the workers' statements run on, and locks the configuration: the last
 * that a zygote does before it forks. */
bool duck_make_connection(struct duck *duck, struct err *err) MUST_CHECK;

/* In a worker, after the fork: random numbers of its own. */
bool duck_make_own(struct duck *duck) MUST_CHECK;

/* Runs in a worker, before there is a job, what the first statement would be slow at: its memory is
 * the zygote's until it writes to it, page by page. And once in the zygote: what the engine's
 * allocator keeps afterwards each worker finds. Nothing is left that a statement could see. */
bool duck_rehearse(struct duck *duck) MUST_CHECK;

#ifdef EIDER_TEST_LAYERS
/* The test build, without the layer of settings: another database, with nothing shut. */
bool duck_open_anew(struct duck *duck, struct err *err) MUST_CHECK;
#endif

bool duck_lock(struct duck *duck, const struct worker_limits *limits, struct err *err) MUST_CHECK;

/* Runs one statement of our own SQL. ret_result may be NULL; otherwise duckdb_destroy_result it. */
bool duck_run(struct duck *duck, struct str sql, duckdb_result *ret_result,
              struct err *err) MUST_CHECK;

/* CREATE OR REPLACE VIEW; no file is looked at before a statement uses the view. */
bool duck_create_view(struct duck *duck, struct str name, struct str query,
                      struct err *err) MUST_CHECK;

/* Fills err from the engine's text: the kind by its class, the text never empty. */
bool duck_fail(struct err *err, duckdb_error_type type, const char *text);
/* Takes the statement out of the engine's text: our own SQL is nobody's business. */
void duck_hide_statement(struct err *err);

/* The one function that quotes an identifier, and the one that quotes a string literal. */
void sql_append_identifier(struct buf *sql, struct str name);
void sql_append_literal(struct buf *sql, struct str text);

/* The text of a value of a materialized result, "" for NULL: appended to `into`. */
void duck_append_text(duckdb_result *result, uint64_t column, uint64_t row, struct buf *into);

/* Number of threads of this process, from the kernel. */
unsigned duck_thread_count(void);
