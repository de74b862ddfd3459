#include "worker_pages.h"

#include "mem.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGE_PAGE (UINT64_C(2) << 20)
#define ADVICE_COLLAPSE 25 /* MADV_COLLAPSE, which Debian 12's header does not name yet */

enum {
    TOP_PAD = 128 * 1024, /* the allocator's own choice */
    GAP_SIZE_MAX = 256 * 1024,
    GAP_SIZE_MIN = 32,      /* the allocator's smallest, */
    GAP_STEP = 16,          /* its step, */
    GAP_OVERHEAD = 8,       /* and what it keeps of each for itself */
    GAP_SIZE_STEPPED = 1024 /* above that, steps of an eighth */
};

static uintptr_t heap_from; /* aligned; 0 before pages_align_heap */

struct code {
    uintptr_t wanted; /* an address in it */
    uintptr_t from;
    size_t size;
};

static uintptr_t round_up(uintptr_t address)
{
    return (address + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
}

/* Takes the whole large pages within the executable segment that holds the wanted address. */
static int find_code(struct dl_phdr_info *info, size_t size, void *context)
{
    struct code *code = context;
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + segment->p_vaddr;
        uintptr_t to = from + segment->p_memsz;
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0 && code->wanted >= from &&
            code->wanted < to) {
            uintptr_t last = to & ~(LARGE_PAGE - 1);
            code->from = round_up(from);
            code->size = last > code->from ? last - code->from : 0;
            return 1;
        }
    }
    return 0;
}

/* A copy in large pages, at an address of its own; false when the kernel has none. */
static bool copy_large(const struct code *code, char *copy)
{
    if (mprotect(copy, code->size, PROT_READ | PROT_WRITE) != 0 ||
        madvise(copy, code->size, MADV_HUGEPAGE) != 0) {
        return false;
    }
    memcpy(copy, (const void *)code->from, code->size);
    __builtin___clear_cache(copy, copy + code->size);
    return madvise(copy, code->size, ADVICE_COLLAPSE) == 0 &&
           mprotect(copy, code->size, PROT_READ | PROT_EXEC) == 0;
}

bool pages_enlarge_code(const void *function)
{
    struct code code = {.wanted = (uintptr_t)function};
    if (dl_iterate_phdr(find_code, &code) == 0 || code.size == 0) {
        return false;
    }
    size_t room = code.size + LARGE_PAGE;
    char *reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) {
        return false;
    }
    char *copy = reserved + (round_up((uintptr_t)reserved) - (uintptr_t)reserved);
    bool good =
        copy_large(&code, copy) && mremap(copy, code.size, code.size, MREMAP_MAYMOVE | MREMAP_FIXED,
                                          (void *)code.from) == (void *)code.from;
    /* What was moved away is a hole by now. */
    (void)munmap(reserved, room);
    return good;
}

/* The heap goes on where a large page begins. It grows by whole ones until it is enlarged. */
void pages_align_heap(void)
{
    uintptr_t end = (uintptr_t)sbrk(0);
    (void)sbrk((intptr_t)(round_up(end) - end)); /* the allocator steps over what is not its own */
    (void)mallopt(M_TOP_PAD, 2 * (int)LARGE_PAGE);
    /* Any of these settings ends the allocator's guesses: these are what it comes to by itself. */
    (void)mallopt(M_MMAP_THRESHOLD, 2 * (int)LARGE_PAGE);
    (void)mallopt(M_TRIM_THRESHOLD, 8 * (int)LARGE_PAGE);
    heap_from = round_up(end);
}

bool pages_enlarge_heap(void)
{
    uintptr_t to = (uintptr_t)sbrk(0) & ~(LARGE_PAGE - 1);
    (void)mallopt(M_TOP_PAD, TOP_PAD);
    return heap_from != 0 && to > heap_from &&
           madvise((void *)heap_from, to - heap_from, ADVICE_COLLAPSE) == 0;
}

/* Where there is no gap, the allocator takes a piece of what has never been used, behind `end`. */
static bool fill_gap(size_t size, const char *end)
{
    char *piece = mem_try_resize(NULL, size - GAP_OVERHEAD);
    bool filled = piece != NULL && piece < end;
    if (!filled && size > GAP_SIZE_STEPPED) {
        mem_free(piece);
    } /* a small one would be handed out again */
    return filled;
}

void pages_fill_gaps(void)
{
    const char *end = (char *)sbrk(0) - mallinfo2().keepcost;
    size_t size = GAP_SIZE_MAX;
    while (size >= GAP_SIZE_MIN) {
        while (fill_gap(size, end)) {
        }
        size -= size > GAP_SIZE_STEPPED ? size / 8 / GAP_STEP * GAP_STEP : GAP_STEP;
    }
}
