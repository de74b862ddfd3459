/* worker_job.h - what travels between the server and one worker process, on one socketpair.
 *
 * The socket is a stream of frames: type u32, size u32 (native byte order: both ends are of one
 * build), then `size` bytes. Descriptors ride with the first byte of a frame.
 *
 *   server -> worker   JOB       the job (struct worker_job), descriptors: input and output where
 *                      the kind has them
 *                      TABLES    answer to RESOLVE
 *                      OPENED    answer to OPEN: u32 error kind, u64 size, u32 complete (every byte
 *                      is there), u64 where the bytes begin, u64 where their bits are, text; one
 *                      descriptor
 *                      FETCHED   answer to FETCH
 *                      CANCEL    interrupt the statement; SIGKILL follows after 30 ms
 *   worker -> server   RESOLVE   the names of the tables that the statement reads
 *                      OPEN      an object, by the path that TABLES gave
 *                      FETCH     blocks of an opened object are wanted in its file: u64 first, u64
 *                      count, path
 *                      AHEAD     the same, but nobody waits for them yet: no answer
 *                      READS     once, before the OUTCOME: u64 blocks and u64 bytes of objects that
 *                      were read
 *                      SCHEMAS   the columns of objects that TABLES gave without a schema (worth
 *                                caching)
 *                      COLUMNS   of WORKER_READ, once, before the first RESULT: the columns of the
 *                                body (worker_put_schema); type NULL: not one value in it
 *                      RESULT    encoded bytes of the result
 *                      PROGRESS  how far the statement is (struct worker_progress), a few times a
 *                      second
 *                      OUTCOME   the end: rows, or an error
 *
 * Promise   a frame that breaks this format is ERR_CORRUPT at the reader, never a read beyond it:
 *           each side treats the other's bytes as hostile.
 * Owner     decoded texts point into the frame's bytes.   Limits  frame 64 MiB (a statement, or a
 *           list of files). */
#pragma once

#include "buf.h"
#include "err.h"

enum {
    WORKER_FRAME_SIZE_MAX = 64 << 20,
    WORKER_QUESTION_SIZE_MAX = 8 << 20, /* of any frame from a worker */
    WORKER_RESULT_SIZE_MAX = 1 << 20,   /* of one RESULT; a larger piece is sent as several */
    WORKER_BLOCK_SIZE = 1 << 17,        /* of objects */
    WORKER_BITS_SKIP = 64,              /* between an object's counter and its bits */
    WORKER_FETCH_SIZE_MAX = 64 << 20,   /* of the blocks of one FETCH or AHEAD */
    WORKER_FDS_MAX = 2,
    WORKER_ANSWER_SEND_MS =
        5000, /* for a worker to take a frame; one that does not read is broken */
};

enum worker_frame_type {
    WORKER_JOB = 1,
    WORKER_TABLES,
    WORKER_OPENED,
    WORKER_FETCHED,
    WORKER_CANCEL,
    WORKER_RESOLVE,
    WORKER_OPEN,
    WORKER_FETCH,
    WORKER_AHEAD,
    WORKER_READS,
    WORKER_SCHEMAS,
    WORKER_RESULT,
    WORKER_OUTCOME,
    WORKER_PROGRESS,
    WORKER_COLUMNS,
    /* of a database worker (worker_database.h) */
    WORKER_SLOT,
    WORKER_FILE,
    WORKER_FILED,
    WORKER_INTERRUPT,
    WORKER_CLOSE,
    WORKER_READY,
    WORKER_REQUEST,
    WORKER_DONE,
};

enum worker_job_kind {
    WORKER_QUERY = 1, /* one statement over declared tables, result in a format */
    WORKER_WRITE,     /* canonical lines (lake_rows.h) in, Parquet out */
    WORKER_READ,      /* a body with rows in, their columns and lines out */
    WORKER_DATABASE,  /* no job but many: worker_database.h */
};

/* What a body is written in. */
enum worker_input {
    WORKER_INPUT_PARQUET, /* one file */
    WORKER_INPUT_ARROW,   /* an IPC stream */
    WORKER_INPUT_COUNT
};

