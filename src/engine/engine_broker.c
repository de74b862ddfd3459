#include "engine_job.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    ANSWER_SIZE_MAX = 4096,
    SPOOL_ALIGNMENT = 4096,
    FETCHES_OPEN_MAX = 64, /* the worker's threads wait for theirs, so it never has many */
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
    bool good = !buf_failed(payload) ? worker_send(job->socket_fd, type, buf_str(payload), &fd,
                                                   fd >= 0, WORKER_ANSWER_SEND_MS, err)
                                     : err_set(err, ERR_TOO_LARGE,
                                               "the tables of the statement have too many files");
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
    if (!worker_get_end(&cursor) || job->resolved) {
        return damaged(err);
    }
    job->resolved = true;
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

bool engine_is_catalog_name(struct str name)
{
    return str_starts_nocase(name, STR("pg_")) || str_starts_nocase(name, STR("duckdb_")) ||
           str_starts_nocase(name, STR("sqlite_")) || str_starts_nocase(name, STR("pragma_"));
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
        .next = job->objects,
    };
    job->objects = declared;
    map_set(&job->objects_by_path, declared->path, declared);
}

/* A second description of the same file that cannot write: what a worker gets. */
static int reopen_read_only(int fd, struct err *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reopened = open(path, O_RDONLY | O_CLOEXEC);
    if (reopened < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
    }
    return reopened;
}

/* Gives the object a place in the job's spool file, a sparse one: what is never fetched takes no
 * room. */
static bool place_object(struct engine_job *job, struct job_object *object, struct err *err)
{
    if (object->spooled) {
        return true;
    }
    if (object->info.size > (uint64_t)INT64_MAX / 2 - job->spool_size) {
        return err_set(err, ERR_UNPROCESSABLE, "the statement's objects are too large");
    }
    if (job->spool_fd < 0) {
        job->spool_fd = fd_temporary(job->spool_folder, err);
    }
    if (job->spool_fd < 0) {
        return false;
    }
    object->spooled = true;
    object->spool_offset = job->spool_size;
    job->spool_size +=
        (object->info.size + SPOOL_ALIGNMENT - 1) / SPOOL_ALIGNMENT * SPOOL_ALIGNMENT;
    return true;
}

/* A descriptor to read the object: of the file itself, where the store is a folder
 * (*ret_complete), or of the spool file. The server keeps none per object: a statement may read
 * thousands. */
static int open_object(struct engine_job *job, struct job_object *object, bool *ret_complete,
                       struct err *err)
{
    CLEANUP(fd_close) int direct_fd = -1;
    struct store_object now;
    if (!store_open_direct(object->store, object->key, &direct_fd, &now, err)) {
        return -1;
    }
    *ret_complete = direct_fd >= 0;
    if (direct_fd < 0) {
        return place_object(job, object, err) ? reopen_read_only(job->spool_fd, err) : -1;
    }
    if (strcmp(now.etag, object->info.etag) != 0) {
        (void)err_set(err, ERR_CONFLICT, "the object changed while it was read");
        return -1;
    }
    return reopen_read_only(direct_fd, err);
}

