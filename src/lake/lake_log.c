#include "lake_log.h"

#include "mem.h"

enum {
    FLAG_LAST = 1 << 0,
    FLAG_BATCH = 1 << 1,
    FLAG_DEAD = 1 << 2,
    FLAG_KEY = 1 << 3,
    SECTION_SIZE = 16
};

static void put_bytes(struct buf *into, const unsigned char *bytes)
{
    buf_append_bytes(into, bytes, LAKE_KEY_SIZE);
}

static void get_bytes(struct worker_cursor *cursor, unsigned char *bytes)
{
    if (cursor->failed || cursor->rest.len < LAKE_KEY_SIZE) {
        cursor->failed = true;
        return;
    }
    memcpy(bytes, cursor->rest.ptr, LAKE_KEY_SIZE);
    cursor->rest = str_from(cursor->rest, LAKE_KEY_SIZE);
}

static bool damaged(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the log holds %s that cannot be read", what);
}

/* ---- ROWS ---- */

void lake_log_put_rows(struct buf *into, const struct lake_log_rows *rows)
{
    uint32_t flags = (rows->last ? FLAG_LAST : 0u) | (rows->way == LAKE_BATCH ? FLAG_BATCH : 0u) |
                     (rows->dead ? FLAG_DEAD : 0u) | (rows->has_key ? FLAG_KEY : 0u);
    worker_put_text(into, rows->table);
    worker_put_u64(into, rows->group);
    worker_put_u32(into, flags);
    worker_put_u64(into, (uint64_t)rows->arrival_ms);
    if (rows->has_key) {
        put_bytes(into, rows->key);
        put_bytes(into, rows->body);
    }
    worker_put_u64(into, rows->rows);
    worker_put_u64(into, rows->request_rows);
    worker_put_u64(into, rows->request_dead);
    worker_put_u64(into, rows->sections_count);
    for (size_t i = 0; i < rows->sections_count; i++) {
        worker_put_u32(into, (uint32_t)rows->sections[i].day);
        worker_put_u32(into, rows->sections[i].rows);
        worker_put_u64(into, rows->sections[i].size);
    }
}

static void get_sections(struct worker_cursor *cursor, struct lake_log_rows *rows)
{
    rows->sections_count = worker_get_count(cursor, SECTION_SIZE);
    struct lake_section *sections = mem_alloc_array(rows->sections_count, sizeof(*sections));
    uint64_t size = 0;
    uint64_t count = 0;
    for (size_t i = 0; i < rows->sections_count; i++) {
        sections[i].day = (int32_t)worker_get_u32(cursor);
        sections[i].rows = worker_get_u32(cursor);
        sections[i].size = worker_get_u64(cursor);
        count += sections[i].rows;
        if (sections[i].size > cursor->rest.len - size) {
            cursor->failed = true;
            break;
        }
        size += sections[i].size;
    }
    rows->sections = sections;
    cursor->failed = cursor->failed || size != cursor->rest.len || count != rows->rows;
}

bool lake_log_get_rows(struct str payload, struct lake_log_rows *ret_rows, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct lake_log_rows rows = {.table = worker_get_text(&cursor)};
    rows.group = worker_get_u64(&cursor);
    uint32_t flags = worker_get_u32(&cursor);
    rows.last = (flags & FLAG_LAST) != 0;
    rows.way = (flags & FLAG_BATCH) != 0 ? LAKE_BATCH : LAKE_BUFFERED;
    rows.dead = (flags & FLAG_DEAD) != 0;
    rows.has_key = (flags & FLAG_KEY) != 0;
    rows.arrival_ms = (int64_t)worker_get_u64(&cursor);
    if (rows.has_key) {
        get_bytes(&cursor, rows.key);
        get_bytes(&cursor, rows.body);
    }
    rows.rows = worker_get_u64(&cursor);
    rows.request_rows = worker_get_u64(&cursor);
    rows.request_dead = worker_get_u64(&cursor);
    get_sections(&cursor, &rows);
    rows.lines = cursor.rest;
    rows.lines_offset = (uint32_t)(payload.len - cursor.rest.len);
    if (cursor.failed || rows.table.len == 0) {
        mem_free((void *)(uintptr_t)rows.sections);
        return damaged(err, "rows");
    }
    *ret_rows = rows;
    return true;
}

