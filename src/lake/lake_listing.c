#include "lake_listing.h"

#include "clock.h"
#include "mem.h"

enum {
    FILES_MAX = 100000,
    SLOTS = 256,
    REMEMBERED_MAX = 10000
};

/* One listing for each slot: tables that share one are listed more often. */
struct slot {
    char *folder; /* "" for the folders themselves */
    struct lake_listing *listing;
};

struct lake_listings {
    struct slot slots[SLOTS]; /* under the lake's lock */
};

/* ---- one listing ---- */

static void listing_destroy(struct lake_listing *listing)
{
    for (size_t i = 0; i < listing->count; i++) {
        mem_free(listing->items[i].key);
        mem_free(listing->items[i].path);
    }
    mem_free(listing->items);
    mem_free(listing);
}

void lake_listing_release(const struct lake_listing *listing)
{
    struct lake_listing *mine = (struct lake_listing *)(uintptr_t)listing;
    if (mine != NULL && atomic_fetch_sub(&mine->holders, 1) == 1) {
        listing_destroy(mine);
    }
}

static void add(struct lake_listing *listing, const struct lake_listed *item)
{
    listing->items =
        mem_grow(listing->items, listing->count, 1, &listing->capacity, sizeof(*listing->items));
    listing->items[listing->count++] = *item;
}

/* The path a worker knows an object by: lake:// and the key without the prefix, which is nobody's
 * business. */
static char *path_of(const struct lake *lake, struct str key)
{
    struct buf path;
    buf_init(&path, STORE_KEY_SIZE_MAX + 16);
    struct str rest = str_from(key, strlen(lake->prefix));
    buf_append_format(&path, "lake://%.*s", STR_ARG(rest));
    size_t size;
    return buf_take(&path, &size);
}

static bool visit_object(void *context, struct str key, const struct store_object *object,
                         struct err *err)
{
    struct lake_listing *listing = context;
    if (!str_ends(key, STR(".parquet"))) {
        return true;
    }
    if (listing->count == FILES_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "the table has more than %d files", FILES_MAX);
    }
    add(listing, &(struct lake_listed){.key = mem_copy_bytes(key.ptr, key.len),
                                       .path = path_of(listing->lake, key),
                                       .object = *object});
    return true;
}

static bool visit_folder(void *context, struct str name, const struct store_object *object,
                         struct err *err)
{
    (void)object;
    (void)err;
    add(context, &(struct lake_listed){.key = mem_copy_bytes(name.ptr, name.len)});
    return true;
}

static void seal(struct lake_listing *listing)
{
    struct digest_stream *stream = digest_stream_create();
    listing->has_etags = true;
    for (size_t i = 0; i < listing->count; i++) {
        const struct lake_listed *item = &listing->items[i];
        digest_stream_add(stream, str_make(item->key, strlen(item->key) + 1));
        digest_stream_add(stream, str_make(item->object.etag, strlen(item->object.etag) + 1));
        listing->has_etags = listing->has_etags && item->object.etag[0] != '\0';
    }
    listing->identity = digest_stream_end(stream);
    digest_stream_destroy(stream);
}

static bool list(struct lake_listing *listing, struct str folder, struct cancel *cancel,
                 struct err *err)
{
    struct lake *lake = listing->lake;
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    bool good;
    if (folder.len == 0) {
        buf_append_format(&prefix, "%sdata/", lake->prefix);
        good = store_list_folders(lake->store, buf_str(&prefix), true, visit_folder, listing,
                                  cancel, err);
    } else {
        lake_append_table_prefix(&prefix, lake, folder);
        good = store_list(lake->store, buf_str(&prefix), visit_object, listing, cancel, err);
    }
    buf_finish(&prefix);
    return good;
}

/* ---- those that are remembered ---- */

struct lake_listings *lake_listings_create(void)
{
    return mem_alloc(sizeof(struct lake_listings));
}

static void empty(struct slot *slot)
{
    lake_listing_release(slot->listing);
    mem_free(slot->folder);
    *slot = (struct slot){0};
}

