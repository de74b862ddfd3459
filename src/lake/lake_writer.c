#include "lake_stream.h"

#include "clock.h"
#include "digest.h"
#include "json_write.h"
#include "lake_internal.h"
#include "lake_keys.h"
#include "lake_ship.h"
#include "mem.h"

#include <stdio.h>

#define DEAD_SUFFIX "__dead_letter"

enum {
    PART_SIZE = 8 << 20,        /* lines of one ROWS record */
    AHEAD_BYTES_MAX = 32 << 20, /* of one request, appended and not yet durable */
    DAY_MS = 86400000,
    PASS_LINES_MAX = 64 << 20,
    BATCH_LINES_MAX = 1 << 30
};

/* A ROWS record of the request that is durable. */
struct part {
    struct lake_tail_record record;
    bool dead;
};

struct lake_writer {
    struct lake *lake;
    struct lake_request request;
    char *table_name;
    struct lake_table *table;
    struct lake_table *dead_table; /* NULL until the first dead letter */
    struct lake_stream rows;
    struct lake_stream dead;
    struct digest_stream *digest; /* of the body, when there is a key */
    struct lake_log_key answer;   /* of the key: known before, or made here */
    bool repeated;
    bool key_taken;
    struct lake_bad_record bad;
    char *bad_text;
    bool has_bad;
    bool failed_dead; /* a dead letter could not be kept */
    struct err dead_err;
    uint64_t group;
    uint64_t parts_appended;
    uint64_t accepted;
    uint64_t dead_letters;
    uint64_t position; /* once it is durable */
    lake_done_fn *done;
    void *done_context;
    /* Of thread `log` alone, until the request's last record is durable. */
    struct part *parts;
    size_t parts_count;
    size_t parts_capacity;
    struct lake_hold hold;
    bool holds;
    bool batch_added;
    struct lock lock; /* LOCK_WRITER: the rest */
    struct condition changed;
    uint64_t ahead_bytes;
    unsigned references;
    bool ended; /* the last record was decided on */
    bool failed;
    struct err failure;
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
    mem_free(writer->bad_text);
    mem_free(writer->table_name);
    mem_free(writer);
}

static void drop(struct lake_writer *writer)
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
    if ((!wal_is_full(lake->records) ||
         err_set(err, ERR_BUSY, "the log is full: the lake cannot be written fast enough")) &&
        begin_key(writer, err) && (writer->repeated || open_table(writer, err))) {
        return writer;
    }
    drop(writer);
    return NULL;
}

void lake_writer_close(struct lake_writer *writer)
{
    if (writer != NULL) {
        lake_stream_finish(&writer->rows);
        lake_stream_finish(&writer->dead);
        drop(writer);
    }
}

const struct lake_bad_record *lake_writer_bad(const struct lake_writer *writer)
{
    return writer->has_bad ? &writer->bad : NULL;
}

/* ---- thread `log`: records of the request become durable ---- */

static void note_registered(struct lake *lake, uint64_t sequence)
{
    lock_take(&lake->tables_lock);
    if (lake->registered < sequence) {
        lake->registered = sequence;
    }
    lock_release(&lake->tables_lock);
}

static void add_part(struct lake_writer *writer, const struct part *part)
{
    if (writer->parts_count == writer->parts_capacity) {
        writer->parts_capacity = 2 * writer->parts_capacity + 1;
        struct part *grown = mem_alloc_array(writer->parts_capacity, sizeof(*grown));
        if (writer->parts_count > 0) {
            memcpy(grown, writer->parts, writer->parts_count * sizeof(*grown));
        }
        mem_free(writer->parts);
        writer->parts = grown;
    }
    writer->parts[writer->parts_count++] = *part;
}

/* The parts of one of the two tables, now that their request's position is known. */
static struct lake_tail_record *take_records(struct lake_writer *writer, bool dead,
                                             size_t *ret_count)
{
    struct lake_tail_record *records = mem_alloc_array(writer->parts_count, sizeof(*records));
    size_t count = 0;
    for (size_t i = 0; i < writer->parts_count; i++) {
        struct part *part = &writer->parts[i];
        if (part->dead == dead && part->record.rows > 0) {
            records[count] = part->record;
            records[count++].position = writer->position;
            part->record.sections = NULL;
        }
    }
    *ret_count = count;
    return records;
}

