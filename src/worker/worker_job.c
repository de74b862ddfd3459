#include "worker_job.h"

#include "clock.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    ALONE_SIZE = 16 * 1024 /* of a payload that is read together with its header */
};

struct frame_header {
    uint32_t type;
    uint32_t size;
};
static_assert(sizeof(struct frame_header) == 8, "the frame header is 8 bytes");

void worker_put_u32(struct buf *buf, uint32_t value)
{
    buf_append_bytes(buf, &value, sizeof(value));
}

void worker_put_u64(struct buf *buf, uint64_t value)
{
    buf_append_bytes(buf, &value, sizeof(value));
}

void worker_put_text(struct buf *buf, struct str text)
{
    worker_put_u64(buf, text.len);
    buf_append(buf, text);
}

static void put_columns(struct buf *buf, const struct worker_column *columns, size_t count)
{
    worker_put_u64(buf, count);
    for (size_t i = 0; i < count; i++) {
        worker_put_text(buf, columns[i].name);
        worker_put_text(buf, columns[i].line_type);
        worker_put_text(buf, columns[i].sql_type);
        worker_put_u32(buf, columns[i].loose);
        worker_put_u32(buf, columns[i].sort);
    }
}

void worker_put_job(struct buf *buf, const struct worker_job *job)
{
    worker_put_u32(buf, job->kind);
    buf_append_bytes(buf, &job->limits, sizeof(job->limits));
    if (job->kind == WORKER_DATABASE) {
        buf_append(buf, job->database);
        return;
    }
    worker_put_text(buf, job->statement);
    put_columns(buf, job->columns, job->columns_count);
    worker_put_u32(buf, job->format);
    worker_put_u64(buf, job->rows_max);
    worker_put_text(buf, job->parameters);
    worker_put_u32(buf, job->rest);
    worker_put_u64(buf, job->input_offset);
    worker_put_u64(buf, job->input_size);
    worker_put_u64(buf, job->input_rows);
    worker_put_text(buf, job->order_by);
    worker_put_u64(buf, job->line_size_max);
    worker_put_u64(buf, job->row_group_rows);
    worker_put_u32(buf, job->input_format);
}

void worker_put_schema(struct buf *buf, const struct worker_schema *schema)
{
    worker_put_u64(buf, schema->columns_count);
    for (size_t i = 0; i < schema->columns_count; i++) {
        worker_put_text(buf, schema->columns[i].name);
        worker_put_text(buf, schema->columns[i].type);
    }
}

void worker_put_tail(struct buf *buf, const struct worker_tail *tail)
{
    put_columns(buf, tail->columns, tail->columns_count);
    worker_put_u32(buf, tail->rest);
    worker_put_u64(buf, tail->line_size_max);
    worker_put_u64(buf, tail->windows_count);
    for (size_t i = 0; i < tail->windows_count; i++) {
        worker_put_text(buf, tail->windows[i]);
    }
}

void worker_put_table(struct buf *buf, const struct worker_table *table)
{
    worker_put_text(buf, table->name);
    worker_put_u32(buf, table->kind);
    worker_put_u64(buf, table->files_count);
    for (size_t i = 0; i < table->files_count; i++) {
        worker_put_text(buf, table->files[i].path);
        worker_put_u32(buf, table->files[i].schema);
    }
    worker_put_u64(buf, table->schemas_count);
    for (size_t i = 0; i < table->schemas_count; i++) {
        worker_put_schema(buf, &table->schemas[i]);
    }
    worker_put_u64(buf, table->tails_count);
    for (size_t i = 0; i < table->tails_count; i++) {
        worker_put_tail(buf, &table->tails[i]);
    }
}

void worker_put_outcome(struct buf *buf, const struct worker_outcome *outcome)
{
    worker_put_u32(buf, outcome->kind);
    worker_put_u32(buf, outcome->truncated);
    worker_put_u64(buf, outcome->rows);
    worker_put_u64(buf, outcome->peak_bytes);
    worker_put_text(buf, outcome->message);
}

void worker_put_progress(struct buf *buf, const struct worker_progress *progress)
{
    worker_put_u32(buf, progress->permille);
    worker_put_u64(buf, progress->rows);
    worker_put_u64(buf, progress->peak_bytes);
}

