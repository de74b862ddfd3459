#include "worker_channel.h"

#include "clock.h"
#include "fd.h"
#include "mem.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    PROGRESS_EVERY_MS = 200,
    HELD_SIZE_MAX = 32 * 1024,
    ALONE_MS = 5,      /* of processor time: so long the job's own thread works without helpers */
    ALONE_MS_MAX = 40, /* ... and then for as long again, up to this, where they are not wanted */
    WANTED_MS = 1      /* for so long */
};

/* One question that waits for its answer; lives on the asking thread's stack. */
struct question {
    uint32_t id;
    bool answered;
    struct buf *answer;
    int fd;
    struct question *next;
};

struct channel {
    int socket_fd;
    duckdb_connection connection;
    struct helpers *helpers;
    bool alone;             /* of the control thread: the helpers have not been started by it */
    bool wanted;            /* ... and were wanted when it looked */
    clockid_t job_clock;    /* the processor time of the job's own thread, */
    int64_t alone_until_us; /* how much it may become until helpers are looked for, */
    int64_t alone_us;       /* and how much more the next time */
    atomic_bool cancelled;
    atomic_ullong rows;          /* of the result, for PROGRESS */
    atomic_llong progress_at_ms; /* when the next is due */
    struct lock lock;            /* LOCK_CHANNEL: questions, next_id */
    struct condition answered;
    struct question *questions GUARDED_BY(lock);
    uint32_t next_id GUARDED_BY(lock);
    struct lock send_lock;                 /* LOCK_SEND: whole frames on the socket */
    struct buf held GUARDED_BY(send_lock); /* frames that go with the next one */
};

struct channel *channel_create(int socket_fd)
{
    struct channel *channel = mem_alloc(sizeof(*channel));
    channel->socket_fd = socket_fd;
    atomic_init(&channel->progress_at_ms, clock_now_ms() + PROGRESS_EVERY_MS);
    lock_init(&channel->lock, LOCK_CHANNEL);
    lock_init(&channel->send_lock, LOCK_SEND);
    buf_init(&channel->held, 2 * HELD_SIZE_MAX);
    condition_init(&channel->answered);
    return channel;
}

void channel_destroy(struct channel *channel)
{
    if (channel != NULL) {
        condition_finish(&channel->answered);
        lock_finish(&channel->lock);
        lock_finish(&channel->send_lock);
        buf_finish(&channel->held);
        mem_free(channel);
    }
}

/* The server has closed its end: nobody wants the result, and this process must not outlive it. */
static _Noreturn void leave(void)
{
    _exit(0);
}

void channel_answer(struct channel *channel, struct worker_frame *frame)
{
    struct worker_cursor cursor = {.rest = buf_str(&frame->payload)};
    uint32_t id = worker_get_u32(&cursor);
    lock_take(&channel->lock);
    struct question *found = channel->questions;
    while (found != NULL && found->id != id) {
        found = found->next;
    }
    if (found != NULL && !found->answered) {
        buf_append(found->answer, cursor.rest);
        found->fd = frame->fds[0];
        frame->fds[0] = -1;
        found->answered = true;
        condition_broadcast(&channel->answered);
    }
    lock_release(&channel->lock);
}

uint64_t channel_peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

static bool send_progress(struct channel *channel) REQUIRES(&channel->send_lock)
{
    double percentage = duckdb_query_progress(channel->connection).percentage;
    struct worker_progress progress = {
        .permille = percentage > 0 ? (uint32_t)((percentage < 100 ? percentage : 100) * 10) : 0,
        .rows = atomic_load(&channel->rows),
        .peak_bytes = channel_peak_bytes(),
    };
    struct buf payload;
    struct err err;
    atomic_store(&channel->progress_at_ms, clock_now_ms() + PROGRESS_EVERY_MS);
    buf_init(&payload, 64);
    worker_put_progress(&payload, &progress);
    bool sent =
        worker_send(channel->socket_fd, WORKER_PROGRESS, buf_str(&payload), NULL, 0, -1, &err);
    buf_finish(&payload);
    return sent;
}

