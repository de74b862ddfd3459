/* database_scene.h - a folder with a database in it, and requests for it, for tests of the
 * server's side. The process is a script (fake_database.h).
 * Use       CHECK_SCENE, CHECK_OPENS, run_statement or begin_statement and end_statement; at the
 * end
 *           CHECK_CLOSES, or CHECK_BURIES when the process has ended: both look for leaks. */
#pragma once

#include "engine_database.h"
#include "hostile_job.h"
#include "thread.h"

#include <fcntl.h>
#include <sys/stat.h>

enum {
    SLOTS = 3,
    LONG_MS = 20000 /* longer than any test may take */
};

/* One folder and the database in it. */
struct scene {
    char path[64];
    int folder_fd;
    int temp_fd;
    struct engine_database *database;
    struct err err;
    unsigned before; /* open descriptors */
};

static inline bool open_named(struct scene *scene, const char *name, bool as_read_only,
                              int deadline_ms)
{
    const struct engine_database_options options = {
        .folder_fd = scene->folder_fd,
        .name = name,
        .temp_fd = scene->temp_fd,
        .memory_bytes = 256 << 20,
        .file_bytes_max = 1 << 30,
        .temp_bytes_max = 1 << 20,
        .threads = 1,
        .slots = SLOTS,
        .read_only = as_read_only,
    };
    struct cancel cancel;
    cancel_init(&cancel, clock_now_ms() + deadline_ms);
    bool good = engine_database_open(engine, &options, &cancel, &scene->database, &scene->err);
    cancel_finish(&cancel);
    return good;
}

static inline bool make_scene(struct scene *scene)
{
    *scene = (struct scene){.path = "/tmp/eider-database-XXXXXX", .before = open_descriptors()};
    if (mkdtemp(scene->path) == NULL) {
        return false;
    }
    scene->folder_fd = open(scene->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mkdirat(scene->folder_fd, "spill", 0700) != 0) {
        return false;
    }
    scene->temp_fd = openat(scene->folder_fd, "spill", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return scene->temp_fd >= 0;
}

static inline void remove_scene(struct scene *scene)
{
    DIR *folder = fdopendir(dup(scene->folder_fd));
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        (void)unlinkat(scene->folder_fd, entry->d_name, 0);
    }
    (void)closedir(folder);
    (void)unlinkat(scene->folder_fd, "spill", AT_REMOVEDIR);
    (void)close(scene->temp_fd);
    (void)close(scene->folder_fd);
    (void)rmdir(scene->path);
}

static inline bool close_database(struct scene *scene, int deadline_ms)
{
    return engine_database_close(scene->database, clock_now_ms() + deadline_ms, &scene->err);
}

/* One request, and what has come of it. */
struct seen {
    const char *statement;
    struct scene *scene;
    struct cancel cancel;
    struct engine_database_outcome outcome;
    struct err err;
    bool good;
    unsigned columns;
    uint64_t result_bytes;
    uint64_t result_bytes_max;
    int fds[2];
    int64_t took_ms;
    pthread_t thread;
};

static inline bool see_columns(void *context, const struct worker_schema *columns, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    seen->columns += (unsigned)columns->columns_count;
    return true;
}

static inline bool see_result(void *context, struct str bytes, struct err *err)
{
    struct seen *seen = context;
    seen->result_bytes += bytes.len;
    return seen->result_bytes <= seen->result_bytes_max ||
           err_set(err, ERR_TOO_LARGE, "nobody wants more");
}

static inline void prepare(struct seen *seen, struct scene *scene, const char *statement,
                           int deadline_ms)
{
    *seen = (struct seen){
        .statement = statement, .scene = scene, .result_bytes_max = UINT64_MAX, .fds = {-1, -1}};
    cancel_init(&seen->cancel, clock_now_ms() + deadline_ms);
}

static inline void *run_prepared(void *argument)
{
    struct seen *seen = argument;
    const struct str text = str_of(seen->statement);
    const struct engine_database_request request = {
        .request = {.kind = WORKER_STATEMENTS,
                    .role = WORKER_ROLE_WRITE,
                    .statements = &text,
                    .statements_count = 1},
        .fds = {seen->fds[0], seen->fds[1]},
        .columns = see_columns,
        .result = see_result,
        .context = seen,
    };
    int64_t begun_ms = clock_now_ms();
    seen->good = engine_database_run(seen->scene->database, &request, &seen->cancel, &seen->outcome,
                                     &seen->err);
    seen->took_ms = clock_now_ms() - begun_ms;
    return NULL;
}

static inline bool run_statement(struct seen *seen, struct scene *scene, const char *statement)
{
    prepare(seen, scene, statement, LONG_MS);
    (void)run_prepared(seen);
    cancel_finish(&seen->cancel);
    return seen->good;
}

static inline bool run_until(struct seen *seen, struct scene *scene, const char *statement,
                             int deadline_ms)
{
    prepare(seen, scene, statement, deadline_ms);
    (void)run_prepared(seen);
    cancel_finish(&seen->cancel);
    return seen->good;
}

static inline void begin_statement(struct seen *seen, struct scene *scene, const char *statement)
{
    prepare(seen, scene, statement, LONG_MS);
    seen->thread = thread_start("request", run_prepared, seen);
}

static inline void end_statement(struct seen *seen)
{
    (void)pthread_join(seen->thread, NULL);
    cancel_finish(&seen->cancel);
}

static inline unsigned running(struct scene *scene, unsigned *ret_waiting)
{
    struct engine_database_state state;
    engine_database_state(scene->database, &state);
    *ret_waiting = state.waiting;
    return state.running;
}

#define CHECK_SCENE(scene) CHECK(make_scene(scene))

#define CHECK_OPENS(scene, name) CHECK_OK(open_named(scene, name, false, LONG_MS), (scene)->err)

#define CHECK_CLOSES(scene)                                     \
    do {                                                        \
        CHECK_OK(close_database(scene, LONG_MS), (scene)->err); \
        remove_scene(scene);                                    \
        CHECK_U64(open_descriptors(), (scene)->before);         \
    } while (0)

/* Its process has ended without being told so by a close. */
#define CHECK_BURIES(scene)                                  \
    do {                                                     \
        CHECK(!engine_database_is_alive((scene)->database)); \
        CHECK(!close_database(scene, LONG_MS));              \
        CHECK_U64((scene)->err.kind, ERR_UNAVAILABLE);       \
        remove_scene(scene);                                 \
        CHECK_U64(open_descriptors(), (scene)->before);      \
    } while (0)

#define CHECK_WAITS(scene, running_wanted, waiting_wanted)                        \
    do {                                                                          \
        unsigned waiting_now = 0;                                                 \
        CHECK_WITHIN(LONG_MS, running(scene, &waiting_now) == (running_wanted) && \
                                  waiting_now == (waiting_wanted));               \
    } while (0)
