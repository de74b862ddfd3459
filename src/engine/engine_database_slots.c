#include "clock.h"
#include "engine_database_internal.h"
#include "fd.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

enum {
    WAIT_TURN_MS = 50,        /* for a slot, between two looks at the cancel */
    PATIENCE_MS = 20,         /* a receive that needs no descriptor of the cancel */
    INTERRUPT_END_MS = 1000,  /* for a statement to heed INTERRUPT; then the process is killed */
    DEATH_TOLD_MS = 1000,     /* for the reason of a death to be known */
    KEEP_REQUEST_SIZE = 65536 /* of memory, from one request to the next */
};

/* ---- the pool ---- */

void database_slots_init(struct engine_database *database, unsigned count)
{
    assert(count > 0 && count <= WORKER_SLOTS_MAX);
    database->last_waiter = &database->first_waiter;
    for (unsigned i = count; i-- > 0;) {
        struct database_slot *slot = &database->slots[i];
        slot->number = i;
        database_stream_init(&slot->stream);
        buf_init(&slot->outgoing, WORKER_FRAME_SIZE_MAX);
        slot->next_idle = database->idle;
        database->idle = slot;
    }
}

void database_slots_finish(struct engine_database *database)
{
    for (size_t i = 0; i < COUNT_OF(database->slots); i++) {
        struct database_slot *slot = &database->slots[i];
        if (slot->outgoing.size_max > 0) {
            database_stream_finish(&slot->stream);
            buf_finish(&slot->outgoing);
        }
    }
}

/* The sockets stay open, so that their numbers mean nothing else, until nobody uses them. */
void database_slots_end(struct engine_database *database)
{
    for (size_t i = 0; i < COUNT_OF(database->slots); i++) {
        struct database_slot *slot = &database->slots[i];
        if (slot->outgoing.size_max > 0 && slot->stream.fd >= 0) {
            (void)shutdown(slot->stream.fd, SHUT_RDWR);
        }
    }
    for (struct database_waiter *waiter = database->first_waiter; waiter != NULL;
         waiter = waiter->next) {
        condition_signal(&waiter->granted);
    }
}

static bool fail_not_serving(const struct engine_database *database, struct err *err)
    REQUIRES(&database->lock)
{
    return err_set(err, ERR_UNAVAILABLE,
                   database->phase == DATABASE_GONE ? "the process of this database has ended"
                                                    : "the database is being closed");
}

static void unlink_waiter(struct engine_database *database, const struct database_waiter *waiter)
    REQUIRES(&database->lock)
{
    struct database_waiter **link = &database->first_waiter;
    while (*link != waiter) {
        link = &(*link)->next;
    }
    *link = waiter->next;
    if (database->last_waiter == &waiter->next) {
        database->last_waiter = link;
    }
}

/* Who came first is served first: a slot that is free is handed over, not put back. */
static struct database_slot *wait_slot(struct engine_database *database, struct cancel *cancel,
                                       struct err *err) REQUIRES(&database->lock)
{
    struct database_waiter waiter = {0};
    condition_init(&waiter.granted);
    *database->last_waiter = &waiter;
    database->last_waiter = &waiter.next;
    database->waiting++;
    bool good = true;
    while (good && waiter.slot == NULL) {
        good = database->phase == DATABASE_SERVING ? cancel_check(cancel, err)
                                                   : fail_not_serving(database, err);
        if (good) {
            int64_t turn_ms = clock_now_ms() + cancel_left_ms(cancel, WAIT_TURN_MS);
            (void)condition_wait_until(&waiter.granted, &database->lock, turn_ms);
        }
    }
    database->waiting--;
    if (waiter.slot == NULL) {
        unlink_waiter(database, &waiter);
        condition_broadcast(&database->changed); /* whoever closes waits for this one too */
    }
    condition_finish(&waiter.granted);
    return waiter.slot;
}

static struct database_slot *take_slot(struct engine_database *database, struct cancel *cancel,
                                       struct err *err)
{
    lock_take(&database->lock);
    struct database_slot *slot = NULL;
    if (database->phase != DATABASE_SERVING) {
        (void)fail_not_serving(database, err);
    } else if (database->idle != NULL) {
        slot = database->idle;
        database->idle = slot->next_idle;
        database->running++;
    } else {
        slot = wait_slot(database, cancel, err);
    }
    lock_release(&database->lock);
    return slot;
}

