/* worker_database.h - what travels between the server and a database worker: one process that holds
 * one database file open and serves many requests, several at once.
 *
 * The frames are those of worker_job.h. A database worker has one control socket (the job's socket
 * of its fork) and slots: sockets of their own, each of which serves one request at a time.
 *
 *   control   server -> worker   JOB       kind WORKER_DATABASE: limits (no cpu_seconds) and struct
 *                                          worker_database
 *                                SLOT      one descriptor: the worker's end of a new slot; u32 its
 *                                          number
 *                                FILED     answer to FILE: u32 id, i32 errno, u64 value, text; at
 *                                          most one descriptor
 *                                INTERRUPT u32 slot, u64 request: ends it if that is what runs
 *                                there CLOSE     finish what runs, checkpoint, close, OUTCOME, exit
 *             worker -> server   FILE      u32 id, u32 operation, u32 flags, text name, text new
 *             name
 *                                READY     the file is open: u64 bytes of its log that were
 *                                replayed OUTCOME   the end: after CLOSE, or why the file does not
 *   open slot      server -> worker   REQUEST   struct worker_request; descriptors: input and
 *   output,
 *                                          where the kind has them
 *             worker -> server   COLUMNS   of WORKER_STATEMENTS, once, before RESULT, but for
 *                                          Parquet: the names (worker_put_schema, types as the
 *                                          engine has them)
 *                                RESULT    encoded bytes, in order
 *                                PROGRESS  as in worker_job.h, when a request takes longer than
 *                                          250 ms
 *                                DONE      struct worker_done: the end; the slot is free again
 *
 * Promise   the worker opens no file by name: each FILE is answered by the server, beneath the
 *           folder of that database, for the names that this database may have. A request has a
 *           connection of its own, which is closed before DONE: no variable, temporary table,
 *           open transaction or setting goes from one request to another (P20).
 * Not here  who may send which statement: the request says by its role, worker_rules.h judges. The
 *           deadline of a statement that ignores INTERRUPT: the server kills the process.
 * Limits    frames as in worker_job.h; WORKER_SLOTS_MAX slots. */
#pragma once

#include "worker_job.h"

enum {
    WORKER_SLOTS_MAX = 65,       /* 64 for statements, one for a probe */
    WORKER_STATEMENTS_MAX = 1000 /* of one batch */
};

/* On FILE. `flags` of OPEN: WORKER_FILE_*. Names are what the engine calls its files, without a
 * folder: the database's own name, the same with ".wal" and what else the engine appends, and
 * "tmp/..." for what it spills. */
enum worker_file_operation {
    WORKER_FILE_OPEN = 1, /* answer: the descriptor; value: the size */
    WORKER_FILE_REMOVE,
    WORKER_FILE_MOVE,   /* name to new name, which it replaces */
    WORKER_FILE_EXISTS, /* value: 1 when there is one */
};

enum worker_file_flags {
    WORKER_FILE_WRITE = 1 << 0,
    WORKER_FILE_CREATE = 1 << 1,
    WORKER_FILE_TRUNCATE = 1 << 2, /* when it is there */
};

/* In the JOB of a database worker: what worker_put_database wrote is struct worker_job's
 * `database`.
 */
struct worker_database {
    struct str name; /* of the main file, such as "default.duckdb" */
    uint32_t read_only;
    uint64_t temp_bytes_max; /* of files the engine spills; 0: it may not */
    uint64_t
        checkpoint_bytes; /* of log, after which the engine makes a checkpoint; 0: its default */
};

enum worker_role {
    WORKER_ROLE_READ = 1, /* statements that read */
    WORKER_ROLE_WRITE,    /* and change data and definitions */
    WORKER_ROLE_ADMIN,    /* the same; apart for what may come */
};

