/* lake_clock.h - whether the wall clock may be believed when it says that something is old; for
 * lake*.c only.
 * Promise   not right after it went forward by more than LAKE_CLOCK_STEP_MS beside the monotonic
 *           one, nor after a start more than LAKE_CLOCK_AWAY_MS after the log was written last:
 *           then it has to go on without a step for LAKE_CLOCK_STEADY_MS first. So a clock that is
 *           wrong by years for less than that deletes nothing. Steps back are no danger, and
 *           forgotten.
 * Not here  a clock that was wrong for longer, or was never right.
 * Owner     struct lake.   Threads  one at a time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LAKE_CLOCK_STEP_MS (INT64_C(3600) * 1000)
#define LAKE_CLOCK_AWAY_MS (INT64_C(24) * 3600 * 1000)
#define LAKE_CLOCK_STEADY_MS (INT64_C(24) * 3600 * 1000)

struct lake_clock {
    int64_t offset_ms; /* wall time less monotonic time */
    int64_t steady_ms; /* clock_now_ms from which on it is believed */
};

/* `written_ms`: wall time when this server was there last; 0: never. */
void lake_clock_init(struct lake_clock *clock, int64_t written_ms, int64_t wall_ms, int64_t now_ms);
/* Whether it is to be believed. Says in the log when it no longer is. */
bool lake_clock_look(struct lake_clock *clock, int64_t wall_ms, int64_t now_ms);
/* When a file of the folder, or of one in it, was written last; 0 without any. */
int64_t lake_clock_written(const char *folder);
