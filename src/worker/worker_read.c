#include "worker_read.h"

#include "fd.h"
#include "map.h"
#include "mem.h"
#include "worker_arrow_read.h"
#include "worker_run.h"
#include "worker_sink.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    COPY_SIZE = 64 << 10, /* parts up to here are read, larger ones mapped */
};

/* ---- names ---- */

static void free_text(struct str text)
{
    mem_free((char *)(uintptr_t)text.ptr);
}

bool read_check_names(const struct str *names, size_t count, struct err *err)
{
    struct str *keys = mem_alloc_array(count, sizeof(*keys));
    struct map seen = {0};
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        keys[i] = map_folded_key(names[i]);
        if (names[i].len == 0) {
            good = err_set(err, ERR_INVALID, "column %zu of the body has no name", i + 1);
        } else if (map_find(&seen, keys[i]) != NULL) {
            good = err_set(err, ERR_INVALID, "the body has more than one column \"%.*s\"",
                           STR_ARG(str_first(names[i], 200)));
        }
        map_set(&seen, keys[i], keys);
    }
    map_finish(&seen);
    for (size_t i = 0; i < count; i++) {
        free_text(keys[i]);
    }
    mem_free(keys);
    return good;
}

bool read_send_columns(struct channel *channel, const struct worker_schema *schema, struct err *err)
{
    struct buf payload;
    buf_init(&payload, WORKER_QUESTION_SIZE_MAX);
    worker_put_schema(&payload, schema);
    bool good = !buf_failed(&payload) || err_set(err, ERR_INVALID, "the body has too many columns");
    if (good) {
        channel_send(channel, WORKER_COLUMNS, buf_str(&payload));
    }
    buf_finish(&payload);
    return good;
}

/* ---- Arrow: read by ourselves ---- */

struct arrow_job {
    struct channel *channel;
    int fd;
    struct sink sink;
    uint64_t rows;
};

static bool read_part(int fd, uint64_t offset, size_t size, struct str *ret_bytes, struct err *err)
{
    char *bytes = mem_alloc(size);
    if (!fd_read_at(fd, bytes, size, offset)) {
        mem_free(bytes);
        return err_set_errno(err, ERR_INTERNAL, errno, "the body cannot be read");
    }
    *ret_bytes = str_make(bytes, size);
    return true;
}

/* Where a part begins in its first page. */
static size_t page_rest(uint64_t offset)
{
    return (size_t)(offset % (uint64_t)sysconf(_SC_PAGESIZE));
}

static bool map_part(void *context, uint64_t offset, size_t size, struct str *ret_bytes,
                     struct err *err)
{
    const struct arrow_job *job = context;
    if (size <= COPY_SIZE) {
        return read_part(job->fd, offset, size, ret_bytes, err);
    }
    size_t rest = page_rest(offset);
    void *pages = mmap(NULL, size + rest, PROT_READ, MAP_PRIVATE, job->fd, (off_t)(offset - rest));
    if (pages == MAP_FAILED) {
        return err_set(err, ERR_TOO_LARGE,
                       "a record batch of %zu MB is too large; send smaller ones", size / 1000000);
    }
    *ret_bytes = str_make((char *)pages + rest, size);
    return true;
}

static void unmap_part(void *context, struct str bytes)
{
    (void)context;
    if (bytes.len <= COPY_SIZE) {
        free_text(bytes);
        return;
    }
    size_t rest = (uintptr_t)bytes.ptr % (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)munmap((char *)(uintptr_t)bytes.ptr - rest, bytes.len + rest);
}

static bool tell_columns(void *context, const struct worker_schema *schema, struct err *err)
{
    struct arrow_job *job = context;
    return read_send_columns(job->channel, schema, err);
}

/* `lines` is the sink's own buffer. */
static bool send_rows(void *context, struct buf *lines, uint64_t rows, struct err *err)
{
    struct arrow_job *job = context;
    (void)lines;
    job->rows += rows;
    channel_add_rows(job->channel, rows);
    sink_offer(&job->sink);
    return !channel_cancelled(job->channel) || err_set(err, ERR_CANCELLED, "cancelled");
}

static bool read_arrow_body(struct channel *channel, const struct worker_job *worker_job, int fd,
                            struct encode_outcome *ret_outcome, struct err *err)
{
    struct arrow_job job = {.channel = channel, .fd = fd};
    off_t size = lseek(fd, 0, SEEK_END);
    struct arrow_read_options options = {
        .body = {.size = size < 0 ? 0 : (uint64_t)size,
                 .map = map_part,
                 .unmap = unmap_part,
                 .context = &job},
        .memory_max = (size_t)worker_job->limits.memory_bytes / 3,
        .columns = tell_columns,
        .rows = send_rows,
        .context = &job,
    };
    sink_init(&job.sink, channel);
    bool good = arrow_read(&options, &job.sink.out, err);
    if (good) {
        sink_flush(&job.sink);
        ret_outcome->rows = job.rows;
    }
    sink_finish(&job.sink);
    return good;
}

bool run_read(struct duck *duck, struct channel *channel, const struct worker_job *job,
              int input_fd, struct encode_outcome *ret_outcome, struct err *err)
{
    if (input_fd < 0) {
        return err_set(err, ERR_INTERNAL, "a job to read a body has none");
    }
    return job->input_format == WORKER_INPUT_PARQUET
               ? read_parquet_body(duck, channel, ret_outcome, err)
               : read_arrow_body(channel, job, input_fd, ret_outcome, err);
}
