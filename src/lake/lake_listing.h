/* lake_listing.h - what the store listed a moment ago; for lake*.c only. A statement that asks for
 * the same again need not walk the store's folders.
 * Promise   a listing is given out while it is at most LAKE_LISTING_AGE_MAX_MS old, counted from
 *           when it began, and only to those who have seen no newer generation of their table than
 *           it: every object that the asker's view shows was in the store before the listing began.
 *           So what this server has written is never missed; what others have written, or deleted,
 *           is seen that much later at the most. One of those who may not wait is turned away when
 *           a listing is half as old: it comes again with cancel and makes the next one, while the
 *           others are given this one.
 * Owner     counted.   Threads  any; nobody waits for a listing that another thread makes.
 * Limits    remembered: 256 of them, of at most 10,000 objects each. */
#pragma once

#include "cancel.h"
#include "digest.h"
#include "lake_internal.h"

#include <stdatomic.h>

enum {
    LAKE_LISTING_AGE_MAX_MS = 50
};

enum lake_renewal {
    LAKE_RENEWAL_NONE,
    LAKE_RENEWAL_ASKED, /* somebody was turned away */
    LAKE_RENEWAL_BEGUN
};

struct lake_listed {
    char *key;
    char *path; /* what a worker calls it; NULL for a folder */
    struct store_object object;
};

/* Never changes once it is given out. */
struct lake_listing {
    struct lake_listed *items; /* in the order of their keys */
    size_t count;
    bool has_etags;         /* every object can be told from a later one of its name */
    struct sha256 identity; /* of keys and ETags */
    /* ---- for lake_listing.c ---- */
    size_t capacity;
    struct lake *lake;
    uint64_t generation;
    int64_t began_ms;
    enum lake_renewal renewal; /* under the lake's lock */
    atomic_uint holders;
};

/* The Parquet objects of one table's folder; `generation` is the table's, looked at before. With
 * cancel NULL only what is remembered: ERR_BUSY when there is nothing. */
const struct lake_listing *lake_listing_objects(struct lake *lake, struct str folder,
                                                uint64_t generation, struct cancel *cancel,
                                                struct err *err);
/* The folders of tables, empty ones too, by their names. */
const struct lake_listing *lake_listing_folders(struct lake *lake, struct cancel *cancel,
                                                struct err *err);
void lake_listing_release(const struct lake_listing *listing); /* accepts NULL */

struct lake_listings *lake_listings_create(void);
void lake_listings_destroy(struct lake_listings *listings);
