#include "database_rig.h"

#include "worker_shim.h"

#define FOREVER "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"

TEST(rows_stay_when_it_is_closed_and_opened)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK_U64(rig.log_bytes, 0);
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a INTEGER)"));
    CHECK(rig_run(&rig, 1, "INSERT INTO t VALUES (7), (8)"));
    CHECK(rig.done.peak_bytes > 1 << 20);
    CHECK_ANSWER(&rig, "SELECT sum(a) AS s FROM t", 15);
    CHECK(rig_close(&rig));
    CHECK(faccessat(rig.folder_fd, RIG_NAME ".wal", F_OK, 0) != 0); /* a checkpoint was made */
    CHECK_OPENS(&rig);
    CHECK_U64(rig.log_bytes, 0);
    CHECK_ANSWER(&rig, "SELECT sum(a) AS s FROM t", 15);
}

TEST(what_was_committed_is_in_the_log_after_a_kill)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a INTEGER PRIMARY KEY, b VARCHAR)"));
    CHECK(rig_run(&rig, 0, "INSERT INTO t SELECT range, range::VARCHAR FROM range(200000)"));
    CHECK(rig_run(&rig, 0, "CREATE INDEX i ON t (b)"));
    CHECK(rig_run(&rig, 0, "CREATE VIEW v AS SELECT a FROM t WHERE b = '77'"));
    rig_kill(&rig);
    CHECK_OPENS(&rig);
    CHECK(rig.log_bytes > 100);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 200000);
    CHECK_ANSWER(&rig, "SELECT a FROM v", 77);
    CHECK(!rig_run(&rig, 0, "INSERT INTO t VALUES (5, 'again')"));
}

/* ---- kill -9 in the middle of commits ---- */

enum {
    KILLS = 12,
    WRITERS = 3,
    ROWS_PER_WRITER = 1000000
};

static void spin(int64_t us)
{
    int64_t until = clock_now_us() + us;
    while (clock_now_us() < until) {
    }
}

struct writer {
    uint64_t sent;
    uint64_t acknowledged; /* all up to this one */
};

static bool send_insert(struct rig *rig, unsigned slot, struct writer *writer)
{
    char sql[128];
    writer->sent++;
    (void)snprintf(sql, sizeof(sql), "INSERT INTO t VALUES (%llu)",
                   (unsigned long long)slot * ROWS_PER_WRITER + writer->sent);
    return rig_send(rig, slot, sql);
}

/* Some rounds of one row per writer, then all of them once more and the kill. */
static bool write_and_die(struct rig *rig, struct writer *writers, unsigned seed)
{
    for (unsigned round = 0; round < 5 + seed % 4; round++) {
        for (unsigned slot = 0; slot < WRITERS; slot++) {
            if (!send_insert(rig, slot, &writers[slot])) {
                return false;
            }
        }
        for (unsigned slot = 0; slot < WRITERS; slot++) {
            if (!rig_receive(rig, slot) || rig->done.kind != ERR_NONE) {
                return false;
            }
            writers[slot].acknowledged = writers[slot].sent;
        }
    }
    for (unsigned slot = 0; slot < WRITERS; slot++) {
        (void)send_insert(rig, slot, &writers[slot]);
    }
    spin(seed % 7 * 150);
    rig_kill(rig);
    return true;
}

static bool find_acknowledged(struct rig *rig, struct writer *writer, unsigned slot)
{
    char sql[256];
    unsigned long long from = (unsigned long long)slot * ROWS_PER_WRITER;
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) AS c FROM t WHERE a > %llu AND a <= %llu AND a < %llu", from,
                   from + writer->acknowledged, from + ROWS_PER_WRITER);
    uint64_t found;
    bool good = rig_ask(rig, 0, sql, &found) && found >= writer->acknowledged;
    if (!good) {
        (void)fprintf(stderr, "%llu of %llu rows of writer %u\n", (unsigned long long)found,
                      (unsigned long long)writer->acknowledged, slot);
    }
    /* What was not acknowledged may be there or not. */
    (void)snprintf(sql, sizeof(sql), "SELECT count(*) AS c FROM t WHERE a > %llu AND a < %llu",
                   from, from + ROWS_PER_WRITER);
    good = good && rig_ask(rig, 0, sql, &found) && found <= writer->sent;
    return good;
}

TEST(a_kill_loses_no_row_that_was_acknowledged)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    rig.checkpoint_bytes = 2000; /* of log: many of the kills hit a checkpoint */
    struct writer writers[WRITERS] = {0};
    for (unsigned i = 0; i < KILLS; i++) {
        CHECK_OPENS(&rig);
        CHECK(rig_run(&rig, 0, "CREATE TABLE IF NOT EXISTS t (a BIGINT)"));
        for (unsigned slot = 0; slot < WRITERS; slot++) {
            CHECK(find_acknowledged(&rig, &writers[slot], slot));
            char sql[128];
            (void)snprintf(sql, sizeof(sql), "DELETE FROM t WHERE a > %llu AND a < %llu",
                           (unsigned long long)slot * ROWS_PER_WRITER,
                           (unsigned long long)(slot + 1) * ROWS_PER_WRITER);
            CHECK(rig_run(&rig, slot, sql));
            writers[slot] = (struct writer){0};
        }
        CHECK(write_and_die(&rig, writers, i));
    }
}

