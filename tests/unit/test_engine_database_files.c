/* Which files a database's process is given: those of its database, under their names, and no other
 * ever. */
#include "database_scene.h"
#include "fake_database.h"

#include <errno.h>

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
    {"honest", be_honest},       {"serve.duckdb", serve},
    {"files.duckdb", use_files}, {"foreign.duckdb", use_foreign_files},
    {"traps.duckdb", use_traps}, {"read.duckdb", read_only},
};

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

static const struct test_case cases[] = {
    TEST_CASE(a_worker_opens_the_files_of_its_database),
    TEST_CASE(a_worker_opens_no_other_file),
    TEST_CASE(links_and_pipes_are_no_files),
    TEST_CASE(what_is_read_only_is_not_written),
    TEST_CASE(an_empty_file_beside_a_log_is_damaged),
    TEST_CASE(a_file_is_open_once),
    TEST_CASE(a_file_that_another_program_has_is_left_alone),
};

HOSTILE_MAIN(scripts, cases)