void lake_listings_destroy(struct lake_listings *listings)
{
    for (size_t i = 0; listings != NULL && i < SLOTS; i++) {
        empty(&listings->slots[i]);
    }
    mem_free(listings);
}

static struct slot *slot_of(struct lake *lake, struct str folder)
{
    return &lake->listings->slots[map_hash(folder, 0) % SLOTS];
}

static bool is_old(const struct lake_listing *listing, int64_t now_ms)
{
    return now_ms - listing->began_ms > LAKE_LISTING_AGE_MAX_MS;
}

/* Whether the asker is to make the next one: the first who may not wait says so, and the first who
 * may does it. */
static bool takes_renewal(struct lake_listing *listing, int64_t now_ms, bool waits)
{
    enum lake_renewal before = waits ? LAKE_RENEWAL_ASKED : LAKE_RENEWAL_NONE;
    if (now_ms - listing->began_ms <= LAKE_LISTING_AGE_MAX_MS / 2 || listing->renewal != before) {
        return false;
    }
    listing->renewal = waits ? LAKE_RENEWAL_BEGUN : LAKE_RENEWAL_ASKED;
    return true;
}

static struct lake_listing *recall(struct lake *lake, struct str folder, uint64_t generation,
                                   int64_t now_ms, bool waits)
{
    lock_take(&lake->lock);
    const struct slot *slot = slot_of(lake, folder);
    struct lake_listing *listing = slot->listing;
    if (listing != NULL &&
        (!str_equal(str_of(slot->folder), folder) || listing->generation < generation ||
         is_old(listing, now_ms) || takes_renewal(listing, now_ms, waits))) {
        listing = NULL;
    }
    if (listing != NULL) {
        atomic_fetch_add(&listing->holders, 1);
    }
    lock_release(&lake->lock);
    return listing;
}

/* Whatever nobody may be given any more goes, so that what is not asked for takes no memory. */
static void remember(struct lake *lake, struct str folder, struct lake_listing *listing)
{
    if (listing->count > REMEMBERED_MAX) {
        return;
    }
    int64_t now_ms = clock_now_ms();
    atomic_fetch_add(&listing->holders, 1);
    lock_take(&lake->lock);
    for (size_t i = 0; i < SLOTS; i++) {
        struct slot *slot = &lake->listings->slots[i];
        if (slot->listing != NULL && is_old(slot->listing, now_ms)) {
            empty(slot);
        }
    }
    struct slot *slot = slot_of(lake, folder);
    empty(slot);
    slot->folder = mem_copy_bytes(folder.ptr, folder.len);
    slot->listing = listing;
    lock_release(&lake->lock);
}

static const struct lake_listing *get(struct lake *lake, struct str folder, uint64_t generation,
                                      struct cancel *cancel, struct err *err)
{
    int64_t now_ms = clock_now_ms();
    struct lake_listing *listing = recall(lake, folder, generation, now_ms, cancel != NULL);
    if (listing != NULL) {
        return listing;
    }
    if (cancel == NULL) {
        (void)err_set(err, ERR_BUSY, "the store has to be asked");
        return NULL;
    }
    listing = mem_alloc(sizeof(*listing));
    listing->lake = lake;
    listing->generation = generation;
    listing->began_ms = now_ms;
    listing->holders = 1;
    if (!list(listing, folder, cancel, err)) {
        listing_destroy(listing);
        return NULL;
    }
    seal(listing);
    remember(lake, folder, listing);
    return listing;
}

const struct lake_listing *lake_listing_objects(struct lake *lake, struct str folder,
                                                uint64_t generation, struct cancel *cancel,
                                                struct err *err)
{
    assert(folder.len > 0);
    return get(lake, folder, generation, cancel, err);
}

const struct lake_listing *lake_listing_folders(struct lake *lake, struct cancel *cancel,
                                                struct err *err)
{
    return get(lake, STR(""), 0, cancel, err);
}
