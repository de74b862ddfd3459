/* database.h - hosted databases: which there are, which are open, and who may run what when.
 * Promise   a request names a database and gets its answer, whatever it took: the file is opened
 *           when it is first asked for (once, however many ask), closed when it is idle or when too
 *           many are open (the one used longest ago, with nothing running), opened again when its
 *           process has died. Requests that change something run one at a time per database; those
 *           that read run beside them. A file that cannot be opened because it is damaged is set
 *           aside - it and its log renamed to <file>.quarantine-<time>, never deleted - and only
 *           this database answers ERR_UNAVAILABLE until it is restored or created anew (P21).
 *           Dropping and restoring move what was there to the trash folder; both are one rename.
 *           A version (database_version) stands for what a read can see: two reads under the same
 *           version see the same.
 * Not here  SQL, results (engine_database, worker), HTTP, who the caller is (auth).
 * Owner     struct server owns one struct databases. It is destroyed after everything that runs.
 * Threads   any; calls block. Inside: `keeper` closes idle databases and empties the trash, which
 *           it does not while the clock is doubted (clock_doubt.h); an `opener` opens one.
 * Errors    ERR_INVALID (a name, a statement), ERR_NOT_FOUND, ERR_CONFLICT (created already; in
 *           use; two transactions), ERR_BUSY (the queue, or every open database has work),
 *           ERR_UNAVAILABLE (breaker open: `retry_after_ms`; quarantined; the engine),
 *           ERR_UNPROCESSABLE (memory), ERR_TIMEOUT, ERR_CANCELLED, ERR_STOPPED, ERR_STORE*.
 * Limits    names ^[a-z0-9][a-z0-9_-]{0,62}$, one database per name without regard to case; as many
 *           databases as databases_max; memory of all open ones together memory_total_bytes. */
#pragma once

#include "engine_database.h"
#include "ops_breaker.h"
#include "ops_timings.h"
#include "store.h"

struct databases;

enum {
    DATABASE_NAME_SIZE = 64
};

struct databases_options {
    struct engine *engine;       /* borrowed */
    const char *folder;          /* of files <name>.duckdb; made when it is first needed */
    const char *trash_folder;    /* on the same file system */
    const char *spool_folder;    /* for backups on their way to a store, and back */
    const char *default_path;    /* the file of the database "default"; NULL: in `folder` */
    const char *temp_folder;     /* what is spilled; NULL: in `folder` */
    uint64_t memory_bytes;       /* of one database */
    uint64_t memory_total_bytes; /* of all that are open */
    uint64_t file_bytes_max;
    uint64_t disk_free_min; /* bytes that copies from elsewhere leave on the disk */
    uint64_t temp_bytes_max;
    unsigned threads;     /* of one database */
    unsigned slots;       /* requests at once in one database */
    unsigned waiting_max; /* requests that wait for one database */
    unsigned open_max;
    unsigned databases_max;
    int64_t open_timeout_ms; /* of an opening with the log of a crash; requests have their own */
    int64_t idle_close_ms;
    int64_t trash_keep_ms;
    struct breaker_options breaker;
    bool breaker_counts_statements; /* as the original's did: what clients do wrong opens it too */
};

struct databases *databases_create(const struct databases_options *options);
/* After a drain; closes what is open until deadline_ms, then kills. */
void databases_destroy(struct databases *databases, int64_t deadline_ms);

/* ---- requests ---- */
struct database_request {
    struct str database; /* empty: "default" */
    /* May change data or definitions: one at a time, and the version goes on. */
    bool writes;
    /* Somebody's health check: neither the breaker nor the timings hear of it, and it does not wait
     * for statements that have all the places. */
    bool probe;
    /* Of one that reads: when that is refused with ERR_FORBIDDEN it runs once more, as one that
     * writes with this role, all of which is one request. 0: it does not. */
    enum worker_role or_as;
    struct engine_database_request run;
};

