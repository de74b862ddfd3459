#include "worker_rows.h"

#include "json_write.h"
#include "mem.h"
#include "worker_columns.h"
#include "worker_json_plan.h"

struct rows {
    struct plan *plans;
    struct view *views;
    size_t columns_count;
    const struct rows_options *options;
    uint64_t limit; /* of rows; UINT64_MAX for none */
    struct sink *sink;
    struct encode_outcome outcome;
};

static void rows_init(struct rows *rows, duckdb_result *result)
{
    rows->columns_count = duckdb_column_count(result);
    rows->plans = mem_alloc_array(rows->columns_count, sizeof(*rows->plans));
    rows->views = mem_alloc_array(rows->columns_count, sizeof(*rows->views));
    for (size_t i = 0; i < rows->columns_count; i++) {
        duckdb_logical_type type = duckdb_column_logical_type(result, i);
        plan_init(&rows->plans[i], type, PLAN_ROWS);
        duckdb_destroy_logical_type(&type);
        view_create_parts(&rows->views[i], &rows->plans[i]);
    }
}

static void rows_finish(struct rows *rows)
{
    for (size_t i = 0; i < rows->columns_count; i++) {
        view_destroy_parts(&rows->views[i], &rows->plans[i]);
        plan_finish(&rows->plans[i]);
    }
    mem_free(rows->plans);
    mem_free(rows->views);
}

static void append_row(struct rows *rows, uint64_t row, struct buf *out)
{
    bool flat = rows->options->fetch == WORKER_FETCH_ONE;
    buf_append(out, rows->outcome.rows > 0 && !flat ? STR(",[") : STR("["));
    for (size_t i = 0; i < rows->columns_count; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        plan_append_value(&rows->plans[i], &rows->views[i], row, out);
    }
    buf_append_byte(out, ']');
    rows->outcome.rows++;
}

/* Rows of the chunk that are wanted; only rows_max cuts a result short, the others choose. */
static uint64_t count_wanted(struct rows *rows, uint64_t rows_count)
{
    uint64_t rows_max = rows->options->rows_max;
    uint64_t wanted = rows_count;
    if (rows_max > 0 && wanted > rows_max - rows->outcome.rows) {
        wanted = rows_max - rows->outcome.rows;
        rows->outcome.truncated = rows->limit > rows_max;
    }
    return wanted < rows->limit - rows->outcome.rows ? wanted : rows->limit - rows->outcome.rows;
}

static bool put_chunk(struct rows *rows, duckdb_data_chunk chunk, struct err *err)
{
    uint64_t wanted = count_wanted(rows, duckdb_data_chunk_get_size(chunk));
    if (wanted > 0 && !columns_flatten(chunk)) {
        return err_set(err, ERR_UNPROCESSABLE, "no memory for the result");
    }
    for (size_t i = 0; wanted > 0 && i < rows->columns_count; i++) {
        view_init(&rows->views[i], &rows->plans[i], duckdb_data_chunk_get_vector(chunk, i));
    }
    for (uint64_t row = 0; row < wanted; row++) {
        append_row(rows, row, &rows->sink->out);
        if (sink_is_full(rows->sink)) {
            sink_flush(rows->sink);
        }
    }
    if (rows->sink->channel != NULL) {
        channel_add_rows(rows->sink->channel, wanted);
        sink_offer(rows->sink);
    }
    return !buf_failed(&rows->sink->out) ||
           err_set(err, ERR_UNPROCESSABLE, "the result is larger than it may be");
}

/* A statement whose rows nobody wants runs to its end all the same: it may fail on the way. */
static bool put_chunks(struct rows *rows, duckdb_result *result, struct err *err)
{
    bool none = rows->options->fetch == WORKER_FETCH_NONE;
    bool good = true;
    while (good && (none || (rows->outcome.rows < rows->limit && !rows->outcome.truncated))) {
        CLEANUP(duckdb_destroy_data_chunk) duckdb_data_chunk chunk = duckdb_fetch_chunk(*result);
        if (chunk == NULL) {
            break;
        }
        good = none || put_chunk(rows, chunk, err);
    }
    const char *problem = duckdb_result_error(result);
    if (good && problem != NULL && problem[0] != '\0') {
        return duck_fail(err, duckdb_result_error_type(result), problem);
    }
    return good;
}

bool rows_encode(duckdb_result *result, const struct rows_options *options, struct sink *sink,
                 struct encode_outcome *ret_outcome, struct err *err)
{
    bool many = options->fetch == WORKER_FETCH_ALL || options->fetch == WORKER_FETCH_MANY;
    uint64_t many_max = options->fetch_size > 0 ? options->fetch_size : 1;
    struct rows rows = {
        .options = options,
        .limit = options->fetch == WORKER_FETCH_ALL    ? UINT64_MAX
                 : options->fetch == WORKER_FETCH_MANY ? many_max
                                                       : 1,
        .sink = sink,
    };
    rows_init(&rows, result);
    if (many) {
        buf_append_byte(&sink->out, '[');
    }
    bool good = put_chunks(&rows, result, err);
    if (many) {
        buf_append_byte(&sink->out, ']');
    } else if (rows.outcome.rows == 0) {
        buf_append_text(&sink->out, "null");
    }
    rows_finish(&rows);
    *ret_outcome = rows.outcome;
    return good;
}