static int progress_wait_ms(struct channel *channel)
{
    int64_t left = atomic_load(&channel->progress_at_ms) - clock_now_ms();
    return left < 0 ? 0 : left < PROGRESS_EVERY_MS ? (int)left : PROGRESS_EVERY_MS;
}

/* Left out when the result fills the socket: then it goes with the result, and this thread must
 * stay free to hear CANCEL. */
static void try_progress(struct channel *channel)
{
    struct pollfd writable = {.fd = channel->socket_fd, .events = POLLOUT};
    bool gone = false;
    if (lock_try(&channel->send_lock)) {
        gone = poll(&writable, 1, 0) > 0 && !send_progress(channel);
        lock_release(&channel->send_lock);
    }
    if (gone) {
        leave();
    }
}

static int64_t job_time_us(const struct channel *channel)
{
    struct timespec now;
    return clock_gettime(channel->job_clock, &now) == 0
               ? (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000
               : INT64_MAX / 2;
}

/* A task that is between two threads looks like one that nobody has: what is seen twice is true. */
static int look_for_helpers(struct channel *channel, int64_t now_us)
{
    bool wanted = helpers_wanted(channel->helpers);
    if (wanted && channel->wanted) {
        channel->alone = false;
        helpers_start(channel->helpers);
        return 0;
    }
    channel->wanted = wanted;
    if (wanted) {
        return WANTED_MS;
    }
    channel->alone_until_us = now_us + channel->alone_us;
    channel->alone_us *= channel->alone_us < ALONE_MS_MAX * 1000 ? 2 : 1;
    return (int)(channel->alone_us / 1000) + 1;
}

/* 0: no longer, and the helpers are started. A busy machine makes every job take long, and more
 * threads would only make it busier: what counts is the processor time. */
static int alone_left_ms(struct channel *channel)
{
    if (!channel->alone) {
        return 0;
    }
    int64_t now_us = job_time_us(channel);
    int64_t left_us = channel->alone_until_us - now_us;
    return left_us > 0 ? (int)(left_us / 1000) + 1 : look_for_helpers(channel, now_us);
}

static int wait_readable(struct channel *channel, struct pollfd *readable, int wait_ms)
{
    int alone_ms = alone_left_ms(channel);
    while (alone_ms > 0 && alone_ms < wait_ms) {
        int ready = poll(readable, 1, alone_ms);
        if (ready != 0) {
            return ready;
        }
        wait_ms -= alone_ms;
        alone_ms = alone_left_ms(channel);
    }
    return poll(readable, 1, wait_ms);
}

/* Answers that come one after the other do not put progress off. */
static void wait_frame(struct channel *channel)
{
    struct pollfd readable = {.fd = channel->socket_fd, .events = POLLIN};
    int wait_ms = progress_wait_ms(channel);
    while (wait_readable(channel, &readable, wait_ms) == 0 || wait_ms == 0) {
        try_progress(channel);
        wait_ms = progress_wait_ms(channel);
        wait_ms = wait_ms == 0 ? PROGRESS_EVERY_MS : wait_ms; /* left out this time */
    }
}

void channel_begin(struct channel *channel, duckdb_connection connection, int progress_after_ms)
{
    channel->connection = connection;
    atomic_store(&channel->cancelled, false);
    atomic_store(&channel->rows, 0);
    atomic_store(&channel->progress_at_ms, clock_now_ms() + progress_after_ms);
}

void channel_cancel(struct channel *channel)
{
    atomic_store(&channel->cancelled, true);
    duckdb_interrupt(channel->connection);
}

void channel_offer_progress(struct channel *channel)
{
    if (progress_wait_ms(channel) == 0) {
        try_progress(channel);
    }
}

static void *control_run(void *argument)
{
    struct channel *channel = argument;
    struct worker_frame frame;
    worker_frame_init(&frame);
    struct err err;
    while (wait_frame(channel), worker_receive(channel->socket_fd, &frame, &err)) {
        if (frame.type == WORKER_CANCEL) {
            channel_cancel(channel);
        } else {
            channel_answer(channel, &frame);
        }
    }
    leave();
}

void channel_start(struct channel *channel, duckdb_connection connection, struct helpers *helpers)
{
    channel->connection = connection;
    channel->helpers = helpers;
    if (pthread_getcpuclockid(pthread_self(), &channel->job_clock) == 0) {
        channel->alone = true;
        channel->alone_us = ALONE_MS * 1000;
        channel->alone_until_us = job_time_us(channel) + channel->alone_us;
    }
    pthread_t thread = thread_start("control", control_run, channel);
    (void)pthread_detach(thread);
}

/* With what was held before it, in one message if both are small. */
static bool send_frame(struct channel *channel, uint32_t type, struct str payload)
    REQUIRES(&channel->send_lock)
{
    struct err err;
    struct buf *held = &channel->held;
    bool together = held->len > 0 && payload.len < HELD_SIZE_MAX;
    if (together) {
        worker_put_frame(held, type, payload);
    }
    bool sent = held->len == 0 || worker_send_frames(channel->socket_fd, buf_str(held), -1, &err);
    buf_reset(held);
    return sent && (together || worker_send(channel->socket_fd, type, payload, NULL, 0, -1, &err));
}

void channel_hold(struct channel *channel, uint32_t type, struct str payload)
{
    lock_take(&channel->send_lock);
    bool fits = channel->held.len + payload.len + 64 <= HELD_SIZE_MAX;
    if (fits) {
        worker_put_frame(&channel->held, type, payload);
    }
    lock_release(&channel->send_lock);
    if (!fits) {
        channel_send(channel, type, payload);
    }
}

void channel_send(struct channel *channel, uint32_t type, struct str payload)
{
    lock_take(&channel->send_lock);
    bool with_progress = type == WORKER_RESULT && progress_wait_ms(channel) == 0;
    bool sent = (!with_progress || send_progress(channel)) && send_frame(channel, type, payload);
    lock_release(&channel->send_lock);
    if (!sent) {
        leave();
    }
}

static void unlink_question(struct channel *channel, const struct question *question)
    REQUIRES(&channel->lock)
{
    struct question **link = &channel->questions;
    while (*link != question) {
        link = &(*link)->next;
    }
    *link = question->next;
}

void channel_ask(struct channel *channel, uint32_t type, struct str body, struct buf *answer,
                 int *ret_fd)
{
    struct question question = {.answer = answer, .fd = -1};
    if (type == WORKER_FETCH) {
        helpers_start(channel->helpers); /* others can work, and ask, meanwhile */
    }
    lock_take(&channel->lock);
    question.id = ++channel->next_id;
    question.next = channel->questions;
    channel->questions = &question;
    lock_release(&channel->lock);

    struct buf payload;
    buf_init(&payload, WORKER_FRAME_SIZE_MAX);
    worker_put_u32(&payload, question.id);
    buf_append(&payload, body);
    channel_send(channel, type, buf_str(&payload));
    buf_finish(&payload);

    lock_take(&channel->lock);
    while (!question.answered) {
        condition_wait(&channel->answered, &channel->lock);
    }
    unlink_question(channel, &question);
    lock_release(&channel->lock);
    if (ret_fd != NULL) {
        *ret_fd = question.fd;
    } else {
        fd_close(&question.fd);
    }
}

bool channel_cancelled(struct channel *channel)
{
    return atomic_load(&channel->cancelled);
}

void channel_add_rows(struct channel *channel, uint64_t rows)
{
    atomic_fetch_add(&channel->rows, rows);
}
