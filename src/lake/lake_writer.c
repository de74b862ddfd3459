#include "lake_writer_internal.h"

#include "digest.h"
#include "json_write.h"
#include "lake_ship.h"
#include "mem.h"

#include <stdio.h>

enum {
    DAY_MS = 86400000,
    PASS_LINES_MAX = 64 << 20,
    BATCH_LINES_MAX = 1 << 30
};

/* ---- life ---- */

static int32_t day_of_ms(int64_t wall_ms)
{
    return (int32_t)((wall_ms - (wall_ms < 0 ? DAY_MS - 1 : 0)) / DAY_MS);
}

static void destroy(struct lake_writer *writer)
{
    for (size_t i = 0; i < writer->parts_count; i++) {
        mem_free(writer->parts[i].record.sections);
    }
    mem_free(writer->parts);
    lake_stream_finish(&writer->rows);
    lake_stream_finish(&writer->dead);
    digest_stream_destroy(writer->digest);
    lock_finish(&writer->lock);
    condition_finish(&writer->changed);
    mem_free(writer->bad);
    mem_free(writer->bad_text);
    mem_free(writer->dead_err);
    mem_free(writer->failure);
    mem_free(writer->table_name);
    mem_free(writer);
}

void writer_drop(struct lake_writer *writer)
{
    lock_take(&writer->lock);
    bool last = --writer->references == 0;
    lock_release(&writer->lock);
    if (!last) {
        return;
    }
    if (writer->holds) {
        lake_hold_end(writer->lake, &writer->hold);
    }
    if (writer->key_taken) {
        lake_keys_forget(writer->lake->keys, writer->request.key);
    }
    destroy(writer);
}

static bool begin_key(struct lake_writer *writer, struct err *err)
{
    if (!writer->request.has_key) {
        return true;
    }
    if (!lake_keys_begin(writer->lake->keys, writer->request.key, &writer->answer, err)) {
        return false;
    }
    writer->repeated = writer->answer.position != 0;
    writer->key_taken = !writer->repeated;
    writer->digest = digest_stream_create();
    if (writer->request.dated) {
        const struct lake_date *date = &writer->request.date;
        char text[32];
        int size = snprintf(text, sizeof(text), "%d-%d-%d", date->year, date->month, date->day);
        digest_stream_add(writer->digest, str_make(text, (size_t)size));
    }
    return true;
}

static void take_bad(void *context, const struct lake_bad_record *bad);

static struct lake_check_options check_options(struct lake_writer *writer)
{
    const struct lake_request *request = &writer->request;
    bool batch = request->way == LAKE_BATCH;
    return (struct lake_check_options){
        .input = request->input,
        .day = request->dated ? lake_day_of_date(&request->date) : day_of_ms(request->arrival_ms),
        .day_given = request->dated || batch,
        .keep_bad = request->dead_letter,
        .record_size_max = LAKE_RECORD_SIZE_MAX,
        .lines_size_max = batch ? BATCH_LINES_MAX : PASS_LINES_MAX,
        .bad = take_bad,
        .context = writer,
    };
}

static bool open_table(struct lake_writer *writer, struct err *err)
{
    writer->table = lake_table_get(writer->lake, str_of(writer->table_name), err);
    if (writer->table == NULL) {
        return false;
    }
    lake_table_load(writer->lake, writer->table, NULL);
    struct lake_check_options options = check_options(writer);
    lake_stream_init(&writer->rows, writer->lake, writer->table, &options,
                     writer->request.way == LAKE_BATCH);
    writer->rows.at_once = writer->request.at_once;
    if (writer->request.types_count > 0) {
        lake_check_know_types(writer->rows.check, writer->request.types,
                              writer->request.types_count);
    }
    return true;
}

struct lake_writer *lake_writer_open(struct lake *lake, const struct lake_request *request,
                                     struct err *err)
{
    assert(request->way == LAKE_BUFFERED || !request->dead_letter);
    struct lake_writer *writer = mem_alloc(sizeof(*writer));
    writer->lake = lake;
    writer->request = *request;
    writer->table_name = mem_copy_bytes(request->table.ptr, request->table.len);
    writer->request.table = str_of(writer->table_name);
    writer->references = 1;
    lock_init(&writer->lock, LOCK_WRITER);
    condition_init(&writer->changed);
    unsigned retry_after_s;
    if (request->patient) {
        lake_ship_wait_for_room(lake, 0);
    }
    if ((!lake_ship_is_full(lake, &retry_after_s) ||
         err_set(err, ERR_BUSY, "the log is full: the lake cannot be written fast enough")) &&
        begin_key(writer, err) && (writer->repeated || open_table(writer, err))) {
        return writer;
    }
    writer_drop(writer);
    return NULL;
}

void lake_writer_close(struct lake_writer *writer)
{
    if (writer != NULL) {
        lake_stream_finish(&writer->rows);
        lake_stream_finish(&writer->dead);
        writer_drop(writer);
    }
}

const struct lake_bad_record *lake_writer_bad(const struct lake_writer *writer)
{
    return writer->bad;
}

