#include "clock.h"
#include "fd.h"
#include "lake_internal.h"
#include "lake_ship.h"
#include "mem.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (UINT64_C(4) << 30)
enum {
    ROW_GROUP_ROWS = 122880,
    ROW_GROUP_ROWS_MIN = 2048, /* the engine makes no smaller ones */
    ROW_GROUP_BYTES = 16 << 20 /* of lines: a worker holds a row group as a whole, and more */
};

struct lake_date lake_date_of(int64_t wall_ms)
{
    struct civil_time now = clock_civil_utc(wall_ms);
    return (struct lake_date){.year = now.year, .month = now.month, .day = now.day};
}

/* The lines in a memory file, opened again so that the reader cannot write: -1 on failure. */
static int lines_descriptor(const struct lake_rows *rows, struct err *err)
{
    CLEANUP(fd_close) int fd = memfd_create("lines", MFD_CLOEXEC);
    if (fd < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
        return -1;
    }
    if (!fd_write_all(fd, buf_str(&rows->lines), err)) {
        return -1;
    }
    return fd_reopen_read_only(fd, err);
}

static void free_columns(struct worker_column **columns)
{
    mem_free(*columns);
}

static bool run_job(struct engine *engine, const struct engine_request *request, uint64_t rows,
                    struct cancel *cancel, struct err *err)
{
    struct engine_outcome outcome;
    if (!engine_run(engine, request, cancel, &outcome, err)) {
        return false;
    }
    return outcome.rows == rows ||
           err_set(err, ERR_INTERNAL, "the file holds %llu rows instead of %llu",
                   (unsigned long long)outcome.rows, (unsigned long long)rows);
}

static bool run_write(struct engine *engine, const struct lake_rows *rows,
                      const struct lake_file_options *options, int lines_fd, int file_fd,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(free_columns)
    struct worker_column *columns = mem_alloc_array(rows->columns_count, sizeof(*columns));
    for (size_t i = 0; i < rows->columns_count; i++) {
        columns[i] = (struct worker_column){
            .name = str_of(rows->columns[i].name),
            .line_type = STR("VARCHAR"),
            .sql_type = str_of(rows->columns[i].sql_type),
        };
    }
    uint64_t group = options->row_group_rows > 0 ? options->row_group_rows : ROW_GROUP_ROWS;
    struct engine_request request = {
        .job = {.kind = WORKER_WRITE,
                .columns = columns,
                .columns_count = rows->columns_count,
                .order_by = options->order_by,
                .line_size_max = rows->line_size_max,
                .row_group_rows = group},
        .output_bytes_max = FILE_BYTES_MAX,
        .input_fd = lines_fd,
        .output_fd = file_fd,
    };
    return run_job(engine, &request, rows->rows_count, cancel, err);
}

static bool take_file(int *file_fd, int *ret_fd, uint64_t *ret_size, struct err *err)
{
    struct stat info;
    if (fstat(*file_fd, &info) != 0 || info.st_size == 0) {
        return err_set(err, ERR_INTERNAL, "the worker wrote no file");
    }
    *ret_size = (uint64_t)info.st_size;
    *ret_fd = *file_fd;
    *file_fd = -1;
    return true;
}

bool lake_write_file(struct engine *engine, const struct lake_rows *rows,
                     const struct lake_file_options *options, struct cancel *cancel, int *ret_fd,
                     uint64_t *ret_size, struct err *err)
{
    CLEANUP(fd_close) int lines_fd = lines_descriptor(rows, err);
    CLEANUP(fd_close) int file_fd = lines_fd < 0 ? -1 : fd_temporary(options->spool_folder, err);
    return file_fd >= 0 && run_write(engine, rows, options, lines_fd, file_fd, cancel, err) &&
           take_file(&file_fd, ret_fd, ret_size, err);
}

/* ---- lines of the log ---- */

static uint64_t row_group_rows(const struct lake_window *window)
{
    uint64_t line_size = window->rows == 0 ? 1 : window->size / window->rows + 1;
    uint64_t rows = ROW_GROUP_BYTES / line_size;
    rows = rows < ROW_GROUP_ROWS ? rows : ROW_GROUP_ROWS;
    return rows > ROW_GROUP_ROWS_MIN ? rows : ROW_GROUP_ROWS_MIN;
}

static bool write_lines(struct lake *lake, const struct lake_schema *schema, bool sorted,
                        const struct lake_lines *lines, const struct lake_window *window,
                        struct cancel *cancel, int *ret_fd, uint64_t *ret_size, struct err *err)
{
    size_t columns_count;
    CLEANUP(free_columns)
    struct worker_column *columns = lake_worker_columns(schema, &columns_count);
    for (size_t i = 0; sorted && i < schema->sort_count; i++) {
        columns[schema->sort[i]].sort = (uint32_t)i + 1;
    }
    CLEANUP(fd_close) int file_fd = fd_temporary(lake->spool_folder, err);
    struct engine_request request = {
        .job = {.kind = WORKER_WRITE,
                .columns = columns,
                .columns_count = columns_count,
                .rest = lake_worker_rest(schema),
                .input_offset = window->offset,
                .input_size = window->size,
                .input_rows = window->rows,
                .line_size_max = lines->line_size_max,
                .row_group_rows = row_group_rows(window)},
        .output_bytes_max = FILE_BYTES_MAX,
        .yields = lines->yields,
        .input_fd = lines->fd,
        .output_fd = file_fd,
    };
    return file_fd >= 0 && run_job(lake->engine, &request, window->rows, cancel, err) &&
           take_file(&file_fd, ret_fd, ret_size, err);
}

/* Sorting holds all rows at once. When that is more than a worker's memory, a file that is not
 * sorted is better than rows that stay in the log for ever. */
bool lake_write_lines(struct lake *lake, const struct lake_schema *schema,
                      const struct lake_lines *lines, const struct lake_window *window,
                      struct cancel *cancel, int *ret_fd, uint64_t *ret_size, struct err *err)
{
    bool sorted = schema->sort_count > 0;
    return write_lines(lake, schema, sorted, lines, window, cancel, ret_fd, ret_size, err) ||
           (sorted && err->kind == ERR_UNPROCESSABLE &&
            write_lines(lake, schema, false, lines, window, cancel, ret_fd, ret_size, err));
}