/* ---- requests beside and after one another ---- */

TEST(slots_run_at_once_and_are_interrupted_alone)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_send(&rig, 0, FOREVER));
    uint64_t first = rig.next_request;
    CHECK(rig_send(&rig, 1, FOREVER));
    CHECK(rig_run(&rig, 2, "SELECT 41 + 1 AS a"));
    CHECK_U64(rig_number(&rig), 42);
    CHECK(rig_interrupt(&rig, 0, first + 1)); /* not what runs there */
    CHECK(rig_interrupt(&rig, 0, first));
    CHECK(rig_receive(&rig, 0));
    CHECK_U64(rig.done.fault, WORKER_FAULT_STOPPED);
    CHECK(rig.done.kind != ERR_NONE);
    CHECK_ANSWER(&rig, "SELECT 41 + 1 AS a", 42); /* the slot is free, the other one still busy */
    CHECK(rig_interrupt(&rig, 1, first + 1));
    CHECK(rig_receive(&rig, 1));
    CHECK_U64(rig.done.fault, WORKER_FAULT_STOPPED);
}

TEST(an_interrupt_may_come_before_its_request)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_interrupt(&rig, 0, rig.next_request + 1));
    CHECK(rig_run(&rig, 1, "SELECT 1 AS a")); /* so that it has been read */
    rig.next_request--;
    CHECK(rig_send(&rig, 0, FOREVER));
    CHECK(rig_receive(&rig, 0));
    CHECK_U64(rig.done.fault, WORKER_FAULT_STOPPED);
    CHECK_ANSWER(&rig, "SELECT 41 + 1 AS a", 42);
}

TEST(nothing_goes_from_one_request_to_another)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a INTEGER)"));
    CHECK(rig_run(&rig, 0, "CREATE TEMP TABLE mine AS SELECT 1 AS a; SELECT a FROM mine"));
    CHECK(!rig_run(&rig, 0, "SELECT a FROM mine"));
    CHECK_U64(rig.done.fault, WORKER_FAULT_STATEMENT);
    CHECK(!rig_run(&rig, 1, "SELECT a FROM mine"));
    (void)rig_run(&rig, 0, "BEGIN; INSERT INTO t VALUES (1)");
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 0);
    CHECK(rig_run(&rig, 0, "INSERT INTO t VALUES (2)"));
    CHECK_ANSWER(&rig, "SELECT sum(a) AS s FROM t", 2);
}

TEST(progress_is_told_of_long_requests_alone)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "SELECT 1 AS a"));
    CHECK_U64(rig.progress, 0);
    CHECK(rig_send(&rig, 0, FOREVER));
    struct worker_frame frame;
    struct err err;
    worker_frame_init(&frame);
    CHECK(rig_wait(&rig, rig.slots[0]));
    CHECK_OK(worker_receive(rig.slots[0], &frame, &err), err);
    CHECK_U64(frame.type, WORKER_PROGRESS);
    worker_frame_finish(&frame);
    CHECK(rig_interrupt(&rig, 0, rig.next_request));
    CHECK(rig_receive(&rig, 0));
}

TEST(a_close_waits_for_what_runs)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_send(&rig, 0,
                   "CREATE TABLE t AS SELECT count(*) AS a FROM range(5000) a, "
                   "range(5000) b WHERE hash(a.range + b.range) % 7 = 0"));
    CHECK(rig_wait(&rig, rig.slots[0])); /* it says how far it is, or is through */
    CHECK(rig_close_begin(&rig));
    CHECK(rig_receive(&rig, 0));
    CHECK_U64(rig.done.kind, ERR_NONE);
    CHECK(rig_close_end(&rig));
    CHECK_OPENS(&rig);
    CHECK_U64(rig.log_bytes, 0);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 1);
}

TEST(it_ends_when_the_server_is_gone)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_send(&rig, 0, FOREVER));
    int status = rig_reap(&rig);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- what it may not do ---- */

/* Every thread of the process: one that was made before the filter would be without it. */
static bool all_threads_are_filtered(pid_t pid, unsigned *ret_threads)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    bool good = tasks != NULL;
    *ret_threads = 0;
    for (struct dirent *entry; good && (entry = readdir(tasks)) != NULL;) {
        char status[8192] = "";
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "/proc/%d/task/%.20s/status", (int)pid, entry->d_name);
        CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
        good = fd >= 0 && read(fd, status, sizeof(status) - 1) > 0 &&
               strstr(status, "\nSeccomp:\t2\n") != NULL &&
               strstr(status, "\nNoNewPrivs:\t1\n") != NULL;
        (*ret_threads)++;
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    return good;
}

