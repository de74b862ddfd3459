/* The server's side of a database's process, when that process is a script: what it may open, how
 * requests share it, and what is left of them when it is slow, lies or dies. */
#include "engine_database.h"
#include "hostile_job.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum {
    SLOTS = 3,
    LONG_MS = 20000 /* longer than any test may take */
};

/* ---- the other side: a process that serves ---- */

struct fake {
    struct hostile_worker *worker;
    int slots[WORKER_SLOTS_MAX];
    uint64_t sleeping[WORKER_SLOTS_MAX]; /* the request that waits for INTERRUPT there */
};

static void say(int socket_fd, uint32_t type, struct str payload)
{
    struct err err;
    if (!worker_send(socket_fd, type, payload, NULL, 0, -1, &err)) {
        _exit(0);
    }
}

static void say_columns(int slot)
{
    const struct worker_schema_column column = {STR_INIT("a"), STR_INIT("INTEGER")};
    const struct worker_schema schema = {&column, 1};
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_schema(&payload, &schema);
    say(slot, WORKER_COLUMNS, buf_str(&payload));
    buf_finish(&payload);
}

static void say_done(int slot, const struct worker_done *done)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_done(&payload, done);
    say(slot, WORKER_DONE, buf_str(&payload));
    buf_finish(&payload);
}

static void say_outcome(struct hostile_worker *worker, enum err_kind kind, const char *message)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_outcome(
        &payload, &(struct worker_outcome){.kind = (uint32_t)kind, .message = str_of(message)});
    say(worker->socket_fd, WORKER_OUTCOME, buf_str(&payload));
    buf_finish(&payload);
}

static void say_ready(struct hostile_worker *worker)
{
    say(worker->socket_fd, WORKER_READY, STR("\0\0\0\0\0\0\0\0"));
}

static void answer_rows(int slot)
{
    say_columns(slot);
    say(slot, WORKER_RESULT, STR("[[1]]"));
    say_done(slot, &(struct worker_done){.rows = 1, .memory_bytes = 17});
}

/* Larger than a socket takes at once, and than what a slot keeps. */
static void answer_much(int slot)
{
    static char piece[WORKER_RESULT_SIZE_MAX];
    say_columns(slot);
    for (int i = 0; i < 5; i++) {
        say(slot, WORKER_RESULT, str_make(piece, sizeof(piece)));
    }
    say_done(slot, &(struct worker_done){.rows = 5});
}

static void flood(int slot)
{
    static char piece[65536];
    say_columns(slot);
    for (;;) {
        say(slot, WORKER_RESULT, str_make(piece, sizeof(piece)));
    }
}

/* What breaks the order of a request: each of these costs the process. */
static void break_order(int slot, struct str how)
{
    if (str_equal(how, STR("unknown"))) {
        say(slot, 4711, STR("what"));
    } else if (str_equal(how, STR("file"))) {
        say(slot, WORKER_FILE, STR(""));
    } else if (str_equal(how, STR("columns twice"))) {
        say_columns(slot);
        say_columns(slot);
    } else if (str_equal(how, STR("columns of no text"))) {
        say(slot, WORKER_COLUMNS, STR("\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\377\0\0\0\0\0\0\0\0"));
    } else if (str_equal(how, STR("result first"))) {
        say(slot, WORKER_RESULT, STR("[]"));
    } else if (str_equal(how, STR("result too large"))) {
        static char piece[WORKER_RESULT_SIZE_MAX + 1];
        say_columns(slot);
        say(slot, WORKER_RESULT, str_make(piece, sizeof(piece)));
    } else if (str_equal(how, STR("huge"))) {
        uint32_t header[2] = {WORKER_RESULT, UINT32_MAX};
        (void)!send(slot, header, sizeof(header), MSG_NOSIGNAL);
    } else if (str_equal(how, STR("no such error"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_KIND_COUNT});
    } else if (str_equal(how, STR("no such statement"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_INVALID, .failed_at = 2});
    } else if (str_equal(how, STR("short done"))) {
        say(slot, WORKER_DONE, STR("\0\0\0\0"));
    } else if (str_equal(how, STR("after done"))) {
        uint32_t both[8] = {0};
        struct buf payload;
        buf_init(&payload, 4096);
        worker_put_done(&payload, &(struct worker_done){0});
        struct str done = buf_str(&payload);
        struct buf frames;
        buf_init(&frames, 4096);
        worker_put_u32(&frames, WORKER_DONE);
        worker_put_u32(&frames, (uint32_t)done.len);
        buf_append(&frames, done);
        buf_append_bytes(&frames, both, sizeof(both));
        (void)!send(slot, frames.ptr, frames.len, MSG_NOSIGNAL);
    } else if (str_equal(how, STR("progress"))) {
        say(slot, WORKER_PROGRESS, STR("\377\377\377\377\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"));
    } else if (str_equal(how, STR("close"))) {
        (void)shutdown(slot, SHUT_RDWR);
    } else {
        _exit(9);
    }
}

