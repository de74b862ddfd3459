#include "test.h"

#include "err.h"

#include <errno.h>

TEST(every_kind_has_a_row)
{
    for (int kind = ERR_NONE; kind < ERR_KIND_COUNT; kind++) {
        const struct err_kind_info *info = err_kind_info((enum err_kind)kind);
        if (info->code == NULL || info->code[0] == '\0') {
            TEST_FAIL("kind %d has no row", kind);
        }
        CHECK(kind == ERR_NONE ? info->http_status == 200
                               : info->http_status >= 400 && info->http_status < 600);
        for (int other = ERR_NONE; other < kind; other++) {
            if (strcmp(info->code, err_kind_info((enum err_kind)other)->code) == 0) {
                TEST_FAIL("kinds %d and %d are both '%s'", other, kind, info->code);
            }
        }
    }
}

/* A client that is told to try again must not be told that the fault is its own. */
TEST(only_the_servers_faults_may_be_retried)
{
    for (int kind = ERR_NONE; kind < ERR_KIND_COUNT; kind++) {
        const struct err_kind_info *info = err_kind_info((enum err_kind)kind);
        CHECK(!info->may_retry || info->http_status >= 500);
    }
    CHECK(err_kind_info(ERR_BUSY)->may_retry);
    CHECK(!err_kind_info(ERR_STORE_DENIED)->may_retry);
}

TEST(set_fills_and_returns_false)
{
    struct err err;
    memset(&err, 'x', sizeof(err));
    CHECK(!err_set(&err, ERR_CONFLICT, "table '%s' is %d", "a", 5));
    CHECK(err.kind == ERR_CONFLICT);
    CHECK_STR(str_of(err.message), "table 'a' is 5");
    CHECK_STR(str_of(err.detail), "");
}

TEST(errno_goes_to_the_detail)
{
    struct err err;
    CHECK(!err_set_errno(&err, ERR_UNAVAILABLE, ENOSPC, "cannot write %s", "it"));
    CHECK(err.kind == ERR_UNAVAILABLE);
    CHECK_STR(str_of(err.message), "cannot write it");
    CHECK_STR(str_of(err.detail), "No space left on device");
}

TEST(details_are_appended)
{
    struct err err;
    (void)err_set(&err, ERR_STORE, "m");
    err_add_detail(&err, "one");
    err_add_detail(&err, "%s=%d", "two", 2);
    CHECK_STR(str_of(err.detail), "one; two=2");
    (void)err_set(&err, ERR_STORE, "n");
    CHECK_STR(str_of(err.detail), "");
}

TEST(texts_are_cut_at_their_size)
{
    struct err err;
    (void)err_set(&err, ERR_INVALID, "%02000d", 1);
    CHECK_U64(strlen(err.message), sizeof(err.message) - 1);
    /* Every way to arrive at the end, one byte at a time. */
    for (size_t used = sizeof(err.detail) - 8; used < sizeof(err.detail); used++) {
        (void)err_set(&err, ERR_INVALID, "m");
        memset(err.detail, 'd', used);
        err.detail[used] = '\0';
        err_add_detail(&err, "more than fits");
        CHECK(strlen(err.detail) < sizeof(err.detail));
        CHECK(strlen(err.detail) >= used);
        err_add_detail(&err, "and again");
        CHECK(strlen(err.detail) < sizeof(err.detail));
    }
}

static const struct test_case cases[] = {
    TEST_CASE(every_kind_has_a_row),        TEST_CASE(only_the_servers_faults_may_be_retried),
    TEST_CASE(set_fills_and_returns_false), TEST_CASE(errno_goes_to_the_detail),
    TEST_CASE(details_are_appended),        TEST_CASE(texts_are_cut_at_their_size),
};

TEST_MAIN(cases)
