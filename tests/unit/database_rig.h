/* database_rig.h - the server's side of a database worker, in one thread: forks the worker, answers
 * what it asks for its files beneath a folder of the test's own, sends requests through slots.
 * Use       rig_begin, rig_open (again after rig_kill or rig_close), rig_end. Whoever waits for a
 *           frame serves the control socket meanwhile. */
#pragma once

#include "test.h"

#include "clock.h"
#include "fd.h"
#include "worker_database.h"
#include "worker_main.h"
#include "worker_sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RIG_SLOTS = 4,
    RIG_WAIT_MS = 60000
};

#define RIG_NAME "test.duckdb"

struct rig {
    char folder[64];
    int folder_fd;
    pid_t pid;
    int control;
    int slots[RIG_SLOTS];
    uint64_t next_request;
    bool ready;
    bool ended; /* OUTCOME has come, or the socket is closed */
    uint64_t log_bytes;
    enum err_kind outcome;
    char outcome_text[512];
    unsigned changes; /* files made, removed or moved */
    uint64_t memory_bytes;
    uint64_t temp_bytes_max;
    uint64_t checkpoint_bytes;
    /* of the last request */
    struct worker_done done;
    char text[1024]; /* its message */
    struct buf result;
    unsigned progress;
};

static inline bool rig_begin(struct rig *rig)
{
    struct err err;
    *rig = (struct rig){.folder_fd = -1, .control = -1, .memory_bytes = 256 << 20};
    (void)snprintf(rig->folder, sizeof(rig->folder), "/tmp/eider-database-XXXXXX");
    for (int i = 0; i < RIG_SLOTS; i++) {
        rig->slots[i] = -1;
    }
    buf_init(&rig->result, 64 << 20);
    if (mkdtemp(rig->folder) == NULL) {
        return false;
    }
    rig->folder_fd = open(rig->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return rig->folder_fd >= 0 && mkdirat(rig->folder_fd, "tmp", 0700) == 0 &&
           sandbox_prepare(&err);
}

/* ---- its files ---- */

static inline bool rig_knows(const char *name)
{
    static const char *const names[] = {RIG_NAME, RIG_NAME ".wal", RIG_NAME ".wal.checkpoint",
                                        RIG_NAME ".wal.recovery"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return strncmp(name, "tmp/", 4) == 0 && strchr(name + 4, '/') == NULL;
}

static inline int rig_open_file(struct rig *rig, const char *name, uint32_t flags, int *ret_fd,
                                uint64_t *ret_size)
{
    int mode = (flags & WORKER_FILE_WRITE) != 0 ? O_RDWR : O_RDONLY;
    mode |= (flags & WORKER_FILE_CREATE) != 0 ? O_CREAT : 0;
    mode |= (flags & WORKER_FILE_TRUNCATE) != 0 ? O_TRUNC : 0;
    rig->changes += (flags & (WORKER_FILE_CREATE | WORKER_FILE_TRUNCATE)) != 0;
    *ret_fd = openat(rig->folder_fd, name, mode | O_CLOEXEC, 0600);
    struct stat status;
    if (*ret_fd < 0 || fstat(*ret_fd, &status) != 0) {
        return errno;
    }
    *ret_size = (uint64_t)status.st_size;
    return 0;
}

static inline int rig_change(struct rig *rig, uint32_t operation, const char *name,
                             const char *new_name, uint64_t *ret_value)
{
    rig->changes += operation != WORKER_FILE_EXISTS;
    switch (operation) {
    case WORKER_FILE_REMOVE:
        return unlinkat(rig->folder_fd, name, 0) == 0 ? 0 : errno;
    case WORKER_FILE_MOVE:
        return renameat(rig->folder_fd, name, rig->folder_fd, new_name) == 0 ? 0 : errno;
    case WORKER_FILE_EXISTS:
        *ret_value = faccessat(rig->folder_fd, name, F_OK, 0) == 0;
        return 0;
    default:
        return ENOSYS;
    }
}

static inline void rig_copy_name(struct str from, char into[256])
{
    (void)snprintf(into, 256, "%.*s", STR_ARG(from));
}

static inline void rig_answer(struct rig *rig, struct str payload)
{
    struct worker_cursor cursor = {.rest = payload};
    char name[256];
    char new_name[256];
    uint32_t id = worker_get_u32(&cursor);
    uint32_t operation = worker_get_u32(&cursor);
    uint32_t flags = worker_get_u32(&cursor);
    rig_copy_name(worker_get_text(&cursor), name);
    rig_copy_name(worker_get_text(&cursor), new_name);
    int fd = -1;
    uint64_t value = 0;
    int problem = 0;
    if (!rig_knows(name) || (new_name[0] != '\0' && !rig_knows(new_name))) {
        problem = EPERM;
    } else if (operation == WORKER_FILE_OPEN) {
        problem = rig_open_file(rig, name, flags, &fd, &value);
    } else {
        problem = rig_change(rig, operation, name, new_name, &value);
    }
    struct buf answer;
    struct err err;
    buf_init(&answer, 4096);
    worker_put_u32(&answer, id);
    worker_put_u32(&answer, (uint32_t)problem);
    worker_put_u64(&answer, value);
    worker_put_text(&answer, STR(""));
    (void)!worker_send(rig->control, WORKER_FILED, buf_str(&answer), &fd, fd >= 0, -1, &err);
    buf_finish(&answer);
    fd_close(&fd);
}

/* ---- its control socket ---- */

static inline void rig_take_control(struct rig *rig)
{
    struct worker_frame frame;
    struct worker_outcome outcome;
    struct err err;
    worker_frame_init(&frame);
    if (!worker_receive(rig->control, &frame, &err)) {
        rig->ended = true;
    } else if (frame.type == WORKER_FILE) {
        rig_answer(rig, buf_str(&frame.payload));
    } else if (frame.type == WORKER_READY) {
        struct worker_cursor cursor = {.rest = buf_str(&frame.payload)};
        rig->ready = true;
        rig->log_bytes = worker_get_u64(&cursor);
    } else if (frame.type == WORKER_OUTCOME &&
               worker_get_outcome(buf_str(&frame.payload), &outcome, &err)) {
        rig->ended = true;
        rig->outcome = (enum err_kind)outcome.kind;
        (void)snprintf(rig->outcome_text, sizeof(rig->outcome_text), "%.*s",
                       STR_ARG(outcome.message));
    }
    worker_frame_finish(&frame);
}

/* Serves the control socket until there is something to read on the other one; -1: only once. False
 * when that does not come. */
static inline bool rig_wait(struct rig *rig, int other_fd)
{
    int64_t until = clock_now_ms() + RIG_WAIT_MS;
    while (clock_now_ms() < until) {
        struct pollfd polled[] = {
            {.fd = rig->ended ? -1 : rig->control, .events = POLLIN},
            {.fd = other_fd, .events = POLLIN},
        };
        (void)poll(polled, 2, 1000);
        if ((polled[0].revents & (POLLIN | POLLHUP)) != 0) {
            rig_take_control(rig);
            if (other_fd < 0) {
                return true;
            }
        }
        if (polled[1].revents != 0) {
            return true;
        }
        if (rig->ended && other_fd < 0) {
            return true;
        }
    }
    return false;
}

static inline void rig_put_job(struct rig *rig, struct buf *payload)
{
    struct buf database;
    struct worker_database options = {
        .name = STR(RIG_NAME),
        .temp_bytes_max = rig->temp_bytes_max,
        .checkpoint_bytes = rig->checkpoint_bytes,
    };
    buf_init(&database, 4096);
    worker_put_database(&database, &options);
    struct worker_job job = {
        .kind = WORKER_DATABASE,
        .limits = {.memory_bytes = rig->memory_bytes, .output_bytes = 1 << 30, .threads = 2},
        .database = buf_str(&database),
    };
    worker_put_job(payload, &job);
    buf_finish(&database);
}

/* Forks a worker; its FILE questions are not answered yet. */
static inline bool rig_fork(struct rig *rig)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return false;
    }
    (void)fflush(stdout);
    rig->pid = fork();
    if (rig->pid == 0) {
        (void)close(pair[0]);
        (void)signal(SIGXFSZ, SIG_IGN);
        worker_main(NULL, pair[1], false);
    }
    (void)close(pair[1]);
    rig->control = pair[0];
    rig->ready = false;
    rig->ended = false;
    rig->outcome = ERR_NONE;
    rig->changes = 0;
    struct buf payload;
    struct err err;
    buf_init(&payload, 4096);
    rig_put_job(rig, &payload);
    bool sent = worker_send(rig->control, WORKER_JOB, buf_str(&payload), NULL, 0, -1, &err);
    buf_finish(&payload);
    return sent && rig->pid > 0;
}

