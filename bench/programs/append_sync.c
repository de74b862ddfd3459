/* append_sync.c - the bound of a durable record: bytes at the end of a file, and fdatasync, again
 * and again, with nothing around it.
 *
 * usage: append_sync FILE SIZE SECONDS
 *
 * Prints one JSON object. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SAMPLES_MAX = 4 << 20
};

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
    (void)fprintf(stderr, "append_sync: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

int main(int count, char **arguments)
{
    if (count != 4) {
        errno = EINVAL;
        fail("usage: append_sync FILE SIZE SECONDS");
    }
    size_t size = strtoul(arguments[2], NULL, 10);
    int64_t wanted_ns = strtoll(arguments[3], NULL, 10) * 1000000000;
    uint32_t *samples_us = calloc(SAMPLES_MAX, sizeof(*samples_us));
    char *bytes = malloc(size);
    int fd = open(arguments[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (samples_us == NULL || bytes == NULL || fd < 0) {
        fail(arguments[1]);
    }
    memset(bytes, 'x', size);
    size_t done = 0;
    int64_t start_ns = now_ns();
    int64_t at_ns = start_ns;
    while (at_ns - start_ns < wanted_ns && done < SAMPLES_MAX) {
        if (write(fd, bytes, size) != (ssize_t)size || fdatasync(fd) != 0) {
            fail(arguments[1]);
        }
        int64_t before_ns = at_ns;
        at_ns = now_ns();
        samples_us[done++] = (uint32_t)((at_ns - before_ns) / 1000);
    }
    qsort(samples_us, done, sizeof(*samples_us), compare);
    (void)printf("{\"per_second\": %.2f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
                 (double)done * 1e9 / (double)(at_ns - start_ns), samples_us[done / 2] / 1e3,
                 samples_us[done * 99 / 100] / 1e3);
    (void)close(fd);
    return 0;
}
