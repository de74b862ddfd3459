/* arrow_body_reader.h - arrow_read over bytes in memory, for tests and the fuzzer: each part of the
 * body that is asked for is a block of its own, so that a sanitizer sees a step beyond its end. */
#pragma once

#include "mem.h"
#include "worker_arrow_read.h"

struct arrow_memory {
    struct str body;
    struct buf columns; /* name type, a line each */
    struct buf lines;   /* all of them; emptied when they are too many */
    size_t lines_max;
    uint64_t rows;
};

static inline bool arrow_memory_map(void *context, uint64_t offset, size_t size,
                                    struct str *ret_bytes, struct err *err)
{
    const struct arrow_memory *memory = context;
    (void)err;
    char *copy = mem_alloc(size == 0 ? 1 : size);
    memcpy(copy, memory->body.ptr + offset, size);
    *ret_bytes = str_make(copy, size);
    return true;
}

static inline void arrow_memory_unmap(void *context, struct str bytes)
{
    (void)context;
    mem_free((char *)(uintptr_t)bytes.ptr);
}

static inline bool arrow_memory_columns(void *context, const struct worker_schema *schema,
                                        struct err *err)
{
    struct arrow_memory *memory = context;
    (void)err;
    for (size_t i = 0; i < schema->columns_count; i++) {
        buf_append(&memory->columns, schema->columns[i].name);
        buf_append_byte(&memory->columns, ' ');
        buf_append(&memory->columns, schema->columns[i].type);
        buf_append_byte(&memory->columns, '\n');
    }
    return true;
}

static inline bool arrow_memory_rows(void *context, struct buf *lines, uint64_t rows,
                                     struct err *err)
{
    struct arrow_memory *memory = context;
    memory->rows += rows;
    return lines->len <= memory->lines_max || err_set(err, ERR_TOO_LARGE, "enough");
}

static inline bool arrow_memory_read(struct arrow_memory *memory, size_t memory_max,
                                     struct err *err)
{
    struct arrow_read_options options = {
        .body = {.size = memory->body.len,
                 .map = arrow_memory_map,
                 .unmap = arrow_memory_unmap,
                 .context = memory},
        .memory_max = memory_max,
        .columns = arrow_memory_columns,
        .rows = arrow_memory_rows,
        .context = memory,
    };
    return arrow_read(&options, &memory->lines, err);
}

static inline void arrow_memory_init(struct arrow_memory *memory, struct str body, size_t lines_max)
{
    *memory = (struct arrow_memory){.body = body, .lines_max = lines_max};
    buf_init(&memory->columns, 64 << 20);
    buf_init(&memory->lines, 2 * lines_max + (1 << 20));
}

static inline void arrow_memory_finish(struct arrow_memory *memory)
{
    buf_finish(&memory->columns);
    buf_finish(&memory->lines);
}
