#include "worker_patches.h"

#include "mem.h"

#include <string.h>

struct patch {
    struct patch *next; /* a newer one */
    uint64_t begin;
    uint64_t end;
    char bytes[];
};

bool patches_add(struct patches *patches, const void *bytes, size_t size, uint64_t offset)
{
    if (size > PATCHES_SIZE_MAX - patches->size) {
        return false;
    }
    struct patch *patch = mem_try_resize(NULL, sizeof(*patch) + size);
    if (patch == NULL) {
        return false;
    }
    *patch = (struct patch){.begin = offset, .end = offset + size};
    memcpy(patch->bytes, bytes, size);
    *(patches->newest == NULL ? &patches->oldest : &patches->newest->next) = patch;
    patches->newest = patch;
    patches->size += size;
    return true;
}

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t patches_apply(const struct patches *patches, void *into, size_t size, uint64_t offset)
{
    uint64_t end = offset + size;
    uint64_t reached = offset;
    for (const struct patch *patch = patches->oldest; patch != NULL; patch = patch->next) {
        uint64_t from = greater(offset, patch->begin);
        uint64_t to = end < patch->end ? end : patch->end;
        if (from < to) {
            memcpy((char *)into + (from - offset), patch->bytes + (from - patch->begin),
                   (size_t)(to - from));
            reached = greater(reached, to);
        }
    }
    return reached;
}

uint64_t patches_end(const struct patches *patches)
{
    uint64_t end = 0;
    for (const struct patch *patch = patches->oldest; patch != NULL; patch = patch->next) {
        end = greater(end, patch->end);
    }
    return end;
}

void patches_finish(struct patches *patches)
{
    while (patches->oldest != NULL) {
        struct patch *next = patches->oldest->next;
        mem_free(patches->oldest);
        patches->oldest = next;
    }
    *patches = (struct patches){0};
}
