/* store_cache_internal.h - what the files of the object cache share: the objects in memory, and the
 * format of their files.
 *
 * One sparse file per object, named by 64 hexadecimal digits: the SHA-256 of endpoint, bucket, key
 * and ETag. Numbers are in the machine's own byte order, which the magic number gives away.
 *
 *   0        header    struct cache_header, 4096 bytes with zeros behind it
 *   4096     records   one u64 per block: CRC-32C in the low half; in the high half the inverted
 *                      CRC xor the block's number. 0, or anything else that does not fit: the block
 *                      is not there
 *   bits     counter and bits for readers, see store_cache.h; begins at a multiple of 64 KiB
 *   data     the object's bytes at their offsets; begins at a multiple of 64 KiB
 *
 * A block is there when its record fits its number and its bytes fit the record's CRC; nothing else
 * is believed. Bytes are written before their record, the record before the bit. Bits mean nothing
 * to another process than the one that wrote them: they are cleared when an object is first used
 * after a start. Nothing is synced: after a power loss the CRC tells.
 *
 * Locks     LOCK_CACHE guards every field below but the constant ones. A run of blocks that is
 *           being checked or fetched is a claim; its claimant alone writes those bytes and records,
 *           without the lock. */
#pragma once

#include "digest.h"
#include "store_cache.h"
#include "store_internal.h"
#include "thread.h"

enum {
    CACHE_BUCKETS_COUNT = 4096,
    CACHE_HEADER_SIZE = 4096,
    CACHE_ALIGNMENT = 65536, /* the largest page of any machine we run on */
    CACHE_NAME_SIZE = 2 * DIGEST_SHA256_SIZE + 1,
};

struct cache_header {
    uint64_t magic;
    uint32_t version;
    uint32_t block_size;
    uint64_t object_size;
    struct sha256 identity;
    uint32_t reserved;
    uint32_t crc; /* of everything before it */
};
static_assert(sizeof(struct cache_header) == 64, "the header has no holes");

/* A run of blocks that one thread checks or fetches. */
struct cache_claim {
    uint64_t first;
    uint64_t count;
    bool fetching; /* else: there, and being checked */
    struct cache_claim *next;
};

/* A thread that waits for somebody's claim. */
struct cache_waiter {
    int event_fd;
    struct cache_waiter *next;
};

/* Blocks of an object in use, in the order in which they came. */
struct cache_fill {
    struct cached_object *object;
    uint64_t first;
    uint64_t count;
    struct cache_fill *next;
};

struct cached_object {
    struct store_cache *cache;
    struct sha256 identity;
    uint64_t size;
    uint64_t blocks_count;
    unsigned users;
    bool forget;            /* has no ETag: nobody else may use it */
    bool loaded;            /* the maps below are there */
    uint64_t disk_bytes;    /* as the file system counts them */
    uint64_t changes;       /* how often blocks were taken away */
    unsigned char *present; /* bit per block: it has a record */
    unsigned char *ready;   /* bit per block: checked or fetched by this process */
    struct cache_claim *claims;
    struct cache_waiter *waiters;
    struct cached_object *next_in_bucket;
    struct cached_object *older; /* by last use */
    struct cached_object *newer;
};

struct store_cache {
    int folder_fd;
    uint64_t bytes_max;
    struct lock lock; /* LOCK_CACHE */
    struct cached_object *buckets[CACHE_BUCKETS_COUNT] GUARDED_BY(lock);
    struct cached_object *oldest GUARDED_BY(lock);
    struct cached_object *newest GUARDED_BY(lock);
    uint64_t promised_bytes GUARDED_BY(lock);  /* of claims that are being fetched */
    struct cache_fill *fills GUARDED_BY(lock); /* the oldest first */
    struct cache_fill **fills_last GUARDED_BY(lock);
    struct store_cache_counts counts GUARDED_BY(lock);
};

static inline bool cache_bit(const unsigned char *map, uint64_t block)
{
    return (map[block / 8] >> (block % 8) & 1) != 0;
}

static inline void cache_set_bit(unsigned char *map, uint64_t block, bool value)
{
    unsigned char mask = (unsigned char)(1U << (block % 8));
    map[block / 8] = (unsigned char)(value ? map[block / 8] | mask : map[block / 8] & ~mask);
}

/* The bytes of a run of blocks; the object's last block is short. */
static inline uint64_t cache_run_size(const struct cached_object *object, uint64_t first,
                                      uint64_t count)
{
    uint64_t left = object->size - first * STORE_CACHE_BLOCK_SIZE;
    return count * STORE_CACHE_BLOCK_SIZE < left ? count * STORE_CACHE_BLOCK_SIZE : left;
}

/* ---- files (store_cache_file.c) ---- */
uint64_t cache_bits_offset(uint64_t blocks_count);
uint64_t cache_data_offset(uint64_t blocks_count);
void cache_file_name(const struct sha256 *identity, char name[static CACHE_NAME_SIZE]);
int cache_file_open(const struct cached_object *object, int flags, struct err *err);
/* Replaces whatever has the name. */
bool cache_file_create(const struct cached_object *object, struct err *err) MUST_CHECK;
/* False when the file is none of ours, or of another version. */
bool cache_file_check(int folder_fd, const char *name, struct sha256 *ret_identity,
                      uint64_t *ret_size, uint64_t *ret_disk_bytes, int64_t *ret_used_ns);
/* What is there of an object, by its records; clears the bits for readers. */
bool cache_file_load(const struct cached_object *object, unsigned char *present,
                     struct err *err) MUST_CHECK;
uint64_t cache_file_disk_bytes(int fd);
bool cache_file_write_records(int fd, const struct cached_object *object, uint64_t first,
                              uint64_t count, struct err *err) MUST_CHECK;
/* Does the block fit its record? */
bool cache_file_check_block(int fd, const struct cached_object *object, uint64_t block);
/* Shows readers the ready bits of these blocks. */
bool cache_file_write_bits(int fd, const struct cached_object *object, uint64_t first,
                           uint64_t count, struct err *err) MUST_CHECK;

bool cache_file_write_changes(int fd, const struct cached_object *object, uint64_t changes);
/* Records and bytes of these blocks, as far as the file system can. */
void cache_file_erase(int fd, const struct cached_object *object, uint64_t first, uint64_t count);

/* ---- claims (store_cache_fill.c) ---- */
/* The block is there and nobody's claim. */
bool cache_is_idle(const struct cached_object *object, uint64_t block);

/* ---- room (store_cache_room.c) ---- */
void cache_count_room(struct cached_object *object, uint64_t disk_bytes);
void cache_make_room(struct store_cache *cache) REQUIRES(&cache->lock);
void cache_note_fill(struct cached_object *object, uint64_t first, uint64_t count);
void cache_forget_fills(const struct cached_object *object);

/* ---- objects (store_cache.c) ---- */
void cache_evict(struct cached_object *object);
