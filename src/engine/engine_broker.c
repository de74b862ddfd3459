#include "engine_job.h"
#include "mem.h"

static void free_names(struct str **names)
{
    mem_free(*names);
}

bool broker_damaged(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the worker sent a damaged message");
}

bool broker_send(struct engine_job *job, uint32_t type, struct buf *payload, int fd,
                 struct err *err)
{
    bool good = !buf_failed(payload) ? worker_send(job->socket_fd, type, buf_str(payload), &fd,
                                                   fd >= 0, WORKER_ANSWER_SEND_MS, err)
                                     : err_set(err, ERR_TOO_LARGE,
                                               "the tables of the statement have too many files");
    buf_finish(payload);
    return good;
}

void broker_keep_error(struct engine_job *job, const struct err *problem)
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
        return broker_damaged(err);
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
        broker_keep_error(job, &problem);
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
    return broker_send(job, WORKER_TABLES, &answer, -1, err);
}

void engine_declare(struct engine_job *job, struct str path, const struct engine_object *object)
{
    struct job_object *declared = mem_alloc(sizeof(*declared));
    *declared = (struct job_object){
        .path = str_make(mem_copy_bytes(path.ptr, path.len), path.len),
        .store = object->store,
        .key = str_make(mem_copy_bytes(object->key.ptr, object->key.len), object->key.len),
        .info = *object->info,
        .proven = object->proven,
        .next = job->objects,
    };
    job->objects = declared;
    map_set(&job->objects_by_path, declared->path, declared);
}

void engine_declare_window(struct engine_job *job, struct str path,
                           const struct engine_window *window)
{
    const struct store_object info = {.size = window->size};
    engine_declare(job, path, &(struct engine_object){.info = &info, .proven = true});
    job->objects->window = *window;
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
    return good || broker_damaged(err);
}

/* A worker that has told the columns of its body sends their values, and tells them once. */
bool broker_columns(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_schema schema = {0};
    bool good = worker_get_schema(&cursor, &schema) && worker_get_end(&cursor) &&
                has_good_types(&schema) && job->request->columns != NULL && !job->described;
    job->described = true;
    good = good ? job->request->columns(job->request->context, &schema, err) : broker_damaged(err);
    worker_schema_finish(&schema);
    return good;
}

bool broker_result(struct engine_job *job, struct str payload, struct err *err)
{
    if (job->request->result == NULL || (job->request->columns != NULL && !job->described)) {
        return err_set(err, ERR_CORRUPT, "the worker sent a result nobody wants");
    }
    return job->request->result(job->request->context, payload, err);
}

void broker_finish(struct engine_job *job)
{
    map_finish(&job->objects_by_path);
    while (job->questions != NULL) {
        struct job_question *question = job->questions;
        job->questions = question->next;
        mem_free(question);
    }
    while (job->objects != NULL) {
        struct job_object *object = job->objects;
        job->objects = object->next;
        store_cache_release(object->cached);
        mem_free((char *)(uintptr_t)object->path.ptr);
        mem_free((char *)(uintptr_t)object->key.ptr);
        mem_free(object);
    }
}
