/* hostile_job.h - jobs of the engine with hostile workers (hostile_worker.h): one engine, a store
 * that has every object and never answers a range, and what a job has seen.
 * Use       scripts and cases as tables, and HOSTILE_MAIN(scripts, cases). There is one declared
 *           object, lake://declared, from RESOLVE on. The script "honest" must be among them. */
#pragma once

#include "clock.h"
#include "engine.h"
#include "hostile_worker.h"
#include "store_internal.h"
#include "test.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    OBJECT_SIZE = 1 << 20,
    DEADLINE_MS = 5000
};

/* ---- a store that has every object, and answers ranges when it is told to ---- */

static inline void store_nothing(struct store *store)
{
    (void)store;
}

static inline bool open_no_file(struct store *store, struct str key, int *ret_fd,
                                struct store_object *ret_object, struct err *err)
{
    (void)store;
    (void)key;
    (void)ret_object;
    (void)err;
    *ret_fd = -1;
    return true;
}

/* Never answers: only the end of the job ends it. */
static inline bool get_range_never(struct store *store, struct str key, const char *if_match,
                                   uint64_t offset, uint64_t size, int into_fd,
                                   uint64_t into_offset, struct cancel *cancel, struct err *err)
{
    (void)store;
    (void)key;
    (void)if_match;
    (void)offset;
    (void)size;
    (void)into_fd;
    (void)into_offset;
    while (cancel_wait(cancel, 60000, err)) {
    }
    return false;
}

static inline void append_name(const struct store *store, struct buf *into)
{
    (void)store;
    buf_append_text(into, "fake");
}

static const struct store_operations operations = {
    .close = store_nothing,
    .append_identity = append_name,
    .open_direct = open_no_file,
    .get_range = get_range_never,
};
static struct store fake_store = {.operations = &operations};

/* ---- one job ---- */

struct job {
    struct engine *engine;
    unsigned resolved;
    unsigned schemas;
    uint64_t result_bytes;
    uint64_t result_bytes_max;
    struct engine_outcome outcome;
    struct err err;
    bool reads; /* wants columns before rows; kept from run to run */
    unsigned columns;
};

static inline bool resolve(void *context, struct engine_job *engine_job,
                           const struct engine_names *names, struct buf *tables,
                           uint64_t *ret_count, struct err *err)
{
    static const struct store_object object = {.size = OBJECT_SIZE, .etag = "\"1\""};
    struct job *job = context;
    (void)names;
    (void)tables;
    (void)err;
    job->resolved++;
    *ret_count = 0;
    const struct engine_object declared = {
        .store = &fake_store,
        .key = STR("declared"),
        .info = &object,
        .proven = true,
    };
    engine_declare(engine_job, STR("lake://declared"), &declared);
    return true;
}

static inline bool take_result(void *context, struct str bytes, struct err *err)
{
    struct job *job = context;
    job->result_bytes += bytes.len;
    return job->result_bytes <= job->result_bytes_max ||
           err_set(err, ERR_CANCELLED, "nobody wants more");
}

static inline void take_schema(void *context, struct str path, const struct worker_schema *schema)
{
    struct job *job = context;
    (void)path;
    (void)schema;
    job->schemas++;
}

static inline bool take_columns(void *context, const struct worker_schema *columns, struct err *err)
{
    struct job *job = context;
    (void)columns;
    (void)err;
    job->columns++;
    return true;
}

static struct store_cache *cache;

static inline struct engine *create_engine(const char *folder, struct err *err)
{
    cache = store_cache_open(folder, 0, err);
    if (cache == NULL) {
        return NULL;
    }
    const struct engine_options options = {
        .cache = cache,
        .memory_total_bytes = 1 << 30,
        .memory_per_job_bytes = 1 << 28,
        .slots = 2,
        .threads_per_job = 1,
        .fetch_threads = 4,
        .program = "/proc/self/exe",
    };
    struct engine *engine = engine_create(&options);
    if (!engine_start(engine, err) || !engine_wait_ready(engine, err)) {
        engine_destroy(engine);
        return NULL;
    }
    return engine;
}

static inline bool run_for(struct job *job, const char *script, int deadline_ms)
{
    struct engine *engine = job->engine;
    bool reads = job->reads;
    *job = (struct job){.engine = engine, .result_bytes_max = 1 << 20, .reads = reads};
    struct engine_request request = {
        .job = {.kind = WORKER_QUERY, .statement = str_of(script)},
        .input_fd = -1,
        .output_fd = -1,
        .resolve = resolve,
        .result = take_result,
        .schema = take_schema,
        .columns = reads ? take_columns : NULL,
        .context = job,
    };
    struct cancel cancel;
    cancel_init(&cancel, clock_now_ms() + deadline_ms);
    bool good = engine_run(engine, &request, &cancel, &job->outcome, &job->err);
    /* A worker that has reported may still be on its way out, and its descriptor with it. */
    uint64_t total_bytes;
    int64_t until_ms = test_now_ms() + 2000;
    while (engine_memory_reserved(engine, &total_bytes) > 0 && test_now_ms() < until_ms) {
        test_pause();
    }
    cancel_finish(&cancel);
    return good;
}

static inline bool run(struct job *job, const char *script)
{
    return run_for(job, script, DEADLINE_MS);
}

static inline unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return count;
}

static inline void be_honest(struct hostile_worker *worker)
{
    hostile_resolve(worker);
    hostile_send(worker, WORKER_RESULT, STR("rows"));
    hostile_outcome(worker, 7);
}

static struct engine *engine;

/* A test ends with it: the server has lost nothing, and the next job is well. */
#define CHECK_WELL(job)                             \
    do {                                            \
        unsigned well_before = open_descriptors();  \
        CHECK_OK(run(job, "honest"), (job)->err);   \
        CHECK_U64((job)->outcome.rows, 7);          \
        CHECK_U64((job)->result_bytes, 4);          \
        CHECK_U64(open_descriptors(), well_before); \
    } while (0)

#define CHECK_ENDS(job, script, expected_kind)      \
    do {                                            \
        unsigned ends_before = open_descriptors();  \
        CHECK(!run(job, script));                   \
        CHECK_U64((job)->err.kind, expected_kind);  \
        CHECK_U64(open_descriptors(), ends_before); \
    } while (0)

static inline int hostile_run_tests(const struct test_case *cases, size_t count, const char *only)
{
    struct err err;
    char folder[] = "/tmp/eider-hostile-XXXXXX";
    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    engine = create_engine(folder, &err);
    if (engine == NULL) {
        (void)fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    int code = test_run(cases, count, only);
    engine_destroy(engine);
    store_cache_close(cache);
    (void)rmdir(folder);
    return code;
}

#define HOSTILE_MAIN(scripts, cases)                                                 \
    int main(int argc, char **argv)                                                  \
    {                                                                                \
        if (argc > 1 && strcmp(argv[1], "zygote") == 0) {                            \
            return hostile_zygote_main(scripts, COUNT_OF(scripts));                  \
        }                                                                            \
        return hostile_run_tests(cases, COUNT_OF(cases), argc > 1 ? argv[1] : NULL); \
    }
