/* ops_running.h - the queries that are queued, run or have just ended, for people who want to see
 * them or end one.
 * Promise   a query is listed from running_enter until some time after running_end. running_cancel
 *           raises the query's own cancel with ERR_STOPPED, under the lock that running_end takes
 *           before it lets go of that cancel: it is never raised after its end. Ids are random; who
 *           was not told one cannot guess it.
 * Not here  what a statement may show: it comes without its literals (worker_redact.h). Who may
 *           look. The end of the work itself: whoever does it looks at its cancel.
 * Owner     struct api owns the one struct running. A struct running_query belongs to it too; who
 *           entered it may use it until running_end or running_forget.
 * Threads   any.
 * Limits    what is not ended is bounded by the queues of those who enter; of the ended the last
 *           ended_max, for ended_keep_ms. Statements are cut at 4 KiB. */
#pragma once

#include "cancel.h"
#include "err.h"
#include "str.h"

struct running;
struct running_query;

enum {
    RUNNING_ID_SIZE = 17, /* 16 hex digits and the NUL */
    RUNNING_STATEMENT_SIZE_MAX = 4096,
    RUNNING_NAME_SIZE = 160
};

enum running_state {
    RUNNING_QUEUED,
    RUNNING_RUNNING,
    RUNNING_STREAMING, /* the head of the answer is out */
    RUNNING_DONE,
    RUNNING_FAILED,
    RUNNING_CANCELLED, /* by somebody's wish, or because its client left */
    RUNNING_STATE_COUNT
};

struct running_options {
    unsigned ended_max;
    int64_t ended_keep_ms;
};

/* Everything is copied but cancel. */
struct running_start {
    const char *id;       /* of running_make_id */
    struct str statement; /* without its literals */
    struct str listener;
    struct str request_id;
    struct str client; /* its address */
    struct cancel *cancel;
};

struct running_numbers {
    uint32_t permille; /* of the work, by the engine's estimate */
    uint64_t rows;
    uint64_t read_bytes;
    uint64_t peak_bytes; /* resident memory of the worker */
};

/* One query as it is at the moment; texts live as long as the visit. */
struct running_view {
    const char *id;
    enum running_state state;
    enum err_kind error; /* of a failed or cancelled one, else ERR_NONE */
    struct str statement;
    struct str listener;
    struct str request_id;
    struct str client;
    struct running_numbers numbers;
    uint64_t sent_bytes; /* of the result, towards the client */
    int64_t entered_wall_ms;
    int64_t queued_ms;
    int64_t elapsed_ms; /* since it was entered, until its end */
};

struct running_counts {
    unsigned queued;
    unsigned running; /* streaming ones among them */
};

struct running *running_create(const struct running_options *options);
/* Every query has ended. */
void running_destroy(struct running *running);

void running_make_id(char id[static RUNNING_ID_SIZE]);
const char *running_state_name(enum running_state state);

/* ---- for who does the work ---- */
struct running_query *running_enter(struct running *running, const struct running_start *start);
void running_begin(struct running *running, struct running_query *query); /* it left the queue */
void running_stream(struct running *running, struct running_query *query);
/* Numbers never go down: each of them keeps its largest value. */
void running_progress(struct running *running, struct running_query *query,
                      const struct running_numbers *numbers);
void running_sent(struct running *running, struct running_query *query, uint64_t bytes);
/* ERR_NONE: done. ERR_STOPPED and ERR_CANCELLED: cancelled. Else failed. */
void running_end(struct running *running, struct running_query *query, enum err_kind kind);
/* As if it had never been entered: its queue was full. */
void running_forget(struct running *running, struct running_query *query);

/* ---- for who looks ---- */
typedef void running_visit_fn(void *context, const struct running_view *view);
/* The newest first, at most count_max; `visit` runs under the lock, so it only copies. */
void running_visit(struct running *running, size_t count_max, running_visit_fn *visit,
                   void *context, struct running_counts *ret_counts);
/* False when there is none of that id. */
bool running_find(struct running *running, struct str id, running_visit_fn *visit, void *context);

enum running_cancel_result {
    RUNNING_UNKNOWN,
    RUNNING_HAS_ENDED,
    RUNNING_ASKED /* its cancel was raised, now or before */
};
enum running_cancel_result running_cancel(struct running *running, struct str id);
