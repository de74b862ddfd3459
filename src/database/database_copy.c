#include "clock.h"
#include "database_internal.h"
#include "digest.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    COPY_STEP_BYTES = 1 << 20,
    CHECKPOINT_PAUSE_MS = 50,
    TRY_CLOSE_MS = 10000
};

/* ---- copying ---- */

static bool copy_step(int from_fd, int into_fd, uint64_t offset, char *bytes, size_t size,
                      struct err *err)
{
    if (!fd_read_at(from_fd, bytes, size, offset)) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the database cannot be read");
    }
    return fd_write_at(into_fd, bytes, size, offset) ||
           err_set_errno(err, ERR_UNAVAILABLE, errno, "the copy cannot be written");
}

static bool copy_file(int from_fd, int into_fd, uint64_t size, struct digest_stream *digest,
                      struct cancel *cancel, struct err *err)
{
    char *bytes = mem_alloc(COPY_STEP_BYTES);
    bool good = true;
    for (uint64_t offset = 0; good && offset < size; offset += COPY_STEP_BYTES) {
        size_t step = size - offset < COPY_STEP_BYTES ? (size_t)(size - offset) : COPY_STEP_BYTES;
        good = cancel_check(cancel, err) && copy_step(from_fd, into_fd, offset, bytes, step, err);
        if (good) {
            digest_stream_add(digest, str_make(bytes, step));
        }
    }
    mem_free(bytes);
    return good;
}

static bool copy_and_sum(int from_fd, int into_fd, struct cancel *cancel,
                         struct database_copy *ret_copy, struct err *err)
{
    struct stat status;
    if (fstat(from_fd, &status) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the database cannot be read");
    }
    struct digest_stream *digest = digest_stream_create();
    ret_copy->size_bytes = (uint64_t)status.st_size;
    bool good = copy_file(from_fd, into_fd, ret_copy->size_bytes, digest, cancel, err);
    if (good) {
        struct sha256 sum = digest_stream_end(digest);
        digest_hex(sum.bytes, sizeof(sum.bytes), ret_copy->sha256);
    }
    digest_stream_destroy(digest);
    return good;
}

/* ---- backup ---- */

/* A reader that began before the last change can be in the way for a moment. */
static bool checkpoint(struct database *database, struct cancel *cancel, struct err *err)
{
    struct engine_database_request request = {
        .request = {.kind = WORKER_CHECKPOINT, .role = WORKER_ROLE_ADMIN},
        .fds = {-1, -1},
    };
    struct engine_database_outcome outcome;
    while (!engine_database_run(database->engine, &request, cancel, &outcome, err)) {
        bool in_the_way = outcome.done.fault == WORKER_FAULT_CONFLICT;
        if (!in_the_way || !cancel_wait(cancel, CHECKPOINT_PAUSE_MS, err)) {
            return false;
        }
    }
    return true;
}

/* As a writer: nobody else changes anything, and all that was committed is in the main file once
 * there was a checkpoint. */
static bool copy_out(struct database *database, int into_fd, struct cancel *cancel,
                     struct database_copy *ret_copy, struct err *err)
{
    struct databases *databases = database->owner;
    int64_t retry_ms;
    lock_take(&databases->lock);
    bool good = database_enter(database, USE_WRITE, cancel, &retry_ms, err);
    lock_release(&databases->lock);
    if (!good) {
        return false;
    }
    good = checkpoint(database, cancel, err) &&
           copy_and_sum(engine_database_file(database->engine), into_fd, cancel, ret_copy, err);
    lock_take(&databases->lock);
    database_leave(database, USE_WRITE);
    lock_release(&databases->lock);
    return good;
}

bool databases_backup(struct databases *databases, struct str name, const struct database_place *to,
                      struct cancel *cancel, struct database_copy *ret_copy, struct err *err)
{
    struct database *database = database_find(databases, name, err);
    CLEANUP(fd_close)
    int spool_fd = database == NULL ? -1 : fd_temporary(databases->options.spool_folder, err);
    if (spool_fd < 0 || !copy_out(database, spool_fd, cancel, ret_copy, err)) {
        return false;
    }
    struct store_source source = {.fd = spool_fd, .size = ret_copy->size_bytes};
    struct store_put_options options = {.create_only = true};
    struct store_object object;
    return store_put(to->store, to->key, &source, &options, cancel, &object, err);
}

/* ---- restore ---- */