static void get_bytes(struct worker_cursor *cursor, void *into, size_t size)
{
    if (cursor->failed || cursor->rest.len < size) {
        cursor->failed = true;
        memset(into, 0, size);
        return;
    }
    memcpy(into, cursor->rest.ptr, size);
    cursor->rest = str_from(cursor->rest, size);
}

uint32_t worker_get_u32(struct worker_cursor *cursor)
{
    uint32_t value;
    get_bytes(cursor, &value, sizeof(value));
    return value;
}

uint64_t worker_get_u64(struct worker_cursor *cursor)
{
    uint64_t value;
    get_bytes(cursor, &value, sizeof(value));
    return value;
}

struct str worker_get_text(struct worker_cursor *cursor)
{
    uint64_t size = worker_get_u64(cursor);
    if (cursor->failed || size > cursor->rest.len) {
        cursor->failed = true;
        return STR("");
    }
    struct str text = str_first(cursor->rest, (size_t)size);
    cursor->rest = str_from(cursor->rest, (size_t)size);
    return text;
}

size_t worker_get_count(struct worker_cursor *cursor, size_t item_size_min)
{
    assert(item_size_min > 0);
    uint64_t count = worker_get_u64(cursor);
    if (cursor->failed || count > cursor->rest.len / item_size_min) {
        cursor->failed = true;
        return 0;
    }
    return (size_t)count;
}

bool worker_get_end(const struct worker_cursor *cursor)
{
    return !cursor->failed && cursor->rest.len == 0;
}

/* Allocated, also when the cursor has failed. */
static const struct worker_column *get_columns(struct worker_cursor *cursor, size_t *ret_count)
{
    *ret_count = worker_get_count(cursor, 3 * sizeof(uint64_t) + 2 * sizeof(uint32_t));
    struct worker_column *columns = mem_alloc_array(*ret_count, sizeof(*columns));
    for (size_t i = 0; i < *ret_count; i++) {
        columns[i].name = worker_get_text(cursor);
        columns[i].line_type = worker_get_text(cursor);
        columns[i].sql_type = worker_get_text(cursor);
        columns[i].loose = worker_get_u32(cursor);
        columns[i].sort = worker_get_u32(cursor);
        cursor->failed = cursor->failed || columns[i].sort > *ret_count;
    }
    return columns;
}

bool worker_get_job(struct str payload, struct worker_job *ret_job, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_job job = {.kind = worker_get_u32(&cursor)};
    get_bytes(&cursor, &job.limits, sizeof(job.limits));
    if (job.kind == WORKER_DATABASE && !cursor.failed) {
        job.database = cursor.rest;
        *ret_job = job;
        return true;
    }
    job.statement = worker_get_text(&cursor);
    job.columns = get_columns(&cursor, &job.columns_count);
    job.format = worker_get_u32(&cursor);
    job.rows_max = worker_get_u64(&cursor);
    job.parameters = worker_get_text(&cursor);
    job.rest = worker_get_u32(&cursor);
    job.input_offset = worker_get_u64(&cursor);
    job.input_size = worker_get_u64(&cursor);
    job.input_rows = worker_get_u64(&cursor);
    job.order_by = worker_get_text(&cursor);
    job.line_size_max = worker_get_u64(&cursor);
    job.row_group_rows = worker_get_u64(&cursor);
    job.input_format = worker_get_u32(&cursor);
    bool good = job.rest <= job.columns_count && job.input_offset <= INT64_MAX &&
                job.input_size <= INT64_MAX - job.input_offset &&
                job.format < WORKER_FORMAT_COUNT && job.input_format < WORKER_INPUT_COUNT;
    if (!good || !worker_get_end(&cursor)) {
        worker_job_finish(&job);
        return err_set(err, ERR_CORRUPT, "a job message is damaged");
    }
    *ret_job = job;
    return true;
}

static void free_const(const void *pointer)
{
    mem_free((void *)(uintptr_t)pointer);
}

void worker_job_finish(struct worker_job *job)
{
    free_const(job->columns);
    job->columns = NULL;
    job->columns_count = 0;
}

