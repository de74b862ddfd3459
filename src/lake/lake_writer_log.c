#include "lake_writer_internal.h"

#include "clock.h"
#include "lake_ship.h"
#include "mem.h"

enum {
    PART_SIZE = 2 << 20,       /* lines of one ROWS record */
    AHEAD_BYTES_MAX = 4 << 20, /* of one request, appended and not yet durable */
    DAY_MS = 86400000
};

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
    writer->parts = mem_grow(writer->parts, writer->parts_count, 1, &writer->parts_capacity,
                             sizeof(*writer->parts));
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
        lake_table_register(writer->lake, table, records, count);
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

void writer_end_key(struct lake_writer *writer)
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
        writer_end_key(writer);
        lake_ship_poke(writer->lake->ship);
    }
    note_registered(writer->lake, position);
    if (writer->holds) {
        lake_hold_end(writer->lake, &writer->hold);
        writer->holds = false;
    }
}

void writer_fill_result(const struct lake_writer *writer, struct lake_result *result)
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

/* An err is large, and few requests need one: a writer has it on the heap. */
struct err *writer_keep_err(const struct err *err)
{
    struct err *kept = mem_alloc(sizeof(*kept));
    *kept = *err;
    return kept;
}

static void note_failure(struct lake_writer *writer, const struct err *err)
{
    lock_take(&writer->lock);
    if (writer->failure == NULL) {
        writer->failure = writer_keep_err(err);
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
        assert(writer->failure == NULL); /* writer_wait_for_parts */
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

void writer_tell(struct lake_writer *writer)
{
    struct lake_result result;
    writer_fill_result(writer, &result);
    lake_done_fn *done = writer->done;
    if (done != NULL) {
        done(writer->done_context, writer->failure != NULL ? NULL : &result, writer->failure);
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
        writer_tell(writer);
    }
    lock_take(&writer->lock);
    writer->ahead_bytes -= flight->bytes;
    writer->ended = writer->ended || flight->last;
    condition_broadcast(&writer->changed);
    lock_release(&writer->lock);
    mem_free(flight->part.record.sections);
    mem_free(flight);
    writer_drop(writer);
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

/* The record's payload: its head, and its lines, behind it where there are few. */
static bool make_payload(struct lake_stream *stream, const struct lake_log_rows *rows,
                         struct buf *ret_head, struct buf *ret_lines, size_t *ret_head_size)
{
    buf_init(ret_head, WAL_PAYLOAD_SIZE_MAX);
    buf_init(ret_lines, WAL_PAYLOAD_SIZE_MAX);
    lake_log_put_rows(ret_head, rows);
    *ret_head_size = ret_head->len;
    if (!lake_stream_hand_over(stream, rows->lines, ret_lines)) {
        buf_append(ret_head, rows->lines);
        lake_stream_taken(stream, rows->lines.len);
    }
    return !buf_failed(ret_head);
}

static struct in_flight *add_flight(struct lake_writer *writer, const struct lake_log_rows *rows,
                                    size_t head_size)
{
    struct in_flight *flight = mem_alloc(sizeof(*flight));
    flight->writer = writer;
    flight->part.dead = rows->dead;
    flight->bytes = head_size + rows->lines.len;
    flight->last = rows->last;
    describe_part(flight, rows, head_size);
    lock_take(&writer->lock);
    writer->references++;
    writer->ahead_bytes += flight->bytes;
    lock_release(&writer->lock);
    return flight;
}

static void drop_flight(struct in_flight *flight)
{
    struct lake_writer *writer = flight->writer;
    lock_take(&writer->lock);
    writer->references--;
    writer->ahead_bytes -= flight->bytes;
    lock_release(&writer->lock);
    mem_free(flight->part.record.sections);
    mem_free(flight);
}

bool writer_append_rows(struct lake_writer *writer, struct lake_stream *stream,
                        struct lake_log_rows *rows, struct err *err)
{
    rows->group = writer->group;
    rows->way = writer->request.way;
    rows->arrival_ms = writer->request.arrival_ms;
    CLEANUP(buf_finish) struct buf head;
    CLEANUP(buf_finish) struct buf lines;
    size_t head_size;
    bool good = make_payload(stream, rows, &head, &lines, &head_size) ||
                err_set(err, ERR_TOO_LARGE, "a record is too long");
    struct in_flight *flight = good ? add_flight(writer, rows, head_size) : NULL;
    mem_free((void *)(uintptr_t)rows->sections);
    if (!good) {
        return false;
    }
    if (writer->request.patient) {
        lake_ship_wait_for_room(writer->lake, flight->bytes);
    }
    struct wal_record record = {.type = LAKE_LOG_ROWS, .done = record_done, .context = flight};
    writer->parts_appended++;
    good = wal_append_pieces(writer->lake->records, &record, &head, &lines, err);
    if (!good) {
        drop_flight(flight);
    }
    return good;
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
bool writer_append_parts(struct lake_writer *writer, struct lake_stream *stream, bool keep_last,
                         struct err *err)
{
    while (lake_stream_left(stream) > (keep_last ? (size_t)PART_SIZE : 0)) {
        struct lake_log_rows rows = {.table = str_of(stream->table->name),
                                     .dead = stream == &writer->dead};
        use_group(writer);
        if (!lake_stream_publish(stream, err) || !lake_stream_take(stream, PART_SIZE, &rows)) {
            return false;
        }
        writer->accepted += rows.dead ? 0 : rows.rows;
        if (!writer_append_rows(writer, stream, &rows, err)) {
            return false;
        }
    }
    return true;
}

bool writer_check_failure(struct lake_writer *writer, struct err *err)
{
    lock_take(&writer->lock);
    bool failed = writer->failure != NULL;
    if (failed) {
        *err = *writer->failure;
    }
    lock_release(&writer->lock);
    return !failed;
}

static bool wait_until_ahead(struct lake_writer *writer, uint64_t bytes_max, struct err *err)
{
    lock_take(&writer->lock);
    while (writer->ahead_bytes > bytes_max && writer->failure == NULL) {
        condition_wait(&writer->changed, &writer->lock);
    }
    lock_release(&writer->lock);
    return writer_check_failure(writer, err);
}

/* Not faster than the disk. */
bool writer_wait_for_disk(struct lake_writer *writer, struct err *err)
{
    return wait_until_ahead(writer, AHEAD_BYTES_MAX, err);
}

bool writer_wait_for_parts(struct lake_writer *writer, struct err *err)
{
    return wait_until_ahead(writer, 0, err);
}
