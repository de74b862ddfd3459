#include "ops_results.h"

#include "mem.h"
#include "thread.h"

#include <string.h>

enum {
    ENTRIES_PER_MAX = 8,     /* one entry is at most this part of all */
    BUCKETS_COUNT = 1 << 12, /* entries are large: a few thousand at most */
    ENTRY_OVERHEAD = 256,
};

struct kept {
    struct results_entry entry; /* first: a pointer to it is one to the whole */
    struct sha256 key;
    unsigned users;
    bool gone; /* evicted while somebody reads it */
    struct kept *next_in_bucket;
    struct kept *newer;
    struct kept *older;
};

struct results {
    struct lock lock; /* LOCK_RESULTS: everything below */
    uint64_t bytes_max;
    struct kept *buckets[BUCKETS_COUNT];
    struct kept *newest;
    struct kept *oldest;
    struct results_counts counts;
};

struct results *results_create(uint64_t bytes_max)
{
    struct results *results = mem_alloc(sizeof(*results));
    lock_init(&results->lock, LOCK_RESULTS);
    results->bytes_max = bytes_max;
    return results;
}

static struct kept **bucket_of(struct results *results, const struct sha256 *key)
{
    uint32_t first;
    memcpy(&first, key->bytes, sizeof(first));
    return &results->buckets[first % BUCKETS_COUNT];
}

static uint64_t cost_of(const struct kept *kept)
{
    return kept->entry.body.len + ENTRY_OVERHEAD;
}

static void kept_free(struct kept *kept)
{
    mem_free((char *)(uintptr_t)kept->entry.body.ptr);
    mem_free(kept);
}

static void unlink_by_age(struct results *results, struct kept *kept)
{
    *(kept->newer != NULL ? &kept->newer->older : &results->newest) = kept->older;
    *(kept->older != NULL ? &kept->older->newer : &results->oldest) = kept->newer;
    kept->newer = NULL;
    kept->older = NULL;
}

static void link_newest(struct results *results, struct kept *kept)
{
    kept->older = results->newest;
    *(results->newest != NULL ? &results->newest->newer : &results->oldest) = kept;
    results->newest = kept;
}

static void evict(struct results *results, struct kept *kept)
{
    struct kept **link = bucket_of(results, &kept->key);
    while (*link != kept) {
        link = &(*link)->next_in_bucket;
    }
    *link = kept->next_in_bucket;
    unlink_by_age(results, kept);
    results->counts.bytes -= cost_of(kept);
    results->counts.entries--;
    results->counts.evictions++;
    kept->gone = true;
    if (kept->users == 0) {
        kept_free(kept);
    }
}

void results_destroy(struct results *results)
{
    if (results == NULL) {
        return;
    }
    while (results->oldest != NULL) {
        evict(results, results->oldest);
    }
    lock_finish(&results->lock);
    mem_free(results);
}

static struct kept *find(struct results *results, const struct sha256 *key)
{
    struct kept *kept = *bucket_of(results, key);
    while (kept != NULL && memcmp(&kept->key, key, sizeof(*key)) != 0) {
        kept = kept->next_in_bucket;
    }
    return kept;
}

const struct results_entry *results_find(struct results *results, const struct sha256 *key)
{
    lock_take(&results->lock);
    struct kept *kept = find(results, key);
    if (kept != NULL) {
        kept->users++;
        unlink_by_age(results, kept);
        link_newest(results, kept);
        results->counts.hits++;
    } else {
        results->counts.misses++;
    }
    lock_release(&results->lock);
    return kept == NULL ? NULL : &kept->entry;
}

void results_release(struct results *results, const struct results_entry *entry)
{
    struct kept *kept = (struct kept *)(uintptr_t)entry;
    lock_take(&results->lock);
    assert(kept->users > 0);
    bool last = --kept->users == 0 && kept->gone;
    lock_release(&results->lock);
    if (last) {
        kept_free(kept);
    }
}

uint64_t results_body_max(const struct results *results)
{
    uint64_t most = results->bytes_max / ENTRIES_PER_MAX;
    return most > ENTRY_OVERHEAD ? most - ENTRY_OVERHEAD : 0;
}

void results_keep(struct results *results, const struct sha256 *key,
                  const struct results_entry *entry)
{
    if (entry->body.len > results_body_max(results)) {
        return;
    }
    struct kept *kept = mem_alloc(sizeof(*kept));
    kept->entry = *entry;
    kept->entry.body = str_make(mem_copy_bytes(entry->body.ptr, entry->body.len), entry->body.len);
    kept->key = *key;
    lock_take(&results->lock);
    bool known = find(results, key) != NULL;
    if (!known) {
        while (results->oldest != NULL &&
               results->counts.bytes + cost_of(kept) > results->bytes_max) {
            evict(results, results->oldest);
        }
        kept->next_in_bucket = *bucket_of(results, key);
        *bucket_of(results, key) = kept;
        link_newest(results, kept);
        results->counts.bytes += cost_of(kept);
        results->counts.entries++;
    }
    lock_release(&results->lock);
    if (known) {
        kept_free(kept);
    }
}

struct results_counts results_counts(struct results *results)
{
    lock_take(&results->lock);
    struct results_counts counts = results->counts;
    lock_release(&results->lock);
    return counts;
}
