#include "mem.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void *mem_try_resize(void *pointer, size_t size)
{
    return realloc(pointer, size == 0 ? 1 : size);
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
    free(pointer);
}

void mem_free_text(char **text)
{
    free(*text);
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
}
