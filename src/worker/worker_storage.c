#include "worker_storage.h"

#include "fd.h"
#include "mem.h"
#include "worker_database.h"
#include "worker_patches.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct client {
    const void *connection;
    struct files *files;
};

struct storage {
    struct channel *channel;
    struct str name;
    struct shim_files operations;
    atomic_int phase; /* enum storage_phase */
    atomic_bool failed;
    atomic_bool patches_full;
    atomic_ullong no_room;
    struct lock lock; /* LOCK_REQUESTS */
    struct client clients[WORKER_SLOTS_MAX] GUARDED_BY(lock);
};

/* What the engine holds: a descriptor of the database's own, or a file of a job. */
struct stored {
    struct storage *storage;
    int fd;
    void *of_job;
    bool patched;           /* opened by a trial, which may not change it: */
    struct patches patches; /* under the storage's lock */
};

/* ---- questions to the server ---- */

struct question {
    enum worker_file_operation operation;
    uint32_t flags;
    struct str name;
    struct str new_name;
};

/* 0, or the errno of the server's answer. */
static int ask(struct storage *storage, const struct question *question, uint64_t *ret_value,
               int *ret_fd)
{
    struct buf body;
    struct buf answer;
    buf_init(&body, WORKER_FRAME_SIZE_MAX);
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    worker_put_u32(&body, question->operation);
    worker_put_u32(&body, question->flags);
    worker_put_text(&body, question->name);
    worker_put_text(&body, question->new_name);
    channel_ask(storage->channel, WORKER_FILE, buf_str(&body), &answer, ret_fd);
    struct worker_cursor cursor = {.rest = buf_str(&answer)};
    int problem = (int)worker_get_u32(&cursor);
    *ret_value = worker_get_u64(&cursor);
    (void)worker_get_text(&cursor);
    if (!worker_get_end(&cursor)) {
        problem = EPROTO;
    }
    buf_finish(&body);
    buf_finish(&answer);
    return problem;
}

static int note_failure(struct storage *storage, int problem)
{
    if (problem != 0 && problem != ENOENT) {
        atomic_store(&storage->failed, true);
    }
    return problem;
}

static int open_file(struct storage *storage, struct str name, uint32_t flags, uint64_t *ret_size)
{
    struct question question = {.operation = WORKER_FILE_OPEN, .flags = flags, .name = name};
    int fd = -1;
    int problem = note_failure(storage, ask(storage, &question, ret_size, &fd));
    if (problem == 0 && fd < 0) {
        problem = note_failure(storage, EPROTO);
    }
    if (problem != 0) {
        fd_close(&fd);
        errno = problem;
    }
    return fd;
}

/* ---- what the engine calls ---- */

static void say(char *problem, size_t size, const char *text)
{
    (void)snprintf(problem, size, "%s", text);
}

/* A request's job://; `files_open` of the slot that this connection works for. */
static void *open_of_job(struct storage *storage, const char *path, const struct shim_open *how,
                         char *problem, size_t size)
{
    struct files *files = NULL;
    lock_take(&storage->lock);
    for (size_t i = 0; files == NULL && how->client != NULL && i < WORKER_SLOTS_MAX; i++) {
        if (storage->clients[i].connection == how->client) {
            files = storage->clients[i].files;
        }
    }
    lock_release(&storage->lock);
    if (files == NULL) {
        say(problem, size, "access to this path is not allowed");
        return NULL;
    }
    return files_operations()->open(files, path, how, problem, size);
}

/* A trial changes no file that stays. */
static bool is_kept_from_change(const struct storage *storage, struct str name)
{
    return atomic_load(&storage->phase) == STORAGE_TRIAL && !str_starts(name, STR("tmp/"));
}

static int open_stored(struct storage *storage, struct str name, const struct shim_open *how,
                       char *problem, size_t size)
{
    bool for_writing = (how->flags & SHIM_OPEN_WRITE) != 0;
    if ((how->client != NULL && atomic_load(&storage->phase) == STORAGE_SERVES) ||
        (for_writing && is_kept_from_change(storage, name))) {
        (void)note_failure(storage, EACCES);
        say(problem, size, "access to this path is not allowed");
        return -1;
    }
    uint32_t flags = for_writing ? WORKER_FILE_WRITE : 0;
    flags |= (how->flags & SHIM_OPEN_CREATE) != 0 ? WORKER_FILE_CREATE : 0;
    flags |= (how->flags & SHIM_OPEN_TRUNCATE) != 0 ? WORKER_FILE_TRUNCATE : 0;
    uint64_t file_size;
    int fd = open_file(storage, name, flags, &file_size);
    if (fd < 0 && errno != ENOENT) {
        say(problem, size, "a file of the database cannot be opened");
    }
    return fd;
}

