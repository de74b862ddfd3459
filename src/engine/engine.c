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
    READ_SIZE = 256 * 1024,
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
    engine->program_fd = -1;
    engine_memory_init(&engine->memory, options->memory_total_bytes, options->memory_per_job_bytes,
                       options->slots);
    engine->fetchers = fetch_pool_create(options->fetch_threads);
    return engine;
}

bool engine_start(struct engine *engine, struct err *err)
{
    assert(engine->zygote == NULL);
    engine->program_fd = engine_open_program(engine->options.program, err);
    if (engine->program_fd < 0) {
        return false;
    }
    engine->zygote = zygote_create(engine->program_fd, engine->options.check_library);
    return true;
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
    fd_close(&engine->program_fd);
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
    return "v" EIDER_DUCKDB_VERSION;
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
    if (polled[0].revents != 0 && !job->met) {
        return job_meet_or_start_again(job, err);
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

/* The end of a worker that has not reported. */
static void stop_early(struct engine_job *job, const struct err *err)
{
    struct engine *engine = job->engine;
    if (!job->died) {
        count_kill(engine, reason_to_stop(job, err));
    }
    metric_enter(&engine->counts.stopping);
    stop_worker(job);
    metric_leave(&engine->counts.stopping);
}

/* Its process is sent SIGKILL, and keeps its memory until it is gone. */
static void leave_worker(struct engine_job *job)
{
    leavers_take(job->engine, job->child.pidfd, job->memory_bytes);
    job->child.pidfd = -1;
    job->memory_bytes = 0;
}

/* One that has got a job which nobody wants. */
static void dismiss_worker(struct engine_job *job)
{
    struct err ignored;
    if (job->called && (job->met || job_meet(job, &ignored))) {
        leave_worker(job);
    }
}

static bool run_job(struct engine_job *job, struct engine_outcome *ret_outcome, struct err *err)
{
    struct engine *engine = job->engine;
    bool good = true;
    while (good && !job->finished) {
        good = turn(engine, job, err);
    }
    if (job->finished) {
        leave_worker(job);
        return take_result(job, ret_outcome, err);
    }
    if (job->met && err->kind == ERR_UNAVAILABLE && wait_exit(job, 0)) {
        return report_death(engine, job, err); /* an answer could not be sent: there is nobody */
    }
    if (job->met) {
        stop_early(job, err);
    } else {
        dismiss_worker(job);
    }
    return false;
}

static void job_destroy(struct engine_job *job)
{
    struct engine *engine = job->engine;
    if (job->met) {
        metric_leave(&engine->counts.running);
    }
    if (job->called) {
        zygote_forget(engine->zygote, &job->child);
    }
    fd_close(&job->socket_fd);
    fetch_queue_finish(&job->fetches);
    broker_finish(job);
    buf_finish(&job->incoming);
    if (job->memory_bytes > 0) {
        engine_memory_release(&engine->memory, job->memory_bytes);
    } /* otherwise it is let go with the process */
    mem_free(job);
}

bool engine_begin(struct engine *engine, const struct engine_request *request,
                  struct cancel *cancel, struct engine_job **ret_job, struct err *err)
{
    uint64_t memory_bytes = reserve_memory(engine);
    if (memory_bytes == 0) {
        return err_set(err, ERR_BUSY, "all workers are busy; retry shortly");
    }
    struct engine_job *job = mem_alloc(sizeof(*job));
    *job = (struct engine_job){
        .engine = engine,
        .request = request,
        .cache = engine->options.cache,
        .memory_bytes = memory_bytes,
        .socket_fd = -1,
        .cancel = cancel,
    };
    if (!fetch_queue_init(&job->fetches, engine->fetchers, cancel->deadline_ms, err)) {
        engine_memory_release(&engine->memory, memory_bytes);
        mem_free(job);
        return false;
    }
    buf_init(&job->incoming, WORKER_QUESTION_SIZE_MAX + 2 * READ_SIZE);
    if (!job_start(job, err)) {
        engine_abandon(job);
        return false;
    }
    *ret_job = job;
    return true;
}

bool engine_finish(struct engine_job *job, struct engine_outcome *ret_outcome, struct err *err)
{
    bool good = run_job(job, ret_outcome, err);
    job_destroy(job);
    return good;
}

void engine_abandon(struct engine_job *job)
{
    dismiss_worker(job);
    job_destroy(job);
}

bool engine_run(struct engine *engine, const struct engine_request *request, struct cancel *cancel,
                struct engine_outcome *ret_outcome, struct err *err)
{
    struct engine_job *job;
    return engine_begin(engine, request, cancel, &job, err) && engine_finish(job, ret_outcome, err);
}
