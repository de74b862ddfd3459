#include "lake_rows_record.h"

#include "digest.h"
#include "lake_rows.h"
#include "mem.h"

#include <endian.h>

enum {
    SHOWN_NAME_SIZE = 120,
    KEYS_FIRST = 16
};

void record_init(struct record *record, bool fold, size_t name_size_max)
{
    *record = (struct record){.fold = fold};
    buf_init(&record->name, name_size_max);
    digest_random(record->seeds, sizeof(record->seeds));
}

void record_finish(struct record *record)
{
    for (size_t i = 0; i < record->keys_count; i++) {
        mem_free(record->keys[i].name);
    }
    mem_free(record->keys);
    mem_free(record->slots);
    mem_free(record->touched);
    buf_finish(&record->name);
    *record = (struct record){0};
}

struct str record_shown_name(struct str name)
{
    size_t size = name.len < SHOWN_NAME_SIZE ? name.len : SHOWN_NAME_SIZE;
    while (size > 0 && size < name.len && ((unsigned char)name.ptr[size] & 0xC0) == 0x80) {
        size--;
    }
    return str_first(name, size);
}

/* --- the table of keys ----------------------------------------------------------------- */

/* Lower case for the ASCII letters among eight bytes. */
static uint64_t fold_eight(uint64_t eight)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t sevens = eight & ~(ones << 7);
    uint64_t above_z = sevens + ones * (0x7F - 'Z');
    uint64_t from_a = sevens + ones * (0x80 - 'A');
    uint64_t upper = ~eight & (above_z ^ from_a) & (ones << 7);
    return eight | upper >> 2;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The seeds are random, so that a client cannot choose keys that share a slot. */
static uint64_t hash_name(const struct record *record, struct str name)
{
    uint64_t hash = record->seeds[0] ^ name.len;
    while (name.len > 0) {
        uint64_t eight = 0;
        size_t size = name.len < sizeof(eight) ? name.len : sizeof(eight);
        memcpy(&eight, name.ptr, size);
        eight = le64toh(eight);
        eight = record->fold ? fold_eight(eight) : eight;
        hash = mix(hash ^ eight, record->seeds[1] | 1) + record->seeds[0];
        name = str_from(name, size);
    }
    return mix(hash, UINT64_C(0x9E3779B97F4A7C15));
}

static bool same_name(const struct record *record, const struct record_key *key, struct str name)
{
    struct str known = str_make(key->name, key->name_size);
    return record->fold ? str_equal_nocase(known, name) : str_equal(known, name);
}

/* The slot that holds the name, or the empty one where it would go. */
static size_t find_slot(const struct record *record, struct str name, uint64_t hash)
{
    size_t mask = record->slots_count - 1;
    size_t slot = (size_t)hash & mask;
    while (record->slots[slot] != 0) {
        const struct record_key *key = &record->keys[record->slots[slot] - 1];
        if (key->hash == hash && same_name(record, key, name)) {
            break;
        }
        slot = (slot + 1) & mask;
    }
    return slot;
}

/* Doubles the room for keys. The table has four slots for each, so it is never more than a quarter
 * full. */
static void grow(struct record *record)
{
    size_t capacity = record->keys_capacity == 0 ? KEYS_FIRST : record->keys_capacity * 2;
    struct record_key *keys = mem_alloc_array(capacity, sizeof(*keys));
    uint32_t *touched = mem_alloc_array(capacity, sizeof(*touched));
    for (size_t i = 0; i < record->keys_count; i++) {
        keys[i] = record->keys[i];
    }
    for (size_t i = 0; i < record->touched_count; i++) {
        touched[i] = record->touched[i];
    }
    mem_free(record->keys);
    mem_free(record->touched);
    mem_free(record->slots);
    record->keys = keys;
    record->touched = touched;
    record->keys_capacity = capacity;
    record->slots_count = capacity * 4;
    record->slots = mem_alloc_array(record->slots_count, sizeof(*record->slots));
    for (size_t i = 0; i < record->keys_count; i++) {
        struct str name = str_make(keys[i].name, keys[i].name_size);
        record->slots[find_slot(record, name, keys[i].hash)] = (uint32_t)i + 1;
    }
}

uint32_t record_add_key(struct record *record, struct str name, bool *ret_added)
{
    if (record->keys_count == record->keys_capacity) {
        grow(record);
    }
    uint64_t hash = hash_name(record, name);
    size_t slot = find_slot(record, name, hash);
    *ret_added = record->slots[slot] == 0;
    if (*ret_added) {
        record->keys[record->keys_count] = (struct record_key){
            .name = mem_copy_bytes(name.ptr, name.len),
            .name_size = name.len,
            .hash = hash,
        };
        record->slots[slot] = (uint32_t)++record->keys_count;
    }
    return record->slots[slot] - 1;
}

/* --- reading a record ------------------------------------------------------------------ */

/* Finds the key the slow way; UINT32_MAX: it is none of ours. */
static uint32_t look_up(struct record *record, struct json_span key)
{
    struct str name = str_make(key.text.ptr + 1, key.text.len - 2);
    if (key.escaped) {
        buf_reset(&record->name);
        (void)json_unescape(key, &record->name);
        name = buf_str(&record->name);
    }
    if (record->slots_count == 0 || buf_failed(&record->name)) {
        return UINT32_MAX;
    }
    /* Wraps for an empty slot. */
    return record->slots[find_slot(record, name, hash_name(record, name))] - 1;
}

static bool guess_is_right(const struct record *record, uint32_t guess, struct json_span key)
{
    if (guess >= record->keys_count || key.escaped) {
        return false;
    }
    const struct record_key *known = &record->keys[guess];
    return key.text.len == known->name_size + 2 &&
           memcmp(key.text.ptr + 1, known->name, known->name_size) == 0;
}

void record_read(struct record *record, struct json_cursor *object)
{
    struct json_span key;
    struct json_span value;
    uint32_t at = 0; /* the guess: keys come in the order in which they were added */
    record->number++;
    record->touched_count = 0;
    while (json_next(object, &key, &value)) {
        if (!guess_is_right(record, at, key)) {
            uint32_t found = look_up(record, key);
            if (found == UINT32_MAX) {
                continue;
            }
            at = found;
        }
        struct record_key *known = &record->keys[at];
        known->value = value;
        if (known->seen != record->number) {
            known->seen = record->number;
            record->touched[record->touched_count++] = at;
        }
        at++;
    }
}
