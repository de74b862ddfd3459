#include "worker_files.h"

#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One object, shared by all handles that are open on it: the engine opens a file once per thread.
 * Never closed: the process ends with the job. */
struct object {
    char *path;
    int fd;
    uint64_t size;
    bool complete;          /* every byte is there: a file of the server's own folder */
    unsigned char *present; /* one bit per block */
    struct object *next;
};

struct files {
    struct channel *channel;
    int input_fd;
    int output_fd;
    struct lock lock; /* LOCK_VFS: objects and their bits */
    struct object *objects GUARDED_BY(lock);
};

/* What the engine holds: an object, or a descriptor of the job. */
struct file {
    struct files *files;
    struct object *object;
    int fd;
};

static uint64_t block_count(const struct object *object)
{
    return (object->size + FILES_BLOCK_SIZE - 1) / FILES_BLOCK_SIZE;
}

static bool is_present(const struct object *object, uint64_t block)
{
    return object->complete || (object->present[block / 8] >> (block % 8) & 1) != 0;
}

static void say(char *problem, size_t size, struct str text)
{
    (void)snprintf(problem, size, "%.*s", STR_ARG(text));
}

static struct object *find_object(struct files *files, const char *path) REQUIRES(&files->lock)
{
    struct object *object = files->objects;
    while (object != NULL && strcmp(object->path, path) != 0) {
        object = object->next;
    }
    return object;
}

/* OPENED: u32 error kind, u64 size, u32 complete, text. */
static struct object *ask_open(struct files *files, const char *path, char *problem, size_t size)
{
    struct buf body;
    struct buf answer;
    buf_init(&body, WORKER_FRAME_SIZE_MAX);
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    worker_put_text(&body, str_of(path));
    int fd = -1;
    channel_ask(files->channel, WORKER_OPEN, buf_str(&body), &answer, &fd);
    struct worker_cursor cursor = {.rest = buf_str(&answer)};
    uint32_t kind = worker_get_u32(&cursor);
    uint64_t object_size = worker_get_u64(&cursor);
    bool complete = worker_get_u32(&cursor) != 0;
    struct str text = worker_get_text(&cursor);
    struct object *object = NULL;
    if (kind != ERR_NONE || fd < 0 || !worker_get_end(&cursor)) {
        say(problem, size, text);
        fd_close(&fd);
    } else {
        object = mem_alloc(sizeof(*object));
        *object = (struct object){
            .path = mem_copy_text(path), .fd = fd, .size = object_size, .complete = complete};
        object->present = mem_alloc((size_t)(block_count(object) / 8 + 1));
    }
    buf_finish(&body);
    buf_finish(&answer);
    return object;
}

static struct object *open_object(struct files *files, const char *path, char *problem, size_t size)
{
    lock_take(&files->lock);
    struct object *object = find_object(files, path);
    lock_release(&files->lock);
    if (object != NULL) {
        return object;
    }
    object = ask_open(files, path, problem, size);
    if (object != NULL) {
        /* Two threads may have opened the same object: both descriptors are good, one is found from
         * now on. */
        lock_take(&files->lock);
        object->next = files->objects;
        files->objects = object;
        lock_release(&files->lock);
    }
    return object;
}

static void *vfs_open(void *context, const char *path, bool for_writing, char *problem, size_t size)
{
    struct files *files = context;
    struct file file = {.files = files, .fd = -1};
    if (strcmp(path, "job://in") == 0 && !for_writing) {
        file.fd = files->input_fd;
    } else if (strcmp(path, "job://out") == 0) {
        file.fd = files->output_fd;
    } else if (files->channel != NULL && !for_writing && !str_starts(str_of(path), STR("job:"))) {
        file.object = open_object(files, path, problem, size);
        if (file.object == NULL) {
            return NULL;
        }
        file.fd = file.object->fd;
    }
    if (file.fd < 0) {
        say(problem, size, STR("access to this path is not allowed"));
        return NULL;
    }
    struct file *opened = mem_alloc(sizeof(*opened));
    *opened = file;
    return opened;
}

