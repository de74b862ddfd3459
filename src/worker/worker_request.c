#include "worker_request.h"

#include "clock.h"
#include "mem.h"
#include "worker_encode.h"
#include "worker_request_run.h"
#include "worker_rows.h"

enum {
    COLUMNS_SIZE_MAX = 16 << 20
};

/* ---- the result of one text ---- */

static void append_text(void *context, const char *bytes, size_t size)
{
    buf_append_bytes(context, bytes, size);
}

/* A type of the engine's as text; the caller frees it. */
static struct str copy_type(duckdb_result *result, size_t column)
{
    struct buf text;
    size_t size;
    buf_init(&text, COLUMNS_SIZE_MAX);
    duckdb_logical_type type = duckdb_column_logical_type(result, column);
    (void)shim_type_text(type, append_text, &text);
    duckdb_destroy_logical_type(&type);
    buf_append_byte(&text, '\0');
    char *bytes = buf_take(&text, &size);
    return str_of(bytes);
}

static void send_columns(struct request *run, duckdb_result *result)
{
    size_t count = duckdb_column_count(result);
    struct worker_schema_column *columns = mem_alloc_array(count, sizeof(*columns));
    for (size_t i = 0; i < count; i++) {
        columns[i].name = str_of(duckdb_column_name(result, i));
        columns[i].type = copy_type(result, i);
    }
    struct worker_schema schema = {.columns = columns, .columns_count = count};
    struct buf payload;
    buf_init(&payload, COLUMNS_SIZE_MAX);
    worker_put_schema(&payload, &schema);
    channel_hold(run->channel, WORKER_COLUMNS, buf_str(&payload));
    buf_finish(&payload);
    for (size_t i = 0; i < count; i++) {
        mem_free((char *)(uintptr_t)columns[i].type.ptr);
    }
    mem_free(columns);
}

static bool send_rows(struct request *run, duckdb_result *result,
                      struct encode_outcome *ret_outcome, struct err *err)
{
    struct rows_options options = {
        .fetch = (enum worker_fetch)run->request->fetch,
        .fetch_size = run->request->fetch_size,
        .rows_max = run->request->rows_max,
    };
    struct sink sink;
    sink_init(&sink, run->channel);
    bool good = rows_encode(result, &options, &sink, ret_outcome, err);
    if (good) {
        sink_end(&sink);
    }
    sink_finish(&sink);
    return good;
}

static bool send_result(struct request *run, duckdb_result *result)
{
    struct encode_outcome outcome = {0};
    struct err err;
    struct encode_options options = {
        .format = (enum worker_format)run->request->format,
        .rows_max = run->request->rows_max,
    };
    send_columns(run, result);
    bool good = options.format == WORKER_FORMAT_ROWS
                    ? send_rows(run, result, &outcome, &err)
                    : encode_result(run->duck, run->channel, result, &options, &outcome, &err);
    run->done->rows = outcome.rows;
    run->done->truncated = outcome.truncated;
    return good || request_fail_result(run, result, &err);
}

/* ---- the kinds ---- */

/* Before its first row goes out: most of what has no COMMIT is known by then. */
static bool check_end(struct request *run, const struct request_text *text)
{
    return text->answer + 1 < text->count || request_ends_whole(run);
}

static bool run_statements(struct request *run)
{
    struct err err;
    CLEANUP(parameters_finish) struct parameters parameters = {0};
    CLEANUP(request_text_finish) struct request_text text = {0};
    if (!request_text_init(run, &text, run->request->statements[0])) {
        return false;
    }
    if (!parameters_read_as(&parameters, PARAMETERS_AS_PYTHON, run->request->parameters, &err)) {
        return request_fail_err(run, &err);
    }
    if (run->request->format == WORKER_FORMAT_PARQUET) {
        return request_send_parquet(run, &text, &parameters);
    }
    duckdb_result result = {0};
    bool good = request_text_run(run, &text, &parameters, &result) && check_end(run, &text) &&
                send_result(run, &result);
    duckdb_destroy_result(&result);
    return good && request_text_end(run, &text);
}

static bool run_checkpoint(struct request *run)
{
    return request_sql(run, "CHECKPOINT");
}

static bool run_kind(struct request *run)
{
    const struct worker_request *request = run->request;
    bool one = request->statements_count == 1;
    struct err err;
    switch ((enum worker_request_kind)request->kind) {
    case WORKER_STATEMENTS:
        if (one) {
            return run_statements(run);
        }
        break;
    case WORKER_BATCH:
        return request_run_batch(run);
    case WORKER_IMPORT:
        return request_run_import(run);
    case WORKER_EXPORT:
        if (one) {
            return request_run_export(run);
        }
        break;
    case WORKER_CHECKPOINT:
        return run_checkpoint(run);
    }
    (void)err_set(&err, ERR_INTERNAL, "a request of no known kind");
    return request_fail_err(run, &err);
}

/* The connection is closed next, which would end the transaction too: the client is told. */
static void end_transaction(struct request *run)
{
    if (!shim_in_transaction(run->connection)) {
        return;
    }
    duckdb_result result = {0};
    (void)duckdb_query(run->connection, "ROLLBACK", &result);
    duckdb_destroy_result(&result);
    run->done->rolled_back = 1;
}

bool request_serve(struct duck *duck, duckdb_connection connection, struct channel *slot_channel,
                   const struct worker_request *request, const int fds[2],
                   struct worker_done *ret_done)
{
    int64_t begun_us = clock_now_us();
    *ret_done = (struct worker_done){.message = STR("")};
    struct request run = {
        .duck = duck,
        .connection = connection,
        .channel = slot_channel,
        .request = request,
        .fds = fds,
        .done = ret_done,
    };
    bool good = run_kind(&run) && request_ends_whole(&run);
    end_transaction(&run);
    ret_done->changing = shim_plans_change(connection);
    ret_done->memory_bytes = shim_memory_used(connection);
    ret_done->execution_us = (uint64_t)(clock_now_us() - begun_us);
    return good;
}

/* Without a failure the message is a literal. */
void request_done_finish(struct worker_done *done)
{
    if (done->kind != ERR_NONE) {
        mem_free((char *)(uintptr_t)done->message.ptr);
        done->message = STR("");
    }
}
