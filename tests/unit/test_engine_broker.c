/* The server's side of the worker's socket, when the worker is an enemy: each script below breaks
 * the protocol in one way, and the job has to end with an error that fits, nothing handed out,
 * nothing leaked, and the next job well. */
#include "hostile_job.h"
#include "num.h"

#include <fcntl.h>

/* ---- scripts ---- */

static void resolve_twice(struct hostile_worker *worker)
{
    hostile_resolve(worker);
    hostile_ask_tables(worker);
    hostile_stay(worker);
}

static void announce(struct hostile_worker *worker, uint32_t type, uint32_t size)
{
    uint32_t header[2] = {type, size};
    hostile_send_raw(worker, header, sizeof(header));
}

static void announce_too_much(struct hostile_worker *worker)
{
    announce(worker, WORKER_RESULT, WORKER_QUESTION_SIZE_MAX + 1);
    hostile_stay(worker);
}

static void announce_everything(struct hostile_worker *worker)
{
    announce(worker, WORKER_OPEN, UINT32_MAX);
    hostile_stay(worker);
}

static void stop_in_the_middle(struct hostile_worker *worker)
{
    announce(worker, WORKER_OPEN, 100);
    hostile_send_raw(worker, "ten bytes.", 10);
    hostile_stay(worker);
}

static void leave_in_the_middle(struct hostile_worker *worker)
{
    announce(worker, WORKER_OUTCOME, 100);
    hostile_send_raw(worker, "ten bytes.", 10);
}

static void say_nothing(struct hostile_worker *worker)
{
    (void)worker;
}

static void flood(struct hostile_worker *worker)
{
    static char bytes[WORKER_RESULT_SIZE_MAX];
    for (;;) {
        hostile_send(worker, WORKER_RESULT, str_make(bytes, sizeof(bytes)));
    }
}

static void talk_after_the_end(struct hostile_worker *worker)
{
    hostile_outcome(worker, 3);
    hostile_send(worker, WORKER_RESULT, STR("late"));
    hostile_ask_tables(worker);
}

static void open_undeclared(struct hostile_worker *worker)
{
    static const char *const paths[] = {
        "lake://other", "lake://declared/", "lake://declare", "s3://b/k",
        "/etc/passwd",  "job://in",         "declared",       "",
    };
    hostile_resolve(worker);
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        if (hostile_open(worker, paths[i]) == ERR_NONE || worker->frame.fds[0] >= 0) {
            _exit(1);
        }
    }
    hostile_outcome(worker, COUNT_OF(paths));
}

static void open_too_early(struct hostile_worker *worker)
{
    bool refused = hostile_open(worker, "lake://declared") != ERR_NONE;
    hostile_outcome(worker, refused && worker->frame.fds[0] < 0 ? 1 : 0);
}

