/* POST /tables/{name}/rows: rows of any size, in the format that Content-Type names. The body is
 * read while it arrives, and what is whole goes to the log, so that memory does not grow with it.
 * Parquet and Arrow cannot be read piece by piece: they wait in a file without a name. */
#include "api_rows.h"
#include "api_problems.h"
#include "clock.h"
#include "fd.h"
#include "mem.h"

#include <unistd.h>

enum {
    PARAMETER_TEXT_MAX = 4096,
    /* A body may take its time as long as it comes at this rate, after the usual time-out. */
    SLOWEST_BYTES_PER_MS = 64
};

/* clang-format off */
static const struct rows_type {
    const char *name;
    bool is_file; /* read by a worker, from a file */
    enum lake_input input;
    enum lake_read_format format;
} types[] = {
    { "application/x-ndjson",                false, LAKE_NDJSON, LAKE_READ_PARQUET },
    { "application/ndjson",                  false, LAKE_NDJSON, LAKE_READ_PARQUET },
    { "application/jsonl",                   false, LAKE_NDJSON, LAKE_READ_PARQUET },
    { "application/json",                    false, LAKE_JSON,   LAKE_READ_PARQUET },
    { "text/csv",                            false, LAKE_CSV,    LAKE_READ_PARQUET },
    { "application/vnd.apache.arrow.stream", true,  LAKE_NDJSON, LAKE_READ_ARROW   },
    { "application/vnd.apache.parquet",      true,  LAKE_NDJSON, LAKE_READ_PARQUET },
};
/* clang-format on */

/* What check leaves for run. */
struct rows {
    struct request *request;
    const struct rows_type *type;
    struct buf table;
    struct lake_request write;
    bool wait_stored;
    int64_t begun_ms;              /* 0 before the first run */
    int spool_fd;                  /* of a file; else -1 */
    struct lake_known_type *known; /* of a file's columns */
    size_t known_count;
    uint64_t lines_left; /* bytes that a file's rows may still have as lines */
    struct lake_writer *writer;
};

static void rows_finish(void *work)
{
    struct rows *rows = work;
    lake_writer_close(rows->writer);
    for (size_t i = 0; i < rows->known_count; i++) {
        mem_free((void *)(uintptr_t)rows->known[i].name.ptr);
        mem_free((void *)(uintptr_t)rows->known[i].sql_type.ptr);
    }
    mem_free(rows->known);
    fd_close(&rows->spool_fd);
    buf_finish(&rows->table);
    mem_free(rows);
}

/* ---- the header, on the http thread ---- */

static bool find_type(const struct request *request, const struct rows_type **ret_type,
                      struct err *err)
{
    struct str given = http_header(request->exchange, "Content-Type");
    struct str bare = str_trim(str_first(given, str_find_byte(given, ';')));
    struct buf list;
    buf_init(&list, PARAMETER_TEXT_MAX);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (str_equal_nocase(bare, str_of(types[i].name))) {
            *ret_type = &types[i];
            buf_finish(&list);
            return true;
        }
        buf_append_format(&list, "%s%s", i == 0 ? "" : ", ", types[i].name);
    }
    (void)err_set(err, ERR_MEDIA_TYPE, "Content-Type must be one of %s", list.ptr);
    buf_finish(&list);
    return false;
}

/* text/csv;header=absent (RFC 4180): the first record would be taken for the names. */
static bool check_csv_header(const struct request *request, const struct rows_type *type,
                             struct err *err)
{
    struct str rest = http_header(request->exchange, "Content-Type");
    struct str part;
    while (type->input == LAKE_CSV && rest.len > 0 && str_next_part(&rest, ';', &part)) {
        if (str_equal_nocase(str_trim(part), STR("header=absent"))) {
            return err_set(err, ERR_MEDIA_TYPE,
                           "CSV without a header line is not taken: the first line has to name the "
                           "columns");
        }
    }
    return true;
}

/* The value is one of two words, or absent, which is the first. */
static bool read_choice(const struct request *request, const char *name, const char *usual,
                        const char *other, bool *ret_other, struct err *err)
{
    struct buf value;
    buf_init(&value, PARAMETER_TEXT_MAX);
    bool given = http_query_parameter(request->exchange, name, &value);
    *ret_other = given && str_equal(buf_str(&value), str_of(other));
    bool good =
        !given || *ret_other || (usual != NULL && str_equal(buf_str(&value), str_of(usual)));
    buf_finish(&value);
    return good || err_set(err, ERR_INVALID, "%s must be %s%s%s", name, usual == NULL ? "" : usual,
                           usual == NULL ? "" : " or ", other);
}

