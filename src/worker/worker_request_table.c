#include "mem.h"
#include "worker_request_run.h"
#include "worker_sink.h"

#include <stdio.h>

enum {
    SQL_SIZE_MAX = 64 << 10
};

/* ---- the number of rows that a statement has changed, or copied ---- */

static uint64_t first_count(duckdb_result *result)
{
    CLEANUP(duckdb_destroy_data_chunk) duckdb_data_chunk chunk = duckdb_fetch_chunk(*result);
    if (chunk == NULL || duckdb_data_chunk_get_size(chunk) == 0) {
        return 0;
    }
    const int64_t *count = duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
    return (uint64_t)*count;
}

/* Our own SQL is nobody's business: the engine's text goes without the statement. */
static bool run_sql(struct request *run, struct buf *sql, uint64_t *ret_rows)
{
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    bool good = duckdb_query(run->connection, sql->ptr, &result) == DuckDBSuccess;
    if (good) {
        *ret_rows = first_count(&result);
    } else {
        const char *problem = duckdb_result_error(&result);
        CLEANUP(mem_free_text) char *text = mem_copy_text(problem == NULL ? "" : problem);
        char *shown = strstr(text, "\n\nLINE ");
        if (shown != NULL) {
            *shown = '\0';
        }
        (void)request_fail_engine(run, duckdb_result_error_type(&result), text);
    }
    return good;
}

/* ---- a Parquet file into a table ---- */

/* "t" or "schema.t", each part as it is written: dots part them, so a name with one cannot be
 * given. */
static bool append_table(struct buf *sql, struct str name)
{
    size_t dot = str_find_byte(name, '.');
    struct str table = dot < name.len ? str_from(name, dot + 1) : name;
    bool parted = dot < name.len;
    if (table.len == 0 || (parted && dot == 0) || str_find_byte(table, '.') < table.len ||
        str_find_byte(name, '\0') < name.len) {
        return false;
    }
    if (parted) {
        sql_append_identifier(sql, str_first(name, dot));
        buf_append_byte(sql, '.');
    }
    sql_append_identifier(sql, table);
    return true;
}

static bool table_exists(struct request *run, struct str table)
{
    struct buf sql;
    buf_init(&sql, SQL_SIZE_MAX);
    buf_append_text(&sql, "SELECT 1 FROM ");
    (void)append_table(&sql, table);
    buf_append_text(&sql, " LIMIT 0");
    duckdb_result result = {0};
    bool there = duckdb_query(run->connection, sql.ptr, &result) == DuckDBSuccess;
    duckdb_destroy_result(&result);
    buf_finish(&sql);
    return there;
}

#define FROM_FILE " SELECT * FROM read_parquet('job://in')"

static bool import_rows(struct request *run, uint64_t *ret_rows)
{
    struct str table = run->request->table;
    uint32_t mode = run->request->mode;
    struct buf sql;
    buf_init(&sql, SQL_SIZE_MAX);
    if (mode == WORKER_IMPORT_APPEND && table_exists(run, table)) {
        buf_append_text(&sql, "INSERT INTO ");
        (void)append_table(&sql, table);
        buf_append_text(&sql, " BY NAME" FROM_FILE);
    } else {
        buf_append_text(&sql, mode == WORKER_IMPORT_REPLACE ? "CREATE OR REPLACE TABLE "
                                                            : "CREATE TABLE ");
        (void)append_table(&sql, table);
        buf_append_text(&sql, " AS" FROM_FILE);
    }
    bool good = run_sql(run, &sql, ret_rows);
    buf_finish(&sql);
    return good;
}

static bool check_table(struct request *run)
{
    struct buf ignored;
    struct err err;
    buf_init(&ignored, SQL_SIZE_MAX);
    bool good = append_table(&ignored, run->request->table) && !buf_failed(&ignored);
    buf_finish(&ignored);
    if (!good) {
        (void)err_set(&err, ERR_INVALID, "a table's name is NAME or SCHEMA.NAME");
    } else if (run->request->role == WORKER_ROLE_READ) {
        good = err_set(&err, ERR_FORBIDDEN, "an import needs a role that may change data");
    }
    return good || request_fail_err(run, &err);
}

bool request_run_import(struct request *run)
{
    if (!check_table(run)) {
        return false;
    }
    files_set_descriptors(run->duck->files, run->fds[0], -1);
    uint64_t rows = 0;
    bool good = request_sql(run, "BEGIN TRANSACTION") && import_rows(run, &rows) &&
                request_sql(run, "COMMIT");
    files_set_descriptors(run->duck->files, -1, -1);
    run->done->rows = good ? rows : 0;
    return good;
}

/* ---- a query into a Parquet file ---- */

static bool copy_rows(struct request *run, struct request_text *text, const char *path,
                      const struct parameters *parameters)
{
    duckdb_result result = {0};
    text->parquet_path = path;
    text->parquet_rows_max = run->request->rows_max;
    bool good = request_text_run(run, text, parameters, &result);
    if (good) {
        run->done->rows = first_count(&result);
    }
    duckdb_destroy_result(&result);
    return good && request_text_end(run, text);
}

static bool export_text(struct request *run, const struct parameters *parameters)
{
    struct err err;
    CLEANUP(request_text_finish) struct request_text text = {0};
    if (!request_text_init(run, &text, run->request->statements[0])) {
        return false;
    }
    if (text.verdict.statements > 1 || !text.verdict.reads_only) {
        (void)err_set(&err, ERR_FORBIDDEN, "an export is of one query, which only reads");
        return request_fail_err(run, &err);
    }
    return copy_rows(run, &text, "job://out", parameters);
}

bool request_run_export(struct request *run)
{
    struct err err;
    CLEANUP(parameters_finish) struct parameters parameters = {0};
    if (!parameters_read_as(&parameters, PARAMETERS_AS_PYTHON, run->request->parameters, &err)) {
        return request_fail_err(run, &err);
    }
    files_set_descriptors(run->duck->files, -1, run->fds[0]);
    bool good = export_text(run, &parameters);
    files_set_descriptors(run->duck->files, -1, -1);
    return good;
}

/* ---- a result in the format of a Parquet file ---- */

bool request_send_parquet(struct request *run, struct request_text *text,
                          const struct parameters *parameters)
{
    struct sink sink;
    sink_init(&sink, run->channel);
    files_set_result(run->duck->files, sink_write, &sink);
    bool good = copy_rows(run, text, "job://result", parameters);
    if (good) {
        sink_flush(&sink);
    }
    files_set_result(run->duck->files, NULL, NULL);
    sink_finish(&sink);
    return good;
}
