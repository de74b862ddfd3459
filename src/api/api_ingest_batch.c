#include "api_ingest.h"
#include "clock.h"
#include "mem.h"

#include <stdio.h>

/* ---- POST /ingest: the answer comes when the records are in the lake, in an object of their own
 * ---- */

/* What check leaves for run. */
struct batch {
    struct buf table;
    struct buf date_text; /* as the client sent it */
    struct json_span records;
    struct lake_request write;
};

static void batch_finish(void *work)
{
    struct batch *batch = work;
    buf_finish(&batch->table);
    buf_finish(&batch->date_text);
    mem_free(batch);
}

static void check_table(struct problems *problems, struct json_span body, struct buf *table)
{
    struct json_span value;
    if (!ingest_find_member(problems, body, "table_name", &value)) {
        return;
    }
    if (!json_text(value, table)) {
        ingest_add_problem(problems, "string_type", "table_name", -1,
                           "Input should be a valid string", value);
        return;
    }
    struct buf reason;
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    if (!ingest_check_table(buf_str(table), &reason)) {
        ingest_add_value_error(problems, "table_name", &reason, value);
    }
    buf_finish(&reason);
}

static void check_each_record(struct problems *problems, struct json_span records)
{
    struct json_cursor cursor = json_open(records);
    struct json_span record;
    size_t before = problems->count;
    for (int64_t i = 0; json_next(&cursor, NULL, &record); i++) {
        if (record.kind != JSON_OBJECT) {
            ingest_add_problem(problems, "dict_type", "records", i,
                               "Input should be a valid dictionary", record);
        }
    }
    if (problems->count > before) {
        return;
    }
    struct buf reason;
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    cursor = json_open(records);
    while (json_next(&cursor, NULL, &record)) {
        if (!ingest_check_names(record, &reason)) {
            ingest_add_value_error(problems, "records", &reason, records);
            break;
        }
    }
    buf_finish(&reason);
}

static void check_records(struct problems *problems, struct json_span body,
                          struct json_span *ret_records)
{
    if (!ingest_find_member(problems, body, "records", ret_records)) {
        return;
    }
    if (ret_records->kind != JSON_ARRAY) {
        ingest_add_problem(problems, "list_type", "records", -1, "Input should be a valid list",
                           *ret_records);
        return;
    }
    if (json_count(*ret_records) == 0) {
        struct buf reason;
        buf_init(&reason, INGEST_REASON_SIZE_MAX);
        buf_append_text(&reason, "Records list cannot be empty");
        ingest_add_value_error(problems, "records", &reason, *ret_records);
        buf_finish(&reason);
        return;
    }
    check_each_record(problems, *ret_records);
}

static void check_date_type(struct problems *problems, struct json_span body, struct buf *text)
{
    struct json_span value;
    if (json_find(body, STR("partition_date"), &value) && value.kind != JSON_NULL &&
        !json_text(value, text)) {
        ingest_add_problem(problems, "string_type", "partition_date", -1,
                           "Input should be a valid string", value);
    }
}

static struct batch *batch_create(void)
{
    struct batch *batch = mem_alloc(sizeof(*batch));
    buf_init(&batch->table, WRITE_TEXT_SIZE_MAX);
    buf_init(&batch->date_text, WRITE_TEXT_SIZE_MAX);
    batch->write.way = LAKE_BATCH;
    batch->write.input = LAKE_JSON;
    batch->write.arrival_ms = clock_wall_ms();
    return batch;
}

/* An absent, null or empty date means the day of the arrival. */
static bool settle_date(struct batch *batch, struct buf *reason)
{
    batch->write.dated = batch->date_text.len > 0;
    return !batch->write.dated ||
           ingest_settle_date(buf_str(&batch->date_text), &batch->write.date, reason);
}

static bool have_columns(struct json_span records)
{
    struct json_cursor cursor = json_open(records);
    struct json_span record;
    bool found = false;
    while (!found && json_next(&cursor, NULL, &record)) {
        struct json_span key;
        struct json_span value;
        struct json_cursor members = json_open(record);
        found = json_next(&members, &key, &value);
    }
    return found;
}

