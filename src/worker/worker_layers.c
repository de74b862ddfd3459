/* The part of the test build that replaces the guard; empty in every other build. */
#include "worker_layers.h"

#ifdef EIDER_TEST_LAYERS
#include "mem.h"
#include "worker_run.h"

enum {
    TEXT_SIZE_MAX = 64 << 20
};

/* All tables that the request declared or the lake has, named in the statement or not. */
static bool make_all_tables(struct duck *duck, struct channel *channel, struct err *err)
{
    struct buf body;
    struct buf answer;
    buf_init(&body, WORKER_FRAME_SIZE_MAX);
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    worker_put_u32(&body, true);
    worker_put_u64(&body, 0);
    channel_ask(channel, WORKER_RESOLVE, buf_str(&body), &answer, NULL);
    bool good = tables_create(duck, channel, buf_str(&answer), err);
    buf_finish(&body);
    buf_finish(&answer);
    return good;
}

static uint64_t send_values(struct channel *channel, duckdb_result *result)
{
    struct buf text;
    buf_init(&text, TEXT_SIZE_MAX);
    uint64_t rows = duckdb_row_count(result);
    uint64_t columns = duckdb_column_count(result);
    for (uint64_t row = 0; row < rows; row++) {
        for (uint64_t column = 0; column < columns; column++) {
            duck_append_text(result, column, row, &text);
            buf_append_byte(&text, column + 1 < columns ? '|' : '\n');
        }
    }
    for (struct str rest = buf_str(&text); rest.len > 0;) {
        struct str piece = str_first(rest, WORKER_RESULT_SIZE_MAX);
        channel_send(channel, WORKER_RESULT, piece);
        rest = str_from(rest, piece.len);
    }
    buf_finish(&text);
    return rows;
}

static bool run_one(struct duck *duck, struct channel *channel,
                    duckdb_extracted_statements statements, idx_t index, uint64_t *ret_rows,
                    struct err *err)
{
    CLEANUP(duckdb_destroy_prepare) duckdb_prepared_statement prepared = NULL;
    if (duckdb_prepare_extracted_statement(duck->connection, statements, index, &prepared) !=
        DuckDBSuccess) {
        return duck_fail(err, DUCKDB_ERROR_INVALID, duckdb_prepare_error(prepared));
    }
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    if (duckdb_execute_prepared(prepared, &result) != DuckDBSuccess) {
        return duck_fail(err, duckdb_result_error_type(&result), duckdb_result_error(&result));
    }
    *ret_rows += send_values(channel, &result);
    return true;
}

bool run_unjudged(struct duck *duck, struct channel *channel, const struct worker_job *job,
                  uint64_t *ret_rows, struct err *err)
{
    CLEANUP(mem_free_text)
    char *statement = mem_copy_bytes(job->statement.ptr, job->statement.len);
    CLEANUP(duckdb_destroy_extracted) duckdb_extracted_statements statements = NULL;
    idx_t count = duckdb_extract_statements(duck->connection, statement, &statements);
    if (count == 0) {
        return duck_fail(err, DUCKDB_ERROR_PARSER, duckdb_extract_statements_error(statements));
    }
    bool good = make_all_tables(duck, channel, err);
    for (idx_t i = 0; good && i < count; i++) {
        good = run_one(duck, channel, statements, i, ret_rows, err);
    }
    return good;
}
#endif
