#include "test.h"

#include "fd.h"
#include "mem.h"
#include "thread.h"
#include "worker_job.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PAYLOAD_MAX = 4096,
    FLIPS = 4000
};

static const struct worker_column columns[] = {
    {{"a", 1}, {"VARCHAR", 7}, {"BIGINT", 6}, 1, 3},
    {{"", 0}, {"", 0}, {"", 0}, 0, 0},
    {{"caf\xc3\xa9\0x", 7}, {"BIGINT", 6}, {"DECIMAL(18,2)", 13}, 0, 1},
};

static const struct worker_schema_column schema_columns[] = {
    {{"a", 1}, {"BIGINT", 6}},
    {{"b", 1}, {"STRUCT(x VARCHAR)", 17}},
};
static const struct worker_schema schemas[] = {{schema_columns, 2}, {NULL, 0}};
static const struct worker_file files[] = {
    {{"s3://b/one.parquet", 18}, 1},
    {{"", 0}, 0},
    {{"s3://b/two.parquet", 18}, 2},
};

static const struct str windows[] = {{"lake://tail/day=1/0.json", 24}, {"", 0}};
static const struct worker_tail tails[] = {
    {columns, COUNT_OF(columns), 3, 99, windows, COUNT_OF(windows)},
    {NULL, 0, 0, 0, NULL, 0},
};

static const struct worker_job job_sent = {
    .kind = WORKER_WRITE,
    .limits = {.memory_bytes = UINT64_MAX,
               .address_space_bytes = 1,
               .output_bytes = 2,
               .cpu_seconds = 3,
               .niceness = 6,
               .threads = 4,
               .layers_off = 5},
    .statement = {"SELECT 1", 8},
    .columns = columns,
    .columns_count = COUNT_OF(columns),
    .rest = 2,
    .input_offset = 4096,
    .input_size = 99,
    .input_rows = 9,
    .order_by = {"a", 1},
    .line_size_max = 77,
    .row_group_rows = 88,
};
static const struct worker_table table_sent = {
    .name = {"t", 1},
    .kind = WORKER_TABLE_LAKE,
    .files = files,
    .files_count = COUNT_OF(files),
    .schemas = schemas,
    .schemas_count = COUNT_OF(schemas),
    .tails = tails,
    .tails_count = COUNT_OF(tails),
};
static const struct worker_outcome outcome_sent = {
    .kind = ERR_TIMEOUT, .rows = 5, .peak_bytes = UINT64_MAX, .message = {"too long", 8}};

TEST(a_job_survives_the_trip)
{
    struct buf buf;
    struct worker_job job;
    struct err err;
    buf_init(&buf, PAYLOAD_MAX);
    worker_put_job(&buf, &job_sent);
    CHECK_OK(worker_get_job(buf_str(&buf), &job, &err), err);
    CHECK_U64(job.kind, WORKER_WRITE);
    CHECK(memcmp(&job.limits, &job_sent.limits, sizeof(job.limits)) == 0);
    CHECK_STR(job.statement, "SELECT 1");
    CHECK_U64(job.rest, 2);
    CHECK_U64(job.input_offset, 4096);
    CHECK_U64(job.input_size, 99);
    CHECK_U64(job.input_rows, 9);
    CHECK_STR(job.order_by, "a");
    CHECK_U64(job.line_size_max, 77);
    CHECK_U64(job.row_group_rows, 88);
    CHECK_U64(job.columns_count, COUNT_OF(columns));
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        CHECK(str_equal(job.columns[i].name, columns[i].name));
        CHECK(str_equal(job.columns[i].line_type, columns[i].line_type));
        CHECK(str_equal(job.columns[i].sql_type, columns[i].sql_type));
        CHECK_U64(job.columns[i].loose, columns[i].loose);
        CHECK_U64(job.columns[i].sort, columns[i].sort);
    }
    worker_job_finish(&job);
    worker_job_finish(&job);
    buf_finish(&buf);
}

