/* Files that do not open: each says why, and is left as it was. */
#include "database_rig.h"

#include "worker_shim.h"

enum {
    PAGE = 4096,
    VERSION_AT = 12,
    COMPATIBILITY_AT = 56
};

/* A database with a table that is in the main file, and rows that are only in its log. */
static bool make_database(struct rig *rig)
{
    return rig_begin(rig) && rig_open(rig) &&
           rig_run(rig, 0, "CREATE TABLE t (a BIGINT, b VARCHAR)") &&
           rig_run(rig, 0, "INSERT INTO t SELECT range, md5(range::VARCHAR) FROM range(300000)") &&
           rig_close(rig) && rig_open(rig) && rig_run(rig, 0, "CREATE INDEX i ON t (a)") &&
           rig_run(rig, 0, "INSERT INTO t VALUES (-1, 'x')") &&
           rig_run(rig, 0, "INSERT INTO t VALUES (-2, 'y')");
}

static uint64_t file_size(struct rig *rig, const char *name)
{
    struct stat status;
    return fstatat(rig->folder_fd, name, &status, 0) == 0 ? (uint64_t)status.st_size : 0;
}

static bool read_file(struct rig *rig, const char *name, uint64_t at, void *into, size_t size)
{
    CLEANUP(fd_close) int fd = openat(rig->folder_fd, name, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && fd_read_at(fd, into, size, at);
}

static bool write_file(struct rig *rig, const char *name, uint64_t at, const void *bytes,
                       size_t size)
{
    CLEANUP(fd_close) int fd = openat(rig->folder_fd, name, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && fd_write_at(fd, bytes, size, at);
}

static bool flip(struct rig *rig, const char *name, uint64_t at)
{
    char byte;
    if (!read_file(rig, name, at, &byte, 1)) {
        return false;
    }
    byte = (char)(byte ^ 0x20);
    return write_file(rig, name, at, &byte, 1);
}

struct snapshot {
    uint64_t sizes[2];
    uint64_t sums[2];
};

static bool take(struct rig *rig, struct snapshot *ret_snapshot)
{
    static const char *const names[] = {RIG_NAME, RIG_NAME ".wal"};
    *ret_snapshot = (struct snapshot){0};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        uint64_t size = file_size(rig, names[i]);
        char *bytes = malloc(size + 1);
        bool good = size == 0 || read_file(rig, names[i], 0, bytes, size);
        ret_snapshot->sizes[i] = size;
        ret_snapshot->sums[i] = size == 0 ? 0 : shim_checksum(bytes, size);
        free(bytes);
        if (!good) {
            return false;
        }
    }
    return true;
}

/* Tries to open it: with this error, and nothing has been changed. */
#define CHECK_REFUSED(rig, expected)                                                     \
    do {                                                                                 \
        struct snapshot before;                                                          \
        struct snapshot after;                                                           \
        CHECK(take((rig), &before));                                                     \
        CHECK(!rig_open(rig));                                                           \
        if ((rig)->outcome != (expected)) {                                              \
            TEST_FAIL("it ended with %d: %s", (int)(rig)->outcome, (rig)->outcome_text); \
        }                                                                                \
        CHECK((rig)->outcome_text[0] != '\0');                                           \
        (void)rig_reap(rig);                                                             \
        CHECK_U64((rig)->changes, 0);                                                    \
        CHECK(take((rig), &after));                                                      \
        CHECK(memcmp(&before, &after, sizeof(before)) == 0);                             \
    } while (0)

TEST(a_log_of_an_index_is_tried_out_and_replayed)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(make_database(&rig));
    rig_kill(&rig);
    CHECK_OPENS(&rig);
    CHECK(rig.log_bytes > 0);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 300002);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t WHERE a = 77", 1);
}

TEST(a_damaged_log_is_corrupt)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(make_database(&rig));
    rig_kill(&rig);
    uint64_t size = file_size(&rig, RIG_NAME ".wal");
    CHECK(size > 1000);
    static const double places[] = {0.1, 0.5, 0.9};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        uint64_t at = (uint64_t)((double)size * places[i]);
        CHECK(flip(&rig, RIG_NAME ".wal", at));
        CHECK_REFUSED(&rig, ERR_CORRUPT);
        CHECK(flip(&rig, RIG_NAME ".wal", at));
    }
    CHECK_OPENS(&rig);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 300002);
}

