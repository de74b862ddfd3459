#include "lake_ship_internal.h"

#include "clock.h"
#include "mem.h"

/* ---- into the store ---- */

static bool make_key(const struct lake *lake, const struct lake_table *table,
                     const struct lake_batch *batch, struct buf *key, struct err *err)
{
    lake_object_append_key(lake, str_of(table->name), batch->day, batch->arrival_ms, LAKE_BATCH,
                           batch->position, batch->position, LAKE_PART_NONE, key);
    return !buf_failed(key) || err_set(err, ERR_INVALID, "the object's key is too long");
}

static bool put_batch(struct lake *lake, struct lake_table *table, const struct lake_batch *batch,
                      struct str key, bool again, struct cancel *cancel, struct err *err)
{
    struct lake_lines lines;
    if (!lake_lines_gather(lake, batch->records, batch->records_count, &batch->day, &lines, err)) {
        return false;
    }
    assert(lines.windows_count == 1);
    bool good = lake_schema_store(lake, table, cancel, err);
    if (good) {
        const struct lake_schema *schema = lake_table_schema(table);
        struct ship_object object = {
            .key = key,
            .schema = schema,
            .lines = &lines,
            .window = &lines.windows[0],
            .table = str_of(table->name),
            .first = batch->position,
            .last = batch->position,
            .again = again,
        };
        struct ship_attempt attempt;
        good = ship_put_object(lake, &object, cancel, &attempt, err);
        lake_schema_drop(schema);
    }
    lake_lines_finish(&lines);
    return good;
}

/* Nobody waits for STORED: without it the batch is put once more after a crash, under the same
 * name, and found there. It has to be durable before the batch is trimmed from the log
 * (ship_keep_house). */
static bool note_stored(struct lake *lake, struct lake_table *table, uint64_t position,
                        struct err *err)
{
    struct buf payload;
    struct wal_record record = {.type = LAKE_LOG_STORED, .urgent = true};
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    lake_log_put_position(&payload, str_of(table->name), position);
    ship_gate_enter(lake->ship);
    bool good = wal_append(lake->plans, &record, &payload, err);
    if (good) {
        (void)atomic_fetch_add(&lake->ship->stored_pending, 1);
        lake_table_end_batch(table, position, true);
    }
    ship_gate_leave(lake->ship);
    buf_finish(&payload);
    return good;
}

static bool store_batch(struct lake *lake, struct lake_table *table, struct lake_batch *batch,
                        bool again, struct cancel *cancel, struct buf *ret_url, struct err *err)
{
    struct buf key;
    uint64_t bytes = 0;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    for (size_t i = 0; i < batch->records_count; i++) {
        bytes += batch->records[i].place.size - batch->records[i].lines_offset;
    }
    bool good = make_key(lake, table, batch, &key, err) &&
                put_batch(lake, table, batch, buf_str(&key), again, cancel, err);
    batch->put = batch->put || good;
    good = good && note_stored(lake, table, batch->position, err);
    if (good) {
        ship_note_drained(lake->ship, bytes);
        lake_ship_poke(lake->ship); /* the log may be trimmed */
        if (ret_url != NULL) {
            store_append_url(lake->store, buf_str(&key), ret_url);
        }
    }
    buf_finish(&key);
    return good;
}

bool lake_ship_batch(struct lake *lake, struct lake_table *table, struct lake_batch *batch,
                     struct cancel *cancel, struct buf *ret_url, struct err *err)
{
    return store_batch(lake, table, batch, false, cancel, ret_url, err);
}

/* ---- batches that nobody waits for ---- */

static struct lake_batch *find_batch(struct lake_table *table, uint64_t position)
{
    struct lake_batch *batch = table->batches;
    while (batch != NULL && batch->position != position) {
        batch = batch->next;
    }
    return batch;
}

void lake_ship_disown(struct lake *lake, struct lake_table *table, uint64_t position)
{
    lock_take(&table->lock);
    struct lake_batch *batch = find_batch(table, position);
    if (batch != NULL) {
        batch->owned = false;
    }
    lock_release(&table->lock);
    lake_ship_poke(lake->ship);
}