static void answer(struct fake *fake, uint32_t number, const struct worker_request *request)
{
    int slot = fake->slots[number];
    struct str text = request->statements_count == 0 ? STR("") : request->statements[0];
    if (request->kind == WORKER_CHECKPOINT || str_equal(text, STR("quick"))) {
        say_done(slot, &(struct worker_done){0});
    } else if (str_equal(text, STR("rows"))) {
        answer_rows(slot);
    } else if (str_equal(text, STR("much"))) {
        answer_much(slot);
    } else if (str_equal(text, STR("sleep"))) {
        fake->sleeping[number] = request->number;
    } else if (str_equal(text, STR("fail"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_INVALID,
                                             .fault = WORKER_FAULT_STATEMENT,
                                             .failed_at = 1,
                                             .message = STR("no such table")});
    } else if (str_equal(text, STR("fatal"))) {
        say_done(slot, &(struct worker_done){.kind = ERR_INTERNAL,
                                             .fault = WORKER_FAULT_ENGINE,
                                             .message = STR("fatal")});
    } else if (str_equal(text, STR("flood"))) {
        flood(slot);
    } else if (str_equal(text, STR("deaf"))) {
        hostile_stay(fake->worker);
    } else if (str_equal(text, STR("die"))) {
        say_columns(slot);
        _exit(3);
    } else if (str_starts(text, STR("break "))) {
        break_order(slot, str_from(text, 6));
    }
}

/* A request's descriptors: what is in the first is written to the second. */
static void copy_descriptors(const struct worker_frame *frame)
{
    char bytes[64];
    if (frame->fds[0] < 0 || frame->fds[1] < 0) {
        return;
    }
    ssize_t size = pread(frame->fds[0], bytes, sizeof(bytes), 0);
    if (size <= 0 || pwrite(frame->fds[1], bytes, (size_t)size, 0) != size) {
        _exit(5);
    }
}

static void take_request(struct fake *fake, uint32_t number, struct worker_frame *frame)
{
    struct worker_request request;
    struct err err;
    if (!worker_receive(fake->slots[number], frame, &err)) {
        fake->slots[number] = -1;
        return;
    }
    if (frame->type != WORKER_REQUEST ||
        !worker_get_request(buf_str(&frame->payload), &request, &err)) {
        _exit(6);
    }
    copy_descriptors(frame);
    answer(fake, number, &request);
    worker_request_finish(&request);
}

static void take_interrupt(struct fake *fake, struct worker_cursor *cursor)
{
    uint32_t number = worker_get_u32(cursor);
    uint64_t request = worker_get_u64(cursor);
    if (!worker_get_end(cursor) || number >= WORKER_SLOTS_MAX) {
        _exit(7);
    }
    if (fake->sleeping[number] == request) {
        fake->sleeping[number] = 0;
        say_done(fake->slots[number],
                 &(struct worker_done){.kind = ERR_STOPPED, .fault = WORKER_FAULT_STOPPED});
    }
}

/* False after CLOSE. */
static bool take_control(struct fake *fake)
{
    struct worker_frame *frame = &fake->worker->frame;
    struct err err;
    if (!worker_receive(fake->worker->socket_fd, frame, &err)) {
        _exit(0);
    }
    struct worker_cursor cursor = {.rest = buf_str(&frame->payload)};
    if (frame->type == WORKER_SLOT) {
        uint32_t number = worker_get_u32(&cursor);
        if (number >= WORKER_SLOTS_MAX || frame->fds[0] < 0 || fake->slots[number] >= 0) {
            _exit(8);
        }
        fake->slots[number] = frame->fds[0];
        frame->fds[0] = -1;
    } else if (frame->type == WORKER_INTERRUPT) {
        take_interrupt(fake, &cursor);
    }
    return frame->type != WORKER_CLOSE;
}

static void serve_requests(struct hostile_worker *worker)
{
    struct fake fake = {.worker = worker};
    struct worker_frame frame;
    worker_frame_init(&frame);
    for (size_t i = 0; i < COUNT_OF(fake.slots); i++) {
        fake.slots[i] = -1;
    }
    say_ready(worker);
    for (bool open = true; open;) {
        struct pollfd polled[1 + WORKER_SLOTS_MAX] = {{worker->socket_fd, POLLIN, 0}};
        for (size_t i = 0; i < WORKER_SLOTS_MAX; i++) {
            polled[1 + i] = (struct pollfd){fake.slots[i], POLLIN, 0};
        }
        (void)poll(polled, COUNT_OF(polled), -1);
        for (uint32_t i = 0; i < WORKER_SLOTS_MAX; i++) {
            if (polled[1 + i].revents != 0) {
                take_request(&fake, i, &frame);
            }
        }
        open = polled[0].revents == 0 || take_control(&fake);
    }
}

static void serve(struct hostile_worker *worker)
{
    serve_requests(worker);
    say_outcome(worker, ERR_NONE, "");
}

static void serve_and_close_badly(struct hostile_worker *worker)
{
    serve_requests(worker);
    say_outcome(worker, ERR_UNAVAILABLE, "no checkpoint: the disk is full");
}

static void serve_and_stay(struct hostile_worker *worker)
{
    serve_requests(worker);
    (void)pause();
}

/* ---- scripts of openings ---- */

static void be_damaged(struct hostile_worker *worker)
{
    say_outcome(worker, ERR_CORRUPT, "the log is damaged");
}

static void be_silent(struct hostile_worker *worker)
{
    hostile_stay(worker);
}

static void die_at_once(struct hostile_worker *worker)
{
    (void)worker;
    _exit(4);
}

static void claim_success(struct hostile_worker *worker)
{
    say_outcome(worker, ERR_NONE, "");
    hostile_stay(worker);
}

static void be_ready_twice(struct hostile_worker *worker)
{
    say_ready(worker);
    say_ready(worker);
    hostile_stay(worker);
}

static void ask_nonsense(struct hostile_worker *worker)
{
    say(worker->socket_fd, WORKER_FILE, STR("\1\0\0\0\11\0\0\0"));
    hostile_stay(worker);
}

