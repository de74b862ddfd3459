/* lake_days.h - a small set of days; for lake*.c only.
 * Limits    LAKE_DAYS_MAX of one request, and of one flush: each becomes an object of its own, and
 *           one record of the log and one manifest name them all. */
#pragma once

#include "macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LAKE_DAYS_MAX = 4000
};

struct lake_days {
    int32_t *items; /* ascending */
    size_t count;
    size_t capacity;
};

/* False, and nothing has changed, when there would be more than count_max. */
bool lake_days_add(struct lake_days *days, int32_t day, size_t count_max) MUST_CHECK;
void lake_days_finish(struct lake_days *days); /* accepts zeroed memory */