static void give_back(struct engine_database *database, struct database_slot *slot)
{
    lock_take(&database->lock);
    struct database_waiter *waiter = database->first_waiter;
    if (waiter != NULL && database->phase == DATABASE_SERVING) {
        unlink_waiter(database, waiter);
        waiter->slot = slot;
        condition_signal(&waiter->granted);
    } else {
        slot->next_idle = database->idle;
        database->idle = slot;
        database->running--;
        condition_broadcast(&database->changed);
    }
    lock_release(&database->lock);
}

/* ---- one request ---- */

struct conversation {
    struct engine_database *database;
    struct database_slot *slot;
    const struct engine_database_request *request;
    struct cancel *cancel;
    struct engine_database_outcome *outcome;
    uint64_t number;
    bool described; /* its COLUMNS have come */
    bool resulted;  /* a RESULT has come */
    bool done;
    bool unwanted; /* what still comes is thrown away */
    bool patient;  /* it takes longer: the cancel's descriptor is worth its making */
};

static void note_death(struct conversation *talk)
{
    talk->outcome->died = true;
    talk->outcome->killed = atomic_load(&talk->database->killed_for_request);
}

static bool fail_died(struct conversation *talk, struct err *err)
{
    note_death(talk);
    return err_set(err, ERR_UNAVAILABLE, "the process of this database ended during the request");
}

/* Its bytes make no sense: no other request may trust it either. */
static bool fail_broken(struct conversation *talk, struct err *err)
{
    database_kill(talk->database, ENGINE_KILL_UNWANTED);
    (void)fail_died(talk, err);
    err_add_detail(err, "the worker broke the protocol");
    return false;
}

static void wait_reason(struct conversation *talk)
{
    struct engine_database *database = talk->database;
    int64_t until_ms = clock_now_ms() + DEATH_TOLD_MS;
    lock_take(&database->lock);
    bool in_time = true;
    while (in_time && !database->over) {
        in_time = condition_wait_until(&database->changed, &database->lock, until_ms);
    }
    talk->outcome->out_of_memory = database->out_of_memory;
    lock_release(&database->lock);
}

/* A worker closes a slot when it ends, and for no other reason. */
static bool fail_ended(struct conversation *talk, struct err *err)
{
    if (!database_wait_exit(talk->database, DATABASE_EXIT_WAIT_MS)) {
        database_kill(talk->database, ENGINE_KILL_STUCK);
    }
    if (!atomic_load(&talk->database->killed_for_request)) {
        wait_reason(talk);
    }
    return fail_died(talk, err);
}

/* Its receives end after PATIENCE_MS, so that a request that is shorter needs only one of them. */
static bool connect_slot(struct conversation *talk, struct err *err)
{
    struct engine_database *database = talk->database;
    struct database_slot *slot = talk->slot;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return err_set(err, ERR_UNAVAILABLE, "the server has too many open files");
    }
    const struct timeval patience = {.tv_usec = PATIENCE_MS * 1000};
    (void)setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    char payload[sizeof(slot->number)];
    memcpy(payload, &slot->number, sizeof(payload));
    bool good =
        database_tell(database, WORKER_SLOT, str_make(payload, sizeof(payload)), pair[1], err);
    fd_close(&pair[1]);
    if (!good) {
        fd_close(&pair[0]);
        return fail_ended(talk, err);
    }
    lock_take(&database->lock);
    slot->stream.fd = pair[0];
    if (database->phase == DATABASE_GONE) {
        (void)shutdown(pair[0], SHUT_RDWR); /* those that were there had it already */
    }
    lock_release(&database->lock);
    return true;
}

static bool send_request(struct conversation *talk, struct err *err)
{
    struct database_slot *slot = talk->slot;
    struct worker_request message = talk->request->request;
    message.number = talk->number;
    buf_reset(&slot->outgoing);
    worker_put_request(&slot->outgoing, &message);
    if (buf_failed(&slot->outgoing)) {
        return err_set(err, ERR_TOO_LARGE, "the request is too large");
    }
    const int *fds = talk->request->fds;
    size_t fds_count = fds[0] < 0 ? 0 : fds[1] < 0 ? 1 : 2;
    talk->outcome->sent = worker_send(slot->stream.fd, WORKER_REQUEST, buf_str(&slot->outgoing),
                                      fds, fds_count, WORKER_ANSWER_SEND_MS, err);
    return talk->outcome->sent || fail_ended(talk, err);
}

