/* The part of the broker that lets a worker read objects: a descriptor for each, and the blocks
 * that it finds missing. */
#include "engine_job.h"
#include "fd.h"
#include "mem.h"

#include <unistd.h>

enum {
    ANSWER_SIZE_MAX = 4096,
    QUESTIONS_MAX = 64, /* the worker's threads wait for theirs, so it never has many */
    PART_BLOCKS = 16,   /* of one ranged GET: long enough to outweigh its latency */
    AHEAD_BYTES_MAX = 32 << 20,
};

static_assert((int)WORKER_BLOCK_SIZE == (int)STORE_CACHE_BLOCK_SIZE, "one size of block");
static_assert((int)WORKER_BITS_SKIP == (int)STORE_CACHE_BITS_SKIP, "one place for the bits");

/* ---- questions ---- */

static struct job_question *ask(struct engine_job *job, uint32_t id, bool opening)
{
    struct job_question *question = mem_alloc(sizeof(*question));
    *question = (struct job_question){.id = id, .opening = opening, .next = job->questions};
    job->questions = question;
    job->questions_count++;
    return question;
}

static void forget(struct engine_job *job, struct job_question *question)
{
    struct job_question **link = &job->questions;
    while (*link != question) {
        link = &(*link)->next;
    }
    *link = question->next;
    job->questions_count--;
    mem_free(question);
}

static void start_fetch(struct engine_job *job, struct job_object *object,
                        struct job_question *question, uint64_t first, uint64_t count)
{
    struct fetch *fetch = mem_alloc(sizeof(*fetch));
    *fetch = (struct fetch){
        .question = question,
        .object = object,
        .cached = object->cached,
        .source = {.store = object->store, .key = object->key, .object = &object->info},
        .proving = question != NULL && question->opening,
        .first = first,
        .count = count,
    };
    if (question != NULL) {
        question->fetches++;
    } else {
        job->ahead_bytes += count * WORKER_BLOCK_SIZE;
    }
    fetch_queue_take(&job->fetches, fetch);
}

/* ---- OPEN ---- */

/* What a worker needs to read an object. */
struct opened {
    int fd;
    bool complete;
    uint64_t data_offset;
    uint64_t bits_offset;
};

static bool open_window(const struct engine_window *window, struct opened *ret_opened,
                        struct err *err)
{
    *ret_opened = (struct opened){.fd = fd_reopen_read_only(window->fd, err),
                                  .complete = true,
                                  .data_offset = window->offset};
    return ret_opened->fd >= 0;
}

/* The file itself, where the store is a folder; ret_opened->fd stays -1 where it is not. */
static bool open_in_place(const struct job_object *object, struct opened *ret_opened,
                          struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    struct store_object now;
    if (object->store == NULL) {
        return open_window(&object->window, ret_opened, err);
    }
    if (!store_open_direct(object->store, object->key, &fd, &now, err)) {
        return false;
    }
    if (fd < 0) {
        return true;
    }
    if (strcmp(now.etag, object->info.etag) != 0) {
        return err_set(err, ERR_CONFLICT, "the object changed while it was read");
    }
    *ret_opened = (struct opened){.fd = fd_reopen_read_only(fd, err), .complete = true};
    return ret_opened->fd >= 0;
}

static bool open_cached(const struct job_object *object, struct opened *ret_opened, struct err *err)
{
    struct store_cache_reader reader;
    if (!store_cache_open_reader(object->cached, &reader, err)) {
        return false;
    }
    *ret_opened = (struct opened){
        .fd = reader.fd, .data_offset = reader.data_offset, .bits_offset = reader.bits_offset};
    return true;
}

static bool hold_cached(struct engine_job *job, struct job_object *object, struct err *err)
{
    const struct store_cache_source source = {
        .store = object->store, .key = object->key, .object = &object->info};
    return object->cached != NULL || store_cache_acquire(job->cache, &source, &object->cached, err);
}

static bool answer_opened(struct engine_job *job, uint32_t id, const struct job_object *object,
                          struct opened *opened, const struct err *problem, struct err *err)
{
    bool good = problem->kind == ERR_NONE;
    struct buf answer;
    buf_init(&answer, ANSWER_SIZE_MAX);
    worker_put_u32(&answer, id);
    worker_put_u32(&answer, (uint32_t)problem->kind);
    worker_put_u64(&answer, good ? object->info.size : 0);
    worker_put_u32(&answer, opened->complete);
    worker_put_u64(&answer, opened->data_offset);
    worker_put_u64(&answer, opened->bits_offset);
    worker_put_text(&answer, good ? STR("") : str_of(problem->message));
    bool sent = broker_send(job, WORKER_OPENED, &answer, opened->fd, err);
    fd_close(&opened->fd);
    return sent;
}

bool broker_open(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t id = worker_get_u32(&cursor);
    struct str path = worker_get_text(&cursor);
    if (!worker_get_end(&cursor) || job->questions_count >= QUESTIONS_MAX) {
        return broker_damaged(err);
    }
    struct err problem = {.kind = ERR_NONE};
    struct opened opened = {.fd = -1};
    struct job_object *object = map_find(&job->objects_by_path, path);
    if (object == NULL) {
        (void)err_set(&problem, ERR_INVALID,
                      "the statement may read the declared tables only, not '%.*s'",
                      STR_ARG(str_first(path, 200)));
        return answer_opened(job, id, object, &opened, &problem, err);
    }
    bool good = open_in_place(object, &opened, &problem);
    if (good && opened.fd < 0) {
        good = hold_cached(job, object, &problem);
        if (good && !object->proven) {
            start_fetch(job, object, ask(job, id, true), 0, 0);
            return true;
        }
        good = good && open_cached(object, &opened, &problem);
    }
    if (!good) {
        broker_keep_error(job, &problem);
    }
    return answer_opened(job, id, object, &opened, &problem, err);
}