TEST(a_table_survives_the_trip)
{
    struct buf buf;
    struct worker_table table;
    buf_init(&buf, PAYLOAD_MAX);
    worker_put_table(&buf, &table_sent);
    struct worker_cursor cursor = {.rest = buf_str(&buf)};
    CHECK(worker_get_table(&cursor, &table));
    CHECK(worker_get_end(&cursor));
    CHECK_STR(table.name, "t");
    CHECK_U64(table.kind, WORKER_TABLE_LAKE);
    CHECK_U64(table.files_count, COUNT_OF(files));
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        CHECK(str_equal(table.files[i].path, files[i].path));
        CHECK_U64(table.files[i].schema, files[i].schema);
    }
    CHECK_U64(table.schemas_count, 2);
    CHECK_U64(table.schemas[0].columns_count, 2);
    CHECK_STR(table.schemas[0].columns[1].type, "STRUCT(x VARCHAR)");
    CHECK_U64(table.schemas[1].columns_count, 0);
    CHECK_U64(table.tails_count, 2);
    CHECK_U64(table.tails[0].columns_count, COUNT_OF(columns));
    CHECK(str_equal(table.tails[0].columns[2].name, columns[2].name));
    CHECK_U64(table.tails[0].columns[0].loose, columns[0].loose);
    CHECK_U64(table.tails[0].rest, 3);
    CHECK_U64(table.tails[0].line_size_max, 99);
    CHECK_U64(table.tails[0].windows_count, COUNT_OF(windows));
    CHECK_STR(table.tails[0].windows[0], "lake://tail/day=1/0.json");
    CHECK_U64(table.tails[1].windows_count, 0);
    worker_table_finish(&table);
    worker_table_finish(&table);
    buf_finish(&buf);
}

TEST(an_outcome_survives_the_trip)
{
    struct buf buf;
    struct worker_outcome outcome;
    struct err err;
    buf_init(&buf, PAYLOAD_MAX);
    worker_put_outcome(&buf, &outcome_sent);
    CHECK_OK(worker_get_outcome(buf_str(&buf), &outcome, &err), err);
    CHECK_U64(outcome.kind, ERR_TIMEOUT);
    CHECK_U64(outcome.rows, 5);
    CHECK_U64(outcome.peak_bytes, UINT64_MAX);
    CHECK_STR(outcome.message, "too long");
    buf_reset(&buf);
    worker_put_outcome(&buf, &(struct worker_outcome){.kind = ERR_KIND_COUNT});
    CHECK(!worker_get_outcome(buf_str(&buf), &outcome, &err));
    CHECK(err.kind == ERR_CORRUPT);
    buf_finish(&buf);
}

static bool lies_within(struct str text, struct str payload)
{
    return text.len == 0 ||
           (text.ptr >= payload.ptr && text.ptr + text.len <= payload.ptr + payload.len);
}

/* Each decodes a payload, checks that what came out lies within it, and says whether it was whole.
 * *ret_sane is false when a text points elsewhere or a failure has the wrong kind. */
static bool decode_job(struct str payload, bool *ret_sane)
{
    struct worker_job job;
    struct err err = {0};
    if (!worker_get_job(payload, &job, &err)) {
        *ret_sane = *ret_sane && err.kind == ERR_CORRUPT;
        return false;
    }
    *ret_sane =
        *ret_sane && lies_within(job.statement, payload) && lies_within(job.order_by, payload);
    for (size_t i = 0; i < job.columns_count; i++) {
        *ret_sane = *ret_sane && lies_within(job.columns[i].name, payload) &&
                    lies_within(job.columns[i].line_type, payload) &&
                    lies_within(job.columns[i].sql_type, payload);
    }
    worker_job_finish(&job);
    return true;
}

static bool decode_table(struct str payload, bool *ret_sane)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_table table;
    if (!worker_get_table(&cursor, &table)) {
        return false;
    }
    *ret_sane = *ret_sane && lies_within(table.name, payload);
    for (size_t i = 0; i < table.files_count; i++) {
        *ret_sane = *ret_sane && lies_within(table.files[i].path, payload) &&
                    table.files[i].schema <= table.schemas_count;
    }
    for (size_t i = 0; i < table.schemas_count; i++) {
        for (size_t j = 0; j < table.schemas[i].columns_count; j++) {
            *ret_sane = *ret_sane && lies_within(table.schemas[i].columns[j].name, payload) &&
                        lies_within(table.schemas[i].columns[j].type, payload);
        }
    }
    for (size_t i = 0; i < table.tails_count; i++) {
        *ret_sane = *ret_sane && table.tails[i].rest <= table.tails[i].columns_count;
        for (size_t j = 0; j < table.tails[i].columns_count; j++) {
            *ret_sane = *ret_sane && lies_within(table.tails[i].columns[j].name, payload);
        }
        for (size_t j = 0; j < table.tails[i].windows_count; j++) {
            *ret_sane = *ret_sane && lies_within(table.tails[i].windows[j], payload);
        }
    }
    worker_table_finish(&table);
    return worker_get_end(&cursor);
}

