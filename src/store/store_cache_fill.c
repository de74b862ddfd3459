/* How blocks get into the object cache: claims, checks, fetches, and waiting for those of others.
 */
#include "store_cache_internal.h"

#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- claims ---- */

static const struct cache_claim *claim_of(const struct cached_object *object, uint64_t block)
{
    const struct cache_claim *claim = object->claims;
    while (claim != NULL && (block < claim->first || block - claim->first >= claim->count)) {
        claim = claim->next;
    }
    return claim;
}

bool cache_is_idle(const struct cached_object *object, uint64_t block)
{
    return cache_bit(object->present, block) && claim_of(object, block) == NULL;
}

static bool is_free(const struct cached_object *object, uint64_t block)
{
    return !cache_bit(object->ready, block) && claim_of(object, block) == NULL;
}

/* The next run in [first, end) that is neither ready nor anybody's: all of it there, or all of it
 * not. */
static bool take_claim(struct cached_object *object, uint64_t first, uint64_t end,
                       struct cache_claim *ret_claim) REQUIRES(&object->cache->lock)
{
    while (first < end && !is_free(object, first)) {
        first++;
    }
    if (first == end) {
        return false;
    }
    bool present = cache_bit(object->present, first);
    uint64_t last = first + 1;
    while (last < end && is_free(object, last) && cache_bit(object->present, last) == present) {
        last++;
    }
    *ret_claim = (struct cache_claim){
        .first = first, .count = last - first, .fetching = !present, .next = object->claims};
    object->claims = ret_claim;
    if (!present) {
        uint64_t size = cache_run_size(object, first, last - first);
        object->cache->promised_bytes += size;
        cache_make_room(object->cache);
    }
    return true;
}

static void give_up_claim(struct cached_object *object, const struct cache_claim *claim)
{
    struct cache_claim **link = &object->claims;
    while (*link != claim) {
        link = &(*link)->next;
    }
    *link = claim->next;
    if (claim->fetching) {
        uint64_t size = cache_run_size(object, claim->first, claim->count);
        object->cache->promised_bytes -= size;
    }
    for (struct cache_waiter *waiter = object->waiters; waiter != NULL; waiter = waiter->next) {
        uint64_t one = 1;
        (void)!write(waiter->event_fd, &one, sizeof(one));
    }
}

bool store_cache_find_missing(struct cached_object *object, uint64_t *first, uint64_t end,
                              uint64_t count_max, uint64_t *ret_count)
{
    assert(end <= object->blocks_count);
    lock_take(&object->cache->lock);
    while (*first < end && cache_bit(object->ready, *first)) {
        (*first)++;
    }
    uint64_t last = *first;
    while (last < end && !cache_bit(object->ready, last) && last - *first < count_max) {
        last++;
    }
    lock_release(&object->cache->lock);
    *ret_count = last - *first;
    return last > *first;
}

/* ---- one claim ---- */

/* Shows the blocks of a claim to readers, counts the room they take, and lets the claim go. */
static bool publish(struct cached_object *object, int fd, const struct cache_claim *claim,
                    struct err *err)
{
    struct store_cache *cache = object->cache;
    lock_take(&cache->lock);
    for (uint64_t i = claim->first; i < claim->first + claim->count; i++) {
        cache_set_bit(object->present, i, true);
        cache_set_bit(object->ready, i, true);
    }
    bool good = cache_file_write_bits(fd, object, claim->first, claim->count, err);
    for (uint64_t i = claim->first; !good && i < claim->first + claim->count; i++) {
        cache_set_bit(object->ready, i, false); /* who asks again has them checked and shown */
    }
    cache_count_room(object, cache_file_disk_bytes(fd));
    cache_note_fill(object, claim->first, claim->count);
    give_up_claim(object, claim);
    cache_make_room(cache);
    lock_release(&cache->lock);
    return good;
}

static void abandon(struct cached_object *object, const struct cache_claim *claim)
{
    lock_take(&object->cache->lock);
    give_up_claim(object, claim);
    lock_release(&object->cache->lock);
}

/* Blocks that an earlier process left: those that are damaged become absent, and are fetched when
 * the loop comes round. */
static bool check_claim(struct cached_object *object, int fd, struct cache_claim *claim,
                        struct err *err)
{
    uint64_t good = 0;
    while (good < claim->count && cache_file_check_block(fd, object, claim->first + good)) {
        good++;
    }
    struct store_cache *cache = object->cache;
    lock_take(&cache->lock);
    if (good < claim->count) {
        cache_set_bit(object->present, claim->first + good, false);
        cache->counts.damaged_blocks++;
        claim->count = good;
    }
    lock_release(&cache->lock);
    if (claim->count == 0) {
        abandon(object, claim);
        return true;
    }
    return publish(object, fd, claim, err);
}

static bool fetch_claim(struct cached_object *object, const struct store_cache_source *source,
                        int fd, struct cache_claim *claim, struct cancel *cancel,
                        struct store_cache_fetched *fetched, struct err *err)
{
    struct store_cache *cache = object->cache;
    uint64_t offset = claim->first * STORE_CACHE_BLOCK_SIZE;
    uint64_t size = cache_run_size(object, claim->first, claim->count);
    bool good = store_get_range(source->store, source->key, source->object->etag, offset, size, fd,
                                cache_data_offset(object->blocks_count) + offset, cancel, err);
    if (good) {
        fetched->blocks += claim->count;
        fetched->bytes += size;
        lock_take(&cache->lock);
        cache->counts.missed_blocks += claim->count;
        cache->counts.fetched_bytes += size;
        lock_release(&cache->lock);
        good = cache_file_write_records(fd, object, claim->first, claim->count, err);
    }
    if (!good) {
        abandon(object, claim);
        return false;
    }
    return publish(object, fd, claim, err);
}

