#include "engine_job.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    ANSWER_SIZE_MAX = 4096
};

static void free_names(struct str **names)
{
    mem_free(*names);
}

static bool damaged(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the worker sent a damaged message");
}

static bool send_answer(struct engine_job *job, uint32_t type, struct buf *payload, int fd,
                        struct err *err)
{
    bool good =
        !buf_failed(payload)
            ? worker_send(job->socket_fd, type, buf_str(payload), &fd, fd >= 0, err)
            : err_set(err, ERR_TOO_LARGE, "the tables of the statement have too many files");
    buf_finish(payload);
    return good;
}

/* A store's failure is kept: the worker sees a text, the client gets the status that belongs to it.
 */
static void keep_store_error(struct engine_job *job, const struct err *problem)
{
    if (job->store_err.kind == ERR_NONE) {
        job->store_err = *problem;
    }
}

static bool resolve_names(struct engine_job *job, const struct engine_names *names,
                          struct buf *tables, uint64_t *ret_count, struct err *err)
{
    *ret_count = 0;
    if (job->request->resolve == NULL) {
        return true;
    }
    return job->request->resolve(job->request->context, job, names, tables, ret_count, err);
}

bool broker_resolve(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t question = worker_get_u32(&cursor);
    bool all = worker_get_u32(&cursor) != 0;
    size_t count = worker_get_count(&cursor, sizeof(uint64_t));
    CLEANUP(free_names) struct str *list = mem_alloc_array(count, sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        list[i] = worker_get_text(&cursor);
    }
    if (!worker_get_end(&cursor)) {
        return damaged(err);
    }
    struct engine_names names = {.names = list, .count = count, .all = all};
    struct buf tables;
    buf_init(&tables, WORKER_FRAME_SIZE_MAX);
    uint64_t tables_count = 0;
    struct err problem = {.kind = ERR_NONE};
    if (resolve_names(job, &names, &tables, &tables_count, &problem)) {
        problem.kind = ERR_NONE;
    } else {
        keep_store_error(job, &problem);
        buf_reset(&tables);
        tables_count = 0;
    }
    struct buf answer;
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    worker_put_u32(&answer, question);
    worker_put_u32(&answer, (uint32_t)problem.kind);
    worker_put_text(&answer, problem.kind == ERR_NONE ? STR("") : str_of(problem.message));
    worker_put_u64(&answer, tables_count);
    buf_append(&answer, buf_str(&tables));
    answer.failed = answer.failed || buf_failed(&tables);
    buf_finish(&tables);
    return send_answer(job, WORKER_TABLES, &answer, -1, err);
}

void engine_declare(struct engine_job *job, struct str path, struct store *store, struct str key,
                    const struct store_object *object)
{
    struct job_object *declared = mem_alloc(sizeof(*declared));
    *declared = (struct job_object){
        .path = str_make(mem_copy_bytes(path.ptr, path.len), path.len),
        .store = store,
        .key = str_make(mem_copy_bytes(key.ptr, key.len), key.len),
        .info = *object,
        .fd = -1,
        .next = job->objects,
    };
    job->objects = declared;
    map_set(&job->objects_by_path, declared->path, declared);
}

static bool open_sparse(struct engine_job *job, struct job_object *object, struct err *err)
{
    object->fd = fd_temporary(job->spool_folder, err);
    if (object->fd < 0) {
        return false;
    }
    if (ftruncate(object->fd, (off_t)object->info.size) != 0) {
        int problem = errno;
        fd_close(&object->fd);
        return err_set_errno(err, ERR_UNAVAILABLE, problem, "the server has no room for an object");
    }
    return true;
}

/* A file of the server's own folder is handed on and forgotten: a statement may read thousands. */
static void forget_direct(struct job_object *object)
{
    if (object->complete) {
        fd_close(&object->fd);
    }
}

static bool open_object(struct engine_job *job, struct job_object *object, struct err *err)
{
    if (object->fd >= 0) {
        return true;
    }
    struct store_object now;
    if (!store_open_direct(object->store, object->key, &object->fd, &now, err)) {
        return false;
    }
    if (object->fd < 0) {
        return open_sparse(job, object, err);
    }
    object->complete = true;
    if (strcmp(now.etag, object->info.etag) != 0) {
        fd_close(&object->fd);
        return err_set(err, ERR_CONFLICT, "the object changed while it was read");
    }
    return true;
}

