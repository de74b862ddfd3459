#include "worker_parquet.h"

#include "mem.h"
#include "worker_arrow_column.h"
#include "worker_columns.h"
#include "worker_sink.h"

#include <stdatomic.h>
#include <stdio.h>

enum {
    GROUP_ROWS_MIN = 2048,
    GROUP_ROWS_MAX = 122880,
    GROUP_SIZE = 32 << 20 /* of values in memory; while it is written there are copies */
};

struct parquet {
    atomic_uint turn; /* see take_turn */
    struct channel *channel;
    duckdb_result *result;
    struct str *names;
    size_t columns_count;
    duckdb_logical_type *types; /* what the file holds */
    bool *casts;                /* where that is not what the result holds */
    duckdb_data_chunk first;    /* looked at before the copy begins, NULL once handed out */
    bool ended;                 /* no chunk is left: asking again would be an error */
    duckdb_data_chunk current;  /* the engine reads from it until it asks for the next */
    uint64_t rows_max;
    struct encode_outcome outcome;
    struct sink sink;
    struct err problem; /* of a cast; ERR_NONE for none */
};

/* ---- the function that hands out the chunks ---- */

static void bind_result(duckdb_bind_info info)
{
    const struct parquet *parquet = duckdb_bind_get_extra_info(info);
    for (size_t i = 0; i < parquet->columns_count; i++) {
        duckdb_bind_add_result_column(info, parquet->names[i].ptr, parquet->types[i]);
    }
}

static void init_result(duckdb_init_info info)
{
    duckdb_init_set_max_threads(info, 1);
}

static bool put_columns(struct parquet *parquet, duckdb_data_chunk output)
{
    uint64_t rows = duckdb_data_chunk_get_size(parquet->current);
    for (size_t i = 0; i < parquet->columns_count; i++) {
        duckdb_vector from = duckdb_data_chunk_get_vector(parquet->current, i);
        duckdb_vector into = duckdb_data_chunk_get_vector(output, i);
        char problem[SHIM_TEXT_SIZE];
        if (!parquet->casts[i]) {
            duckdb_vector_reference_vector(into, from);
        } else if (!shim_cast(from, into, rows, problem)) {
            return err_set(&parquet->problem, ERR_INVALID, "column \"%.*s\": %s",
                           STR_ARG(str_first(parquet->names[i], 200)), problem);
        }
    }
    return true;
}

/* Rows of the current chunk that are wanted. */
static uint64_t count_rows(struct parquet *parquet)
{
    struct encode_outcome *outcome = &parquet->outcome;
    uint64_t rows = duckdb_data_chunk_get_size(parquet->current);
    if (parquet->rows_max > 0 && rows > parquet->rows_max - outcome->rows) {
        rows = parquet->rows_max - outcome->rows;
        outcome->truncated = true;
    }
    outcome->rows += rows;
    channel_add_rows(parquet->channel, rows);
    return rows;
}

static void fetch_chunk(struct parquet *parquet)
{
    duckdb_destroy_data_chunk(&parquet->current);
    if (parquet->first != NULL) {
        parquet->current = TAKE(parquet->first);
    } else if (!parquet->ended) {
        parquet->current = duckdb_fetch_chunk(*parquet->result);
    }
    parquet->ended = parquet->current == NULL;
}

/* Chunks are asked for by one thread at a time, but not always the same one: each passes on what it
 * left, where a thread sanitizer sees it too. */
static void take_turn(struct parquet *parquet)
{
    atomic_fetch_add(&parquet->turn, 1);
}

/* An output without rows is the end. */
static void hand_out(duckdb_function_info info, duckdb_data_chunk output)
{
    struct parquet *parquet = duckdb_function_get_extra_info(info);
    uint64_t rows = 0;
    take_turn(parquet);
    if (!parquet->outcome.truncated) {
        fetch_chunk(parquet);
    }
    if (parquet->current != NULL && !parquet->outcome.truncated) {
        rows = count_rows(parquet);
        if (!put_columns(parquet, output)) {
            duckdb_function_set_error(info, parquet->problem.message);
        }
    }
    const char *problem = duckdb_result_error(parquet->result);
    if (problem != NULL && problem[0] != '\0') {
        duckdb_function_set_error(info, problem);
    }
    duckdb_data_chunk_set_size(output, rows);
    take_turn(parquet);
}

static bool register_function(struct parquet *parquet, duckdb_connection connection)
{
    CLEANUP(duckdb_destroy_table_function)
    duckdb_table_function function = duckdb_create_table_function();
    duckdb_table_function_set_name(function, "eider_result");
    duckdb_table_function_set_extra_info(function, parquet, NULL);
    duckdb_table_function_set_bind(function, bind_result);
    duckdb_table_function_set_init(function, init_result);
    duckdb_table_function_set_function(function, hand_out);
    return duckdb_register_table_function(connection, function) == DuckDBSuccess;
}