/* What it is given can be read, and not written, grown or opened again for writing. */
static void open_and_write(struct hostile_worker *worker)
{
    hostile_resolve(worker);
    bool opened = hostile_open(worker, "lake://declared") == ERR_NONE;
    int fd = worker->frame.fds[0];
    bool read_only = fd >= 0 && write(fd, "x", 1) < 0 && ftruncate(fd, 0) != 0 &&
                     (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
    hostile_outcome(worker, opened && read_only ? 1 : 0);
}

static void fetch_unopened(struct hostile_worker *worker)
{
    hostile_resolve(worker);
    hostile_ask_fetch(worker, "lake://declared", 0, 1);
    hostile_stay(worker);
}

static void fetch_undeclared(struct hostile_worker *worker)
{
    hostile_resolve(worker);
    (void)hostile_open(worker, "lake://declared");
    hostile_ask_fetch(worker, "lake://other", 0, 1);
    hostile_stay(worker);
}

static void fetch_range(struct hostile_worker *worker, uint64_t offset, uint64_t size)
{
    hostile_resolve(worker);
    if (hostile_open(worker, "lake://declared") != ERR_NONE) {
        _exit(1);
    }
    hostile_ask_fetch(worker, "lake://declared", offset, size);
    hostile_stay(worker);
}

static void fetch_nothing(struct hostile_worker *worker)
{
    fetch_range(worker, 0, 0);
}

static void fetch_beyond(struct hostile_worker *worker)
{
    fetch_range(worker, OBJECT_SIZE - 1, 2);
}

static void fetch_far_beyond(struct hostile_worker *worker)
{
    fetch_range(worker, UINT64_MAX - 1, 4);
}

static void fetch_too_much(struct hostile_worker *worker)
{
    fetch_range(worker, 0, UINT64_MAX);
}

static void fetch_all_the_time(struct hostile_worker *worker)
{
    hostile_resolve(worker);
    (void)hostile_open(worker, "lake://declared");
    for (;;) {
        hostile_ask_fetch(worker, "lake://declared", 0, 1);
    }
}

static void fetch_a_little(struct hostile_worker *worker)
{
    hostile_resolve(worker);
    (void)hostile_open(worker, "lake://declared");
    for (int i = 0; i < 60; i++) {
        hostile_ask_fetch(worker, "lake://declared", 0, 1);
    }
    hostile_outcome(worker, 60);
}

/* A hundred descriptors with one frame each: nobody asked for any. */
static void attach_descriptors(struct hostile_worker *worker)
{
    struct err err;
    for (int i = 0; i < 50; i++) {
        int fds[WORKER_FDS_MAX] = {STDERR_FILENO, STDERR_FILENO};
        if (!worker_send(worker->socket_fd, WORKER_RESULT, STR("x"), fds, WORKER_FDS_MAX, -1,
                         &err)) {
            _exit(1);
        }
    }
    hostile_outcome(worker, 1);
}

static void claim_a_strange_error(struct hostile_worker *worker)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_outcome(&payload, &(struct worker_outcome){.kind = ERR_KIND_COUNT});
    hostile_send_buf(worker, WORKER_OUTCOME, &payload);
    hostile_stay(worker);
}

static void complain_at_length(struct hostile_worker *worker)
{
    static char text[1 << 20];
    struct buf payload;
    memset(text, 'x', sizeof(text));
    buf_init(&payload, 2 << 20);
    worker_put_outcome(&payload, &(struct worker_outcome){.kind = ERR_INVALID,
                                                          .message = str_make(text, sizeof(text))});
    hostile_send_buf(worker, WORKER_OUTCOME, &payload);
}

static void schema_of_undeclared(struct hostile_worker *worker)
{
    struct buf payload;
    hostile_resolve(worker);
    buf_init(&payload, 4096);
    worker_put_text(&payload, STR("lake://other"));
    worker_put_schema(&payload, &(struct worker_schema){0});
    hostile_send_buf(worker, WORKER_SCHEMAS, &payload);
    hostile_stay(worker);
}

static void send_columns(struct hostile_worker *worker, const char *type)
{
    struct buf payload;
    struct worker_schema_column column = {.name = STR("a"), .type = str_of(type)};
    buf_init(&payload, 4096);
    worker_put_schema(&payload, &(struct worker_schema){.columns = &column, .columns_count = 1});
    hostile_send_buf(worker, WORKER_COLUMNS, &payload);
}

static void columns_once(struct hostile_worker *worker)
{
    send_columns(worker, "DECIMAL(18,2)");
    hostile_send(worker, WORKER_RESULT, STR("{}\n"));
    hostile_outcome(worker, 1);
}

static void columns_twice(struct hostile_worker *worker)
{
    send_columns(worker, "BIGINT");
    send_columns(worker, "BIGINT");
    hostile_stay(worker);
}

static void columns_of_sql(struct hostile_worker *worker)
{
    send_columns(worker, "BIGINT, b BIGINT");
    hostile_stay(worker);
}

static void rows_before_columns(struct hostile_worker *worker)
{
    hostile_send(worker, WORKER_RESULT, STR("{}\n"));
    hostile_stay(worker);
}

