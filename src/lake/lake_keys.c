#include "lake_keys.h"

#include "clock.h"
#include "lake_internal.h"
#include "mem.h"

enum {
    SLOTS_MIN = 1024,
    SAVE_MAX = 100000 /* keys of one KEYS record */
};

enum state {
    STATE_FREE,
    STATE_GONE, /* a slot that searches go over */
    STATE_RUNNING,
    STATE_KNOWN
};

struct entry {
    struct lake_log_key answer;
    enum state state;
    int64_t
        until_ms;   /* STATE_KNOWN: clock_now_ms, so that steps of the wall clock change nothing */
    uint64_t saved; /* the sequence of its KEYS record, 0: none */
};

struct lake_keys {
    struct lock lock;      /* LOCK_KEYS */
    struct entry *entries; /* open addressing; the key is a hash already */
    size_t slots;          /* a power of two */
    size_t used;           /* not free */
    size_t count;          /* running or known */
    uint64_t keys_max;
};

struct lake_keys *lake_keys_create(uint64_t keys_max)
{
    struct lake_keys *keys = mem_alloc(sizeof(*keys));
    lock_init(&keys->lock, LOCK_KEYS);
    keys->keys_max = keys_max;
    keys->slots = SLOTS_MIN;
    keys->entries = mem_alloc_array(keys->slots, sizeof(*keys->entries));
    return keys;
}

void lake_keys_destroy(struct lake_keys *keys)
{
    if (keys != NULL) {
        lock_finish(&keys->lock);
        mem_free(keys->entries);
        mem_free(keys);
    }
}

/* The slot of the key, or the free one where it would be. */
static struct entry *find(struct entry *entries, size_t slots, const unsigned char *key)
{
    uint64_t hash;
    memcpy(&hash, key, sizeof(hash));
    size_t at = (size_t)hash & (slots - 1);
    while (entries[at].state != STATE_FREE &&
           (entries[at].state == STATE_GONE ||
            memcmp(entries[at].answer.key, key, LAKE_KEY_SIZE) != 0)) {
        at = (at + 1) & (slots - 1);
    }
    return &entries[at];
}

static bool is_living(const struct entry *entry, int64_t now_ms)
{
    return entry->state == STATE_RUNNING ||
           (entry->state == STATE_KNOWN && entry->until_ms > now_ms);
}

/* Into a table of the right size, without those that are gone or too old. */
static void rebuild(struct lake_keys *keys, int64_t now_ms)
{
    size_t living = 0;
    for (size_t i = 0; i < keys->slots; i++) {
        living += is_living(&keys->entries[i], now_ms) ? 1 : 0;
    }
    size_t slots = SLOTS_MIN;
    while (slots < 4 * (living + 1)) {
        slots *= 2;
    }
    struct entry *entries = mem_alloc_array(slots, sizeof(*entries));
    for (size_t i = 0; i < keys->slots; i++) {
        if (is_living(&keys->entries[i], now_ms)) {
            *find(entries, slots, keys->entries[i].answer.key) = keys->entries[i];
        }
    }
    mem_free(keys->entries);
    keys->entries = entries;
    keys->slots = slots;
    keys->used = living;
    keys->count = living;
}

static struct entry *add(struct lake_keys *keys, const unsigned char *key)
{
    if (2 * (keys->used + 1) > keys->slots) {
        rebuild(keys, clock_now_ms());
    }
    struct entry *entry = find(keys->entries, keys->slots, key);
    if (entry->state == STATE_FREE) {
        keys->used++;
        keys->count++;
        memcpy(entry->answer.key, key, LAKE_KEY_SIZE);
    }
    return entry;
}

bool lake_keys_begin(struct lake_keys *keys, const unsigned char key[static LAKE_KEY_SIZE],
                     struct lake_log_key *ret_known, struct err *err)
{
    bool good = true;
    *ret_known = (struct lake_log_key){0};
    lock_take(&keys->lock);
    const struct entry *entry = find(keys->entries, keys->slots, key);
    if (entry->state == STATE_KNOWN && is_living(entry, clock_now_ms())) {
        *ret_known = entry->answer;
    } else if (entry->state == STATE_RUNNING) {
        good = err_set(err, ERR_CONFLICT,
                       "a request with this Idempotency-Key is running; try again when it is over");
    } else {
        if (keys->count >= keys->keys_max) {
            rebuild(keys, clock_now_ms());
        }
        good = keys->count < keys->keys_max ||
               err_set(err, ERR_BUSY, "too many idempotency keys in the last 24 hours");
        if (good) {
            struct entry *added = add(keys, key);
            added->state = STATE_RUNNING;
            added->saved = 0;
        }
    }
    lock_release(&keys->lock);
    return good;
}

static void know(struct lake_keys *keys, const struct lake_log_key *answer, int64_t life_ms)
{
    lock_take(&keys->lock);
    struct entry *entry = add(keys, answer->key);
    entry->until_ms = clock_now_ms() + life_ms;
    if (entry->answer.position != answer->position) {
        entry->saved = 0; /* what was saved is an answer of long ago */
    }
    entry->state = STATE_KNOWN;
    entry->answer = *answer;
    lock_release(&keys->lock);
}

void lake_keys_end(struct lake_keys *keys, const struct lake_log_key *answer)
{
    know(keys, answer, LAKE_KEYS_LIFE_MS);
}

