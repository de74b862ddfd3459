#include "api_ingest.h"
#include "clock.h"
#include "mem.h"

#include <stdio.h>

/* ---- POST /ingest/stream: the answer comes when the record is in the log ---- */

/* What check leaves for run. */
struct streamed {
    struct buf table;
    struct json_span data;
    struct lake_request write;
};

static void streamed_finish(void *work)
{
    struct streamed *streamed = work;
    buf_finish(&streamed->table);
    mem_free(streamed);
}

static struct streamed *streamed_create(void)
{
    struct streamed *streamed = mem_alloc(sizeof(*streamed));
    buf_init(&streamed->table, WRITE_TEXT_SIZE_MAX);
    streamed->write.way = LAKE_BUFFERED;
    streamed->write.input = LAKE_JSON;
    streamed->write.arrival_ms = clock_wall_ms();
    return streamed;
}

static void check_data(struct problems *problems, struct json_span body, struct json_span *ret_data)
{
    if (body.kind != JSON_OBJECT || !ingest_find_member(problems, body, "data", ret_data)) {
        return;
    }
    if (ret_data->kind != JSON_OBJECT) {
        ingest_add_problem(problems, "dict_type", "data", -1, "Input should be a valid dictionary",
                           *ret_data);
        return;
    }
    struct buf reason;
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    if (!ingest_check_names(*ret_data, &reason)) {
        ingest_add_value_error(problems, "data", &reason, *ret_data);
    }
    buf_finish(&reason);
}

/* What is wrong is in `reason`, else in err. */
static bool judge_record(const struct request *request, struct streamed *streamed,
                         struct buf *reason, struct err *err)
{
    struct json_cursor members = json_open(streamed->data);
    struct json_span key;
    struct json_span value;
    if (!ingest_check_table(buf_str(&streamed->table), reason)) {
        return false;
    }
    if (!json_next(&members, &key, &value)) {
        return err_set(err, ERR_INVALID, "the record has no columns");
    }
    streamed->write.table = buf_str(&streamed->table);
    return write_read_key(request, &streamed->write, err);
}

static void go_on(struct request *request, struct streamed *streamed);

void ingest_stream(struct request *request)
{
    struct problems problems;
    struct buf reason;
    struct err err = {.kind = ERR_NONE};
    struct streamed *streamed = streamed_create();
    request_set_work(request, streamed, streamed_finish);
    problems_init(&problems);
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    (void)ingest_query_table(request, &problems, &streamed->table);
    if (ingest_read_body(request, &problems)) {
        check_data(&problems, request->body, &streamed->data);
        if (problems.count > 0) {
            problems_reply(&problems, request);
        } else if (judge_record(request, streamed, &reason, &err)) {
            go_on(request, streamed);
        } else if (reason.len > 0) {
            ingest_reply_invalid(request, buf_str(&reason));
        } else {
            reply_error(request, &err);
        }
    }
    buf_finish(&reason);
    problems_finish(&problems);
}

/* On the log's thread: sends the answer and does nothing that waits. */
static void record_done(void *context, const struct lake_result *result, const struct err *err)
{
    struct request *request = context;
    if (result == NULL) {
        write_reply_error(request, err);
        return;
    }
    const struct streamed *streamed = request->work;
    struct buf body;
    struct json_writer writer;
    write_note_result(request, result);
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("success"));
    json_member_string(&writer, "message", STR("Record buffered"));
    json_member_string(&writer, "table_name", buf_str(&streamed->table));
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

/* False, and nothing has happened, when it would have to wait and may not. */
static bool take_record(struct request *request, const struct streamed *streamed)
{
    struct err err;
    struct lake_writer *writer =
        lake_writer_open(request->api->options.lake, &streamed->write, &err);
    bool good = writer != NULL &&
                lake_writer_feed(writer, streamed->data.text, true, request->cancel, &err);
    bool later = !good && writer != NULL && lake_writer_would_wait(writer);
    if (!good && writer != NULL) {
        ingest_word_bad(writer, &err);
        lake_writer_close(writer);
    }
    /* When it is taken the request may be over, and gone, before the call returns. */
    if (!later && (!good || !lake_writer_finish_later(writer, record_done, request, &err))) {
        write_reply_error(request, &err);
    }
    return !later;
}

void ingest_stream_run(struct request *request)
{
    struct streamed *streamed = request->work;
    streamed->write.at_once = false;
    (void)!take_record(request, streamed);
}

