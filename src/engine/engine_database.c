#include "engine_database.h"

#include "clock.h"
#include "engine_database_internal.h"
#include "fd.h"
#include "log.h"
#include "mem.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CONTROL_SEND_MS = 500, /* it reads its control socket whatever it does */
    OPEN_TURN_MS = 50,
    CLOSE_LOOK_MS = 100, /* between looks at a deadline that others may lower */
    KILL_WAIT_MS = 5000, /* after SIGKILL: the kernel may have to end a write first */
    STATUS_WAIT_MS = 500
};

/* ---- the end of a process ---- */

bool database_wait_exit(const struct engine_database *database, int wait_ms)
{
    struct pollfd gone = {.fd = database->child.pidfd, .events = POLLIN};
    return poll(&gone, 1, wait_ms) > 0;
}

/* From here on no request begins, and those that run find the ends of their sockets. */
static void become_gone(struct engine_database *database) REQUIRES(&database->lock)
{
    database->phase = DATABASE_GONE;
    atomic_store(&database->gone, true);
    database_slots_end(database);
    condition_broadcast(&database->changed);
}

void database_kill(struct engine_database *database, enum engine_kill reason)
{
    lock_take(&database->lock);
    bool first = !database->killed && !database->over;
    database->killed = true;
    if (first) {
        database->stuck = reason == ENGINE_KILL_STUCK;
        atomic_store(&database->killed_for_request, reason == ENGINE_KILL_DEADLINE ||
                                                        reason == ENGINE_KILL_CANCEL ||
                                                        reason == ENGINE_KILL_SHUTDOWN);
        metric_add(&database->engine->counts.kills[reason], 1);
        (void)syscall(SYS_pidfd_send_signal, database->child.pidfd, SIGKILL, NULL, 0);
        (void)shutdown(database->control.fd, SHUT_RDWR);
        become_gone(database);
    }
    lock_release(&database->lock);
}

/* The other end of its control socket is closed: it has ended, or is about to. */
static bool has_hung_up(const struct engine_database *database)
{
    struct pollfd polled = {.fd = database->control.fd};
    return poll(&polled, 1, 0) > 0 && (polled.revents & POLLHUP) != 0;
}

bool database_tell(struct engine_database *database, uint32_t type, struct str payload, int fd,
                   struct err *err)
{
    lock_take(&database->send_lock);
    bool sent = worker_send(database->control.fd, type, payload, &fd, fd >= 0 ? 1 : 0,
                            CONTROL_SEND_MS, err);
    lock_release(&database->send_lock);
    if (!sent && !has_hung_up(database) && !database_wait_exit(database, 0)) {
        database_kill(database, ENGINE_KILL_UNWANTED);
    }
    return sent;
}

static bool is_crash(int signal_number)
{
    return signal_number == SIGSEGV || signal_number == SIGBUS || signal_number == SIGABRT ||
           signal_number == SIGFPE || signal_number == SIGILL;
}

/* It ended though nobody told it to. An allocation that fails where the engine cannot report it
 * ends the process, and so does the kernel when the container is full. */
static void report_death(struct engine_database *database)
{
    struct zygote_child *child = &database->child;
    bool known = zygote_wait_status(database->engine->zygote, child, STATUS_WAIT_MS);
    int status = known ? child->status : 0;
    int signal_number = known && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    bool large = signal_number != 0 && child->peak_bytes >= database->memory_bytes / 2;
    lock_take(&database->lock);
    if (!database->stuck) {
        enum engine_kill reason = large ? ENGINE_KILL_MEMORY : ENGINE_KILL_DIED;
        metric_add(&database->engine->counts.kills[reason], 1);
    }
    database->out_of_memory = large;
    database->crashed = is_crash(signal_number);
    lock_release(&database->lock);
    LOG(LOG_WARN, "engine.database_died", LOG_NUM("pid", child->pid),
        LOG_NUM("signal", signal_number), LOG_NUM("status", status));
}

/* Its control socket has ended. */
static void see_off(struct engine_database *database)
{
    lock_take(&database->lock);
    bool expected = (database->killed && !database->stuck) || database->reported;
    become_gone(database);
    lock_release(&database->lock);
    if (!database_wait_exit(database, DATABASE_EXIT_WAIT_MS)) {
        database_kill(database, ENGINE_KILL_STUCK);
        (void)database_wait_exit(database, KILL_WAIT_MS);
    }
    if (!expected) {
        report_death(database);
    }
    lock_take(&database->lock);
    database->over = true;
    condition_broadcast(&database->changed);
    lock_release(&database->lock);
}