/* How a result is encoded (worker_encode.h). */
enum worker_format {
    WORKER_FORMAT_JSON,    /* one document, the snapshot contract's */
    WORKER_FORMAT_NDJSON,  /* an object per line */
    WORKER_FORMAT_CSV,     /* RFC 4180 with a header line */
    WORKER_FORMAT_ARROW,   /* Arrow IPC stream */
    WORKER_FORMAT_PARQUET, /* one file */
    WORKER_FORMAT_EXACT,   /* NDJSON of worker_exact.h, for rows on their way in */
    WORKER_FORMAT_ROWS,    /* rows as JSON arrays; of a database worker (worker_rows.h) */
    WORKER_FORMAT_COUNT
};

/* Numbers first, so that the fixed part is one block. */
struct worker_limits {
    uint64_t memory_bytes;        /* the engine's memory_limit */
    uint64_t address_space_bytes; /* RLIMIT_AS beyond what the zygote has; 0 for none (sanitizer
                                     builds) */
    uint64_t output_bytes;        /* RLIMIT_FSIZE */
    uint64_t cpu_seconds;         /* RLIMIT_CPU; 0 for none */
    uint64_t niceness;            /* how much it gives way to others; 0: not at all */
    uint32_t threads;
    uint32_t layers_off; /* worker_layers.h; nobody looks at it but in the test build */
};

struct worker_column {
    struct str name;
    struct str line_type; /* what read_json reads (lake_rows.h) */
    struct str sql_type;  /* what the file holds */
    uint32_t loose;       /* a value that cannot be cast goes to the job's column `rest` */
    uint32_t sort;        /* 1: rows are sorted by it first, 2: by it next, ...; 0: they are not */
};

struct worker_job {
    uint32_t kind;
    struct worker_limits limits;
    /* WORKER_QUERY */
    struct str statement;
    uint32_t format;       /* enum worker_format */
    uint64_t rows_max;     /* rows of the result that are wanted; 0 for all */
    struct str parameters; /* JSON: an array for $1, $2 or ?, an object for $name; empty for none */
    /* WORKER_WRITE: descriptor 0 the lines, descriptor 1 the file */
    const struct worker_column *columns;
    size_t columns_count;
    uint32_t rest;         /* 1 + the index of the VARCHAR column of misfits, as JSON; 0: none */
    uint64_t input_offset; /* where the lines begin in their descriptor, */
    uint64_t input_size;   /* and how many bytes they are; 0: all of it */
    uint64_t input_rows;   /* how many lines; 0: not known */
    struct str order_by;   /* a column name; empty for the order of the lines */
    uint64_t line_size_max;
    uint64_t row_group_rows;
    /* WORKER_READ: descriptor 0 the body, a file that nobody changes meanwhile */
    uint32_t input_format; /* enum worker_input */
    /* WORKER_DATABASE has none of the above: what follows in the frame is worker_get_database's. */
    struct str database;
};

/* One table of TABLES. */
struct worker_file {
    struct str path; /* what OPEN asks for */
    uint32_t schema; /* index + 1 into the table's schemas, 0 when the worker has to look */
};

struct worker_schema_column {
    struct str name;
    struct str type; /* as the engine writes it */
};

struct worker_schema {
    const struct worker_schema_column *columns;
    size_t columns_count;
};

enum worker_table_kind {
    WORKER_TABLE_FILES = 1, /* columns united by name, hive segments of the path are columns */
    WORKER_TABLE_LAKE,      /* a lake table: schemas, year, month and day from the path */
};

/* Rows that are in no file yet: canonical lines (lake_check.h), whose cN is columns[N]. */
struct worker_tail {
    const struct worker_column *columns;
    size_t columns_count;
    uint32_t rest; /* as in struct worker_job */
    uint64_t line_size_max;
    const struct str *windows; /* what OPEN asks for: lines of one day each; may be none */
    size_t windows_count;
};

struct worker_table {
    struct str name;
    uint32_t kind;
    const struct worker_file *files;
    size_t files_count;
    const struct worker_schema *schemas;
    size_t schemas_count;
    const struct worker_tail *tails; /* WORKER_TABLE_LAKE */
    size_t tails_count;
};

