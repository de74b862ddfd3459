#include "engine.h"

#include "clock.h"
#include "engine_internal.h"
#include "engine_job.h"
#include "fd.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CANCEL_SEND_MS = 20,
    STOP_WAIT_MS = 30,   /* between asking a worker to stop and SIGKILL; gone within 100 */
    EXIT_WAIT_MS = 1000, /* for a worker that has been killed to be gone */
    STATUS_WAIT_MS = 500,
    FORK_TRIES = 3,
    READ_SIZE = 256 * 1024,
    JOB_NICENESS = 5, /* of one that yields: a quarter of a processor that another wants too */
};

/* Jobs that have been answered may hold what the next one needs, for a moment. 0: all are busy. */
static uint64_t reserve_memory(struct engine *engine)
{
    int64_t until_ms = clock_now_ms() + EXIT_WAIT_MS;
    (void)leavers_release(engine, 0);
    uint64_t memory_bytes = engine_memory_reserve(&engine->memory);
    while (memory_bytes == 0 && atomic_load(&engine->leavers_count) > 0 &&
           clock_now_ms() < until_ms) {
        if (!leavers_release(engine, 1)) {
            (void)poll(NULL, 0, 1); /* somebody else looks at them */
        }
        memory_bytes = engine_memory_reserve(&engine->memory);
    }
    return memory_bytes;
}

struct engine *engine_create(const struct engine_options *options)
{
    struct engine *engine = mem_alloc(sizeof(*engine));
    engine->options = *options;
    engine_memory_init(&engine->memory, options->memory_total_bytes, options->memory_per_job_bytes,
                       options->slots);
    engine->fetchers = fetch_pool_create(options->fetch_threads);
    return engine;
}

void engine_start(struct engine *engine)
{
    assert(engine->zygote == NULL);
    engine->zygote = zygote_create(engine->options.check_library);
}

bool engine_wait_ready(struct engine *engine, struct err *err)
{
    struct cancel cancel;
    cancel_init(&cancel, INT64_MAX);
    bool good = zygote_wait_ready(engine->zygote, &cancel, err);
    cancel_finish(&cancel);
    return good;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL) {
        return;
    }
    while (atomic_load(&engine->leavers_count) > 0) {
        (void)leavers_release(engine, EXIT_WAIT_MS);
    }
    zygote_destroy(engine->zygote);
    fetch_pool_destroy(engine->fetchers);
    engine_memory_finish(&engine->memory);
    mem_free(engine);
}

bool engine_is_ready(struct engine *engine)
{
    return zygote_is_ready(engine->zygote);
}

const char *engine_version(void)
{
    return worker_header_version();
}

unsigned engine_landlock_abi(struct engine *engine)
{
    return zygote_landlock_abi(engine->zygote);
}

const struct engine_counts *engine_counts(const struct engine *engine)
{
    return &engine->counts;
}

uint64_t engine_zygote_restarts(struct engine *engine)
{
    return zygote_restarts(engine->zygote);
}

uint64_t engine_memory_reserved(struct engine *engine, uint64_t *ret_total_bytes)
{
    (void)leavers_release(engine, 0);
    *ret_total_bytes = engine->options.memory_total_bytes;
    return engine_memory_in_use(&engine->memory);
}

/* ---- starting a worker ---- */

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

bool engine_fork_worker(struct engine *engine, struct zygote_start start,
                        struct zygote_child *child, struct cancel *cancel, int *ret_socket_fd,
                        struct err *err)
{
    for (int i = 0; i < FORK_TRIES; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
        }
        start.socket_fd = pair[1];
        bool good = zygote_fork(engine->zygote, &start, child, cancel, err);
        fd_close(&pair[1]);
        if (good) {
            *ret_socket_fd = pair[0];
            return true;
        }
        fd_close(&pair[0]);
        if (err->kind != ERR_CONFLICT) {
            return false;
        }
    }
    return err_set(err, ERR_UNAVAILABLE, "the query engine is being restarted; try again");
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