static bool settle_claim(struct cached_object *object, const struct store_cache_source *source,
                         int fd, struct cache_claim *claim, struct cancel *cancel,
                         struct store_cache_fetched *fetched, struct err *err)
{
    return claim->fetching ? fetch_claim(object, source, fd, claim, cancel, fetched, err)
                           : check_claim(object, fd, claim, err);
}

/* ---- waiting for the claims of others ---- */

static bool is_any_unready(const struct cached_object *object, uint64_t first, uint64_t end)
{
    while (first < end && cache_bit(object->ready, first)) {
        first++;
    }
    return first < end;
}

static void remove_waiter(struct cached_object *object, const struct cache_waiter *waiter)
{
    lock_take(&object->cache->lock);
    struct cache_waiter **link = &object->waiters;
    while (*link != waiter) {
        link = &(*link)->next;
    }
    *link = waiter->next;
    lock_release(&object->cache->lock);
}

/* Until any claim on the object ends; the caller looks again what that means for it. */
static bool wait_turn(struct cached_object *object, struct cache_waiter *waiter,
                      struct cancel *cancel, struct err *err)
{
    struct pollfd polled[] = {
        {.fd = waiter->event_fd, .events = POLLIN},
        {.fd = cancel_fd(cancel), .events = POLLIN},
    };
    (void)poll(polled, COUNT_OF(polled), cancel_left_ms(cancel, 60000) + 1);
    remove_waiter(object, waiter);
    uint64_t count;
    (void)!read(waiter->event_fd, &count, sizeof(count));
    return cancel_check(cancel, err);
}

static bool prepare_waiter(struct cache_waiter *waiter, struct err *err)
{
    if (waiter->event_fd < 0) {
        waiter->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    return waiter->event_fd >= 0 ||
           err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
}

enum next_step {
    STEP_DONE,
    STEP_SETTLE, /* the claim is ours */
    STEP_WAIT    /* what is left is others' */
};

static enum next_step next_step(struct cached_object *object, uint64_t first, uint64_t end,
                                struct cache_claim *claim, struct cache_waiter *waiter)
{
    enum next_step step = STEP_DONE;
    lock_take(&object->cache->lock);
    if (take_claim(object, first, end, claim)) {
        step = STEP_SETTLE;
    } else if (is_any_unready(object, first, end)) {
        step = STEP_WAIT;
        if (waiter->event_fd >= 0) {
            waiter->next = object->waiters;
            object->waiters = waiter;
        }
    }
    lock_release(&object->cache->lock);
    return step;
}

static bool fill(struct cached_object *object, const struct store_cache_source *source, int fd,
                 uint64_t first, uint64_t end, struct cancel *cancel, struct cache_waiter *waiter,
                 struct store_cache_fetched *fetched, struct err *err)
{
    struct cache_claim claim;
    for (;;) {
        switch (next_step(object, first, end, &claim, waiter)) {
        case STEP_DONE:
            return true;
        case STEP_SETTLE:
            if (!settle_claim(object, source, fd, &claim, cancel, fetched, err)) {
                return false;
            }
            break;
        case STEP_WAIT:
        default:
            /* The first time there is nothing to wait on yet, and the loop looks once more. */
            if (waiter->event_fd >= 0 ? !wait_turn(object, waiter, cancel, err)
                                      : !prepare_waiter(waiter, err)) {
                return false;
            }
        }
    }
}

bool store_cache_fill(struct cached_object *object, const struct store_cache_source *source,
                      uint64_t first, uint64_t count, struct cancel *cancel,
                      struct store_cache_fetched *fetched, struct err *err)
{
    assert(first <= object->blocks_count);
    assert(count <= object->blocks_count - first);
    CLEANUP(fd_close) int fd = cache_file_open(object, O_RDWR, err);
    struct cache_waiter waiter = {.event_fd = -1};
    bool good =
        fd >= 0 && fill(object, source, fd, first, first + count, cancel, &waiter, fetched, err);
    fd_close(&waiter.event_fd);
    return good;
}

/* ---- proof ---- */

/* Claims the last block when nobody has it: fetching it proves as much as a HEAD. */
static bool claim_last(struct cached_object *object, struct cache_claim *claim)
{
    uint64_t end = object->blocks_count;
    lock_take(&object->cache->lock);
    bool taken =
        end > 0 && !cache_bit(object->present, end - 1) && take_claim(object, end - 1, end, claim);
    lock_release(&object->cache->lock);
    return taken;
}

bool store_cache_prove(struct cached_object *object, const struct store_cache_source *source,
                       struct cancel *cancel, struct store_cache_fetched *fetched, struct err *err)
{
    struct cache_claim claim;
    CLEANUP(fd_close) int fd = cache_file_open(object, O_RDWR, err);
    if (fd < 0) {
        return false;
    }
    if (claim_last(object, &claim)) {
        return fetch_claim(object, source, fd, &claim, cancel, fetched, err);
    }
    struct store_object now;
    if (!store_head(source->store, source->key, cancel, &now, err)) {
        return false;
    }
    return (strcmp(now.etag, source->object->etag) == 0 && now.size == source->object->size) ||
           err_set(err, ERR_CONFLICT, "the object \"%.*s\" changed while it was read",
                   STR_ARG(source->key));
}
