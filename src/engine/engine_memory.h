/* engine_memory.h - admission of workers by reserving memory.
 * Promise   the sum of all grants never exceeds the total, and whoever holds a slot always gets at
 *           least the floor (total / slots, at most 256 MiB): nobody waits for memory. A job that
 *           comes first gets up to its maximum; later ones get a growing part of less.
 * Owner     struct engine.   Threads  any. */
#pragma once

#include "thread.h"

struct engine_memory {
    struct lock lock; /* LOCK_MEMORY */
    uint64_t total_bytes;
    uint64_t per_job_bytes;
    uint64_t floor_bytes;
    unsigned slots;
    unsigned slots_used;
    uint64_t reserved_bytes;
};

void engine_memory_init(struct engine_memory *memory, uint64_t total_bytes, uint64_t per_job_bytes,
                        unsigned slots);
void engine_memory_finish(struct engine_memory *memory);
/* 0 when all slots are taken. */
uint64_t engine_memory_reserve(struct engine_memory *memory);
void engine_memory_release(struct engine_memory *memory, uint64_t granted_bytes);
uint64_t engine_memory_in_use(struct engine_memory *memory);
