/* api_access.h - what is kept of a request that is over: counters, and a line in the log.
 * Promise   each request that reached begin is counted once, under its route's pattern: no path,
 *           table or tenant that a client chose makes a series of its own.
 * Not here  the text of /metrics (ops_metrics.h).
 * Owner     struct api owns one struct access.   Threads  any; counting takes no lock. */
#pragma once

#include "api_internal.h"
#include "metric.h"

enum {
    ACCESS_METHODS = 8,  /* seven that are known, and all others */
    ACCESS_STATUSES = 32 /* room for access_statuses, and for one that is not there */
};

struct access_route {
    struct metric_counter requests[ACCESS_METHODS][ACCESS_STATUSES];
    struct metric_histogram time;
    struct metric_counter rows_accepted;
};

struct access {
    /* One for each row of api_routes, then one for each personality: requests without a route. */
    struct access_route *routes;
    size_t routes_count;
    struct metric_counter bytes_in;
    struct metric_counter bytes_out;
    struct metric_counter rows_returned[PERSONALITY_COUNT];
    struct metric_counter rows_ingested[PERSONALITY_COUNT];
    struct metric_counter dead_letters;
    struct metric_counter replays;
};

struct access *access_create(void);
void access_destroy(struct access *access);

extern const char *const access_personalities[PERSONALITY_COUNT];
extern const char *const access_methods[ACCESS_METHODS];
extern const unsigned access_statuses[];
extern const size_t access_statuses_count; /* the index of all others */

/* As http_handlers.done. */
void access_done(struct access *access, struct http_exchange *exchange, unsigned status,
                 uint64_t reply_bytes, int64_t elapsed_us);

/* The events of the snapshot personality's log: before the reply, after which the request may be
 * gone. `status` is ok, busy or error. */
void access_log_query(struct request *request, const char *status, uint64_t tables_count);
void access_log_snapshot(struct request *request);