/* The engine's own opening refuses these, and there is nothing wrong with them. */
TEST(a_log_with_an_alter_that_is_bound_is_replayed)
{
    static const char *const alters[] = {
        "ALTER TABLE t ALTER b TYPE INTEGER USING length(b)",
        "ALTER TABLE t ALTER a SET DEFAULT nextval('q')",
        "ALTER TABLE t ADD COLUMN s.z INTEGER",
        "ALTER TABLE t RENAME COLUMN s.x TO y",
    };
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "CREATE SEQUENCE q"));
    CHECK(rig_run(&rig, 0,
                  "CREATE TABLE t AS SELECT range AS a, 'x' AS b, {'x': 1} AS s FROM range(10)"));
    for (size_t i = 0; i < COUNT_OF(alters); i++) {
        CHECK(rig_run(&rig, 0, alters[i]));
        rig_kill(&rig);
        CHECK_OPENS(&rig);
        CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 10 + i);
        CHECK(rig_run(&rig, 0, "INSERT INTO t(a) VALUES (1)"));
    }
}

/* In the trial and after it: what is spilled is no change of the database. */
TEST(a_log_that_needs_more_than_memory_is_replayed)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    rig.checkpoint_bytes = UINT64_C(1) << 40;
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a BIGINT, b VARCHAR)"));
    for (int i = 0; i < 10; i++) {
        CHECK(rig_run(&rig, 0,
                      "INSERT INTO t SELECT range, repeat(md5(range::VARCHAR), 3) "
                      "FROM range(100000)"));
    }
    rig_kill(&rig);
    rig.memory_bytes = 64 << 20;
    CHECK(!rig_open(&rig));
    if (rig.outcome != ERR_UNPROCESSABLE && rig.outcome != ERR_UNAVAILABLE) {
        TEST_FAIL("it ended with %d: %s", (int)rig.outcome, rig.outcome_text);
    }
    (void)rig_reap(&rig);
    rig.temp_bytes_max = UINT64_C(1) << 30;
    CHECK_OPENS(&rig);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t WHERE length(b) = 96", 1000000);
}

/* What a crash leaves of a write that was not acknowledged. */
TEST(a_log_without_its_last_bytes_opens)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(make_database(&rig));
    rig_kill(&rig);
    uint64_t size = file_size(&rig, RIG_NAME ".wal");
    CLEANUP(fd_close) int fd = openat(rig.folder_fd, RIG_NAME ".wal", O_WRONLY | O_CLOEXEC);
    CHECK(ftruncate(fd, (off_t)size - 5) == 0);
    CHECK_OPENS(&rig);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 300001);
    CHECK(rig_run(&rig, 0, "INSERT INTO t VALUES (-3, 'z')"));
    rig_kill(&rig);
    CHECK_OPENS(&rig);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 300002);
}

TEST(a_damaged_file_is_corrupt)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(make_database(&rig));
    CHECK(rig_close(&rig));
    static const uint64_t places[] = {0, 9, 100, PAGE + 30, 2 * PAGE + 30};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        CHECK(flip(&rig, RIG_NAME, places[i]));
        CHECK_REFUSED(&rig, ERR_CORRUPT);
        CHECK(flip(&rig, RIG_NAME, places[i]));
    }
    uint64_t size = file_size(&rig, RIG_NAME);
    CLEANUP(fd_close) int fd = openat(rig.folder_fd, RIG_NAME, O_WRONLY | O_CLOEXEC);
    CHECK(ftruncate(fd, (off_t)(size / 2)) == 0);
    CHECK_REFUSED(&rig, ERR_CORRUPT);
    CHECK(ftruncate(fd, 100) == 0);
    CHECK_REFUSED(&rig, ERR_CORRUPT);
}

TEST(something_else_is_corrupt)
{
    CLEANUP(rig_end) struct rig rig;
    char noise[3 * PAGE];
    CHECK(rig_begin(&rig));
    CLEANUP(fd_close) int fd = openat(rig.folder_fd, RIG_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    memset(noise, 'n', sizeof(noise));
    CHECK(write(fd, noise, sizeof(noise)) == sizeof(noise));
    CHECK_REFUSED(&rig, ERR_CORRUPT);
}

TEST(a_log_without_its_file_is_corrupt)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(make_database(&rig));
    rig_kill(&rig);
    CHECK(renameat(rig.folder_fd, RIG_NAME, rig.folder_fd, "away") == 0);
    CHECK_REFUSED(&rig, ERR_CORRUPT);
    CHECK(renameat(rig.folder_fd, "away", rig.folder_fd, RIG_NAME) == 0);
    CHECK_OPENS(&rig);
    CHECK_ANSWER(&rig, "SELECT count(*) AS c FROM t", 300002);
}

