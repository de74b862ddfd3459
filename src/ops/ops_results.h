/* ops_results.h - results of statements, kept for who asks the same again.
 * Promise   what is found under a key is byte for byte what was kept under it. All entries together
 *           never hold more than bytes_max; the one used longest ago goes first.
 * Not here  what makes two requests the same, and whether the asker may see the result: the caller
 *           puts all of that into the key, or checks it.
 * Owner     struct api owns one. An entry that was found stays until it is released. Threads  any.
 * Limits    one entry is at most an eighth of bytes_max. */
#pragma once

#include "digest.h"
#include "str.h"

struct results;

struct results_entry {
    struct str body;
    uint64_t rows;
    bool truncated;
};

struct results_counts {
    uint64_t hits;
    uint64_t misses;
    uint64_t evictions;
    uint64_t entries;
    uint64_t bytes;
};

struct results *results_create(uint64_t bytes_max); /* 0: keeps nothing */
void results_destroy(struct results *results);

/* NULL when there is none. */
const struct results_entry *results_find(struct results *results, const struct sha256 *key);
void results_release(struct results *results, const struct results_entry *entry);

/* The largest body that is worth collecting. */
uint64_t results_body_max(const struct results *results);
/* Keeps a copy; an entry that is already there stays. */
void results_keep(struct results *results, const struct sha256 *key,
                  const struct results_entry *entry);

struct results_counts results_counts(struct results *results);
