/* fake_database.h - the process of a database, in which a script answers instead of an engine:
 * what a request's statement says is what happens.
 * Use       a script of hostile_worker.h under the name of the database's file; `serve` is the
 * whole
 *           life of an honest one. */
#pragma once

#include "clock.h"
#include "hostile_worker.h"

struct fake {
    struct hostile_worker *worker;
    int slots[WORKER_SLOTS_MAX];
    uint64_t sleeping[WORKER_SLOTS_MAX]; /* the request that waits for INTERRUPT there */
};

static inline void say(int socket_fd, uint32_t type, struct str payload)
{
    struct err err;
    if (!worker_send(socket_fd, type, payload, NULL, 0, -1, &err)) {
        _exit(0);
    }
}

static inline void say_columns(int slot)
{
    const struct worker_schema_column column = {STR_INIT("a"), STR_INIT("INTEGER")};
    const struct worker_schema schema = {&column, 1};
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_schema(&payload, &schema);
    say(slot, WORKER_COLUMNS, buf_str(&payload));
    buf_finish(&payload);
}

static inline void say_done(int slot, const struct worker_done *done)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_done(&payload, done);
    say(slot, WORKER_DONE, buf_str(&payload));
    buf_finish(&payload);
}

static inline void say_outcome(struct hostile_worker *worker, enum err_kind kind,
                               const char *message)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_outcome(
        &payload, &(struct worker_outcome){.kind = (uint32_t)kind, .message = str_of(message)});
    say(worker->socket_fd, WORKER_OUTCOME, buf_str(&payload));
    buf_finish(&payload);
}

static inline void say_ready(struct hostile_worker *worker)
{
    say(worker->socket_fd, WORKER_READY, STR("\0\0\0\0\0\0\0\0"));
}

static inline void answer_rows(int slot)
{
    say_columns(slot);
    say(slot, WORKER_RESULT, STR("[[1]]"));
    say_done(slot, &(struct worker_done){.rows = 1, .memory_bytes = 17});
}

/* Larger than a socket takes at once, and than what a slot keeps. */
static inline void answer_much(int slot)
{
    static char piece[WORKER_RESULT_SIZE_MAX];
    say_columns(slot);
    for (int i = 0; i < 5; i++) {
        say(slot, WORKER_RESULT, str_make(piece, sizeof(piece)));
    }
    say_done(slot, &(struct worker_done){.rows = 5});
}

static inline void flood(int slot)
{
    static char piece[65536];
    say_columns(slot);
    for (;;) {
        say(slot, WORKER_RESULT, str_make(piece, sizeof(piece)));
    }
}