/* ---- its frames ---- */

static bool take_columns(struct conversation *talk, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_schema columns = {0};
    bool good = worker_get_schema(&cursor, &columns) && worker_get_end(&cursor) &&
                talk->request->request.kind == WORKER_STATEMENTS && !talk->described;
    for (size_t i = 0; good && i < columns.columns_count; i++) {
        good = str_is_utf8(columns.columns[i].name) && str_is_utf8(columns.columns[i].type);
    }
    talk->described = true;
    if (!good) {
        good = fail_broken(talk, err);
    } else if (!talk->unwanted && talk->request->columns != NULL) {
        good = talk->request->columns(talk->request->context, &columns, err);
    }
    worker_schema_finish(&columns);
    return good;
}

static bool take_result(struct conversation *talk, struct str payload, struct err *err)
{
    const struct worker_request *asked = &talk->request->request;
    bool described = talk->described || asked->format == WORKER_FORMAT_PARQUET;
    bool expected = asked->kind == WORKER_BATCH || (asked->kind == WORKER_STATEMENTS && described);
    if (!expected || payload.len > WORKER_RESULT_SIZE_MAX) {
        return fail_broken(talk, err);
    }
    return talk->unwanted || talk->request->result == NULL ||
           talk->request->result(talk->request->context, payload, err);
}

static bool take_progress(struct conversation *talk, struct str payload, struct err *err)
{
    struct worker_progress seen;
    if (!worker_get_progress(payload, &seen, err)) {
        return fail_broken(talk, err);
    }
    const struct engine_progress progress = {
        .permille = seen.permille,
        .rows = seen.rows,
        .peak_bytes = seen.peak_bytes,
    };
    if (!talk->unwanted && talk->request->progress != NULL) {
        talk->request->progress(talk->request->context, &progress);
    }
    return true;
}

/* The end of the request; of the process too, when its engine can do nothing more. */
static bool take_done(struct conversation *talk, struct str payload, struct err *err)
{
    struct worker_done done;
    if (!worker_get_done(payload, &done, err) || done.kind >= ERR_KIND_COUNT ||
        done.fault > WORKER_FAULT_ENGINE ||
        done.failed_at > talk->request->request.statements_count ||
        !database_stream_is_empty(&talk->slot->stream)) {
        return fail_broken(talk, err);
    }
    talk->done = true;
    talk->outcome->done = done;
    talk->outcome->done.message = (struct str){0};
    if (done.fault == WORKER_FAULT_ENGINE) {
        database_kill(talk->database, ENGINE_KILL_DIED);
    }
    if (done.kind != ERR_NONE && !talk->unwanted) {
        (void)err_set(err, (enum err_kind)done.kind, "%.*s", STR_ARG(done.message));
    }
    return true;
}

static bool take_frame(struct conversation *talk, uint32_t type, struct str payload,
                       struct err *err)
{
    switch (type) {
    case WORKER_COLUMNS:
        return take_columns(talk, payload, err);
    case WORKER_RESULT:
        return take_result(talk, payload, err);
    case WORKER_PROGRESS:
        return take_progress(talk, payload, err);
    case WORKER_DONE:
        return take_done(talk, payload, err);
    default:
        return fail_broken(talk, err);
    }
}

/* Every whole frame that is there, up to DONE. */
static bool take_frames(struct conversation *talk, struct err *err)
{
    while (!talk->done) {
        uint32_t type;
        struct str payload;
        switch (database_stream_next(&talk->slot->stream, &type, &payload)) {
        case DATABASE_MORE:
            return true;
        case DATABASE_BROKEN:
            return fail_broken(talk, err);
        case DATABASE_FRAME:
            if (!take_frame(talk, type, payload, err)) {
                return false;
            }
        }
    }
    return true;
}

/* Most requests are over after one receive. One that takes longer is waited for together with its
 * cancel. */
