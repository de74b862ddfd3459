/* ops_lane.h - how many requests of one kind run at once, and how many may wait.
 * Promise   at most `running_max` tasks run at a time, on threads of the lane's own; at most
 *           `queued_max` wait, in the order they came. A task is run exactly once, or not taken at
 *           all. Tasks whose cancel was raised while they waited make room for others: they are run
 *           at once, and see their cancel first thing. Tasks of one group never hold more places
 *           than they leave free, running or queued: one group alone half of them, two a third
 *           each. What waits for its group lets others pass.
 * Not here  what a task does.
 * Owner     whoever creates it; lane_destroy waits for what runs and runs what waits (with the
 *           server draining, all of it is cancelled).   Threads  any may submit.   Errors  ERR_BUSY
 *           with the numbers. */
#pragma once

#include "cancel.h"
#include "err.h"
#include "metric.h"

struct lane;
struct lane_group;

struct lane_task {
    void (*run)(void *context);
    void *context;
    struct cancel *cancel; /* looked at while the task waits; may be NULL */
    uint64_t group;        /* any number; 0: of none, and bound by nothing but the lane's limits */
    /* what the lane tells about its wait, while it runs and afterwards */
    unsigned queued_before; /* tasks that waited already when it came */
    int64_t queued_us;      /* when it came, by clock_now_us */
    int64_t waited_us;
    struct lane_task *next; /* the lane's own */
    struct lane_group *of;
};

struct lane_counts {
    unsigned running_max;
    unsigned queued_max;
    unsigned running;
    unsigned queued;
};

/* Since the start. A task that is taken ends up in `wait` or in `left`. */
struct lane_totals {
    struct metric_histogram wait;  /* of the tasks that began to run */
    struct metric_counter left;    /* their cancel was raised while they waited */
    struct metric_counter refused; /* the queue was full */
};

/* `name` is kept, and its threads go by it. */
struct lane *lane_create(const char *name, unsigned running_max, unsigned queued_max);
void lane_destroy(struct lane *lane);

/* The task lives in the caller's memory until it has run. ret_counts (may be NULL) is the state a
 * refusal is about. */
bool lane_submit(struct lane *lane, struct lane_task *task, struct lane_counts *ret_counts,
                 struct err *err) MUST_CHECK;

/* The same for a task that has run before and goes on: it is taken however many wait. Whoever does
 * this bounds their number. */
void lane_submit_again(struct lane *lane, struct lane_task *task);

/* Called from a task: it is as good as done, and its place is free from now on. So that a client
 * that has its answer finds the counts right, and room for its next request. No effect
 * elsewhere. */
void lane_leave(void);

/* Those who left while they waited are not counted: they are run, as in lane_submit. */
struct lane_counts lane_counts(struct lane *lane);
const struct lane_totals *lane_totals(const struct lane *lane);
const char *lane_name(const struct lane *lane);
