#include "test.h"

#include "ops_lane.h"
#include "thread.h"

#include <stdatomic.h>

/* What the tasks of one test share: a gate that holds them, and the order in which they ran. */
struct yard {
    struct lane *lane;
    atomic_bool open;
    atomic_uint started;
    atomic_uint ended;
    atomic_uint inside;
    atomic_uint inside_most;
    atomic_int order[64];
};

struct job {
    struct lane_task task;
    struct yard *yard;
    int number;
    struct cancel cancel;
    atomic_uint runs;
    bool saw_cancel;
    pthread_t thread;
};

static void note_inside(struct yard *yard)
{
    unsigned inside = atomic_fetch_add(&yard->inside, 1) + 1;
    unsigned most = atomic_load(&yard->inside_most);
    while (inside > most && !atomic_compare_exchange_weak(&yard->inside_most, &most, inside)) {
    }
}

static void run_job(void *context)
{
    struct job *job = context;
    struct yard *yard = job->yard;
    struct err err;
    job->thread = pthread_self();
    job->saw_cancel = !cancel_check(&job->cancel, &err);
    atomic_fetch_add(&job->runs, 1);
    note_inside(yard);
    atomic_store(&yard->order[atomic_fetch_add(&yard->started, 1)], job->number);
    while (!atomic_load(&yard->open) && !job->saw_cancel) {
        test_pause();
    }
    atomic_fetch_sub(&yard->inside, 1);
    atomic_fetch_add(&yard->ended, 1);
}

static void job_init(struct job *job, struct yard *yard, int number)
{
    *job = (struct job){.yard = yard, .number = number};
    cancel_init(&job->cancel, INT64_MAX);
    job->task = (struct lane_task){.run = run_job, .context = job, .cancel = &job->cancel};
}

static bool submit(struct yard *yard, struct job *job, int number, struct err *err)
{
    job_init(job, yard, number);
    return lane_submit(yard->lane, &job->task, NULL, err);
}

TEST(at_most_so_many_run)
{
    struct yard yard = {.lane = lane_create("lane", 2, 10)};
    struct job jobs[8];
    struct err err;
    for (int i = 0; i < 8; i++) {
        CHECK_OK(submit(&yard, &jobs[i], i, &err), err);
    }
    CHECK_WITHIN(20000, atomic_load(&yard.started) == 2);
    struct lane_counts counts = lane_counts(yard.lane);
    CHECK_U64(counts.running_max, 2);
    CHECK_U64(counts.queued_max, 10);
    CHECK_U64(counts.running, 2);
    CHECK_U64(counts.queued, 6);
    atomic_store(&yard.open, true);
    CHECK_WITHIN(20000, atomic_load(&yard.ended) == 8);
    CHECK_WITHIN(20000, lane_counts(yard.lane).running == 0);
    lane_destroy(yard.lane);
    CHECK_U64(atomic_load(&yard.inside_most), 2);
    for (int i = 0; i < 8; i++) {
        CHECK_U64(atomic_load(&jobs[i].runs), 1);
        cancel_finish(&jobs[i].cancel);
    }
}

TEST(tasks_run_in_the_order_they_came)
{
    struct yard yard = {.lane = lane_create("lane", 1, 63)};
    struct job jobs[60];
    struct err err;
    for (int i = 0; i < 60; i++) {
        CHECK_OK(submit(&yard, &jobs[i], i, &err), err);
    }
    atomic_store(&yard.open, true);
    CHECK_WITHIN(20000, atomic_load(&yard.ended) == 60);
    lane_destroy(yard.lane);
    for (int i = 0; i < 60; i++) {
        CHECK_I64(atomic_load(&yard.order[i]), i);
        cancel_finish(&jobs[i].cancel);
    }
}