/* A second description of the same file that cannot write: what a worker gets. */
static int reopen_read_only(int fd)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

bool broker_open(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t question = worker_get_u32(&cursor);
    struct str path = worker_get_text(&cursor);
    if (!worker_get_end(&cursor)) {
        return damaged(err);
    }
    struct err problem = {.kind = ERR_NONE};
    struct job_object *object = map_find(&job->objects_by_path, path);
    if (object == NULL) {
        (void)err_set(&problem, ERR_INVALID,
                      "the statement may read the declared tables only, not '%.*s'",
                      STR_ARG(str_first(path, 200)));
    } else if (!open_object(job, object, &problem)) {
        keep_store_error(job, &problem);
    }
    bool opened = problem.kind == ERR_NONE;
    int fd = opened ? reopen_read_only(object->fd) : -1;
    if (opened && fd < 0) {
        (void)err_set_errno(&problem, ERR_UNAVAILABLE, errno, "the server has too many open files");
    }
    struct buf answer;
    buf_init(&answer, ANSWER_SIZE_MAX);
    worker_put_u32(&answer, question);
    worker_put_u32(&answer, (uint32_t)problem.kind);
    worker_put_u64(&answer, fd >= 0 ? object->info.size : 0);
    worker_put_u32(&answer, fd >= 0 && object->complete);
    worker_put_text(&answer, problem.kind == ERR_NONE ? STR("") : str_of(problem.message));
    bool good = send_answer(job, WORKER_OPENED, &answer, fd, err);
    fd_close(&fd);
    if (object != NULL) {
        forget_direct(object);
    }
    return good;
}

static bool answer_fetch(struct engine_job *job, uint32_t question, const struct err *problem,
                         struct err *err)
{
    struct buf answer;
    buf_init(&answer, ANSWER_SIZE_MAX);
    worker_put_u32(&answer, question);
    worker_put_u32(&answer, (uint32_t)problem->kind);
    worker_put_text(&answer, problem->kind == ERR_NONE ? STR("") : str_of(problem->message));
    return send_answer(job, WORKER_FETCHED, &answer, -1, err);
}

bool broker_fetch(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t question = worker_get_u32(&cursor);
    uint64_t offset = worker_get_u64(&cursor);
    uint64_t size = worker_get_u64(&cursor);
    struct str path = worker_get_text(&cursor);
    struct job_object *object = map_find(&job->objects_by_path, path);
    if (!worker_get_end(&cursor) || object == NULL || object->fd < 0 || object->complete ||
        size == 0 || offset > object->info.size || size > object->info.size - offset) {
        return damaged(err);
    }
    struct fetch *fetch = mem_alloc(sizeof(*fetch));
    *fetch = (struct fetch){
        .question = question,
        .store = object->store,
        .key = object->key,
        .etag = object->info.etag,
        .offset = offset,
        .size = size,
        .into_fd = object->fd,
    };
    fetch_queue_take(&job->fetches, fetch);
    return true;
}

bool broker_answer_fetches(struct engine_job *job, struct err *err)
{
    struct fetch *fetch;
    bool good = true;
    while (good && (fetch = fetch_queue_next(&job->fetches)) != NULL) {
        struct err problem = {.kind = ERR_NONE};
        if (fetch->good) {
            job->read_bytes += fetch->size;
        } else {
            problem = fetch->err;
            keep_store_error(job, &problem);
        }
        good = answer_fetch(job, fetch->question, &problem, err);
        mem_free(fetch);
    }
    return good;
}

bool broker_schema(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct str path = worker_get_text(&cursor);
    struct worker_schema schema = {0};
    bool good = worker_get_schema(&cursor, &schema) && worker_get_end(&cursor) &&
                map_find(&job->objects_by_path, path) != NULL;
    if (good && job->request->schema != NULL) {
        job->request->schema(job->request->context, path, &schema);
    }
    worker_schema_finish(&schema);
    return good || damaged(err);
}

void broker_finish(struct engine_job *job)
{
    map_finish(&job->objects_by_path);
    while (job->objects != NULL) {
        struct job_object *object = job->objects;
        job->objects = object->next;
        fd_close(&object->fd);
        mem_free((char *)(uintptr_t)object->path.ptr);
        mem_free((char *)(uintptr_t)object->key.ptr);
        mem_free(object);
    }
}
