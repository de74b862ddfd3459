#include "server_log.h"

#include "lake_log.h"

#include <stdio.h>
#include <stdlib.h>

static void print_line(void *context, struct str line)
{
    (void)context;
    (void)fwrite(line.ptr, 1, line.len, stdout);
    (void)putchar('\n');
}

static void describe(void *context, unsigned type, struct str payload, struct buf *into)
{
    (void)context;
    lake_log_describe(type, payload, into);
}

int server_log(const char *verb, const char *folder)
{
    const struct wal_print print = {.write = print_line, .describe = describe};
    struct err err = {0};
    bool inspect = str_equal(str_of(verb), STR("inspect"));
    if (!inspect && !str_equal(str_of(verb), STR("verify"))) {
        return -1;
    }
    bool good = inspect ? wal_inspect(folder, &print, &err) : wal_verify(folder, &print, &err);
    (void)fflush(stdout);
    if (good) {
        return EXIT_SUCCESS;
    }
    (void)fprintf(stderr, "eider: %s%s%s\n", err.message, err.detail[0] == '\0' ? "" : ": ",
                  err.detail);
    return err.kind == ERR_CORRUPT ? SERVER_EXIT_DAMAGED : EXIT_FAILURE;
}
