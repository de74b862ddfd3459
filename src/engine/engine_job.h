/* engine_job.h - one job between its first frame and the end of its worker. Internal to the folder.
 */
#pragma once

#include "engine.h"
#include "engine_fetch.h"
#include "engine_zygote.h"
#include "map.h"

/* An object that the job may read. */
struct job_object {
    struct str path;
    struct store *store;
    struct str key;
    struct store_object info;
    struct engine_window window;  /* of an object without a store */
    bool proven;                  /* the job's own credentials may read it */
    struct cached_object *cached; /* held from the first OPEN to the end of the job */
    struct job_object *next;
};

/* What the worker waits for: answered when all of its fetches are done. */
struct job_question {
    uint32_t id;
    bool opening; /* answered by OPENED, else by FETCHED */
    unsigned fetches;
    struct err problem; /* the first of them */
    struct job_question *next;
};

struct engine_job {
    struct engine *engine;
    const struct engine_request *request;
    struct store_cache *cache;
    uint64_t memory_bytes; /* granted; 0: it has gone to the leavers */
    struct worker_limits limits;
    int socket_fd;
    unsigned calls; /* for a worker; more than one when a zygote died over them */
    bool called;    /* `child` is registered */
    bool met;       /* and is there */
    struct zygote_child child;
    struct cancel *cancel;
    struct fetch_queue fetches;
    struct job_object *objects;
    bool resolved; /* an honest worker asks for its tables once, and says once what it has read */
    bool counted;
    bool described;                 /* its COLUMNS have come */
    struct job_question *questions; /* without an answer yet */
    unsigned questions_count;
    uint64_t ahead_bytes; /* asked for ahead and not there yet */
    struct map objects_by_path;
    struct buf incoming; /* bytes of frames that are not complete yet */
    struct err
        store_err; /* the first failure of a store: the reason behind the engine's own words */
    bool finished; /* OUTCOME has come */
    bool died;     /* it ended by itself without one */
    struct worker_outcome worker;
    char message[sizeof(((struct err *)0)->message)]; /* of the outcome */
    struct store_cache_fetched fetched;               /* for this job */
};

/* ---- its worker (engine_call.c) ---- */

/* Asks for one and sends it the job, which waits in its socket before the worker has that, or
 * before there is a worker. */
bool job_start(struct engine_job *job, struct err *err) MUST_CHECK;
/* Knows that it is there, and by which descriptor it can be killed. Before that nothing it sends is
 * looked at. */
bool job_meet(struct engine_job *job, struct err *err) MUST_CHECK;
/* Or asks for another, when a zygote died over the first. */
bool job_meet_or_start_again(struct engine_job *job, struct err *err) MUST_CHECK;

/* ---- the broker: what a worker may ask for ---- */

/* Tables and schemas (engine_broker.c). */
bool broker_resolve(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_schema(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_columns(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_result(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
void broker_finish(struct engine_job *job);

/* Objects and their bytes (engine_objects.c). */
bool broker_open(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_fetch(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_ahead(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_reads(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
/* Takes the fetches that have finished, and answers what they were the last of. */
bool broker_answer_fetches(struct engine_job *job, struct err *err) MUST_CHECK;

/* Shared by both. Sends a frame and finishes its payload. */
bool broker_send(struct engine_job *job, uint32_t type, struct buf *payload, int fd,
                 struct err *err) MUST_CHECK;
/* A store's failure is kept: the worker sees a text, the client gets the status that belongs to it.
 */
void broker_keep_error(struct engine_job *job, const struct err *problem);
bool broker_damaged(struct err *err);
