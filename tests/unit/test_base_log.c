#include "test.h"

#include "clock.h"
#include "log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    DEADLINE_MS = 10000
};

/* What the log of this process has written: standard error is a pipe while it goes on. */
struct capture {
    int before;
    int from;
    char text[64 << 10];
    size_t len;
};

static struct capture capture;

static void capture_begin(void)
{
    int ends[2];
    (void)!pipe(ends);
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    capture.before = dup(STDERR_FILENO);
    (void)dup2(ends[1], STDERR_FILENO);
    (void)close(ends[1]);
    capture.from = ends[0];
    capture.len = 0;
    capture.text[0] = '\0';
}

static void capture_end(void)
{
    (void)dup2(capture.before, STDERR_FILENO);
    (void)close(capture.before);
    (void)close(capture.from);
}

static const char *written(void)
{
    ssize_t size;
    while ((size = read(capture.from, capture.text + capture.len,
                        sizeof(capture.text) - 1 - capture.len)) > 0) {
        capture.len += (size_t)size;
    }
    capture.text[capture.len] = '\0';
    return capture.text;
}

static size_t count_events(const char *name)
{
    char event[64];
    size_t count = 0;
    (void)snprintf(event, sizeof(event), "\"event\":\"%s\"", name);
    for (const char *at = written(); (at = strstr(at, event)) != NULL; at++) {
        count++;
    }
    return count;
}

static bool is_written_in_time(const char *name, size_t count)
{
    int64_t until_ms = clock_now_ms() + DEADLINE_MS;
    while (count_events(name) < count && clock_now_ms() < until_ms) {
    }
    return count_events(name) == count;
}

static void say_later(const char *name, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        LOG_LATER(LOG_INFO, name, LOG_NUM("number", i), LOG_TEXT("text", STR("a \"b\"\n\x7f")),
                  LOG_FLAG("flag", true));
    }
}

TEST(lines_that_may_wait_are_written_soon)
{
    capture_begin();
    log_start();
    say_later("late", 3);
    bool soon = is_written_in_time("late", 3);
    say_later("again", 1);
    bool again = is_written_in_time("again", 1);
    log_stop();
    capture_end();
    CHECK(soon);
    CHECK(again);
    CHECK(strstr(capture.text, "\"event\":\"late\",\"number\":2,\"text\":\"a \\\"b\\\"\\n?\","
                               "\"flag\":true}\n") != NULL);
}

/* The clock of the one that writes begins with the first line: this ends long before. */
TEST(another_line_takes_those_that_wait_along)
{
    capture_begin();
    log_start();
    int64_t begun_ms = clock_now_ms();
    say_later("late", 2);
    size_t before = count_events("late");
    LOG(LOG_WARN, "at_once", LOG_NUM("number", 1));
    size_t after = count_events("late");
    size_t at_once = count_events("at_once");
    bool in_order = after == 2 && at_once == 1 &&
                    strstr(capture.text, "late") < strstr(capture.text, "at_once");
    bool quick = clock_now_ms() - begun_ms < LOG_LATER_MS;
    log_stop();
    capture_end();
    CHECK(before == 0 || !quick);
    CHECK(in_order);
}

TEST(a_full_buffer_is_written)
{
    capture_begin();
    log_start();
    int64_t begun_ms = clock_now_ms();
    say_later("late", 200);
    size_t count = count_events("late");
    bool quick = clock_now_ms() - begun_ms < LOG_LATER_MS;
    bool all = is_written_in_time("late", 200);
    log_stop();
    capture_end();
    CHECK((count > 100 && count < 200) || !quick);
    CHECK(all);
}

TEST(the_end_writes_what_waits)
{
    capture_begin();
    log_start();
    say_later("late", 2);
    log_stop();
    size_t count = count_events("late");
    say_later("after", 1);
    size_t after = count_events("after");
    capture_end();
    CHECK_U64(count, 2);
    CHECK_U64(after, 1); /* nobody is there who would write it later */
}

TEST(an_abort_writes_what_waits)
{
    capture_begin();
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        log_start();
        say_later("late", 3);
        abort();
    }
    int status = 0;
    (void)waitpid(child, &status, 0);
    size_t count = count_events("late");
    capture_end();
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK_U64(count, 3);
}

static const struct test_case cases[] = {
    TEST_CASE(lines_that_may_wait_are_written_soon),
    TEST_CASE(another_line_takes_those_that_wait_along),
    TEST_CASE(a_full_buffer_is_written),
    TEST_CASE(the_end_writes_what_waits),
    TEST_CASE(an_abort_writes_what_waits),
};

TEST_MAIN(cases)