bool broker_open(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t question = worker_get_u32(&cursor);
    struct str path = worker_get_text(&cursor);
    if (!worker_get_end(&cursor)) {
        return damaged(err);
    }
    struct err problem;
    struct job_object *object = map_find(&job->objects_by_path, path);
    bool complete = false;
    int fd = object == NULL ? -1 : open_object(job, object, &complete, &problem);
    if (object == NULL) {
        (void)err_set(&problem, ERR_INVALID,
                      "the statement may read the declared tables only, not '%.*s'",
                      STR_ARG(str_first(path, 200)));
    } else if (fd < 0) {
        keep_store_error(job, &problem);
    }
    struct buf answer;
    buf_init(&answer, ANSWER_SIZE_MAX);
    worker_put_u32(&answer, question);
    worker_put_u32(&answer, (uint32_t)(fd >= 0 ? ERR_NONE : problem.kind));
    worker_put_u64(&answer, fd >= 0 ? object->info.size : 0);
    worker_put_u32(&answer, complete);
    worker_put_u64(&answer, fd >= 0 && !complete ? object->spool_offset : 0);
    worker_put_text(&answer, fd >= 0 ? STR("") : str_of(problem.message));
    bool good = send_answer(job, WORKER_OPENED, &answer, fd, err);
    fd_close(&fd);
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
    if (!worker_get_end(&cursor) || object == NULL || !object->spooled || size == 0 ||
        size > WORKER_FETCH_SIZE_MAX || job->fetches_open >= FETCHES_OPEN_MAX ||
        offset > object->info.size || size > object->info.size - offset) {
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
        .into_fd = job->spool_fd,
        .into_offset = object->spool_offset + offset,
    };
    job->fetches_open++;
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
        job->fetches_open--;
        good = answer_fetch(job, fetch->question, &problem, err);
        mem_free(fetch);
    }
    return good;
}

static bool is_type_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* The words that may follow another one outside brackets, as in TIMESTAMP WITH TIME ZONE. */
static bool is_later_word(struct str word)
{
    return str_equal(word, STR("WITH")) || str_equal(word, STR("TIME")) ||
           str_equal(word, STR("ZONE")) || str_equal(word, STR("LOCAL"));
}

static size_t quoted_size(struct str text)
{
    for (size_t i = 1; i < text.len; i++) {
        if (text.ptr[i] == text.ptr[0]) {
            if (i + 1 == text.len || text.ptr[i + 1] != text.ptr[0]) {
                return i + 1;
            }
            i++;
        }
    }
    return 0;
}

/* A worker's word for a type becomes part of SQL in other workers: one type, nothing after it. */
static bool is_type_text(struct str type)
{
    unsigned depth = 0;
    unsigned words = 0;
    while (type.len > 0) {
        char c = type.ptr[0];
        size_t size = 1;
        if (is_type_word(c)) {
            while (size < type.len && is_type_word(type.ptr[size])) {
                size++;
            }
            if (depth == 0 && words++ > 0 && !is_later_word(str_first(type, size))) {
                return false;
            }
        } else if (c == '"' || c == '\'') {
            size = depth == 0 ? 0 : quoted_size(type);
        } else if (c == '(' || c == '[') {
            depth++;
        } else if (c == ')' || c == ']') {
            size = depth == 0 ? 0 : 1;
            depth -= depth > 0;
        } else if (c != ' ' && (c != ',' || depth == 0)) {
            size = 0;
        }
        if (size == 0) {
            return false;
        }
        type = str_from(type, size);
    }
    return depth == 0 && words > 0;
}

static bool has_good_types(const struct worker_schema *schema)
{
    for (size_t i = 0; i < schema->columns_count; i++) {
        if (!is_type_text(schema->columns[i].type)) {
            return false;
        }
    }
    return true;
}

bool broker_schema(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct str path = worker_get_text(&cursor);
    struct worker_schema schema = {0};
    bool good = worker_get_schema(&cursor, &schema) && worker_get_end(&cursor) &&
                map_find(&job->objects_by_path, path) != NULL;
    /* An exotic type is not remembered; each worker then reads the file's own. */
    if (good && job->request->schema != NULL && has_good_types(&schema)) {
        job->request->schema(job->request->context, path, &schema);
    }
    worker_schema_finish(&schema);
    return good || damaged(err);
}

void broker_finish(struct engine_job *job)
{
    map_finish(&job->objects_by_path);
    fd_close(&job->spool_fd);
    while (job->objects != NULL) {
        struct job_object *object = job->objects;
        job->objects = object->next;
        mem_free((char *)(uintptr_t)object->path.ptr);
        mem_free((char *)(uintptr_t)object->key.ptr);
        mem_free(object);
    }
}
