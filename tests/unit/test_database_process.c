/* A real engine in a real process: what was acknowledged is there, whenever the process is killed;
 * and what else only the two sides together can show. */
#include "clock.h"
#include "engine_database.h"
#include "fd.h"
#include "test.h"
#include "thread.h"
#include "worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SLOTS = 4,
    WRITERS = 3,
    KILLS = 8,
    ROWS_BEFORE_KILL = 25,
    DEADLINE_MS = 30000
};

static struct engine *engine;

struct place {
    char path[64];
    int folder_fd;
    int temp_fd;
    struct engine_database *database;
    struct err err;
};

static bool make_place(struct place *place)
{
    *place = (struct place){.path = "/tmp/eider-process-XXXXXX"};
    if (mkdtemp(place->path) == NULL) {
        return false;
    }
    place->folder_fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mkdirat(place->folder_fd, "spill", 0700) != 0) {
        return false;
    }
    place->temp_fd = openat(place->folder_fd, "spill", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return place->temp_fd >= 0;
}

static void empty(int folder_fd)
{
    DIR *folder = fdopendir(dup(folder_fd));
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        (void)unlinkat(folder_fd, entry->d_name, 0);
    }
    (void)closedir(folder);
}

static void remove_place(struct place *place)
{
    empty(place->temp_fd);
    empty(place->folder_fd);
    (void)unlinkat(place->folder_fd, "spill", AT_REMOVEDIR);
    (void)close(place->temp_fd);
    (void)close(place->folder_fd);
    (void)rmdir(place->path);
}

static bool open_place(struct place *place, uint64_t memory_bytes)
{
    const struct engine_database_options options = {
        .folder_fd = place->folder_fd,
        .name = "real.duckdb",
        .temp_fd = place->temp_fd,
        .memory_bytes = memory_bytes,
        .file_bytes_max = UINT64_C(1) << 32,
        .temp_bytes_max = UINT64_C(1) << 30,
        .threads = 2,
        .slots = SLOTS,
    };
    struct cancel cancel;
    cancel_init(&cancel, clock_now_ms() + DEADLINE_MS);
    bool good = engine_database_open(engine, &options, &cancel, &place->database, &place->err);
    cancel_finish(&cancel);
    return good;
}

static bool close_place(struct place *place)
{
    return engine_database_close(place->database, clock_now_ms() + DEADLINE_MS, &place->err);
}

/* ---- statements ---- */

struct answer {
    struct engine_database_outcome outcome;
    struct err err;
    struct buf rows;
    unsigned columns;
    int64_t took_ms;
};

static bool take_columns(void *context, const struct worker_schema *columns, struct err *err)
{
    struct answer *answer = context;
    (void)err;
    answer->columns = (unsigned)columns->columns_count;
    return true;
}

static bool take_rows(void *context, struct str bytes, struct err *err)
{
    struct answer *answer = context;
    (void)err;
    buf_append(&answer->rows, bytes);
    return true;
}

/* `text` may be several statements; NULL is a checkpoint. The caller finishes the rows. */
static bool run_for(struct place *place, const char *text, int deadline_ms, struct answer *answer)
{
    const struct str statement = str_of(text);
    const struct engine_database_request request = {
        .request = {.kind = text == NULL ? WORKER_CHECKPOINT : WORKER_STATEMENTS,
                    .role = WORKER_ROLE_WRITE,
                    .format = WORKER_FORMAT_ROWS,
                    .statements = &statement,
                    .statements_count = text == NULL ? 0 : 1},
        .fds = {-1, -1},
        .columns = take_columns,
        .result = take_rows,
        .context = answer,
    };
    struct cancel cancel;
    *answer = (struct answer){0};
    buf_init(&answer->rows, 1 << 20);
    int64_t begun_ms = clock_now_ms();
    cancel_init(&cancel, begun_ms + deadline_ms);
    bool good =
        engine_database_run(place->database, &request, &cancel, &answer->outcome, &answer->err);
    cancel_finish(&cancel);
    answer->took_ms = clock_now_ms() - begun_ms;
    return good;
}

static bool run_text(struct place *place, const char *text, struct err *ret_err)
{
    struct answer answer;
    bool good = run_for(place, text, DEADLINE_MS, &answer);
    *ret_err = answer.err;
    buf_finish(&answer.rows);
    return good;
}

