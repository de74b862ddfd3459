/* ops_system.h - how busy the machine is, and one process on it.
 * Promise   shares of processor time are those since the look before (LOOK_MS ago or more; the same
 *           figures are given until then), the first look's since the machine or the process began.
 * Not here  the server's own process (ops_process).
 * Owner     struct api owns one.   Threads  any.   Errors  what the kernel does not tell is 0. */
#pragma once

#include <stdint.h>

struct ops_system;

struct ops_system_view {
    double process_memory_percent; /* resident, of the machine's */
    double process_cpu_percent;    /* of one processor */
    double memory_percent;         /* of the machine's, that is not available */
    double cpu_percent;            /* of all processors */
};

struct ops_system *ops_system_create(void);
void ops_system_destroy(struct ops_system *system);
/* `pid` 0: no process. */
void ops_system_look(struct ops_system *system, int pid, uint64_t resident_bytes,
                     struct ops_system_view *ret_view);
/* Used space of the file system that the path is on. */
double ops_disk_percent(const char *path);
