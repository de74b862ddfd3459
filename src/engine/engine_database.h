/* engine_database.h - one database file, open in a worker process of its own.
 * Promise   the process has no credential, no socket but ours and no way to open a file by name:
 *           every file it opens, moves or removes is done here, beneath `folder_fd`, and only under
 *           the names that this database may have. The main file is locked (F_OFD_SETLK, which
 *           other DuckDB processes respect) for as long as the process lives, and by nobody twice.
 *           A request that does not end 1 s after it was told to costs the process: the others that
 *           run in it are answered ERR_UNAVAILABLE, and what was committed stays (P21). So does a
 *           frame that breaks the protocol, and an engine that says it is broken. A zygote that
 *           dies takes no database with it.
 * Not here  which databases there are, when they are opened and closed, who waits for whom
 *           (src/database).
 * Owner     src/database. Requests end before engine_database_close returns.
 * Threads   any number may call engine_database_run at once: up to `slots` run, more wait.
 *           Inside: one thread, `database`, reads the control socket and answers for files. A
 *           request that waits for a slot comes before those that came later.
 * Errors    of open: ERR_CORRUPT (the file is no database, or it or its log is damaged: nothing was
 *           changed), ERR_CONFLICT (another process has it), ERR_NOT_IMPLEMENTED (made by a newer
 *           engine), ERR_INTERNAL (the process crashed over it), ERR_UNAVAILABLE (disk, rights, no
 *           worker, killed), ERR_UNPROCESSABLE (memory).
 *           Of run: as struct worker_done has it; ERR_TIMEOUT, ERR_CANCELLED, ERR_STOPPED by the
 *           request's cancel; ERR_UNAVAILABLE when the process died or was replaced meanwhile, with
 *           ret_outcome->died set: a change may or may not have been committed then.
 * Limits    WORKER_SLOTS_MAX slots. */
#pragma once

#include "engine.h"
#include "worker_database.h"

#include <stdatomic.h>

struct engine_database;

struct engine_database_options {
    int folder_fd;         /* borrowed as long as the database is open */
    const char *name;      /* of the main file in it; copied */
    int temp_fd;           /* the folder for what is spilled, or -1; borrowed */
    uint64_t memory_bytes; /* the engine's memory_limit; address space a quarter more, and stacks */
    uint64_t file_bytes_max; /* of each of its files */
    uint64_t temp_bytes_max;
    unsigned threads;
    unsigned slots; /* requests at once */
    bool read_only;
    /* A deadline of every engine_database_close, which may be lowered meanwhile; borrowed as long
     * as the database is open. NULL: none. */
    const atomic_llong *close_by_ms;
};

struct engine_database_request {
    struct worker_request request; /* `number` is filled in */
    int fds[2];                    /* as the kind has them, else -1 */
    /* Each on the thread of engine_database_run; false, with err, ends the request. */
    bool (*columns)(void *context, const struct worker_schema *columns, struct err *err);
    bool (*result)(void *context, struct str bytes, struct err *err);
    void (*progress)(void *context, const struct engine_progress *progress); /* may be NULL */
    void *context;
};

struct engine_database_outcome {
    /* Its message is in err. A request that was told to end has one too, unless it died: kind
     * ERR_NONE there says that it was over all the same. */
    struct worker_done done;
    bool sent;          /* the process may have seen it */
    bool died;          /* the process ended before it answered, */
    bool killed;        /* because a request in it did not stop when it was told to, */
    bool out_of_memory; /* or of itself, with much of its memory in use */
};

bool engine_database_open(struct engine *engine, const struct engine_database_options *options,
                          struct cancel *cancel, struct engine_database **ret_database,
                          struct err *err) MUST_CHECK;
/* Lets what runs finish until `deadline_ms` (clock_now_ms), makes a checkpoint, ends the process;
 * kills it when that takes longer. False, with err, when the last checkpoint was not made: all that
 * was committed is in the file and its log all the same. */
bool engine_database_close(struct engine_database *database, int64_t deadline_ms,
                           struct err *err) MUST_CHECK;

bool engine_database_run(struct engine_database *database,
                         const struct engine_database_request *request, struct cancel *cancel,
                         struct engine_database_outcome *ret_outcome, struct err *err) MUST_CHECK;

/* False: it has ended, and every request from now on is ERR_UNAVAILABLE; close it and open
 * another. */
bool engine_database_is_alive(const struct engine_database *database);

/* Of the main file, for reading it while nobody writes; not the caller's to close. */
int engine_database_file(const struct engine_database *database);

struct engine_database_state {
    int pid;
    uint64_t resident_bytes; /* of the process, now; 0 when it has ended */
    unsigned running;        /* requests */
    unsigned waiting;
};
void engine_database_state(struct engine_database *database,
                           struct engine_database_state *ret_state);
