#include "worker_main.h"

#include "fd.h"
#include "worker_database_main.h"
#include "worker_layers.h"
#include "worker_run.h"
#include "worker_sandbox.h"

#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

static void report(struct channel *channel, bool good, const struct encode_outcome *done,
                   const struct err *err)
{
    struct worker_outcome outcome = {
        .rows = done->rows,
        .truncated = done->truncated,
        .peak_bytes = channel_peak_bytes(),
    };
    if (!good) {
        outcome.kind = (uint32_t)err->kind;
        outcome.message = str_of(err->message);
    }
    struct buf payload;
    buf_init(&payload, 64 * 1024);
    worker_put_outcome(&payload, &outcome);
    channel_send(channel, WORKER_OUTCOME, buf_str(&payload));
}

static bool run(struct duck *duck, struct channel *channel, const struct worker_job *job,
                int input_fd, struct encode_outcome *ret_done, struct err *err)
{
    switch (job->kind) {
    case WORKER_QUERY:
        return run_query(duck, channel, job, ret_done, err);
    case WORKER_WRITE:
        return run_write(duck, job, &ret_done->rows, err);
    case WORKER_READ:
        return run_read(duck, channel, job, input_fd, ret_done, err);
    default:
        return err_set(err, ERR_INTERNAL, "the worker does not know this job");
    }
}

static bool has_turn(int turn_fd)
{
    struct pollfd polled = {.fd = turn_fd, .events = POLLIN};
    return poll(&polled, 1, 0) != 0;
}

/* The job's socket. */
static int wait_turn(int turn_fd)
{
    char nothing;
    int socket_fd;
    if (fd_receive_message(turn_fd, &nothing, sizeof(nothing), &socket_fd, 0) <= 0 ||
        socket_fd < 0) {
        _exit(0); /* the zygote is gone */
    }
    (void)close(turn_fd);
    return socket_fd;
}

/* False: the worker must not go on. */
static bool enter_sandbox(const struct worker_limits *limits, bool shut, struct err *err)
{
    if (!WORKER_LAYER_ON(limits, WORKER_LAYER_OS)) {
        return true;
    }
    if (!shut) {
        return sandbox_enter(limits, err);
    }
    return sandbox_is_limited(limits) ||
           err_set(err, ERR_UNAVAILABLE, "the worker has not been given its limits");
}

void worker_main(struct duck *duck, int socket_fd, bool shut)
{
    (void)prctl(PR_SET_NAME, "eider-worker", 0, 0, 0);
    struct err err;
    struct worker_frame frame;
    worker_frame_init(&frame);
    struct worker_job job;
    if (!worker_receive(socket_fd, &frame, &err) || frame.type != WORKER_JOB ||
        !worker_get_job(buf_str(&frame.payload), &job, &err)) {
        _exit(1);
    }
    if (job.kind == WORKER_DATABASE) {
        database_main(socket_fd, &job);
    }
    struct channel *channel = channel_create(socket_fd);
    struct encode_outcome done = {0};
#ifdef EIDER_TEST_LAYERS
    if (!WORKER_LAYER_ON(&job.limits, WORKER_LAYER_SETTINGS) && !duck_open_anew(duck, &err)) {
        _exit(1);
    }
#endif
    /* From here on the job's text is in memory, but nothing has looked at it: first the limits,
     * then the rest. */
    bool good = enter_sandbox(&job.limits, shut, &err) && duck_lock(duck, &job.limits, &err);
    if (good) {
        struct helpers *helpers = helpers_create(duck->database, job.limits.threads);
        channel_start(channel, duck->connection, helpers);
        if (job.kind != WORKER_QUERY) {
            helpers_start(helpers);
        }
        files_set_job(duck->files, channel, frame.fds[0], frame.fds[1]);
        files_set_window(duck->files, job.input_offset, job.input_size);
        good = run(duck, channel, &job, frame.fds[0], &done, &err);
    }
    files_report(duck->files);
    report(channel, good, &done, &err);
    _exit(0);
}

void worker_wait(struct duck *duck, int turn_fd, enum worker_start start)
{
    struct err err;
    (void)prctl(PR_SET_NAME, "eider-spare", 0, 0, 0);
    if (!duck_make_own(duck)) {
        _exit(1);
    }
    /* When it cannot be shut now it is tried again with the job, which is told why. */
    bool shut = start != WORKER_UNLIMITED && sandbox_shut(&err);
    /* A thread that the engine might start would be born in the sandbox. */
    if (shut && start == WORKER_REHEARSES && !has_turn(turn_fd) && !duck_rehearse(duck)) {
        _exit(1);
    }
    (void)close(duck->sample_fd);
    worker_main(duck, wait_turn(turn_fd), shut);
}