/* The one number that a statement answers with, such as [[12]]. */
static bool ask_number(struct place *place, const char *text, uint64_t *ret_number,
                       struct err *ret_err)
{
    struct answer answer;
    bool good = run_for(place, text, DEADLINE_MS, &answer);
    *ret_err = answer.err;
    good = good && answer.rows.len > 2;
    *ret_number = good ? strtoull(answer.rows.ptr + 2, NULL, 10) : 0;
    buf_finish(&answer.rows);
    return good;
}

#define CHECK_RUNS(place, text)                             \
    do {                                                    \
        struct err run_err = {0};                           \
        CHECK_OK(run_text(place, text, &run_err), run_err); \
    } while (0)

#define CHECK_NUMBER(place, text, expected)                                  \
    do {                                                                     \
        struct err number_err = {0};                                         \
        uint64_t number = 0;                                                 \
        CHECK_OK(ask_number(place, text, &number, &number_err), number_err); \
        CHECK_U64(number, expected);                                         \
    } while (0)

TEST(rows_survive_a_close)
{
    struct place place;
    struct stat status;
    CHECK(make_place(&place));
    CHECK_OK(open_place(&place, 256 << 20), place.err);
    CHECK_RUNS(&place, "CREATE TABLE t (a INTEGER); INSERT INTO t SELECT * FROM range(1000)");
    CHECK_NUMBER(&place, "SELECT sum(a) FROM t", 499500);
    CHECK_OK(close_place(&place), place.err);
    /* The last checkpoint: the file has it all, its log is gone. */
    CHECK(fstatat(place.folder_fd, "real.duckdb", &status, 0) == 0 && status.st_size > 12288);
    CHECK(fstatat(place.folder_fd, "real.duckdb.wal", &status, 0) != 0);
    CHECK_OK(open_place(&place, 256 << 20), place.err);
    CHECK_NUMBER(&place, "SELECT count(*) FROM t", 1000);
    CHECK_OK(close_place(&place), place.err);
    remove_place(&place);
}

TEST(a_runaway_statement_is_interrupted)
{
    struct place place;
    struct answer answer;
    struct err err;
    CHECK(make_place(&place));
    CHECK_OK(open_place(&place, 256 << 20), place.err);
    CHECK_RUNS(&place, "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (7)");
    bool good = run_for(&place, "SELECT count(*) FROM range(100000000000) a", 300, &answer);
    buf_finish(&answer.rows);
    CHECK(!good);
    CHECK_U64(answer.err.kind, ERR_TIMEOUT);
    CHECK(!answer.outcome.died);
    CHECK_U64(answer.outcome.done.fault, WORKER_FAULT_STOPPED);
    CHECK_NUMBER(&place, "SELECT a FROM t", 7);
    CHECK(!run_text(&place, "SELECT nothing FROM nowhere", &err));
    CHECK_U64(err.kind, ERR_INVALID);
    CHECK_OK(close_place(&place), place.err);
    remove_place(&place);
}

TEST(what_does_not_fit_is_spilled)
{
    struct place place;
    CHECK(make_place(&place));
    CHECK_OK(open_place(&place, 64 << 20), place.err);
    CHECK_NUMBER(&place,
                 "SELECT count(*) FROM (SELECT DISTINCT hash(a) || '-' || a AS b FROM "
                 "range(1500000) t(a))",
                 1500000);
    CHECK_OK(close_place(&place), place.err);
    CHECK(unlinkat(place.folder_fd, "spill", AT_REMOVEDIR) == 0);
    remove_place(&place);
}

/* ---- kill -9 ---- */

/* One thread that inserts numbers of its own, and counts those that were acknowledged; or one that
 * makes checkpoints. */
struct writer {
    struct place *place;
    unsigned number;
    atomic_uint acknowledged;
    pthread_t thread;
};

static void *write_until_it_fails(void *argument)
{
    struct writer *writer = argument;
    for (unsigned i = 0;; i++) {
        char text[128];
        struct err err;
        (void)snprintf(text, sizeof(text), "INSERT INTO t VALUES (%u, %u)", writer->number, i);
        bool good = run_text(writer->place, text, &err);
        if (good) {
            atomic_fetch_add(&writer->acknowledged, 1);
        } else if (err.kind != ERR_CONFLICT) {
            return NULL;
        } else {
            i--;
        }
    }
}

static void *checkpoint_until_it_fails(void *argument)
{
    struct writer *writer = argument;
    struct err err;
    while (run_text(writer->place, NULL, &err)) {
        atomic_fetch_add(&writer->acknowledged, 1);
    }
    return NULL;
}