static void register_rows(struct lake_writer *writer, struct lake_table *table, bool dead)
{
    size_t count;
    struct lake_tail_record *records = take_records(writer, dead, &count);
    if (count > 0) {
        lake_table_register(table, records, count);
    }
    mem_free(records);
}

static void add_batch(struct lake_writer *writer)
{
    struct lake_batch *batch = mem_alloc(sizeof(*batch));
    batch->position = writer->position;
    batch->arrival_ms = writer->request.arrival_ms;
    batch->day = writer->answer.day;
    batch->rows = writer->accepted;
    batch->records = take_records(writer, false, &batch->records_count);
    batch->owned = true;
    lake_table_add_batch(writer->table, batch);
}

static void end_key(struct lake_writer *writer)
{
    if (writer->key_taken) {
        writer->answer.position = writer->position;
        lake_keys_end(writer->lake->keys, &writer->answer);
        writer->key_taken = false;
    }
}

static void register_request(struct lake_writer *writer, uint64_t position)
{
    writer->position = position;
    if (writer->request.way == LAKE_BATCH) {
        add_batch(writer);
    } else {
        register_rows(writer, writer->table, false);
        if (writer->dead_table != NULL) {
            register_rows(writer, writer->dead_table, true);
        }
        end_key(writer);
        lake_ship_poke(writer->lake->ship);
    }
    note_registered(writer->lake, position);
    if (writer->holds) {
        lake_hold_end(writer->lake, &writer->hold);
        writer->holds = false;
    }
}

static void fill_result(const struct lake_writer *writer, struct lake_result *result)
{
    *result = (struct lake_result){
        .accepted = writer->repeated ? writer->answer.accepted : writer->accepted,
        .dead_letters = writer->repeated ? writer->answer.dead_letters : writer->dead_letters,
        .position = writer->repeated ? writer->answer.position : writer->position,
        .repeated = writer->repeated,
        .date = lake_date_of((int64_t)writer->answer.day * DAY_MS),
    };
}

/* What travels with one appended record. */
struct in_flight {
    struct lake_writer *writer;
    struct part part;
    uint64_t bytes;
    bool last;
};

static void note_failure(struct lake_writer *writer, const struct err *err)
{
    lock_take(&writer->lock);
    if (!writer->failed) {
        writer->failed = true;
        writer->failure = *err;
    }
    lock_release(&writer->lock);
}

static void note_durable(struct lake_writer *writer, struct in_flight *flight,
                         const struct wal_place *place)
{
    flight->part.record.place = *place;
    flight->part.record.registered_ms = clock_now_ms();
    add_part(writer, &flight->part);
    flight->part.record.sections = NULL;
    if (flight->last) {
        register_request(writer, place->sequence);
        return;
    }
    if (!writer->holds) {
        writer->holds = true;
        writer->hold.sequence = place->sequence;
        lake_hold_add(writer->lake, &writer->hold);
    }
    note_registered(writer->lake, place->sequence);
}

static void tell(struct lake_writer *writer)
{
    struct lake_result result;
    fill_result(writer, &result);
    lake_done_fn *done = writer->done;
    if (done != NULL) {
        done(writer->done_context, writer->failed ? NULL : &result,
             writer->failed ? &writer->failure : NULL);
    }
}

static void record_done(void *context, const struct wal_place *place, const struct err *err)
{
    struct in_flight *flight = context;
    struct lake_writer *writer = flight->writer;
    if (place != NULL) {
        note_durable(writer, flight, place);
    } else {
        note_failure(writer, err);
    }
    if (flight->last) {
        tell(writer);
    }
    lock_take(&writer->lock);
    writer->ahead_bytes -= flight->bytes;
    writer->ended = writer->ended || flight->last;
    condition_broadcast(&writer->changed);
    lock_release(&writer->lock);
    mem_free(flight->part.record.sections);
    mem_free(flight);
    drop(writer);
}

