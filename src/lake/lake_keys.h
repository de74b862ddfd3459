/* lake_keys.h - idempotency keys: which requests were answered already, and how; for lake*.c only.
 * Promise   a key that was begun and ended is known for LAKE_KEYS_LIFE_MS at least, also after a
 *           crash: its ROWS record has it, and before that is trimmed, KEYS in the log of plans.
 *           Never forgotten early: when there are too many, new ones are refused. Steps of the wall
 *           clock change nothing while the server runs; after a start the age of a key is what the
 *           clock says, and one from the future is as good as new, once.
 * Owner     struct lake.   Threads  any; LOCK_KEYS inside.
 * Errors    ERR_CONFLICT (a request with the key is running), ERR_BUSY (too many keys).
 * Limits    24 h; two hours more, so that a clock that is set forward by one takes nothing away. */
#pragma once

#include "lake_log.h"

struct lake;
struct lake_keys;

#define LAKE_KEYS_LIFE_MS (INT64_C(26) * 3600 * 1000)

struct lake_keys *lake_keys_create(uint64_t keys_max);
void lake_keys_destroy(struct lake_keys *keys);

/* Takes the key for a request that begins now. `ret_known` when it was answered before (then
 * nothing is taken): ret_known->position is not 0. */
bool lake_keys_begin(struct lake_keys *keys, const unsigned char key[static LAKE_KEY_SIZE],
                     struct lake_log_key *ret_known, struct err *err) MUST_CHECK;
/* The request is answered. */
void lake_keys_end(struct lake_keys *keys, const struct lake_log_key *answer);
/* The same from the log. */
void lake_keys_restore(struct lake_keys *keys, const struct lake_log_key *answer);
/* The request has kept nothing: the key is free. */
void lake_keys_forget(struct lake_keys *keys, const unsigned char key[static LAKE_KEY_SIZE]);
/* The same for a batch that was cancelled, known by its position alone; for replay. */
void lake_keys_forget_position(struct lake_keys *keys, uint64_t position);

/* Keys of positions below `below` that only the log of records has are written to the log of plans,
 * durably. */
bool lake_keys_save(struct lake *lake, uint64_t below, struct err *err) MUST_CHECK;
/* The first sequence of the log of plans that holds a living key; UINT64_MAX without any. Forgets
 * what is too old at now_ms (clock_now_ms). */
uint64_t lake_keys_needed_from(struct lake_keys *keys, int64_t now_ms);
/* Replay of KEYS: `sequence` is its record's. */
bool lake_keys_replay(struct lake_keys *keys, uint64_t sequence, struct str payload,
                      struct err *err) MUST_CHECK;