enum worker_request_kind {
    WORKER_STATEMENTS = 1, /* one text; its statements run in order, the result is the last one's */
    WORKER_BATCH,          /* texts of one statement each; the RESULT is one JSON array */
    WORKER_IMPORT,         /* descriptor 0: a Parquet file, into `table` */
    WORKER_EXPORT,     /* descriptor 0: the file to write, Parquet of what the one text selects */
    WORKER_CHECKPOINT, /* all that is committed is in the main file afterwards */
};

/* How much of a result is sent, in the format WORKER_FORMAT_ROWS. */
enum worker_fetch {
    WORKER_FETCH_ALL,  /* [[1,"a"],[2,"b"]] */
    WORKER_FETCH_ONE,  /* [1,"a"], or null */
    WORKER_FETCH_MANY, /* as ALL, at most fetch_size rows */
    WORKER_FETCH_NONE, /* null; the statement has run */
};

/* What an import does with rows and a table that are there already. */
enum worker_import_mode {
    WORKER_IMPORT_CREATE, /* an error when the table is there */
    WORKER_IMPORT_APPEND, /* by column name; the table is made when it is not there */
    WORKER_IMPORT_REPLACE,
};

struct worker_request {
    uint64_t number; /* the server's, for INTERRUPT */
    uint32_t kind;
    uint32_t role;
    uint32_t format; /* enum worker_format */
    uint32_t fetch;  /* enum worker_fetch */
    uint64_t fetch_size;
    uint64_t rows_max;         /* rows of the result that are wanted; 0 for all */
    uint64_t result_bytes_max; /* of a batch, whose results are held until all is done */
    uint32_t atomic;           /* WORKER_BATCH: one transaction, all or nothing */
    uint32_t loose_parameters; /* names that no statement asks for are ignored */
    uint32_t mode;             /* WORKER_IMPORT: enum worker_import_mode */
    struct str parameters;     /* JSON, as in struct worker_job; keys "1", "2" are $1, $2 */
    struct str table;          /* WORKER_IMPORT */
    const struct str *statements;
    size_t statements_count;
};

/* What went wrong, by the engine's own class and never by its words. */
enum worker_fault {
    WORKER_FAULT_NONE,
    WORKER_FAULT_STATEMENT, /* the client's: syntax, names, types, constraints, rights */
    WORKER_FAULT_CONFLICT,  /* two transactions wanted the same row */
    WORKER_FAULT_MEMORY,    /* beyond the memory or the spilling that was granted */
    WORKER_FAULT_STOPPED,   /* INTERRUPT */
    WORKER_FAULT_ROOM,      /* the disk is full, or a file as large as it may be */
    WORKER_FAULT_IO,        /* disk */
    WORKER_FAULT_ENGINE,    /* fatal or internal: the process has to be replaced */
};

struct worker_done {
    uint32_t kind;        /* enum err_kind; ERR_NONE for success */
    uint32_t fault;       /* enum worker_fault */
    uint32_t failed_at;   /* WORKER_BATCH: the statement, from 1; 0: none, or no single one */
    uint32_t truncated;   /* there were more than rows_max rows */
    uint32_t rolled_back; /* a transaction was open at the end, and is no more */
    uint32_t changing;    /* the same again may answer something else, over the same data */
    uint64_t rows;        /* of the result that was sent; of an import or export: all */
    uint64_t execution_us;
    uint64_t memory_bytes; /* the engine's, at the end of the request */
    uint64_t peak_bytes;   /* resident memory of the process so far */
    struct str message;
};

void worker_put_database(struct buf *buf, const struct worker_database *database);
bool worker_get_database(struct worker_cursor *cursor,
                         struct worker_database *ret_database) MUST_CHECK;
void worker_put_request(struct buf *buf, const struct worker_request *request);
/* `statements` is allocated; worker_request_finish frees it. */
bool worker_get_request(struct str payload, struct worker_request *ret_request,
                        struct err *err) MUST_CHECK;
void worker_request_finish(struct worker_request *request);
void worker_put_done(struct buf *buf, const struct worker_done *done);
bool worker_get_done(struct str payload, struct worker_done *ret_done, struct err *err) MUST_CHECK;
