/* api_internal.h - one request on its way through the api, and what the files of this folder share.
 */
#pragma once

#include "api.h"
#include "json_scan.h"
#include "json_write.h"
#include "ops_lane.h"
#include "ops_results.h"
#include "ops_running.h"
#include "ops_system.h"

#include <stdatomic.h>

enum api_personality {
    PERSONALITY_OPERATE, /* Eider's own routes */
    PERSONALITY_INGEST,
    PERSONALITY_SNAPSHOT,
    PERSONALITY_LAKE, /* the lake's tables: on the shared and the ingest listener, with the errors
                         of either; no request has it, only routes */
    PERSONALITY_ANALYTICS,
    PERSONALITY_ABSENT, /* projects, staging: not there yet */
    PERSONALITY_COUNT
};

enum api_lane {
    LANE_INLINE,
    LANE_CHECK,
    LANE_QUERY,
    LANE_SNAPSHOT,
    LANE_INGEST,
    LANE_DATABASE,        /* statements of hosted databases */
    LANE_DATABASE_HEALTH, /* what is told of them, while statements wait */
    LANE_DATABASE_CHANGE, /* opening, making and dropping them, which may wait for statements */
    LANE_DATABASE_COPY,   /* backups, restores and imports, which take long */
    LANE_DATABASE_EXPORT, /* to wherever clients say, as slow as that is */
    LANE_ROWS,            /* bodies that are read while they arrive */
    LANE_COUNT
};

struct request;
typedef void request_fn(struct request *request);

struct route {
    const char *method;
    const char *path; /* {name} is one segment */
    enum api_personality personality;
    enum auth_role role; /* that a caller needs */
    /* Inline routes: `check` replies at once, on the http thread. Others: `check` reads the body on
     * the check lane and ends with request_run() or a reply; `run` then works on `lane`. */
    request_fn *check;
    request_fn *run;
    enum api_lane lane;
    unsigned flags; /* ROUTE_ */
    const char *summary;
};

enum {
    ROUTE_STORES = 1 << 0, /* takes records: refused while the log is full, before the body */
    /* `check` runs when the header is complete, on the http thread, and ends with
     * http_accept_stream() or a reply; `run` reads the body, and is called again when it was told
     * to come later. */
    ROUTE_STREAMS = 1 << 1,
    /* The check may have the answer: a small request's connection is put aside only when it has not
     * (request_run does that). */
    ROUTE_AT_ONCE = 1 << 2
};

enum {
    REQUEST_HEADERS_MAX = 6,
    REQUEST_HEADER_SIZE = 80,
    HOLD_BACK_SIZE = 1 << 20
};

/* A header of the reply. */
struct request_header {
    const char *name;
    bool of_result; /* not of an error */
    char value[REQUEST_HEADER_SIZE];
};

struct request {
    struct api *api;
    struct http_exchange *exchange;
    const struct route *route;
    enum api_personality personality; /* whose error shape */
    struct auth_identity identity;    /* who asks; of open routes too, where it is known */
    struct buf parameter;             /* the {name} of the path, decoded */
    struct cancel *cancel;
    struct lane_task task;
    uint64_t group; /* of `task` on the route's lane; set before request_run */
    bool deferred;  /* another thread may answer */
    uint64_t body_reserved;
    bool is_upload;        /* one of api->uploads */
    struct buf text;       /* the body in UTF-8, when it came in another encoding */
    struct json_span body; /* the body as JSON; points into http_body or `text` */
    struct str body_bulk;  /* the longest of its members (json_scanner.bulk) */
    struct request_header headers[REQUEST_HEADERS_MAX];
    size_t headers_count;
    enum worker_format format; /* of a result */
    struct buf held;           /* the beginning of a streamed result */
    bool own_keys;             /* the request brought the credentials for its store */
    bool streaming;
    bool line_open;                 /* what was streamed last does not end a line */
    uint64_t rows;                  /* of the answer */
    uint64_t rows_ingested;         /* that were stored */
    uint64_t dead_letters;          /* records that went to the dead letter table */
    bool replayed;                  /* answered again: the Idempotency-Key was known */
    unsigned retry_after_s;         /* of a 503; 0: what it is without a reason */
    bool close;                     /* the connection, after the reply */
    int64_t waited_us;              /* in queues before that of `task` */
    char query_id[RUNNING_ID_SIZE]; /* of POST /query, else empty */
    struct running_query *listed;   /* in api->running, until it has ended there */
    void *work;                     /* what check leaves for run; freed by work_finish */
    void (*work_finish)(void *work);
};