/* Fields first, all of them at once, then the date. What is wrong is in `problems`, else in
 * `reason`, else in err. */
static bool read_batch(struct request *request, struct batch *batch, struct problems *problems,
                       struct buf *reason, struct err *err)
{
    check_table(problems, request->body, &batch->table);
    check_records(problems, request->body, &batch->records);
    check_date_type(problems, request->body, &batch->date_text);
    if (problems->count > 0 || !settle_date(batch, reason)) {
        return false;
    }
    if (!have_columns(batch->records)) {
        return err_set(err, ERR_INVALID, "the records have no columns");
    }
    batch->write.table = buf_str(&batch->table);
    return write_read_key(request, &batch->write, err) &&
           request_reserve(request, batch->records.text.len, err);
}

void ingest_check(struct request *request)
{
    struct problems problems;
    struct err err = {.kind = ERR_NONE};
    problems_init(&problems);
    if (!ingest_read_body(request, &problems)) {
        problems_finish(&problems);
        return;
    }
    struct buf reason;
    buf_init(&reason, INGEST_REASON_SIZE_MAX);
    bool good = problems.count == 0;
    if (good) {
        struct batch *batch = batch_create();
        good = read_batch(request, batch, &problems, &reason, &err);
        request_set_work(request, batch, batch_finish);
    }
    if (problems.count > 0) {
        problems_reply(&problems, request);
    } else if (reason.len > 0) {
        ingest_reply_invalid(request, buf_str(&reason));
    } else if (!good ||
               !request_run(request, request->api->options.ingest_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
    buf_finish(&reason);
    problems_finish(&problems);
}

static bool store_batch(struct request *request, const struct batch *batch,
                        struct lake_result *ret_result, struct buf *ret_url, struct err *err)
{
    struct lake_writer *writer = lake_writer_open(request->api->options.lake, &batch->write, err);
    if (writer == NULL) {
        return false;
    }
    bool good = lake_writer_feed(writer, batch->records.text, true, request->cancel, err);
    if (!good) {
        ingest_word_bad(writer, err);
    }
    good = good && lake_writer_finish(writer, request->cancel, ret_result, ret_url, err);
    lake_writer_close(writer);
    return good;
}

/* As the client sent it, or the day that it got. */
static void append_date(struct buf *into, const struct batch *batch, const struct lake_date *date)
{
    if (batch->write.dated) {
        buf_append(into, buf_str(&batch->date_text));
    } else {
        buf_append_format(into, "%04d-%02d-%02d", date->year, date->month, date->day);
    }
}

static void reply_stored(struct request *request, const struct batch *batch,
                         const struct lake_result *result, struct str url)
{
    struct buf body;
    struct buf date;
    struct json_writer writer;
    char message[64];
    (void)snprintf(message, sizeof(message), "Ingested %llu records",
                   (unsigned long long)result->accepted);
    buf_init(&body, INGEST_REPLY_SIZE_MAX);
    buf_init(&date, WRITE_TEXT_SIZE_MAX);
    append_date(&date, batch, &result->date);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_member_string(&writer, "status", STR("success"));
    json_member_string(&writer, "message", str_of(message));
    json_member_string(&writer, "table_name", buf_str(&batch->table));
    json_member_string(&writer, "s3_path", url);
    json_member_string(&writer, "partition_date", buf_str(&date));
    json_member_u64(&writer, "record_count", result->accepted);
    json_end_object(&writer);
    buf_finish(&date);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

void ingest_run(struct request *request)
{
    const struct batch *batch = request->work;
    struct lake_result result = {.accepted = 0};
    struct err err;
    struct buf url;
    buf_init(&url, WRITE_TEXT_SIZE_MAX);
    if (store_batch(request, batch, &result, &url, &err)) {
        write_note_result(request, &result);
        reply_stored(request, batch, &result, buf_str(&url));
    } else {
        write_reply_error(request, &err);
    }
    buf_finish(&url);
}
