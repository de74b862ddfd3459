/* map.h - from text to a pointer: a hash table that only grows.
 * Owner     the caller owns keys and values, which must outlive the map; map_finish frees the table
 *           alone and accepts zeroed memory.   Threads  none shared.
 * Limits    keys chosen by strangers are spread by a random seed. */
#pragma once

#include "str.h"

struct map {
    struct map_slot *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
    uint64_t seed;
};

void *map_find(const struct map *map, struct str key);      /* NULL when it is not there */
void map_set(struct map *map, struct str key, void *value); /* replaces; value is not NULL */
void map_finish(struct map *map);

/* A copy in lower case (ASCII letters), for tables whose keys SQL does not tell apart by case; to
 * be freed with mem_free. */
struct str map_folded_key(struct str key);
/* The same into memory of the caller, key.len bytes. */
void map_fold(struct str key, char *into);

/* FNV-1a, for those who keep tables of their own. */
uint64_t map_hash(struct str key, uint64_t seed);
