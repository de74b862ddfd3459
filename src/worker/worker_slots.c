#include "worker_slots.h"

#include "fd.h"
#include "mem.h"
#include "worker_crew.h"
#include "worker_database.h"
#include "worker_request.h"

enum {
    PROGRESS_AFTER_MS = 250,
    INTERRUPT_AGAIN_MS = 10
};

#define NO_REQUEST UINT64_MAX

struct slot {
    struct slots *slots;
    unsigned number;
    int fd;
    struct channel *channel;
    struct files *files;
    bool used;
    duckdb_connection next; /* made for the next request, which finds it there */
    uint64_t running;       /* the request, or NO_REQUEST */
    uint64_t interrupted;   /* the last one that was to be interrupted */
};

struct slots {
    duckdb_database database;
    struct storage *storage;
    struct crew *crew;
    struct lock lock; /* LOCK_REQUESTS */
    struct condition idle;
    bool draining GUARDED_BY(lock);
    unsigned busy_count GUARDED_BY(lock);                 /* slots that use the database */
    struct slot slots[WORKER_SLOTS_MAX] GUARDED_BY(lock); /* but what its own thread alone uses */
};

struct slots *slots_create(struct storage *storage)
{
    struct slots *slots = mem_alloc(sizeof(*slots));
    slots->storage = storage;
    lock_init(&slots->lock, LOCK_REQUESTS);
    condition_init(&slots->idle);
    return slots;
}

void slots_open(struct slots *slots, duckdb_database database, unsigned threads)
{
    struct crew *crew = crew_create(database, threads);
    lock_take(&slots->lock);
    slots->database = database;
    slots->crew = crew;
    lock_release(&slots->lock);
}

void slots_close(struct slots *slots)
{
    assert(slots->busy_count == 0 && slots->draining);
    crew_stop(slots->crew);
    lock_take(&slots->lock);
    for (size_t i = 0; i < WORKER_SLOTS_MAX; i++) {
        duckdb_disconnect(&slots->slots[i].next);
    }
    lock_release(&slots->lock);
}

/* ---- connections: each for one request ---- */

static bool make_connection(const struct slots *slots, duckdb_connection *ret_connection)
{
    return duckdb_connect(slots->database, ret_connection) == DuckDBSuccess &&
           shim_count_progress(*ret_connection);
}

static bool take_connection(struct slot *slot, duckdb_connection *ret_connection)
{
    lock_take(&slot->slots->lock);
    *ret_connection = TAKE(slot->next);
    lock_release(&slot->slots->lock);
    return *ret_connection != NULL || make_connection(slot->slots, ret_connection);
}

/* After the answer, so that the next request need not wait for it: a tenth of a small one. */
static void prepare_next(struct slot *slot)
{
    duckdb_connection connection = NULL;
    if (make_connection(slot->slots, &connection)) {
        lock_take(&slot->slots->lock);
        assert(slot->next == NULL);
        slot->next = TAKE(connection);
        lock_release(&slot->slots->lock);
    }
    duckdb_disconnect(&connection);
}

/* ---- one request ---- */

/* From here to the next connection's making the database stays: slots_drain waits. False when it is
 * being closed. */
static bool enter_database(struct slots *slots)
{
    lock_take(&slots->lock);
    bool draining = slots->draining;
    slots->busy_count += draining ? 0 : 1;
    lock_release(&slots->lock);
    return !draining;
}

static void leave_database(struct slots *slots)
{
    lock_take(&slots->lock);
    slots->busy_count--;
    if (slots->busy_count == 0) {
        condition_broadcast(&slots->idle);
    }
    lock_release(&slots->lock);
}

/* False when it is not to run. */
static bool begin(struct slot *slot, duckdb_connection connection, uint64_t number)
{
    struct slots *slots = slot->slots;
    lock_take(&slots->lock);
    bool stopped = slot->interrupted == number;
    if (!stopped) {
        slot->running = number;
        channel_begin(slot->channel, connection, PROGRESS_AFTER_MS);
    }
    lock_release(&slots->lock);
    return !stopped;
}

static void end(struct slot *slot)
{
    struct slots *slots = slot->slots;
    lock_take(&slots->lock);
    slot->running = NO_REQUEST;
    channel_begin(slot->channel, NULL, PROGRESS_AFTER_MS);
    lock_release(&slots->lock);
}

/* The engine calls a commit that found no room an error of the transaction. */
static void blame_room(struct slot *slot, uint64_t before, struct worker_done *done)
{
    bool full = storage_no_room(slot->slots->storage) != before;
    if (full && (done->fault == WORKER_FAULT_CONFLICT || done->fault == WORKER_FAULT_IO)) {
        done->fault = WORKER_FAULT_ROOM;
        done->kind = ERR_UNAVAILABLE;
    }
}

static void run_request(struct slot *slot, duckdb_connection connection,
                        const struct worker_request *request, const int fds[2],
                        struct worker_done *done)
{
    bool writes = request->kind == WORKER_EXPORT;
    struct duck duck = {
        .database = slot->slots->database,
        .connection = connection,
        .files = slot->files,
        .crew = slot->slots->crew,
    };
    files_set_descriptors(slot->files, writes ? -1 : fds[0], writes ? fds[0] : fds[1]);
    storage_set_client(slot->slots->storage, slot->number, shim_client(connection), slot->files);
    uint64_t no_room = storage_no_room(slot->slots->storage);
    (void)request_serve(&duck, connection, slot->channel, request, fds, done);
    blame_room(slot, no_room, done);
    storage_set_client(slot->slots->storage, slot->number, NULL, NULL);
    files_set_descriptors(slot->files, -1, -1);
}

