#include "test.h"

#include "mem.h"
#include "worker_duck.h"
#include "worker_pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* In a process of its own: the rest of the tests keep their heap. */
static int enlarge_heap(void)
{
    enum {
        COUNT = 3000,
        SIZE = 1500 /* more than one large page in all, none of it mapped by itself */
    };
    static char *blocks[COUNT];
    pages_align_heap();
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = mem_alloc(SIZE);
        memset(blocks[i], (int)(i % 251), SIZE);
    }
    unsigned long before = large_kib();
    if (pages_enlarge_heap() && large_kib() < before + 2 * 1024) {
        return 1;
    }
    for (size_t i = 0; i < COUNT; i++) {
        char wanted[SIZE];
        memset(wanted, (int)(i % 251), SIZE);
        if (memcmp(blocks[i], wanted, SIZE) != 0) {
            return 2;
        }
        mem_free(blocks[i]);
    }
    return 0;
}

TEST(the_heap_is_what_it_was_in_larger_pages)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    pid_t pid = fork();
    if (pid == 0) {
        _exit(enlarge_heap());
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK_U64(WEXITSTATUS(status), 0);
#else
    (void)enlarge_heap;
    (void)test_failed;
#endif
}

static const struct test_case cases[] = {
    TEST_CASE(the_engine_runs_on_after_its_code_was_moved),
    TEST_CASE(an_address_that_is_no_code_changes_nothing),
    TEST_CASE(the_heap_is_what_it_was_in_larger_pages),
};

TEST_MAIN(cases)
