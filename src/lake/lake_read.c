#include "lake_read.h"

#include "lake_internal.h"
#include "mem.h"

static bool pass_columns(void *context, const struct worker_schema *columns, struct err *err)
{
    const struct lake_read_sink *sink = context;
    struct lake_known_type *types = mem_alloc_array(columns->columns_count, sizeof(*types));
    size_t count = 0;
    for (size_t i = 0; i < columns->columns_count; i++) {
        const struct worker_schema_column *column = &columns->columns[i];
        if (!str_equal(column->type, STR("NULL"))) { /* the first value decides, as in JSON */
            types[count++] = (struct lake_known_type){column->name, column->type};
        }
    }
    bool good = sink->columns(sink->context, types, count, err);
    mem_free(types);
    return good;
}

static bool pass_lines(void *context, struct str bytes, struct err *err)
{
    const struct lake_read_sink *sink = context;
    return sink->lines(sink->context, bytes, err);
}

bool lake_read_body_with(struct engine *engine, enum lake_read_format format, int fd,
                         struct cancel *cancel, const struct lake_read_sink *sink, struct err *err)
{
    struct lake_read_sink passed = *sink;
    struct engine_request request = {
        .job = {.kind = WORKER_READ,
                .input_format =
                    format == LAKE_READ_PARQUET ? WORKER_INPUT_PARQUET : WORKER_INPUT_ARROW},
        .input_fd = fd,
        .output_fd = -1,
        .columns = pass_columns,
        .result = pass_lines,
        .context = &passed,
    };
    struct engine_outcome outcome;
    return engine_run(engine, &request, cancel, &outcome, err);
}

bool lake_read_body(struct lake *lake, enum lake_read_format format, int fd, struct cancel *cancel,
                    const struct lake_read_sink *sink, struct err *err)
{
    return lake_read_body_with(lake->engine, format, fd, cancel, sink, err);
}