TEST(a_full_queue_refuses_with_its_numbers)
{
    struct yard yard = {.lane = lane_create("lane", 1, 2)};
    struct job jobs[4];
    struct lane_counts counts = {0};
    struct err err = {0};
    CHECK_OK(submit(&yard, &jobs[0], 0, &err), err);
    CHECK_WITHIN(20000, atomic_load(&yard.started) == 1);
    CHECK_OK(submit(&yard, &jobs[1], 1, &err), err);
    CHECK_OK(submit(&yard, &jobs[2], 2, &err), err);
    job_init(&jobs[3], &yard, 3);
    CHECK(!lane_submit(yard.lane, &jobs[3].task, &counts, &err));
    CHECK(err.kind == ERR_BUSY);
    CHECK_STR(str_of(err.message), "queue full: 2/2; retry shortly");
    CHECK_U64(counts.running, 1);
    CHECK_U64(counts.queued, 2);
    CHECK_U64(counts.queued_max, 2);
    atomic_store(&yard.open, true);
    CHECK_WITHIN(20000, atomic_load(&yard.ended) == 3);
    CHECK_OK(lane_submit(yard.lane, &jobs[3].task, NULL, &err), err);
    lane_destroy(yard.lane);
    for (int i = 0; i < 4; i++) {
        CHECK_U64(atomic_load(&jobs[i].runs), 1);
        cancel_finish(&jobs[i].cancel);
    }
}

/* With nobody allowed to wait, a task is still taken while a thread is free. */
TEST(no_queue_at_all)
{
    struct yard yard = {.lane = lane_create("lane", 2, 0)};
    struct job jobs[3];
    struct err err = {0};
    CHECK_OK(submit(&yard, &jobs[0], 0, &err), err);
    CHECK_OK(submit(&yard, &jobs[1], 1, &err), err);
    CHECK(!submit(&yard, &jobs[2], 2, &err));
    CHECK(err.kind == ERR_BUSY);
    atomic_store(&yard.open, true);
    lane_destroy(yard.lane);
    CHECK_U64(atomic_load(&yard.ended), 2);
    CHECK_U64(atomic_load(&jobs[2].runs), 0);
    for (int i = 0; i < 3; i++) {
        cancel_finish(&jobs[i].cancel);
    }
}

TEST(cancelled_tasks_make_room_and_run)
{
    struct yard yard = {.lane = lane_create("lane", 1, 3)};
    struct job jobs[7];
    struct err err = {0};
    CHECK_OK(submit(&yard, &jobs[0], 0, &err), err);
    CHECK_WITHIN(20000, atomic_load(&yard.started) == 1);
    for (int i = 1; i <= 3; i++) {
        CHECK_OK(submit(&yard, &jobs[i], i, &err), err);
    }
    /* The last two of the queue, so that its end moves. */
    cancel_raise(&jobs[2].cancel, ERR_CANCELLED);
    cancel_raise(&jobs[3].cancel, ERR_UNAVAILABLE);
    CHECK_OK(submit(&yard, &jobs[4], 4, &err), err);
    for (int i = 2; i <= 3; i++) {
        CHECK_U64(atomic_load(&jobs[i].runs), 1);
        CHECK(jobs[i].saw_cancel);
        CHECK(pthread_equal(jobs[i].thread, pthread_self()));
    }
    CHECK_U64(lane_counts(yard.lane).queued, 2);
    CHECK_OK(submit(&yard, &jobs[5], 5, &err), err);
    CHECK(!submit(&yard, &jobs[6], 6, &err));
    atomic_store(&yard.open, true);
    CHECK_WITHIN(20000, atomic_load(&yard.ended) == 6);
    lane_destroy(yard.lane);
    static const int order[] = {0, -1, -1, 1, 4, 5};
    for (size_t i = 0; i < COUNT_OF(order); i++) {
        CHECK(order[i] < 0 || atomic_load(&yard.order[i]) == order[i]);
    }
    for (int i = 0; i < 7; i++) {
        CHECK_U64(atomic_load(&jobs[i].runs), i == 6 ? 0 : 1);
        cancel_finish(&jobs[i].cancel);
    }
}

