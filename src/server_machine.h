/* server_machine.h - what the machine or container gives this process, and what the settings make
 * of it. */
#pragma once

#include "config.h"

uint64_t machine_memory_bytes(void); /* the lesser of the machine's and the cgroup's */
unsigned machine_processors(void);   /* those this process may run on, at least 1 */

struct server_memory {
    uint64_t machine_bytes;
    uint64_t total_bytes; /* of all query processes */
    uint64_t per_job_bytes;
    unsigned slots;
};
struct server_memory server_memory(const struct config *config);

/* The file of certificate authorities and the setting that names it; NULL for the system's. */
const char *server_ca_file(const struct config *config, const char **ret_setting);
