/* wal.h - a durable log: records in, in one order, and back after any crash.
 * Promise   `done` of a record runs with a place only after fdatasync has answered 0 for all of its
 *           bytes, and its segment's name is on disk: from then on no crash loses the record. Every
 *           record whose `done` had a place is replayed by the next wal_open, whole, in order,
 *           once, until it is trimmed. A record without one is replayed whole or not at all. Bytes
 *           that were acknowledged and cannot be read any more are never passed over: wal_open
 *           refuses (ERR_CORRUPT) and names segment and offset.
 * Not here  what a payload means, who answers clients.
 * Owner     struct server owns the lake, which owns two logs: records and plans. One process per
 *           folder (a lock in it).   Threads  wal_append from any thread, it does not wait for the
 *           disk; `log` alone writes, syncs, rotates, and runs `done` and `prologue`. wal_reader
 *           and wal_trim from any thread.
 * Errors    ERR_BUSY (queue_bytes_max, bytes_max or the disk is full: try later, nothing is wrong),
 *           ERR_CORRUPT (wal_open, wal_reader_get), ERR_UNAVAILABLE (folder cannot be used; or the
 *           log is broken). A failing write, sync or rename of the log breaks it for good: every
 *           waiting and later record fails, `broken` is called once, and the process has to end.
 * Limits    payload 32 MiB; a segment holds at least one record. Where many write at once, a sync
 *           waits up to 1 ms for records that are on their way.
 * Format    wal_format.h: good enough to write a second reader from. */
#pragma once

#include "buf.h"
#include "err.h"
#include "metric.h"

struct wal;
struct wal_io;

enum {
    WAL_PAYLOAD_SIZE_MAX = 32 << 20,
    WAL_WRITER_SIZE = 16,  /* bytes of the writer's identity, random, made once per folder */
    WAL_TYPE_PROLOGUE = 1, /* the first record of each segment */
    WAL_TYPE_FIRST = 16    /* of the caller; smaller ones are the log's own */
};

/* Where a record is. Sequence numbers begin with 1 and go up by one per record, those of the log's
 * own records included; they are never used again, also after a crash: a record that was not
 * acknowledged may leave a gap. */
struct wal_place {
    uint64_t sequence;
    uint64_t segment;
    uint32_t offset; /* of the payload in the segment's file */
    uint32_t size;   /* of the payload */
};

struct wal_options {
    const char *folder;       /* created when it is missing */
    uint64_t segment_bytes;   /* of one file: 64 MiB; at least 1 MiB but in tests */
    uint64_t queue_bytes_max; /* appended and not yet durable */
    uint64_t bytes_max;       /* of all segments together; 0: no limit */
    uint64_t disk_free_min;   /* bytes of the file system that a new segment has to leave free */
    const struct wal_io *io;  /* NULL: the disk (wal_io.h; tests have one that crashes) */
    void *context;
    /* The payload of the record that each new segment begins with, on thread `log` (and in
     * wal_open, after the last replay). May be NULL: then there is none. Everything that records of
     * this segment need of earlier ones belongs in it. Must not call wal_append. */
    void (*prologue)(void *context, struct buf *into);
    /* Each record that is still there, in order, prologues (WAL_TYPE_PROLOGUE) included; heartbeats
     * are not shown. False, with err, ends wal_open. */
    bool (*replay)(void *context, const struct wal_place *place, unsigned type, struct str payload,
                   struct err *err);
    /* The log cannot be written any more. On thread `log`, once, after every waiting `done` has
     * been told. NULL: nothing happens. */
    void (*broken)(void *context, const struct err *err);
};

/* Locks the folder, checks every byte of every segment, replays, and moves what is left of the last
 * segment to a new one (after a failed sync the pages of the old one cannot be trusted). */
struct wal *wal_open(const struct wal_options *options, struct err *err);
/* Writes and syncs what is queued, then closes. Accepts NULL. */
void wal_close(struct wal *wal);

