/* hostile_worker.h - a zygote and workers of the test's own, which say to the server whatever a
 * script tells them. The engine is told to start the test's own program, which is called as
 * `eider-engine` is; its main() hands over to hostile_zygote_main().
 * Use       a script is found by the job's statement, or by the name of a database's file: that is
 *           its name. One that ends with a colon is followed by the script's argument. It runs in a
 *           child with the worker's end of the job's socket; when it returns, the child ends with
 *           status 0. */
#pragma once

#include "fd.h"
#include "worker.h"
#include "worker_database.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct hostile_worker {
    int socket_fd;
    struct str argument;
    struct worker_frame frame; /* the last one that was received */
    uint32_t next_question;
};

struct hostile_script {
    const char *name;
    void (*run)(struct hostile_worker *worker);
};

/* ---- what scripts say ---- */

static inline void hostile_send(struct hostile_worker *worker, uint32_t type, struct str payload)
{
    struct err err;
    if (!worker_send(worker->socket_fd, type, payload, NULL, 0, -1, &err)) {
        _exit(0); /* the server has had enough */
    }
}

static inline void hostile_send_buf(struct hostile_worker *worker, uint32_t type,
                                    struct buf *payload)
{
    hostile_send(worker, type, buf_str(payload));
    buf_finish(payload);
}

/* Bytes as they are, no frame around them. */
static inline void hostile_send_raw(struct hostile_worker *worker, const void *bytes, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t step =
            send(worker->socket_fd, (const char *)bytes + sent, size - sent, MSG_NOSIGNAL);
        if (step <= 0) {
            _exit(0);
        }
        sent += (size_t)step;
    }
}

static inline void hostile_outcome(struct hostile_worker *worker, uint64_t rows)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_outcome(&payload, &(struct worker_outcome){.rows = rows});
    hostile_send_buf(worker, WORKER_OUTCOME, &payload);
}

/* Waits for the server's next frame; the kind of error that an answer begins with. */
static inline uint32_t hostile_receive(struct hostile_worker *worker, uint32_t type)
{
    struct err err;
    if (!worker_receive(worker->socket_fd, &worker->frame, &err) || worker->frame.type != type) {
        _exit(1);
    }
    struct worker_cursor cursor = {.rest = buf_str(&worker->frame.payload)};
    (void)worker_get_u32(&cursor); /* the question */
    return worker_get_u32(&cursor);
}

static inline void hostile_ask_tables(struct hostile_worker *worker)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_u32(&payload, ++worker->next_question);
    worker_put_u32(&payload, true);
    worker_put_u64(&payload, 0);
    hostile_send_buf(worker, WORKER_RESOLVE, &payload);
}

static inline void hostile_resolve(struct hostile_worker *worker)
{
    hostile_ask_tables(worker);
    if (hostile_receive(worker, WORKER_TABLES) != ERR_NONE) {
        _exit(1);
    }
}

static inline uint32_t hostile_open(struct hostile_worker *worker, const char *path)
{
    struct buf payload;
    buf_init(&payload, 1 << 16);
    worker_put_u32(&payload, ++worker->next_question);
    worker_put_text(&payload, str_of(path));
    hostile_send_buf(worker, WORKER_OPEN, &payload);
    return hostile_receive(worker, WORKER_OPENED);
}

static inline void hostile_ask_fetch(struct hostile_worker *worker, const char *path,
                                     uint64_t offset, uint64_t size)
{
    struct buf payload;
    buf_init(&payload, 1 << 16);
    worker_put_u32(&payload, ++worker->next_question);
    worker_put_u64(&payload, offset);
    worker_put_u64(&payload, size);
    worker_put_text(&payload, str_of(path));
    hostile_send_buf(worker, WORKER_FETCH, &payload);
}

/* Until the server says that it is over, or closes the socket. */
static inline void hostile_stay(struct hostile_worker *worker)
{
    struct err err;
    while (worker_receive(worker->socket_fd, &worker->frame, &err) &&
           worker->frame.type != WORKER_CANCEL) {
    }
}

/* ---- the zygote ---- */

/* A job's statement, or the name of a database's file. */
static inline struct str hostile_name_of(const struct worker_job *job)
{
    struct worker_cursor cursor = {.rest = job->database};
    struct worker_database database;
    bool is_database = job->kind == WORKER_DATABASE;
    return is_database && worker_get_database(&cursor, &database) ? database.name : job->statement;
}

static inline _Noreturn void hostile_child(int socket_fd, const struct hostile_script *scripts,
                                           size_t count)
{
    struct hostile_worker worker = {.socket_fd = socket_fd};
    struct worker_job job;
    struct err err;
    worker_frame_init(&worker.frame);
    if (!worker_receive(socket_fd, &worker.frame, &err) ||
        !worker_get_job(buf_str(&worker.frame.payload), &job, &err)) {
        _exit(1);
    }
    struct str called = hostile_name_of(&job);
    for (size_t i = 0; i < count; i++) {
        struct str name = str_of(scripts[i].name);
        bool prefix = str_ends(name, STR(":")) && str_starts(called, name);
        if (prefix || str_equal(called, name)) {
            worker.argument = str_from(called, name.len);
            worker_frame_init(&worker.frame); /* the job's bytes stay where they are */
            scripts[i].run(&worker);
            _exit(0);
        }
    }
    _exit(2);
}

static inline void hostile_fork(const struct zygote_message *request, int socket_fd,
                                const struct hostile_script *scripts, size_t count)
{
    struct zygote_message answer = {.type = ZYGOTE_FORKED, .job = request->job};
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(WORKER_ZYGOTE_FD);
        hostile_child(socket_fd, scripts, count);
    }
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    answer.pid = pid;
    (void)fd_send_message(WORKER_ZYGOTE_FD, &answer, sizeof(answer), pidfd, 0);
    fd_close(&pidfd);
    /* One child at a time is all that a test wants: its end is told before the next is made. */
    int status = 0;
    struct rusage usage;
    (void)wait4(pid, &status, 0, &usage);
    struct zygote_message ended = {
        .type = ZYGOTE_EXITED, .job = request->job, .pid = pid, .status = status};
    (void)fd_send_message(WORKER_ZYGOTE_FD, &ended, sizeof(ended), -1, 0);
}

static inline int hostile_zygote_main(const struct hostile_script *scripts, size_t count)
{
    struct zygote_message ready = {.type = ZYGOTE_READY, .note = "v0"};
    (void)fd_send_message(WORKER_ZYGOTE_FD, &ready, sizeof(ready), -1, 0);
    for (;;) {
        struct zygote_message request;
        int socket_fd = -1;
        ssize_t size =
            fd_receive_message(WORKER_ZYGOTE_FD, &request, sizeof(request), &socket_fd, 0);
        if (size != (ssize_t)sizeof(request)) {
            return 0;
        }
        hostile_fork(&request, socket_fd, scripts, count);
        fd_close(&socket_fd);
    }
}