static bool send_job(struct engine_job *job, const struct worker_limits *limits, struct err *err)
{
    struct worker_job message = job->request->job;
    message.limits = *limits;
    struct buf payload;
    buf_init(&payload, WORKER_FRAME_SIZE_MAX);
    worker_put_job(&payload, &message);
    int fds[2] = {job->request->input_fd, job->request->output_fd};
    size_t fds_count = fds[0] < 0 ? 0 : fds[1] < 0 ? 1 : 2;
    bool good = !buf_failed(&payload) ? worker_send(job->socket_fd, WORKER_JOB, buf_str(&payload),
                                                    fds, fds_count, WORKER_ANSWER_SEND_MS, err)
                                      : err_set(err, ERR_TOO_LARGE, "the statement is too large");
    buf_finish(&payload);
    return good;
}

/* ---- frames of the worker ---- */

static bool take_outcome(struct engine_job *job, struct str payload, struct err *err)
{
    if (!worker_get_outcome(payload, &job->worker, err)) {
        return false;
    }
    (void)snprintf(job->message, sizeof(job->message), "%.*s", STR_ARG(job->worker.message));
    job->worker.message = (struct str){0};
    job->finished = true;
    return true;
}

static bool take_progress(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_progress seen;
    if (!worker_get_progress(payload, &seen, err)) {
        return false;
    }
    struct engine_progress progress = {
        .permille = seen.permille,
        .rows = seen.rows,
        .read_bytes = job->fetched.bytes,
        .peak_bytes = seen.peak_bytes,
    };
    if (job->request->progress != NULL) {
        job->request->progress(job->request->context, &progress);
    }
    return true;
}

static bool take_frame(struct engine_job *job, uint32_t type, struct str payload, struct err *err)
{
    switch (type) {
    case WORKER_RESOLVE:
        return broker_resolve(job, payload, err);
    case WORKER_OPEN:
        return broker_open(job, payload, err);
    case WORKER_FETCH:
        return broker_fetch(job, payload, err);
    case WORKER_AHEAD:
        return broker_ahead(job, payload, err);
    case WORKER_READS:
        return broker_reads(job, payload, err);
    case WORKER_SCHEMAS:
        return broker_schema(job, payload, err);
    case WORKER_RESULT:
        return broker_result(job, payload, err);
    case WORKER_COLUMNS:
        return broker_columns(job, payload, err);
    case WORKER_PROGRESS:
        return take_progress(job, payload, err);
    case WORKER_OUTCOME:
        return take_outcome(job, payload, err);
    default:
        return err_set(err, ERR_CORRUPT, "the worker sent an unknown message");
    }
}

/* Handles every complete frame of `incoming`; an incomplete rest stays. A frame is never waited
 * for: a worker that stops in the middle of one runs into its deadline. */
static bool take_frames(struct engine_job *job, struct err *err)
{
    size_t at = 0;
    bool good = true;
    while (good && !job->finished && job->incoming.len - at >= 2 * sizeof(uint32_t)) {
        struct worker_cursor cursor = {.rest = str_from(buf_str(&job->incoming), at)};
        uint32_t type = worker_get_u32(&cursor);
        uint32_t size = worker_get_u32(&cursor);
        if (size > WORKER_QUESTION_SIZE_MAX) {
            return err_set(err, ERR_CORRUPT, "the worker sent too large a message");
        }
        if (size > cursor.rest.len) {
            break;
        }
        good = take_frame(job, type, str_first(cursor.rest, size), err);
        at += 2 * sizeof(uint32_t) + size;
    }
    memmove(job->incoming.ptr, job->incoming.ptr + at, job->incoming.len - at);
    buf_truncate(&job->incoming, job->incoming.len - at);
    return good;
}

