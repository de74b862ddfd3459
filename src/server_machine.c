#include "server_machine.h"

#include "num.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

/* A cgroup's limit as a number; "max", or a file that is not there, is no limit. */
static uint64_t read_limit(const char *path)
{
    char text[64] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return UINT64_MAX;
    }
    bool read = fgets(text, sizeof(text), file) != NULL;
    (void)fclose(file);
    uint64_t limit;
    struct err ignored;
    return read && num_parse_u64(str_trim(str_of(text)), 1, UINT64_MAX, &limit, &ignored)
               ? limit
               : UINT64_MAX;
}

uint64_t machine_memory_bytes(void)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t v2 = read_limit("/sys/fs/cgroup/memory.max");
    uint64_t v1 = read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    memory = v2 < memory ? v2 : memory;
    return v1 < memory ? v1 : memory;
}

unsigned machine_processors(void)
{
    cpu_set_t allowed;
    int count = sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    return count < 1 ? 1 : (unsigned)count;
}
