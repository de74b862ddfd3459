/* lake_ship_internal.h - what the files lake_ship*.c share.
 * Threads   struct lake_ship's own lock is LOCK_SHIP, which comes after a table's. */
#pragma once

#include "lake_internal.h"
#include "lake_keys.h"
#include "lake_ship.h"

#include <stdatomic.h>

enum {
    SHIP_THREADS_MAX = 64,
    SHIP_LATE_MAX = 1024
};

#define SHIP_DAY_MS INT64_C(86400000)

/* The object of a cancelled batch that may still turn up. */
struct ship_late {
    char *key;
    int64_t next_ms;
    unsigned tries;
};

/* A key that is being put, in the frame of whoever does. */
struct ship_putting {
    struct str key;
    struct ship_putting *next;
};

struct ship_thread {
    struct lake_ship *ship;
    pthread_t thread;
    struct cancel cancel; /* its deadline is set anew for each piece of work */
};

struct lake_ship {
    struct lake *lake;
    struct ship_thread *threads;
    unsigned threads_count;
    atomic_bool poked;
    atomic_bool full;
    atomic_size_t next_table;     /* the first that is looked at for work */
    atomic_ullong stored_pending; /* STORED records that nobody has waited for */
    struct lock lock;             /* LOCK_SHIP: the rest */
    struct condition wake;
    struct condition trimmed; /* the log of records: there may be room again */
    bool stopping;
    /* Acts on the log of plans that are written and not yet to be seen in the tables, which its
     * prologues are made of: while there are any it is not rotated for trimming. */
    struct condition gate_changed;
    unsigned gate_acts;
    bool gate_shut;
    uint64_t flushes;
    uint64_t failures;
    char last_failure[256];
    struct ship_late late[SHIP_LATE_MAX];
    size_t late_count;
    struct ship_putting *putting;
    /* Uploads that a crash left: one thread at a time. */
    bool sweeping;
    bool sweep_failed;
    int64_t sweep_at_ms;
    /* How fast lines become objects. */
    int64_t drain_start_ms;
    uint64_t drain_bytes;
    uint64_t drain_rate; /* bytes per second; 0: not known yet */
    /* Housekeeping: one thread at a time. */
    bool keeping_house;
    bool house_wanted;
    int64_t house_at_ms;
    uint64_t house_bytes;   /* record_bytes of the log then */
    uint64_t rotated_bytes; /* likewise, when it was rotated last */
    int64_t plans_trimmed_ms;
    int64_t house_kept_ms;
    /* What is old in the store: likewise. */
    bool cleaning;
    int64_t cleaned_ms;
};

/* ---- lake_ship.c ---- */

void ship_gate_enter(struct lake_ship *ship);
void ship_gate_leave(struct lake_ship *ship);
/* A plan went well: bytes of lines. */
void ship_note_done(struct lake_ship *ship, uint64_t bytes);
void ship_note_drained(struct lake_ship *ship, uint64_t bytes);
/* Whoever set table->flushing is done. */
void ship_end_flush(struct lake_table *table);
/* The table's own settings, or the server's. With the table's lock held. */
struct ship_limits {
    uint64_t bytes;
    uint64_t rows;
    int64_t age_ms;
};
struct ship_limits ship_limits_of(const struct lake *lake, const struct lake_schema *schema);

/* ---- lake_ship_threads.c ---- */

bool ship_is_stopping(struct lake_ship *ship);
/* The log is half full, or has no room: its records have to go, whoever else wants something. */
bool ship_is_pressed(const struct lake *lake);

/* ---- lake_ship_pause.c ---- */

/* After a failure of the table's plan or batch: when to try again; and after success. No lock
 * held. */
void ship_pause(struct lake_ship *ship, struct lake_table *table, const struct err *err);
void ship_resume(struct lake_table *table);
/* Whether it has failed often enough to be given up where the operator wants that. */
bool ship_is_stuck(struct lake_table *table);
/* Tables whose flush fails again and again for another reason than the store; what of the first. */
void ship_count_stuck(struct lake *lake, struct lake_backlog *into);

/* ---- lake_ship_plan.c ---- */

/* One plan: the one that the table has, or one for the rows up to `upto`; UINT64_MAX: all, and
 * nobody waits for it. The caller has set table->flushing. `ret_rows` 0: there was nothing to
 * do. */
bool ship_run_plan(struct lake *lake, struct lake_table *table, const struct lake_date *date,
                   uint64_t upto, struct cancel *cancel, struct lake_flushed *flushed,
                   uint64_t *ret_rows, struct err *err) MUST_CHECK;

/* ---- lake_ship_object.c ---- */

/* One window as an object under `key`. */
struct ship_object {
    struct str key;
    const struct lake_schema *schema;
    const struct lake_lines *lines;
    const struct lake_window *window;
    struct str table;
    uint64_t first; /* positions */
    uint64_t last;
    bool again; /* an earlier attempt may have stored it: look before the file is written */
};
/* How far it got. */
struct ship_attempt {
    bool put;        /* the store was asked to take it: it may be there, now or later */
    bool unwritable; /* no worker could make a file of the lines */
};
/* Also true when the object was there already and is this one. ERR_UNCERTAIN: nobody could say. */
bool ship_put_object(struct lake *lake, const struct ship_object *object, struct cancel *cancel,
                     struct ship_attempt *ret_attempt, struct err *err) MUST_CHECK;

/* The operator's way out (EIDER_FLUSH_SET_ASIDE) for lines that no worker can write: they go as
 * they are to <prefix>_eider/set_aside/<table>/<the object's name>.ndjson, which is no part of the
 * table, the schema that they follow beside them (.schema.json). ret_key: where they are. */
bool ship_set_aside(struct lake *lake, const struct ship_object *object, struct cancel *cancel,
                    struct buf *ret_key, struct err *err) MUST_CHECK;

/* ---- lake_ship_batch.c ---- */

/* A batch that nobody owns is stored; false only with err. */
bool ship_store_left(struct lake *lake, struct lake_table *table, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
void ship_delete_late(struct lake_ship *ship, struct cancel *cancel);
int64_t ship_next_late_ms(struct lake_ship *ship);

/* ---- lake_ship_house.c ---- */

/* Rotates and trims the logs, applies retention, deletes old manifests: what of that is due. */
void ship_keep_house(struct lake_ship *ship, struct cancel *cancel);
/* Whether there is anything, and when it will be at the latest. Not within `pause_ms` after the
 * last time. */
bool ship_house_is_due(struct lake_ship *ship, int64_t now_ms, int64_t pause_ms,
                       int64_t *ret_next_ms);

/* ---- lake_ship_uploads.c ---- */

/* Around each put of an object: its uploads are not swept meanwhile. */
void ship_begin_put(struct lake_ship *ship, struct ship_putting *putting, struct str key);
void ship_end_put(struct lake_ship *ship, const struct ship_putting *putting);
/* Within these two, before another attempt: what an earlier one left. */
void ship_abort_earlier(struct lake_ship *ship, struct str key);
/* Aborts this writer's uploads that nobody goes on with: at the start, and then each hour. */
void ship_sweep_uploads(struct lake_ship *ship, struct cancel *cancel);
bool ship_sweep_is_due(struct lake_ship *ship, int64_t now_ms, int64_t *ret_next_ms);