TEST(a_whole_queue_of_the_dead)
{
    struct yard yard = {.lane = lane_create("lane", 1, 3)};
    struct job jobs[6];
    struct err err = {0};
    CHECK_OK(submit(&yard, &jobs[0], 0, &err), err);
    CHECK_WITHIN(20000, atomic_load(&yard.started) == 1);
    for (int i = 1; i <= 3; i++) {
        CHECK_OK(submit(&yard, &jobs[i], i, &err), err);
        cancel_raise(&jobs[i].cancel, ERR_CANCELLED);
    }
    CHECK_OK(submit(&yard, &jobs[4], 4, &err), err);
    CHECK_U64(lane_counts(yard.lane).queued, 1);
    CHECK_OK(submit(&yard, &jobs[5], 5, &err), err);
    atomic_store(&yard.open, true);
    lane_destroy(yard.lane);
    for (int i = 0; i < 6; i++) {
        CHECK_U64(atomic_load(&jobs[i].runs), 1);
        cancel_finish(&jobs[i].cancel);
    }
}

/* A task that looks at its own lane while another, whose client has left, waits there. */
struct watcher {
    struct lane *lane;
    struct lane_task dead;
    struct cancel cancel;
    atomic_bool ready;
    atomic_bool dead_ran;
    unsigned running;
    atomic_bool done;
};

static void run_leaving(void *context)
{
    struct watcher *watcher = context;
    lane_leave();
    atomic_store(&watcher->dead_ran, true);
}

static void run_watching(void *context)
{
    struct watcher *watcher = context;
    while (!atomic_load(&watcher->ready)) {
        test_pause();
    }
    (void)lane_counts(watcher->lane); /* runs the dead one here */
    watcher->running = lane_counts(watcher->lane).running;
    atomic_store(&watcher->done, true);
}

TEST(a_dead_task_leaves_no_place_but_its_own)
{
    struct watcher watcher = {.lane = lane_create("test", 1, 2)};
    struct lane_task task = {.run = run_watching, .context = &watcher};
    struct err err;
    cancel_init(&watcher.cancel, INT64_MAX);
    watcher.dead =
        (struct lane_task){.run = run_leaving, .context = &watcher, .cancel = &watcher.cancel};
    CHECK_OK(lane_submit(watcher.lane, &task, NULL, &err), err);
    CHECK_OK(lane_submit(watcher.lane, &watcher.dead, NULL, &err), err);
    cancel_raise(&watcher.cancel, ERR_CANCELLED);
    atomic_store(&watcher.ready, true);
    while (!atomic_load(&watcher.done)) {
        test_pause();
    }
    CHECK(atomic_load(&watcher.dead_ran));
    CHECK_U64(watcher.running, 1);
    lane_destroy(watcher.lane);
    cancel_finish(&watcher.cancel);
}

TEST(destroy_runs_what_waits)
{
    struct yard yard = {.lane = lane_create("lane", 1, 20)};
    struct job jobs[12];
    struct err err;
    for (int i = 0; i < 12; i++) {
        CHECK_OK(submit(&yard, &jobs[i], i, &err), err);
    }
    for (int i = 0; i < 12; i++) {
        cancel_raise(&jobs[i].cancel, ERR_UNAVAILABLE);
    }
    atomic_store(&yard.open, true);
    lane_destroy(yard.lane);
    CHECK_U64(atomic_load(&yard.ended), 12);
    for (int i = 0; i < 12; i++) {
        CHECK_U64(atomic_load(&jobs[i].runs), 1);
        cancel_finish(&jobs[i].cancel);
    }
    lane_destroy(NULL);
}

TEST(a_task_may_go_without_cancel)
{
    struct yard yard = {.lane = lane_create("lane", 1, 5), .open = true};
    struct job job;
    struct err err;
    job_init(&job, &yard, 0);
    job.task.cancel = NULL;
    CHECK_OK(lane_submit(yard.lane, &job.task, NULL, &err), err);
    lane_destroy(yard.lane);
    CHECK_U64(atomic_load(&job.runs), 1);
    cancel_finish(&job.cancel);
}

static bool submit_of(struct yard *yard, struct job *job, int number, uint64_t group,
                      struct err *err)
{
    job_init(job, yard, number);
    job->task.group = group;
    return lane_submit(yard->lane, &job->task, NULL, err);
}

