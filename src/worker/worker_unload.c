#include "worker_unload.h"

#include "str.h"

#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    LIBRARIES_MAX = 256
};

struct library {
    struct str name; /* without its folder, as those that need it call it */
    uintptr_t base;
    const ElfW(Phdr) * headers;
    size_t headers_count;
    bool wanted;
    bool followed; /* what it needs is wanted too */
};

struct library_list {
    struct library items[LIBRARIES_MAX];
    size_t count;
};

static struct str last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return str_of(slash == NULL ? path : slash + 1);
}

static int add_library(struct dl_phdr_info *info, size_t size, void *context)
{
    struct library_list *list = context;
    (void)size;
    if (list->count == LIBRARIES_MAX) {
        return 1;
    }
    list->items[list->count++] = (struct library){
        .name = last_part(info->dlpi_name),
        .base = info->dlpi_addr,
        .headers = info->dlpi_phdr,
        .headers_count = info->dlpi_phnum,
    };
    return 0;
}

static const ElfW(Phdr) * find_header(const struct library *library, unsigned type)
{
    for (size_t i = 0; i < library->headers_count; i++) {
        if (library->headers[i].p_type == type) {
            return &library->headers[i];
        }
    }
    return NULL;
}

static bool holds(const struct library *library, uintptr_t address)
{
    for (size_t i = 0; i < library->headers_count; i++) {
        const ElfW(Phdr) *header = &library->headers[i];
        uintptr_t from = library->base + header->p_vaddr;
        if (header->p_type == PT_LOAD && address >= from && address - from < header->p_memsz) {
            return true;
        }
    }
    return false;
}

static void want_needed(struct library_list *list, const struct library *library)
{
    const ElfW(Phdr) *header = find_header(library, PT_DYNAMIC);
    if (header == NULL) {
        return;
    }
    const ElfW(Dyn) *entries = (const ElfW(Dyn) *)(library->base + header->p_vaddr);
    const char *texts = NULL;
    for (const ElfW(Dyn) *entry = entries; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_STRTAB) {
            texts = (const char *)entry->d_un.d_ptr; /* the dynamic linker has added the base */
        }
    }
    for (const ElfW(Dyn) *entry = entries; texts != NULL && entry->d_tag != DT_NULL; entry++) {
        for (size_t i = 0; entry->d_tag == DT_NEEDED && i < list->count; i++) {
            struct library *needed = &list->items[i];
            needed->wanted |= str_equal(needed->name, last_part(texts + entry->d_un.d_val));
        }
    }
}

/* The first is the program itself, which needs them all; the kernel's own has addresses that nobody
 * has added its base to. Neither is followed. */
static void want_kept(struct library_list *list, const void *const *kept, size_t kept_count)
{
    for (size_t i = 0; i < list->count; i++) {
        struct library *library = &list->items[i];
        const ElfW(Phdr) *variables = find_header(library, PT_TLS);
        library->followed = i == 0 || holds(library, getauxval(AT_SYSINFO_EHDR));
        library->wanted = library->followed || holds(library, getauxval(AT_BASE)) ||
                          (variables != NULL && variables->p_filesz > 0);
        for (size_t k = 0; k < kept_count; k++) {
            library->wanted |= holds(library, (uintptr_t)kept[k]);
        }
    }
}

static void want_all_needed(struct library_list *list)
{
    bool found;
    do {
        found = false;
        for (size_t i = 0; i < list->count; i++) {
            struct library *library = &list->items[i];
            if (library->wanted && !library->followed) {
                library->followed = true;
                want_needed(list, library);
                found = true;
            }
        }
    } while (found);
}

static unsigned unmap(uintptr_t from, uintptr_t to)
{
    return from < to && munmap((void *)from, to - from) == 0;
}

/* But for the pages with its headers. */
static unsigned unmap_library(const struct library *library)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t keep_from = (uintptr_t)library->headers & ~(page - 1);
    uintptr_t keep_to =
        ((uintptr_t)(library->headers + library->headers_count) + page - 1) & ~(page - 1);
    unsigned count = 0;
    for (size_t i = 0; i < library->headers_count; i++) {
        const ElfW(Phdr) *header = &library->headers[i];
        if (header->p_type == PT_LOAD) {
            uintptr_t from = (library->base + header->p_vaddr) & ~(page - 1);
            uintptr_t to =
                (library->base + header->p_vaddr + header->p_memsz + page - 1) & ~(page - 1);
            bool here = keep_from >= from && keep_to <= to;
            count += here ? unmap(from, keep_from) + unmap(keep_to, to) : unmap(from, to);
        }
    }
    return count;
}

unsigned unload_others(const void *const *kept, size_t kept_count)
{
    static struct library_list list;
    list.count = 0;
    if (dl_iterate_phdr(add_library, &list) != 0) {
        return 0; /* too many to judge */
    }
    want_kept(&list, kept, kept_count);
    want_all_needed(&list);
    unsigned count = 0;
    for (size_t i = 0; i < list.count; i++) {
        count += list.items[i].wanted ? 0 : unmap_library(&list.items[i]);
    }
    return count;
}

pid_t unload_fork(void)
{
    return _Fork();
}