/* ---- FETCH and AHEAD ---- */

struct wanted {
    struct job_object *object;
    uint64_t first;
    uint64_t end;
};

/* The rest of the payload of both frames. */
static bool get_wanted(struct engine_job *job, struct worker_cursor *cursor,
                       struct wanted *ret_wanted)
{
    uint64_t first = worker_get_u64(cursor);
    uint64_t count = worker_get_u64(cursor);
    struct job_object *object = map_find(&job->objects_by_path, worker_get_text(cursor));
    if (!worker_get_end(cursor) || object == NULL || object->cached == NULL || !object->proven) {
        return false;
    }
    uint64_t blocks = (object->info.size + WORKER_BLOCK_SIZE - 1) / WORKER_BLOCK_SIZE;
    *ret_wanted = (struct wanted){.object = object, .first = first, .end = first + count};
    return count > 0 && count <= WORKER_FETCH_SIZE_MAX / WORKER_BLOCK_SIZE && first < blocks &&
           count <= blocks - first;
}

static bool answer_fetched(struct engine_job *job, uint32_t id, const struct err *problem,
                           struct err *err)
{
    struct buf answer;
    buf_init(&answer, ANSWER_SIZE_MAX);
    worker_put_u32(&answer, id);
    worker_put_u32(&answer, (uint32_t)problem->kind);
    worker_put_text(&answer, problem->kind == ERR_NONE ? STR("") : str_of(problem->message));
    return broker_send(job, WORKER_FETCHED, &answer, -1, err);
}

bool broker_fetch(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t id = worker_get_u32(&cursor);
    struct wanted wanted;
    if (!get_wanted(job, &cursor, &wanted) || job->questions_count >= QUESTIONS_MAX) {
        return broker_damaged(err);
    }
    struct job_question *question = ask(job, id, false);
    struct job_object *object = wanted.object;
    uint64_t count;
    while (
        store_cache_find_missing(object->cached, &wanted.first, wanted.end, PART_BLOCKS, &count)) {
        start_fetch(job, object, question, wanted.first, count);
        wanted.first += count;
    }
    if (question->fetches > 0) {
        return true;
    }
    struct err none = {.kind = ERR_NONE}; /* somebody else has been quicker */
    forget(job, question);
    return answer_fetched(job, id, &none, err);
}

/* What is too much is left out: it is asked for again when it is wanted. */
bool broker_ahead(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct wanted wanted;
    if (!get_wanted(job, &cursor, &wanted)) {
        return broker_damaged(err);
    }
    struct job_object *object = wanted.object;
    uint64_t count;
    while (
        job->ahead_bytes < AHEAD_BYTES_MAX &&
        store_cache_find_missing(object->cached, &wanted.first, wanted.end, PART_BLOCKS, &count)) {
        start_fetch(job, object, NULL, wanted.first, count);
        wanted.first += count;
    }
    return true;
}

static bool answer_question(struct engine_job *job, struct job_question *question,
                            struct job_object *object, struct err *err)
{
    struct err problem = question->problem;
    uint32_t id = question->id;
    bool opening = question->opening;
    forget(job, question);
    struct opened opened = {.fd = -1};
    if (opening && problem.kind == ERR_NONE) {
        object->proven = true;
        (void)open_cached(object, &opened, &problem);
    }
    if (problem.kind != ERR_NONE) {
        broker_keep_error(job, &problem);
    }
    return opening ? answer_opened(job, id, object, &opened, &problem, err)
                   : answer_fetched(job, id, &problem, err);
}

bool broker_answer_fetches(struct engine_job *job, struct err *err)
{
    struct fetch *fetch;
    bool good = true;
    while (good && (fetch = fetch_queue_next(&job->fetches)) != NULL) {
        struct job_question *question = fetch->question;
        job->fetched.blocks += fetch->fetched.blocks;
        job->fetched.bytes += fetch->fetched.bytes;
        if (question == NULL) {
            job->ahead_bytes -= fetch->count * WORKER_BLOCK_SIZE;
        } else {
            if (!fetch->good && question->problem.kind == ERR_NONE) {
                question->problem = fetch->err;
            }
            question->fetches--;
            good = question->fetches > 0 || answer_question(job, question, fetch->object, err);
        }
        mem_free(fetch);
    }
    return good;
}

/* ---- READS ---- */

/* A worker's word, good enough to count with: what it read and nobody fetched for it was there. */
bool broker_reads(struct engine_job *job, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint64_t blocks = worker_get_u64(&cursor);
    uint64_t bytes = worker_get_u64(&cursor);
    if (!worker_get_end(&cursor) || job->counted) {
        return broker_damaged(err);
    }
    job->counted = true;
    if (blocks > job->fetched.blocks && bytes > job->fetched.bytes) {
        store_cache_note_hits(job->cache, blocks - job->fetched.blocks, bytes - job->fetched.bytes);
    }
    return true;
}
