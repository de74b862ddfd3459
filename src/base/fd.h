/* fd.h - small helpers around descriptors and files. */
#pragma once

#include "err.h"
#include "str.h"

void fd_close(int *fd); /* for CLEANUP; -1 afterwards */
bool fd_write_all(int fd, struct str bytes, struct err *err) MUST_CHECK;

/* An unlinked file beneath `directory`, read and write, that is gone when its last descriptor
 * closes. -1 on failure. */
int fd_temporary(const char *directory, struct err *err);

/* Creates every directory of an absolute or relative path that is missing, mode 0700. */
bool fd_make_directories(const char *path, struct err *err) MUST_CHECK;
