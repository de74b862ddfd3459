#include "server_machine.h"

#include "num.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define MEMORY_PER_JOB_MAX UINT64_C(6000000000)

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

struct server_memory server_memory(const struct config *config)
{
    struct server_memory memory = {
        .machine_bytes = machine_memory_bytes(),
        .slots = (unsigned)config_number(config, "SIDECAR_MAX_CONCURRENT_QUERIES") +
                 (unsigned)config_number(config, "SIDECAR_MAX_CONCURRENT_SNAPSHOTS") +
                 (unsigned)config_number(config, "EIDER_MAX_CONCURRENT_INGESTS") +
                 (unsigned)config_number(config, "EIDER_MAX_CONCURRENT_ROWS") +
                 (unsigned)config_number(config, "EIDER_FLUSH_THREADS"),
    };
    uint64_t quarter = memory.machine_bytes / 4;
    memory.total_bytes = config_is_given(config, "EIDER_MEMORY_TOTAL")
                             ? config_number(config, "EIDER_MEMORY_TOTAL")
                             : quarter * 3;
    uint64_t per_job = config_is_given(config, "DUCKDB_MEMORY_LIMIT")
                           ? config_number(config, "DUCKDB_MEMORY_LIMIT")
                       : quarter < MEMORY_PER_JOB_MAX ? quarter
                                                      : MEMORY_PER_JOB_MAX;
    memory.per_job_bytes = per_job < memory.total_bytes ? per_job : memory.total_bytes;
    return memory;
}

const char *server_ca_file(const struct config *config, const char **ret_setting)
{
    static const char *const names[] = {"EIDER_CA_FILE", "AWS_CA_BUNDLE", "SSL_CERT_FILE",
                                        "NODE_EXTRA_CA_CERTS"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (config_text(config, names[i]) != NULL) {
            *ret_setting = names[i];
            return config_text(config, names[i]);
        }
    }
    return NULL;
}