static bool decode_schema(struct str payload, bool *ret_sane)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_schema schema;
    bool good = worker_get_schema(&cursor, &schema);
    for (size_t i = 0; good && i < schema.columns_count; i++) {
        *ret_sane = *ret_sane && lies_within(schema.columns[i].name, payload) &&
                    lies_within(schema.columns[i].type, payload);
    }
    worker_schema_finish(&schema);
    return good && worker_get_end(&cursor);
}

static bool decode_outcome(struct str payload, bool *ret_sane)
{
    struct worker_outcome outcome;
    struct err err = {0};
    if (!worker_get_outcome(payload, &outcome, &err)) {
        *ret_sane = *ret_sane && err.kind == ERR_CORRUPT;
        return false;
    }
    *ret_sane = *ret_sane && lies_within(outcome.message, payload) && outcome.kind < ERR_KIND_COUNT;
    return true;
}

static void encode_job(struct buf *buf)
{
    worker_put_job(buf, &job_sent);
}

static void encode_table(struct buf *buf)
{
    worker_put_table(buf, &table_sent);
}

static void encode_schema(struct buf *buf)
{
    worker_put_schema(buf, &schemas[0]);
}

static void encode_outcome(struct buf *buf)
{
    worker_put_outcome(buf, &outcome_sent);
}

static const struct {
    const char *name;
    void (*encode)(struct buf *buf);
    bool (*decode)(struct str payload, bool *ret_sane);
} messages[] = {
    {"job", encode_job, decode_job},
    {"table", encode_table, decode_table},
    {"schema", encode_schema, decode_schema},
    {"outcome", encode_outcome, decode_outcome},
};

/* Pieces have memory of their own size, so that a sanitizer sees a byte read beyond them. */
TEST(every_truncation_is_refused)
{
    for (size_t i = 0; i < COUNT_OF(messages); i++) {
        struct buf buf;
        bool sane = true;
        buf_init(&buf, PAYLOAD_MAX);
        messages[i].encode(&buf);
        CHECK(messages[i].decode(buf_str(&buf), &sane) && sane);
        for (size_t size = 0; size < buf.len; size++) {
            char *piece = mem_alloc(size);
            memcpy(piece, buf.ptr, size);
            bool whole = messages[i].decode(str_make(piece, size), &sane);
            mem_free(piece);
            if (whole || !sane) {
                TEST_FAIL("%s cut to %zu bytes", messages[i].name, size);
            }
        }
        buf_append_byte(&buf, '\0');
        CHECK(!messages[i].decode(buf_str(&buf), &sane) && sane);
        buf_finish(&buf);
    }
}

TEST(flipped_bytes_fail_or_decode)
{
    uint32_t seed = 4711;
    for (size_t i = 0; i < COUNT_OF(messages); i++) {
        struct buf buf;
        bool sane = true;
        buf_init(&buf, PAYLOAD_MAX);
        messages[i].encode(&buf);
        char *copy = mem_alloc(buf.len);
        for (int flip = 0; flip < FLIPS; flip++) {
            memcpy(copy, buf.ptr, buf.len);
            for (int bytes = flip % 4; bytes >= 0; bytes--) {
                seed = seed * 1664525 + 1013904223;
                copy[(seed >> 8) % buf.len] = (char)(seed >> 3);
            }
            (void)messages[i].decode(str_make(copy, buf.len), &sane);
            CHECK(sane);
        }
        mem_free(copy);
        buf_finish(&buf);
    }
}

/* Every eight bytes of a message in turn become a number that promises too much. */
TEST(counts_that_lie_are_refused)
{
    static const uint64_t lies[] = {UINT64_MAX,        UINT64_MAX / 2, UINT64_C(1) << 61,
                                    UINT64_C(1) << 32, 1 << 20,        UINT64_MAX / 24 + 2};
    for (size_t i = 0; i < COUNT_OF(messages); i++) {
        struct buf buf;
        bool sane = true;
        buf_init(&buf, PAYLOAD_MAX);
        messages[i].encode(&buf);
        for (size_t at = 0; at + 8 <= buf.len; at++) {
            for (size_t j = 0; j < COUNT_OF(lies); j++) {
                char kept[8];
                memcpy(kept, buf.ptr + at, 8);
                memcpy(buf.ptr + at, &lies[j], 8);
                (void)messages[i].decode(buf_str(&buf), &sane);
                memcpy(buf.ptr + at, kept, 8);
            }
        }
        CHECK(sane);
        buf_finish(&buf);
    }
}

