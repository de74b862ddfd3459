#include "map.h"

#include "digest.h"
#include "mem.h"

struct map_slot {
    struct str key;
    void *value; /* NULL: free */
};

uint64_t map_hash(struct str key, uint64_t seed)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ seed;
    for (size_t i = 0; i < key.len; i++) {
        hash = (hash ^ (unsigned char)key.ptr[i]) * UINT64_C(1099511628211);
    }
    return hash ^ hash >> 32;
}

static struct map_slot *find_slot(const struct map *map, struct str key)
{
    size_t mask = map->capacity - 1;
    size_t at = (size_t)map_hash(key, map->seed) & mask;
    while (map->slots[at].value != NULL && !str_equal(map->slots[at].key, key)) {
        at = (at + 1) & mask;
    }
    return &map->slots[at];
}

void *map_find(const struct map *map, struct str key)
{
    return map->capacity == 0 ? NULL : find_slot(map, key)->value;
}

static void grow(struct map *map)
{
    struct map old = *map;
    if (old.capacity == 0) {
        digest_random_id(&map->seed, sizeof(map->seed));
    }
    map->capacity = old.capacity == 0 ? 16 : 2 * old.capacity;
    map->slots = mem_alloc_array(map->capacity, sizeof(*map->slots));
    for (size_t i = 0; i < old.capacity; i++) {
        if (old.slots[i].value != NULL) {
            *find_slot(map, old.slots[i].key) = old.slots[i];
        }
    }
    mem_free(old.slots);
}

void map_set(struct map *map, struct str key, void *value)
{
    assert(value != NULL);
    if (2 * (map->count + 1) > map->capacity) {
        grow(map);
    }
    struct map_slot *slot = find_slot(map, key);
    map->count += slot->value == NULL;
    *slot = (struct map_slot){.key = key, .value = value};
}

void map_finish(struct map *map)
{
    mem_free(map->slots);
    *map = (struct map){0};
}

void map_fold(struct str key, char *into)
{
    for (size_t i = 0; i < key.len; i++) {
        char byte = key.ptr[i];
        into[i] = (char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
    }
}

struct str map_folded_key(struct str key)
{
    char *copy = mem_alloc(key.len + 1);
    map_fold(key, copy);
    return str_make(copy, key.len);
}
