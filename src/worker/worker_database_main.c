#include "worker_database_main.h"

#include "worker_database_open.h"
#include "worker_layers.h"
#include "worker_rules.h"
#include "worker_sandbox.h"
#include "worker_slots.h"

#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

/* One process, one of these. */
struct life {
    int socket_fd;
    struct channel *channel;
    struct slots *slots;
    struct lock lock; /* LOCK_REQUESTS */
    struct condition changed;
    bool closing GUARDED_BY(lock);
};

static _Noreturn void report(struct life *life, bool good, const struct err *err)
{
    struct worker_outcome outcome = {.peak_bytes = channel_peak_bytes()};
    if (!good) {
        outcome.kind = (uint32_t)err->kind;
        outcome.message = str_of(err->message);
    }
    struct buf payload;
    buf_init(&payload, 64 * 1024);
    worker_put_outcome(&payload, &outcome);
    channel_send(life->channel, WORKER_OUTCOME, buf_str(&payload));
    _exit(0);
}

/* ---- the thread `control` ---- */

static void interrupt(struct life *life, struct str payload)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t slot = worker_get_u32(&cursor);
    uint64_t request = worker_get_u64(&cursor);
    if (worker_get_end(&cursor)) {
        slots_interrupt(life->slots, slot, request);
    }
}

static void take_frame(struct life *life, struct worker_frame *frame)
{
    switch (frame->type) {
    case WORKER_FILED:
        channel_answer(life->channel, frame);
        break;
    case WORKER_SLOT:
        slots_add(life->slots, frame);
        break;
    case WORKER_INTERRUPT:
        interrupt(life, buf_str(&frame->payload));
        break;
    case WORKER_CLOSE:
        lock_take(&life->lock);
        life->closing = true;
        condition_broadcast(&life->changed);
        lock_release(&life->lock);
        break;
    default:
        _exit(1);
    }
}

static void *control_run(void *argument)
{
    struct life *life = argument;
    struct worker_frame frame;
    struct err err;
    worker_frame_init(&frame);
    for (;;) {
        struct pollfd readable = {.fd = life->socket_fd, .events = POLLIN};
        if (poll(&readable, 1, slots_tick(life->slots)) <= 0) {
            continue;
        }
        if (!worker_receive(life->socket_fd, &frame, &err)) {
            _exit(0); /* the server is gone */
        }
        take_frame(life, &frame);
    }
}

static void wait_for_close(struct life *life)
{
    lock_take(&life->lock);
    while (!life->closing) {
        condition_wait(&life->changed, &life->lock);
    }
    lock_release(&life->lock);
}

/* ---- the main thread ---- */

static void say_ready(struct life *life, uint64_t log_bytes)
{
    struct buf payload;
    buf_init(&payload, 64);
    worker_put_u64(&payload, log_bytes);
    channel_send(life->channel, WORKER_READY, buf_str(&payload));
    buf_finish(&payload);
}

static void serve(struct life *life, struct storage *storage, const struct worker_job *job,
                  const struct worker_database *options)
{
    struct err err;
    struct duck duck = {0};
    uint64_t log_bytes = 0;
    if (!database_open(&duck, storage, &job->limits, options, &log_bytes, &err)) {
        report(life, false, &err);
    }
    slots_open(life->slots, duck.database, job->limits.threads);
    say_ready(life, log_bytes);
    wait_for_close(life);
    slots_drain(life->slots);
    bool good = database_settle(&duck, options, &err);
    slots_close(life->slots);
    database_close(&duck);
    report(life, good, &err);
}

void database_main(int socket_fd, const struct worker_job *job)
{
    static struct life life;
    struct err err;
    struct worker_database options;
    struct worker_cursor cursor = {.rest = job->database};
    if (!worker_get_database(&cursor, &options)) {
        _exit(1);
    }
    (void)prctl(PR_SET_NAME, "eider-database", 0, 0, 0);
    life.socket_fd = socket_fd;
    life.channel = channel_create(socket_fd);
    lock_init(&life.lock, LOCK_REQUESTS);
    condition_init(&life.changed);
    if (WORKER_LAYER_ON(&job->limits, WORKER_LAYER_OS) && !sandbox_enter(&job->limits, &err)) {
        report(&life, false, &err);
    }
#ifdef EIDER_TEST_LAYERS
    if (!WORKER_LAYER_ON(&job->limits, WORKER_LAYER_GUARD)) {
        rules_leave_out();
    }
#endif
    struct storage *storage = storage_create(life.channel, options.name);
    life.slots = slots_create(storage);
    (void)pthread_detach(thread_start("control", control_run, &life));
    serve(&life, storage, job, &options);
    _exit(0);
}
