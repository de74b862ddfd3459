#include "mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    BLOCK_FROM = 128 << 10 /* less than that is not worth a block */
};

/* Blocks lie side by side, so that an address tells which one it is of. The lowest free one is
 * given out first: so the first few are in use again and again, and they alone keep their pages. */
static struct {
    char *start;             /* NULL: there are none */
    _Atomic(uint64_t) taken; /* by bit */
} blocks;
static_assert(MEM_BLOCKS_COUNT == 64, "a bit for each");

static void *or_abort(void *pointer)
{
    if (pointer == NULL) {
        (void)fputs("eider: out of memory\n", stderr);
        abort();
    }
    return pointer;
}

/* The allocator keeps freed pieces of up to this size at hand for each thread, and takes them in
 * malloc, but not in calloc, which goes to the lists that all threads share. */
enum {
    AT_HAND_SIZE_MAX = 1032
};

static void *alloc_small(size_t size)
{
    void *pointer = or_abort(malloc(size));
    __asm__("" : "+r"(pointer)); /* else the compiler makes a calloc of the two again */
    return memset(pointer, 0, size);
}

void *mem_alloc(size_t size)
{
    size_t needed = size == 0 ? 1 : size;
    return needed <= AT_HAND_SIZE_MAX ? alloc_small(needed) : or_abort(calloc(1, needed));
}

void *mem_alloc_array(size_t count, size_t size)
{
    size_t items = count == 0 ? 1 : count;
    size_t each = size == 0 ? 1 : size;
    bool small = items <= AT_HAND_SIZE_MAX && each <= AT_HAND_SIZE_MAX / items;
    return small ? alloc_small(items * each) : or_abort(calloc(items, each));
}

void *mem_grow(void *array_take, size_t count, size_t more, size_t *capacity, size_t size)
{
    assert(count <= *capacity);
    if (*capacity - count >= more) {
        return array_take;
    }
    *capacity = 2 * *capacity + more;
    void *grown = mem_alloc_array(*capacity, size);
    if (count > 0) {
        memcpy(grown, array_take, count * size);
    }
    mem_free(array_take);
    return grown;
}

/* ---- blocks ---- */

static bool is_block(const void *pointer)
{
    return blocks.start != NULL && (uintptr_t)pointer >= (uintptr_t)blocks.start &&
           (uintptr_t)pointer - (uintptr_t)blocks.start < (size_t)MEM_BLOCKS_COUNT * MEM_BLOCK_SIZE;
}

static void *take_block(void)
{
    uint64_t taken = atomic_load(&blocks.taken);
    uint64_t bit;
    do {
        if (blocks.start == NULL || taken == UINT64_MAX) {
            return NULL;
        }
        bit = ~taken & (taken + 1);
    } while (!atomic_compare_exchange_weak(&blocks.taken, &taken, taken | bit));
    return blocks.start + (size_t)__builtin_ctzll(bit) * MEM_BLOCK_SIZE;
}

static void give_block(char *block)
{
    size_t index = (size_t)(block - blocks.start) / MEM_BLOCK_SIZE;
    assert(block == blocks.start + index * MEM_BLOCK_SIZE);
    size_t kept = index < MEM_BLOCKS_KEPT ? MEM_BLOCK_KEPT_SIZE : 0;
    (void)madvise(block + kept, MEM_BLOCK_SIZE - kept, MADV_DONTNEED);
    uint64_t bit = UINT64_C(1) << index;
    uint64_t before = atomic_fetch_and(&blocks.taken, ~bit);
    assert((before & bit) != 0);
}

/* Sanitizers see no use after free in a block, so there are none then. */
static void make_blocks(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    char *start = mmap(NULL, (size_t)MEM_BLOCKS_COUNT * MEM_BLOCK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    blocks.start = start == MAP_FAILED ? NULL : start;
#endif
}

/* ---- growing ---- */

void *mem_try_resize(void *pointer, size_t size)
{
    assert(!is_block(pointer));
    return realloc(pointer, size == 0 ? 1 : size);
}

static void *move(void *from, size_t from_size, void *into, size_t into_size)
{
    if (into != NULL && from != NULL) {
        memcpy(into, from, from_size < into_size ? from_size : into_size);
        mem_free(from);
    }
    return into;
}

void *mem_try_resize_block(void *pointer, size_t size)
{
    if (is_block(pointer)) {
        return size <= MEM_BLOCK_SIZE ? pointer : move(pointer, MEM_BLOCK_SIZE, malloc(size), size);
    }
    void *block = size >= BLOCK_FROM && size <= MEM_BLOCK_SIZE ? take_block() : NULL;
    return block == NULL ? mem_try_resize(pointer, size)
                         : move(pointer, malloc_usable_size(pointer), block, size);
}

char *mem_copy_text(const char *text)
{
    return text == NULL ? NULL : mem_copy_bytes(text, strlen(text));
}

char *mem_copy_bytes(const void *bytes, size_t size)
{
    char *copy = or_abort(malloc(size + 1));
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    copy[size] = '\0';
    return copy;
}

void mem_free(void *pointer)
{
    if (is_block(pointer)) {
        give_block(pointer);
    } else {
        free(pointer);
    }
}

void mem_free_text(char **text)
{
    mem_free(*text);
    *text = NULL;
}

void mem_wipe(void *pointer, size_t size)
{
    if (pointer != NULL) {
        explicit_bzero(pointer, size);
    }
}

/* By itself the allocator gives each body's buffers back to the kernel, and the next body pays for
 * every page once more: a third of what a row costs. */
void mem_keep_freed(unsigned pools)
{
    (void)mallopt(M_ARENA_MAX, (int)pools);
    (void)mallopt(M_MMAP_THRESHOLD, MEM_KEPT_SIZE);
    (void)mallopt(M_TRIM_THRESHOLD, MEM_KEPT_SIZE);
    if (blocks.start == NULL) {
        make_blocks();
    }
}