/* Bytes that no generator of ours chose: a fixed stream, so that a failure can be repeated. */
static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* A frame of each type with a payload of random bytes, or a good one with one byte changed. */
static void send_random_frame(struct hostile_worker *worker, uint32_t type, uint64_t *state)
{
    char bytes[64];
    size_t size = next_random(state) % sizeof(bytes);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)next_random(state);
    }
    if (size >= 16 && next_random(state) % 2 == 0) {
        memset(bytes + 4, 0, 12); /* small numbers go further than large ones */
        bytes[4] = (char)(next_random(state) % 8);
    }
    hostile_send(worker, type, str_make(bytes, size));
}

static uint64_t number_of(struct hostile_worker *worker)
{
    uint64_t number = 0;
    struct err err;
    if (!num_parse_u64(worker->argument, 0, UINT64_MAX, &number, &err)) {
        _exit(1);
    }
    return number;
}

static void ramble(struct hostile_worker *worker)
{
    static const uint32_t types[] = {WORKER_OPEN,    WORKER_FETCH,  WORKER_SCHEMAS,
                                     WORKER_RESOLVE, WORKER_RESULT, WORKER_OUTCOME};
    uint64_t state = number_of(worker);
    if (state % 2 == 0) {
        hostile_resolve(worker);
    }
    for (int i = 0; i < 1000; i++) {
        send_random_frame(worker, types[next_random(&state) % COUNT_OF(types)], &state);
    }
    hostile_stay(worker);
}

static void ramble_without_frames(struct hostile_worker *worker)
{
    uint64_t state = number_of(worker);
    for (int i = 0; i < 1000; i++) {
        uint32_t word = next_random(&state);
        hostile_send_raw(worker, &word, sizeof(word));
    }
    hostile_stay(worker);
}

static void send_type(struct hostile_worker *worker)
{
    hostile_send(worker, (uint32_t)number_of(worker), STR("\0\0\0\0\0\0\0\0"));
    hostile_stay(worker);
}

/* Too short, and then too long, for every type: the hundreds of the argument are the type, the rest
 * is the size. */
static void send_zeros(struct hostile_worker *worker)
{
    static const char zeros[100];
    uint64_t number = number_of(worker);
    if (number / 100 != WORKER_RESOLVE) {
        hostile_resolve(worker);
    }
    hostile_send(worker, (uint32_t)(number / 100), str_make(zeros, number % 100));
    hostile_stay(worker);
}

/* Says that more items follow than bytes are left. */
static void lie_about_counts(struct hostile_worker *worker)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_u32(&payload, 1);
    worker_put_u32(&payload, 0);
    worker_put_u64(&payload, UINT64_MAX / 16);
    hostile_send_buf(worker, WORKER_RESOLVE, &payload);
    hostile_stay(worker);
}

static const struct hostile_script scripts[] = {
    {"honest", be_honest},
    {"resolve twice", resolve_twice},
    {"announce too much", announce_too_much},
    {"announce everything", announce_everything},
    {"stop in the middle", stop_in_the_middle},
    {"leave in the middle", leave_in_the_middle},
    {"say nothing", say_nothing},
    {"flood", flood},
    {"talk after the end", talk_after_the_end},
    {"open undeclared", open_undeclared},
    {"open too early", open_too_early},
    {"open and write", open_and_write},
    {"fetch unopened", fetch_unopened},
    {"fetch undeclared", fetch_undeclared},
    {"fetch nothing", fetch_nothing},
    {"fetch beyond", fetch_beyond},
    {"fetch far beyond", fetch_far_beyond},
    {"fetch too much", fetch_too_much},
    {"fetch all the time", fetch_all_the_time},
    {"fetch a little", fetch_a_little},
    {"attach descriptors", attach_descriptors},
    {"claim a strange error", claim_a_strange_error},
    {"complain at length", complain_at_length},
    {"schema of undeclared", schema_of_undeclared},
    {"lie about counts", lie_about_counts},
    {"columns once", columns_once},
    {"columns twice", columns_twice},
    {"columns of SQL", columns_of_sql},
    {"rows before columns", rows_before_columns},
    {"ramble:", ramble},
    {"ramble without frames:", ramble_without_frames},
    {"type:", send_type},
    {"zeros:", send_zeros},
};

