#include "lake_replay.h"

#include "clock.h"
#include "lake_internal.h"
#include "lake_keys.h"
#include "lake_ship.h"
#include "mem.h"

#include <stdlib.h>

enum {
    DAY_MS = 86400000
};

/* A request of several records that is not closed yet. */
struct open_group {
    uint64_t group;
    struct group_part {
        struct lake_table *table;
        struct lake_tail_record record;
    } * parts;
    size_t parts_count;
    size_t parts_capacity;
    struct open_group *next;
};

/* The object of a batch that was cancelled, which may have turned up all the same. */
struct cancelled {
    const struct lake_table *table;
    uint64_t position;
    int64_t arrival_ms;
    int32_t day;
    struct cancelled *next;
};

struct lake_replay {
    struct lake *lake;
    struct open_group *groups;
    struct cancelled *cancelled; /* oldest first */
    struct cancelled **cancelled_end;
};

struct lake_replay *lake_replay_create(struct lake *lake)
{
    struct lake_replay *replay = mem_alloc(sizeof(*replay));
    replay->lake = lake;
    replay->cancelled_end = &replay->cancelled;
    return replay;
}

static void group_destroy(struct open_group *group)
{
    for (size_t i = 0; i < group->parts_count; i++) {
        mem_free(group->parts[i].record.sections);
    }
    mem_free(group->parts);
    mem_free(group);
}

void lake_replay_destroy(struct lake_replay *replay)
{
    while (replay != NULL && replay->groups != NULL) {
        struct open_group *group = replay->groups;
        replay->groups = group->next;
        group_destroy(group);
    }
    while (replay != NULL && replay->cancelled != NULL) {
        struct cancelled *cancelled = replay->cancelled;
        replay->cancelled = cancelled->next;
        mem_free(cancelled);
    }
    mem_free(replay);
}

static bool damaged(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the log holds %s that cannot be read", what);
}

/* ---- the log of plans ---- */

static void set_plan(struct lake *lake, struct lake_table *table, struct lake_plan *plan_take)
{
    if (plan_take != NULL) {
        (void)atomic_fetch_add(&lake->plans_bytes, plan_take->bytes);
    }
    if (table->plan != NULL) {
        (void)atomic_fetch_sub(&lake->plans_bytes, table->plan->bytes);
        lake_plan_finish(table->plan);
        mem_free(table->plan);
    }
    table->plan = plan_take;
}

static bool replay_plan(struct lake *lake, struct worker_cursor *cursor, struct err *err)
{
    struct lake_plan *plan = mem_alloc(sizeof(*plan));
    size_t before = cursor->rest.len;
    lake_log_get_plan(cursor, plan);
    plan->bytes = before - cursor->rest.len;
    struct lake_table *table =
        cursor->failed ? NULL : lake_table_get(lake, str_of(plan->table), err);
    if (table == NULL) {
        bool bad = cursor->failed;
        lake_plan_finish(plan);
        mem_free(plan);
        return bad ? damaged(err, "a plan") : false;
    }
    set_plan(lake, table, plan);
    return true;
}

/* A prologue may be older than records before it: it is written while others go on. */
static void settle(struct lake *lake, struct lake_table *table, uint64_t committed)
{
    if (table->committed < committed) {
        table->committed = committed;
    }
    if (table->plan != NULL && table->plan->last <= table->committed) {
        set_plan(lake, table, NULL);
    }
}

static bool replay_table_state(struct lake *lake, struct worker_cursor *cursor, struct err *err)
{
    struct str name = worker_get_text(cursor);
    uint64_t committed = worker_get_u64(cursor);
    size_t count = worker_get_count(cursor, sizeof(uint64_t));
    if (cursor->failed || name.len == 0) {
        return damaged(err, "positions");
    }
    struct lake_table *table = lake_table_get(lake, name, err);
    if (table == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        lake_table_end_batch(table, worker_get_u64(cursor), true);
    }
    bool good = worker_get_u32(cursor) == 0 || replay_plan(lake, cursor, err);
    settle(lake, table, committed);
    return good;
}

static bool replay_plans_prologue(struct lake *lake, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t count = worker_get_u32(&cursor);
    for (uint32_t i = 0; i < count; i++) {
        if (!replay_table_state(lake, &cursor, err)) {
            return false;
        }
    }
    return worker_get_end(&cursor) || damaged(err, "positions");
}

static bool replay_position(struct lake *lake, unsigned type, struct str payload, struct err *err)
{
    struct str name;
    uint64_t position;
    if (!lake_log_get_position(payload, &name, &position, err)) {
        return false;
    }
    struct lake_table *table = lake_table_get(lake, name, err);
    if (table == NULL) {
        return false;
    }
    if (type == LAKE_LOG_STORED) {
        lake_table_end_batch(table, position, true);
    } else {
        settle(lake, table, position);
    }
    return true;
}