struct api {
    struct api_options options;
    struct lane *lanes[LANE_COUNT]; /* LANE_INLINE is NULL */
    struct results *results;
    struct texts *texts; /* api_texts.h */
    struct ops_system *system;
    int64_t started_ms;
    struct running *running;
    atomic_bool draining;
    atomic_llong backlog_age_max_ms; /* that of the options at first */
    atomic_ullong bodies_bytes;
    atomic_ullong uploads; /* bodies that are read before all of them has come */
    atomic_ullong pool_created;
    atomic_llong log_looked_ms;    /* when api_write looked at the log last */
    atomic_uint log_retry_after_s; /* not 0: it was full then, */
    atomic_bool log_gets_room;     /* and no flush had failed */
    struct access *access;         /* api_access.h */
};

/* ---- routes (api_routes.c) ---- */
extern const struct route api_routes[];
extern const size_t api_routes_count;

/* Finds the route for a method and a path. *ret_allow is set to the methods of the path when only
 * the method is wrong (static text), else NULL. */
const struct route *route_find(struct request *request, enum api_listener listener,
                               const char **ret_allow);
/* Whether the listener has a route of this path, for whatever method. */
bool route_has_path(struct request *request, enum api_listener listener, struct str path);

/* ---- who asks (api_gate.c) ---- */
/* Fills request->identity; false when it may not have its route, and the reply was sent. */
bool gate_pass(struct request *request);
/* The same on the staging personality's address, whose routes are not there yet: its key, or a
 * token of the role write. In the words of its contract. */
bool gate_pass_staging(struct request *request);
/* Whether paths, addresses and the texts of errors may be told where everybody may ask. */
bool gate_shows_all(const struct request *request);

/* ---- replies (api_reply.c) ---- */
void reply_json(struct request *request, unsigned status, struct str body);
/* The same from a buffer; one that has failed holds a part only, and 500 is sent instead. */
void reply_buf(struct request *request, unsigned status, const struct buf *body);
/* One object of at most size_max bytes, member by member; the second sends it and frees it. */
void reply_begin_object(struct buf *body, size_t size_max, struct json_writer *writer);
void reply_end_object(struct request *request, unsigned status, struct buf *body,
                      struct json_writer *writer);
/* In the shape of the request's personality; the status is that of the error's kind. */
void reply_error(struct request *request, const struct err *err);
void reply_status_error(struct request *request, unsigned status, const struct err *err);
void reply_not_found(struct request *request);
void reply_wrong_method(struct request *request, const char *allow);
void reply_not_there(struct request *request); /* 501 */
/* A full queue of the snapshot personality: 503 with the numbers. */
void reply_busy(struct request *request, const char *text, const struct lane_counts *counts);

/* Adds a header to the reply, whatever that will be; `name` is static text. Too long a value is
 * cut. */
void reply_add_header(struct request *request, const char *name, const char *value);
/* The same, but for errors. */
void reply_add_result_header(struct request *request, const char *name, const char *value);
void reply_drop_header(struct request *request, const char *name);
/* The same with the body of request->format. */
void reply_result(struct request *request, struct str body);
void reply_not_modified(struct request *request);
/* If-None-Match names this tag (compared weakly), or any. */
bool reply_matches_etag(const struct request *request, struct str etag);
/* Cache-Control of a request: no-cache wants an answer of now, no-store does not want it kept
 * either. */
bool reply_cache_control_has(const struct request *request, struct str directive);

