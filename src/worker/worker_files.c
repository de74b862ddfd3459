#include "worker_files.h"

#include "fd.h"
#include "mem.h"
#include "worker_objects.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct files {
    struct objects *objects; /* NULL in the zygote */
    int input_fd;
    int output_fd;
    uint64_t input_offset;
    uint64_t input_size;     /* 0: to the end */
    atomic_uint result_turn; /* see take_turn */
    files_writer *result_writer;
    void *result_context;
    uint64_t result_size;
};

/* What the engine holds: an object, or a descriptor of the job. */
struct file {
    struct files *files;
    struct object *object;
    int fd;
    uint64_t offset; /* where it begins in fd */
    uint64_t size;   /* 0: to the end */
    bool result;     /* job://result */
};

static void say(char *problem, size_t size, const char *text)
{
    (void)snprintf(problem, size, "%s", text);
}

static void *vfs_open(void *context, const char *path, const struct shim_open *how, char *problem,
                      size_t size)
{
    struct files *files = context;
    bool for_writing = (how->flags & SHIM_OPEN_WRITE) != 0;
    struct file file = {.files = files, .fd = -1};
    if (strcmp(path, "job://in") == 0 && !for_writing) {
        file.fd = files->input_fd;
        file.offset = files->input_offset;
        file.size = files->input_size;
    } else if (strcmp(path, "job://result") == 0 && for_writing && files->result_writer != NULL) {
        file.result = true;
    } else if (strcmp(path, "job://out") == 0) {
        file.fd = files->output_fd;
        if (for_writing && file.fd >= 0 && ftruncate(file.fd, 0) != 0) { /* of a first attempt */
            file.fd = -1;
        }
    } else if (files->objects != NULL && !for_writing && !str_starts(str_of(path), STR("job:"))) {
        file.object = object_open(files->objects, path, problem, size);
        if (file.object == NULL) {
            return NULL;
        }
    }
    if (file.object == NULL && file.fd < 0 && !file.result) {
        say(problem, size, "access to this path is not allowed");
        return NULL;
    }
    struct file *opened = mem_alloc(sizeof(*opened));
    *opened = file;
    return opened;
}

static bool vfs_read(void *opened, void *into, uint64_t size, uint64_t offset, char *problem,
                     size_t problem_size)
{
    struct file *file = opened;
    if (file->object != NULL) {
        return object_read(file->object, into, size, offset, problem, problem_size);
    }
    if (file->size > 0 && (offset > file->size || size > file->size - offset)) {
        say(problem, problem_size, "the file ends before the data it announces");
        return false;
    }
    if (!fd_read_at(file->fd, into, size, file->offset + offset)) {
        say(problem, problem_size, "the file ends before the data it announces");
        return false;
    }
    return true;
}

/* The engine writes a file from one thread at a time, but not always the same one. At the start and
 * at the end of its turn each of them touches one number, so that the next sees what it left. The
 * engine's own locks see to that too, but thread sanitizers do not look into the engine. */
static void take_turn(struct files *files)
{
    atomic_fetch_add(&files->result_turn, 1);
}

static bool write_result(struct files *files, const void *bytes, uint64_t size, uint64_t offset)
{
    take_turn(files);
    bool next = offset == files->result_size;
    files->result_size += size;
    bool good = next && files->result_writer(files->result_context, bytes, size);
    take_turn(files);
    return good;
}

static bool vfs_write(void *opened, const void *bytes, uint64_t size, uint64_t offset)
{
    struct file *file = opened;
    if (file->result) {
        return write_result(file->files, bytes, size, offset);
    }
    return file->object == NULL && fd_write_at(file->fd, bytes, size, offset);
}

static uint64_t vfs_size(void *opened)
{
    struct file *file = opened;
    if (file->object != NULL) {
        return object_size(file->object);
    }
    if (file->result) {
        take_turn(file->files);
        return file->files->result_size;
    }
    if (file->size > 0) {
        return file->size;
    }
    /* Not fstat: libc asks by an empty path, and the sandbox allows no question about paths. */
    off_t size = lseek(file->fd, 0, SEEK_END);
    return size < 0 ? 0 : (uint64_t)size;
}

static void vfs_close(void *opened)
{
    struct file *file = opened;
    if (file->object != NULL) {
        object_close(file->object);
    }
    mem_free(file);
}

static const struct shim_files operations = {
    .open = vfs_open,
    .read = vfs_read,
    .write = vfs_write,
    .size = vfs_size,
    .close = vfs_close,
};

const struct shim_files *files_operations(void)
{
    return &operations;
}

struct files *files_create_apart(void)
{
    struct files *files = mem_alloc(sizeof(*files));
    files->input_fd = -1;
    files->output_fd = -1;
    return files;
}

struct files *files_create(duckdb_database database)
{
    static const char *const prefixes[] = {"job://", "s3://", "lake://"};
    struct files *files = files_create_apart();
    struct shim_files table = operations;
    table.context = files;
    if (!shim_register_files(database, &table, prefixes, COUNT_OF(prefixes))) {
        mem_free(files);
        return NULL;
    }
    return files;
}

void files_set_descriptors(struct files *files, int input_fd, int output_fd)
{
    files->input_fd = input_fd;
    files->output_fd = output_fd;
}

void files_set_job(struct files *files, struct channel *channel, int input_fd, int output_fd)
{
    files->objects = objects_create(channel);
    files_set_descriptors(files, input_fd, output_fd);
}

void files_set_window(struct files *files, uint64_t offset, uint64_t size)
{
    files->input_offset = offset;
    files->input_size = size;
}

int files_input(const struct files *files, uint64_t *ret_offset, uint64_t *ret_size)
{
    struct file file = {
        .fd = files->input_fd, .offset = files->input_offset, .size = files->input_size};
    *ret_offset = file.offset;
    *ret_size = file.fd < 0 ? 0 : vfs_size(&file);
    return file.fd;
}

void files_set_result(struct files *files, files_writer *writer, void *context)
{
    take_turn(files);
    files->result_writer = writer;
    files->result_context = context;
    files->result_size = 0;
    take_turn(files);
}

void files_report(struct files *files)
{
    if (files->objects != NULL) {
        objects_report(files->objects);
    }
}
