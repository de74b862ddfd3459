/* store_cache.h - blocks of objects, kept on disk and shared by all who read the same object.
 * Promise   a block is fetched once, however many ask for it at the same time; who waits for
 *           another's fetch makes its own when that one fails. A reader that finds a block's bit
 *           set reads the object's own bytes: bits are set after the bytes are in the file, and
 *           every fetch is pinned to the ETag, which is part of the object's name here. What an
 *           earlier process left is checked against its checksum before its bit is set, so that
 *           neither kill -9, nor a power loss, nor a flipped byte on disk makes a wrong answer.
 *           All files together take no more than bytes_max of the disk, or 64 MiB while more than
 *           that is being read.
 * Not here  who may read an object: the caller proves that (store_cache_prove, or a HEAD of its
 *           own) before it hands out a descriptor.
 * Owner     struct server owns one; a job holds the objects it reads.   Threads  any; fill and
 *           prove block, the others do not.
 * Errors    ERR_UNAVAILABLE (the disk), ERR_CONFLICT (the object has changed), and what the store
 *           gives.
 * Limits    objects of at most 8 TiB (ERR_UNPROCESSABLE), whatever a store says of them; blocks of
 *           128 KiB; no descriptor is held between two calls. docs/cache.md has the format of the
 *           files. */
#pragma once

#include "store.h"

struct store_cache;
struct cached_object;

enum {
    STORE_CACHE_BLOCK_SIZE = 1 << 17
};
#define STORE_CACHE_OBJECT_SIZE_MAX (UINT64_C(8) << 40)

/* The folder is created when it is missing; every file in it that is none of ours is deleted.
 * bytes_max 0: an object is kept only while somebody reads it. */
struct store_cache *store_cache_open(const char *folder, uint64_t bytes_max, struct err *err);
void store_cache_close(struct store_cache *cache);

/* An object as one caller knows it: where it is, by whose credentials, in which state. */
struct store_cache_source {
    struct store *store;
    struct str key;
    const struct store_object *object;
};

/* The object's place in the cache, made when there is none, and not given up before its release;
 * single blocks of it may be. */
bool store_cache_acquire(struct store_cache *cache, const struct store_cache_source *source,
                         struct cached_object **ret_object, struct err *err) MUST_CHECK;
void store_cache_release(struct cached_object *object);

/* What a reader needs: a descriptor that cannot write, and where things are in that file. At
 * bits_offset is a counter (u64) that changes before a block is taken away, 56 bytes of nothing,
 * and then one bit per block, lowest first. The object's bytes begin at data_offset. Both offsets
 * can be mapped. A reader looks at counter and bits, reads the bytes, and looks at the counter
 * again. */
enum {
    STORE_CACHE_BITS_SKIP = 64
};
struct store_cache_reader {
    int fd; /* the caller's */
    uint64_t bits_offset;
    uint64_t data_offset;
};
bool store_cache_open_reader(struct cached_object *object, struct store_cache_reader *ret_reader,
                             struct err *err) MUST_CHECK;

/* The first run of blocks in [*first, end) that is not ready to be read, of at most count_max.
 * False when there is none. */
bool store_cache_find_missing(struct cached_object *object, uint64_t *first, uint64_t end,
                              uint64_t count_max, uint64_t *ret_count);

/* What one call has fetched from the store. */
struct store_cache_fetched {
    uint64_t blocks;
    uint64_t bytes;
};

/* Makes the blocks [first, first + count) readable. Adds to *fetched, also when it fails. */
bool store_cache_fill(struct cached_object *object, const struct store_cache_source *source,
                      uint64_t first, uint64_t count, struct cancel *cancel,
                      struct store_cache_fetched *fetched, struct err *err) MUST_CHECK;

/* True when the store has just given these credentials this very object: its last block, which
 * readers of Parquet want first, where that is not kept, else the answer to a HEAD. */
bool store_cache_prove(struct cached_object *object, const struct store_cache_source *source,
                       struct cancel *cancel, struct store_cache_fetched *fetched,
                       struct err *err) MUST_CHECK;

/* For the counters: a reader found these in the cache. */
void store_cache_note_hits(struct store_cache *cache, uint64_t blocks, uint64_t bytes);

struct store_cache_counts {
    uint64_t hit_blocks;    /* read, and not fetched for the reader */
    uint64_t hit_bytes;     /* in them */
    uint64_t missed_blocks; /* fetched */
    uint64_t fetched_bytes; /* in them */
    uint64_t damaged_blocks;
    uint64_t evicted_objects;
    uint64_t kept_objects;
    uint64_t kept_bytes; /* of the disk */
};
struct store_cache_counts store_cache_counts(struct store_cache *cache);