bool worker_get_schema(struct worker_cursor *cursor, struct worker_schema *ret_schema)
{
    size_t count = worker_get_count(cursor, 2 * sizeof(uint64_t));
    struct worker_schema_column *columns = mem_alloc_array(count, sizeof(*columns));
    for (size_t i = 0; i < count; i++) {
        columns[i].name = worker_get_text(cursor);
        columns[i].type = worker_get_text(cursor);
    }
    *ret_schema = (struct worker_schema){.columns = columns, .columns_count = count};
    return !cursor->failed;
}

void worker_schema_finish(struct worker_schema *schema)
{
    free_const(schema->columns);
    *schema = (struct worker_schema){0};
}

static void get_tail(struct worker_cursor *cursor, struct worker_tail *ret_tail)
{
    ret_tail->columns = get_columns(cursor, &ret_tail->columns_count);
    ret_tail->rest = worker_get_u32(cursor);
    cursor->failed = cursor->failed || ret_tail->rest > ret_tail->columns_count;
    ret_tail->line_size_max = worker_get_u64(cursor);
    ret_tail->windows_count = worker_get_count(cursor, sizeof(uint64_t));
    struct str *windows = mem_alloc_array(ret_tail->windows_count, sizeof(*windows));
    for (size_t i = 0; i < ret_tail->windows_count; i++) {
        windows[i] = worker_get_text(cursor);
    }
    ret_tail->windows = windows;
}

static void get_files(struct worker_cursor *cursor, struct worker_table *table)
{
    table->files_count = worker_get_count(cursor, sizeof(uint64_t) + sizeof(uint32_t));
    struct worker_file *files = mem_alloc_array(table->files_count, sizeof(*files));
    for (size_t i = 0; i < table->files_count; i++) {
        files[i].path = worker_get_text(cursor);
        files[i].schema = worker_get_u32(cursor);
    }
    table->files = files;
}

static void get_schemas(struct worker_cursor *cursor, struct worker_table *table)
{
    table->schemas_count = worker_get_count(cursor, sizeof(uint64_t));
    struct worker_schema *schemas = mem_alloc_array(table->schemas_count, sizeof(*schemas));
    for (size_t i = 0; i < table->schemas_count; i++) {
        cursor->failed = !worker_get_schema(cursor, &schemas[i]) || cursor->failed;
    }
    table->schemas = schemas;
    for (size_t i = 0; i < table->files_count; i++) {
        cursor->failed = cursor->failed || table->files[i].schema > table->schemas_count;
    }
}

static void get_tails(struct worker_cursor *cursor, struct worker_table *table)
{
    table->tails_count = worker_get_count(cursor, 3 * sizeof(uint64_t));
    struct worker_tail *tails = mem_alloc_array(table->tails_count, sizeof(*tails));
    for (size_t i = 0; i < table->tails_count; i++) {
        get_tail(cursor, &tails[i]);
    }
    table->tails = tails;
}

bool worker_get_table(struct worker_cursor *cursor, struct worker_table *ret_table)
{
    struct worker_table table = {.name = worker_get_text(cursor)};
    table.kind = worker_get_u32(cursor);
    get_files(cursor, &table);
    get_schemas(cursor, &table);
    get_tails(cursor, &table);
    if (cursor->failed) {
        worker_table_finish(&table);
        return false;
    }
    *ret_table = table;
    return true;
}

void worker_table_finish(struct worker_table *table)
{
    for (size_t i = 0; i < table->schemas_count; i++) {
        free_const(table->schemas[i].columns);
    }
    for (size_t i = 0; i < table->tails_count; i++) {
        free_const(table->tails[i].columns);
        free_const(table->tails[i].windows);
    }
    free_const(table->schemas);
    free_const(table->tails);
    free_const(table->files);
    *table = (struct worker_table){0};
}