/* ---- PLAN ---- */

void lake_log_put_plan(struct buf *into, const struct lake_plan *plan)
{
    worker_put_text(into, str_of(plan->table));
    worker_put_u64(into, plan->first);
    worker_put_u64(into, plan->last);
    worker_put_u64(into, (uint64_t)plan->made_ms);
    worker_put_u32(into, plan->dated ? 1 : 0);
    worker_put_u64(into, plan->objects_count);
    for (size_t i = 0; i < plan->objects_count; i++) {
        worker_put_u32(into, (uint32_t)plan->objects[i].day);
        worker_put_u64(into, plan->objects[i].rows);
        worker_put_text(into, str_of(plan->objects[i].key));
    }
}

void lake_log_get_plan(struct worker_cursor *cursor, struct lake_plan *ret_plan)
{
    struct str table = worker_get_text(cursor);
    struct lake_plan plan = {.table = mem_copy_bytes(table.ptr, table.len)};
    plan.first = worker_get_u64(cursor);
    plan.last = worker_get_u64(cursor);
    plan.made_ms = (int64_t)worker_get_u64(cursor);
    plan.dated = worker_get_u32(cursor) != 0;
    size_t count = worker_get_count(cursor, sizeof(uint32_t) + 2 * sizeof(uint64_t));
    plan.objects = mem_alloc_array(count, sizeof(*plan.objects));
    plan.objects_count = count;
    plan.objects_tried = count;
    for (size_t i = 0; i < count; i++) {
        plan.objects[i].day = (int32_t)worker_get_u32(cursor);
        plan.objects[i].rows = worker_get_u64(cursor);
        struct str key = worker_get_text(cursor);
        plan.objects[i].key = mem_copy_bytes(key.ptr, key.len);
    }
    cursor->failed = cursor->failed || table.len == 0 || plan.first > plan.last;
    *ret_plan = plan;
}

void lake_plan_finish(struct lake_plan *plan)
{
    for (size_t i = 0; i < plan->objects_count; i++) {
        mem_free(plan->objects[i].key);
    }
    mem_free(plan->objects);
    mem_free(plan->table);
    *plan = (struct lake_plan){0};
}

/* ---- KEYS ---- */

void lake_log_put_key(struct buf *into, const struct lake_log_key *key)
{
    put_bytes(into, key->key);
    put_bytes(into, key->body);
    worker_put_u64(into, (uint64_t)key->arrival_ms);
    worker_put_u64(into, key->accepted);
    worker_put_u64(into, key->dead_letters);
    worker_put_u64(into, key->position);
    worker_put_u32(into, (uint32_t)key->day);
}

void lake_log_get_key(struct worker_cursor *cursor, struct lake_log_key *ret_key)
{
    get_bytes(cursor, ret_key->key);
    get_bytes(cursor, ret_key->body);
    ret_key->arrival_ms = (int64_t)worker_get_u64(cursor);
    ret_key->accepted = worker_get_u64(cursor);
    ret_key->dead_letters = worker_get_u64(cursor);
    ret_key->position = worker_get_u64(cursor);
    ret_key->day = (int32_t)worker_get_u32(cursor);
}

/* ---- COMMITTED, STORED, CANCEL ---- */

void lake_log_put_position(struct buf *into, struct str table, uint64_t position)
{
    worker_put_text(into, table);
    worker_put_u64(into, position);
}

bool lake_log_get_position(struct str payload, struct str *ret_table, uint64_t *ret_position,
                           struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    *ret_table = worker_get_text(&cursor);
    *ret_position = worker_get_u64(&cursor);
    return (worker_get_end(&cursor) && ret_table->len > 0) || damaged(err, "a position");
}
