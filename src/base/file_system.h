/* file_system.h - what kind of file system a folder is on: whether a sync there means what it says.
 * Errors    ERR_UNAVAILABLE: the folder cannot be asked.   Threads  any. */
#pragma once

#include "err.h"

enum file_system {
    FILE_SYSTEM_LOCAL,
    FILE_SYSTEM_OVERLAY, /* a container's own layer: gone with the container */
    FILE_SYSTEM_NETWORK  /* another machine decides when a byte is durable, and who holds a lock */
};

bool file_system_of(const char *path, enum file_system *ret_kind, struct err *err) MUST_CHECK;

/* By the number that statfs gives; what is not known counts as local. */
enum file_system file_system_of_magic(uint32_t magic);
