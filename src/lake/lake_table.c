#include "lake_table.h"

#include "clock.h"
#include "lake_internal.h"
#include "lake_ship.h"
#include "lake_tail.h"
#include "mem.h"

#include <stdlib.h>

enum {
    TABLES_MAX = 10000,
    WAIT_SLICE_MS = 100, /* for the caller's cancel, while another makes a schema */
    /* A segment of the log begins with all schemas, in one record of WAL_PAYLOAD_SIZE_MAX. */
    SCHEMAS_BYTES_MAX = WAL_PAYLOAD_SIZE_MAX - (4 << 20),
    SCHEMAS_BYTES_CLIENTS = WAL_PAYLOAD_SIZE_MAX / 2
};

/* ---- which tables there are ---- */

static struct lake_table *table_create(struct str name)
{
    struct lake_table *table = mem_alloc(sizeof(*table));
    table->name = mem_copy_bytes(name.ptr, name.len);
    table->schema = lake_schema_create_empty();
    lock_init(&table->lock, LOCK_LAKE_TABLE);
    condition_init(&table->widened);
    condition_init(&table->flushed);
    return table;
}

static void free_records(struct lake_tail_record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mem_free(records[i].sections);
    }
    mem_free(records);
}

static void batch_destroy(struct lake_batch *batch)
{
    free_records(batch->records, batch->records_count);
    mem_free(batch);
}

static void plan_destroy(struct lake_plan *plan)
{
    if (plan != NULL) {
        lake_plan_finish(plan);
        mem_free(plan);
    }
}

void lake_table_destroy(struct lake_table *table)
{
    while (table->batches != NULL) {
        struct lake_batch *batch = table->batches;
        table->batches = batch->next;
        batch_destroy(batch);
    }
    plan_destroy(table->plan);
    mem_free(table->own_failure);
    lake_tail_forget(table);
    free_records(table->tail, table->tail_count);
    mem_free(table->stored);
    lake_schema_drop(table->schema);
    lock_finish(&table->lock);
    condition_finish(&table->widened);
    condition_finish(&table->flushed);
    mem_free(table->name);
    mem_free((char *)(uintptr_t)table->folded.ptr);
    mem_free(table);
}

struct lake_table *lake_table_find(struct lake *lake, struct str name)
{
    lock_take(&lake->tables_lock);
    struct lake_table *table = map_find(&lake->tables, name);
    lock_release(&lake->tables_lock);
    return table;
}

struct lake_table *lake_table_get(struct lake *lake, struct str name, struct err *err)
{
    lock_take(&lake->tables_lock);
    struct lake_table *table = map_find(&lake->tables, name);
    if (table == NULL && lake->tables_count < TABLES_MAX) {
        table = table_create(name);
        if (lake->tables_list == NULL) {
            lake->tables_list = mem_alloc_array(TABLES_MAX, sizeof(struct lake_table *));
        }
        lake->tables_list[lake->tables_count++] = table;
        map_set(&lake->tables, str_of(table->name), table);
    }
    lock_release(&lake->tables_lock);
    if (table == NULL) {
        (void)err_set(err, ERR_BUSY, "this server writes to %d tables already", TABLES_MAX);
    }
    return table;
}

bool lake_table_claim(struct lake *lake, struct lake_table *table, struct err *err)
{
    lock_take(&lake->tables_lock);
    if (table->folded.ptr == NULL) {
        table->folded = map_folded_key(str_of(table->name));
    }
    const struct lake_table *owner = map_find(&lake->owners, table->folded);
    if (owner == NULL || owner->disowned) {
        map_set(&lake->owners, table->folded, table);
        table->disowned = false;
        owner = table;
    }
    lock_release(&lake->tables_lock);
    return owner == table || err_set(err, ERR_CONFLICT,
                                     "there is a table %s: names of tables may not differ in case "
                                     "alone",
                                     owner->name);
}

void lake_table_disclaim(struct lake *lake, struct lake_table *table)
{
    lock_take(&lake->tables_lock);
    table->disowned = !lake_table_has_columns(table);
    lock_release(&lake->tables_lock);
}

void lake_table_visit(struct lake *lake, bool (*visit)(void *context, struct lake_table *table),
                      void *context)
{
    lock_take(&lake->tables_lock);
    size_t count = lake->tables_count; /* the list only grows, in place */
    lock_release(&lake->tables_lock);
    for (size_t i = 0; i < count && visit(context, lake->tables_list[i]); i++) {
    }
}

bool lake_table_is_known(struct lake *lake, struct str name)
{
    struct lake_table *table = lake_table_find(lake, name);
    bool known = false;
    if (table != NULL) {
        lock_take(&table->lock);
        known = table->loaded && !table->widening;
        lock_release(&table->lock);
    }
    return known;
}

uint64_t lake_buffered_rows(struct lake *lake, struct str name)
{
    struct lake_table *table = lake_table_find(lake, name);
    uint64_t rows = 0;
    if (table != NULL) {
        lock_take(&table->lock);
        rows = table->tail_rows;
        lock_release(&table->lock);
    }
    return rows;
}

