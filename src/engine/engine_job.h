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
    bool spooled;          /* it has a place in the job's spool file */
    uint64_t spool_offset; /* where its bytes begin there */
    struct job_object *next;
};

struct engine_job {
    const struct engine_request *request;
    const char *spool_folder;
    uint64_t memory_bytes; /* granted */
    int socket_fd;
    struct zygote_child child;
    struct cancel *cancel;
    struct fetch_queue fetches;
    struct job_object *objects;
    int spool_fd;          /* the ranges of all objects, one after the other; -1 until the first */
    uint64_t spool_size;   /* what the places in it add up to */
    bool resolved;         /* an honest worker asks for its tables once */
    unsigned fetches_open; /* asked for and not answered yet */
    struct map objects_by_path;
    struct buf incoming; /* bytes of frames that are not complete yet */
    struct err
        store_err; /* the first failure of a store: the reason behind the engine's own words */
    bool finished; /* OUTCOME has come */
    bool died;     /* it ended by itself without one */
    struct worker_outcome worker;
    char message[sizeof(((struct err *)0)->message)]; /* of the outcome */
    uint64_t read_bytes;
};

/* ---- the broker (engine_broker.c): what a worker may ask for ---- */
bool broker_resolve(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_open(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_fetch(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
bool broker_schema(struct engine_job *job, struct str payload, struct err *err) MUST_CHECK;
/* Answers the fetches that have finished. */
bool broker_answer_fetches(struct engine_job *job, struct err *err) MUST_CHECK;
void broker_finish(struct engine_job *job);