/* ---- tests ---- */

TEST(an_honest_worker_is_served)
{
    struct job job = {.engine = engine};
    CHECK_WELL(&job);
    CHECK_U64(job.resolved, 1);
}

TEST(a_broken_order_ends_the_job)
{
    static const char *const broken[] = {
        "resolve twice",       "fetch unopened",        "fetch undeclared",     "fetch nothing",
        "fetch beyond",        "fetch far beyond",      "fetch too much",       "announce too much",
        "announce everything", "claim a strange error", "schema of undeclared", "lie about counts",
    };
    struct job job = {.engine = engine};
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        CHECK_ENDS(&job, broken[i], ERR_CORRUPT);
        CHECK(job.resolved <= 1);
        CHECK_U64(job.schemas, 0);
    }
    CHECK_WELL(&job);
}

/* A job that reads a body: its columns come once, before its rows; another job has none. */
TEST(columns_come_once_and_first)
{
    static const char *const broken[] = {"columns twice", "columns of SQL", "rows before columns"};
    struct job job = {.engine = engine, .reads = true};
    CHECK_OK(run(&job, "columns once"), job.err);
    CHECK_U64(job.columns, 1);
    CHECK_U64(job.result_bytes, 3);
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        CHECK_ENDS(&job, broken[i], ERR_CORRUPT);
        CHECK_U64(job.result_bytes, 0);
    }
    job.reads = false;
    CHECK_ENDS(&job, "columns once", ERR_CORRUPT);
    CHECK_WELL(&job);
}

TEST(frames_that_only_the_server_sends_are_refused)
{
    static const uint32_t types[] = {0,
                                     WORKER_JOB,
                                     WORKER_TABLES,
                                     WORKER_OPENED,
                                     WORKER_FETCHED,
                                     WORKER_CANCEL,
                                     WORKER_OUTCOME + 100,
                                     UINT32_MAX};
    struct job job = {.engine = engine};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        char script[32];
        (void)snprintf(script, sizeof(script), "type:%u", types[i]);
        CHECK_ENDS(&job, script, ERR_CORRUPT);
    }
    CHECK_WELL(&job);
}

/* Payloads of zeros that are too short for what they should be, or too long. */
TEST(payloads_of_a_wrong_length_are_refused)
{
    static const uint32_t types[] = {WORKER_RESOLVE, WORKER_OPEN,    WORKER_FETCH,
                                     WORKER_SCHEMAS, WORKER_OUTCOME, WORKER_PROGRESS};
    struct job job = {.engine = engine};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (unsigned size = 0; size < 40; size += 3) {
            if (types[i] == WORKER_OPEN && size == 12) {
                continue; /* well formed: the empty path */
            }
            char script[32];
            (void)snprintf(script, sizeof(script), "zeros:%u", types[i] * 100 + size);
            CHECK_ENDS(&job, script, ERR_CORRUPT);
        }
    }
    CHECK_WELL(&job);
}

TEST(random_frames_end_the_job_and_nothing_else)
{
    struct job job = {.engine = engine};
    for (unsigned seed = 1; seed <= 60; seed++) {
        char script[48];
        (void)snprintf(script, sizeof(script), "%s:%u",
                       seed % 3 == 0 ? "ramble without frames" : "ramble", seed);
        CHECK(!run_for(&job, script, 200));
        CHECK(job.err.kind == ERR_CORRUPT || job.err.kind == ERR_TIMEOUT);
    }
    CHECK_WELL(&job);
}

