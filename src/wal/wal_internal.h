/* wal_internal.h - what the files of this folder share. */
#pragma once

#include "thread.h"
#include "wal.h"
#include "wal_format.h"
#include "wal_io.h"

enum {
    WAL_NAME_SIZE = 32,
    WAL_HEARTBEAT_AFTER_MS = 500, /* without traffic */
    WAL_TRY_AGAIN_MS = 1000,      /* for room on the disk */
    WAL_RESERVE_MAX = 4 << 20,    /* kept for urgent records when no next segment can be had */
    WAL_SEGMENT_BYTES_MIN = 8192  /* tests use small ones */
};

#define WAL_SEGMENT_BYTES_MAX (UINT64_C(1) << 31)

/* ---- a segment ---- */

enum {
    WAL_SPARES_MAX = 4
};

/* One that is on disk under its own name. */
struct wal_segment {
    uint64_t number;
    uint64_t first; /* sequences; of the records in it */
    uint64_t
        last_user; /* the last record that is not the log's own; first - 1 when there is none */
    uint64_t bytes;
};

/* One that is open for writing; thread `log` only. */
struct wal_file {
    int fd; /* -1: there is none */
    uint64_t number;
    uint64_t salt;
    uint64_t bytes; /* reserved */
    uint64_t used;
    uint64_t zeroed; /* up to here, blocks have been written before: see wal_write.c */
    bool forced;     /* made although the limits said no, for urgent records */
    bool again;      /* behind `used` there is what it held before */
};

/* What ends the records of a segment whose file was used before: no record begins like this. */
extern const char wal_end[WAL_RECORD_HEADER_SIZE];

void wal_segment_name(uint64_t number, char name[static WAL_NAME_SIZE]);
bool wal_segment_number(const char *name, uint64_t *ret_number);

/* A file without a name yet, with its blocks. 0 or a negative errno; then nothing is left of it. */
int wal_segment_prepare(const struct wal_folder *folder, uint64_t bytes, struct wal_file *ret_file);
/* The same, of a segment that was made a spare one. */
int wal_segment_reuse(const struct wal_folder *folder, uint64_t number, uint64_t bytes,
                      struct wal_file *ret_file);
/* Takes a segment's name, so that it is none any more; the folder has to be synced before it may be
 * reused. */
int wal_segment_spare(const struct wal_folder *folder, uint64_t number);
int wal_segment_remove_spare(const struct wal_folder *folder, uint64_t number);
/* Writes the header and syncs what was written so far, then gives the name. `header`: number,
 * previous, first, replaces are set. The file's `used` is that of the caller, who may have put
 * records behind the header. */
int wal_segment_publish(struct wal *wal, struct wal_file *file, struct wal_segment_header *header);
int wal_segment_remove(const struct wal_folder *folder, uint64_t number);
/* -ENOSPC and the like: may pass, and nothing is broken. */
bool wal_code_is_room(int code);

/* ---- records on their way ---- */

enum {
    WAL_PIECES = 2
};

struct wal_entry {
    struct wal_entry *next;
    struct wal_record record;
    struct buf pieces[WAL_PIECES]; /* of the payload, the last ones may be empty */
    uint32_t payload_crc;
    struct wal_place place;
};

void wal_entry_free(struct wal_entry *entry);
size_t wal_entry_payload_size(const struct wal_entry *entry);
uint64_t wal_entry_size(const struct wal_entry *entry);

/* Calls `done` and frees: of one, or of a list. Without err they are durable. */
void wal_tell(struct wal_entry *entry, const struct err *err);
void wal_tell_all(struct wal_entry *first, const struct err *err);

enum {
    WAL_GATHER_PARTS = 1000, /* under IOV_MAX */
    WAL_GATHER_BYTES = 256 << 10,
    WAL_COPY_MAX = 4096 /* payloads up to this are copied together, larger ones written from where
                           they are */
};

/* Pieces that are written with one call. */
struct wal_gather {
    int count;
    size_t staged;
    uint64_t bytes;
    struct iovec parts[WAL_GATHER_PARTS];
    char stage[WAL_GATHER_BYTES];
};

/* ---- the log ---- */

struct wal {
    struct wal_options options;
    char *folder_path;
    struct wal_folder folder;
    int lock_fd;
    struct wal_identity identity;
    char writer[2 * WAL_WRITER_SIZE + 1];
    uint64_t reserve_bytes;
    pthread_t thread;
    atomic_bool full;

    struct lock lock;
    struct condition wake;    /* thread log: there is something to do */
    struct condition trimmed; /* whoever waits to trim */
    /* GUARDED_BY(lock) */
    struct wal_entry *queue;
    struct wal_entry **queue_end;
    uint64_t queue_count;  /* records in it */
    uint64_t queued_bytes; /* of records, until they are durable */
    uint64_t room_bytes;   /* of records that may be queued, UINT64_MAX: as many as one likes */
    uint64_t wake_count;   /* thread log sleeps until the queue has so many; 0: it does not sleep */
    bool closing;
    bool wants_rotation;
    bool may_have_room; /* since the last attempt */
    bool trimming;
    bool broken;
    struct err broken_err;
    struct wal_segment *segments; /* oldest first; the last is the one in use */
    size_t segments_count;
    size_t segments_capacity;
    uint64_t segments_bytes;
    /* Trimmed ones that the log writes again, by the numbers they had; each of the usual size. */
    uint64_t spares[WAL_SPARES_MAX];
    size_t spares_count;

