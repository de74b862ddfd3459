#include "test.h"

#include "thread.h"
#include "worker_duck.h"
#include "worker_unload.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MEMORY false /* nothing of theirs may go */
#else
#define OWN_MEMORY true
#endif

/* Whether code of the library that holds `address` is there. */
static bool is_mapped(uintptr_t address)
{
    char line[512];
    bool found = false;
    FILE *file = fopen("/proc/self/maps", "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        unsigned long from = 0;
        unsigned long to = 0;
        found =
            found || (sscanf(line, "%lx-%lx", &from, &to) == 2 && address >= from && address < to);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static void *run_statement(void *argument)
{
    struct duck *duck = argument;
    struct err err;
    bool good = duck_run(duck, STR("SELECT count(*) FROM range(1000)"), NULL, &err);
    return good ? duck : NULL;
}

/* Each step that fails has an exit status of its own. */
static int live_without_them(struct duck *duck)
{
    static const void *const kept[] = {(const void *)(uintptr_t)duckdb_library_version};
    const uintptr_t client = (uintptr_t)curl_easy_perform;
    struct err err;
    if (!is_mapped(client) || unload_others(kept, 1) < 10 || is_mapped(client)) {
        return 1;
    }
    /* An exception finds its way, past the headers of what is gone. */
    if (duck_run(duck, STR("SELECT no_such_column"), NULL, &err) || err.kind != ERR_INVALID) {
        return 2;
    }
    /* A thread gets its copy of all variables of threads. */
    void *answer = NULL;
    pthread_t thread = thread_start("test", run_statement, duck);
    if (pthread_join(thread, &answer) != 0 || answer == NULL) {
        return 3;
    }
    pid_t pid = unload_fork();
    if (pid == 0) {
        _exit(run_statement(duck) == NULL);
    }
    int status = -1;
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 4;
}

/* As a zygote is started: symbols are bound at once. */
static _Noreturn void start_again(void)
{
    (void)setenv("LD_BIND_NOW", "1", 1);
    (void)execl("/proc/self/exe", "test_worker_unload", NULL);
    _exit(100);
}

static _Noreturn void open_and_live(void)
{
    struct duck duck = {0};
    struct err err;
    _exit(duck_open(&duck, &err) ? live_without_them(&duck) : 101);
}

TEST(the_engine_lives_without_the_servers_libraries)
{
    if (!OWN_MEMORY) {
        return;
    }
    bool bound = getenv("LD_BIND_NOW") != NULL;
    pid_t pid = fork();
    if (pid == 0 && bound) {
        open_and_live();
    }
    if (pid == 0) {
        start_again();
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK_U64(WEXITSTATUS(status), 0);
}

static const struct test_case cases[] = {
    TEST_CASE(the_engine_lives_without_the_servers_libraries),
};

TEST_MAIN(cases)