bool worker_get_outcome(struct str payload, struct worker_outcome *ret_outcome, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_outcome outcome = {.kind = worker_get_u32(&cursor)};
    outcome.truncated = worker_get_u32(&cursor);
    outcome.rows = worker_get_u64(&cursor);
    outcome.peak_bytes = worker_get_u64(&cursor);
    outcome.message = worker_get_text(&cursor);
    if (!worker_get_end(&cursor) || outcome.kind >= ERR_KIND_COUNT) {
        return err_set(err, ERR_CORRUPT, "an outcome message is damaged");
    }
    *ret_outcome = outcome;
    return true;
}

bool worker_get_progress(struct str payload, struct worker_progress *ret_progress, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_progress progress = {.permille = worker_get_u32(&cursor)};
    progress.rows = worker_get_u64(&cursor);
    progress.peak_bytes = worker_get_u64(&cursor);
    if (!worker_get_end(&cursor) || progress.permille > 1000) {
        return err_set(err, ERR_CORRUPT, "a progress message is damaged");
    }
    *ret_progress = progress;
    return true;
}

union fd_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * WORKER_FDS_MAX)];
};

static void attach_fds(struct msghdr *message, union fd_control *control, const int *fds,
                       size_t fds_count)
{
    assert(fds_count <= WORKER_FDS_MAX);
    if (fds_count == 0) {
        return;
    }
    message->msg_control = control->bytes;
    message->msg_controllen = CMSG_SPACE(sizeof(int) * fds_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds_count);
    memcpy(CMSG_DATA(header), fds, sizeof(int) * fds_count);
}

/* False when the time is over. */
static bool wait_writable(int socket_fd, int64_t until_ms)
{
    int64_t left_ms = until_ms - clock_now_ms();
    struct pollfd polled = {.fd = socket_fd, .events = POLLOUT};
    return left_ms > 0 && poll(&polled, 1, (int)left_ms) >= 0;
}

static bool send_bytes(int socket_fd, struct frame_header *header, struct str payload,
                       const int *fds, size_t fds_count, int wait_ms, struct err *err)
{
    union fd_control control = {0};
    int64_t until_ms = clock_now_ms() + wait_ms;
    int flags = MSG_NOSIGNAL | (wait_ms >= 0 ? MSG_DONTWAIT : 0);
    size_t sent = 0;
    size_t total = sizeof(*header) + payload.len;
    while (sent < total) {
        size_t head_sent = sent < sizeof(*header) ? sent : sizeof(*header);
        size_t body_sent = sent - head_sent;
        struct iovec parts[2] = {
            {(char *)header + head_sent, sizeof(*header) - head_sent},
            {(char *)(uintptr_t)payload.ptr + body_sent, payload.len - body_sent},
        };
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        if (sent == 0) {
            attach_fds(&message, &control, fds, fds_count);
        }
        ssize_t size = sendmsg(socket_fd, &message, flags);
        if (size < 0 &&
            (errno == EINTR || (errno == EAGAIN && wait_writable(socket_fd, until_ms)))) {
            continue;
        }
        if (size <= 0) {
            return err_set_errno(err, ERR_UNAVAILABLE, errno, "the worker process is gone");
        }
        sent += (size_t)size;
    }
    return true;
}

bool worker_send(int socket_fd, uint32_t type, struct str payload, const int *fds, size_t fds_count,
                 int wait_ms, struct err *err)
{
    assert(payload.len <= WORKER_FRAME_SIZE_MAX);
    struct frame_header header = {.type = type, .size = (uint32_t)payload.len};
    return send_bytes(socket_fd, &header, payload, fds, fds_count, wait_ms, err);
}

void worker_put_frame(struct buf *frames, uint32_t type, struct str payload)
{
    assert(payload.len <= WORKER_FRAME_SIZE_MAX);
    const struct frame_header header = {.type = type, .size = (uint32_t)payload.len};
    buf_append_bytes(frames, &header, sizeof(header));
    buf_append(frames, payload);
}

/* The first frame's header is sent as one, what is behind it as its payload. */
bool worker_send_frames(int socket_fd, struct str frames, int wait_ms, struct err *err)
{
    struct frame_header first;
    assert(frames.len >= sizeof(first));
    memcpy(&first, frames.ptr, sizeof(first));
    return send_bytes(socket_fd, &first, str_from(frames, sizeof(first)), NULL, 0, wait_ms, err);
}

