/* lake_rows_record.h - the keys of records, and one record at a time as values by key; for
 * lake_rows*.c only.
 * Promise   the last of duplicate keys wins, also when they differ only in case and `fold` is set.
 *           A key that follows the same key as in the order of adding is found without hashing.
 * Owner     the caller; record_finish accepts zeroed memory. Spans point into the text of the
 *           records. */
#pragma once

#include "json_scan.h"

struct record_key {
    char *name;
    size_t name_size;
    uint64_t hash;
    uint64_t seen; /* the number of the record that `value` belongs to */
    struct json_span value;
};

struct record {
    struct record_key *keys;
    size_t keys_count;
    size_t keys_capacity;
    uint32_t *slots; /* an open-addressed table: index + 1, or 0 */
    size_t slots_count;
    uint64_t seeds[2];
    uint32_t *touched; /* the keys of the current record, in its order */
    size_t touched_count;
    uint64_t number;
    struct buf name; /* scratch: a key without its escapes */
    bool fold;       /* ASCII letters compare without case */
};

void record_init(struct record *record, bool fold, size_t name_size_max);
void record_finish(struct record *record);

/* Adds a key unless it is there; returns its index. */
uint32_t record_add_key(struct record *record, struct str name, bool *ret_added);

/* Reads all members of one object into the values of the keys that were added, and lists those keys
 * in `touched`. */
void record_read(struct record *record, struct json_cursor *object);

/* A name cut to a length fit for a message, never inside a character. */
struct str record_shown_name(struct str name);