TEST(a_count_needs_its_bytes)
{
    struct buf buf;
    buf_init(&buf, PAYLOAD_MAX);
    worker_put_u64(&buf, 3);
    buf_append_text(&buf, "123456789");
    struct worker_cursor cursor = {.rest = buf_str(&buf)};
    CHECK_U64(worker_get_count(&cursor, 3), 3);
    CHECK(!cursor.failed);
    cursor = (struct worker_cursor){.rest = buf_str(&buf)};
    CHECK_U64(worker_get_count(&cursor, 4), 0);
    CHECK(cursor.failed);
    CHECK_U64(worker_get_u32(&cursor), 0);
    CHECK_U64(worker_get_u64(&cursor), 0);
    CHECK_STR(worker_get_text(&cursor), "");
    CHECK(!worker_get_end(&cursor));
    buf_finish(&buf);
}

TEST(a_schema_number_beyond_the_list_is_refused)
{
    struct buf buf;
    struct worker_table table;
    struct worker_file file = {.path = STR("p"), .schema = 2};
    buf_init(&buf, PAYLOAD_MAX);
    worker_put_table(&buf, &(struct worker_table){.name = STR("t"),
                                                  .kind = WORKER_TABLE_FILES,
                                                  .files = &file,
                                                  .files_count = 1,
                                                  .schemas = schemas,
                                                  .schemas_count = 1});
    struct worker_cursor cursor = {.rest = buf_str(&buf)};
    CHECK(!worker_get_table(&cursor, &table));
    buf_finish(&buf);
}

TEST(a_column_of_misfits_beyond_the_list_is_refused)
{
    struct buf buf;
    struct worker_table table;
    const struct worker_column column = {.name = STR("a")};
    const struct worker_tail tail = {.columns = &column, .columns_count = 1, .rest = 2};
    buf_init(&buf, PAYLOAD_MAX);
    worker_put_table(
        &buf, &(struct worker_table){
                  .name = STR("t"), .kind = WORKER_TABLE_LAKE, .tails = &tail, .tails_count = 1});
    struct worker_cursor cursor = {.rest = buf_str(&buf)};
    CHECK(!worker_get_table(&cursor, &table));
    buf_finish(&buf);
}

/* ---- frames ---- */

struct line {
    int ends[2];
    struct worker_frame frame;
};

static bool line_open(struct line *line)
{
    worker_frame_init(&line->frame);
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line->ends) == 0;
}

static void line_close(struct line *line)
{
    worker_frame_finish(&line->frame);
    fd_close(&line->ends[0]);
    fd_close(&line->ends[1]);
}

TEST(frames_come_one_by_one)
{
    struct line line;
    struct err err;
    CHECK(line_open(&line));
    CHECK_OK(worker_send(line.ends[0], WORKER_RESULT, STR("one"), NULL, 0, -1, &err), err);
    CHECK_OK(worker_send(line.ends[0], WORKER_CANCEL, STR(""), NULL, 0, -1, &err), err);
    CHECK_OK(worker_send(line.ends[0], WORKER_FETCH, STR("three\0!"), NULL, 0, -1, &err), err);
    CHECK_OK(worker_receive(line.ends[1], &line.frame, &err), err);
    CHECK_U64(line.frame.type, WORKER_RESULT);
    CHECK_STR(buf_str(&line.frame.payload), "one");
    CHECK_I64(line.frame.fds[0], -1);
    CHECK_OK(worker_receive(line.ends[1], &line.frame, &err), err);
    CHECK_U64(line.frame.type, WORKER_CANCEL);
    CHECK_U64(line.frame.payload.len, 0);
    CHECK_OK(worker_receive(line.ends[1], &line.frame, &err), err);
    CHECK_U64(line.frame.payload.len, 7);
    line_close(&line);
}

