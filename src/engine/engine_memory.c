#include "engine_memory.h"

#define FLOOR_BYTES_MAX (UINT64_C(256) << 20)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void engine_memory_init(struct engine_memory *memory, uint64_t total_bytes, uint64_t per_job_bytes,
                        unsigned slots)
{
    assert(slots > 0);
    *memory = (struct engine_memory){
        .total_bytes = total_bytes,
        .per_job_bytes = per_job_bytes,
        .floor_bytes = least(least(total_bytes / slots, FLOOR_BYTES_MAX), per_job_bytes),
        .slots = slots,
    };
    lock_init(&memory->lock, LOCK_MEMORY);
}

void engine_memory_finish(struct engine_memory *memory)
{
    assert(memory->reserved_bytes == 0);
    lock_finish(&memory->lock);
}

/* What is left after every free slot has been left its floor is the surplus; a job takes half of it
 * at the most, so that those who come next find something too. */
uint64_t engine_memory_reserve(struct engine_memory *memory)
{
    uint64_t granted = 0;
    lock_take(&memory->lock);
    if (memory->slots_used < memory->slots) {
        uint64_t floors = memory->floor_bytes * (memory->slots - memory->slots_used);
        uint64_t surplus = memory->total_bytes - memory->reserved_bytes - floors;
        uint64_t extra = memory->per_job_bytes - memory->floor_bytes;
        granted = memory->floor_bytes + least(extra, surplus / 2);
        memory->reserved_bytes += granted;
        memory->slots_used++;
    }
    lock_release(&memory->lock);
    return granted;
}

void engine_memory_release(struct engine_memory *memory, uint64_t granted_bytes)
{
    lock_take(&memory->lock);
    assert(memory->slots_used > 0 && granted_bytes <= memory->reserved_bytes);
    memory->slots_used--;
    memory->reserved_bytes -= granted_bytes;
    lock_release(&memory->lock);
}

uint64_t engine_memory_in_use(struct engine_memory *memory)
{
    lock_take(&memory->lock);
    uint64_t bytes = memory->reserved_bytes;
    lock_release(&memory->lock);
    return bytes;
}