/* However many of one group come: others run, wait and are taken beside them. */
TEST(a_group_leaves_as_much_as_it_has)
{
    struct yard yard = {.lane = lane_create("lane", 4, 8)};
    struct job jobs[11];
    struct err err = {0};
    for (int i = 0; i < 6; i++) { /* two run, four wait */
        CHECK_OK(submit_of(&yard, &jobs[i], i, 7, &err), err);
        CHECK_WITHIN(20000, atomic_load(&yard.started) == (i < 2 ? (unsigned)i + 1 : 2));
    }
    CHECK(!submit_of(&yard, &jobs[6], 6, 7, &err));
    CHECK(err.kind == ERR_BUSY);
    CHECK_STR(str_of(err.message), "share of the queue full: 4/8; retry shortly");
    CHECK_OK(submit_of(&yard, &jobs[7], 7, 8, &err), err);
    CHECK_WITHIN(20000, atomic_load(&yard.started) == 3);
    CHECK_I64(atomic_load(&yard.order[2]), 7);
    for (int i = 8; i < 10; i++) { /* one place is left: of both groups, one more waits */
        CHECK_OK(submit_of(&yard, &jobs[i], i, 8, &err), err);
    }
    CHECK_OK(submit_of(&yard, &jobs[10], 10, 0, &err), err);
    CHECK_WITHIN(20000, atomic_load(&yard.started) == 4);
    CHECK_I64(atomic_load(&yard.order[3]), 10);
    CHECK_U64(lane_counts(yard.lane).running, 4);
    atomic_store(&yard.open, true);
    CHECK_WITHIN(20000, atomic_load(&yard.ended) == 10);
    lane_destroy(yard.lane);
    for (int i = 0; i < 11; i++) {
        CHECK_U64(atomic_load(&jobs[i].runs), i == 6 ? 0 : 1);
        cancel_finish(&jobs[i].cancel);
    }
}

struct client {
    struct lane *lane;
    uint64_t group;
    unsigned taken;
    unsigned refused;
    atomic_uint ran;
};

static void count_run(void *context)
{
    atomic_fetch_add(&((struct client *)context)->ran, 1);
}

/* One client: each task lives until it has run, and half of them are cancelled while they wait. */
static void *send_many(void *argument)
{
    struct client *client = argument;
    struct err err;
    for (unsigned i = 0; i < 500; i++) {
        struct cancel cancel;
        cancel_init(&cancel, INT64_MAX);
        struct lane_task task = {
            .run = count_run, .context = client, .cancel = &cancel, .group = client->group};
        if (lane_submit(client->lane, &task, NULL, &err)) {
            client->taken++;
            if (i % 2 == 0) {
                cancel_raise(&cancel, ERR_CANCELLED);
            }
            while (atomic_load(&client->ran) < client->taken) {
                test_pause();
            }
        } else {
            client->refused++;
        }
        cancel_finish(&cancel);
    }
    return NULL;
}

TEST(many_clients_at_once)
{
    struct lane *lane = lane_create("lane", 2, 1);
    struct client clients[6] = {0};
    pthread_t threads[6];
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        clients[i].lane = lane;
        clients[i].group = i / 2;
        threads[i] = thread_start("client", send_many, &clients[i]);
    }
    for (size_t i = 0; i < COUNT_OF(clients); i++) {
        (void)pthread_join(threads[i], NULL);
        CHECK_U64(clients[i].taken + clients[i].refused, 500);
        CHECK_U64(atomic_load(&clients[i].ran), clients[i].taken);
    }
    CHECK_U64(lane_counts(lane).queued, 0);
    lane_destroy(lane);
}

static const struct test_case cases[] = {
    TEST_CASE(at_most_so_many_run),
    TEST_CASE(tasks_run_in_the_order_they_came),
    TEST_CASE(a_full_queue_refuses_with_its_numbers),
    TEST_CASE(no_queue_at_all),
    TEST_CASE(cancelled_tasks_make_room_and_run),
    TEST_CASE(a_whole_queue_of_the_dead),
    TEST_CASE(a_dead_task_leaves_no_place_but_its_own),
    TEST_CASE(destroy_runs_what_waits),
    TEST_CASE(a_task_may_go_without_cancel),
    TEST_CASE(a_group_leaves_as_much_as_it_has),
    TEST_CASE(many_clients_at_once),
};

TEST_MAIN(cases)