static inline bool rig_add_slot(struct rig *rig, unsigned number)
{
    int pair[2];
    struct buf payload;
    struct err err;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return false;
    }
    buf_init(&payload, 64);
    worker_put_u32(&payload, number);
    bool sent = worker_send(rig->control, WORKER_SLOT, buf_str(&payload), &pair[1], 1, -1, &err);
    buf_finish(&payload);
    (void)close(pair[1]);
    rig->slots[number] = pair[0];
    return sent;
}

/* False when the file does not open: rig->outcome says why. */
static inline bool rig_open(struct rig *rig)
{
    if (!rig_fork(rig)) {
        return false;
    }
    while (!rig->ready && !rig->ended && rig_wait(rig, -1)) {
    }
    for (unsigned i = 0; rig->ready && i < RIG_SLOTS; i++) {
        if (!rig_add_slot(rig, i)) {
            return false;
        }
    }
    return rig->ready;
}

static inline int rig_reap(struct rig *rig)
{
    int status = -1;
    for (int i = 0; i < RIG_SLOTS; i++) {
        fd_close(&rig->slots[i]);
    }
    fd_close(&rig->control);
    if (rig->pid > 0) {
        (void)waitpid(rig->pid, &status, 0);
    }
    rig->pid = 0;
    return status;
}