void worker_frame_init(struct worker_frame *frame)
{
    *frame = (struct worker_frame){0};
    buf_init(&frame->payload, WORKER_FRAME_SIZE_MAX);
    for (size_t i = 0; i < WORKER_FDS_MAX; i++) {
        frame->fds[i] = -1;
    }
}

void worker_frame_finish(struct worker_frame *frame)
{
    for (size_t i = 0; i < WORKER_FDS_MAX; i++) {
        fd_close(&frame->fds[i]);
    }
    buf_finish(&frame->payload);
}

static void keep_fds(struct msghdr *message, struct worker_frame *frame, size_t *kept)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
            if (*kept < WORKER_FDS_MAX) {
                frame->fds[(*kept)++] = fd;
            } else {
                (void)close(fd);
            }
        }
    }
}

/* Descriptors are kept in `frame`, or thrown away without one. */
static bool receive_some(int socket_fd, struct iovec *parts, size_t parts_count,
                         struct worker_frame *frame, size_t *kept, size_t *ret_size,
                         struct err *err)
{
    ssize_t size;
    union fd_control control;
    struct msghdr message = {
        .msg_iov = parts,
        .msg_iovlen = parts_count,
        .msg_control = frame == NULL ? NULL : control.bytes,
        .msg_controllen = frame == NULL ? 0 : sizeof(control.bytes),
    };
    do {
        size = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size <= 0) {
        return err_set(err, ERR_UNAVAILABLE, "the other process is gone");
    }
    if (frame != NULL) {
        keep_fds(&message, frame, kept);
    }
    *ret_size = (size_t)size;
    return true;
}

static bool receive_exactly(int socket_fd, void *into, size_t size, struct worker_frame *frame,
                            struct err *err)
{
    size_t kept = 0;
    size_t step;
    for (size_t got = 0; got < size; got += step) {
        struct iovec part = {(char *)into + got, size - got};
        if (!receive_some(socket_fd, &part, 1, frame, &kept, &step, err)) {
            return false;
        }
    }
    return true;
}

static void empty_frame(struct worker_frame *frame)
{
    for (size_t i = 0; i < WORKER_FDS_MAX; i++) {
        fd_close(&frame->fds[i]);
    }
    buf_reset(&frame->payload);
}

/* The payload, of which there is the beginning. */
static bool receive_rest(int socket_fd, struct worker_frame *frame,
                         const struct frame_header *header, struct err *err)
{
    struct buf *payload = &frame->payload;
    if (header->size > WORKER_FRAME_SIZE_MAX || payload->len > header->size ||
        !buf_reserve(payload, header->size - payload->len)) {
        return err_set(err, ERR_CORRUPT, "a message between processes is too large");
    }
    if (!receive_exactly(socket_fd, payload->ptr + payload->len, header->size - payload->len, NULL,
                         err)) {
        return false;
    }
    frame->type = header->type;
    payload->len = header->size;
    return true;
}

bool worker_receive(int socket_fd, struct worker_frame *frame, struct err *err)
{
    struct frame_header header;
    empty_frame(frame);
    return receive_exactly(socket_fd, &header, sizeof(header), frame, err) &&
           receive_rest(socket_fd, frame, &header, err);
}

bool worker_receive_alone(int socket_fd, struct worker_frame *frame, struct err *err)
{
    struct frame_header header;
    size_t kept = 0;
    size_t got;
    empty_frame(frame);
    if (!buf_reserve(&frame->payload, ALONE_SIZE)) {
        return err_set(err, ERR_INTERNAL, "no memory for a message");
    }
    struct iovec parts[2] = {{&header, sizeof(header)}, {frame->payload.ptr, ALONE_SIZE}};
    if (!receive_some(socket_fd, parts, 2, frame, &kept, &got, err)) {
        return false;
    }
    if (got < sizeof(header)) {
        char *rest = (char *)&header + got;
        return receive_exactly(socket_fd, rest, sizeof(header) - got, frame, err) &&
               receive_rest(socket_fd, frame, &header, err);
    }
    frame->payload.len = got - sizeof(header);
    return receive_rest(socket_fd, frame, &header, err);
}
