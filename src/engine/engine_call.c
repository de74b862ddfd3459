/* The beginning of a worker: it is asked for, sent its job, and met. */
#include "engine_internal.h"
#include "engine_job.h"
#include "fd.h"

#include <errno.h>
#include <sys/socket.h>

enum {
    FORK_TRIES = 3,
    EARLY_SIZE_MAX = 64 << 10, /* of a job that is sent before there is a worker */
    RESULT_ROOM_SIZE = 256 << 10,
    JOB_NICENESS = 5, /* of one that yields: a quarter of a processor that another wants too */
};

uint64_t engine_address_space(uint64_t memory_bytes, unsigned threads)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)memory_bytes;
    (void)threads;
    return 0;
#else
    return memory_bytes + memory_bytes / 4 + (UINT64_C(256) << 20) + threads * (UINT64_C(80) << 20);
#endif
}

static bool call_worker(struct engine *engine, struct zygote_start start,
                        struct zygote_child *child, struct cancel *cancel, int *ret_socket_fd,
                        struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
    }
    /* Room for what a worker makes while the client's end is busy; the system caps it. */
    int room = RESULT_ROOM_SIZE;
    (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    start.socket_fd = pair[1];
    bool good = zygote_fork(engine->zygote, &start, child, cancel, err);
    fd_close(&pair[1]);
    if (good) {
        *ret_socket_fd = pair[0];
    } else {
        fd_close(&pair[0]);
    }
    return good;
}

static bool told_restart(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "the query engine is being restarted; try again");
}

bool engine_fork_worker(struct engine *engine, struct zygote_start start,
                        struct zygote_child *child, struct cancel *cancel, int *ret_socket_fd,
                        struct err *err)
{
    for (int i = 0; i < FORK_TRIES; i++) {
        if (!call_worker(engine, start, child, cancel, ret_socket_fd, err)) {
            return false;
        }
        if (zygote_wait_forked(engine->zygote, child, cancel, err)) {
            return true;
        }
        zygote_forget(engine->zygote, child);
        fd_close(ret_socket_fd);
        if (err->kind != ERR_CONFLICT) {
            return false;
        }
    }
    return told_restart(err);
}

static struct worker_limits make_limits(const struct engine *engine, const struct engine_job *job)
{
    unsigned threads = engine->options.threads_per_job;
    uint64_t left_s = (uint64_t)cancel_left_ms(job->cancel, 86400000) / 1000;
    return (struct worker_limits){
        .memory_bytes = job->memory_bytes,
        .address_space_bytes = engine_address_space(job->memory_bytes, threads),
        .output_bytes = job->request->output_bytes_max,
        .cpu_seconds = (left_s + 3) * threads,
        .niceness = job->request->yields ? JOB_NICENESS : 0,
        .threads = threads,
        .layers_off = engine->options.layers_off,
    };
}

static bool write_job(const struct engine_job *job, struct buf *payload, struct err *err)
{
    struct worker_job message = job->request->job;
    message.limits = job->limits;
    buf_init(payload, WORKER_FRAME_SIZE_MAX);
    worker_put_job(payload, &message);
    return !buf_failed(payload) || err_set(err, ERR_TOO_LARGE, "the statement is too large");
}

static bool send_job(struct engine_job *job, struct str payload, struct err *err)
{
    int fds[2] = {job->request->input_fd, job->request->output_fd};
    size_t fds_count = fds[0] < 0 ? 0 : fds[1] < 0 ? 1 : 2;
    return worker_send(job->socket_fd, WORKER_JOB, payload, fds, fds_count, WORKER_ANSWER_SEND_MS,
                       err);
}

/* A zygote that died may have forked it or not: nobody hears of it any more. */
static void give_up_worker(struct engine_job *job)
{
    zygote_forget(job->engine->zygote, &job->child);
    job->called = false;
    fd_close(&job->socket_fd);
}

bool job_meet(struct engine_job *job, struct err *err)
{
    struct engine *engine = job->engine;
    if (job->met) {
        return true;
    }
    if (!zygote_wait_forked(engine->zygote, &job->child, job->cancel, err)) {
        return false;
    }
    job->met = true;
    metric_add(&engine->counts.forked, 1);
    metric_enter(&engine->counts.running);
    return true;
}

bool job_start(struct engine_job *job, struct err *err)
{
    CLEANUP(buf_finish) struct buf payload = {0};
    job->limits = make_limits(job->engine, job);
    if (!write_job(job, &payload, err)) {
        return false;
    }
    while (job->calls++ < FORK_TRIES) {
        struct zygote_start start = {.limits = job->limits};
        job->called =
            call_worker(job->engine, start, &job->child, job->cancel, &job->socket_fd, err);
        if (!job->called) {
            return false;
        }
        /* What the socket does not hold waits for a worker that reads it. */
        bool ready = payload.len <= EARLY_SIZE_MAX || job_meet(job, err);
        if (ready && send_job(job, buf_str(&payload), err)) {
            return true;
        }
        struct err reason = *err;
        if (ready && job_meet(job, err)) {
            *err = reason;
            return false;
        }
        give_up_worker(job);
        if (err->kind != ERR_CONFLICT) {
            return false;
        }
    }
    return told_restart(err);
}

bool job_meet_or_start_again(struct engine_job *job, struct err *err)
{
    if (job_meet(job, err)) {
        return true;
    }
    give_up_worker(job);
    return err->kind == ERR_CONFLICT && job_start(job, err);
}
