/* How the object cache keeps to its room: objects that nobody uses go whole, the least recently
 * used first; when that is not enough, blocks of objects in use go, the longest there first. */
#include "store_cache_internal.h"

#include "fd.h"
#include "mem.h"

#include <fcntl.h>

enum {
    TAKE_BLOCKS = 16, /* at a time */
};

/* What readers have between a fetch and the read it was for is left to them, whatever the limit:
 * without it they would take each other's blocks away for ever. */
#define CACHE_USE_BYTES_MIN (UINT64_C(64) << 20)

void cache_count_room(struct cached_object *object, uint64_t disk_bytes)
{
    object->cache->counts.kept_bytes += disk_bytes - object->disk_bytes;
    object->disk_bytes = disk_bytes;
}

static bool is_over(const struct store_cache *cache, uint64_t bytes_max)
{
    return cache->counts.kept_bytes + cache->promised_bytes > bytes_max;
}

static void evict_unused(struct store_cache *cache)
{
    struct cached_object *object = cache->oldest;
    while (object != NULL && is_over(cache, cache->bytes_max)) {
        struct cached_object *newer = object->newer;
        if (object->users == 0) {
            cache_evict(object);
        }
        object = newer;
    }
}

/* ---- blocks of objects in use ---- */

void cache_note_fill(struct cached_object *object, uint64_t first, uint64_t count)
{
    struct cache_fill *fill = mem_alloc(sizeof(*fill));
    struct store_cache *cache = object->cache;
    *fill = (struct cache_fill){.object = object, .first = first, .count = count};
    *cache->fills_last = fill;
    cache->fills_last = &fill->next;
}

void cache_forget_fills(const struct cached_object *object)
{
    struct store_cache *cache = object->cache;
    struct cache_fill **link = &cache->fills;
    while (*link != NULL) {
        struct cache_fill *fill = *link;
        if (fill->object != object) {
            link = &fill->next;
            continue;
        }
        *link = fill->next;
        mem_free(fill);
    }
    cache->fills_last = link;
}

/* A run of blocks that are there and that nobody is at work on, taken off the front of the longest
 * ago filled. False at the end. */
static bool next_victim(struct store_cache *cache, struct cache_fill *ret_run)
{
    struct cache_fill *fill;
    while ((fill = cache->fills) != NULL) {
        uint64_t count = 0;
        while (count < fill->count && count < TAKE_BLOCKS &&
               cache_is_idle(fill->object, fill->first + count)) {
            count++;
        }
        *ret_run =
            (struct cache_fill){.object = fill->object, .first = fill->first, .count = count};
        uint64_t passed = count > 0 ? count : 1;
        fill->first += passed;
        fill->count -= passed;
        if (fill->count == 0) {
            cache->fills = fill->next;
            cache->fills_last = cache->fills == NULL ? &cache->fills : cache->fills_last;
            mem_free(fill);
        }
        if (count > 0) {
            return true;
        }
    }
    return false;
}

/* Readers first lose the bits, then see the counter change, and only then are the bytes gone: see
 * store_cache.h. */
static void take_away(const struct cache_fill *run)
{
    struct cached_object *object = run->object;
    struct err ignored;
    CLEANUP(fd_close) int fd = cache_file_open(object, O_RDWR, &ignored);
    for (uint64_t i = run->first; i < run->first + run->count; i++) {
        cache_set_bit(object->present, i, false);
        cache_set_bit(object->ready, i, false);
    }
    if (fd >= 0 && cache_file_write_bits(fd, object, run->first, run->count, &ignored) &&
        cache_file_write_changes(fd, object, ++object->changes)) {
        cache_file_erase(fd, object, run->first, run->count);
        cache_count_room(object, cache_file_disk_bytes(fd));
    }
}

void cache_make_room(struct store_cache *cache)
{
    uint64_t in_use_max =
        cache->bytes_max > CACHE_USE_BYTES_MIN ? cache->bytes_max : CACHE_USE_BYTES_MIN;
    struct cache_fill run;
    evict_unused(cache);
    while (is_over(cache, in_use_max) && next_victim(cache, &run)) {
        take_away(&run);
    }
}
