/* engine.h - jobs for DuckDB, run in worker processes.
 * Promise   a job's statement runs in a process of its own, which can read the objects the job
 *           declared and nothing else. When engine_run returns, that process is gone or has been
 *           sent SIGKILL: at the deadline, when cancel is raised, and when the result callback says
 *           no, it is asked to stop and killed 30 ms later. A worker or zygote that dies costs at
 *           most the job it ran; a job that had not started is started again. Results are handed on
 *           as they come; nothing holds a whole result.
 * Not here  what a statement may be (worker_guard), which tables exist (the resolver), queues
 *           (ops).
 * Owner     struct server owns one struct engine.   Threads  any number may call engine_run at
 *           once; it blocks. Inside: `zygote` (starts the zygote and listens to it) and `fetch`
 *           threads (ranged reads for workers).
 * Errors    ERR_INVALID (the statement), ERR_UNPROCESSABLE (beyond its memory), ERR_TIMEOUT,
 *           ERR_CANCELLED, ERR_STORE* (an object could not be read), ERR_CONFLICT (an object
 *           changed while it was read), ERR_UNAVAILABLE (no worker could be started), ERR_INTERNAL
 *           (the worker died).
 * Limits    memory: each job is granted at most memory_per_job_bytes, and all jobs together never
 *           more than memory_total_bytes; every slot is always left memory_floor. Fetches in
 *           flight: 8 per job; read ahead and not there yet: 32 MiB per job. */
#pragma once

#include "cancel.h"
#include "err.h"
#include "metric.h"
#include "store_cache.h"
#include "worker_job.h"

struct engine;
struct engine_job;

struct engine_options {
    struct store_cache *cache; /* borrowed: the blocks of objects that workers read */
    uint64_t memory_total_bytes;
    uint64_t memory_per_job_bytes;
    unsigned slots; /* jobs at once, at the most: the floor is kept free for each */
    unsigned threads_per_job;
    unsigned fetch_threads;
    uint32_t layers_off; /* worker_layers.h: for the test build, which alone looks at it */
    const char *program; /* of the engine's processes; NULL: eider-engine, beside this program */
    /* The engine's library is the right one: called beside each start of the engine. No job runs
     * before it has said yes. May be NULL. */
    bool (*check_library)(int fd, struct err *err);
};

struct engine *engine_create(const struct engine_options *options);
/* Begins to start the zygote, once. Jobs that come before it is warm wait for it. ERR_UNAVAILABLE:
 * there is no such program. */
bool engine_start(struct engine *engine, struct err *err) MUST_CHECK;
/* Waits until it is warm and the library is checked, or says why it does not start. */
bool engine_wait_ready(struct engine *engine, struct err *err) MUST_CHECK;
void engine_destroy(struct engine *engine);
bool engine_is_ready(struct engine *engine);
/* The engine's version, such as v1.5.6; a zygote with another one does not start. */
const char *engine_version(void);
/* The Landlock version of the kernel (0: none). After engine_wait_ready. */
unsigned engine_landlock_abi(struct engine *engine);

/* Answers a worker's question for tables: appends one worker_put_table() for each table that is
 * among `names` (compared without case; there may be names that are no tables, and repeated ones),
 * counts them, and declares the objects with engine_declare. Runs on the thread of engine_run. */
struct engine_names {
    const struct str *names;
    size_t count;
    /* The statement asks which tables there are: every one, named or not, but for those that hide
     * a view the engine answers from (worker_is_catalog_name). */
    bool all;
};
typedef bool engine_resolve_fn(void *context, struct engine_job *job,
                               const struct engine_names *names, struct buf *tables,
                               uint64_t *ret_tables_count, struct err *err);

/* An object as the job's own credentials found it; all is copied but the store, which must live as
 * long as the job. `proven`: by a HEAD of its own, or because nobody's credentials but the server's
 * are at play. Of what was only listed the store is asked again before a byte is handed out. */
struct engine_object {
    struct store *store;
    struct str key;
    const struct store_object *info;
    bool proven;
};

/* The job may read this object under this path. */
void engine_declare(struct engine_job *job, struct str path, const struct engine_object *object);