static void announce_much(struct hostile_worker *worker)
{
    uint32_t header[2] = {WORKER_FILE, UINT32_MAX};
    hostile_send_raw(worker, header, sizeof(header));
    hostile_stay(worker);
}

/* ---- scripts of files ---- */

struct filed {
    uint32_t errno_value;
    uint64_t value;
    int fd;
};

static struct filed ask(struct hostile_worker *worker, uint32_t operation, uint32_t flags,
                        const char *name, const char *new_name)
{
    struct err err;
    struct buf payload;
    buf_init(&payload, 65536);
    worker_put_u32(&payload, ++worker->next_question);
    worker_put_u32(&payload, operation);
    worker_put_u32(&payload, flags);
    worker_put_text(&payload, str_of(name));
    worker_put_text(&payload, str_of(new_name));
    say(worker->socket_fd, WORKER_FILE, buf_str(&payload));
    buf_finish(&payload);
    if (!worker_receive(worker->socket_fd, &worker->frame, &err) ||
        worker->frame.type != WORKER_FILED) {
        _exit(10);
    }
    struct worker_cursor cursor = {.rest = buf_str(&worker->frame.payload)};
    if (worker_get_u32(&cursor) != worker->next_question) {
        _exit(11);
    }
    struct filed filed = {.errno_value = worker_get_u32(&cursor)};
    filed.value = worker_get_u64(&cursor);
    filed.fd = worker->frame.fds[0];
    worker->frame.fds[0] = -1;
    return filed;
}

static struct filed ask_open(struct hostile_worker *worker, uint32_t flags, const char *name)
{
    return ask(worker, WORKER_FILE_OPEN, flags, name, "");
}

static uint32_t ask_remove(struct hostile_worker *worker, const char *name)
{
    return ask(worker, WORKER_FILE_REMOVE, 0, name, "").errno_value;
}

static uint64_t ask_exists(struct hostile_worker *worker, const char *name)
{
    struct filed filed = ask(worker, WORKER_FILE_EXISTS, 0, name, "");
    return filed.errno_value == 0 ? filed.value : 99;
}