TEST(all_of_its_threads_are_in_the_sandbox)
{
    CLEANUP(rig_end) struct rig rig;
    unsigned threads;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "SELECT 1 AS a"));
    CHECK(all_threads_are_filtered(rig.pid, &threads));
    CHECK(threads >= 2 + RIG_SLOTS); /* main, control, one per slot, and the engine's */
}

TEST(statements_reach_no_file)
{
    static const char *const attempts[] = {
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM read_blob('db://" RIG_NAME "')",
        "SELECT * FROM read_blob('db://" RIG_NAME ".wal')",
        "SELECT * FROM read_text('job://in')",
        "SELECT * FROM read_text('job://out')",
        "SELECT * FROM read_text('s3://bucket/key')",
        "COPY (SELECT 1) TO 'db://" RIG_NAME "' (FORMAT csv)",
        "COPY (SELECT 1) TO 'db://" RIG_NAME ".wal.recovery' (FORMAT csv)",
        "COPY (SELECT 1) TO 'db://tmp/mine' (FORMAT csv)",
        "COPY (SELECT 1) TO '/tmp/eider-none' (FORMAT csv)",
        "ATTACH '/tmp/eider-none.duckdb' AS other",
        "ATTACH 'db://" RIG_NAME "' AS other",
        "ATTACH 'db://tmp/other' AS other",
        "INSTALL httpfs",
        "LOAD '/tmp/eider-none.duckdb_extension'",
        "SET memory_limit = '1TB'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
    };
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a INTEGER)"));
    rig.changes = 0;
    for (size_t i = 0; i < COUNT_OF(attempts); i++) {
        if (rig_run(&rig, 0, attempts[i])) {
            TEST_FAIL("it was let through: %s", attempts[i]);
        }
    }
    CHECK_U64(rig.changes, 0);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 0);
}

/* ---- memory ---- */

#define MANY_GROUPS                                                                   \
    "SELECT count(*) AS c FROM (SELECT m FROM (SELECT md5(range::VARCHAR) AS m FROM " \
    "range(1500000)) GROUP BY m)"

TEST(what_does_not_fit_is_spilled_where_that_is_allowed)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    rig.memory_bytes = 64 << 20;
    rig.temp_bytes_max = 512 << 20;
    CHECK_OPENS(&rig);
    CHECK_ANSWER(&rig, MANY_GROUPS, 1500000);
    CHECK(rig.changes > 0); /* files were made for it, */
    CHECK(rig_close(&rig));
    CHECK(unlinkat(rig.folder_fd, "tmp", AT_REMOVEDIR) == 0); /* and are gone */
    CHECK(mkdirat(rig.folder_fd, "tmp", 0700) == 0);
    rig.temp_bytes_max = 0;
    CHECK_OPENS(&rig);
    CHECK(!rig_run(&rig, 0, MANY_GROUPS));
    CHECK_ANSWER(&rig, "SELECT 41 + 1 AS a", 42);
}

/* What `current_setting` says is for people, who ask for 2 GB and shall read 2.0 GiB. */
TEST(the_memory_limit_is_what_was_asked_for)
{
    char problem[SHIM_TEXT_SIZE];
    char *text = NULL;
    duckdb_database database;
    duckdb_connection connection;
    duckdb_result result = {0};
    CHECK(duckdb_open(NULL, &database) == DuckDBSuccess);
    CHECK(shim_lock_limits(database, UINT64_C(2) << 30, 1, problem, sizeof(problem)));
    CHECK(duckdb_connect(database, &connection) == DuckDBSuccess);
    if (duckdb_query(connection, "SELECT current_setting('memory_limit')", &result) ==
        DuckDBSuccess) {
        text = duckdb_value_varchar(&result, 0, 0);
    }
    CHECK(text != NULL && strcmp(text, "2.0 GiB") == 0);
    duckdb_free(text);
    duckdb_destroy_result(&result);
    duckdb_disconnect(&connection);
    duckdb_close(&database);
}

static const struct test_case cases[] = {

    TEST_CASE(rows_stay_when_it_is_closed_and_opened),
    TEST_CASE(what_was_committed_is_in_the_log_after_a_kill),
    TEST_CASE(a_kill_loses_no_row_that_was_acknowledged),
    TEST_CASE(slots_run_at_once_and_are_interrupted_alone),
    TEST_CASE(an_interrupt_may_come_before_its_request),
    TEST_CASE(nothing_goes_from_one_request_to_another),
    TEST_CASE(progress_is_told_of_long_requests_alone),
    TEST_CASE(a_close_waits_for_what_runs),
    TEST_CASE(it_ends_when_the_server_is_gone),
    TEST_CASE(all_of_its_threads_are_in_the_sandbox),
    TEST_CASE(statements_reach_no_file),
    TEST_CASE(what_does_not_fit_is_spilled_where_that_is_allowed),
    TEST_CASE(the_memory_limit_is_what_was_asked_for),
};
TEST_MAIN(cases)
