/* test.h - the smallest frame for unit tests.
 * Use       `TEST(name) { CHECK(...); }` for each fact, then
 *           `static const struct test_case cases[] = {TEST_CASE(name), ...};` and
 * `TEST_MAIN(cases)`. A failed check is printed and ends its test; the others still run. `./test_x
 * name` runs one. Not here  fixtures, mocks: a unit test needs no disk, no network and no sleep. */
#pragma once

#include "str.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef void (*test_function)(bool *test_failed);

struct test_case {
    const char *name;
    test_function function;
};

#define TEST(name) static void name(bool *test_failed)

#define TEST_FAIL(...)                                  \
    do {                                                \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                   \
        fputc('\n', stderr);                            \
        *test_failed = true;                            \
        return;                                         \
    } while (0)

#define CHECK(condition)                           \
    do {                                           \
        if (!(condition)) {                        \
            TEST_FAIL("not true: %s", #condition); \
        }                                          \
    } while (0)

/* For calls that fill a struct err: a failure prints its message. */
#define CHECK_OK(call, err)                                                      \
    do {                                                                         \
        if (!(call)) {                                                           \
            TEST_FAIL("%s failed: %s (%s)", #call, (err).message, (err).detail); \
        }                                                                        \
    } while (0)

#define CHECK_U64(actual, expected)                                                            \
    do {                                                                                       \
        uint64_t test_actual = (uint64_t)(actual);                                             \
        uint64_t test_expected = (uint64_t)(expected);                                         \
        if (test_actual != test_expected) {                                                    \
            TEST_FAIL("%s is %" PRIu64 ", not %" PRIu64, #actual, test_actual, test_expected); \
        }                                                                                      \
    } while (0)

#define CHECK_I64(actual, expected)                                                            \
    do {                                                                                       \
        int64_t test_actual = (int64_t)(actual);                                               \
        int64_t test_expected = (int64_t)(expected);                                           \
        if (test_actual != test_expected) {                                                    \
            TEST_FAIL("%s is %" PRId64 ", not %" PRId64, #actual, test_actual, test_expected); \
        }                                                                                      \
    } while (0)

/* A struct str against a C string. */
#define CHECK_STR(actual, expected)                                               \
    do {                                                                          \
        struct str test_actual = (actual);                                        \
        const char *test_expected = (expected);                                   \
        if (test_actual.len != strlen(test_expected) ||                           \
            (test_actual.len > 0 &&                                               \
             memcmp(test_actual.ptr, test_expected, test_actual.len) != 0)) {     \
            TEST_FAIL("%s is '%.*s', not '%s'", #actual, (int)test_actual.len,    \
                      test_actual.len > 0 ? test_actual.ptr : "", test_expected); \
        }                                                                         \
    } while (0)

/* Waits for a condition that another thread brings about; fails when timeout_ms have passed. */
#define CHECK_WITHIN(timeout_ms, condition)                                            \
    do {                                                                               \
        int64_t test_deadline_ms = test_now_ms() + (timeout_ms);                       \
        while (!(condition)) {                                                         \
            if (test_now_ms() > test_deadline_ms) {                                    \
                TEST_FAIL("not true within %d ms: %s", (int)(timeout_ms), #condition); \
            }                                                                          \
            test_pause();                                                              \
        }                                                                              \
    } while (0)

static inline int64_t test_now_ms(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void test_pause(void)
{
    struct timespec pause = {.tv_nsec = 1000000};
    nanosleep(&pause, NULL);
}

static inline int test_run(const struct test_case *cases, size_t count, const char *only)
{
    size_t run = 0;
    size_t failed = 0;
    for (size_t i = 0; i < count; i++) {
        if (only != NULL && strcmp(only, cases[i].name) != 0) {
            continue;
        }
        bool test_failed = false;
        cases[i].function(&test_failed);
        run++;
        failed += test_failed ? 1 : 0;
        printf("%s %s\n", test_failed ? "FAIL" : "ok  ", cases[i].name);
        fflush(stdout);
    }
    printf("%zu of %zu ok\n", run - failed, run);
    return run > 0 && failed == 0 ? 0 : 1;
}

#define TEST_CASE(name) \
    {                   \
#name, name     \
    }

#define TEST_MAIN(cases)                                                                       \
    int main(int argc, char **argv)                                                            \
    {                                                                                          \
        return test_run(cases, sizeof(cases) / sizeof((cases)[0]), argc > 1 ? argv[1] : NULL); \
    }