static void *storage_open(void *context, const char *path, const struct shim_open *how,
                          char *problem, size_t size)
{
    struct storage *storage = context;
    struct stored stored = {.storage = storage, .fd = -1};
    struct str name = str_of(path);
    if (str_starts(name, STR("db://"))) {
        name = str_from(name, 5);
        stored.fd = open_stored(storage, name, how, problem, size);
        stored.patched = is_kept_from_change(storage, name);
    } else {
        stored.of_job = open_of_job(storage, path, how, problem, size);
    }
    if (stored.fd < 0 && stored.of_job == NULL) {
        return NULL;
    }
    struct stored *opened = mem_alloc(sizeof(*opened));
    *opened = stored;
    return opened;
}

/* Not fstat: libc asks by an empty path, and the sandbox allows no question about paths. */
static uint64_t file_size(const struct stored *stored)
{
    off_t size = lseek(stored->fd, 0, SEEK_END);
    return size < 0 ? 0 : (uint64_t)size;
}

static bool read_patched(struct stored *stored, void *into, uint64_t size, uint64_t offset)
{
    uint64_t whole = file_size(stored);
    uint64_t there = offset >= whole ? 0 : whole - offset;
    there = there < size ? there : size;
    memset((char *)into + there, 0, size - there);
    if (!fd_read_at(stored->fd, into, there, offset)) {
        return false;
    }
    lock_take(&stored->storage->lock);
    uint64_t reached = patches_apply(&stored->patches, into, size, offset);
    lock_release(&stored->storage->lock);
    errno = 0;
    return there == size || reached == offset + size;
}

static bool storage_read(void *file, void *into, uint64_t size, uint64_t offset, char *problem,
                         size_t problem_size)
{
    struct stored *stored = file;
    if (stored->of_job != NULL) {
        return files_operations()->read(stored->of_job, into, size, offset, problem, problem_size);
    }
    bool good = stored->patched ? read_patched(stored, into, size, offset)
                                : fd_read_at(stored->fd, into, size, offset);
    if (!good && errno != 0) {
        (void)note_failure(stored->storage, EIO);
        say(problem, problem_size, "the disk failed");
    } else if (!good) {
        say(problem, problem_size, "the file ends before the data it announces");
    }
    return good;
}

/* A log with an index is replayed by writing its pages, also for who only reads. */
static bool write_patch(struct stored *stored, const void *bytes, uint64_t size, uint64_t offset)
{
    lock_take(&stored->storage->lock);
    bool good = patches_add(&stored->patches, bytes, size, offset);
    lock_release(&stored->storage->lock);
    if (!good) {
        atomic_store(&stored->storage->patches_full, true);
    }
    return good;
}

static bool storage_write(void *file, const void *bytes, uint64_t size, uint64_t offset)
{
    struct stored *stored = file;
    if (stored->of_job != NULL) {
        return files_operations()->write(stored->of_job, bytes, size, offset);
    }
    bool good = stored->patched ? write_patch(stored, bytes, size, offset)
                                : fd_write_at(stored->fd, bytes, size, offset);
    if (!good) {
        bool full = errno == ENOSPC || errno == EFBIG || errno == EDQUOT;
        atomic_fetch_add(&stored->storage->no_room, full);
        (void)note_failure(stored->storage, EIO);
    }
    return good;
}

static uint64_t storage_size(void *file)
{
    struct stored *stored = file;
    if (stored->of_job != NULL) {
        return files_operations()->size(stored->of_job);
    }
    uint64_t size = file_size(stored);
    if (stored->patched) {
        lock_take(&stored->storage->lock);
        uint64_t end = patches_end(&stored->patches);
        lock_release(&stored->storage->lock);
        size = end > size ? end : size;
    }
    return size;
}

static bool storage_sync(void *file)
{
    struct stored *stored = file;
    if (stored->of_job != NULL) {
        return true; /* the server does what its file needs */
    }
    int result;
    do {
        result = fdatasync(stored->fd);
    } while (result != 0 && errno == EINTR);
    return result == 0 || note_failure(stored->storage, EIO) == 0;
}

