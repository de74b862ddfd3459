#include "clock.h"
#include "digest.h"
#include "fd.h"
#include "lake_internal.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX (UINT64_C(4) << 30)
enum {
    ROW_GROUP_ROWS = 122880,
    UNIQUE_BYTES = 6
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
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY | O_CLOEXEC);
    if (reader < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the server has too many open files");
    }
    return reader;
}

static void free_columns(struct worker_column **columns)
{
    mem_free(*columns);
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
            .line_type = str_of(rows->columns[i].line_type),
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
    struct engine_outcome outcome;
    if (!engine_run(engine, &request, cancel, &outcome, err)) {
        return false;
    }
    return outcome.rows == rows->rows_count ||
           err_set(err, ERR_INTERNAL, "the file holds %llu rows instead of %llu",
                   (unsigned long long)outcome.rows, (unsigned long long)rows->rows_count);
}

bool lake_write_file(struct engine *engine, const struct lake_rows *rows,
                     const struct lake_file_options *options, struct cancel *cancel, int *ret_fd,
                     uint64_t *ret_size, struct err *err)
{
    CLEANUP(fd_close) int lines_fd = lines_descriptor(rows, err);
    CLEANUP(fd_close) int file_fd = lines_fd < 0 ? -1 : fd_temporary(options->spool_folder, err);
    if (file_fd < 0 || !run_write(engine, rows, options, lines_fd, file_fd, cancel, err)) {
        return false;
    }
    struct stat info;
    if (fstat(file_fd, &info) != 0 || info.st_size == 0) {
        return err_set(err, ERR_INTERNAL, "the worker wrote no file");
    }
    *ret_size = (uint64_t)info.st_size;
    *ret_fd = file_fd;
    file_fd = -1;
    return true;
}

/* A name that nobody else takes: the second tells people when, the random part keeps writers apart.
 */
static void append_key(struct buf *key, const struct lake *lake, struct str table,
                       struct lake_date date, int64_t now_ms)
{
    struct civil_time now = clock_civil_utc(now_ms);
    unsigned char unique[UNIQUE_BYTES];
    char hex[2 * UNIQUE_BYTES + 1];
    digest_random(unique, sizeof(unique));
    digest_hex(unique, sizeof(unique), hex);
    lake_append_table_prefix(key, lake, table);
    buf_append_format(key, "year=%04d/month=%02d/day=%02d/data_%02d%02d%02d_%s.parquet", date.year,
                      date.month, date.day, now.hour, now.minute, now.second, hex);
}

/* What was just written need not be read back to be known. */
static void keep_schema(struct lake *lake, struct str key, const struct store_object *object,
                        const struct lake_rows *rows)
{
    struct worker_schema_column *columns = mem_alloc_array(rows->columns_count, sizeof(*columns));
    for (size_t i = 0; i < rows->columns_count; i++) {
        columns[i].name = str_of(rows->columns[i].name);
        columns[i].type = str_of(rows->columns[i].sql_type);
    }
    struct worker_schema schema = {.columns = columns, .columns_count = rows->columns_count};
    lock_take(&lake->lock);
    lake_schemas_keep(lake->schemas, key, str_of(object->etag), &schema);
    lock_release(&lake->lock);
    mem_free(columns);
}

bool lake_append_batch(struct lake *lake, struct str table, struct lake_date date, int64_t now_ms,
                       const struct lake_rows *rows, struct cancel *cancel, struct buf *ret_url,
                       struct err *err)
{
    assert(clock_date_is_real(date.year, date.month, date.day));
    struct lake_file_options options = {.spool_folder = lake->spool_folder};
    struct store_source source = {.fd = -1};
    if (!lake_write_file(lake->engine, rows, &options, cancel, &source.fd, &source.size, err)) {
        return false;
    }
    struct buf key;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    append_key(&key, lake, table, date, now_ms);
    struct store_put_options put = {.create_only = true,
                                    .content_type = "application/vnd.apache.parquet"};
    struct store_object object;
    bool good = buf_failed(&key)
                    ? err_set(err, ERR_INVALID, "the object's key is too long")
                    : store_put(lake->store, buf_str(&key), &source, &put, cancel, &object, err);
    if (good) {
        store_append_url(lake->store, buf_str(&key), ret_url);
        lake_remember_table(lake, table);
        keep_schema(lake, buf_str(&key), &object, rows);
    }
    buf_finish(&key);
    fd_close(&source.fd);
    return good;
}