/* False at the end of the stream or on a real failure; *ret_ended tells which. */
static bool read_socket(struct engine_job *job, bool *ret_ended, struct err *err)
{
    *ret_ended = false;
    if (!buf_reserve(&job->incoming, READ_SIZE)) {
        return err_set(err, ERR_CORRUPT, "the worker sent too large a message");
    }
    ssize_t size =
        recv(job->socket_fd, job->incoming.ptr + job->incoming.len, READ_SIZE, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (size <= 0) {
        *ret_ended = true;
        return false;
    }
    job->incoming.len += (size_t)size;
    return take_frames(job, err);
}

/* ---- the end of a worker ---- */

static bool wait_exit(struct engine_job *job, int wait_ms)
{
    struct pollfd gone = {.fd = job->child.pidfd, .events = POLLIN};
    return poll(&gone, 1, wait_ms) > 0;
}

static void kill_worker(struct engine_job *job)
{
    (void)syscall(SYS_pidfd_send_signal, job->child.pidfd, SIGKILL, NULL, 0);
    (void)wait_exit(job, EXIT_WAIT_MS);
}

/* Asks, waits, kills. Closing the socket already ends a worker whose control thread still runs. */
static void stop_worker(struct engine_job *job)
{
    struct err ignored;
    bool asked =
        worker_send(job->socket_fd, WORKER_CANCEL, STR(""), NULL, 0, CANCEL_SEND_MS, &ignored);
    int64_t until_ms = clock_now_ms() + (asked ? STOP_WAIT_MS : 0);
    while (clock_now_ms() < until_ms) {
        struct pollfd polled[] = {
            {.fd = job->child.pidfd, .events = POLLIN},
            {.fd = job->socket_fd, .events = POLLIN},
        };
        (void)poll(polled, COUNT_OF(polled), (int)(until_ms - clock_now_ms()));
        if (polled[0].revents != 0) {
            return;
        }
        /* A worker that blocks on its result could not see the interrupt's effect. One piece a
         * turn: a flood must not outlast the time. */
        char thrown_away[65536];
        (void)!recv(job->socket_fd, thrown_away, sizeof(thrown_away), MSG_DONTWAIT);
        if ((polled[1].revents & POLLHUP) != 0) {
            break;
        }
    }
    kill_worker(job);
}

/* An allocation that fails where the engine cannot report it ends the process, and so does the
 * kernel when the container is full: a worker that died large died of that. */
static bool died_of_memory(const struct engine_job *job, int signal_number)
{
    return signal_number != 0 && job->child.peak_bytes >= job->memory_bytes / 2;
}

static void count_kill(struct engine *engine, enum engine_kill reason)
{
    metric_add(&engine->counts.kills[reason], 1);
}

/* What ended a job whose worker had not. */
static enum engine_kill reason_to_stop(const struct engine_job *job, const struct err *err)
{
    if (atomic_load(&job->cancel->reason) == ERR_UNAVAILABLE) {
        return ENGINE_KILL_SHUTDOWN;
    }
    if (err->kind == ERR_CANCELLED || err->kind == ERR_STOPPED) {
        return ENGINE_KILL_CANCEL;
    }
    return err->kind == ERR_TIMEOUT ? ENGINE_KILL_DEADLINE : ENGINE_KILL_UNWANTED;
}

static bool report_death(struct engine *engine, struct engine_job *job, struct err *err)
{
    job->died = true;
    bool known = zygote_wait_status(engine->zygote, &job->child, STATUS_WAIT_MS);
    int status = known ? job->child.status : 0;
    int signal_number = known && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    LOG(LOG_WARN, "engine.worker_died", LOG_NUM("pid", job->child.pid),
        LOG_NUM("signal", signal_number), LOG_NUM("status", status));
    if (signal_number == SIGXCPU) {
        count_kill(engine, ENGINE_KILL_PROCESSOR_TIME);
        return err_set(err, ERR_TIMEOUT, "the statement used more processor time than it may");
    }
    if (died_of_memory(job, signal_number)) {
        count_kill(engine, ENGINE_KILL_MEMORY);
        return err_set(err, ERR_UNPROCESSABLE,
                       "Out of Memory Error: the statement needs more than the %llu MB it may use",
                       (unsigned long long)(job->memory_bytes / 1000000));
    }
    count_kill(engine, ENGINE_KILL_DIED);
    return err_set(err, ERR_INTERNAL, "the worker process that ran the statement died");
}

/* ---- the loop of one job ---- */

static bool turn(struct engine *engine, struct engine_job *job, struct err *err)
{
    struct pollfd polled[] = {
        {.fd = job->socket_fd, .events = POLLIN},
        {.fd = cancel_fd(job->cancel), .events = POLLIN},
        {.fd = job->fetches.done_fd, .events = POLLIN},
    };
    (void)poll(polled, COUNT_OF(polled), cancel_left_ms(job->cancel, 60000) + 1);
    if (!cancel_check(job->cancel, err)) {
        return false;
    }
    if (polled[2].revents != 0 && !broker_answer_fetches(job, err)) {
        return false;
    }
    bool ended = false;
    if (polled[0].revents != 0 && !read_socket(job, &ended, err)) {
        return ended && !job->finished ? report_death(engine, job, err) : false;
    }
    return true;
}

static bool take_result(struct engine_job *job, struct engine_outcome *ret_outcome, struct err *err)
{
    *ret_outcome = (struct engine_outcome){
        .rows = job->worker.rows,
        .read_bytes = job->fetched.bytes,
        .peak_bytes = job->worker.peak_bytes,
        .truncated = job->worker.truncated != 0,
    };
    if (job->worker.kind == ERR_NONE) {
        return true;
    }
    if (job->store_err.kind != ERR_NONE) {
        *err = job->store_err;
        return false;
    }
    return err_set(err, (enum err_kind)job->worker.kind, "%s", job->message);
}

static bool run_job(struct engine *engine, struct engine_job *job,
                    const struct worker_limits *limits, struct engine_outcome *ret_outcome,
                    struct err *err)
{
    bool good = send_job(job, limits, err);
    while (good && !job->finished) {
        good = turn(engine, job, err);
    }
    if (!job->finished && err->kind == ERR_UNAVAILABLE && wait_exit(job, 0)) {
        return report_death(engine, job, err); /* an answer could not be sent: there is nobody */
    }
    if (!job->finished) {
        if (!job->died) {
            count_kill(engine, reason_to_stop(job, err));
        }
        metric_enter(&engine->counts.stopping);
        stop_worker(job);
        metric_leave(&engine->counts.stopping);
        return false;
    }
    leavers_take(engine, job->child.pidfd, job->memory_bytes);
    job->child.pidfd = -1;
    return take_result(job, ret_outcome, err);
}

bool engine_run(struct engine *engine, const struct engine_request *request, struct cancel *cancel,
                struct engine_outcome *ret_outcome, struct err *err)
{
    uint64_t memory_bytes = reserve_memory(engine);
    if (memory_bytes == 0) {
        return err_set(err, ERR_BUSY, "all workers are busy; retry shortly");
    }
    struct engine_job job = {
        .request = request,
        .cache = engine->options.cache,
        .memory_bytes = memory_bytes,
        .socket_fd = -1,
        .cancel = cancel,
    };
    buf_init(&job.incoming, WORKER_QUESTION_SIZE_MAX + 2 * READ_SIZE);
    bool good = fetch_queue_init(&job.fetches, engine->fetchers, cancel->deadline_ms, err);
    if (good) {
        struct zygote_start start = {.limits = make_limits(engine, &job)};
        good = engine_fork_worker(engine, start, &job.child, job.cancel, &job.socket_fd, err);
        if (good) {
            metric_add(&engine->counts.forked, 1);
            metric_enter(&engine->counts.running);
            good = run_job(engine, &job, &start.limits, ret_outcome, err);
            metric_leave(&engine->counts.running);
            zygote_forget(engine->zygote, &job.child);
        }
        fd_close(&job.socket_fd);
        fetch_queue_finish(&job.fetches);
    }
    broker_finish(&job);
    buf_finish(&job.incoming);
    if (!job.finished) {
        engine_memory_release(&engine->memory, memory_bytes);
    } /* otherwise it is let go with the process */
    return good;
}