static bool storage_truncate(void *file, uint64_t size)
{
    struct stored *stored = file;
    if (stored->of_job != NULL) {
        return false;
    }
    bool good = !stored->patched && size <= INT64_MAX && ftruncate(stored->fd, (off_t)size) == 0;
    return good || note_failure(stored->storage, EIO) == 0;
}

static void storage_close(void *file)
{
    struct stored *stored = file;
    if (stored->of_job != NULL) {
        files_operations()->close(stored->of_job);
    }
    patches_finish(&stored->patches);
    fd_close(&stored->fd);
    mem_free(stored);
}

static bool is_main_file(const struct storage *storage, struct str name)
{
    return str_equal(name, storage->name);
}

/* An empty main file is one that was never finished: the engine makes it anew. */
static int exists(struct storage *storage, struct str name)
{
    struct question question = {.operation = WORKER_FILE_EXISTS, .name = name};
    struct err err;
    uint64_t value = 0;
    if (is_main_file(storage, name)) {
        return storage_look(storage, "", NULL, 0, &value, &err) ? value > 0 : -1;
    }
    int problem = note_failure(storage, ask(storage, &question, &value, NULL));
    return problem == ENOENT ? 0 : problem != 0 ? -1 : value > 0;
}

static int storage_change(void *context, enum shim_change change, const char *path, const char *to)
{
    struct storage *storage = context;
    struct str name = str_from(str_of(path), 5);
    if (change == SHIM_EXISTS) {
        return exists(storage, name);
    }
    if (is_kept_from_change(storage, name)) {
        (void)note_failure(storage, EACCES);
        return -1;
    }
    struct question question = {.operation = WORKER_FILE_REMOVE, .name = name};
    if (change == SHIM_MOVE) {
        question.operation = WORKER_FILE_MOVE;
        question.new_name = str_from(str_of(to), 5);
    }
    uint64_t value;
    int problem = note_failure(storage, ask(storage, &question, &value, NULL));
    return problem == ENOENT ? 0 : problem != 0 ? -1 : 1;
}

/* ---- what the worker calls ---- */

struct storage *storage_create(struct channel *channel, struct str name)
{
    struct storage *storage = mem_alloc(sizeof(*storage));
    storage->channel = channel;
    storage->name = name;
    storage->operations = (struct shim_files){
        .context = storage,
        .open = storage_open,
        .read = storage_read,
        .write = storage_write,
        .size = storage_size,
        .close = storage_close,
        .sync = storage_sync,
        .truncate = storage_truncate,
        .change = storage_change,
    };
    lock_init(&storage->lock, LOCK_REQUESTS);
    return storage;
}

const struct shim_files *storage_operations(struct storage *storage)
{
    return &storage->operations;
}

void storage_set_phase(struct storage *storage, enum storage_phase phase)
{
    atomic_store(&storage->failed, false);
    atomic_store(&storage->phase, phase);
}

uint64_t storage_no_room(const struct storage *storage)
{
    return atomic_load(&storage->no_room);
}

bool storage_failed(const struct storage *storage)
{
    return atomic_load(&storage->failed);
}

bool storage_patches_full(const struct storage *storage)
{
    return atomic_load(&storage->patches_full);
}

bool storage_look(struct storage *storage, const char *suffix, void *head, size_t head_size,
                  uint64_t *ret_size, struct err *err)
{
    struct buf name;
    buf_init(&name, 4096);
    buf_append(&name, storage->name);
    buf_append_text(&name, suffix);
    CLEANUP(fd_close) int fd = open_file(storage, buf_str(&name), 0, ret_size);
    int problem = fd < 0 ? errno : 0;
    buf_finish(&name);
    if (problem != 0) {
        *ret_size = 0;
        return problem == ENOENT ||
               err_set_errno(err, ERR_UNAVAILABLE, problem, "the database's file cannot be opened");
    }
    size_t wanted = *ret_size < head_size ? (size_t)*ret_size : head_size;
    return fd_read_at(fd, head, wanted, 0) ||
           err_set_errno(err, ERR_UNAVAILABLE, errno, "the database's file cannot be read");
}

void storage_set_client(struct storage *storage, unsigned slot, const void *client,
                        struct files *files)
{
    assert(slot < WORKER_SLOTS_MAX);
    lock_take(&storage->lock);
    storage->clients[slot] = (struct client){.connection = client, .files = files};
    lock_release(&storage->lock);
}
