/* server_machine.h - what the machine or container gives this process. */
#pragma once

#include "macros.h"

uint64_t machine_memory_bytes(void); /* the lesser of the machine's and the cgroup's */
unsigned machine_processors(void);   /* those this process may run on, at least 1 */