static bool receive(struct conversation *talk, struct err *err)
{
    struct database_stream *stream = &talk->slot->stream;
    int flags = 0;
    if (talk->patient) {
        struct pollfd polled[] = {
            {.fd = stream->fd, .events = POLLIN},
            {.fd = cancel_fd(talk->cancel), .events = POLLIN},
        };
        (void)poll(polled, COUNT_OF(polled), cancel_left_ms(talk->cancel, 60000) + 1);
        flags = MSG_DONTWAIT;
    }
    enum database_received received = database_stream_receive(stream, flags);
    talk->patient = talk->patient || received == DATABASE_NOTHING;
    return received != DATABASE_ENDED || fail_ended(talk, err);
}

static bool converse(struct conversation *talk, struct err *err)
{
    bool good = true;
    while (good && !talk->done) {
        good = receive(talk, err) && take_frames(talk, err) &&
               (talk->done || cancel_check(talk->cancel, err));
    }
    return good;
}

/* ---- a request that is to end ---- */

static enum engine_kill reason_to_kill(const struct conversation *talk, const struct err *err)
{
    if (atomic_load(&talk->cancel->reason) == ERR_UNAVAILABLE) {
        return ENGINE_KILL_SHUTDOWN;
    }
    if (err->kind == ERR_CANCELLED || err->kind == ERR_STOPPED) {
        return ENGINE_KILL_CANCEL;
    }
    return err->kind == ERR_TIMEOUT ? ENGINE_KILL_DEADLINE : ENGINE_KILL_UNWANTED;
}

static bool send_interrupt(struct conversation *talk)
{
    struct err ignored;
    struct buf payload;
    buf_init(&payload, 64);
    worker_put_u32(&payload, talk->slot->number);
    worker_put_u64(&payload, talk->number);
    bool sent = database_tell(talk->database, WORKER_INTERRUPT, buf_str(&payload), -1, &ignored);
    buf_finish(&payload);
    return sent;
}

/* Its results are read and thrown away: a worker that blocks on them could not see the interrupt's
 * effect. What was wrong stays in the caller's err. */
static void interrupt(struct conversation *talk, enum engine_kill reason)
{
    struct err ignored;
    int64_t until_ms = clock_now_ms() + INTERRUPT_END_MS;
    talk->unwanted = true;
    bool ended = false;
    bool good = send_interrupt(talk) && take_frames(talk, &ignored);
    while (good && !talk->done && clock_now_ms() < until_ms) {
        struct pollfd polled = {.fd = talk->slot->stream.fd, .events = POLLIN};
        (void)poll(&polled, 1, (int)(until_ms - clock_now_ms()) + 1);
        enum database_received received =
            database_stream_receive(&talk->slot->stream, MSG_DONTWAIT);
        ended = received == DATABASE_ENDED;
        good = !ended && take_frames(talk, &ignored);
    }
    if (ended) {
        (void)fail_ended(talk, &ignored);
    } else if (!talk->done) {
        database_kill(talk->database, reason);
        note_death(talk);
    }
}

/* ---- the public side ---- */

static bool run_in(struct conversation *talk, struct err *err)
{
    if (!send_request(talk, err)) {
        return false;
    }
    if (!converse(talk, err)) {
        if (!talk->outcome->died) {
            interrupt(talk, reason_to_kill(talk, err));
        }
        return false;
    }
    return talk->outcome->done.kind == ERR_NONE;
}

static void trim(struct database_slot *slot)
{
    if (database_stream_is_empty(&slot->stream)) {
        database_stream_trim(&slot->stream);
    }
    if (slot->outgoing.capacity > KEEP_REQUEST_SIZE) {
        buf_finish(&slot->outgoing);
        buf_init(&slot->outgoing, WORKER_FRAME_SIZE_MAX);
    }
}

bool engine_database_run(struct engine_database *database,
                         const struct engine_database_request *request, struct cancel *cancel,
                         struct engine_database_outcome *ret_outcome, struct err *err)
{
    *ret_outcome = (struct engine_database_outcome){0};
    struct database_slot *slot = take_slot(database, cancel, err);
    if (slot == NULL) {
        return false;
    }
    struct conversation talk = {
        .database = database,
        .slot = slot,
        .request = request,
        .cancel = cancel,
        .outcome = ret_outcome,
        .number = atomic_fetch_add(&database->requests, 1) + 1,
    };
    bool good = cancel_check(cancel, err) && (slot->stream.fd >= 0 || connect_slot(&talk, err)) &&
                run_in(&talk, err);
    trim(slot);
    give_back(database, slot);
    return good;
}