TEST(half_a_frame_is_waited_for_until_the_deadline)
{
    struct job job = {.engine = engine};
    int64_t started_ms = clock_now_ms();
    CHECK(!run_for(&job, "stop in the middle", 300));
    CHECK_U64(job.err.kind, ERR_TIMEOUT);
    CHECK(clock_now_ms() - started_ms >= 300);
    CHECK(clock_now_ms() - started_ms < 3000);
    CHECK_WELL(&job);
}

TEST(a_worker_that_leaves_without_an_outcome_has_died)
{
    struct job job = {.engine = engine};
    CHECK_ENDS(&job, "leave in the middle", ERR_INTERNAL);
    CHECK_ENDS(&job, "say nothing", ERR_INTERNAL);
    CHECK_WELL(&job);
}

TEST(a_flood_ends_when_nobody_wants_more)
{
    struct job job = {.engine = engine};
    CHECK_ENDS(&job, "flood", ERR_CANCELLED);
    CHECK(job.result_bytes <= job.result_bytes_max + WORKER_RESULT_SIZE_MAX);
    CHECK_WELL(&job);
}

TEST(nothing_after_the_outcome_counts)
{
    struct job job = {.engine = engine};
    CHECK_OK(run(&job, "talk after the end"), job.err);
    CHECK_U64(job.outcome.rows, 3);
    CHECK_U64(job.result_bytes, 0);
    CHECK_U64(job.resolved, 0);
    CHECK_WELL(&job);
}

TEST(only_declared_objects_are_handed_out)
{
    struct job job = {.engine = engine};
    CHECK_OK(run(&job, "open undeclared"), job.err);
    CHECK_U64(job.outcome.rows, 8);
    CHECK_OK(run(&job, "open too early"), job.err);
    CHECK_U64(job.outcome.rows, 1);
    CHECK_WELL(&job);
}

TEST(what_is_handed_out_cannot_be_written)
{
    struct job job = {.engine = engine};
    CHECK_OK(run(&job, "open and write"), job.err);
    CHECK_U64(job.outcome.rows, 1);
    CHECK_WELL(&job);
}

TEST(fetches_under_way_are_bounded)
{
    struct job job = {.engine = engine};
    CHECK_ENDS(&job, "fetch all the time", ERR_CORRUPT);
    CHECK_OK(run(&job, "fetch a little"), job.err);
    CHECK_WELL(&job);
}

TEST(attached_descriptors_are_not_kept)
{
    struct job job = {.engine = engine};
    unsigned before = open_descriptors();
    CHECK_OK(run(&job, "attach descriptors"), job.err);
    CHECK_U64(open_descriptors(), before);
    CHECK_WELL(&job);
}

TEST(a_long_complaint_is_cut)
{
    struct job job = {.engine = engine};
    CHECK_ENDS(&job, "complain at length", ERR_INVALID);
    CHECK(strlen(job.err.message) < sizeof(job.err.message));
    CHECK_WELL(&job);
}

static const struct test_case cases[] = {
    TEST_CASE(an_honest_worker_is_served),
    TEST_CASE(a_broken_order_ends_the_job),
    TEST_CASE(columns_come_once_and_first),
    TEST_CASE(frames_that_only_the_server_sends_are_refused),
    TEST_CASE(payloads_of_a_wrong_length_are_refused),
    TEST_CASE(random_frames_end_the_job_and_nothing_else),
    TEST_CASE(half_a_frame_is_waited_for_until_the_deadline),
    TEST_CASE(a_worker_that_leaves_without_an_outcome_has_died),
    TEST_CASE(a_flood_ends_when_nobody_wants_more),
    TEST_CASE(nothing_after_the_outcome_counts),
    TEST_CASE(only_declared_objects_are_handed_out),
    TEST_CASE(what_is_handed_out_cannot_be_written),
    TEST_CASE(fetches_under_way_are_bounded),
    TEST_CASE(attached_descriptors_are_not_kept),
    TEST_CASE(a_long_complaint_is_cut),
};

HOSTILE_MAIN(scripts, cases)