static bool read_date(const struct request *request, struct lake_request *into, struct err *err)
{
    struct buf text;
    buf_init(&text, PARAMETER_TEXT_MAX);
    into->dated = http_query_parameter(request->exchange, "partition_date", &text) && text.len > 0;
    bool good = !into->dated || ingest_parse_date(buf_str(&text), &into->date);
    buf_finish(&text);
    return good || err_set(err, ERR_INVALID, "partition_date must be a day, YYYY-MM-DD");
}

static bool read_header(struct request *request, struct rows *rows, struct err *err)
{
    rows->write.way = LAKE_BUFFERED;
    rows->write.patient = true;
    rows->write.arrival_ms = clock_wall_ms();
    rows->write.table = buf_str(&rows->table);
    if (!write_check_table(rows->write.table, err) || !find_type(request, &rows->type, err) ||
        !check_csv_header(request, rows->type, err) || !read_date(request, &rows->write, err) ||
        !read_choice(request, "on_error", "refuse", "dead_letter", &rows->write.dead_letter, err) ||
        !read_choice(request, "wait", NULL, "lake", &rows->wait_stored, err)) {
        return false;
    }
    rows->write.input = rows->type->input;
    return write_read_key(request, &rows->write, err);
}

void rows_check(struct request *request)
{
    struct err err;
    struct rows *rows = mem_alloc(sizeof(*rows));
    rows->request = request;
    rows->spool_fd = -1;
    buf_init(&rows->table, WRITE_TEXT_SIZE_MAX);
    buf_append(&rows->table, buf_str(&request->parameter));
    request_set_work(request, rows, rows_finish);
    if (read_header(request, rows, &err)) {
        http_accept_stream(request->exchange, request->api->options.rows_bytes_max);
    } else {
        reply_error(request, &err);
    }
}

/* ---- answers ---- */