static inline void rig_kill(struct rig *rig)
{
    if (rig->pid > 0) {
        (void)kill(rig->pid, SIGKILL);
    }
    (void)rig_reap(rig);
}

static inline bool rig_close_begin(struct rig *rig)
{
    struct err err;
    return worker_send(rig->control, WORKER_CLOSE, STR(""), NULL, 0, -1, &err);
}

static inline bool rig_close_end(struct rig *rig)
{
    while (!rig->ended && rig_wait(rig, -1)) {
    }
    bool good = rig->ended && rig->outcome == ERR_NONE;
    int status = rig_reap(rig);
    return good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* CLOSE, and the end of the process. */
static inline bool rig_close(struct rig *rig)
{
    return rig_close_begin(rig) && rig_close_end(rig);
}

static inline bool rig_interrupt(struct rig *rig, uint32_t slot, uint64_t request)
{
    struct buf payload;
    struct err err;
    buf_init(&payload, 64);
    worker_put_u32(&payload, slot);
    worker_put_u64(&payload, request);
    bool sent = worker_send(rig->control, WORKER_INTERRUPT, buf_str(&payload), NULL, 0, -1, &err);
    buf_finish(&payload);
    return sent;
}

static inline void rig_end(struct rig *rig)
{
    rig_kill(rig);
    DIR *folder = opendir(rig->folder);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        (void)unlinkat(rig->folder_fd, entry->d_name, 0);
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    (void)unlinkat(rig->folder_fd, "tmp", AT_REMOVEDIR);
    (void)rmdir(rig->folder);
    fd_close(&rig->folder_fd);
    buf_finish(&rig->result);
}

/* ---- requests ---- */

static inline bool rig_send(struct rig *rig, unsigned slot, const char *sql)
{
    struct str statement = str_of(sql);
    struct worker_request request = {
        .number = ++rig->next_request,
        .kind = WORKER_STATEMENTS,
        .role = WORKER_ROLE_ADMIN,
        .format = WORKER_FORMAT_NDJSON,
        .statements = &statement,
        .statements_count = 1,
    };
    struct buf payload;
    struct err err;
    buf_init(&payload, 1 << 20);
    worker_put_request(&payload, &request);
    bool sent = worker_send(rig->slots[slot], WORKER_REQUEST, buf_str(&payload), NULL, 0, -1, &err);
    buf_finish(&payload);
    return sent;
}

/* Up to DONE; false when the worker ended first. */
static inline bool rig_receive(struct rig *rig, unsigned slot)
{
    struct worker_frame frame;
    struct err err;
    bool done = false;
    worker_frame_init(&frame);
    buf_reset(&rig->result);
    rig->progress = 0;
    while (!done && rig_wait(rig, rig->slots[slot]) &&
           worker_receive(rig->slots[slot], &frame, &err)) {
        if (frame.type == WORKER_RESULT) {
            buf_append(&rig->result, buf_str(&frame.payload));
        }
        rig->progress += frame.type == WORKER_PROGRESS;
        done =
            frame.type == WORKER_DONE && worker_get_done(buf_str(&frame.payload), &rig->done, &err);
    }
    if (done) {
        (void)snprintf(rig->text, sizeof(rig->text), "%.*s", STR_ARG(rig->done.message));
    }
    worker_frame_finish(&frame);
    return done;
}

/* One request: true when it went well. */
static inline bool rig_run(struct rig *rig, unsigned slot, const char *sql)
{
    return rig_send(rig, slot, sql) && rig_receive(rig, slot) && rig->done.kind == ERR_NONE;
}

/* The first value of the last result, which is one number. */
static inline uint64_t rig_number(const struct rig *rig)
{
    struct str text = buf_str(&rig->result);
    size_t colon = str_find_byte(text, ':');
    uint64_t value = 0;
    bool begun = false;
    for (size_t i = colon < text.len ? colon : 0; i < text.len; i++) {
        bool digit = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        if (begun && !digit) {
            break;
        }
        begun = begun || digit;
        value = digit ? value * 10 + (uint64_t)(text.ptr[i] - '0') : value;
    }
    return begun ? value : UINT64_MAX;
}

static inline bool rig_ask(struct rig *rig, unsigned slot, const char *sql, uint64_t *ret_number)
{
    bool good = rig_run(rig, slot, sql);
    *ret_number = good ? rig_number(rig) : UINT64_MAX;
    return good;
}

#define CHECK_ANSWER(rig, sql, expected)             \
    do {                                             \
        uint64_t rig_found;                          \
        if (!rig_ask((rig), 0, (sql), &rig_found)) { \
            TEST_FAIL("%s: %s", (sql), (rig)->text); \
        }                                            \
        CHECK_U64(rig_found, (expected));            \
    } while (0)

#define CHECK_OPENS(rig)                                                                    \
    do {                                                                                    \
        if (!rig_open(rig)) {                                                               \
            TEST_FAIL("it does not open: %d %s", (int)(rig)->outcome, (rig)->outcome_text); \
        }                                                                                   \
    } while (0)
