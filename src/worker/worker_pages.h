/* worker_pages.h - the engine's code and constants, and the zygote's heap, in large pages.
 * Promise   pages_enlarge_code() moves the code of the library that holds `function` into memory of
 *           the process's own that is made of 2 MiB pages, at the same addresses. A fork passes
 *           such pages on as a few entries, while pages of a file are found again one by one by
 *           each child: that was a quarter of a small query's processor time (150 faults less, and
 *           fewer misses of the address cache). It costs the code's size in memory (34 MB), once.
 *           pages_enlarge_constants() does the same with the first 2 MiB of what `constant` is one
 *           of: 15 faults less.
 *           Where the kernel has no such pages to give, nothing changes and false is returned.
 *           The heap between pages_align_heap() and pages_enlarge_heap() becomes a few such pages
 *           too: a fork copies, and a worker's end counts down, one entry instead of 800.
 * Threads   one: no code of the library may run meanwhile.
 * Limits    debuggers and profilers do not find the symbols of code that was moved. */
#pragma once

#include "macros.h"

#include <stdbool.h>

bool pages_enlarge_code(const void *function);
bool pages_enlarge_constants(const void *constant);

/* Before what the workers share is allocated, and after. */
void pages_align_heap(void);
bool pages_enlarge_heap(void);

/* What has been freed lies in small gaps all over the heap. Each worker would fill gaps on 80 pages
 * and copy each of those for a few bytes; now what it allocates lies together, where nothing is. */
void pages_fill_gaps(void);