/* `place` is NULL when the record is not durable and never will be; err then says why. Runs on
 * thread `log`, in the order of the records: must be short and must not wait. */
typedef void wal_done_fn(void *context, const struct wal_place *place, const struct err *err);

struct wal_record {
    unsigned type;     /* WAL_TYPE_FIRST..255 */
    bool urgent;       /* goes in though bytes_max is reached: what helps to make room */
    wal_done_fn *done; /* may be NULL; ERR_BUSY means: no room after all, and nothing is broken */
    void *context;
};

/* Whether a payload of this size would be queued now. */
bool wal_has_room(struct wal *wal, uint64_t payload_bytes);
/* Queues a record; takes the payload's bytes (the buffer is empty afterwards), also on failure.
 * Records are written in the order of the calls. On false `done` is not called. */
bool wal_append(struct wal *wal, const struct wal_record *record, struct buf *payload_take,
                struct err *err) MUST_CHECK;
/* The same of a payload in two pieces, one behind the other. */
bool wal_append_pieces(struct wal *wal, const struct wal_record *record, struct buf *first_take,
                       struct buf *rest_take, struct err *err) MUST_CHECK;
/* As wal_append, and waits until it is durable; `done` is not used. */
bool wal_append_wait(struct wal *wal, const struct wal_record *record, struct buf *payload_take,
                     struct wal_place *ret_place, struct err *err) MUST_CHECK;

/* No record before `sequence` is needed any more: removes the segments that hold only such, and
 * syncs the folder; the files of some are kept, without their names, to become segments again. The
 * newest segment always stays. */
bool wal_trim(struct wal *wal, uint64_t sequence, struct err *err) MUST_CHECK;
/* The first sequence that may still be there. Any thread. */
uint64_t wal_first(struct wal *wal);
/* Begins a new segment now, so that the one in use can be trimmed later. Does not wait. */
void wal_rotate(struct wal *wal);

/* The writer's identity, as 32 hex digits and a NUL; how often this folder was opened. */
const char *wal_writer(const struct wal *wal);
uint64_t wal_epoch(const struct wal *wal);

/* Whether records are refused for lack of room, or soon will be. Cheap. */
bool wal_is_full(const struct wal *wal);

struct wal_counts {
    struct metric_gauge bytes; /* of all segments */
    struct metric_gauge segments;
    struct metric_gauge queued_bytes;
    struct metric_counter records;
    struct metric_counter record_bytes;
    struct metric_counter syncs;
    struct metric_histogram sync_time;
    struct metric_counter torn_tails; /* records cut off at the end when the log was opened */
};
const struct wal_counts *wal_counts(const struct wal *wal);

/* ---- reading records again ---- */

/* Reads payloads by their place, checking their CRC once more. Places in ascending order are read
 * with few calls. A segment that was trimmed is ERR_CORRUPT: whoever reads keeps trimming away. */
struct wal_reader;
struct wal_reader *wal_reader_open(struct wal *wal);
void wal_reader_close(struct wal_reader *reader);
/* ret_payload lives until the next call. */
bool wal_reader_get(struct wal_reader *reader, const struct wal_place *place,
                    struct str *ret_payload, struct err *err) MUST_CHECK;

/* ---- for people: `eider log inspect DIR` and `eider log verify DIR` ---- */

/* Works on a folder that no server uses, or a copy of one; changes nothing. `write` gets lines of
 * text. wal_verify checks every byte, as wal_open would, and answers false with ERR_CORRUPT that
 * names the place. `describe` appends what a payload means to a line (heartbeats have none); may
 * be NULL. */
struct wal_print {
    void (*write)(void *context, struct str line);
    void (*describe)(void *context, unsigned type, struct str payload, struct buf *into);
    void *context;
};
bool wal_inspect(const char *folder, const struct wal_print *print, struct err *err) MUST_CHECK;
bool wal_verify(const char *folder, const struct wal_print *print, struct err *err) MUST_CHECK;
