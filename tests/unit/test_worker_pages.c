#include "test.h"

#include "worker_duck.h"
#include "worker_pages.h"

#include <stdio.h>
#include <stdlib.h>

/* The kernel's count of large pages of this process that belong to no file. */
static unsigned long large_kib(void)
{
    unsigned long total = 0;
    char line[512];
    FILE *file = fopen("/proc/self/smaps", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "AnonHugePages:", 14) == 0) {
            total += strtoul(line + 14, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return total;
}

static bool answers(struct duck *duck)
{
    struct err err;
    return duck_run(
        duck, STR("SELECT count(*), sum(i), string_agg(i::VARCHAR, ',') FROM range(10000) t(i)"),
        NULL, &err);
}

TEST(the_engine_runs_on_after_its_code_was_moved)
{
    struct duck duck = {0};
    struct err err;
    CHECK(duck_open(&duck, &err));
    CHECK(answers(&duck));
    unsigned long before = large_kib();
    if (pages_enlarge_code((const void *)(uintptr_t)duckdb_library_version)) {
        CHECK(large_kib() >= before + 8 * 1024);
    }
    CHECK(answers(&duck));
    CHECK(answers(&duck));
}

TEST(an_address_that_is_no_code_changes_nothing)
{
    int local = 0;
    CHECK(!pages_enlarge_code(&local));
}

static const struct test_case cases[] = {
    TEST_CASE(the_engine_runs_on_after_its_code_was_moved),
    TEST_CASE(an_address_that_is_no_code_changes_nothing),
};

TEST_MAIN(cases)