/* What breaks the order of a request: each of these costs the process. */
static inline void break_order(int slot, struct str how)
{
    if (str_equal(how, STR("unknown"))) {
        say(slot, 4711, STR("what"));
    } else if (str_equal(how, STR("file"))) {
        say(slot, WORKER_FILE, STR(""));
    } else if (str_equal(how, STR("columns twice"))) {
        say_columns(slot);
        say_columns(slot);
    } else if (str_equal(how, STR("columns of no text"))) {
        say(slot, WORKER_COLUMNS, STR("\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\377\0\0\0\0\0\0\0\0"));
    } else if (str_equal(how, STR("result first"))) {
        say(slot, WORKER_RESULT, STR("[]"));
    } else if (str_equal(how, STR("result too large"))) {
        static char piece[WORKER_RESULT_SIZE_MAX + 1];
        say_columns(slot);
        say(slot, WORKER_RESULT, str_make(piece, sizeof(piece)));
    } else if (str_equal(how, STR("huge"))) {
        uint32_t header[2] = {WORKER_RESULT, UINT32_MAX};
        (void)!send(slot, header, sizeof(header), MSG_NOSIGNAL);
    } else if (str_equal(how, STR("no such error"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_KIND_COUNT});
    } else if (str_equal(how, STR("no such statement"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_INVALID, .failed_at = 2});
    } else if (str_equal(how, STR("short done"))) {
        say(slot, WORKER_DONE, STR("\0\0\0\0"));
    } else if (str_equal(how, STR("after done"))) {
        uint32_t both[8] = {0};
        struct buf payload;
        buf_init(&payload, 4096);
        worker_put_done(&payload, &(struct worker_done){0});
        struct str done = buf_str(&payload);
        struct buf frames;
        buf_init(&frames, 4096);
        worker_put_u32(&frames, WORKER_DONE);
        worker_put_u32(&frames, (uint32_t)done.len);
        buf_append(&frames, done);
        buf_append_bytes(&frames, both, sizeof(both));
        (void)!send(slot, frames.ptr, frames.len, MSG_NOSIGNAL);
    } else if (str_equal(how, STR("progress"))) {
        say(slot, WORKER_PROGRESS, STR("\377\377\377\377\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
    } else if (str_equal(how, STR("close"))) {
        (void)shutdown(slot, SHUT_RDWR);
    } else {
        _exit(9);
    }
}

static inline void answer(struct fake *fake, uint32_t number, const struct worker_request *request)
{
    int slot = fake->slots[number];
    struct str text = request->statements_count == 0 ? STR("") : request->statements[0];
    if (request->kind == WORKER_CHECKPOINT || str_equal(text, STR("quick"))) {
        say_done(slot, &(struct worker_done){0});
    } else if (str_equal(text, STR("rows"))) {
        answer_rows(slot);
    } else if (str_equal(text, STR("much"))) {
        answer_much(slot);
    } else if (str_equal(text, STR("sleep"))) {
        fake->sleeping[number] = request->number;
    } else if (str_equal(text, STR("fail"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_INVALID,
                                             .fault = WORKER_FAULT_STATEMENT,
                                             .failed_at = 1,
                                             .message = STR("no such table")});
    } else if (str_equal(text, STR("fatal"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_INTERNAL,
                                             .fault = WORKER_FAULT_ENGINE,
                                             .message = STR("fatal")});
    } else if (str_equal(text, STR("flood"))) {
        flood(slot);
    } else if (str_equal(text, STR("deaf"))) {
        hostile_stay(fake->worker);
    } else if (str_equal(text, STR("die"))) {
        say_columns(slot);
        _exit(3);
    } else if (str_equal(text, STR("die slowly"))) {
        (void)shutdown(slot, SHUT_RDWR);
        (void)poll(NULL, 0, 400); /* as a kernel that has much memory to give back */
        _exit(3);
    } else if (str_starts(text, STR("break "))) {
        break_order(slot, str_from(text, 6));
    }
}

/* A request's descriptors: what is in the first is written to the second. */
static inline void copy_descriptors(const struct worker_frame *frame)
{
    char bytes[64];
    if (frame->fds[0] < 0 || frame->fds[1] < 0) {
        return;
    }
    ssize_t size = pread(frame->fds[0], bytes, sizeof(bytes), 0);
    if (size <= 0 || pwrite(frame->fds[1], bytes, (size_t)size, 0) != size) {
        _exit(5);
    }
}

static inline void take_request(struct fake *fake, uint32_t number, struct worker_frame *frame)
{
    struct worker_request request;
    struct err err;
    if (!worker_receive(fake->slots[number], frame, &err)) {
        fake->slots[number] = -1;
        return;
    }
    if (frame->type != WORKER_REQUEST ||
        !worker_get_request(buf_str(&frame->payload), &request, &err)) {
        _exit(6);
    }
    copy_descriptors(frame);
    answer(fake, number, &request);
    worker_request_finish(&request);
}

static inline void take_interrupt(struct fake *fake, struct worker_cursor *cursor)
{
    uint32_t number = worker_get_u32(cursor);
    uint64_t request = worker_get_u64(cursor);
    if (!worker_get_end(cursor) || number >= WORKER_SLOTS_MAX) {
        _exit(7);
    }
    if (fake->sleeping[number] == request) {
        fake->sleeping[number] = 0;
        say_done(fake->slots[number],
                 &(struct worker_done){.kind = ERR_STOPPED, .fault = WORKER_FAULT_STOPPED});
    }
}

/* False after CLOSE. */
static inline bool take_control(struct fake *fake)
{
    struct worker_frame *frame = &fake->worker->frame;
    struct err err;
    if (!worker_receive(fake->worker->socket_fd, frame, &err)) {
        _exit(0);
    }
    struct worker_cursor cursor = {.rest = buf_str(&frame->payload)};
    if (frame->type == WORKER_SLOT) {
        uint32_t number = worker_get_u32(&cursor);
        if (number >= WORKER_SLOTS_MAX || frame->fds[0] < 0 || fake->slots[number] >= 0) {
            _exit(8);
        }
        fake->slots[number] = frame->fds[0];
        frame->fds[0] = -1;
    } else if (frame->type == WORKER_INTERRUPT) {
        take_interrupt(fake, &cursor);
    }
    return frame->type != WORKER_CLOSE;
}

static inline void serve_requests(struct hostile_worker *worker)
{
    struct fake fake = {.worker = worker};
    struct worker_frame frame;
    worker_frame_init(&frame);
    for (size_t i = 0; i < COUNT_OF(fake.slots); i++) {
        fake.slots[i] = -1;
    }
    say_ready(worker);
    for (bool open = true; open;) {
        struct pollfd polled[1 + WORKER_SLOTS_MAX] = {{worker->socket_fd, POLLIN, 0}};
        for (size_t i = 0; i < WORKER_SLOTS_MAX; i++) {
            polled[1 + i] = (struct pollfd){fake.slots[i], POLLIN, 0};
        }
        (void)poll(polled, COUNT_OF(polled), -1);
        for (uint32_t i = 0; i < WORKER_SLOTS_MAX; i++) {
            if (polled[1 + i].revents != 0) {
                take_request(&fake, i, &frame);
            }
        }
        open = polled[0].revents == 0 || take_control(&fake);
    }
}

static inline void serve(struct hostile_worker *worker)
{
    serve_requests(worker);
    say_outcome(worker, ERR_NONE, "");
}