/* ---- schemas ---- */

bool lake_table_has_columns(struct lake_table *table)
{
    lock_take(&table->lock);
    bool has = table->schema->columns_count > 0;
    lock_release(&table->lock);
    return has;
}

const struct lake_schema *lake_table_schema(struct lake_table *table)
{
    lock_take(&table->lock);
    const struct lake_schema *schema = lake_schema_keep(table->schema);
    lock_release(&table->lock);
    return schema;
}

bool lake_table_begin_widening(struct lake_table *table, struct cancel *cancel,
                               const struct lake_schema **ret_schema, struct err *err)
{
    bool good = true;
    lock_take(&table->lock);
    while (table->widening && good) {
        (void)condition_wait_until(&table->widened, &table->lock, clock_now_ms() + WAIT_SLICE_MS);
        good = cancel == NULL || cancel_check(cancel, err);
    }
    if (good) {
        table->widening = true;
        *ret_schema = lake_schema_keep(table->schema);
    }
    lock_release(&table->lock);
    return good;
}

const struct lake_schema *lake_table_try_widening(struct lake_table *table)
{
    const struct lake_schema *schema = NULL;
    lock_take(&table->lock);
    if (!table->widening) {
        table->widening = true;
        schema = lake_schema_keep(table->schema);
    }
    lock_release(&table->lock);
    return schema;
}

void lake_table_end_widening(struct lake_table *table)
{
    lock_take(&table->lock);
    table->widening = false;
    condition_broadcast(&table->widened);
    lock_release(&table->lock);
}

bool lake_schemas_have_room(struct lake *lake, struct err *err)
{
    return atomic_load(&lake->schemas_bytes) < SCHEMAS_BYTES_CLIENTS ||
           err_set(err, ERR_TOO_LARGE, "the tables of this server have too many columns together");
}

/* A schema that does not grow always has room. */
static bool take_room(struct lake *lake, uint64_t before, uint64_t size, struct err *err)
{
    unsigned long long all = atomic_fetch_add(&lake->schemas_bytes, size - before) + size - before;
    if (size <= before || all <= SCHEMAS_BYTES_MAX) {
        return true;
    }
    (void)atomic_fetch_sub(&lake->schemas_bytes, size - before);
    return err_set(err, ERR_TOO_LARGE, "the tables of this server have too many columns together");
}

bool lake_table_publish(struct lake *lake, struct lake_table *table,
                        const struct lake_schema *schema, struct err *err)
{
    struct buf text;
    struct buf payload;
    buf_init(&text, WAL_PAYLOAD_SIZE_MAX / 2);
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    lake_schema_append_json(schema, false, &text);
    worker_put_text(&payload, str_of(table->name));
    worker_put_text(&payload, buf_str(&text));
    bool good = !buf_failed(&text) && !buf_failed(&payload);
    buf_finish(&text);
    /* Urgent: a flush stores the schema first, and must not be kept by a full log from emptying
     * it. */
    struct wal_record record = {.type = LAKE_LOG_SCHEMA, .urgent = true};
    uint64_t size = payload.len;
    good = good ? take_room(lake, table->schema_bytes, size, err)
                : err_set(err, ERR_TOO_LARGE, "the table's schema is too large for the log");
    if (good && !wal_append(lake->records, &record, &payload, err)) {
        (void)atomic_fetch_sub(&lake->schemas_bytes, size - table->schema_bytes);
        good = false;
    }
    buf_finish(&payload);
    if (good) {
        table->schema_bytes = size;
        const struct lake_schema *before = table->schema;
        table->schema = lake_schema_keep(schema);
        lake_schema_drop(before);
        table->generation++;
    }
    return good;
}

/* ---- registering ---- */

static void add_rows(struct lake_table *table, const struct lake_tail_record *record)
{
    table->tail_rows += record->rows;
    table->tail_bytes += record->place.size - record->lines_offset;
}

void lake_table_register(struct lake *lake, struct lake_table *table,
                         const struct lake_tail_record *records, size_t records_count)
{
    (void)atomic_fetch_add(&lake->tail_records, records_count);
    lock_take(&table->lock);
    table->tail = mem_grow(table->tail, table->tail_count, records_count, &table->tail_capacity,
                           sizeof(*table->tail));
    for (size_t i = 0; i < records_count; i++) {
        assert(table->tail_count == 0 ||
               records[i].position >= table->tail[table->tail_count - 1].position);
        if (table->tail_count == 0 || records[i].place.sequence < table->tail_first) {
            table->tail_first = records[i].place.sequence;
        }
        table->tail[table->tail_count++] = records[i];
        add_rows(table, &records[i]);
        table->position = records[i].position;
    }
    table->generation++;
    lock_release(&table->lock);
}

void lake_table_add_batch(struct lake_table *table, struct lake_batch *batch_take)
{
    lock_take(&table->lock);
    batch_take->next = table->batches;
    table->batches = batch_take;
    if (table->position < batch_take->position) {
        table->position = batch_take->position;
    }
    lock_release(&table->lock);
}

