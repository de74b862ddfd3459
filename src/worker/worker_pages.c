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

struct segment {
    uintptr_t wanted; /* an address in it */
    uintptr_t from;   /* of its whole large pages */
    size_t size;
    int protection;
};

static uintptr_t round_up(uintptr_t address)
{
    return (address + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
}

static int protection_of(unsigned flags)
{
    return ((flags & PF_R) != 0 ? PROT_READ : 0) | ((flags & PF_X) != 0 ? PROT_EXEC : 0);
}

/* One that nobody writes to. */
static int find_segment(struct dl_phdr_info *info, size_t size, void *context)
{
    struct segment *found = context;
    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + segment->p_vaddr;
        uintptr_t to = from + segment->p_memsz;
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0 && found->wanted >= from &&
            found->wanted < to) {
            uintptr_t last = to & ~(LARGE_PAGE - 1);
            found->from = round_up(from);
            found->size = last > found->from ? last - found->from : 0;
            found->protection = protection_of(segment->p_flags);
            return 1;
        }
    }
    return 0;
}

/* A copy in large pages, at an address of its own; false when the kernel has none. */
static bool copy_large(const struct segment *segment, char *copy)
{
    if (mprotect(copy, segment->size, PROT_READ | PROT_WRITE) != 0 ||
        madvise(copy, segment->size, MADV_HUGEPAGE) != 0) {
        return false;
    }
    memcpy(copy, (const void *)segment->from, segment->size);
    __builtin___clear_cache(copy, copy + segment->size);
    return madvise(copy, segment->size, ADVICE_COLLAPSE) == 0 &&
           mprotect(copy, segment->size, segment->protection) == 0;
}

/* The first `size_max` bytes of the segment. */
static bool enlarge(const void *inside, size_t size_max)
{
    struct segment segment = {.wanted = (uintptr_t)inside};
    if (dl_iterate_phdr(find_segment, &segment) == 0 || segment.size == 0) {
        return false;
    }
    segment.size = segment.size < size_max ? segment.size : size_max;
    size_t room = segment.size + LARGE_PAGE;
    char *reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) {
        return false;
    }
    char *copy = reserved + (round_up((uintptr_t)reserved) - (uintptr_t)reserved);
    bool good = copy_large(&segment, copy) &&
                mremap(copy, segment.size, segment.size, MREMAP_MAYMOVE | MREMAP_FIXED,
                       (void *)segment.from) == (void *)segment.from;
    /* What was moved away is a hole by now. */
    (void)munmap(reserved, room);
    return good;
}

bool pages_enlarge_code(const void *function)
{
    return enlarge(function, SIZE_MAX);
}

bool pages_enlarge_constants(const void *constant)
{
    return enlarge(constant, LARGE_PAGE);
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
