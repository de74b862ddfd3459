#include "ops_lane.h"

#include "clock.h"
#include "mem.h"
#include "thread.h"

struct lane {
    const char *name;
    struct lock lock; /* LOCK_LANE */
    struct condition work;
    struct lane_counts counts;
    struct lane_task *first;
    struct lane_task **last;
    bool stopping;
    struct lane_totals totals; /* without the lock */
    struct thread_set threads; /* at most running_max */
};

static struct lane_task *unlink_task(struct lane *lane, struct lane_task **link)
    REQUIRES(&lane->lock)
{
    struct lane_task *task = *link;
    *link = task->next;
    if (*link == NULL) {
        lane->last = link;
    }
    task->next = NULL;
    lane->counts.queued--;
    return task;
}

static struct lane_task *take_task(struct lane *lane)
{
    struct lane_task *task = NULL;
    lock_take(&lane->lock);
    lane->threads.idle++;
    while (lane->first == NULL && !lane->stopping) {
        condition_wait(&lane->work, &lane->lock);
    }
    lane->threads.idle--;
    if (lane->first != NULL) {
        task = unlink_task(lane, &lane->first);
        lane->counts.running++;
    }
    lock_release(&lane->lock);
    if (task != NULL) {
        task->waited_us = clock_now_us() - task->queued_us;
        metric_observe_us(&lane->totals.wait, task->waited_us);
    }
    return task;
}

/* The lane in which the task of this thread still counts; NULL between tasks. */
static _Thread_local struct lane *place;

void lane_leave(void)
{
    struct lane *lane = place;
    place = NULL;
    if (lane != NULL) {
        lock_take(&lane->lock);
        lane->counts.running--;
        lock_release(&lane->lock);
    }
}

static void *lane_run(void *argument)
{
    struct lane *lane = argument;
    struct lane_task *task;
    while ((task = take_task(lane)) != NULL) {
        place = lane;
        task->run(task->context);
        lane_leave();
    }
    return NULL;
}

struct lane *lane_create(const char *name, unsigned running_max, unsigned queued_max)
{
    assert(running_max > 0);
    struct lane *lane = mem_alloc(sizeof(*lane));
    lane->name = name;
    lock_init(&lane->lock, LOCK_LANE);
    condition_init(&lane->work);
    lane->counts = (struct lane_counts){.running_max = running_max, .queued_max = queued_max};
    lane->last = &lane->first;
    lock_take(&lane->lock);
    thread_set_init(&lane->threads, name, running_max, lane_run, lane);
    lock_release(&lane->lock);
    return lane;
}

void lane_destroy(struct lane *lane)
{
    if (lane == NULL) {
        return;
    }
    lock_take(&lane->lock);
    lane->stopping = true;
    condition_broadcast(&lane->work);
    lock_release(&lane->lock);
    thread_set_join(&lane->threads);
    condition_finish(&lane->work);
    lock_finish(&lane->lock);
    mem_free(lane);
}

static bool is_dead(const struct lane_task *task)
{
    return task->cancel != NULL && atomic_load(&task->cancel->reason) != ERR_NONE;
}

/* Takes the tasks of clients that have left out of the queue; the caller runs them without the
 * lock. */
static struct lane_task *take_dead(struct lane *lane) REQUIRES(&lane->lock)
{
    struct lane_task *dead = NULL;
    struct lane_task **link = &lane->first;
    while (*link != NULL) {
        if (is_dead(*link)) {
            struct lane_task *task = unlink_task(lane, link);
            task->next = dead;
            dead = task;
        } else {
            link = &(*link)->next;
        }
    }
    return dead;
}

/* Often on a lane's own thread, whose place is not theirs to leave. */
static void run_dead(struct lane *lane, struct lane_task *dead)
{
    struct lane *mine = place;
    place = NULL;
    while (dead != NULL) {
        struct lane_task *task = dead;
        dead = task->next;
        task->waited_us = clock_now_us() - task->queued_us;
        metric_add(&lane->totals.left, 1);
        task->run(task->context);
    }
    place = mine;
}

static bool submit(struct lane *lane, struct lane_task *task, bool always,
                   struct lane_counts *ret_counts)
{
    task->queued_us = clock_now_us();
    task->waited_us = 0;
    lock_take(&lane->lock);
    struct lane_task *dead = take_dead(lane);
    task->queued_before = lane->counts.queued;
    bool room = always || lane->counts.queued < lane->counts.queued_max ||
                lane->counts.running + lane->counts.queued < lane->counts.running_max;
    if (room) {
        task->next = NULL;
        *lane->last = task;
        lane->last = &task->next;
        lane->counts.queued++;
        thread_set_want(&lane->threads, lane->stopping ? 0 : lane->counts.queued);
    }
    *ret_counts = lane->counts;
    lock_release(&lane->lock);
    if (room) {
        condition_signal(&lane->work); /* who wakes up finds the lock free */
    }
    run_dead(lane, dead);
    return room;
}

void lane_submit_again(struct lane *lane, struct lane_task *task)
{
    struct lane_counts ignored;
    (void)submit(lane, task, true, &ignored);
}

bool lane_submit(struct lane *lane, struct lane_task *task, struct lane_counts *ret_counts,
                 struct err *err)
{
    struct lane_counts counts;
    bool room = submit(lane, task, false, &counts);
    if (!room) {
        metric_add(&lane->totals.refused, 1);
    }
    if (ret_counts != NULL) {
        *ret_counts = counts;
    }
    return room || err_set(err, ERR_BUSY, "queue full: %u/%u; retry shortly", counts.queued,
                           counts.queued_max);
}

struct lane_counts lane_counts(struct lane *lane)
{
    lock_take(&lane->lock);
    struct lane_task *dead = take_dead(lane);
    struct lane_counts counts = lane->counts;
    lock_release(&lane->lock);
    run_dead(lane, dead);
    return counts;
}

const struct lane_totals *lane_totals(const struct lane *lane)
{
    return &lane->totals;
}

const char *lane_name(const struct lane *lane)
{
    return lane->name;
}