static void keep_stored(struct lake_table *table, uint64_t position)
{
    table->stored = mem_grow(table->stored, table->stored_count, 1, &table->stored_capacity,
                             sizeof(*table->stored));
    table->stored[table->stored_count++] = position;
}

static int compare_positions(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right ? 1 : 0;
}

void lake_table_sort_stored(struct lake_table *table)
{
    size_t kept = 0;
    if (table->stored_count > 0) {
        qsort(table->stored, table->stored_count, sizeof(*table->stored), compare_positions);
    }
    for (size_t i = 0; i < table->stored_count; i++) {
        if (kept == 0 || table->stored[kept - 1] != table->stored[i]) {
            table->stored[kept++] = table->stored[i];
        }
    }
    table->stored_count = kept;
}

bool lake_table_is_stored(const struct lake_table *table, uint64_t position)
{
    return table->stored_count > 0 && bsearch(&position, table->stored, table->stored_count,
                                              sizeof(position), compare_positions) != NULL;
}

void lake_table_end_batch(struct lake_table *table, uint64_t position, bool shown)
{
    lock_take(&table->lock);
    struct lake_batch **link = &table->batches;
    while (*link != NULL && (*link)->position != position) {
        link = &(*link)->next;
    }
    struct lake_batch *batch = *link;
    if (batch != NULL) {
        *link = batch->next;
    }
    if (shown) {
        keep_stored(table, position);
    }
    table->generation++;
    lock_release(&table->lock);
    if (batch != NULL) {
        batch_destroy(batch);
    }
}

static uint64_t first_of(const struct lake_tail_record *records, size_t count, uint64_t sequence)
{
    for (size_t i = 0; i < count; i++) {
        if (records[i].place.sequence < sequence) {
            sequence = records[i].place.sequence;
        }
    }
    return sequence;
}

void lake_table_end_plan(struct lake *lake, struct lake_table *table)
{
    lock_take(&table->lock);
    assert(table->plan != NULL && table->sealed <= table->tail_count);
    for (size_t i = 0; i < table->sealed; i++) {
        table->tail_rows -= table->tail[i].rows;
        table->tail_bytes -= table->tail[i].place.size - table->tail[i].lines_offset;
        mem_free(table->tail[i].sections);
    }
    (void)atomic_fetch_sub(&lake->tail_records, table->sealed);
    table->tail_count -= table->sealed;
    memmove(table->tail, table->tail + table->sealed, table->tail_count * sizeof(*table->tail));
    table->tail_first = first_of(table->tail, table->tail_count, UINT64_MAX);
    table->sealed = 0;
    table->committed = table->plan->last;
    plan_destroy(table->plan);
    table->plan = NULL;
    table->generation++;
    lake_tail_forget(table); /* it begins with rows that are gone */
    lock_release(&table->lock);
}

/* The days from March 1 of year 0 on, in eras of 400 years, each of which has as many days. */
int32_t lake_day_of_date(const struct lake_date *date)
{
    enum {
        ERA_DAYS = 146097,
        TO_1970 = 719468
    };
    int year = date->month > 2 ? date->year : date->year - 1;
    int era = year / 400;
    int year_of_era = year - era * 400;
    int month = (date->month + 9) % 12; /* from March */
    int day_of_year = (153 * month + 2) / 5 + date->day - 1;
    return era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           TO_1970;
}

/* ---- what keeps the log ---- */

void lake_hold_add(struct lake *lake, struct lake_hold *hold)
{
    lock_take(&lake->tables_lock);
    hold->next = lake->holds;
    lake->holds = hold;
    lock_release(&lake->tables_lock);
}

void lake_hold_end(struct lake *lake, struct lake_hold *hold)
{
    lock_take(&lake->tables_lock);
    struct lake_hold **link = &lake->holds;
    while (*link != hold) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = hold->next;
    lock_release(&lake->tables_lock);
}

static uint64_t needed_by(struct lake_table *table, uint64_t sequence)
{
    lock_take(&table->lock);
    if (table->tail_count > 0 && table->tail_first < sequence) {
        sequence = table->tail_first;
    }
    for (const struct lake_batch *batch = table->batches; batch != NULL; batch = batch->next) {
        sequence = first_of(batch->records, batch->records_count, sequence);
    }
    lock_release(&table->lock);
    return sequence;
}

/* A request that goes on: its first record is a hold of its own, which it adds before the one is
 * counted as registered; so `registered` is looked at first. */
uint64_t lake_needed_from(struct lake *lake)
{
    lock_take(&lake->tables_lock);
    uint64_t sequence = lake->registered + 1;
    for (const struct lake_hold *hold = lake->holds; hold != NULL; hold = hold->next) {
        sequence = hold->sequence < sequence ? hold->sequence : sequence;
    }
    size_t count = lake->tables_count;
    lock_release(&lake->tables_lock);
    for (size_t i = 0; i < count; i++) {
        sequence = needed_by(lake->tables_list[i], sequence);
    }
    return sequence;
}