/* ---- results (api_result.c) ---- */
/* A result of engine_run becomes the reply, in request->format: the first MiB is held back so that
 * early errors keep their status. */
bool result_pass(struct request *request, struct str bytes, struct err *err) MUST_CHECK;
/* `err` is NULL for success. */
void result_end(struct request *request, const struct err *err);

/* ---- the request's life (api_dispatch.c) ---- */
/* Moves on to `run` on the route's lane; false, with err, when its queue is full. */
bool request_run(struct request *request, int64_t timeout_ms, struct lane_counts *ret_counts,
                 struct err *err) MUST_CHECK;
/* Counts, among the bodies in flight, the body as it is now and `made_bytes` that were made of it.
 * False with ERR_BUSY when that is more than may be held. */
bool request_reserve(struct request *request, uint64_t made_bytes, struct err *err) MUST_CHECK;
/* Before a body is read that has not arrived whole: its reader may hold a few MiB while its client
 * takes its time. False with ERR_BUSY when as many do as half of the bodies' memory allows. */
bool request_reserve_upload(struct request *request, struct err *err) MUST_CHECK;
/* Gives back what is reserved: before the answer, so that who has it may send the next body. */
void request_release_body(struct request *request);
void request_set_work(struct request *request, void *work, void (*finish)(void *work));

/* ---- shared pieces of the personalities ---- */
bool json_text(struct json_span span,
               struct buf *into); /* unescaped string; false when it is none */

void operate_health(struct request *request);
void operate_live(struct request *request);
void operate_ready(struct request *request);
void operate_index(struct request *request);
void operate_metrics(struct request *request);
/* The families of the api and its lanes (api_metrics.c). */
void api_add_metrics(struct api *api);

void queries_list(struct request *request);
void queries_show(struct request *request);
void queries_cancel(struct request *request);

void ingest_index(struct request *request);
void ingest_health(struct request *request);
void ingest_docs(struct request *request);
void ingest_openapi(struct request *request);
void ingest_check(struct request *request);
void ingest_run(struct request *request);
void ingest_stream(struct request *request);
void ingest_stream_run(struct request *request);
void ingest_flush(struct request *request);
void ingest_flush_run(struct request *request);
void ingest_tables_check(struct request *request);
void ingest_tables_run(struct request *request);
void ingest_count(struct request *request);
void ingest_error(struct request *request, unsigned status, const struct err *err,
                  struct buf *body);

void rows_check(struct request *request);
void rows_run(struct request *request);
void table_show_check(struct request *request);
void table_show_run(struct request *request);
void table_declare_check(struct request *request);
void table_declare_run(struct request *request);

void snapshot_health(struct request *request);
void snapshot_pool_stats(struct request *request);
void snapshot_queue_stats(struct request *request);
void snapshot_check(struct request *request);
void snapshot_run(struct request *request);
void query_check(struct request *request);
void query_run(struct request *request);
void snapshot_unknown_check(struct request *request);

void analytics_query_check(struct request *request);
void analytics_batch_check(struct request *request);
void analytics_pages_check(struct request *request);
void analytics_run(struct request *request);
void analytics_operate_check(struct request *request);
void analytics_health_run(struct request *request);
void analytics_statistics_run(struct request *request);
void analytics_performance_run(struct request *request);
void analytics_initialize_run(struct request *request);
void analytics_reset_run(struct request *request);
void analytics_list_run(struct request *request);
void analytics_show_run(struct request *request);
void analytics_make_check(struct request *request);
void analytics_make_run(struct request *request);
void analytics_drop_run(struct request *request);
void analytics_backup_check(struct request *request);
void analytics_backup_run(struct request *request);
void analytics_restore_check(struct request *request);
void analytics_restore_run(struct request *request);
void analytics_import_check(struct request *request);
void analytics_import_run(struct request *request);
void analytics_export_check(struct request *request);
void analytics_export_run(struct request *request);
/* True for content types whose body the snapshot personality reads. */
bool snapshot_reads_type(struct str content_type);
