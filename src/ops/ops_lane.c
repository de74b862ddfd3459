#include "ops_lane.h"

#include "clock.h"
#include "mem.h"
#include "thread.h"

/* There is one while it has tasks. */
struct lane_group {
    uint64_t number;
    unsigned running;
    unsigned queued;
    struct lane_group *next;
};

struct lane {
    const char *name;
    struct lock lock; /* LOCK_LANE */
    struct condition work;
    struct lane_counts counts;
    struct lane_task *first;
    struct lane_task **last;
    struct lane_group *groups;
    bool stopping;
    struct lane_totals totals; /* without the lock */
    struct thread_set threads; /* at most running_max */
};

/* ---- groups ---- */

static struct lane_group *find_group(struct lane *lane, uint64_t number) REQUIRES(&lane->lock)
{
    struct lane_group *group = lane->groups;
    while (group != NULL && group->number != number) {
        group = group->next;
    }
    if (group == NULL && number != 0) {
        group = mem_alloc(sizeof(*group));
        group->number = number;
        group->next = lane->groups;
        lane->groups = group;
    }
    return group;
}

static void forget_if_empty(struct lane *lane, struct lane_group *group) REQUIRES(&lane->lock)
{
    if (group == NULL || group->running + group->queued > 0) {
        return;
    }
    struct lane_group **link = &lane->groups;
    while (*link != group) {
        link = &(*link)->next;
    }
    *link = group->next;
    mem_free(group);
}

/* One more, where `taken` of `max` places are, `own` of them by its group. */
static bool fits(unsigned max, unsigned taken, const struct lane_group *group, unsigned own)
{
    return taken < max && (group == NULL || own < max - taken);
}

static bool may_run(const struct lane *lane, const struct lane_task *task)
{
    const struct lane_group *group = task->of;
    return lane->stopping || fits(lane->counts.running_max, lane->counts.running, group,
                                  group == NULL ? 0 : group->running);
}

static bool may_wait(const struct lane *lane, const struct lane_group *group)
{
    const struct lane_counts *counts = &lane->counts;
    unsigned queued = group == NULL ? 0 : group->queued;
    unsigned held = group == NULL ? 0 : group->running + queued;
    return fits(counts->queued_max, counts->queued, group, queued) ||
           fits(counts->running_max, counts->running + counts->queued, group, held);
}

/* ---- tasks that run ---- */

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
    if (task->of != NULL) {
        task->of->queued--;
    }
    return task;
}

/* Where the first one stands that may run now; NULL: none may. */
static struct lane_task **find_next(struct lane *lane) REQUIRES(&lane->lock)
{
    struct lane_task **link = &lane->first;
    while (*link != NULL && !may_run(lane, *link)) {
        link = &(*link)->next;
    }
    return *link == NULL ? NULL : link;
}

static void begin_task(struct lane *lane, struct lane_task *task) REQUIRES(&lane->lock)
{
    lane->counts.running++;
    if (task->of != NULL) {
        task->of->running++;
    }
    /* One task that ends may make room for two groups, while threads are idle. */
    if (lane->groups != NULL && find_next(lane) != NULL) {
        thread_set_want(&lane->threads, lane->stopping ? 0 : 1);
        condition_signal(&lane->work);
    }
}

static struct lane_task *take_task(struct lane *lane)
{
    struct lane_task *task = NULL;
    struct lane_task **link;
    lock_take(&lane->lock);
    lane->threads.idle++;
    while ((link = find_next(lane)) == NULL && !lane->stopping) {
        condition_wait(&lane->work, &lane->lock);
    }
    lane->threads.idle--;
    if (link != NULL) {
        task = unlink_task(lane, link);
        begin_task(lane, task);
    }
    lock_release(&lane->lock);
    if (task != NULL) {
        task->waited_us = clock_now_us() - task->queued_us;
        metric_observe_us(&lane->totals.wait, task->waited_us);
    }
    return task;
}

/* Where the task of this thread still counts; no lane between tasks. */
struct place {
    struct lane *lane;
    struct lane_group *group;
};
static _Thread_local struct place place;

void lane_leave(void)
{
    struct lane *lane = place.lane;
    struct lane_group *group = place.group;
    place = (struct place){0};
    if (lane == NULL) {
        return;
    }
    lock_take(&lane->lock);
    lane->counts.running--;
    if (group != NULL) {
        group->running--;
        forget_if_empty(lane, group);
    }
    lock_release(&lane->lock);
}

static void *lane_run(void *argument)
{
    struct lane *lane = argument;
    struct lane_task *task;
    while ((task = take_task(lane)) != NULL) {
        place = (struct place){lane, task->of};
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
            forget_if_empty(lane, TAKE(task->of));
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
    struct place mine = place;
    place = (struct place){0};
    while (dead != NULL) {
        struct lane_task *task = dead;
        dead = task->next;
        task->waited_us = clock_now_us() - task->queued_us;
        metric_add(&lane->totals.left, 1);
        task->run(task->context);
    }
    place = mine;
}

static void add_task(struct lane *lane, struct lane_task *task) REQUIRES(&lane->lock)
{
    task->next = NULL;
    *lane->last = task;
    lane->last = &task->next;
    lane->counts.queued++;
    if (task->of != NULL) {
        task->of->queued++;
    }
    if (may_run(lane, task)) {
        thread_set_want(&lane->threads, lane->stopping ? 0 : lane->counts.queued);
    }
}

static bool submit(struct lane *lane, struct lane_task *task, bool always,
                   struct lane_counts *ret_counts)
{
    task->queued_us = clock_now_us();
    task->waited_us = 0;
    lock_take(&lane->lock);
    struct lane_task *dead = take_dead(lane);
    task->queued_before = lane->counts.queued;
    task->of = find_group(lane, task->group);
    bool room = always || may_wait(lane, task->of);
    if (room) {
        add_task(lane, task);
    } else {
        forget_if_empty(lane, TAKE(task->of));
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
    const char *what = counts.queued < counts.queued_max ? "share of the queue" : "queue";
    return room || err_set(err, ERR_BUSY, "%s full: %u/%u; retry shortly", what, counts.queued,
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
