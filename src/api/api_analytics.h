/* api_analytics.h - what the files of the analytics personality share: hosted databases under
 * /api/v1/duckdb (contracts/analytics.md).
 * Errors    of a handler: {"detail","status_code","path"}; of validation: {"detail":"Validation
 *           error","errors":[{"field","message","type"}]}; of an unknown path or method:
 *           {"detail"}. */
#pragma once

#include "api_internal.h"
#include "database.h"

enum {
    ANALYTICS_STATEMENT_CHARACTERS_MAX = 10000,
    ANALYTICS_BATCH_MAX = 10,
    ANALYTICS_DEFAULT_TIMEOUT_S = 30,
    ANALYTICS_TIMEOUT_S_MAX = 300,
    ANALYTICS_TEXT_SIZE_MAX = 4 << 20
};

/* ---- bodies and their faults (api_analytics_fields.c) ---- */
struct faults {
    struct buf body;
    struct json_writer writer;
    size_t count;
};
void faults_init(struct faults *faults);
void faults_finish(struct faults *faults);
void faults_add(struct faults *faults, const char *field, const char *type, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* True, and 422 has been sent, when there are any. */
bool faults_reply(struct faults *faults, struct request *request);

/* The body as a JSON object in request->body; false when 422 has been sent. */
bool analytics_read_body(struct request *request);
/* The same where a body may be missing: an empty object. */
bool analytics_read_optional_body(struct request *request);

/* The rules of one text: 1 to 10,000 characters. `field` is the name in faults. Points into `into`
 * afterwards. */
void analytics_read_text(struct faults *faults, struct json_span object, const char *name,
                         const char *field, struct buf *into);
/* A text that may be left out, or null: `into` stays empty then. */
void analytics_read_option(struct faults *faults, struct json_span object, const char *name,
                           const char *field, struct buf *into);
/* Whole numbers, also as text or as a number with a fraction of zero; absent and null leave
 * *ret_value. */
void analytics_read_number(struct faults *faults, struct json_span object, const char *name,
                           const char *field, uint64_t min, uint64_t max, uint64_t *ret_value);
void analytics_read_flag(struct faults *faults, struct json_span object, const char *name,
                         const char *field, bool *ret_value);
void analytics_parse_number(struct faults *faults, struct str text, const char *field, uint64_t min,
                            uint64_t max, uint64_t *ret_value);

/* ---- errors (api_analytics_errors.c) ---- */
void analytics_error(const struct request *request, unsigned status, const struct err *err,
                     struct buf *body);
/* {"detail": the error's message} alone. */
void analytics_plain_error(const struct err *err, struct buf *body);

/* Words for what a request to a database came to, in front of the engine's own: the status is by
 * the kind of the fault, never by the words. `prefix` is such as "Query execution failed: ". */
void analytics_reply_failure(struct request *request, const char *prefix,
                             const struct database_outcome *outcome, const struct err *err);

/* ---- one request to a database (api_analytics_run.c) ---- */
struct analytics_work {
    struct request *request;
    struct buf database; /* its name; empty: the default one */
    struct buf text;     /* the statements, one after the other */
    struct str statements[ANALYTICS_BATCH_MAX];
    size_t statements_count;
    struct str parameters;     /* points into the body, or into own_parameters */
    struct buf own_parameters; /* of a query that has a name */
    bool pages;                /* page-stats, which has a 404 of its own */
    enum worker_request_kind kind;
    enum worker_fetch fetch;
    uint64_t fetch_size;
    uint64_t rows_max;
    uint64_t timeout_s;
    bool atomic;
    bool writes;
    bool wrapped; /* JSON of the contract, not a bare result */
    /* while it runs */
    struct buf columns; /* JSON */
    bool began;
    bool has_key;
    struct sha256 key;
    bool collecting;
    struct buf copy;
    struct database_outcome outcome;
};

struct analytics_work *analytics_work_create(struct request *request);
void analytics_work_destroy(void *work);
enum worker_role analytics_role(const struct request *request);
/* The database by the path's {name} or the body's "database". */
bool analytics_read_database(struct request *request, struct faults *faults, struct buf *into);
/* Sends the work to its lane. */
void analytics_submit(struct analytics_work *work, uint64_t timeout_s);

/* ---- numbers for Prometheus (api_analytics_metrics.c) ---- */
void analytics_add_metrics(struct api *api);