static void reply_rows(struct request *request, unsigned status, const struct lake_result *result)
{
    const struct rows *rows = request->work;
    struct buf body;
    struct json_writer writer;
    buf_init(&body, PARAMETER_TEXT_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_u64(&writer, "accepted", result->accepted);
    json_member_u64(&writer, "position", result->position);
    if (rows->write.dead_letter) {
        json_member_u64(&writer, "dead_letters", result->dead_letters);
    }
    if (result->repeated) {
        json_member_bool(&writer, "repeated", true);
    }
    if (rows->wait_stored) {
        json_member_bool(&writer, "in_lake", status == 200);
    }
    json_end_object(&writer);
    reply_buf(request, status, &body);
    buf_finish(&body);
}

/* Names the record, and where in the body it goes wrong: not in a file, whose bytes are no text. */
static void reply_bad_record(struct request *request, const struct lake_bad_record *bad)
{
    const struct rows *rows = request->work;
    struct buf body;
    struct buf text;
    struct json_writer writer;
    buf_init(&body, 64 * 1024);
    buf_init(&text, PARAMETER_TEXT_MAX);
    buf_append_format(&text, "record %llu: %s", (unsigned long long)bad->index, bad->reason);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    if (request->personality == PERSONALITY_INGEST) {
        json_member_string(&writer, "detail", buf_str(&text));
    } else {
        json_member_string(&writer, "error", buf_str(&text));
        json_member_string(&writer, "code", str_of(err_kind_info(ERR_UNPROCESSABLE)->code));
        json_member_string(&writer, "request_id", http_request_id(request->exchange));
    }
    json_member_u64(&writer, "record", bad->index);
    if (!rows->type->is_file) {
        json_member_u64(&writer, "offset", bad->offset);
    }
    json_member_string(&writer, "reason", str_of(bad->reason));
    json_end_object(&writer);
    buf_finish(&text);
    reply_buf(request, err_kind_info(ERR_UNPROCESSABLE)->http_status, &body);
    buf_finish(&body);
}

static void reply_refused(struct request *request, const struct err *err)
{
    const struct rows *rows = request->work;
    const struct lake_bad_record *bad = rows->writer == NULL ? NULL : lake_writer_bad(rows->writer);
    if (err->kind == ERR_UNPROCESSABLE && bad != NULL) {
        reply_bad_record(request, bad);
    } else {
        write_reply_error(request, err);
    }
}

/* ---- the body ---- */

static bool open_writer(struct rows *rows, struct err *err)
{
    rows->writer = lake_writer_open(rows->request->api->options.lake, &rows->write, err);
    return rows->writer != NULL;
}

static void allow_time(const struct rows *rows)
{
    struct request *request = rows->request;
    uint64_t received = http_body_received(request->exchange);
    request->cancel->deadline_ms = rows->begun_ms + request->api->options.ingest_timeout_ms +
                                   (int64_t)(received / SLOWEST_BYTES_PER_MS);
}

static bool begin_body(struct rows *rows, struct err *err)
{
    struct request *request = rows->request;
    rows->begun_ms = clock_now_ms();
    if (!http_body_has_ended(request->exchange) && !request_reserve_upload(request, err)) {
        return false;
    }
    if (!rows->type->is_file) {
        return open_writer(rows, err);
    }
    rows->spool_fd = fd_temporary(request->api->options.spool_folder, err);
    return rows->spool_fd >= 0;
}

static bool take_piece(struct rows *rows, struct str bytes, struct err *err)
{
    return rows->type->is_file
               ? fd_write_all(rows->spool_fd, bytes, err)
               : lake_writer_feed(rows->writer, bytes, bytes.len == 0, rows->request->cancel, err);
}

/* What has come of the body, to its end, or until *ret_later: the request is not ours then. */
static bool take_body(struct rows *rows, bool *ret_later, struct err *err)
{
    struct request *request = rows->request;
    uint64_t bytes_max = request->api->options.rows_decoded_bytes_max;
    struct str bytes = {.ptr = "", .len = 1};
    while (bytes.len > 0) {
        allow_time(rows);
        if (!http_body_read(request->exchange, bytes_max, &bytes, ret_later, err)) {
            return false;
        }
        if (*ret_later) {
            return true;
        }
        if (!take_piece(rows, bytes, err)) {
            return false;
        }
    }
    return true;
}

/* The table's new columns get the types that the file knows: needed before the first line. */
static bool take_columns(void *context, const struct lake_known_type *columns, size_t count,
                         struct err *err)
{
    struct rows *rows = context;
    rows->known = mem_alloc_array(count, sizeof(*rows->known));
    for (size_t i = 0; i < count; i++) {
        struct str name = columns[i].name;
        struct str type = columns[i].sql_type;
        rows->known[i] = (struct lake_known_type){
            .name = str_make(mem_copy_bytes(name.ptr, name.len), name.len),
            .sql_type = str_make(mem_copy_bytes(type.ptr, type.len), type.len),
        };
    }
    rows->known_count = count;
    rows->write.types = rows->known;
    rows->write.types_count = count;
    return open_writer(rows, err);
}

static bool take_lines(void *context, struct str bytes, struct err *err)
{
    struct rows *rows = context;
    if (bytes.len > rows->lines_left) {
        return err_set(err, ERR_TOO_LARGE, "the body's rows are larger than %llu bytes as JSON",
                       (unsigned long long)rows->request->api->options.rows_decoded_bytes_max);
    }
    rows->lines_left -= bytes.len;
    return lake_writer_feed(rows->writer, bytes, false, rows->request->cancel, err);
}

static bool feed_file(struct rows *rows, struct err *err)
{
    const struct api_options *options = &rows->request->api->options;
    rows->lines_left = options->rows_decoded_bytes_max; /* a small file can stand for many rows */
    struct lake_read_sink sink = {.columns = take_columns, .lines = take_lines, .context = rows};
    bool read = lake_read_body(options->lake, rows->type->format, rows->spool_fd,
                               rows->request->cancel, &sink, err);
    fd_close(&rows->spool_fd);
    return read && lake_writer_feed(rows->writer, STR(""), true, rows->request->cancel, err);
}

/* ---- the end ---- */

/* On the log's thread: sends the answer and does nothing that waits. */
static void rows_done(void *context, const struct lake_result *result, const struct err *err)
{
    struct request *request = context;
    if (result == NULL) {
        write_reply_error(request, err);
        return;
    }
    write_note_result(request, result);
    reply_rows(request, 200, result);
}

static bool is_stored(struct rows *rows, const struct lake_result *result)
{
    struct request *request = rows->request;
    struct err err;
    bool stored = lake_wait_stored(request->api->options.lake, rows->write.table, result->position,
                                   request->cancel, &err);
    if (!stored) {
        reply_log_failure(request, err_kind_info(err.kind)->http_status, &err);
    }
    return stored;
}

/* The rows are safe in any case: 202 says that the lake does not have them yet. */
static void finish_stored(struct rows *rows)
{
    struct request *request = rows->request;
    struct lake_result result;
    struct err err;
    if (!lake_writer_finish(rows->writer, request->cancel, &result, NULL, &err)) {
        reply_refused(request, &err);
        return;
    }
    write_note_result(request, &result);
    reply_rows(request, is_stored(rows, &result) ? 200 : 202, &result);
}

void rows_run(struct request *request)
{
    struct rows *rows = request->work;
    struct err err;
    bool later = false;
    bool good = (rows->begun_ms != 0 || begin_body(rows, &err)) && take_body(rows, &later, &err);
    if (later) {
        return;
    }
    if (!good || (rows->type->is_file && !feed_file(rows, &err))) {
        reply_refused(request, &err);
    } else if (rows->wait_stored) {
        finish_stored(rows);
    } else if (!lake_writer_finish_later(TAKE(rows->writer), rows_done, request, &err)) {
        write_reply_error(request, &err);
    }
}
