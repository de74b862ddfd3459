#include "database_rig.h"

TEST(a_new_file_takes_rows_and_gives_them_back)
{
    struct rig rig;
    CHECK(rig_begin(&rig));
    if (!rig_open(&rig)) {
        TEST_FAIL("it does not open: %d %s", rig.outcome, rig.outcome_text);
    }
    CHECK(rig_run(&rig, 0, "CREATE TABLE t (a INTEGER)"));
    CHECK(rig_run(&rig, 1, "INSERT INTO t VALUES (7)"));
    CHECK(rig_run(&rig, 0, "SELECT a FROM t"));
    CHECK(rig_close(&rig));
    CHECK(rig_open(&rig));
    CHECK(rig_run(&rig, 0, "SELECT a FROM t"));
    CHECK(rig_run(&rig, 1, "INSERT INTO t VALUES (8)"));
    rig_kill(&rig);
    CHECK(rig_open(&rig));
    CHECK(rig_run(&rig, 0, "SELECT sum(a) FROM t"));
    rig_end(&rig);
}

static const struct test_case cases[] = {
    TEST_CASE(a_new_file_takes_rows_and_gives_them_back),
};
TEST_MAIN(cases)
