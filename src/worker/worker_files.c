#include "worker_files.h"

#include "fd.h"
#include "map.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One object, shared by all handles that are open on it: the engine opens a file once per thread,
 * and again after it has read the footer. It stays until the process ends; its descriptor is given
 * up when nobody reads it and there are many, and asked for again later. */
struct object {
    char *path;
    int fd; /* -1 while given up */
    unsigned handles;
    uint64_t size;
    uint64_t base;          /* where its bytes begin in the descriptor's file */
    bool complete;          /* every byte is there: a file of the server's own folder */
    unsigned char *present; /* one bit per block */
};

struct files {
    struct channel *channel;
    int input_fd;
    int output_fd;
    files_writer *result_writer;
    void *result_context;
    uint64_t result_size;
    struct lock lock;                    /* LOCK_VFS: everything below, and the objects' fields */
    struct map objects GUARDED_BY(lock); /* by path */
    unsigned open_count GUARDED_BY(lock);
};

/* What the engine holds: an object, or a descriptor of the job. */
struct file {
    struct files *files;
    struct object *object;
    int fd;
    bool result; /* job://result */
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

/* What the server says of an object it has opened. */
struct opened {
    int fd;
    uint64_t size;
    uint64_t base;
    bool complete;
};

/* OPENED: u32 error kind, u64 size, u32 complete, u64 base, text. */
static bool ask_open(struct files *files, const char *path, struct opened *ret_opened,
                     char *problem, size_t size)
{
    struct buf body;
    struct buf answer;
    buf_init(&body, WORKER_FRAME_SIZE_MAX);
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    worker_put_text(&body, str_of(path));
    struct opened opened = {.fd = -1};
    channel_ask(files->channel, WORKER_OPEN, buf_str(&body), &answer, &opened.fd);
    struct worker_cursor cursor = {.rest = buf_str(&answer)};
    uint32_t kind = worker_get_u32(&cursor);
    opened.size = worker_get_u64(&cursor);
    opened.complete = worker_get_u32(&cursor) != 0;
    opened.base = worker_get_u64(&cursor);
    struct str text = worker_get_text(&cursor);
    bool good = kind == ERR_NONE && opened.fd >= 0 && worker_get_end(&cursor);
    if (good) {
        *ret_opened = opened;
    } else {
        say(problem, size, text.len > 0 ? text : STR("the object cannot be opened"));
        fd_close(&opened.fd);
    }
    buf_finish(&body);
    buf_finish(&answer);
    return good;
}

static struct object *object_create(const char *path, const struct opened *opened)
{
    struct object *object = mem_alloc(sizeof(*object));
    *object = (struct object){
        .path = mem_copy_text(path),
        .fd = -1,
        .size = opened->size,
        .base = opened->base,
        .complete = opened->complete,
    };
    object->present = mem_alloc((size_t)(block_count(object) / 8 + 1));
    return object;
}

/* Counts one more handle, when the object is known and open. */
static struct object *hold_object(struct files *files, const char *path)
{
    lock_take(&files->lock);
    struct object *object = map_find(&files->objects, str_of(path));
    if (object != NULL && object->fd < 0) {
        object = NULL;
    }
    if (object != NULL) {
        object->handles++;
    }
    lock_release(&files->lock);
    return object;
}

/* Two threads may have asked for the same object: the second answer is thrown away. */
static struct object *keep_object(struct files *files, const char *path, struct opened *opened)
{
    lock_take(&files->lock);
    struct object *object = map_find(&files->objects, str_of(path));
    if (object == NULL) {
        object = object_create(path, opened);
        map_set(&files->objects, str_of(object->path), object);
    }
    if (object->fd < 0) {
        object->fd = opened->fd;
        opened->fd = -1;
        files->open_count++;
    }
    object->handles++;
    lock_release(&files->lock);
    fd_close(&opened->fd);
    return object;
}

static struct object *open_object(struct files *files, const char *path, char *problem, size_t size)
{
    struct object *object = hold_object(files, path);
    struct opened opened;
    if (object == NULL && ask_open(files, path, &opened, problem, size)) {
        object = keep_object(files, path, &opened);
    }
    return object;
}

static void let_object_go(struct files *files, struct object *object)
{
    lock_take(&files->lock);
    assert(object->handles > 0);
    if (--object->handles == 0 && files->open_count > FILES_OPEN_MAX) {
        fd_close(&object->fd);
        files->open_count--;
    }
    lock_release(&files->lock);
}

static void *vfs_open(void *context, const char *path, bool for_writing, char *problem, size_t size)
{
    struct files *files = context;
    struct file file = {.files = files, .fd = -1};
    if (strcmp(path, "job://in") == 0 && !for_writing) {
        file.fd = files->input_fd;
    } else if (strcmp(path, "job://result") == 0 && for_writing && files->result_writer != NULL) {
        file.result = true;
    } else if (strcmp(path, "job://out") == 0) {
        file.fd = files->output_fd;
    } else if (files->channel != NULL && !for_writing && !str_starts(str_of(path), STR("job:"))) {
        file.object = open_object(files, path, problem, size);
        if (file.object == NULL) {
            return NULL;
        }
        file.fd = file.object->fd;
    }
    if (file.fd < 0 && !file.result) {
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
           end - *first < WORKER_FETCH_SIZE_MAX / FILES_BLOCK_SIZE) {
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
    uint64_t base = file->object == NULL ? 0 : file->object->base;
    for (uint64_t done = 0; done < size;) {
        off_t at = (off_t)(base + offset + done);
        ssize_t got = pread(file->fd, (char *)into + done, size - done, at);
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
    struct files *files = file->files;
    if (file->result) {
        bool next = offset == files->result_size;
        files->result_size += size;
        return next && files->result_writer(files->result_context, bytes, size);
    }
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
    if (file->result) {
        return file->files->result_size;
    }
    /* Not fstat: libc asks by an empty path, and the sandbox allows no question about paths. */
    off_t size = lseek(file->fd, 0, SEEK_END);
    return size < 0 ? 0 : (uint64_t)size;
}

static void vfs_close(void *opened)
{
    struct file *file = opened;
    if (file->object != NULL) {
        let_object_go(file->files, file->object);
    }
    mem_free(file);
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

void files_set_result(struct files *files, files_writer *writer, void *context)
{
    files->result_writer = writer;
    files->result_context = context;
    files->result_size = 0;
}