/* What a script finds wrong is what the opening fails with. */
#define EXPECT(worker, condition)                                  \
    do {                                                           \
        if (!(condition)) {                                        \
            say_outcome(worker, ERR_INTERNAL, "not: " #condition); \
            hostile_stay(worker);                                  \
            _exit(0);                                              \
        }                                                          \
    } while (0)

enum {
    MAKE = WORKER_FILE_WRITE | WORKER_FILE_CREATE
};

static void use_files(struct hostile_worker *worker)
{
    const char *main = "files.duckdb";
    const char *log = "files.duckdb.wal";
    EXPECT(worker, ask_exists(worker, main) == 0);
    EXPECT(worker, ask_open(worker, WORKER_FILE_WRITE, main).errno_value == ENOENT);
    struct filed made = ask_open(worker, MAKE | WORKER_FILE_TRUNCATE, main);
    EXPECT(worker, made.fd >= 0 && write(made.fd, "header", 6) == 6);
    EXPECT(worker, ask_exists(worker, main) == 1);
    EXPECT(worker, ask_open(worker, 0, main).value == 6);
    EXPECT(worker, ask_open(worker, MAKE | WORKER_FILE_TRUNCATE, main).errno_value == EACCES);

    EXPECT(worker, ask_exists(worker, log) == 0);
    EXPECT(worker, ask_open(worker, 0, log).errno_value == ENOENT);
    struct filed logged = ask_open(worker, MAKE, log);
    EXPECT(worker, logged.fd >= 0 && write(logged.fd, "log", 3) == 3);
    EXPECT(worker, ask_open(worker, 0, log).value == 3);
    EXPECT(worker, ask_open(worker, MAKE, "files.duckdb.wal.checkpoint").fd >= 0);
    EXPECT(worker,
           ask(worker, WORKER_FILE_MOVE, 0, "files.duckdb.wal.checkpoint", log).errno_value == 0);
    EXPECT(worker, ask_open(worker, 0, log).value == 0);
    EXPECT(worker, ask_exists(worker, "files.duckdb.wal.checkpoint") == 0);
    EXPECT(worker, ask_open(worker, MAKE, "files.duckdb.wal.recovery").fd >= 0);
    EXPECT(worker, ask_remove(worker, "files.duckdb.wal.recovery") == 0);
    EXPECT(worker, ask_remove(worker, "files.duckdb.wal.recovery") == ENOENT);

    EXPECT(worker, ask_exists(worker, "tmp") == 1);
    EXPECT(worker, ask_open(worker, MAKE, "tmp/duckdb_temp_storage_S32K-0.tmp").fd >= 0);
    EXPECT(worker, ask_exists(worker, "tmp/duckdb_temp_storage_S32K-0.tmp") == 1);
    EXPECT(worker, ask_open(worker, MAKE, "tmp/duckdb_temp_block-7.block").fd >= 0);
    EXPECT(worker, ask_remove(worker, "tmp/duckdb_temp_storage_S32K-0.tmp") == 0);
    EXPECT(worker, ask_exists(worker, "tmp/duckdb_temp_storage_S32K-0.tmp") == 0);
    serve(worker);
}

static const char *const foreign_names[] = {
    "",
    ".",
    "..",
    "/",
    "other.duckdb",
    "other.duckdb.wal",
    "foreign.duckd",
    "foreign.duckdb/",
    "foreign.duckdb.wal/",
    "foreign.duckdb.wal.bak",
    "foreign.duckdb.walx",
    "foreign.duckdb.tmp",
    "./foreign.duckdb",
    "../foreign.duckdb",
    "/etc/passwd",
    "tmp/",
    "tmp/.",
    "tmp/..",
    "tmp/../foreign.duckdb",
    "tmp/a/b",
    "tmp//etc/passwd",
    "tmp/a b",
    "tmp/.hidden",
    "TMP/a",
};

static void use_foreign_files(struct hostile_worker *worker)
{
    const char *log = "foreign.duckdb.wal";
    EXPECT(worker, ask_open(worker, MAKE, log).fd >= 0);
    for (size_t i = 0; i < COUNT_OF(foreign_names); i++) {
        const char *name = foreign_names[i];
        struct filed filed = ask_open(worker, MAKE, name);
        EXPECT(worker, filed.errno_value == EACCES && filed.fd < 0);
        EXPECT(worker, ask_open(worker, 0, name).errno_value == EACCES);
        EXPECT(worker, ask_remove(worker, name) == EACCES);
        EXPECT(worker, ask_exists(worker, name) == 99);
        EXPECT(worker, ask(worker, WORKER_FILE_MOVE, 0, log, name).errno_value == EACCES);
        EXPECT(worker, ask(worker, WORKER_FILE_MOVE, 0, name, log).errno_value == EACCES);
    }
    EXPECT(worker, ask_remove(worker, "foreign.duckdb") == EACCES);
    EXPECT(worker, ask(worker, WORKER_FILE_MOVE, 0, log, "foreign.duckdb").errno_value == EACCES);
    EXPECT(worker, ask(worker, WORKER_FILE_MOVE, 0, "foreign.duckdb", log).errno_value == EACCES);
    EXPECT(worker, ask_remove(worker, log) == 0);
    serve(worker);
}

/* Somebody has put other things at the places of the log. */
static void use_traps(struct hostile_worker *worker)
{
    static const char *const traps[] = {"traps.duckdb.wal", "traps.duckdb.wal.checkpoint",
                                        "traps.duckdb.wal.recovery"};
    for (size_t i = 0; i < COUNT_OF(traps); i++) {
        struct filed filed = ask_open(worker, MAKE, traps[i]);
        EXPECT(worker, filed.fd < 0 && filed.errno_value != 0);
    }
    serve(worker);
}

static void read_only(struct hostile_worker *worker)
{
    const char *main = "read.duckdb";
    const char *log = "read.duckdb.wal";
    struct filed filed = ask_open(worker, 0, main);
    EXPECT(worker, filed.fd >= 0 && filed.value == 4);
    EXPECT(worker, write(filed.fd, "x", 1) < 0 && ftruncate(filed.fd, 0) != 0);
    EXPECT(worker, ask_open(worker, WORKER_FILE_WRITE, main).errno_value == EACCES);
    EXPECT(worker, ask_open(worker, 0, log).fd >= 0);
    EXPECT(worker, ask_open(worker, WORKER_FILE_WRITE, log).errno_value == EACCES);
    EXPECT(worker, ask_open(worker, WORKER_FILE_TRUNCATE, log).errno_value == EACCES);
    EXPECT(worker, ask_remove(worker, log) == EACCES);
    EXPECT(worker, ask(worker, WORKER_FILE_MOVE, 0, log, log).errno_value == EACCES);
    serve(worker);
}

static const struct hostile_script scripts[] = {
    {"honest", be_honest},
    {"serve.duckdb", serve},
    {"bad-close.duckdb", serve_and_close_badly},
    {"stay.duckdb", serve_and_stay},
    {"damaged.duckdb", be_damaged},
    {"silent.duckdb", be_silent},
    {"dies.duckdb", die_at_once},
    {"claims.duckdb", claim_success},
    {"ready-twice.duckdb", be_ready_twice},
    {"nonsense.duckdb", ask_nonsense},
    {"announces.duckdb", announce_much},
    {"files.duckdb", use_files},
    {"foreign.duckdb", use_foreign_files},
    {"traps.duckdb", use_traps},
    {"read.duckdb", read_only},
};

/* ---- this side ---- */

/* A folder with a database in it, and what one request has seen. */
struct scene {
    char path[64];
    int folder_fd;
    int temp_fd;
    struct engine_database *database;
    struct err err;
    unsigned before; /* open descriptors */
};

static bool open_named(struct scene *scene, const char *name, bool as_read_only, int deadline_ms)
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

static bool make_scene(struct scene *scene)
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

static void remove_scene(struct scene *scene)
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

static bool close_database(struct scene *scene, int deadline_ms)
{
    return engine_database_close(scene->database, clock_now_ms() + deadline_ms, &scene->err);
}

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

static bool see_columns(void *context, const struct worker_schema *columns, struct err *err)
{
    struct seen *seen = context;
    (void)err;
    seen->columns += (unsigned)columns->columns_count;
    return true;
}

static bool see_result(void *context, struct str bytes, struct err *err)
{
    struct seen *seen = context;
    seen->result_bytes += bytes.len;
    return seen->result_bytes <= seen->result_bytes_max ||
           err_set(err, ERR_TOO_LARGE, "nobody wants more");
}

static void prepare(struct seen *seen, struct scene *scene, const char *statement, int deadline_ms)
{
    *seen = (struct seen){
        .statement = statement, .scene = scene, .result_bytes_max = UINT64_MAX, .fds = {-1, -1}};
    cancel_init(&seen->cancel, clock_now_ms() + deadline_ms);
}

static void *run_prepared(void *argument)
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

static bool run_statement(struct seen *seen, struct scene *scene, const char *statement)
{
    prepare(seen, scene, statement, LONG_MS);
    (void)run_prepared(seen);
    cancel_finish(&seen->cancel);
    return seen->good;
}

static bool run_until(struct seen *seen, struct scene *scene, const char *statement,
                      int deadline_ms)
{
    prepare(seen, scene, statement, deadline_ms);
    (void)run_prepared(seen);
    cancel_finish(&seen->cancel);
    return seen->good;
}

static void begin_statement(struct seen *seen, struct scene *scene, const char *statement)
{
    prepare(seen, scene, statement, LONG_MS);
    seen->thread = thread_start("request", run_prepared, seen);
}

static void end_statement(struct seen *seen)
{
    (void)pthread_join(seen->thread, NULL);
    cancel_finish(&seen->cancel);
}

static unsigned running(struct scene *scene, unsigned *ret_waiting)
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

TEST(a_request_is_answered)
{
    struct scene scene;
    struct seen seen;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    for (int i = 0; i < 3; i++) {
        CHECK_OK(run_statement(&seen, &scene, "rows"), seen.err);
        CHECK_U64(seen.columns, 1);
        CHECK_U64(seen.result_bytes, 5);
        CHECK_U64(seen.outcome.done.rows, 1);
        CHECK_U64(seen.outcome.done.memory_bytes, 17);
        CHECK(!seen.outcome.died);
    }
    CHECK_OK(run_statement(&seen, &scene, "much"), seen.err);
    CHECK_U64(seen.result_bytes, 5 * WORKER_RESULT_SIZE_MAX);
    CHECK(!run_statement(&seen, &scene, "fail"));
    CHECK_U64(seen.err.kind, ERR_INVALID);
    CHECK_STR(str_of(seen.err.message), "no such table");
    CHECK_U64(seen.outcome.done.fault, WORKER_FAULT_STATEMENT);
    CHECK_U64(seen.outcome.done.failed_at, 1);
    struct engine_database_state state;
    engine_database_state(scene.database, &state);
    CHECK(state.pid > 1);
    CHECK(state.resident_bytes > 4096);
    CHECK_CLOSES(&scene);
}

TEST(descriptors_travel_with_a_request)
{
    struct scene scene;
    struct seen seen;
    char bytes[8] = "";
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    prepare(&seen, &scene, "quick", LONG_MS);
    seen.fds[0] = openat(scene.folder_fd, "in", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    seen.fds[1] = openat(scene.folder_fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(pwrite(seen.fds[0], "abc", 3, 0) == 3);
    (void)run_prepared(&seen);
    cancel_finish(&seen.cancel);
    CHECK_OK(seen.good, seen.err);
    CHECK(pread(seen.fds[1], bytes, sizeof(bytes), 0) == 3);
    CHECK_STR(str_of(bytes), "abc");
    (void)close(seen.fds[0]);
    (void)close(seen.fds[1]);
    CHECK_CLOSES(&scene);
}

TEST(requests_share_the_slots)
{
    struct scene scene;
    struct seen sleepers[SLOTS];
    struct seen late[2];
    struct seen seen;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    for (size_t i = 0; i < SLOTS; i++) {
        begin_statement(&sleepers[i], &scene, "sleep");
    }
    CHECK_WAITS(&scene, SLOTS, 0);
    begin_statement(&late[0], &scene, "rows");
    CHECK_WAITS(&scene, SLOTS, 1);
    begin_statement(&late[1], &scene, "rows");
    CHECK_WAITS(&scene, SLOTS, 2);
    /* One that waits has a deadline, and can be cancelled. */
    CHECK(!run_until(&seen, &scene, "rows", 30));
    CHECK_U64(seen.err.kind, ERR_TIMEOUT);
    cancel_raise(&late[0].cancel, ERR_STOPPED);
    end_statement(&late[0]);
    CHECK(!late[0].good);
    CHECK_U64(late[0].err.kind, ERR_STOPPED);
    CHECK_WAITS(&scene, SLOTS, 1);
    cancel_raise(&sleepers[1].cancel, ERR_CANCELLED);
    end_statement(&sleepers[1]);
    CHECK_U64(sleepers[1].err.kind, ERR_CANCELLED);
    CHECK(!sleepers[1].outcome.died);
    end_statement(&late[1]);
    CHECK_OK(late[1].good, late[1].err);
    CHECK_WAITS(&scene, SLOTS - 1, 0);
    cancel_raise(&sleepers[0].cancel, ERR_STOPPED);
    cancel_raise(&sleepers[2].cancel, ERR_STOPPED);
    end_statement(&sleepers[0]);
    end_statement(&sleepers[2]);
    CHECK(!sleepers[0].outcome.died);
    CHECK(engine_database_is_alive(scene.database));
    CHECK_CLOSES(&scene);
}

static void *run_many(void *argument)
{
    struct seen *seen = argument;
    for (int i = 0; i < 200; i++) {
        struct seen one;
        if (!run_statement(&one, seen->scene, i % 3 == 0 ? "quick" : "rows")) {
            seen->err = one.err;
            return NULL;
        }
    }
    seen->good = true;
    return NULL;
}

TEST(many_threads_run_at_once)
{
    struct scene scene;
    struct seen seen[4 * SLOTS];
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    for (size_t i = 0; i < COUNT_OF(seen); i++) {
        prepare(&seen[i], &scene, "", LONG_MS);
        seen[i].thread = thread_start("request", run_many, &seen[i]);
    }
    for (size_t i = 0; i < COUNT_OF(seen); i++) {
        end_statement(&seen[i]);
    }
    for (size_t i = 0; i < COUNT_OF(seen); i++) {
        CHECK_OK(seen[i].good, seen[i].err);
    }
    CHECK_CLOSES(&scene);
}

TEST(a_deadline_costs_the_request_alone)
{
    struct scene scene;
    struct seen seen;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    CHECK(!run_until(&seen, &scene, "sleep", 60));
    CHECK_U64(seen.err.kind, ERR_TIMEOUT);
    CHECK(!seen.outcome.died);
    CHECK_U64(seen.outcome.done.fault, WORKER_FAULT_STOPPED);
    CHECK(seen.took_ms < 900);
    CHECK_OK(run_statement(&seen, &scene, "rows"), seen.err);
    CHECK_U64(seen.result_bytes, 5);
    CHECK_CLOSES(&scene);
}

TEST(a_statement_that_ignores_the_interrupt_costs_the_process)
{
    static const char *const statements[] = {"deaf", "flood"};
    for (size_t i = 0; i < COUNT_OF(statements); i++) {
        struct scene scene;
        struct seen seen;
        struct seen other;
        uint64_t kills = metric_value(&engine_counts(engine)->kills[ENGINE_KILL_DEADLINE]);
        CHECK_SCENE(&scene);
        CHECK_OPENS(&scene, "serve.duckdb");
        begin_statement(&other, &scene, "sleep");
        CHECK_WAITS(&scene, 1, 0);
        CHECK(!run_until(&seen, &scene, statements[i], 50));
        CHECK_U64(seen.err.kind, ERR_TIMEOUT);
        CHECK(seen.outcome.died);
        CHECK(seen.took_ms >= 1000);
        CHECK(seen.took_ms < 2500);
        end_statement(&other);
        CHECK_U64(other.err.kind, ERR_UNAVAILABLE);
        CHECK(other.outcome.died);
        CHECK_U64(metric_value(&engine_counts(engine)->kills[ENGINE_KILL_DEADLINE]), kills + 1);
        CHECK(!run_statement(&seen, &scene, "rows"));
        CHECK_U64(seen.err.kind, ERR_UNAVAILABLE);
        CHECK(!seen.outcome.died);
        CHECK_BURIES(&scene);
    }
}

/* The callback's own error is the request's; a worker that still sends is listened to. */
TEST(a_result_that_nobody_wants_ends_the_request)
{
    struct scene scene;
    struct seen seen;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    prepare(&seen, &scene, "much", LONG_MS);
    seen.result_bytes_max = 10;
    (void)run_prepared(&seen);
    cancel_finish(&seen.cancel);
    CHECK(!seen.good);
    CHECK_U64(seen.err.kind, ERR_TOO_LARGE);
    CHECK(!seen.outcome.died);
    CHECK_OK(run_statement(&seen, &scene, "rows"), seen.err);
    CHECK_CLOSES(&scene);
}

TEST(a_process_that_dies_ends_what_runs)
{
    struct scene scene;
    struct seen seen;
    struct seen sleepers[2];
    uint64_t kills = metric_value(&engine_counts(engine)->kills[ENGINE_KILL_DIED]);
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    begin_statement(&sleepers[0], &scene, "sleep");
    begin_statement(&sleepers[1], &scene, "sleep");
    CHECK_WAITS(&scene, 2, 0);
    CHECK(!run_statement(&seen, &scene, "die"));
    CHECK_U64(seen.err.kind, ERR_UNAVAILABLE);
    CHECK(seen.outcome.died);
    CHECK(seen.took_ms < 500);
    for (size_t i = 0; i < COUNT_OF(sleepers); i++) {
        end_statement(&sleepers[i]);
        CHECK_U64(sleepers[i].err.kind, ERR_UNAVAILABLE);
        CHECK(sleepers[i].outcome.died);
    }
    CHECK_WITHIN(LONG_MS, metric_value(&engine_counts(engine)->kills[ENGINE_KILL_DIED]) > kills);
    CHECK_BURIES(&scene);
}

TEST(an_engine_that_is_broken_is_replaced)
{
    struct scene scene;
    struct seen seen;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    CHECK(!run_statement(&seen, &scene, "fatal"));
    CHECK_U64(seen.err.kind, ERR_INTERNAL);
    CHECK_U64(seen.outcome.done.fault, WORKER_FAULT_ENGINE);
    CHECK_BURIES(&scene);
}

TEST(frames_out_of_order_cost_the_process)
{
    static const char *const broken[] = {
        "break unknown",
        "break file",
        "break columns twice",
        "break columns of no text",
        "break result first",
        "break result too large",
        "break huge",
        "break no such error",
        "break no such statement",
        "break short done",
        "break after done",
        "break progress",
        "break close",
    };
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        struct scene scene;
        struct seen seen;
        uint64_t kills = metric_value(&engine_counts(engine)->kills[ENGINE_KILL_UNWANTED]);
        CHECK_SCENE(&scene);
        CHECK_OPENS(&scene, "serve.duckdb");
        CHECK(!run_statement(&seen, &scene, broken[i]));
        CHECK_U64(seen.err.kind, ERR_UNAVAILABLE);
        CHECK(seen.outcome.died);
        CHECK_U64(metric_value(&engine_counts(engine)->kills[ENGINE_KILL_UNWANTED]), kills + 1);
        CHECK_BURIES(&scene);
    }
}

TEST(an_opening_that_fails_says_why)
{
    static const struct {
        const char *name;
        enum err_kind kind;
    } openings[] = {
        {"damaged.duckdb", ERR_CORRUPT},      {"dies.duckdb", ERR_UNAVAILABLE},
        {"silent.duckdb", ERR_TIMEOUT},       {"claims.duckdb", ERR_UNAVAILABLE},
        {"nonsense.duckdb", ERR_UNAVAILABLE}, {"announces.duckdb", ERR_UNAVAILABLE},
    };
    for (size_t i = 0; i < COUNT_OF(openings); i++) {
        struct scene scene;
        CHECK_SCENE(&scene);
        CHECK(!open_named(&scene, openings[i].name, false, 300));
        CHECK_U64(scene.err.kind, openings[i].kind);
        /* What was made for it is gone again. */
        CHECK(faccessat(scene.folder_fd, openings[i].name, F_OK, 0) != 0);
        remove_scene(&scene);
        CHECK_U64(open_descriptors(), scene.before);
    }
    CHECK_I64(metric_level(&engine_counts(engine)->databases), 0);
}

TEST(a_database_is_ready_once)
{
    struct scene scene;
    CHECK_SCENE(&scene);
    if (open_named(&scene, "ready-twice.duckdb", false, LONG_MS)) {
        CHECK_WITHIN(LONG_MS, !engine_database_is_alive(scene.database));
        CHECK_BURIES(&scene);
    } else {
        CHECK_U64(scene.err.kind, ERR_UNAVAILABLE);
        remove_scene(&scene);
    }
}

TEST(a_worker_opens_the_files_of_its_database)
{
    struct scene scene;
    uint64_t refused = metric_value(&engine_counts(engine)->files_refused);
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "files.duckdb");
    CHECK_U64(metric_value(&engine_counts(engine)->files_refused), refused + 1);
    char bytes[8] = "";
    CHECK(pread(engine_database_file(scene.database), bytes, 6, 0) == 6);
    CHECK_STR(str_of(bytes), "header");
    CHECK(faccessat(scene.folder_fd, "files.duckdb.wal", F_OK, 0) == 0);
    CHECK_OK(close_database(&scene, LONG_MS), scene.err);
    /* What it spilled and left is gone: the folder can be removed. */
    CHECK(unlinkat(scene.folder_fd, "spill", AT_REMOVEDIR) == 0);
    remove_scene(&scene);
    CHECK_U64(open_descriptors(), scene.before);
}

TEST(a_worker_opens_no_other_file)
{
    struct scene scene;
    struct stat status;
    uint64_t refused = metric_value(&engine_counts(engine)->files_refused);
    CHECK_SCENE(&scene);
    int other = openat(scene.folder_fd, "other.duckdb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(write(other, "mine", 4) == 4);
    (void)close(other);
    CHECK_OPENS(&scene, "foreign.duckdb");
    CHECK_U64(metric_value(&engine_counts(engine)->files_refused),
              refused + 6 * COUNT_OF(foreign_names) + 3);
    CHECK(fstatat(scene.folder_fd, "other.duckdb", &status, 0) == 0 && status.st_size == 4);
    CHECK_CLOSES(&scene);
}

TEST(links_and_pipes_are_no_files)
{
    struct scene scene;
    CHECK_SCENE(&scene);
    CHECK(symlinkat("/etc/passwd", scene.folder_fd, "traps.duckdb.wal") == 0);
    CHECK(symlinkat("new", scene.folder_fd, "traps.duckdb.wal.checkpoint") == 0);
    CHECK(mkfifoat(scene.folder_fd, "traps.duckdb.wal.recovery", 0600) == 0);
    int main = openat(scene.folder_fd, "traps.duckdb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(write(main, "main", 4) == 4);
    (void)close(main);
    CHECK_OPENS(&scene, "traps.duckdb");
    CHECK(faccessat(scene.folder_fd, "new", F_OK, 0) != 0);
    CHECK_CLOSES(&scene);
}

TEST(what_is_read_only_is_not_written)
{
    struct scene scene;
    CHECK_SCENE(&scene);
    CHECK(!open_named(&scene, "read.duckdb", true, LONG_MS));
    CHECK_U64(scene.err.kind, ERR_UNAVAILABLE);
    static const char *const names[] = {"read.duckdb", "read.duckdb.wal"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        int fd = openat(scene.folder_fd, names[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CHECK(write(fd, "main", 4) == 4);
        (void)close(fd);
    }
    CHECK_OK(open_named(&scene, "read.duckdb", true, LONG_MS), scene.err);
    CHECK_CLOSES(&scene);
}

/* The engine would begin a new database there, and remove the log first. */
TEST(an_empty_file_beside_a_log_is_damaged)
{
    struct scene scene;
    struct stat status;
    CHECK_SCENE(&scene);
    int fd = openat(scene.folder_fd, "serve.duckdb.wal", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(write(fd, "rows", 4) == 4);
    (void)close(fd);
    CHECK(!open_named(&scene, "serve.duckdb", false, LONG_MS));
    CHECK_U64(scene.err.kind, ERR_CORRUPT);
    CHECK(fstatat(scene.folder_fd, "serve.duckdb.wal", &status, 0) == 0 && status.st_size == 4);
    CHECK(faccessat(scene.folder_fd, "serve.duckdb", F_OK, 0) != 0);
    remove_scene(&scene);
    CHECK_U64(open_descriptors(), scene.before);
}

/* As other programs with this engine lock their files: a lock of the process. */
static pid_t lock_in_child(struct scene *scene, const char *name, int hold_fd)
{
    int ready[2];
    char byte = 0;
    if (pipe2(ready, O_CLOEXEC) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = openat(scene->folder_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        bool good = fcntl(fd, F_SETLK, &whole) == 0 && write(ready[1], "y", 1) == 1;
        (void)!read(hold_fd, &byte, 1);
        _exit(good ? 0 : 1);
    }
    (void)close(ready[1]);
    bool locked = read(ready[0], &byte, 1) == 1;
    (void)close(ready[0]);
    return locked ? pid : -1;
}

TEST(a_file_is_open_once)
{
    struct scene scene;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    struct scene second = scene;
    CHECK(!open_named(&second, "serve.duckdb", false, LONG_MS));
    CHECK_U64(second.err.kind, ERR_CONFLICT);
    CHECK(!open_named(&second, "serve.duckdb", false, 50));
    CHECK_U64(second.err.kind, ERR_TIMEOUT);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = openat(scene.folder_fd, "serve.duckdb", O_RDWR | O_CLOEXEC);
    CHECK(fcntl(fd, F_SETLK, &whole) != 0);
    (void)close(fd);
    CHECK_CLOSES(&scene);
}

TEST(a_file_that_another_program_has_is_left_alone)
{
    struct scene scene;
    int hold[2];
    CHECK_SCENE(&scene);
    CHECK(pipe2(hold, O_CLOEXEC) == 0);
    pid_t pid = lock_in_child(&scene, "serve.duckdb", hold[0]);
    CHECK(pid > 0);
    CHECK(!open_named(&scene, "serve.duckdb", false, LONG_MS));
    CHECK_U64(scene.err.kind, ERR_CONFLICT);
    CHECK(write(hold[1], "x", 1) == 1);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    (void)close(hold[0]);
    (void)close(hold[1]);
    CHECK_OPENS(&scene, "serve.duckdb");
    CHECK_CLOSES(&scene);
}

TEST(a_close_waits_for_what_runs)
{
    struct scene scene;
    struct seen seen;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    begin_statement(&seen, &scene, "sleep");
    CHECK_WAITS(&scene, 1, 0);
    CHECK(!close_database(&scene, 100));
    CHECK_U64(scene.err.kind, ERR_UNAVAILABLE);
    end_statement(&seen);
    CHECK_U64(seen.err.kind, ERR_UNAVAILABLE);
    CHECK(seen.outcome.died);
    remove_scene(&scene);
    CHECK_U64(open_descriptors(), scene.before);
}

TEST(a_close_that_fails_says_so)
{
    struct scene scene;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "bad-close.duckdb");
    CHECK(!close_database(&scene, LONG_MS));
    CHECK_STR(str_of(scene.err.message), "no checkpoint: the disk is full");
    int64_t begun_ms = clock_now_ms();
    CHECK_OPENS(&scene, "stay.duckdb");
    CHECK(!close_database(&scene, 100));
    CHECK_U64(scene.err.kind, ERR_UNAVAILABLE);
    CHECK(clock_now_ms() - begun_ms < 3000);
    remove_scene(&scene);
    CHECK_U64(open_descriptors(), scene.before);
}

static pid_t parent_of(pid_t pid)
{
    char path[64];
    char line[256];
    int parent = -1;
    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && parent < 0 && fgets(line, sizeof(line), file) != NULL) {
        (void)sscanf(line, "PPid: %d", &parent);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return parent;
}

/* The zygote is what starts processes; those that it has started do not need it. */
TEST(a_database_outlives_its_zygote)
{
    struct scene scene;
    struct seen seen;
    struct engine_database_state state;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    engine_database_state(scene.database, &state);
    uint64_t restarts = engine_zygote_restarts(engine);
    pid_t zygote = parent_of(state.pid);
    CHECK(zygote > 1 && parent_of(zygote) == getpid());
    CHECK(kill(zygote, SIGKILL) == 0);
    CHECK_WITHIN(LONG_MS, engine_zygote_restarts(engine) > restarts);
    CHECK_OK(run_statement(&seen, &scene, "rows"), seen.err);
    CHECK_OK(engine_wait_ready(engine, &scene.err), scene.err);
    CHECK_CLOSES(&scene);
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    CHECK_CLOSES(&scene);
}

static const struct test_case cases[] = {
    TEST_CASE(a_request_is_answered),
    TEST_CASE(descriptors_travel_with_a_request),
    TEST_CASE(requests_share_the_slots),
    TEST_CASE(many_threads_run_at_once),
    TEST_CASE(a_deadline_costs_the_request_alone),
    TEST_CASE(a_statement_that_ignores_the_interrupt_costs_the_process),
    TEST_CASE(a_result_that_nobody_wants_ends_the_request),
    TEST_CASE(a_process_that_dies_ends_what_runs),
    TEST_CASE(an_engine_that_is_broken_is_replaced),
    TEST_CASE(frames_out_of_order_cost_the_process),
    TEST_CASE(an_opening_that_fails_says_why),
    TEST_CASE(a_database_is_ready_once),
    TEST_CASE(a_worker_opens_the_files_of_its_database),
    TEST_CASE(a_worker_opens_no_other_file),
    TEST_CASE(links_and_pipes_are_no_files),
    TEST_CASE(what_is_read_only_is_not_written),
    TEST_CASE(an_empty_file_beside_a_log_is_damaged),
    TEST_CASE(a_file_is_open_once),
    TEST_CASE(a_file_that_another_program_has_is_left_alone),
    TEST_CASE(a_close_waits_for_what_runs),
    TEST_CASE(a_close_that_fails_says_so),
    TEST_CASE(a_database_outlives_its_zygote),
};

HOSTILE_MAIN(scripts, cases)