/* FETCHED: u32 error kind, text. */
static bool ask_fetch(struct file *file, uint64_t first, uint64_t count, char *problem, size_t size)
{
    struct object *object = file->object;
    uint64_t offset = first * FILES_BLOCK_SIZE;
    uint64_t wanted = count * FILES_BLOCK_SIZE;
    wanted = wanted < object->size - offset ? wanted : object->size - offset;
    struct buf body;
    struct buf answer;
    buf_init(&body, 4096);
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    worker_put_u64(&body, offset);
    worker_put_u64(&body, wanted);
    worker_put_text(&body, str_first(str_of(object->path), 2048));
    channel_ask(file->files->channel, WORKER_FETCH, buf_str(&body), &answer, NULL);
    struct worker_cursor cursor = {.rest = buf_str(&answer)};
    uint32_t kind = worker_get_u32(&cursor);
    struct str text = worker_get_text(&cursor);
    bool good = kind == ERR_NONE && worker_get_end(&cursor);
    if (good) {
        lock_take(&file->files->lock);
        for (uint64_t block = first; block < first + count; block++) {
            object->present[block / 8] |= (unsigned char)(1U << (block % 8));
        }
        lock_release(&file->files->lock);
    } else {
        say(problem, size, text);
    }
    buf_finish(&body);
    buf_finish(&answer);
    return good;
}

/* Finds the first run of missing blocks in [*first, last]; false when there is none. */
static bool missing_run(struct file *file, uint64_t *first, uint64_t last, uint64_t *ret_count)
{
    const struct object *object = file->object;
    lock_take(&file->files->lock);
    while (*first <= last && is_present(object, *first)) {
        (*first)++;
    }
    uint64_t end = *first;
    while (end <= last && !is_present(object, end) &&
           end - *first < FILES_FETCH_MAX / FILES_BLOCK_SIZE) {
        end++;
    }
    lock_release(&file->files->lock);
    *ret_count = end - *first;
    return end > *first;
}

static bool fetch_missing(struct file *file, uint64_t size, uint64_t offset, char *problem,
                          size_t problem_size)
{
    uint64_t block = offset / FILES_BLOCK_SIZE;
    uint64_t last = (offset + size - 1) / FILES_BLOCK_SIZE;
    uint64_t count;
    while (missing_run(file, &block, last, &count)) {
        if (!ask_fetch(file, block, count, problem, problem_size)) {
            return false;
        }
        block += count;
    }
    return true;
}

static bool vfs_read(void *opened, void *into, uint64_t size, uint64_t offset, char *problem,
                     size_t problem_size)
{
    struct file *file = opened;
    if (file->object != NULL && size > 0) {
        if (offset > file->object->size || size > file->object->size - offset) {
            say(problem, problem_size, STR("the file ends before the data it announces"));
            return false;
        }
        if (!fetch_missing(file, size, offset, problem, problem_size)) {
            return false;
        }
    }
    for (uint64_t done = 0; done < size;) {
        ssize_t got = pread(file->fd, (char *)into + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            say(problem, problem_size, STR("the file ends before the data it announces"));
            return false;
        }
        done += (uint64_t)got;
    }
    return true;
}

static bool vfs_write(void *opened, const void *bytes, uint64_t size, uint64_t offset)
{
    struct file *file = opened;
    if (file->object != NULL) {
        return false;
    }
    for (uint64_t done = 0; done < size;) {
        ssize_t put =
            pwrite(file->fd, (const char *)bytes + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return false;
        }
        done += (uint64_t)put;
    }
    return true;
}

static uint64_t vfs_size(void *opened)
{
    struct file *file = opened;
    if (file->object != NULL) {
        return file->object->size;
    }
    /* Not fstat: libc asks by an empty path, and the sandbox allows no question about paths. */
    off_t size = lseek(file->fd, 0, SEEK_END);
    return size < 0 ? 0 : (uint64_t)size;
}

static void vfs_close(void *opened)
{
    mem_free(opened);
}

struct files *files_create(duckdb_database database)
{
    static const char *const prefixes[] = {"job://", "s3://", "lake://"};
    struct files *files = mem_alloc(sizeof(*files));
    files->input_fd = -1;
    files->output_fd = -1;
    lock_init(&files->lock, LOCK_VFS);
    struct shim_files table = {
        .context = files,
        .open = vfs_open,
        .read = vfs_read,
        .write = vfs_write,
        .size = vfs_size,
        .close = vfs_close,
    };
    if (!shim_register_files(database, &table, prefixes, COUNT_OF(prefixes))) {
        mem_free(files);
        return NULL;
    }
    return files;
}

void files_set_job(struct files *files, struct channel *channel, int input_fd, int output_fd)
{
    files->channel = channel;
    files->input_fd = input_fd;
    files->output_fd = output_fd;
}