bool lake_replay_plans(void *context, const struct wal_place *place, unsigned type,
                       struct str payload, struct err *err)
{
    struct lake *lake = context;
    struct worker_cursor cursor = {.rest = payload};
    switch (type) {
    case WAL_TYPE_PROLOGUE:
        return replay_plans_prologue(lake, payload, err);
    case LAKE_LOG_PLAN:
        return replay_plan(lake, &cursor, err);
    case LAKE_LOG_COMMITTED:
    case LAKE_LOG_STORED:
        return replay_position(lake, type, payload, err);
    case LAKE_LOG_KEYS:
        return lake_keys_replay(lake->keys, place->sequence, payload, err);
    default:
        return err_set(err, ERR_CORRUPT, "the log of plans has a record of unknown type %u", type);
    }
}

/* ---- the log of records ---- */

static bool replay_schema(struct lake *lake, struct worker_cursor *cursor,
                          struct lake_table **ret_table, struct err *err)
{
    struct str name = worker_get_text(cursor);
    struct str text = worker_get_text(cursor);
    if (cursor->failed || name.len == 0) {
        return damaged(err, "a schema");
    }
    const struct lake_schema *schema;
    struct lake_table *table = lake_table_get(lake, name, err);
    if (table == NULL || !lake_schema_parse(text, &schema, err)) {
        return false;
    }
    lake_schema_drop(table->schema);
    table->schema = schema;
    uint64_t size = name.len + text.len + 2 * sizeof(uint32_t);
    (void)atomic_fetch_add(&lake->schemas_bytes, size - table->schema_bytes);
    table->schema_bytes = size;
    *ret_table = table;
    struct err ignored; /* an older server may have made several */
    (void)!(schema->columns_count == 0 || lake_table_claim(lake, table, &ignored));
    return true;
}

static bool replay_records_prologue(struct lake *lake, struct str payload, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t count = worker_get_u32(&cursor);
    for (uint32_t i = 0; i < count; i++) {
        struct lake_table *table;
        if (!replay_schema(lake, &cursor, &table, err)) {
            return false;
        }
    }
    return worker_get_end(&cursor) || damaged(err, "schemas");
}

static struct open_group *find_group(struct lake_replay *replay, uint64_t number)
{
    struct open_group *group = replay->groups;
    while (group != NULL && group->group != number) {
        group = group->next;
    }
    if (group == NULL) {
        group = mem_alloc(sizeof(*group));
        group->group = number;
        group->next = replay->groups;
        replay->groups = group;
    }
    return group;
}

static void take_group(struct lake_replay *replay, struct open_group *wanted)
{
    struct open_group **link = &replay->groups;
    while (*link != wanted) {
        link = &(*link)->next;
    }
    *link = wanted->next;
}

static void add_part(struct open_group *group, struct lake_table *table,
                     const struct wal_place *place, const struct lake_log_rows *rows)
{
    group->parts = mem_grow(group->parts, group->parts_count, 1, &group->parts_capacity,
                            sizeof(*group->parts));
    struct group_part *part = &group->parts[group->parts_count++];
    *part = (struct group_part){.table = table};
    part->record = (struct lake_tail_record){
        .place = *place,
        .lines_offset = rows->lines_offset,
        .rows = (uint32_t)rows->rows,
        .day = rows->sections_count > 0 ? rows->sections[0].day : 0,
        .registered_ms = clock_now_ms(),
    };
    if (rows->sections_count > 1) {
        size_t size = rows->sections_count * sizeof(*rows->sections);
        part->record.sections = mem_alloc(size);
        memcpy(part->record.sections, rows->sections, size);
        part->record.sections_count = (uint32_t)rows->sections_count;
    }
}

static bool visit_stored(void *context, struct lake_table *table)
{
    (void)context;
    lake_table_sort_stored(table);
    return true;
}

void lake_replay_plans_end(struct lake_replay *replay)
{
    lake_table_visit(replay->lake, visit_stored, NULL);
}

/* Of the first row: the record that closes a request may have none. */
static int32_t day_of(const struct open_group *group, const struct lake_log_rows *rows)
{
    for (size_t i = 0; i < group->parts_count; i++) {
        if (group->parts[i].record.rows > 0) {
            return group->parts[i].record.day;
        }
    }
    return (int32_t)(rows->arrival_ms / DAY_MS);
}

static void close_batch(struct open_group *group, struct lake_table *table, uint64_t position,
                        const struct lake_log_rows *rows)
{
    struct lake_batch *batch = mem_alloc(sizeof(*batch));
    batch->position = position;
    batch->arrival_ms = rows->arrival_ms;
    batch->day = day_of(group, rows);
    batch->rows = rows->request_rows;
    batch->records = mem_alloc_array(group->parts_count, sizeof(*batch->records));
    for (size_t i = 0; i < group->parts_count; i++) {
        if (group->parts[i].record.rows > 0) {
            batch->records[batch->records_count] = group->parts[i].record;
            batch->records[batch->records_count++].position = position;
            group->parts[i].record.sections = NULL;
        }
    }
    lake_table_add_batch(table, batch);
}

/* Each part goes to its own table, unless it is in the lake already. */
static void close_buffered(struct lake *lake, struct open_group *group, uint64_t position)
{
    for (size_t i = 0; i < group->parts_count; i++) {
        struct group_part *part = &group->parts[i];
        part->record.position = position;
        if (part->record.rows > 0 && position > part->table->committed) {
            lake_table_register(lake, part->table, &part->record, 1);
            part->record.sections = NULL;
        } else if (part->table->position < position) {
            part->table->position = position;
        }
    }
}

