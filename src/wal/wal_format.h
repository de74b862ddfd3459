/* wal_format.h - the bytes of a log on disk. Enough to write a second reader from.
 *
 * All numbers are little endian, all CRCs CRC-32C (Castagnoli; initial value and final xor all
 * ones, as in iSCSI). "CRC of A, B" is the CRC of the bytes of A followed by those of B.
 *
 * THE FOLDER holds
 *
 *   lock                       empty; the process that uses the folder holds flock(LOCK_EX) on it
 *   identity                   who writes here, 48 bytes, see below
 *   00000000000000000007.wal   a segment; the name is its number in 20 decimal digits
 *   *.new                      unfinished or no longer needed, of no meaning; removed by the next
 *                              start
 *
 * Every file gets its final name by rename after its bytes were synced, and the folder is synced
 * after that. Segments are removed oldest first, and the folder is synced after each.
 *
 * THE IDENTITY
 *
 *   offset size
 *        0    8  "EIDERWID"
 *        8    4  format version, 1
 *       12    4  zero
 *       16   16  the writer: random bytes, made with the folder, never changed
 *       32    8  epoch: how often the folder was opened; written anew by each start
 *       40    4  zero
 *       44    4  CRC of bytes 0..43
 *
 * A SEGMENT is a header of 4,096 bytes, then records without a gap between them, then bytes that
 * nobody promised anything about: zeros, what a crash left of records that were never acknowledged,
 * or what the file held when it was an earlier segment (then the next 40 bytes are zeros, where
 * there is room for them). The file was given its whole size before it got its name.
 *
 *   offset size
 *        0    8  "EIDERWAL"
 *        8    4  format version, 1
 *       12    4  size of this header, 4096
 *       16   16  the writer, as in the identity
 *       32    8  epoch of the process that began the segment
 *       40    8  number of the segment, as in its name
 *       48    8  replaces: all segments from this number on, below the own one, are replaced by
 *                this one, and are ignored when they are still there. The own number: none is.
 *       56    8  previous: sequence of the last record before this segment; 0 when there is none
 *       64    8  first: sequence of the first record in this segment; greater than previous
 *       72    8  salt: random
 *       80    8  when it was begun, milliseconds since 1970 UTC; for people only
 *       88    8  size of the file in bytes, this header included; the file is not shorter
 *       96 3996  zeros
 *     4092    4  CRC of bytes 0..4091
 *
 * A segment is in use when its name is there, it is not replaced by another one that is there, and
 * its header is valid: CRC, writer, number. A header that is not valid is damage, always: the name
 * was given after the header was synced. Numbers of the segments in use go up without a gap, where
 * a segment stands for those that it replaces too. In each of them the records have the sequences
 * first, first + 1, ... and end with the next segment's `previous`; in the last one they end where
 * the first record is not valid (see below). Between `previous` and `first` of a header sequences
 * may be missing: those were given to records that a crash left without acknowledgement.
 *
 * A RECORD begins at a multiple of 8, with a header of 40 bytes, then the payload, then zeros up to
 * the next multiple of 8.
 *
 *   offset size
 *        0    2  0xe1d6
 *        2    1  type: 1 prologue, 2 heartbeat (empty, see below), 16..255 of the user
 *        3    1  flags, zero
 *        4    2  size of this header, 40
 *        6    2  zero
 *        8    8  sequence
 *       16    8  durable: every record up to this sequence was known to be on stable storage when
 *                this one was written; less than the own sequence
 *       24    4  size of the payload, at most 32 MiB
 *       28    4  zero
 *       32    4  CRC of the segment's salt (its 8 bytes), bytes 0..31
 *       36    4  CRC of the payload, the salt, bytes 0..35
 *
 * VALID is a record when all of this holds: it lies within the file; its magic number, header size,
 * zeros, and both CRCs are right; durable is less than sequence; the size is within the limit; the
 * bytes behind the payload are zeros. (The first CRC is there so that a size can be believed before
 * the payload is read; the salt so that bytes of another segment, or of a payload that looks like a
 * record, are none.) It is the record that is looked for when its sequence is the expected one too.
 *
 * TORN OR DAMAGED. In the last segment, at the first place that does not hold the valid record with
 * the expected sequence b: if at any multiple of 8 after it there is a record header (all that
 * concerns bytes 0..35) whose `durable` is b or more, then b was acknowledged, and the segment is
 * damaged. Otherwise what follows was never acknowledged, and the log ends before b. In every other
 * segment such a place is damage.
 * The heartbeat, written within a second after the last traffic and at the end, is there for its
 * `durable`: it tells damage of the records before it from a torn end. */