/* So that the next attempt is another's turn. */
static void move_to_end(struct lake_table *table, struct lake_batch *batch)
{
    struct lake_batch **link = &table->batches;
    while (*link != batch) {
        link = &(*link)->next;
    }
    *link = batch->next;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = batch;
    batch->next = NULL;
}

bool ship_store_left(struct lake *lake, struct lake_table *table, struct cancel *cancel,
                     struct err *err)
{
    lock_take(&table->lock);
    struct lake_batch *batch = table->batches;
    while (batch != NULL && batch->owned) {
        batch = batch->next;
    }
    if (batch != NULL) {
        batch->owned = true;
    }
    lock_release(&table->lock);
    if (batch == NULL || store_batch(lake, table, batch, true, cancel, NULL, err)) {
        return true;
    }
    lock_take(&table->lock);
    batch->owned = false;
    move_to_end(table, batch);
    lock_release(&table->lock);
    return false;
}

/* ---- batches that were cancelled ---- */

bool lake_ship_cancel(struct lake *lake, struct lake_table *table, uint64_t position,
                      struct err *err)
{
    struct buf key;
    struct buf payload;
    struct wal_place place;
    struct wal_record record = {.type = LAKE_LOG_CANCEL, .urgent = true};
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    lock_take(&table->lock);
    const struct lake_batch *batch = find_batch(table, position);
    bool good = batch == NULL || make_key(lake, table, batch, &key, err);
    lock_release(&table->lock);
    lake_log_put_position(&payload, str_of(table->name), position);
    good = good && wal_append_wait(lake->records, &record, &payload, &place, err);
    if (good && batch != NULL) {
        lake_ship_delete_later(lake, buf_str(&key));
        lake_table_end_batch(table, position, false);
    }
    buf_finish(&key);
    buf_finish(&payload);
    return good;
}

static const int64_t late_waits_ms[] = {1000, 10000, 60000, 300000};

void lake_ship_delete_later(struct lake *lake, struct str key)
{
    struct lake_ship *ship = lake->ship;
    lock_take(&ship->lock);
    if (ship->late_count == SHIP_LATE_MAX) {
        mem_free(ship->late[0].key);
        ship->late_count--;
        memmove(ship->late, ship->late + 1, ship->late_count * sizeof(*ship->late));
    }
    ship->late[ship->late_count++] = (struct ship_late){
        .key = mem_copy_bytes(key.ptr, key.len),
        .next_ms = clock_now_ms() + late_waits_ms[0],
    };
    lock_release(&ship->lock);
    lake_ship_poke(ship);
}

bool lake_ship_is_cancelled(const struct lake *lake, struct str key)
{
    struct lake_ship *ship = lake->ship;
    lock_take(&ship->lock);
    bool found = false;
    for (size_t i = 0; !found && i < ship->late_count; i++) {
        found = str_equal(str_of(ship->late[i].key), key);
    }
    lock_release(&ship->lock);
    return found;
}

int64_t ship_next_late_ms(struct lake_ship *ship)
{
    int64_t next_ms = INT64_MAX;
    lock_take(&ship->lock);
    for (size_t i = 0; i < ship->late_count; i++) {
        next_ms = ship->late[i].next_ms < next_ms ? ship->late[i].next_ms : next_ms;
    }
    lock_release(&ship->lock);
    return next_ms;
}

/* Takes one that is due, and sets when it will be looked at again. NULL: none. */
static char *take_late(struct lake_ship *ship, int64_t now_ms)
{
    char *key = NULL;
    lock_take(&ship->lock);
    for (size_t i = 0; key == NULL && i < ship->late_count; i++) {
        struct ship_late *late = &ship->late[i];
        if (late->next_ms <= now_ms) {
            key = mem_copy_text(late->key);
            late->tries++;
            bool again = late->tries < COUNT_OF(late_waits_ms);
            late->next_ms = again ? now_ms + late_waits_ms[late->tries] : INT64_MAX;
        }
    }
    lock_release(&ship->lock);
    return key;
}

void ship_delete_late(struct lake_ship *ship, struct cancel *cancel)
{
    for (char *key; (key = take_late(ship, clock_now_ms())) != NULL;) {
        struct err ignored; /* it is tried again, and hidden meanwhile */
        (void)!store_delete(ship->lake->store, str_of(key), cancel, &ignored);
        mem_free(key);
    }
}
