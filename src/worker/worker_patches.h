/* worker_patches.h - writes to a file that is not to be changed: kept in memory, seen by reads.
 * Owner     the caller; patches_finish accepts zeroed memory.   Threads  none shared.
 * Limits    PATCHES_SIZE_MAX bytes. */
#pragma once

#include "macros.h"

enum {
    PATCHES_SIZE_MAX = 512 << 20
};

struct patches {
    struct patch *oldest;
    struct patch *newest;
    uint64_t size;
};

/* False when that would be too much. */
bool patches_add(struct patches *patches, const void *bytes, size_t size,
                 uint64_t offset) MUST_CHECK;
/* Puts over `into`, which is the file from `offset` on, what was written there. Returns the highest
 * offset that was. */
uint64_t patches_apply(const struct patches *patches, void *into, size_t size, uint64_t offset);
/* Where the last one ends. */
uint64_t patches_end(const struct patches *patches);
void patches_finish(struct patches *patches);