static void send_done(struct slot *slot, struct worker_done *done)
{
    struct buf payload;
    done->peak_bytes = channel_peak_bytes();
    buf_init(&payload, 64 * 1024);
    done->message = str_first(done->message, 32 * 1024);
    worker_put_done(&payload, done);
    channel_send(slot->channel, WORKER_DONE, buf_str(&payload));
    buf_finish(&payload);
}

static void refuse(struct slot *slot, enum err_kind kind, const char *reason)
{
    struct worker_done done = {
        .kind = (uint32_t)kind,
        .fault = kind == ERR_STOPPED ? WORKER_FAULT_STOPPED : WORKER_FAULT_ENGINE,
        .message = str_of(reason),
    };
    send_done(slot, &done);
}

static void answer(struct slot *slot, const struct worker_request *request, const int fds[2])
{
    duckdb_connection connection = NULL;
    if (!take_connection(slot, &connection)) {
        duckdb_disconnect(&connection);
        refuse(slot, ERR_UNPROCESSABLE, "there is no memory for a connection");
        return;
    }
    if (!begin(slot, connection, request->number)) {
        duckdb_disconnect(&connection);
        refuse(slot, ERR_STOPPED, "the request was stopped");
        return;
    }
    struct worker_done done = {0};
    run_request(slot, connection, request, fds, &done);
    end(slot);
    duckdb_disconnect(&connection);
    send_done(slot, &done);
    request_done_finish(&done);
    prepare_next(slot);
}

static void serve(struct slot *slot, const struct worker_request *request, const int fds[2])
{
    if (!enter_database(slot->slots)) {
        refuse(slot, ERR_UNAVAILABLE, "the database is being closed");
        return;
    }
    answer(slot, request, fds);
    leave_database(slot->slots);
}

/* ---- a slot ---- */

static void leave_slot(struct slot *slot)
{
    lock_take(&slot->slots->lock);
    duckdb_disconnect(&slot->next);
    fd_close(&slot->fd);
    slot->used = false;
    lock_release(&slot->slots->lock);
}

static void *slot_run(void *argument)
{
    struct slot *slot = argument;
    struct worker_frame frame;
    struct err err;
    worker_frame_init(&frame);
    while (worker_receive_alone(slot->fd, &frame, &err)) {
        struct worker_request request;
        if (frame.type != WORKER_REQUEST ||
            !worker_get_request(buf_str(&frame.payload), &request, &err)) {
            refuse(slot, ERR_CORRUPT, "a request message is damaged");
            break;
        }
        serve(slot, &request, frame.fds);
        worker_request_finish(&request);
    }
    worker_frame_finish(&frame);
    leave_slot(slot);
    return NULL;
}

void slots_add(struct slots *slots, struct worker_frame *frame)
{
    struct worker_cursor cursor = {.rest = buf_str(&frame->payload)};
    uint32_t number = worker_get_u32(&cursor);
    if (!worker_get_end(&cursor) || number >= WORKER_SLOTS_MAX || frame->fds[0] < 0) {
        return;
    }
    struct slot *slot = &slots->slots[number];
    lock_take(&slots->lock);
    bool free = !slot->used;
    if (free) {
        slot->used = true;
        slot->slots = slots;
        slot->number = number;
        slot->running = NO_REQUEST;
        slot->interrupted = NO_REQUEST;
        slot->fd = frame->fds[0];
        frame->fds[0] = -1;
        channel_destroy(slot->channel);
        slot->channel = channel_create(slot->fd);
        slot->files = slot->files == NULL ? files_create_apart() : slot->files;
    }
    lock_release(&slots->lock);
    if (free && !thread_start_detached("slot", slot_run, slot)) {
        leave_slot(slot);
    }
}

void slots_interrupt(struct slots *slots, unsigned number, uint64_t request)
{
    if (number >= WORKER_SLOTS_MAX) {
        return;
    }
    struct slot *slot = &slots->slots[number];
    lock_take(&slots->lock);
    slot->interrupted = request;
    if (slot->running == request && request != NO_REQUEST) {
        channel_cancel(slot->channel);
    }
    lock_release(&slots->lock);
}

/* The engine forgets an interrupt that comes just before a statement begins: it is repeated. What
 * lasts may have tasks that no slot has offered, such as those of a checkpoint. */
int slots_tick(struct slots *slots)
{
    int again_ms = PROGRESS_AFTER_MS;
    lock_take(&slots->lock);
    for (size_t i = 0; i < WORKER_SLOTS_MAX; i++) {
        struct slot *slot = &slots->slots[i];
        if (!slot->used || slot->running == NO_REQUEST) {
            continue;
        }
        if (slot->interrupted == slot->running) {
            channel_cancel(slot->channel);
            again_ms = INTERRUPT_AGAIN_MS;
        } else {
            channel_offer_progress(slot->channel);
        }
    }
    struct crew *crew = slots->busy_count > 0 ? slots->crew : NULL;
    lock_release(&slots->lock);
    crew_offer(crew);
    return again_ms;
}

void slots_drain(struct slots *slots)
{
    lock_take(&slots->lock);
    slots->draining = true;
    while (slots->busy_count > 0) {
        condition_wait(&slots->idle, &slots->lock);
    }
    lock_release(&slots->lock);
}