/* The job may read these bytes of a file under this path, as a file of their own. The descriptor
 * must stay open as long as the job. */
struct engine_window {
    int fd;
    uint64_t offset;
    uint64_t size;
};
void engine_declare_window(struct engine_job *job, struct str path,
                           const struct engine_window *window);

struct engine_progress {
    uint32_t permille; /* of the work, by the engine's estimate */
    uint64_t rows;     /* of the result so far */
    uint64_t read_bytes;
    uint64_t peak_bytes;
};

struct engine_request {
    struct worker_job job;      /* limits are filled in by the engine */
    uint64_t output_bytes_max;  /* WORKER_WRITE: size of the file */
    bool yields;                /* nobody waits for it: others go first where processors are few */
    int input_fd;               /* WORKER_WRITE, WORKER_READ, else -1 */
    int output_fd;              /* WORKER_WRITE, else -1 */
    engine_resolve_fn *resolve; /* WORKER_QUERY; may be NULL: no tables */
    /* WORKER_QUERY, WORKER_READ: bytes of the encoded result, in order. False, with err, ends the
     * job. */
    bool (*result)(void *context, struct str bytes, struct err *err);
    /* How far the statement is, a few times a second. May be NULL. */
    void (*progress)(void *context, const struct engine_progress *progress);
    /* A worker has read the schema of an object that was declared without. May be NULL. */
    void (*schema)(void *context, struct str path, const struct worker_schema *schema);
    /* WORKER_READ: the columns of the body, once, before the first result. False, with err, ends
     * the job. */
    bool (*columns)(void *context, const struct worker_schema *columns, struct err *err);
    void *context;
};

struct engine_outcome {
    uint64_t rows;
    uint64_t read_bytes; /* fetched from stores */
    uint64_t peak_bytes; /* resident memory of the worker */
    bool truncated;      /* there were more than rows_max rows */
};

bool engine_run(struct engine *engine, const struct engine_request *request, struct cancel *cancel,
                struct engine_outcome *ret_outcome, struct err *err) MUST_CHECK;

/* The same in two steps, for who has something to find out before it can answer the job's first
 * question: the worker gets as far as that meanwhile. The request must live until the second step,
 * which is one of two. */
bool engine_begin(struct engine *engine, const struct engine_request *request,
                  struct cancel *cancel, struct engine_job **ret_job, struct err *err) MUST_CHECK;
bool engine_finish(struct engine_job *job_take, struct engine_outcome *ret_outcome,
                   struct err *err) MUST_CHECK;
/* Nobody wants it any more. */
void engine_abandon(struct engine_job *job_take);

/* Why a worker ended before its job was done. */
enum engine_kill {
    ENGINE_KILL_DEADLINE,
    ENGINE_KILL_CANCEL,         /* the client left, or somebody cancelled */
    ENGINE_KILL_SHUTDOWN,       /* the server stops */
    ENGINE_KILL_UNWANTED,       /* its result was refused, or it broke the format of its messages */
    ENGINE_KILL_STUCK,          /* it had reported its outcome and did not end */
    ENGINE_KILL_MEMORY,         /* it died of the limit of its memory */
    ENGINE_KILL_PROCESSOR_TIME, /* it died of the limit of its processor time */
    ENGINE_KILL_DIED,           /* it died of anything else */
    ENGINE_KILL_COUNT
};

/* Since the engine was created; lives as long as it, and changes while it is read. */
struct engine_counts {
    struct metric_gauge running;  /* workers that are there */
    struct metric_gauge stopping; /* those of them that were asked to stop */
    struct metric_counter forked;
    struct metric_gauge databases;       /* database workers that are there; not in `running` */
    struct metric_counter files_refused; /* that a database worker asked for and may not have */
    struct metric_counter kills[ENGINE_KILL_COUNT];
};

const struct engine_counts *engine_counts(const struct engine *engine);
uint64_t engine_zygote_restarts(struct engine *engine);
/* Memory that running jobs were granted, and the most that all together may be. */
uint64_t engine_memory_reserved(struct engine *engine, uint64_t *ret_total_bytes);