#pragma once

#include "err.h"
#include "str.h"
#include "wal.h"

#define WAL_IDENTITY_MAGIC "EIDERWID"
#define WAL_SEGMENT_MAGIC "EIDERWAL"

enum {
    WAL_FORMAT_VERSION = 1,
    WAL_SEGMENT_HEADER_SIZE = 4096,
    WAL_RECORD_HEADER_SIZE = 40,
    WAL_RECORD_ALIGN = 8,
    WAL_RECORD_MAGIC = 0xe1d6,
    WAL_TYPE_HEARTBEAT = 2
};

struct wal_identity {
    char magic[8];
    uint32_t version;
    uint32_t zero;
    unsigned char writer[WAL_WRITER_SIZE];
    uint64_t epoch;
    uint32_t zero_too;
    uint32_t crc;
};

struct wal_segment_header {
    char magic[8];
    uint32_t version;
    uint32_t header_size;
    unsigned char writer[WAL_WRITER_SIZE];
    uint64_t epoch;
    uint64_t number;
    uint64_t replaces;
    uint64_t previous;
    uint64_t first;
    uint64_t salt;
    int64_t begun_ms;
    uint64_t file_bytes;
    unsigned char zeros[WAL_SEGMENT_HEADER_SIZE - 100];
    uint32_t crc;
};

struct wal_record_header {
    uint16_t magic;
    uint8_t type;
    uint8_t flags;
    uint16_t header_size;
    uint16_t zero;
    uint64_t sequence;
    uint64_t durable;
    uint32_t payload_size;
    uint32_t zero_too;
    uint32_t header_crc;
    uint32_t crc;
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structs are the bytes on disk");
static_assert(sizeof(struct wal_identity) == 48, "format");
static_assert(offsetof(struct wal_identity, epoch) == 32, "format");
static_assert(offsetof(struct wal_identity, crc) == 44, "format");
static_assert(sizeof(struct wal_segment_header) == WAL_SEGMENT_HEADER_SIZE, "format");
static_assert(offsetof(struct wal_segment_header, writer) == 16, "format");
static_assert(offsetof(struct wal_segment_header, salt) == 72, "format");
static_assert(offsetof(struct wal_segment_header, zeros) == 96, "format");
static_assert(offsetof(struct wal_segment_header, crc) == 4092, "format");
static_assert(sizeof(struct wal_record_header) == WAL_RECORD_HEADER_SIZE, "format");
static_assert(offsetof(struct wal_record_header, durable) == 16, "format");
static_assert(offsetof(struct wal_record_header, header_crc) == 32, "format");
static_assert(offsetof(struct wal_record_header, crc) == 36, "format");

/* Bytes that a record with this payload takes in a segment. */
static inline uint64_t wal_record_size(uint64_t payload_size)
{
    uint64_t size = WAL_RECORD_HEADER_SIZE + payload_size;
    return (size + WAL_RECORD_ALIGN - 1) / WAL_RECORD_ALIGN * WAL_RECORD_ALIGN;
}

void wal_identity_seal(struct wal_identity *identity);
bool wal_identity_read(struct str bytes, struct wal_identity *ret_identity,
                       struct err *err) MUST_CHECK;

void wal_segment_header_seal(struct wal_segment_header *header);
/* False when it is not valid; that the writer and the number fit is for the caller to see. */
bool wal_segment_header_read(struct str bytes, struct wal_segment_header *ret_header);

/* type, sequence, durable and payload_size are set; the rest is filled in. payload_crc is that of
 * the payload's bytes alone. */
void wal_record_seal(struct wal_record_header *header, uint64_t salt, uint32_t payload_crc);
/* The header of a record at the beginning of `bytes`, but for what concerns the payload's bytes.
 * True: payload_size can be believed. */
bool wal_record_read_header(struct str bytes, uint64_t salt, struct wal_record_header *ret_header);
/* The valid record at the beginning of `bytes`, which may go on after it. */
bool wal_record_read(struct str bytes, uint64_t salt, struct wal_record_header *ret_header,
                     struct str *ret_payload);