/* ---- appending ---- */

static void describe_part(struct in_flight *flight, const struct lake_log_rows *rows, size_t head)
{
    struct lake_tail_record *record = &flight->part.record;
    record->lines_offset = (uint32_t)head;
    record->rows = (uint32_t)rows->rows;
    record->day = rows->sections_count > 0 ? rows->sections[0].day : 0;
    if (rows->sections_count > 1) {
        size_t size = rows->sections_count * sizeof(*rows->sections);
        record->sections = mem_alloc(size);
        memcpy(record->sections, rows->sections, size);
        record->sections_count = (uint32_t)rows->sections_count;
    }
}

static bool append_rows(struct lake_writer *writer, struct lake_log_rows *rows, struct err *err)
{
    rows->group = writer->group;
    rows->way = writer->request.way;
    rows->arrival_ms = writer->request.arrival_ms;
    struct buf payload;
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    lake_log_put_rows(&payload, rows);
    size_t head = payload.len;
    buf_append(&payload, rows->lines);
    if (buf_failed(&payload)) {
        buf_finish(&payload);
        return err_set(err, ERR_TOO_LARGE, "a record is too long");
    }
    struct in_flight *flight = mem_alloc(sizeof(*flight));
    flight->writer = writer;
    flight->part.dead = rows->dead;
    flight->bytes = payload.len;
    flight->last = rows->last;
    describe_part(flight, rows, head);
    lock_take(&writer->lock);
    writer->references++;
    writer->ahead_bytes += payload.len;
    lock_release(&writer->lock);
    struct wal_record record = {.type = LAKE_LOG_ROWS, .done = record_done, .context = flight};
    writer->parts_appended++;
    if (wal_append(writer->lake->records, &record, &payload, err)) {
        return true;
    }
    lock_take(&writer->lock);
    writer->references--;
    writer->ahead_bytes -= flight->bytes;
    lock_release(&writer->lock);
    mem_free(flight->part.record.sections);
    mem_free(flight);
    return false;
}

static void use_group(struct lake_writer *writer)
{
    if (writer->group == 0) {
        lock_take(&writer->lake->tables_lock);
        writer->group = ++writer->lake->groups;
        lock_release(&writer->lake->tables_lock);
    }
}

/* Records of what a stream holds, but for the last one when `keep_last`. */
static bool append_parts(struct lake_writer *writer, struct lake_stream *stream, bool keep_last,
                         struct err *err)
{
    while (stream->lines.len > (keep_last ? (size_t)PART_SIZE : 0)) {
        struct lake_log_rows rows = {.table = str_of(stream->table->name),
                                     .dead = stream == &writer->dead};
        use_group(writer);
        if (!lake_stream_publish(stream, err) || !lake_stream_take(stream, PART_SIZE, &rows)) {
            return false;
        }
        size_t size = rows.lines.len;
        writer->accepted += rows.dead ? 0 : rows.rows;
        bool good = append_rows(writer, &rows, err);
        mem_free((void *)(uintptr_t)rows.sections);
        lake_stream_taken(stream, size);
        if (!good) {
            return false;
        }
    }
    return true;
}

static bool check_failure(struct lake_writer *writer, struct err *err)
{
    lock_take(&writer->lock);
    bool failed = writer->failed;
    if (failed) {
        *err = writer->failure;
    }
    lock_release(&writer->lock);
    return !failed;
}

/* Not faster than the disk. */
static bool wait_for_disk(struct lake_writer *writer, struct err *err)
{
    lock_take(&writer->lock);
    while (writer->ahead_bytes > AHEAD_BYTES_MAX && !writer->failed) {
        condition_wait(&writer->changed, &writer->lock);
    }
    lock_release(&writer->lock);
    return check_failure(writer, err);
}

/* ---- dead letters: NDJSON for a table of their own ---- */