TEST(the_log_of_another_file_is_corrupt)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(make_database(&rig));
    rig_kill(&rig);
    CHECK(renameat(rig.folder_fd, RIG_NAME ".wal", rig.folder_fd, "log") == 0);
    CHECK(unlinkat(rig.folder_fd, RIG_NAME, 0) == 0);
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a BIGINT, b VARCHAR)"));
    CHECK(rig_close(&rig));
    CHECK(renameat(rig.folder_fd, "log", rig.folder_fd, RIG_NAME ".wal") == 0);
    CHECK_REFUSED(&rig, ERR_CORRUPT);
}

static bool set_number(struct rig *rig, uint64_t page_at, uint64_t at, uint64_t number)
{
    char page[PAGE];
    if (!read_file(rig, RIG_NAME, page_at, page, sizeof(page))) {
        return false;
    }
    memcpy(page + at, &number, sizeof(number));
    uint64_t sum = shim_checksum(page + sizeof(sum), sizeof(page) - sizeof(sum));
    memcpy(page, &sum, sizeof(sum));
    return write_file(rig, RIG_NAME, page_at, page, sizeof(page));
}

TEST(a_newer_file_is_not_implemented)
{
    CLEANUP(rig_end) struct rig rig;
    uint64_t version;
    CHECK(make_database(&rig));
    CHECK(rig_close(&rig));
    CHECK(read_file(&rig, RIG_NAME, VERSION_AT, &version, sizeof(version)));
    CHECK(set_number(&rig, 0, VERSION_AT, version + 1000));
    CHECK_REFUSED(&rig, ERR_NOT_IMPLEMENTED);
    CHECK(set_number(&rig, 0, VERSION_AT, version));
    CHECK(set_number(&rig, PAGE, COMPATIBILITY_AT, 9999));
    CHECK(set_number(&rig, 2 * (uint64_t)PAGE, COMPATIBILITY_AT, 9999));
    CHECK_REFUSED(&rig, ERR_NOT_IMPLEMENTED);
}

TEST(an_empty_file_becomes_a_database)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(rig_begin(&rig));
    CLEANUP(fd_close) int fd = openat(rig.folder_fd, RIG_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_OPENS(&rig);
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a BIGINT)"));
}

TEST(a_disk_that_fails_is_unavailable)
{
    CLEANUP(rig_end) struct rig rig;
    CHECK(make_database(&rig));
    CHECK(rig_close(&rig));
    CHECK(renameat(rig.folder_fd, RIG_NAME, rig.folder_fd, "away") == 0);
    CHECK(mkdirat(rig.folder_fd, RIG_NAME, 0700) == 0); /* reading it is EISDIR */
    CHECK(!rig_open(&rig));
    CHECK_U64(rig.outcome, ERR_UNAVAILABLE);
    (void)rig_reap(&rig);
    CHECK(unlinkat(rig.folder_fd, RIG_NAME, AT_REMOVEDIR) == 0);
    CHECK(renameat(rig.folder_fd, "away", rig.folder_fd, RIG_NAME) == 0);
    CHECK_OPENS(&rig);
}

static const struct test_case cases[] = {
    TEST_CASE(a_log_of_an_index_is_tried_out_and_replayed),
    TEST_CASE(a_damaged_log_is_corrupt),
    TEST_CASE(a_log_with_an_alter_that_is_bound_is_replayed),
    TEST_CASE(a_log_that_needs_more_than_memory_is_replayed),
    TEST_CASE(a_log_without_its_last_bytes_opens),
    TEST_CASE(a_damaged_file_is_corrupt),
    TEST_CASE(something_else_is_corrupt),
    TEST_CASE(a_log_without_its_file_is_corrupt),
    TEST_CASE(the_log_of_another_file_is_corrupt),
    TEST_CASE(a_newer_file_is_not_implemented),
    TEST_CASE(an_empty_file_becomes_a_database),
    TEST_CASE(a_disk_that_fails_is_unavailable),
};
TEST_MAIN(cases)
