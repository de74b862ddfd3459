/* engine_database_internal.h - the parts of one open database: its files, the frames of its
 * process, its slots. Internal to the folder. */
#pragma once

#include "engine_database.h"
#include "engine_internal.h"

#include <sys/types.h>

/* ---- frames (engine_database_stream.c) ----
 * The bytes of one socket, cut into frames. What a worker says of sizes is believed up to a limit,
 * and memory is only taken for bytes that have come, or will fill one frame. */
struct database_stream {
    int fd; /* -1: not connected */
    struct buf incoming;
    size_t taken; /* of incoming: frames that were handed out */
};

enum database_next {
    DATABASE_FRAME,
    DATABASE_MORE,  /* no whole frame is there yet */
    DATABASE_BROKEN /* too large */
};

enum database_received {
    DATABASE_BYTES,
    DATABASE_NOTHING, /* within the time-out of the socket */
    DATABASE_ENDED
};

void database_stream_init(struct database_stream *stream);
void database_stream_finish(struct database_stream *stream); /* closes its socket */
/* The payload lives until the next database_stream_receive. */
enum database_next database_stream_next(struct database_stream *stream, uint32_t *ret_type,
                                        struct str *ret_payload);
/* `flags` as of recv. Descriptors that come along are thrown away. */
enum database_received database_stream_receive(struct database_stream *stream, int flags);
bool database_stream_is_empty(const struct database_stream *stream);
/* Gives back what an uncommonly large frame took; only when it is empty. */
void database_stream_trim(struct database_stream *stream);

/* ---- files (engine_database_files.c) ---- */
enum {
    DATABASE_TEMP_FILES_MAX = 10000
};

struct database_files {
    int folder_fd; /* borrowed */
    int temp_fd;   /* borrowed; -1: nothing is spilled */
    char *name;    /* of the main file */
    bool read_only;
    int main_fd;          /* holds the lock */
    bool made;            /* by files_open: it is removed again when nothing was written */
    bool begun;           /* an empty main file is shown as one that is not there, until then */
    char temp_prefix[48]; /* of our files in temp_fd: others may put theirs there too */
    unsigned temp_files;
};

/* Opens and locks the main file; makes it when it is not there. */
bool database_files_open(struct database_files *files,
                         const struct engine_database_options *options, struct cancel *cancel,
                         struct err *err) MUST_CHECK;
/* Removes what was spilled, unlocks. */
void database_files_close(struct database_files *files);

struct database_answer {
    int errno_value; /* 0: done */
    uint64_t value;
    int fd;       /* what is sent along, or -1 */
    bool passing; /* it is closed when it is sent */
    bool refused; /* a name or a change that this database may not have */
};

/* FILE, decoded. */
struct database_question {
    uint32_t id;
    uint32_t operation;
    uint32_t flags;
    struct str name;
    struct str new_name;
};

/* False: the frame is damaged. */
bool database_files_read(struct str payload, struct database_question *ret_question) MUST_CHECK;
void database_files_answer(struct database_files *files, const struct database_question *question,
                           struct database_answer *ret_answer);

/* ---- the process and its slots (engine_database.c, engine_database_slots.c) ---- */
enum {
    DATABASE_EXIT_WAIT_MS = 1000 /* for a process that has closed its sockets to be gone */
};

enum database_phase {
    DATABASE_OPENING,
    DATABASE_SERVING,
    DATABASE_CLOSING, /* what runs may end, nothing new begins */
    DATABASE_GONE     /* the process has ended, or has been sent SIGKILL */
};

struct database_slot {
    uint32_t number;
    struct database_stream stream; /* connected when it is first used */
    struct buf outgoing;
    struct database_slot *next_idle;
};

/* A request that found every slot taken; lives on its thread's stack. */
struct database_waiter {
    struct condition granted;
    struct database_slot *slot;
    struct database_waiter *next;
};

struct engine_database {
    struct engine *engine;
    uint64_t memory_bytes;
    const atomic_llong *close_by_ms; /* may be NULL */
    struct database_files files;     /* after the opening: of thread `database` alone */
    struct database_stream control;
    struct zygote_child child;
    pthread_t thread;
    atomic_bool gone;       /* phase is DATABASE_GONE */
    atomic_ullong requests; /* so far */
    struct lock send_lock;  /* LOCK_SEND: whole frames on the control socket */
    struct lock lock;       /* LOCK_SLOTS: everything below */
    struct condition changed;
    enum database_phase phase;
    bool killed;                    /* by us, */
    bool stuck;                     /* after it had closed its sockets */
    atomic_bool killed_for_request; /* which did not stop; not for what it sent */
    bool over;                      /* thread `database` has seen the end of the process */
    bool reported;                  /* OUTCOME has come: */
    enum err_kind outcome_kind;
    char outcome_message[sizeof(((struct err *)0)->message)];
    bool out_of_memory; /* it died, and large; */
    bool crashed;       /* or of itself */
    struct database_slot slots[WORKER_SLOTS_MAX];
    struct database_slot *idle; /* the last one used first: its memory is warm */
    struct database_waiter *first_waiter;
    struct database_waiter **last_waiter;
    unsigned running;
    unsigned waiting;
};

/* Sends SIGKILL unless somebody has, and ends every request. */
void database_kill(struct engine_database *database, enum engine_kill reason);
/* True when the process ends by itself within wait_ms. */
bool database_wait_exit(const struct engine_database *database, int wait_ms);
/* One frame on the control socket; a worker that does not take it is killed. */
bool database_tell(struct engine_database *database, uint32_t type, struct str payload, int fd,
                   struct err *err) MUST_CHECK;

void database_slots_init(struct engine_database *database, unsigned count);
void database_slots_finish(struct engine_database *database);
/* Under the lock: wakes who waits or runs; all of them find that it is over. */
void database_slots_end(struct engine_database *database) REQUIRES(&database->lock);
