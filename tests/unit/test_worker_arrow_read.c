#include "test.h"

#include "arrow_body_reader.h"

#include <stdlib.h>

static int print_file(const char *path)
{
    struct buf body;
    buf_init(&body, 1 << 30);
    FILE *file = fopen(path, "re");
    char piece[65536];
    for (size_t got; file != NULL && (got = fread(piece, 1, sizeof(piece), file)) > 0;) {
        buf_append_bytes(&body, piece, got);
    }
    struct arrow_memory memory;
    struct err err = {0};
    arrow_memory_init(&memory, buf_str(&body), 512 << 20);
    bool good = arrow_memory_read(&memory, 64 << 20, &err);
    (void)fwrite(memory.lines.ptr, 1, memory.lines.len, stdout);
    (void)fprintf(stderr, "%.*s%s\n", STR_ARG(buf_str(&memory.columns)), good ? "ok" : err.message);
    return 0;
}

int main(int argc, char **argv)
{
    return argc > 1 ? print_file(argv[1]) : 0;
}
