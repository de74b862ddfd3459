/* ops_lane.h - how many requests of one kind run at once, and how many may wait.
 * Promise   at most `running_max` tasks run at a time, on threads of the lane's own; at most
 *           `queued_max` wait, in the order they came. A task is run exactly once, or not taken at
 *           all. Tasks whose cancel was raised while they waited make room for others: they are run
 *           at once, and see their cancel first thing.
 * Not here  what a task does.
 * Owner     whoever creates it; lane_destroy waits for what runs and runs what waits (with the
 *           server draining, all of it is cancelled).   Threads  any may submit.   Errors  ERR_BUSY
 *           with the numbers. */
#pragma once

#include "cancel.h"
#include "err.h"

struct lane;

struct lane_task {
    void (*run)(void *context);
    void *context;
    struct cancel *cancel;  /* looked at while the task waits; may be NULL */
    struct lane_task *next; /* the lane's own */
};

struct lane_counts {
    unsigned running_max;
    unsigned queued_max;
    unsigned running;
    unsigned queued;
};

struct lane *lane_create(const char *name, unsigned running_max, unsigned queued_max);
void lane_destroy(struct lane *lane);

/* The task lives in the caller's memory until it has run. ret_counts (may be NULL) is the state a
 * refusal is about. */
bool lane_submit(struct lane *lane, struct lane_task *task, struct lane_counts *ret_counts,
                 struct err *err) MUST_CHECK;

/* Called from a task: it is as good as done, and its place is free from now on. So that a client
 * that has its answer finds the counts right, and room for its next request. No effect
 * elsewhere. */
void lane_leave(void);

/* Those who left while they waited are not counted: they are run, as in lane_submit. */
struct lane_counts lane_counts(struct lane *lane);