/* ---- thread `database`: what the worker says on the control socket ---- */

static bool take_file(struct engine_database *database, struct str payload)
{
    struct database_question question;
    if (!database_files_read(payload, &question)) {
        return false;
    }
    struct database_answer answer;
    database_files_answer(&database->files, &question, &answer);
    if (answer.refused) {
        metric_add(&database->engine->counts.files_refused, 1);
    }
    struct err err;
    struct buf bytes;
    buf_init(&bytes, 256);
    worker_put_u32(&bytes, question.id);
    worker_put_u32(&bytes, (uint32_t)answer.errno_value);
    worker_put_u64(&bytes, answer.value);
    worker_put_text(&bytes, STR(""));
    bool sent = database_tell(database, WORKER_FILED, buf_str(&bytes), answer.fd, &err);
    buf_finish(&bytes);
    if (answer.passing) {
        fd_close(&answer.fd);
    }
    return sent;
}

static bool take_ready(struct engine_database *database, struct str payload)
{
    struct worker_cursor cursor = {.rest = payload};
    (void)worker_get_u64(&cursor); /* bytes of log that were replayed: of no use to us */
    lock_take(&database->lock);
    bool good = worker_get_end(&cursor) && database->phase == DATABASE_OPENING;
    if (good) {
        database->phase = DATABASE_SERVING;
        condition_broadcast(&database->changed);
    }
    lock_release(&database->lock);
    return good;
}

/* Its last word, as an answer to CLOSE or instead of READY. Anything else by now is its death. */
static bool take_outcome(struct engine_database *database, struct str payload)
{
    struct worker_outcome outcome;
    struct err err;
    if (!worker_get_outcome(payload, &outcome, &err)) {
        return false;
    }
    lock_take(&database->lock);
    bool good =
        !database->reported && (database->phase == DATABASE_CLOSING ||
                                (database->phase == DATABASE_OPENING && outcome.kind != ERR_NONE));
    if (good) {
        database->reported = true;
        database->outcome_kind = (enum err_kind)outcome.kind;
        (void)snprintf(database->outcome_message, sizeof(database->outcome_message), "%.*s",
                       STR_ARG(outcome.message));
    }
    lock_release(&database->lock);
    return good;
}

static bool take_control(struct engine_database *database, uint32_t type, struct str payload)
{
    switch (type) {
    case WORKER_FILE:
        return take_file(database, payload);
    case WORKER_READY:
        return take_ready(database, payload);
    case WORKER_OUTCOME:
        return take_outcome(database, payload);
    default:
        return false;
    }
}

/* False at the end of the stream, or when it makes no sense. */
static bool turn(struct engine_database *database)
{
    uint32_t type;
    struct str payload;
    switch (database_stream_next(&database->control, &type, &payload)) {
    case DATABASE_FRAME:
        if (take_control(database, type, payload)) {
            return true;
        }
        break;
    case DATABASE_MORE:
        return database_stream_receive(&database->control, 0) != DATABASE_ENDED;
    case DATABASE_BROKEN:
        break;
    }
    if (!database_wait_exit(database, 0)) {
        database_kill(database, ENGINE_KILL_UNWANTED);
    }
    return false;
}

static void *database_run(void *argument)
{
    struct engine_database *database = argument;
    while (turn(database)) {
    }
    see_off(database);
    return NULL;
}

/* ---- opening ---- */

static bool send_job(struct engine_database *database,
                     const struct engine_database_options *options, struct err *err)
{
    const struct worker_database message = {
        .name = str_of(options->name),
        .read_only = options->read_only,
        .temp_bytes_max = options->temp_fd < 0 ? 0 : options->temp_bytes_max,
    };
    struct buf rest;
    buf_init(&rest, WORKER_FRAME_SIZE_MAX);
    worker_put_database(&rest, &message);
    /* No cpu_seconds: it lives as long as the database is used. */
    const struct worker_limits limits = {
        .memory_bytes = options->memory_bytes,
        .address_space_bytes = engine_address_space(options->memory_bytes, options->threads),
        .output_bytes = options->file_bytes_max,
        .threads = options->threads,
        .layers_off = database->engine->options.layers_off,
    };
    const struct worker_job job = {
        .kind = WORKER_DATABASE, .limits = limits, .database = buf_str(&rest)};
    struct buf payload;
    buf_init(&payload, WORKER_FRAME_SIZE_MAX);
    worker_put_job(&payload, &job);
    bool good = worker_send(database->control.fd, WORKER_JOB, buf_str(&payload), NULL, 0,
                            WORKER_ANSWER_SEND_MS, err);
    buf_finish(&payload);
    buf_finish(&rest);
    return good;
}