static unsigned acknowledged(struct writer writers[WRITERS])
{
    unsigned sum = 0;
    for (size_t i = 0; i < WRITERS; i++) {
        sum += atomic_load(&writers[i].acknowledged);
    }
    return sum;
}

static bool kill_process(struct place *place)
{
    struct engine_database_state state;
    engine_database_state(place->database, &state);
    return state.pid > 1 && kill(state.pid, SIGKILL) == 0;
}

/* Each writer's rows are a whole beginning: what it was told, and at most one more. */
static bool has_all_rows(struct place *place, const struct writer *writer)
{
    char text[128];
    struct err err;
    uint64_t rows = 0;
    uint64_t most = 0;
    (void)snprintf(text, sizeof(text), "SELECT count(*) FROM t WHERE w = %u", writer->number);
    bool good = ask_number(place, text, &rows, &err);
    (void)snprintf(text, sizeof(text), "SELECT coalesce(max(i), -1) + 1 FROM t WHERE w = %u",
                   writer->number);
    good = good && ask_number(place, text, &most, &err);
    uint64_t told = atomic_load(&writer->acknowledged);
    bool whole = good && rows == most && rows >= told && rows <= told + 1;
    if (!whole) {
        (void)fprintf(stderr, "writer %u: %" PRIu64 " rows, last %" PRIu64 ", told %" PRIu64 "\n",
                      writer->number, rows, most, told);
    }
    return whole;
}

static unsigned kills_wanted(void)
{
    const char *wanted = getenv("EIDER_KILLS");
    return wanted == NULL ? KILLS : (unsigned)strtoul(wanted, NULL, 10);
}

static void begin_writers(struct place *place, struct writer writers[WRITERS + 1], unsigned *number)
{
    for (size_t i = 0; i <= WRITERS; i++) {
        bool checkpoints = i == WRITERS;
        writers[i] = (struct writer){.place = place, .number = (*number)++};
        writers[i].thread = thread_start(
            "writer", checkpoints ? checkpoint_until_it_fails : write_until_it_fails, &writers[i]);
    }
}

/* P21: a committed write survives. Some of the kills fall into a checkpoint: there is always one
 * on its way. */
TEST(what_was_acknowledged_survives_kills)
{
    struct place place;
    struct writer writers[WRITERS + 1];
    unsigned number = 0;
    CHECK(make_place(&place));
    CHECK_OK(open_place(&place, 256 << 20), place.err);
    CHECK_RUNS(&place, "CREATE TABLE t (w INTEGER, i INTEGER)");
    for (unsigned round = 0; round < kills_wanted(); round++) {
        begin_writers(&place, writers, &number);
        CHECK_WITHIN(DEADLINE_MS, acknowledged(writers) >= ROWS_BEFORE_KILL + round % 7 &&
                                      atomic_load(&writers[WRITERS].acknowledged) > 0);
        CHECK(kill_process(&place));
        for (size_t i = 0; i <= WRITERS; i++) {
            (void)pthread_join(writers[i].thread, NULL);
        }
        CHECK_WITHIN(DEADLINE_MS, !engine_database_is_alive(place.database));
        CHECK(!close_place(&place));
        CHECK_OK(open_place(&place, 256 << 20), place.err);
        for (size_t i = 0; i < WRITERS; i++) {
            CHECK(has_all_rows(&place, &writers[i]));
        }
    }
    CHECK_OK(close_place(&place), place.err);
    remove_place(&place);
}

static const struct test_case cases[] = {
    TEST_CASE(rows_survive_a_close),
    TEST_CASE(a_runaway_statement_is_interrupted),
    TEST_CASE(what_does_not_fit_is_spilled),
    TEST_CASE(what_was_acknowledged_survives_kills),
};

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "zygote") == 0) {
        return worker_zygote_main();
    }
    struct err err;
    const struct engine_options options = {
        .memory_total_bytes = 1 << 30,
        .memory_per_job_bytes = 1 << 28,
        .slots = 2,
        .threads_per_job = 1,
        .fetch_threads = 1,
        .program = "/proc/self/exe",
    };
    engine = engine_create(&options);
    if (!engine_start(engine, &err) || !engine_wait_ready(engine, &err)) {
        (void)fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    int code = test_run(cases, COUNT_OF(cases), argc > 1 ? argv[1] : NULL);
    engine_destroy(engine);
    return code;
}