/* A table that is known is written to at once; the schema of another one is looked up in the store
 * first, on a lane, and so is a record that has to wait for another request's new columns. */
static void go_on(struct request *request, struct streamed *streamed)
{
    struct err err;
    streamed->write.at_once = true;
    if (lake_table_is_known(request->api->options.lake, streamed->write.table) &&
        take_record(request, streamed)) {
        return;
    }
    if (!request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
}

/* ---- POST /flush ---- */

struct flush {
    struct buf table;
    struct buf date_text;
    struct lake_date date;
};

static void flush_finish(void *work)
{
    struct flush *flush = work;
    buf_finish(&flush->table);
    buf_finish(&flush->date_text);
    mem_free(flush);
}

static bool judge_flush(struct flush *flush, struct request *request, struct buf *reason)
{
    (void)http_query_parameter(request->exchange, "partition_date", &flush->date_text);
    return ingest_check_known_table(buf_str(&flush->table), reason);
}

void ingest_flush(struct request *request)
{
    struct problems problems;
    struct buf reason;
    struct err err;
    struct flush *flush = mem_alloc(sizeof(*flush));
    request_set_work(request, flush, flush_finish);
    problems_init(&problems);
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    buf_init(&flush->table, WRITE_TEXT_SIZE_MAX);
    buf_init(&flush->date_text, WRITE_TEXT_SIZE_MAX);
    if (!ingest_query_table(request, &problems, &flush->table)) {
        problems_reply(&problems, request);
    } else if (!judge_flush(flush, request, &reason)) {
        ingest_reply_invalid(request, buf_str(&reason));
    } else if (!request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
    buf_finish(&reason);
    problems_finish(&problems);
}

static void reply_nothing_flushed(struct request *request)
{
    reply_json(request, 200,
               STR("{\"status\":\"success\",\"message\":\"No records to flush\","
                   "\"record_count\":0}"));
}

/* The last of several, one a line. */
static struct str last_line(struct str text)
{
    struct str line = {.ptr = "", .len = 0};
    struct str part;
    while (text.len > 0 && str_next_part(&text, '\n', &part)) {
        line = part.len > 0 ? part : line;
    }
    return line;
}

static void reply_flushed(struct request *request, const struct flush *flush,
                          const struct lake_flushed *flushed)
{
    struct buf body;
    struct json_writer writer;
    char message[64];
    char date[32];
    (void)snprintf(message, sizeof(message), "Flushed %llu records to S3",
                   (unsigned long long)flushed->rows);
    (void)snprintf(date, sizeof(date), "%04d-%02d-%02d", flushed->date.year, flushed->date.month,
                   flushed->date.day);
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("success"));
    json_member_string(&writer, "message", str_of(message));
    json_member_string(&writer, "table_name", buf_str(&flush->table));
    json_member_string(&writer, "s3_path", last_line(buf_str(&flushed->urls)));
    json_member_string(&writer, "partition_date",
                       flush->date_text.len > 0 ? buf_str(&flush->date_text) : str_of(date));
    json_member_u64(&writer, "record_count", flushed->rows);
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

/* A date is looked at only where there are rows that it would be about. False when it has
 * replied. */
static bool settle_date(struct request *request, struct flush *flush)
{
    struct lake *lake = request->api->options.lake;
    struct str table = buf_str(&flush->table);
    struct buf reason;
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    bool good = flush->date_text.len == 0 ||
                ingest_settle_date(buf_str(&flush->date_text), &flush->date, &reason);
    if (!good && lake_buffered_rows(lake, table) > 0) {
        ingest_reply_invalid(request, buf_str(&reason));
    } else if (!good && lake_table_is_known(lake, table)) {
        reply_nothing_flushed(request);
    } else {
        good = true; /* the table is unknown, which the flush will say */
    }
    buf_finish(&reason);
    return good;
}

void ingest_flush_run(struct request *request)
{
    struct flush *flush = request->work;
    struct lake_flushed flushed = {.rows = 0};
    struct err err;
    if (!settle_date(request, flush)) {
        return;
    }
    const struct lake_date *date = flush->date.year == 0 ? NULL : &flush->date;
    if (!lake_flush(request->api->options.lake, buf_str(&flush->table), date, request->cancel,
                    &flushed, &err)) {
        write_reply_error(request, &err);
    } else if (flushed.rows == 0) {
        reply_nothing_flushed(request);
    } else {
        reply_flushed(request, flush, &flushed);
    }
    lake_flushed_finish(&flushed);
}
