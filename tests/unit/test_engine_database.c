/* The server's side of a database's process, when that process is a script: how requests share it,
 * and what is left of them when it is slow, lies or dies. */
#include "database_scene.h"
#include "fake_database.h"

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
};

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
    CHECK(seen.took_ms < 5000);
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
        CHECK(seen.took_ms < 10000);
        end_statement(&other);
        CHECK_U64(other.err.kind, ERR_UNAVAILABLE);
        CHECK(other.outcome.died);
        CHECK_U64(metric_value(&engine_counts(engine)->kills[ENGINE_KILL_DEADLINE]), kills + 1);
        CHECK(!run_statement(&seen, &scene, "rows"));
        CHECK_U64(seen.err.kind, ERR_UNAVAILABLE);
        CHECK(!seen.outcome.died);
        CHECK(!seen.outcome.sent); /* so it may run elsewhere */
        CHECK(other.outcome.sent);
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
    CHECK(seen.took_ms < 5000);
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

/* A slot ends because its process does, which may take a while: nobody says that it lied. */
TEST(a_slot_that_ends_is_a_death)
{
    struct scene scene;
    struct seen seen;
    uint64_t kills = metric_value(&engine_counts(engine)->kills[ENGINE_KILL_STUCK]);
    uint64_t deaths = metric_value(&engine_counts(engine)->kills[ENGINE_KILL_DIED]);
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    CHECK(!run_statement(&seen, &scene, "die slowly"));
    CHECK_U64(seen.err.kind, ERR_UNAVAILABLE);
    CHECK(seen.outcome.died);
    CHECK(!seen.outcome.killed);
    CHECK(strstr(seen.err.detail, "protocol") == NULL);
    CHECK_WITHIN(LONG_MS, metric_value(&engine_counts(engine)->kills[ENGINE_KILL_DIED]) > deaths);
    CHECK_BURIES(&scene);
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    CHECK(!run_statement(&seen, &scene, "break close"));
    CHECK(seen.outcome.died);
    CHECK_U64(metric_value(&engine_counts(engine)->kills[ENGINE_KILL_STUCK]), kills + 1);
    CHECK_BURIES(&scene);
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

static void *close_in_time(void *argument)
{
    struct scene *scene = argument;
    return close_database(scene, LONG_MS) ? scene : NULL;
}

/* Who waits for a slot is told at once; what runs may end, and then the close goes on. */
TEST(a_close_ends_who_waits)
{
    struct scene scene;
    struct seen sleepers[SLOTS];
    struct seen late;
    void *closed = NULL;
    CHECK_SCENE(&scene);
    CHECK_OPENS(&scene, "serve.duckdb");
    for (size_t i = 0; i < SLOTS; i++) {
        begin_statement(&sleepers[i], &scene, "sleep");
    }
    CHECK_WAITS(&scene, SLOTS, 0);
    begin_statement(&late, &scene, "rows");
    CHECK_WAITS(&scene, SLOTS, 1);
    pthread_t closer = thread_start("closer", close_in_time, &scene);
    end_statement(&late);
    CHECK(!late.good);
    CHECK_U64(late.err.kind, ERR_UNAVAILABLE);
    CHECK(!late.outcome.died);
    int64_t begun_ms = clock_now_ms();
    for (size_t i = 0; i < SLOTS; i++) {
        cancel_raise(&sleepers[i].cancel, ERR_STOPPED);
        end_statement(&sleepers[i]);
        CHECK_U64(sleepers[i].err.kind, ERR_STOPPED);
        CHECK(!sleepers[i].outcome.died);
    }
    (void)pthread_join(closer, &closed);
    CHECK_OK(closed != NULL, scene.err);
    CHECK(clock_now_ms() - begun_ms < LONG_MS / 2);
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
    CHECK(clock_now_ms() - begun_ms < 10000);
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
    TEST_CASE(a_slot_that_ends_is_a_death),
    TEST_CASE(an_opening_that_fails_says_why),
    TEST_CASE(a_database_is_ready_once),
    TEST_CASE(a_close_waits_for_what_runs),
    TEST_CASE(a_close_ends_who_waits),
    TEST_CASE(a_close_that_fails_says_so),
    TEST_CASE(a_database_outlives_its_zygote),
};

HOSTILE_MAIN(scripts, cases)
