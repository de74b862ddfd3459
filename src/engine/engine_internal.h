/* engine_internal.h - what jobs and databases share of the engine. Internal to the folder. */
#pragma once

#include "engine.h"
#include "engine_fetch.h"
#include "engine_memory.h"
#include "engine_zygote.h"

#include <stdatomic.h>

struct engine {
    struct engine_options options;
    int program_fd; /* of the processes that it starts */
    struct zygote *zygote;
    struct fetch_pool *fetchers;
    struct engine_memory memory;
    struct engine_counts counts;
    _Atomic(struct engine_leaver *) leavers;
    atomic_uint leavers_count; /* with those that somebody looks at just now */
};

/* RLIMIT_AS of a worker. Address space is more than memory: stacks, allocator arenas and mapped
 * code come on top of what the engine counts. */
uint64_t engine_address_space(uint64_t memory_bytes, unsigned threads);

/* Forks a worker, with a socket of its own, again with another zygote when one dies over it. On
 * success the child is the caller's to forget, and the socket its to close. */
bool engine_fork_worker(struct engine *engine, struct zygote_start start,
                        struct zygote_child *child, struct cancel *cancel, int *ret_socket_fd,
                        struct err *err) MUST_CHECK;

/* Takes the process of a worker that has reported: sends it SIGKILL, and keeps its memory until it
 * is gone. */
void leavers_take(struct engine *engine, int pidfd, uint64_t memory_bytes);
/* Lets go of those that are gone; waits for each so long. True when there is memory now that there
 * was not. */
bool leavers_release(struct engine *engine, int wait_ms);