bool databases_have_room(const struct databases *databases, int fd, uint64_t size, struct err *err)
{
    const struct databases_options *options = &databases->options;
    struct statvfs status;
    if (size > options->file_bytes_max) {
        return err_set(err, ERR_TOO_LARGE,
                       "the object has %" PRIu64 " bytes; EIDER_DATABASE_FILE_MAX allows %" PRIu64,
                       size, options->file_bytes_max);
    }
    if (fstatvfs(fd, &status) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the disk cannot be looked at");
    }
    uint64_t left = (uint64_t)status.f_bavail * status.f_frsize;
    return (left >= size && left - size >= options->disk_free_min) ||
           err_set(err, ERR_UNAVAILABLE,
                   "the object has %" PRIu64 " bytes, for which the server's disk has no room",
                   size);
}

static bool sum_file(int fd, uint64_t size, struct database_copy *ret_copy, struct err *err)
{
    struct sha256 sum;
    if (!digest_sha256_fd(fd, size, &sum, err)) {
        return false;
    }
    ret_copy->size_bytes = size;
    digest_hex(sum.bytes, sizeof(sum.bytes), ret_copy->sha256);
    return true;
}

/* The whole object into a new file beside the database's. */
static bool fetch(struct database *database, const struct database_place *from, const char *name,
                  struct cancel *cancel, struct database_copy *ret_copy, struct err *err)
{
    struct store_object object;
    if (!store_head(from->store, from->key, cancel, &object, err)) {
        return false;
    }
    CLEANUP(fd_close)
    int fd = openat(database->folder_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "the copy cannot be written");
    }
    return databases_have_room(database->owner, fd, object.size, err) &&
           store_get_range(from->store, from->key, object.etag, 0, object.size, fd, 0, cancel,
                           err) &&
           sum_file(fd, object.size, ret_copy, err) &&
           (fd_sync(fd) ||
            err_set_errno(err, ERR_UNAVAILABLE, errno, "the copy cannot be written"));
}

/* Opens it once: what is no database, or a damaged one, is refused while the old one is still
 * there. */
static bool try_opening(struct database *database, const char *name, struct cancel *cancel,
                        struct err *err)
{
    const struct databases_options *options = &database->owner->options;
    struct engine_database_options opening = {
        .folder_fd = database->folder_fd,
        .name = name,
        .temp_fd = database->temp_fd,
        .memory_bytes = options->memory_bytes,
        .file_bytes_max = options->file_bytes_max,
        .temp_bytes_max = options->temp_bytes_max,
        .threads = options->threads,
        .slots = 1,
        .read_only = true,
    };
    struct engine_database *engine;
    if (!engine_database_open(options->engine, &opening, cancel, &engine, err)) {
        if (err->kind == ERR_CORRUPT) {
            (void)err_set(err, ERR_UNPROCESSABLE, "the backup is no database, or is damaged");
        }
        return false;
    }
    return engine_database_close(engine, clock_now_ms() + TRY_CLOSE_MS, err);
}

static bool exchange(struct database *database, const char *name, struct cancel *cancel,
                     struct err *err)
{
    struct databases *databases = database->owner;
    lock_take(&databases->lock);
    bool good = database_enter_alone(database, cancel, err);
    if (good) {
        lock_release(&databases->lock);
        good = database_replace(database, name, err);
        lock_take(&databases->lock);
        database_leave_alone(database);
        if (good) {
            breaker_reset(database->breaker);
        }
    }
    lock_release(&databases->lock);
    return good;
}

bool databases_restore(struct databases *databases, struct str name,
                       const struct database_place *from, struct cancel *cancel,
                       struct database_copy *ret_copy, struct err *err)
{
    struct database *database = database_find(databases, name, err);
    if (database == NULL || !database_reach(database, err)) {
        return false;
    }
    char random[DATABASE_RESTORE_DIGITS / 2];
    char hex[2 * sizeof(random) + 1];
    char new_name[FILE_NAME_SIZE];
    digest_random(random, sizeof(random));
    digest_hex(random, sizeof(random), hex);
    (void)snprintf(new_name, sizeof(new_name), DATABASE_RESTORE_PREFIX "%s", hex);
    bool good = fetch(database, from, new_name, cancel, ret_copy, err) &&
                try_opening(database, new_name, cancel, err) &&
                exchange(database, new_name, cancel, err);
    if (!good) {
        (void)unlinkat(database->folder_fd, new_name, 0);
    }
    return good;
}