bool lake_writer_would_wait(const struct lake_writer *writer)
{
    return writer->rows.would_wait;
}

/* ---- dead letters: NDJSON for a table of their own ---- */

static bool open_dead(struct lake_writer *writer, struct err *err)
{
    if (writer->dead_table != NULL) {
        return true;
    }
    struct buf name;
    buf_init(&name, 256);
    buf_append_format(&name, "%s" LAKE_DEAD_SUFFIX, writer->table_name);
    writer->dead_table = lake_table_get(writer->lake, buf_str(&name), err);
    buf_finish(&name);
    if (writer->dead_table == NULL) {
        return false;
    }
    lake_table_load(writer->lake, writer->dead_table, NULL);
    static const struct lake_known_type types[] = {
        {STR_INIT("record"), STR_INIT("VARCHAR")},
        {STR_INIT("reason"), STR_INIT("VARCHAR")},
        {STR_INIT("record_index"), STR_INIT("BIGINT")},
        {STR_INIT("byte_offset"), STR_INIT("BIGINT")},
    };
    struct lake_check_options options = {
        .input = LAKE_NDJSON,
        .day = day_of_ms(writer->request.arrival_ms),
        .day_given = true,
        .record_size_max = SIZE_MAX / 16,
        .lines_size_max = BATCH_LINES_MAX,
    };
    lake_stream_init(&writer->dead, writer->lake, writer->dead_table, &options, false);
    lake_check_know_types(writer->dead.check, types, COUNT_OF(types));
    return true;
}

static void take_bad(void *context, const struct lake_bad_record *bad)
{
    struct lake_writer *writer = context;
    struct err err;
    if (writer->dead_err != NULL) {
        return;
    }
    struct buf line;
    struct json_writer json;
    buf_init(&line, SIZE_MAX / 8);
    json_writer_init(&json, &line);
    json_begin_object(&json);
    json_member_string(&json, "record", bad->text);
    json_member_string(&json, "reason", str_of(bad->reason));
    json_member_u64(&json, "record_index", bad->index);
    json_member_u64(&json, "byte_offset", bad->offset);
    json_end_object(&json);
    buf_append_byte(&line, '\n');
    writer->dead_letters++;
    if (!open_dead(writer, &err) ||
        !lake_stream_feed(&writer->dead, buf_str(&line), false, NULL, &err)) {
        writer->dead_err = writer_keep_err(&err);
    }
    buf_finish(&line);
}

/* ---- the request ---- */

static bool feed_rows(struct lake_writer *writer, struct str bytes, bool last, struct err *err)
{
    struct lake_bad_record bad = {0};
    if (lake_stream_feed(&writer->rows, bytes, last, &bad, err)) {
        if (writer->dead_err != NULL) {
            *err = *writer->dead_err;
        }
        return writer->dead_err == NULL;
    }
    if (err->kind == ERR_UNPROCESSABLE) {
        struct str text = str_first(bad.text, 4096); /* what a message may need of it */
        writer->bad_text = mem_copy_bytes(text.ptr, text.len);
        writer->bad = mem_alloc(sizeof(*writer->bad));
        *writer->bad = bad;
        writer->bad->text = str_make(writer->bad_text, text.len);
    }
    return false;
}

static bool feed(struct lake_writer *writer, struct str bytes, bool last, struct cancel *cancel,
                 struct err *err)
{
    assert(writer->bad == NULL);
    if (cancel != NULL && !cancel_check(cancel, err)) {
        return false;
    }
    writer->rows.cancel = cancel;
    writer->dead.cancel = cancel;
    if (writer->digest != NULL) {
        digest_stream_add(writer->digest, bytes);
    }
    if (writer->repeated) {
        return true;
    }
    if (!feed_rows(writer, bytes, last, err)) {
        return false;
    }
    if (last && writer->dead_table != NULL &&
        !lake_stream_feed(&writer->dead, STR(""), true, NULL, err)) {
        return false;
    }
    return writer_append_parts(writer, &writer->rows, true, err) &&
           (writer->dead_table == NULL || writer_append_parts(writer, &writer->dead, true, err)) &&
           writer_wait_for_disk(writer, err);
}

/* The answer may take its time, and others wait. */
static bool let_go(struct lake_writer *writer)
{
    lake_stream_let_go(&writer->rows);
    lake_stream_let_go(&writer->dead);
    return false;
}

bool lake_writer_feed(struct lake_writer *writer, struct str bytes, bool last,
                      struct cancel *cancel, struct err *err)
{
    return feed(writer, bytes, last, cancel, err) || let_go(writer);
}

static void set_body_hash(struct lake_writer *writer, unsigned char *hash)
{
    struct sha256 digest = digest_stream_end(writer->digest);
    memcpy(hash, digest.bytes, LAKE_KEY_SIZE);
}

static bool check_repeated(struct lake_writer *writer, struct err *err)
{
    unsigned char hash[LAKE_KEY_SIZE];
    set_body_hash(writer, hash);
    return memcmp(hash, writer->answer.body, LAKE_KEY_SIZE) == 0 ||
           err_set(err, ERR_UNPROCESSABLE,
                   "this Idempotency-Key was used with another body before");
}

