#include "worker_lines_read.h"
#include "worker_run.h"

#include <stdio.h>

static struct worker_lines lines_of(const struct worker_job *job)
{
    return (struct worker_lines){.columns = job->columns,
                                 .columns_count = job->columns_count,
                                 .rest = job->rest,
                                 .line_size_max = job->line_size_max};
}

static void append_source(struct buf *sql, const struct worker_lines *lines)
{
    lines_append_source(sql, lines, STR("'job://in'"), false);
}

static void append_order(struct buf *sql, const struct worker_job *job)
{
    if (job->order_by.len > 0) {
        buf_append_text(sql, " ORDER BY ");
        sql_append_identifier(sql, job->order_by);
        buf_append_text(sql, " ASC NULLS LAST");
        return;
    }
    size_t rank = 1;
    for (size_t i = 0; i < job->columns_count;) {
        if (job->columns[i].sort != rank) {
            i++;
            continue;
        }
        buf_append_format(sql, "%s%zu ASC NULLS LAST", rank == 1 ? " ORDER BY " : ", ", i + 1);
        rank++;
        i = 0;
    }
}

static void append_copy(struct buf *sql, const struct worker_job *job,
                        const struct worker_lines *lines)
{
    buf_append_text(sql, "COPY (SELECT ");
    for (size_t i = 0; i < job->columns_count; i++) {
        buf_append_text(sql, i == 0 ? "" : ", ");
        lines_append_value(sql, lines, i);
        buf_append_text(sql, " AS ");
        sql_append_identifier(sql, job->columns[i].name);
    }
    buf_append_text(sql, " FROM ");
    append_source(sql, lines);
    append_order(sql, job);
    buf_append_format(sql,
                      ") TO 'job://out' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE %llu)",
                      (unsigned long long)job->row_group_rows);
}

/* Looks for the first row whose value of this column cannot be cast; fills err and answers true
 * when there is one. */
static bool find_bad_value(struct duck *duck, const struct worker_job *job, size_t index,
                           struct err *err)
{
    const struct worker_lines lines = lines_of(job);
    const struct worker_column *column = &job->columns[index];
    struct buf sql;
    buf_init(&sql, WORKER_FRAME_SIZE_MAX);
    buf_append_format(&sql, "SELECT i, v FROM (SELECT row_number() OVER () - 1 AS i, c%zu AS v, ",
                      index);
    lines_append_cast(&sql, column, index, "TRY_CAST");
    buf_append_text(&sql, " AS t FROM ");
    append_source(&sql, &lines);
    buf_append_text(&sql, ") WHERE v IS NOT NULL AND t IS NULL LIMIT 1");
    duckdb_result result = {0};
    struct err ignored;
    bool found = !buf_failed(&sql) && duck_run(duck, buf_str(&sql), &result, &ignored) &&
                 duckdb_row_count(&result) == 1;
    if (found) {
        struct buf value;
        buf_init(&value, WORKER_FRAME_SIZE_MAX);
        duck_append_text(&result, 1, 0, &value);
        (void)err_set(err, ERR_INVALID,
                      "data[%lld], column \"%.*s\": cannot convert '%.*s'%s to %.*s",
                      (long long)duckdb_value_int64(&result, 0, 0), STR_ARG(column->name),
                      STR_ARG(str_first(buf_str(&value), 100)), value.len > 100 ? "..." : "",
                      STR_ARG(column->sql_type));
        buf_finish(&value);
    }
    duckdb_destroy_result(&result);
    buf_finish(&sql);
    return found;
}

/* What COPY answers: one row, one BIGINT. */
static uint64_t copied_rows(duckdb_result *result)
{
    duckdb_data_chunk chunk = duckdb_fetch_chunk(*result);
    uint64_t rows = 0;
    if (chunk != NULL && duckdb_data_chunk_get_size(chunk) == 1) {
        rows = *(uint64_t *)duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
    }
    duckdb_destroy_data_chunk(&chunk);
    return rows;
}

static bool copy_lines(struct duck *duck, const struct worker_job *job,
                       const struct worker_lines *lines, uint64_t *ret_rows, struct err *err)
{
    struct buf sql;
    buf_init(&sql, WORKER_FRAME_SIZE_MAX);
    append_copy(&sql, job, lines);
    duckdb_result result = {0};
    bool good = !buf_failed(&sql)
                    ? duck_run(duck, buf_str(&sql), &result, err)
                    : err_set(err, ERR_TOO_LARGE, "the records have too many columns");
    buf_finish(&sql);
    if (good) {
        *ret_rows = copied_rows(&result);
        duckdb_destroy_result(&result);
    }
    return good;
}

/* Lines of the usual shape, which are nearly all; *ret_odd: some are not, and nothing counts. */
static bool copy_direct(struct duck *duck, const struct worker_job *job, uint64_t *ret_rows,
                        bool *ret_odd, struct err *err)
{
    struct worker_lines lines = lines_of(job);
    struct lines_input input;
    struct lines_file file;
    lines.direct = true;
    input.fd = files_input(duck->files, &input.offset, &input.size);
    *ret_odd = !lines_file_init(&file, &lines, &input);
    if (job->order_by.len > 0) {
        lines_file_share(&file, job->limits.threads);
    } else if (job->input_rows > 0) {
        lines_file_fit(&file, job->input_rows, job->row_group_rows);
    }
    bool good = !*ret_odd && lines_file_register(&file, duck, job->limits.threads, err) &&
                copy_lines(duck, job, &lines, ret_rows, err);
    *ret_odd = *ret_odd || atomic_load(&file.odd);
    lines_file_finish(&file);
    return good && !*ret_odd;
}

bool run_write(struct duck *duck, const struct worker_job *job, uint64_t *ret_rows, struct err *err)
{
    bool odd;
    const struct worker_lines lines = lines_of(job);
    if (copy_direct(duck, job, ret_rows, &odd, err) ||
        (odd && copy_lines(duck, job, &lines, ret_rows, err))) {
        return true;
    }
    duck_hide_statement(err);
    for (size_t i = 0; err->kind == ERR_INVALID && i < job->columns_count; i++) {
        if (job->columns[i].loose == 0 && find_bad_value(duck, job, i, err)) {
            break;
        }
    }
    return false;
}