struct worker_progress {
    uint32_t permille; /* of the statement's work, by the engine's estimate; 0..1000 */
    uint64_t rows;     /* encoded so far */
    uint64_t peak_bytes;
};

struct worker_outcome {
    uint32_t kind;      /* enum err_kind; ERR_NONE for success */
    uint32_t truncated; /* there were more than rows_max rows */
    uint64_t rows;
    uint64_t peak_bytes; /* of resident memory */
    struct str message;
};

/* ---- encoding: appends the payload of a frame ---- */
void worker_put_u32(struct buf *buf, uint32_t value);
void worker_put_u64(struct buf *buf, uint64_t value);
void worker_put_text(struct buf *buf, struct str text);
void worker_put_job(struct buf *buf, const struct worker_job *job);
void worker_put_schema(struct buf *buf, const struct worker_schema *schema);
void worker_put_table(struct buf *buf, const struct worker_table *table);
void worker_put_tail(struct buf *buf, const struct worker_tail *tail);
void worker_put_outcome(struct buf *buf, const struct worker_outcome *outcome);
void worker_put_progress(struct buf *buf, const struct worker_progress *progress);

/* ---- decoding: a cursor that fails once and stays failed ---- */
struct worker_cursor {
    struct str rest;
    bool failed;
};

uint32_t worker_get_u32(struct worker_cursor *cursor);
uint64_t worker_get_u64(struct worker_cursor *cursor);
struct str worker_get_text(struct worker_cursor *cursor);
/* The number of items that follow, each of at least item_size_min bytes: a count that cannot be
 * true fails. */
size_t worker_get_count(struct worker_cursor *cursor, size_t item_size_min);
bool worker_get_end(const struct worker_cursor *cursor); /* all read, nothing failed */

/* Arrays of a decoded job, schema or table are allocated; the matching finish frees them. */
bool worker_get_job(struct str payload, struct worker_job *ret_job, struct err *err) MUST_CHECK;
void worker_job_finish(struct worker_job *job);
bool worker_get_schema(struct worker_cursor *cursor, struct worker_schema *ret_schema) MUST_CHECK;
void worker_schema_finish(struct worker_schema *schema);
bool worker_get_table(struct worker_cursor *cursor, struct worker_table *ret_table) MUST_CHECK;
void worker_table_finish(struct worker_table *table);
bool worker_get_outcome(struct str payload, struct worker_outcome *ret_outcome,
                        struct err *err) MUST_CHECK;
bool worker_get_progress(struct str payload, struct worker_progress *ret_progress,
                         struct err *err) MUST_CHECK;

/* ---- frames on a socket ---- */

/* Sends one frame; fds_count may be 0. ERR_UNAVAILABLE when the other side is gone, or has not
 * taken all of it within wait_ms (-1: blocks for as long as it takes). */
bool worker_send(int socket_fd, uint32_t type, struct str payload, const int *fds, size_t fds_count,
                 int wait_ms, struct err *err) MUST_CHECK;

/* Several frames in one message: each is appended, then all bytes are sent as they are. */
void worker_put_frame(struct buf *frames, uint32_t type, struct str payload);
bool worker_send_frames(int socket_fd, struct str frames, int wait_ms, struct err *err) MUST_CHECK;

struct worker_frame {
    uint32_t type;
    struct buf payload;
    int fds[WORKER_FDS_MAX]; /* -1 where none came */
};
/* Receives one whole frame; blocks. False with ERR_UNAVAILABLE at the end of the stream. The
 * frame's buffer is reused from call to call. */
bool worker_receive(int socket_fd, struct worker_frame *frame, struct err *err) MUST_CHECK;
/* The same with fewer system calls, of a socket on which nothing comes behind a frame until that
 * one is answered. */
bool worker_receive_alone(int socket_fd, struct worker_frame *frame, struct err *err) MUST_CHECK;
void worker_frame_init(struct worker_frame *frame);
void worker_frame_finish(struct worker_frame *frame);
