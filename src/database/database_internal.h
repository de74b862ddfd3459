/* database_internal.h - what the files of this folder share. */
#pragma once

#include "clock_doubt.h"
#include "database.h"
#include "map.h"
#include "thread.h"

#include <stdatomic.h>

enum database_phase {
    PHASE_CLOSED,
    PHASE_OPENING,
    PHASE_OPEN,
    PHASE_CLOSING,
    PHASE_ALONE /* one caller has the files to itself: drop, restore */
};

enum {
    FILE_NAME_SIZE = 256,
    DATABASE_WAIT_STEP_MS = 50,  /* between looks at a cancel that was raised */
    DATABASE_RESTORE_DIGITS = 16 /* of a restore's file on its way */
};

/* In a name, before the time: what was set aside because it is damaged, and what a restore is about
 * to replace. */
#define DATABASE_ASIDE_INFIX ".quarantine-"
#define DATABASE_REPLACED_INFIX ".replaced-"
#define DATABASE_TRASH_PREFIX ".trash-"
#define DATABASE_RESTORE_PREFIX ".restore-"

/* What a user comes for. */
enum database_use {
    USE_READ,
    USE_WRITE, /* one at a time */
    USE_PROBE  /* a moment: there is a place for one when all others are taken */
};

/* A request that is not in yet; lives on its thread's stack. */
struct database_waiter {
    struct condition turn;
    enum database_use use;
    uint64_t opening; /* which one it has begun; 0: none */
    struct database_waiter *next;
};

struct database {
    struct databases *owner;
    char name[DATABASE_NAME_SIZE];
    bool is_default;                /* it may always be made */
    char *path;                     /* of the main file, for people */
    char *folder;                   /* it is in; */
    char file_name[FILE_NAME_SIZE]; /* its name there */
    int folder_fd;                  /* -1 until database_reach; */
    int temp_fd;                    /* likewise, for what is spilled */
    struct breaker *breaker;
    struct timings *timings;
    /* under the owner's lock */
    bool there;      /* it has a file, or may get one when it is opened */
    bool anew;       /* the next opening makes a file where there is none */
    bool opens_anew; /* PHASE_OPENING: this one does; its thread reads it without the lock */
    enum database_phase phase;
    uint64_t openings;              /* that were begun */
    struct cancel patience;         /* PHASE_OPENING: of the thread that opens it */
    struct engine_database *engine; /* PHASE_OPEN and PHASE_CLOSING */
    uint64_t granted_bytes;
    unsigned users;                       /* requests that run in it */
    unsigned waiting;                     /* requests that wait for it: */
    struct database_waiter *first_waiter; /* who came first is served first */
    struct database_waiter **last_waiter;
    unsigned alone_wanted; /* callers that wait until it has no users: nobody else is let in */
    bool writing;          /* one of the users may change something */
    uint64_t version;
    int64_t used_ms;          /* when its last user left */
    unsigned failed_openings; /* in a row, whatever the reason; */
    unsigned deaths;          /* those that ended with a crash, and with nothing else in between */
    int64_t retry_open_ms;    /* not before; 0: at once */
    bool aside;               /* the last opening found it damaged, or set aside already */
    struct err open_err;      /* of the last opening that failed */
    struct database *next;
};

struct databases {
    struct databases_options options;
    struct lock lock;         /* LOCK_DATABASES: everything below, and most of each database */
    struct condition changed; /* who waits for files alone, or for room, may look again */
    struct condition keep;    /* the keeper may look again */
    struct map by_name;
    struct database *first;
    unsigned count;
    unsigned open_count; /* opening and closing ones among them */
    uint64_t granted_bytes;
    uint64_t next_version;
    bool stopping;
    char default_alias[DATABASE_NAME_SIZE]; /* that its file would have in options.folder */
    char *default_folder;                   /* of options.default_path; NULL: in options.folder */
    atomic_llong close_by_ms;               /* for every closing; the end of the server lowers it */
    struct clock_doubt clock;               /* of the keeper: what it deletes is gone */
    pthread_t keeper;
};

/* ---- which there are (database_catalog.c): without the lock ---- */
/* The database of that name; NULL with ERR_INVALID or ERR_NOT_FOUND. A name that is new is looked
 * for on disk. "default" is always there. */
struct database *database_find(struct databases *databases, struct str name, struct err *err);
void database_destroy(struct database *database);
/* Before the others: what options.default_path is. */
void databases_find_default(struct databases *databases);
/* The name it is known by: "default" for no name, and for the name of its file. */
struct str database_own_name(const struct databases *databases, struct str name);
/* Opens the folders that its files are in. */
bool database_reach(struct database *database, struct err *err) MUST_CHECK;

/* ---- its files (database_files.c): the folder is open ---- */
bool database_has_file(const struct database *database);
/* One that is not empty, whichever of the engine's names it has. */
bool database_has_log(const struct database *database);
/* It was being made when the process or the machine died: nothing was ever committed to it. */
bool database_is_half_made(const struct database *database);
/* There is no file, but one that was set aside; one that a restore was about to replace counts as
 * there. */
bool database_is_quarantined(const struct database *database);
/* After a crash between two renames: what a restore was about to replace comes back, or goes to the
 * trash when it was replaced; a file that was set aside alone comes back to its log. */
bool database_mend_renames(const struct database *database, struct err *err) MUST_CHECK;
/* Synced renames of the main file, where there is one, and its logs. */
bool database_set_aside(const struct database *database, struct err *err) MUST_CHECK;
bool database_to_trash(const struct database *database, struct err *err) MUST_CHECK;
/* `new_name`, in the same folder, takes the place of the main file, which is in the trash then,
 * with its logs. All three: ERR_CONFLICT while another process has the file open. */
bool database_replace(const struct database *database, const char *new_name,
                      struct err *err) MUST_CHECK;

/* ---- what is removed some day (database_trash.c) ---- */
int databases_open_trash(const struct databases *databases, struct err *err); /* or -1 */
void databases_init_clock(struct databases *databases);
/* Of the trash folder, and what is kept beside a database, if the clock may be believed. */
void databases_empty_trash(struct databases *databases);
/* Of restores that a crash has ended; before there are any. */
void databases_remove_half_restored(const struct databases *databases);

/* ---- open and closed (database_open.c): with the lock, which is let go of meanwhile ---- */
/* Lets the caller in as a user, and opens the database when it has to be. */
bool database_enter(struct database *database, enum database_use use, struct cancel *cancel,
                    int64_t *ret_retry_ms, struct err *err) MUST_CHECK;
void database_leave(struct database *database, enum database_use use);
/* Tells the one who waits whose turn it is by now, after something has changed. */
void database_wake(struct database *database);
/* The database is closed, and nobody opens it until database_leave_alone. */
bool database_enter_alone(struct database *database, struct cancel *cancel,
                          struct err *err) MUST_CHECK;
void database_leave_alone(struct database *database);
/* Closes what nobody uses and is dead, or had its last user idle_ms ago. */
void databases_close_idle(struct databases *databases, int64_t idle_ms);
void databases_close_all(struct databases *databases, int64_t deadline_ms);