TEST(descriptors_ride_with_their_frame)
{
    struct line line;
    struct err err;
    char text[8] = {0};
    CHECK(line_open(&line));
    int pipe_ends[2];
    CHECK(pipe2(pipe_ends, O_CLOEXEC) == 0);
    CHECK_OK(worker_send(line.ends[0], WORKER_JOB, STR("job"), pipe_ends, 2, -1, &err), err);
    CHECK_OK(worker_send(line.ends[0], WORKER_OPENED, STR("o"), &pipe_ends[0], 1, -1, &err), err);
    CHECK_OK(worker_send(line.ends[0], WORKER_RESULT, STR("r"), NULL, 0, -1, &err), err);
    CHECK_OK(worker_receive(line.ends[1], &line.frame, &err), err);
    int first[2] = {line.frame.fds[0], line.frame.fds[1]};
    CHECK(first[0] >= 0 && first[1] >= 0 && first[0] != pipe_ends[0]);
    CHECK((fcntl(first[0], F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_OK(fd_write_all(first[1], STR("hello"), &err), err);
    CHECK(read(pipe_ends[0], text, sizeof(text)) == 5);
    CHECK_OK(worker_receive(line.ends[1], &line.frame, &err), err);
    CHECK(line.frame.fds[0] >= 0);
    CHECK_I64(line.frame.fds[1], -1);
    /* What nobody took was closed. */
    CHECK(line.frame.fds[0] == first[0] || fcntl(first[0], F_GETFD) < 0);
    CHECK(fcntl(first[1], F_GETFD) < 0);
    CHECK_OK(worker_receive(line.ends[1], &line.frame, &err), err);
    CHECK_I64(line.frame.fds[0], -1);
    fd_close(&pipe_ends[0]);
    fd_close(&pipe_ends[1]);
    line_close(&line);
}

struct sender {
    int socket_fd;
    struct str payload;
    bool sent;
};

static void *send_large(void *argument)
{
    struct sender *sender = argument;
    struct err err;
    sender->sent =
        worker_send(sender->socket_fd, WORKER_RESULT, sender->payload, NULL, 0, -1, &err);
    return NULL;
}

TEST(a_large_frame_takes_many_steps)
{
    enum {
        SIZE = 5 << 20
    };
    struct line line;
    struct err err;
    CHECK(line_open(&line));
    CLEANUP(mem_free_text) char *bytes = mem_alloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 31 >> 4);
    }
    struct sender sender = {.socket_fd = line.ends[0], .payload = str_make(bytes, SIZE)};
    pthread_t thread = thread_start("sender", send_large, &sender);
    CHECK_OK(worker_receive(line.ends[1], &line.frame, &err), err);
    (void)pthread_join(thread, NULL);
    CHECK(sender.sent);
    CHECK(str_equal(buf_str(&line.frame.payload), sender.payload));
    line_close(&line);
}

static bool receive_fails(const void *bytes, size_t size, enum err_kind kind)
{
    struct line line;
    struct err err = {0};
    bool good = line_open(&line) && fd_write_all(line.ends[0], str_make(bytes, size), &err);
    fd_close(&line.ends[0]);
    good = good && !worker_receive(line.ends[1], &line.frame, &err) && err.kind == kind;
    line_close(&line);
    return good;
}

TEST(frames_that_break_the_format)
{
    const uint32_t too_large[2] = {WORKER_RESULT, WORKER_FRAME_SIZE_MAX + 1};
    const uint32_t far_too_large[2] = {WORKER_RESULT, UINT32_MAX};
    const uint32_t no_payload[2] = {WORKER_RESULT, 10};
    CHECK(receive_fails(too_large, sizeof(too_large), ERR_CORRUPT));
    CHECK(receive_fails(far_too_large, sizeof(far_too_large), ERR_CORRUPT));
    CHECK(receive_fails(no_payload, sizeof(no_payload), ERR_UNAVAILABLE));
    CHECK(receive_fails(no_payload, 7, ERR_UNAVAILABLE));
    CHECK(receive_fails("", 0, ERR_UNAVAILABLE));
}

TEST(sending_to_nobody_is_an_error)
{
    struct line line;
    struct err err = {0};
    CHECK(line_open(&line));
    fd_close(&line.ends[1]);
    CHECK(!worker_send(line.ends[0], WORKER_CANCEL, STR("x"), NULL, 0, -1, &err));
    CHECK(err.kind == ERR_UNAVAILABLE);
    line_close(&line);
}

static const struct test_case cases[] = {
    TEST_CASE(a_job_survives_the_trip),
    TEST_CASE(a_table_survives_the_trip),
    TEST_CASE(an_outcome_survives_the_trip),
    TEST_CASE(every_truncation_is_refused),
    TEST_CASE(flipped_bytes_fail_or_decode),
    TEST_CASE(counts_that_lie_are_refused),
    TEST_CASE(a_count_needs_its_bytes),
    TEST_CASE(a_schema_number_beyond_the_list_is_refused),
    TEST_CASE(a_column_of_misfits_beyond_the_list_is_refused),
    TEST_CASE(frames_come_one_by_one),
    TEST_CASE(descriptors_ride_with_their_frame),
    TEST_CASE(a_large_frame_takes_many_steps),
    TEST_CASE(frames_that_break_the_format),
    TEST_CASE(sending_to_nobody_is_an_error),
};

TEST_MAIN(cases)