static void restore_key(struct lake *lake, const struct open_group *group,
                        const struct lake_log_rows *rows, uint64_t position)
{
    struct lake_log_key key = {
        .arrival_ms = rows->arrival_ms,
        .accepted = rows->request_rows,
        .dead_letters = rows->request_dead,
        .position = position,
        .day = day_of(group, rows),
    };
    memcpy(key.key, rows->key, LAKE_KEY_SIZE);
    memcpy(key.body, rows->body, LAKE_KEY_SIZE);
    lake_keys_restore(lake->keys, &key);
}

static void close_request(struct lake_replay *replay, struct open_group *group,
                          struct lake_table *table, uint64_t position,
                          const struct lake_log_rows *rows)
{
    if (rows->way == LAKE_BUFFERED) {
        close_buffered(replay->lake, group, position);
    } else if (!lake_table_is_stored(table, position)) {
        close_batch(group, table, position, rows);
    }
    if (rows->has_key) {
        restore_key(replay->lake, group, rows, position);
    }
    take_group(replay, group);
    group_destroy(group);
}

static bool replay_rows(struct lake_replay *replay, const struct wal_place *place,
                        struct str payload, struct err *err)
{
    struct lake_log_rows rows;
    if (!lake_log_get_rows(payload, &rows, err)) {
        return false;
    }
    struct lake *lake = replay->lake;
    struct lake_table *table = lake_table_get(lake, rows.table, err);
    if (table != NULL) {
        struct open_group *group = find_group(replay, rows.group);
        add_part(group, table, place, &rows);
        if (rows.last) {
            close_request(replay, group, table, place->sequence, &rows);
        }
        lake->groups = lake->groups < rows.group ? rows.group : lake->groups;
    }
    mem_free((void *)(uintptr_t)rows.sections);
    return table != NULL;
}

static void note_cancelled(struct lake_replay *replay, const struct lake_table *table,
                           uint64_t position)
{
    const struct lake_batch *batch = table->batches;
    while (batch != NULL && batch->position != position) {
        batch = batch->next;
    }
    if (batch != NULL) {
        struct cancelled *cancelled = mem_alloc(sizeof(*cancelled));
        *cancelled = (struct cancelled){
            .table = table,
            .position = position,
            .arrival_ms = batch->arrival_ms,
            .day = batch->day,
        };
        *replay->cancelled_end = cancelled;
        replay->cancelled_end = &cancelled->next;
    }
}

static bool replay_cancel(struct lake *lake, struct str payload, struct err *err)
{
    struct str name;
    uint64_t position;
    if (!lake_log_get_position(payload, &name, &position, err)) {
        return false;
    }
    struct lake_table *table = lake_table_get(lake, name, err);
    if (table == NULL) {
        return false;
    }
    note_cancelled(lake->replay, table, position);
    lake_table_end_batch(table, position, false);
    lake_keys_forget_position(lake->keys, position);
    return true;
}

bool lake_replay_records(void *context, const struct wal_place *place, unsigned type,
                         struct str payload, struct err *err)
{
    struct lake *lake = context;
    struct worker_cursor cursor = {.rest = payload};
    struct lake_table *table;
    lake->registered = place->sequence;
    switch (type) {
    case WAL_TYPE_PROLOGUE:
        return replay_records_prologue(lake, payload, err);
    case LAKE_LOG_SCHEMA:
        return replay_schema(lake, &cursor, &table, err);
    case LAKE_LOG_ROWS:
        return replay_rows(lake->replay, place, payload, err);
    case LAKE_LOG_CANCEL:
        return replay_cancel(lake, payload, err);
    default:
        return err_set(err, ERR_CORRUPT, "the log has a record of unknown type %u", type);
    }
}

/* The rows of a plan that was begun are the beginning of the tail, since plans of a table come one
 * after the other. */
static bool seal_plan(void *context, struct lake_table *table)
{
    (void)context;
    if (table->plan != NULL) {
        while (table->sealed < table->tail_count &&
               table->tail[table->sealed].position <= table->plan->last) {
            table->sealed++;
        }
    }
    return true;
}

static void delete_cancelled(struct lake *lake, const struct cancelled *cancelled)
{
    for (; cancelled != NULL; cancelled = cancelled->next) {
        struct buf key;
        buf_init(&key, STORE_KEY_SIZE_MAX);
        lake_object_append_key(lake, str_of(cancelled->table->name), cancelled->day,
                               cancelled->arrival_ms, LAKE_BATCH, cancelled->position,
                               cancelled->position, LAKE_PART_NONE, &key);
        if (!buf_failed(&key)) {
            lake_ship_delete_later(lake, buf_str(&key));
        }
        buf_finish(&key);
    }
}

void lake_replay_end(struct lake_replay *replay)
{
    delete_cancelled(replay->lake, replay->cancelled);
    lake_table_visit(replay->lake, seal_plan, NULL);
}
