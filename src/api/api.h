/* api.h - where HTTP meets the capabilities: routes, the error shape of each personality, decoding
 * and encoding.
 * Promise   every request gets one reply in the shape of the personality it came to. Handlers never
 *           choose a status: the error's kind does (err.h), and the personality's table of
 *           exceptions.
 * Owner     struct server owns one struct api, which borrows everything in api_options.
 * Threads   http threads call api_begin, api_ready, api_refuse, api_done; lanes run the work.
 *
 * Adding an endpoint: 1. a row in api_routes.c; 2. a handler in the personality's file: `check`
 * reads the body (a lane of its own, so that a bad request is told at once), `run` does the work on
 * the route's lane; 3. the contract's test; 4. a line in docs; 5. its row in the personality's
 * index, if it has one. */
#pragma once

#include "auth.h"
#include "database.h"
#include "engine.h"
#include "http.h"
#include "lake.h"

struct api;
struct ops_metrics;

/* Which listener a request came through; also the index of its `tag`. */
enum api_listener {
    API_SHARED,
    API_INGEST,
    API_SNAPSHOT,
    API_PROJECTS,
    API_ANALYTICS,
    API_STAGING,
    API_LISTENER_COUNT
};

struct api_options {
    struct auth *auth;
    struct engine *engine;
    struct lake *lake;
    struct net *net;
    struct ops_metrics *metrics; /* the api adds its own families to it */
    const char *spool_folder;
    /* what the ingest personality tells about its lake */
    const char *lake_endpoint;
    const char *lake_bucket;
    const char *lake_region;
    unsigned queries_max, queries_queue_max;
    unsigned snapshots_max, snapshots_queue_max;
    unsigned ingests_max, ingests_queue_max;
    unsigned rows_max; /* bodies of /tables/{name}/rows that are read at one time */
    unsigned check_threads;
    uint64_t body_bytes_max; /* over the wire */
    uint64_t body_decoded_bytes_max;
    uint64_t bodies_bytes_max; /* all bodies in flight */
    uint64_t rows_bytes_max;   /* of /tables/{name}/rows, over the wire */
    uint64_t rows_decoded_bytes_max;
    int64_t backlog_age_max_ms; /* readiness ends when records wait for longer */
    uint64_t results_bytes_max;
    int64_t query_timeout_ms;
    int64_t snapshot_timeout_ms;
    int64_t ingest_timeout_ms;
    bool pool_enabled; /* /pool-stats of the snapshot personality */
    unsigned pool_size, pool_max;
    struct databases *databases;
    struct breaker_options breaker;
    struct store *backup_store; /* of the backup folder */
    unsigned database_slots, database_threads;
    unsigned databases_queue_max;
    unsigned database_requests_max; /* of all databases, that run or wait inside */
    uint64_t database_rows_max;     /* of one result */
    const char *database_memory_text;
    int64_t database_copy_timeout_ms;
    const char *version;
};

struct api *api_create(const struct api_options *options);
/* From now on new requests are refused with 503, but for health. */
void api_start_drain(struct api *api);
/* In the place of options.backlog_age_max_ms. */
void api_set_backlog_age_max(struct api *api, int64_t age_max_ms);
/* After http_server_destroy: nothing is in flight any more. */
void api_destroy(struct api *api);

struct http_handlers api_handlers(struct api *api);
