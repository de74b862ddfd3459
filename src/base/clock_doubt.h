/* clock_doubt.h - whether the wall clock may be believed when it says that something is old.
 * Promise   not right after it went forward by more than CLOCK_DOUBT_STEP_MS beside the monotonic
 *           one, nor after a start more than CLOCK_DOUBT_AWAY_MS after its files were written last:
 *           then it has to go on without a step for CLOCK_DOUBT_STEADY_MS first. So a clock that is
 *           wrong by years for less than that deletes nothing. Steps back are no danger, and
 *           forgotten.
 * Not here  a clock that was wrong for longer, or was never right.
 * Owner     who deletes by age: struct lake, struct databases.   Threads  one at a time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_DOUBT_STEP_MS (INT64_C(3600) * 1000)
#define CLOCK_DOUBT_AWAY_MS (INT64_C(24) * 3600 * 1000)
#define CLOCK_DOUBT_STEADY_MS (INT64_C(24) * 3600 * 1000)

struct clock_doubt {
    const char *event; /* of the log, when it no longer is believed */
    int64_t offset_ms; /* wall time less monotonic time */
    int64_t steady_ms; /* clock_now_ms from which on it is believed */
};

/* `event` is a literal; `written_ms`: wall time when this server was there last; 0: never. */
void clock_doubt_init(struct clock_doubt *clock, const char *event, int64_t written_ms,
                      int64_t wall_ms, int64_t now_ms);
/* Whether it is to be believed. Says in the log when it no longer is. */
bool clock_doubt_look(struct clock_doubt *clock, int64_t wall_ms, int64_t now_ms);
/* When a file of the folder, or of one in it, was written last; 0 without any. */
int64_t clock_doubt_written(const char *folder);
