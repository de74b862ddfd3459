/* worker_request_run.h - what the kinds of requests (worker_request*.c) share: one request on its
 * way, the statements of a text, and what went wrong.
 * Promise   the first failure is the one that is told.
 * Owner     request_serve.   Threads  none shared. */
#pragma once

#include "worker_params.h"
#include "worker_request.h"
#include "worker_rules.h"
#include "worker_shim_statement.h"

struct request {
    struct duck *duck;
    duckdb_connection connection;
    struct channel *channel;
    const struct worker_request *request;
    const int *fds;
    struct worker_done *done;
};

/* All answer false. `text` begins with the engine's class already; err's gets one by its kind. */
bool request_fail(struct request *run, enum err_kind kind, enum worker_fault fault,
                  struct str text);
bool request_fail_engine(struct request *run, duckdb_error_type type, const char *text);
bool request_fail_shim(struct request *run, struct shim_failure *failure_take);
bool request_fail_err(struct request *run, const struct err *err);
/* Of a result: the engine's error, when it has one, before ours. */
bool request_fail_result(struct request *run, duckdb_result *result, const struct err *err);

/* Runs one statement of our own. */
bool request_sql(struct request *run, const char *sql) MUST_CHECK;

/* Fails when what the request has changed would be lost with a transaction that nobody has ended:
 * before the result is sent, and when all has run. */
bool request_ends_whole(struct request *run) MUST_CHECK;

/* A text that was judged and parsed: statements `first` to count - 1 are still to run. */
struct request_text {
    struct rules_verdict verdict;
    struct shim_parsed *parsed;
    size_t count;
    size_t answer;            /* the statement whose result is the text's */
    const char *parquet_path; /* where the answer's rows go as a Parquet file; NULL: nowhere */
    uint64_t parquet_rows_max;
};
bool request_text_init(struct request *run, struct request_text *text, struct str sql) MUST_CHECK;
void request_text_finish(struct request_text *text);

/* Runs all statements of the text, the last of which has these parameters; the answer's result is
 * the caller's, who destroys it also after a failure. */
bool request_text_run(struct request *run, struct request_text *text,
                      const struct parameters *parameters, duckdb_result *ret_result) MUST_CHECK;

/* What follows the answer: statements that the engine has added. After its result is read. */
bool request_text_end(struct request *run, struct request_text *text) MUST_CHECK;

bool request_run_batch(struct request *run) MUST_CHECK;
bool request_run_import(struct request *run) MUST_CHECK;
bool request_run_export(struct request *run) MUST_CHECK;

/* The answer's rows, as a Parquet file that is the RESULT. */
bool request_send_parquet(struct request *run, struct request_text *text,
                          const struct parameters *parameters) MUST_CHECK;