/* ---- the copy ---- */

/* The engine gathers a row group before it writes it: its size is counted in rows, so the rows that
 * are known say how many. */
static uint64_t group_rows(struct parquet *parquet)
{
    uint64_t rows = parquet->first == NULL ? 0 : duckdb_data_chunk_get_size(parquet->first);
    size_t size = 0;
    for (size_t i = 0; rows > 0 && i < parquet->columns_count; i++) {
        struct arrow_column column;
        char ignored[SHIM_TEXT_SIZE];
        duckdb_logical_type type = duckdb_column_logical_type(parquet->result, i);
        arrow_column_init(&column, STR(""), type);
        if (arrow_column_bind(&column, duckdb_data_chunk_get_vector(parquet->first, i), rows,
                              ignored)) {
            column.append(&column, 0, rows);
        }
        size += arrow_column_size(&column);
        arrow_column_finish(&column);
        duckdb_destroy_logical_type(&type);
    }
    uint64_t fitting = rows == 0 ? GROUP_ROWS_MAX : GROUP_SIZE / (size / rows + 1);
    fitting = fitting < GROUP_ROWS_MAX ? fitting : GROUP_ROWS_MAX;
    return fitting > GROUP_ROWS_MIN ? fitting : GROUP_ROWS_MIN;
}

/* The result's own error comes first: the copy's is about our statement. */
static bool say_problem(struct parquet *parquet, duckdb_result *copied, struct err *err)
{
    const char *own = duckdb_result_error(parquet->result);
    if (own != NULL && own[0] != '\0') {
        return duck_fail(err, duckdb_result_error_type(parquet->result), own);
    }
    if (parquet->problem.kind != ERR_NONE) {
        *err = parquet->problem;
        return false;
    }
    (void)duck_fail(err, duckdb_result_error_type(copied), duckdb_result_error(copied));
    duck_hide_statement(err);
    return false;
}

static bool copy_result(struct parquet *parquet, struct duck *duck, struct err *err)
{
    CLEANUP(duckdb_disconnect) duckdb_connection connection = NULL;
    if (duckdb_connect(duck->database, &connection) != DuckDBSuccess ||
        !register_function(parquet, connection)) {
        return err_set(err, ERR_INTERNAL, "the engine does not take the result");
    }
    char sql[160];
    (void)snprintf(sql, sizeof(sql),
                   "COPY (FROM eider_result()) TO 'job://result' "
                   "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE %llu)",
                   (unsigned long long)group_rows(parquet));
    files_set_result(duck->files, sink_write, &parquet->sink);
    CLEANUP(duckdb_destroy_result) duckdb_result copied = {0};
    take_turn(parquet);
    bool good = duckdb_query(connection, sql, &copied) == DuckDBSuccess;
    take_turn(parquet);
    good = good || say_problem(parquet, &copied, err);
    files_set_result(duck->files, NULL, NULL);
    return good;
}

static void choose_types(struct parquet *parquet)
{
    for (size_t i = 0; i < parquet->columns_count; i++) {
        duckdb_logical_type type = duckdb_column_logical_type(parquet->result, i);
        parquet->types[i] = shim_parquet_type(type);
        parquet->casts[i] = !shim_types_equal(type, parquet->types[i]);
        duckdb_destroy_logical_type(&type);
    }
}

static void parquet_finish(struct parquet *parquet)
{
    for (size_t i = 0; i < parquet->columns_count; i++) {
        duckdb_destroy_logical_type(&parquet->types[i]);
    }
    mem_free(parquet->types);
    mem_free(parquet->casts);
    columns_names_free(parquet->names, parquet->columns_count);
    duckdb_destroy_data_chunk(&parquet->first);
    duckdb_destroy_data_chunk(&parquet->current);
    sink_finish(&parquet->sink);
}

bool parquet_encode(struct duck *duck, struct channel *channel, duckdb_result *result,
                    const struct encode_options *options, struct encode_outcome *ret_outcome,
                    struct err *err)
{
    size_t count = duckdb_column_count(result);
    struct parquet parquet = {
        .channel = channel,
        .result = result,
        .names = columns_names(result, true),
        .columns_count = count,
        .types = mem_alloc_array(count, sizeof(duckdb_logical_type)),
        .casts = mem_alloc_array(count, sizeof(bool)),
        .first = duckdb_fetch_chunk(*result),
        .rows_max = options->rows_max,
    };
    parquet.ended = parquet.first == NULL;
    sink_init(&parquet.sink, channel);
    choose_types(&parquet);
    bool good = parquet.first == NULL || columns_flatten(parquet.first);
    good = good ? copy_result(&parquet, duck, err)
                : err_set(err, ERR_UNPROCESSABLE, "no memory for the result");
    if (good) {
        sink_flush(&parquet.sink);
        *ret_outcome = parquet.outcome;
    }
    parquet_finish(&parquet);
    return good;
}