static bool open_dead(struct lake_writer *writer, struct err *err)
{
    if (writer->dead_table != NULL) {
        return true;
    }
    struct buf name;
    buf_init(&name, 256);
    buf_append_format(&name, "%s" DEAD_SUFFIX, writer->table_name);
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
    struct err *err = &writer->dead_err;
    if (writer->failed_dead) {
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
    writer->failed_dead = !open_dead(writer, err) ||
                          !lake_stream_feed(&writer->dead, buf_str(&line), false, NULL, err);
    buf_finish(&line);
}

/* ---- the request ---- */

static bool feed_rows(struct lake_writer *writer, struct str bytes, bool last, struct err *err)
{
    if (lake_stream_feed(&writer->rows, bytes, last, &writer->bad, err)) {
        if (writer->failed_dead) {
            *err = writer->dead_err;
        }
        return !writer->failed_dead;
    }
    if (err->kind == ERR_UNPROCESSABLE) {
        writer->has_bad = true;
        struct str text = str_first(writer->bad.text, 4096); /* what a message may need of it */
        writer->bad_text = mem_copy_bytes(text.ptr, text.len);
        writer->bad.text = str_make(writer->bad_text, text.len);
    }
    return false;
}

bool lake_writer_feed(struct lake_writer *writer, struct str bytes, bool last,
                      struct cancel *cancel, struct err *err)
{
    assert(!writer->has_bad);
    if (cancel != NULL && !cancel_check(cancel, err)) {
        return false;
    }
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
    return append_parts(writer, &writer->rows, true, err) &&
           (writer->dead_table == NULL || append_parts(writer, &writer->dead, true, err)) &&
           wait_for_disk(writer, err);
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

/* The record that closes the request; nothing at all when the request has no rows and needs none. */
static bool append_last(struct lake_writer *writer, bool *ret_nothing, struct err *err)
{
    struct lake_stream *stream = &writer->rows;
    struct lake_log_rows rows = {.table = str_of(writer->table_name), .last = true};
    *ret_nothing = false;
    if ((writer->dead_table != NULL && !append_parts(writer, &writer->dead, false, err)) ||
        !lake_stream_publish(stream, err)) {
        return false;
    }
    *ret_nothing = stream->lines.len == 0 && writer->parts_appended == 0 && !writer->key_taken;
    if (*ret_nothing) {
        return true;
    }
    if (stream->lines.len > 0 && stream->schema->columns_count == 0) {
        return err_set(err, ERR_INVALID, "the records have no columns");
    }
    bool some = lake_stream_take(stream, SIZE_MAX, &rows);
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
    bool good = append_rows(writer, &rows, err);
    mem_free((void *)(uintptr_t)rows.sections);
    if (some) {
        lake_stream_taken(stream, stream->lines.len);
    }
    return good;
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
        tell(writer);
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
    return check_failure(writer, err);
}

static void append_batch_url(struct lake_writer *writer, const struct lake_log_key *answer,
                             struct buf *url)
{
    struct buf key;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    lake_object_append_key(writer->lake, str_of(writer->table_name), answer->day,
                           answer->arrival_ms, LAKE_BATCH, answer->position, answer->position,
                           &key);
    store_append_url(writer->lake->store, buf_str(&key), url);
    buf_finish(&key);
}

/* Either in the lake, or cancelled for good. */
static bool store_batch(struct lake_writer *writer, struct cancel *cancel, struct buf *ret_url,
                        struct err *err)
{
    struct lake_table *table = writer->table;
    lock_take(&table->lock);
    const struct lake_batch *batch = table->batches;
    while (batch->position != writer->position) {
        batch = batch->next;
    }
    lock_release(&table->lock);
    if (lake_ship_batch(writer->lake, table, batch, cancel, ret_url, err)) {
        lake_remember_table(writer->lake, str_of(writer->table_name));
        end_key(writer);
        return true;
    }
    struct err reason = *err;
    if (lake_ship_cancel(writer->lake, table, writer->position, err)) {
        *err = reason;
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
        return false;
    }
    fill_result(writer, ret_result);
    return true;
}
