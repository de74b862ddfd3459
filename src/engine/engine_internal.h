/* engine_internal.h - what jobs and databases share of the engine. Internal to the folder. */
#pragma once

#include "engine.h"
#include "engine_fetch.h"
#include "engine_memory.h"
#include "engine_zygote.h"

#include <stdatomic.h>

/* A worker that has reported and whose process the kernel still takes apart: its memory is not
 * granted again before. */
struct engine_leaver {
    int pidfd;
    uint64_t memory_bytes;
    struct engine_leaver *next;
};

struct engine {
    struct engine_options options;
    struct zygote *zygote;
    struct fetch_pool *fetchers;
    struct engine_memory memory;
    struct engine_counts counts;
    _Atomic(struct engine_leaver *) leavers;
    atomic_uint leavers_count; /* also those that somebody looks at */
};

/* RLIMIT_AS of a worker. Address space is more than memory: stacks, allocator arenas and mapped
 * code come on top of what the engine counts. */
uint64_t engine_address_space(uint64_t memory_bytes, unsigned threads);

/* Forks a worker, with a socket of its own, again with another zygote when one dies over it. On success the child is the
 * caller's to forget, and the socket its to close. */
bool engine_fork_worker(struct engine *engine, struct zygote_start start,
                        struct zygote_child *child, struct cancel *cancel, int *ret_socket_fd,
                        struct err *err) MUST_CHECK;