static bool start_process(struct engine_database *database,
                          const struct engine_database_options *options, struct cancel *cancel,
                          struct err *err)
{
    if (!engine_fork_worker(database->engine, (struct zygote_start){.unlimited = true},
                            &database->child, cancel, &database->control.fd, err)) {
        return false;
    }
    metric_add(&database->engine->counts.forked, 1);
    metric_enter(&database->engine->counts.databases);
    if (send_job(database, options, err) &&
        (thread_try_start("database", database_run, database, &database->thread) ||
         err_set(err, ERR_UNAVAILABLE, "the server has no thread for the database"))) {
        return true;
    }
    database_kill(database, ENGINE_KILL_UNWANTED);
    (void)database_wait_exit(database, KILL_WAIT_MS);
    metric_leave(&database->engine->counts.databases);
    zygote_forget(database->engine->zygote, &database->child);
    return false;
}

/* Why the process ended before the file was open: by its own word, if it had one. */
static bool fail_opening(struct engine_database *database, struct err *err)
    REQUIRES(&database->lock)
{
    while (!database->over) {
        condition_wait(&database->changed, &database->lock);
    }
    if (database->reported) {
        return err_set(err, database->outcome_kind, "%s", database->outcome_message);
    }
    if (database->out_of_memory) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "opening the database needs more than the %llu MB it may use; raise "
                       "DUCKDB_MEMORY_LIMIT",
                       (unsigned long long)(database->memory_bytes / 1000000));
    }
    if (database->crashed) {
        return err_set(err, ERR_INTERNAL, "the process that opened the database crashed");
    }
    return err_set(err, ERR_UNAVAILABLE, "the process that opened the database ended");
}

static bool wait_opened(struct engine_database *database, struct cancel *cancel, struct err *err)
{
    lock_take(&database->lock);
    bool good = true;
    while (good && database->phase == DATABASE_OPENING) {
        good = cancel_check(cancel, err);
        if (good) {
            int64_t turn_ms = clock_now_ms() + cancel_left_ms(cancel, OPEN_TURN_MS);
            (void)condition_wait_until(&database->changed, &database->lock, turn_ms);
        }
    }
    if (good && database->phase == DATABASE_GONE) {
        good = fail_opening(database, err);
    }
    lock_release(&database->lock);
    return good;
}

static struct engine_database *create(struct engine *engine,
                                      const struct engine_database_options *options)
{
    struct engine_database *database = mem_alloc(sizeof(*database));
    database->engine = engine;
    database->memory_bytes = options->memory_bytes;
    database->close_by_ms = options->close_by_ms;
    database->child.pidfd = -1;
    database_stream_init(&database->control);
    lock_init(&database->send_lock, LOCK_SEND);
    lock_init(&database->lock, LOCK_SLOTS);
    condition_init(&database->changed);
    database_slots_init(database, options->slots);
    return database;
}

static void destroy(struct engine_database *database)
{
    database_slots_finish(database);
    database_stream_finish(&database->control);
    database_files_close(&database->files);
    condition_finish(&database->changed);
    lock_finish(&database->lock);
    lock_finish(&database->send_lock);
    mem_free(database);
}

/* The process is gone, or has been told so by the kernel. */
static void finish_process(struct engine_database *database)
{
    (void)pthread_join(database->thread, NULL);
    metric_leave(&database->engine->counts.databases);
    zygote_forget(database->engine->zygote, &database->child);
}

static enum engine_kill reason_to_kill(const struct cancel *cancel, const struct err *err)
{
    if (atomic_load(&cancel->reason) == ERR_UNAVAILABLE) {
        return ENGINE_KILL_SHUTDOWN;
    }
    return err->kind == ERR_TIMEOUT ? ENGINE_KILL_DEADLINE : ENGINE_KILL_CANCEL;
}