/* The record that closes the request; nothing at all when the request has no rows and needs
 * none. */
static bool append_last(struct lake_writer *writer, bool *ret_nothing, struct err *err)
{
    struct lake_stream *stream = &writer->rows;
    struct lake_log_rows rows = {.table = str_of(writer->table_name), .last = true};
    *ret_nothing = false;
    if ((writer->dead_table != NULL && !writer_append_parts(writer, &writer->dead, false, err)) ||
        !lake_stream_publish(stream, err) || !writer_wait_for_parts(writer, err)) {
        return false;
    }
    *ret_nothing =
        lake_stream_left(stream) == 0 && writer->parts_appended == 0 && !writer->key_taken;
    if (*ret_nothing) {
        return true;
    }
    if (lake_stream_left(stream) > 0 && stream->schema->columns_count == 0) {
        return err_set(err, ERR_INVALID, "the records have no columns");
    }
    (void)lake_stream_take(stream, SIZE_MAX, &rows);
    writer->accepted += rows.rows;
    writer->answer.day = writer->request.dated ? lake_day_of_date(&writer->request.date)
                                               : day_of_ms(writer->request.arrival_ms);
    rows.request_rows = writer->accepted;
    rows.request_dead = writer->dead_letters;
    if (writer->key_taken) {
        set_body_hash(writer, writer->answer.body);
        memcpy(writer->answer.key, writer->request.key, LAKE_KEY_SIZE);
        writer->answer.arrival_ms = writer->request.arrival_ms;
        writer->answer.accepted = writer->accepted;
        writer->answer.dead_letters = writer->dead_letters;
        rows.has_key = true;
        memcpy(rows.key, writer->answer.key, LAKE_KEY_SIZE);
        memcpy(rows.body, writer->answer.body, LAKE_KEY_SIZE);
    }
    return writer_append_rows(writer, stream, &rows, err);
}

bool lake_writer_finish_later(struct lake_writer *writer_take, lake_done_fn *done, void *context,
                              struct err *err)
{
    struct lake_writer *writer = writer_take;
    bool nothing = false;
    writer->done = done;
    writer->done_context = context;
    bool good = writer->repeated ? check_repeated(writer, err) : append_last(writer, &nothing, err);
    if (good && (writer->repeated || nothing)) {
        writer_tell(writer);
    }
    lake_writer_close(writer);
    return good;
}

/* ---- finishing and waiting ---- */

static bool wait_for_end(struct lake_writer *writer, struct err *err)
{
    lock_take(&writer->lock);
    while (!writer->ended) {
        condition_wait(&writer->changed, &writer->lock);
    }
    lock_release(&writer->lock);
    return writer_check_failure(writer, err);
}

static void append_batch_url(struct lake_writer *writer, const struct lake_log_key *answer,
                             struct buf *url)
{
    struct buf key;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    lake_object_append_key(writer->lake, str_of(writer->table_name), answer->day,
                           answer->arrival_ms, LAKE_BATCH, answer->position, answer->position,
                           LAKE_PART_NONE, &key);
    store_append_url(writer->lake->store, buf_str(&key), url);
    buf_finish(&key);
}

/* Either in the lake, or cancelled for good. When the log cannot take even that, or the object
 * is there and the log of plans cannot note it, the rows are in the lake or will be, as after a
 * crash: whoever comes with the same key is told so. */
static bool store_batch(struct lake_writer *writer, struct cancel *cancel, struct buf *ret_url,
                        struct err *err)
{
    struct lake_table *table = writer->table;
    lock_take(&table->lock);
    struct lake_batch *batch = table->batches;
    while (batch->position != writer->position) {
        batch = batch->next;
    }
    lock_release(&table->lock);
    /* The log has the key until it is known here, and so can be saved. */
    struct lake_hold hold = {.sequence = writer->position};
    lake_hold_add(writer->lake, &hold);
    bool good = lake_ship_batch(writer->lake, table, batch, cancel, ret_url, err);
    if (good) {
        writer_end_key(writer);
    }
    lake_hold_end(writer->lake, &hold);
    if (good) {
        return true;
    }
    struct err reason = *err;
    if (!batch->put && lake_ship_cancel(writer->lake, table, writer->position, err)) {
        *err = reason;
    } else {
        writer_end_key(writer);
        lake_ship_disown(writer->lake, table, writer->position);
    }
    return false;
}

bool lake_writer_finish(struct lake_writer *writer, struct cancel *cancel,
                        struct lake_result *ret_result, struct buf *ret_url, struct err *err)
{
    bool batch = writer->request.way == LAKE_BATCH;
    bool nothing = false;
    if (writer->repeated) {
        if (!check_repeated(writer, err)) {
            return false;
        }
        if (batch && ret_url != NULL) {
            append_batch_url(writer, &writer->answer, ret_url);
        }
    } else if (!append_last(writer, &nothing, err) || (!nothing && !wait_for_end(writer, err)) ||
               (batch && !nothing && !store_batch(writer, cancel, ret_url, err))) {
        return let_go(writer);
    }
    writer_fill_result(writer, ret_result);
    return true;
}