/* One that came at a time that is still ahead has come just now: the clock was wrong, or is. */
void lake_keys_restore(struct lake_keys *keys, const struct lake_log_key *answer)
{
    int64_t wall_ms = clock_wall_ms();
    int64_t age_ms = answer->arrival_ms > wall_ms ? 0
                     : answer->arrival_ms < wall_ms - LAKE_KEYS_LIFE_MS
                         ? LAKE_KEYS_LIFE_MS
                         : wall_ms - answer->arrival_ms;
    know(keys, answer, LAKE_KEYS_LIFE_MS - age_ms);
}

static void forget(struct lake_keys *keys, struct entry *entry)
{
    if (entry->state == STATE_RUNNING || entry->state == STATE_KNOWN) {
        entry->state = STATE_GONE;
        keys->count--;
    }
}

void lake_keys_forget(struct lake_keys *keys, const unsigned char key[static LAKE_KEY_SIZE])
{
    lock_take(&keys->lock);
    forget(keys, find(keys->entries, keys->slots, key));
    lock_release(&keys->lock);
}

void lake_keys_forget_position(struct lake_keys *keys, uint64_t position)
{
    lock_take(&keys->lock);
    for (size_t i = 0; i < keys->slots; i++) {
        if (keys->entries[i].state == STATE_KNOWN && keys->entries[i].answer.position == position) {
            forget(keys, &keys->entries[i]);
        }
    }
    lock_release(&keys->lock);
}

/* ---- the log of plans ---- */

/* Up to SAVE_MAX keys that only the log of records has; which slots they are in goes to `taken`. */
static uint32_t gather(struct lake_keys *keys, uint64_t below, int64_t now_ms, struct buf *payload,
                       unsigned char (*taken)[LAKE_KEY_SIZE])
{
    uint32_t count = 0;
    lock_take(&keys->lock);
    for (size_t i = 0; i < keys->slots && count < SAVE_MAX; i++) {
        const struct entry *entry = &keys->entries[i];
        if (entry->state == STATE_KNOWN && entry->saved == 0 && entry->answer.position < below &&
            is_living(entry, now_ms)) {
            lake_log_put_key(payload, &entry->answer);
            memcpy(taken[count++], entry->answer.key, LAKE_KEY_SIZE);
        }
    }
    lock_release(&keys->lock);
    return count;
}

static void mark_saved(struct lake_keys *keys, unsigned char (*taken)[LAKE_KEY_SIZE],
                       uint32_t count, uint64_t sequence)
{
    lock_take(&keys->lock);
    for (uint32_t i = 0; i < count; i++) {
        struct entry *entry = find(keys->entries, keys->slots, taken[i]);
        if (entry->state == STATE_KNOWN) {
            entry->saved = sequence;
        }
    }
    lock_release(&keys->lock);
}

static bool save_some(struct lake *lake, uint64_t below, uint32_t *ret_count, struct err *err)
{
    unsigned char(*taken)[LAKE_KEY_SIZE] = mem_alloc_array(SAVE_MAX, LAKE_KEY_SIZE);
    struct buf keys;
    struct buf payload;
    buf_init(&keys, WAL_PAYLOAD_SIZE_MAX - sizeof(uint32_t));
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    *ret_count = gather(lake->keys, below, clock_now_ms(), &keys, taken);
    bool good = true;
    if (*ret_count > 0) {
        struct wal_record record = {.type = LAKE_LOG_KEYS, .urgent = true};
        struct wal_place place;
        worker_put_u32(&payload, *ret_count);
        buf_append(&payload, buf_str(&keys));
        good = wal_append_wait(lake->plans, &record, &payload, &place, err);
        if (good) {
            mark_saved(lake->keys, taken, *ret_count, place.sequence);
        }
    }
    buf_finish(&payload);
    buf_finish(&keys);
    mem_free(taken);
    return good;
}

bool lake_keys_save(struct lake *lake, uint64_t below, struct err *err)
{
    uint32_t count;
    do {
        if (!save_some(lake, below, &count, err)) {
            return false;
        }
    } while (count > 0);
    return true;
}

uint64_t lake_keys_needed_from(struct lake_keys *keys, int64_t now_ms)
{
    uint64_t sequence = UINT64_MAX;
    lock_take(&keys->lock);
    for (size_t i = 0; i < keys->slots; i++) {
        struct entry *entry = &keys->entries[i];
        if (!is_living(entry, now_ms)) {
            forget(keys, entry);
        } else if (entry->saved > 0 && entry->saved < sequence) {
            sequence = entry->saved;
        }
    }
    lock_release(&keys->lock);
    return sequence;
}

bool lake_keys_replay(struct lake_keys *keys, uint64_t sequence, struct str payload,
                      struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t count = worker_get_u32(&cursor);
    for (uint32_t i = 0; i < count && !cursor.failed; i++) {
        struct lake_log_key key;
        lake_log_get_key(&cursor, &key);
        if (!cursor.failed) {
            lake_keys_restore(keys, &key);
            lock_take(&keys->lock);
            find(keys->entries, keys->slots, key.key)->saved = sequence;
            lock_release(&keys->lock);
        }
    }
    return worker_get_end(&cursor) ||
           err_set(err, ERR_CORRUPT, "the log of plans holds keys that cannot be read");
}