bool engine_database_open(struct engine *engine, const struct engine_database_options *options,
                          struct cancel *cancel, struct engine_database **ret_database,
                          struct err *err)
{
    struct engine_database *database = create(engine, options);
    if (!database_files_open(&database->files, options, cancel, err) ||
        !start_process(database, options, cancel, err)) {
        destroy(database);
        return false;
    }
    if (!wait_opened(database, cancel, err)) {
        database_kill(database, reason_to_kill(cancel, err));
        finish_process(database);
        destroy(database);
        return false;
    }
    *ret_database = database;
    return true;
}

/* ---- closing ---- */

/* False when it is too late. In steps: nobody tells when the deadline is lowered. */
static bool wait_change(struct engine_database *database, int64_t deadline_ms)
    REQUIRES(&database->lock)
{
    int64_t now_ms = clock_now_ms();
    int64_t by_ms = database->close_by_ms == NULL ? INT64_MAX : atomic_load(database->close_by_ms);
    by_ms = by_ms < deadline_ms ? by_ms : deadline_ms;
    if (now_ms >= by_ms) {
        return false;
    }
    int64_t step_ms = by_ms - now_ms < CLOSE_LOOK_MS ? by_ms - now_ms : CLOSE_LOOK_MS;
    (void)condition_wait_until(&database->changed, &database->lock, now_ms + step_ms);
    return true;
}

/* Nobody runs or waits afterwards. */
static void finish_requests(struct engine_database *database, int64_t deadline_ms)
{
    lock_take(&database->lock);
    if (database->phase == DATABASE_SERVING) {
        database->phase = DATABASE_CLOSING;
    }
    for (struct database_waiter *waiter = database->first_waiter; waiter != NULL;
         waiter = waiter->next) {
        condition_signal(&waiter->granted);
    }
    bool in_time = true;
    while (in_time && database->running + database->waiting > 0) {
        in_time = wait_change(database, deadline_ms);
    }
    lock_release(&database->lock);
    if (!in_time) {
        database_kill(database, ENGINE_KILL_SHUTDOWN);
    }
    lock_take(&database->lock);
    while (database->running + database->waiting > 0) {
        condition_wait(&database->changed, &database->lock);
    }
    lock_release(&database->lock);
}

static void wait_over(struct engine_database *database, int64_t deadline_ms)
{
    lock_take(&database->lock);
    bool in_time = true;
    while (in_time && !database->over) {
        in_time = wait_change(database, deadline_ms);
    }
    bool over = database->over;
    lock_release(&database->lock);
    if (!over) {
        database_kill(database, ENGINE_KILL_SHUTDOWN);
    }
}

static bool tell_result(const struct engine_database *database, struct err *err)
{
    if (!database->reported) {
        return err_set(err, ERR_UNAVAILABLE,
                       "the database's process ended without a last checkpoint");
    }
    return database->outcome_kind == ERR_NONE ||
           err_set(err, database->outcome_kind, "%s", database->outcome_message);
}

bool engine_database_close(struct engine_database *database, int64_t deadline_ms, struct err *err)
{
    finish_requests(database, deadline_ms);
    struct err ignored;
    if (database_tell(database, WORKER_CLOSE, STR(""), -1, &ignored)) {
        wait_over(database, deadline_ms);
    }
    finish_process(database);
    bool good = tell_result(database, err);
    destroy(database);
    return good;
}

/* ---- what is asked of it ---- */

bool engine_database_is_alive(const struct engine_database *database)
{
    return !atomic_load(&database->gone);
}

int engine_database_file(const struct engine_database *database)
{
    return database->files.main_fd;
}

static uint64_t resident_bytes(int pid)
{
    char path[64];
    unsigned long size;
    unsigned long resident = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/statm", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%lu %lu", &size, &resident) != 2) {
        resident = 0;
    }
    (void)fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void engine_database_state(struct engine_database *database,
                           struct engine_database_state *ret_state)
{
    lock_take(&database->lock);
    *ret_state = (struct engine_database_state){
        .pid = database->child.pid,
        .running = database->running,
        .waiting = database->waiting,
    };
    bool gone = database->phase == DATABASE_GONE;
    lock_release(&database->lock);
    ret_state->resident_bytes = gone ? 0 : resident_bytes(ret_state->pid);
}