    /* thread log only */
    struct wal_file current;
    struct wal_file ahead; /* prepared; fd -1: not yet */
    uint64_t sequence;     /* of the next record */
    uint64_t durable;      /* the last sequence that is synced */
    uint64_t vouched;      /* the last that a later record's `durable` vouches for */
    uint64_t last_count;   /* records of the turn before this one */
    int64_t heartbeat_at_ms;
    int64_t try_again_at_ms;
    bool refused; /* the last attempt at preparing a segment found no room */
    bool rotation_failed;
    /* An urgent record was refused: later ones may need it, so all are, until a new segment begins
     * with a prologue that says what it said. */
    bool stuck;
    struct wal_gather *gather;

    struct wal_counts counts;
};

/* Sets the error that all get from now on, unless there is one. False. */
bool wal_break(struct wal *wal, int code, const char *what, uint64_t segment, struct err *err);
bool wal_error(int code, const char *what, uint64_t segment, struct err *err);
bool wal_is_broken(struct wal *wal);

/* The list of segments; the lock is held. */
void wal_segments_add(struct wal *wal, struct wal_segment segment);

/* Begins the segment after the current one, or the first: `header` as for wal_segment_publish, but
 * for the sequence of the prologue, which is written with it. The file must be large enough. */
bool wal_segment_begin(struct wal *wal, struct wal_file *file, struct wal_segment_header *header,
                       struct str prologue, struct err *err) MUST_CHECK;
uint64_t wal_prologue_bytes(struct str prologue, const struct wal *wal);
void wal_prologue(struct wal *wal, struct buf *into);

/* ---- thread log ---- */

/* Records that are synced together. */
struct wal_group {
    struct wal_entry *first;
    struct wal_entry **end;
    uint64_t records;
    uint64_t bytes;
    uint64_t queued_bytes; /* those of them that were counted in the queue */
    uint64_t last_user;    /* 0: none */
};

/* Places a record, which fits; it may be written at once, or by wal_group_finish. */
bool wal_group_add(struct wal *wal, struct wal_group *group, struct wal_entry *entry_take,
                   struct err *err) MUST_CHECK;
/* Writes, syncs, and only then tells. On failure, when the log is broken, the records stay in the
 * group. */
bool wal_group_finish(struct wal *wal, struct wal_group *group, struct err *err) MUST_CHECK;

/* Whether a record goes into the current segment. Heartbeats always find room. */
bool wal_fits(const struct wal *wal, const struct wal_entry *entry);
/* The next segment becomes the current one, with room for a record of `record_bytes`. `forced`: the
 * limits do not count. ERR_BUSY: there is no room; anything else: the log is broken. */
bool wal_begin_next(struct wal *wal, uint64_t record_bytes, bool forced,
                    struct err *err) MUST_CHECK;
/* Removes the spare segments. */
void wal_drop_spares(struct wal *wal);
/* Prepares the next segment when it is time to; where there was no room, tries again. */
void wal_keep_room(struct wal *wal);
/* How much may be queued now; the lock is held. */
void wal_set_room(struct wal *wal);
/* Records that were queued are written, or never will be. */
void wal_leave_queue(struct wal *wal, uint64_t bytes);

void *wal_run(void *argument);

/* ---- identity ---- */

bool wal_identity_load(const struct wal_folder *folder, struct wal_identity *ret_identity,
                       bool *ret_found, struct err *err) MUST_CHECK;
/* Makes one when there is none, and counts the epoch. */
bool wal_identity_renew(struct wal *wal, bool has_segments, struct err *err) MUST_CHECK;

/* ---- reading a folder ---- */

/* Replays, and leaves the log ready to be written. Its folder is locked. */
bool wal_recover(struct wal *wal, struct err *err) MUST_CHECK;

struct wal_scanned {
    struct wal_segment_header header;
    bool replaced; /* by another one that is there */
};

struct wal_scan {
    const struct wal_folder *folder;
    struct wal_scanned *segments; /* by number */
    size_t count;
    bool unfinished;  /* there are *.new */
    struct buf bytes; /* of the segment that is read, as far as they are not zeros */
};

struct wal_scan_end {
    uint64_t last;      /* sequence of the last record; first - 1 when there is none */
    uint64_t last_user; /* the same of records that are not the log's own */
    uint64_t highest;   /* also of records that were cut off */
    uint64_t offset;    /* where they end */
    uint64_t torn;      /* records cut off */
};

typedef bool wal_scan_fn(void *context, const struct wal_place *place,
                         const struct wal_record_header *header, struct str payload,
                         struct err *err);

/* Lists the segments, reads their headers, and checks that none is missing. wal_scan_finish also
 * after a failure. */
bool wal_scan_init(struct wal_scan *scan, const struct wal_folder *folder,
                   const struct wal_identity *identity, struct err *err) MUST_CHECK;
void wal_scan_finish(struct wal_scan *scan);
/* Every byte of one segment; those of the last one stay in scan->bytes. */
bool wal_scan_segment(struct wal_scan *scan, size_t index, wal_scan_fn *each, void *context,
                      struct wal_scan_end *ret_end, struct err *err) MUST_CHECK;
/* The one in use after this one, or scan->count. */
size_t wal_scan_next(const struct wal_scan *scan, size_t index);
