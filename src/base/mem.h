/* mem.h - the only door to the allocator.
 * Promise   mem_alloc and friends never return NULL: running out of memory for a small, bounded
 *           object ends the process with a message, because no caller could do better. Large,
 *           input-sized memory is taken through struct buf or struct arena, which have a ceiling
 *           and report failure.
 * Threads   any. */
#pragma once

#include "macros.h"

void *mem_alloc(size_t size);                     /* zeroed */
void *mem_alloc_array(size_t count, size_t size); /* zeroed; count * size may not overflow */
/* Room for `more` elements behind the `count` that there are: the array itself, or one at least
 * twice as large that has taken its place, its new room zeroed. Accepts NULL with count 0. */
void *mem_grow(void *array_take, size_t count, size_t more, size_t *capacity, size_t size);
void *mem_try_resize(void *pointer, size_t size);     /* NULL when it cannot; it stays then */
char *mem_copy_text(const char *text);                /* NULL in, NULL out */
char *mem_copy_bytes(const void *bytes, size_t size); /* adds a NUL */
void mem_free(void *pointer);
void mem_free_text(char **text); /* for CLEANUP */
void mem_wipe(void *pointer, size_t size);

/* As mem_try_resize, for what is large and soon over: more than a little of it is one of the
 * blocks, whose pages stay for the next, while there are any. mem_free takes it back. */
void *mem_try_resize_block(void *pointer, size_t size);

/* From now on the process keeps what was freed, for the next to ask: at most MEM_KEPT_SIZE in each
 * of so many pools, which its threads share; and there are blocks, of which so many keep their
 * pages, and no others. */
enum {
    MEM_KEPT_SIZE = 4 << 20,
    MEM_BLOCK_SIZE = 4 << 20,
    MEM_BLOCK_KEPT_SIZE = 9 << 18, /* of a block: what is behind that goes back */
    MEM_BLOCKS_COUNT = 64,
    MEM_BLOCKS_KEPT = 12
};
void mem_keep_freed(unsigned pools);