struct database_outcome {
    struct engine_database_outcome run;
    uint64_t waited_us;     /* for a place, a writer, or the opening */
    int64_t retry_after_ms; /* of ERR_UNAVAILABLE and ERR_BUSY, where it is known; else 0 */
    bool refused;           /* nothing has run: breaker, quarantine, queue */
    bool breaker_open;      /* that is why */
    bool known;             /* that is what was found out before: nothing was tried this time */
    /* Of a read that succeeded: nothing was changed from its beginning to its end, and it has no
     * clock or the like in it, so its result may be kept under `version`. */
    bool stable;
    uint64_t version;
};

bool databases_run(struct databases *databases, const struct database_request *request,
                   struct cancel *cancel, struct database_outcome *ret_outcome,
                   struct err *err) MUST_CHECK;

/* What a read of this database would see now, for a key of kept results. False: not open, not
 * there, or nobody can say, as while something changes it. Never blocks. */
bool databases_version(struct databases *databases, struct str database, uint64_t *ret_version);

/* The same for all names of one database, whether or not there is one; never 0. Names that are not
 * the same seldom share one: for shares between databases, not for telling them apart. */
uint64_t databases_group(const struct databases *databases, struct str database);

/* Opens it if it is not, as a request would: `initialize`. */
bool databases_open(struct databases *databases, struct str database, struct cancel *cancel,
                    struct err *err) MUST_CHECK;

/* ---- which there are ---- */
enum database_status {
    DATABASE_CLOSED,
    DATABASE_OPEN,
    DATABASE_QUARANTINED,
};
struct database_info {
    char name[DATABASE_NAME_SIZE];
    enum database_status status;
    char problem[256];   /* why it could not be opened last, or empty; no path */
    const char *path;    /* of the main file; lives as long as the visit */
    bool exists;         /* the file */
    uint64_t size_bytes; /* of the file */
    uint64_t log_bytes;  /* of its log */
    int64_t created_wall_ms, modified_wall_ms; /* of the file; 0: not known */
    uint64_t memory_limit_bytes;
    struct engine_database_state process;
    struct breaker_status breaker;
};
typedef void database_visit_fn(void *context, const struct database_info *info);
/* In the order of their names. */
void databases_visit(struct databases *databases, database_visit_fn *visit, void *context);
/* "default" is always there, even before its file is. */
bool databases_find(struct databases *databases, struct str database, database_visit_fn *visit,
                    void *context);

/* The timings of a database's requests; lives as long as `databases`. NULL: no such database. */
struct timings *databases_timings(struct databases *databases, struct str database);
/* "The breaker is reset to closed." False: no such database. */
bool databases_reset_breaker(struct databases *databases, struct str database);

bool database_name_is_good(struct str name);
bool databases_make(struct databases *databases, struct str database, struct cancel *cancel,
                    struct err *err) MUST_CHECK;
/* To the trash, with its log. "default" too: it is empty afterwards. Waits for what runs. */
bool databases_drop(struct databases *databases, struct str database, struct cancel *cancel,
                    struct err *err) MUST_CHECK;

/* ---- copies ---- */
/* An object outside the database: of S3, or of the backup folder. */
struct database_place {
    struct store *store;
    struct str key;
};
struct database_copy {
    uint64_t size_bytes;
    char sha256[65];
};
/* A consistent copy of everything committed. Changes wait while the file is read, reads do not. An
 * object that is there already is ERR_CONFLICT. */
bool databases_backup(struct databases *databases, struct str database,
                      const struct database_place *to, struct cancel *cancel,
                      struct database_copy *ret_copy, struct err *err) MUST_CHECK;
/* Whether a file of that size may be brought to the disk that `fd` is on: ERR_TOO_LARGE beyond
 * file_bytes_max, ERR_UNAVAILABLE when less than disk_free_min would be left. */
bool databases_have_room(const struct databases *databases, int fd, uint64_t size,
                         struct err *err) MUST_CHECK;
/* Replaces the database by a copy, after the copy was opened once to see that it is one. */
bool databases_restore(struct databases *databases, struct str database,
                       const struct database_place *from, struct cancel *cancel,
                       struct database_copy *ret_copy, struct err *err) MUST_CHECK;
