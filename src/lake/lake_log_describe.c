/* What the records of both logs mean, as text: `eider log inspect` prints it. */
#include "clock.h"
#include "lake_log.h"
#include "mem.h"

enum {
    SHOWN_MAX = 8 /* days of one record, columns of a schema, objects of a plan */
};

#define DAY_MS INT64_C(86400000)

static const char *yes_no(bool value)
{
    return value ? "yes" : "no";
}

static void append_day(struct buf *into, int32_t day)
{
    struct civil_time date = clock_civil_utc(day * DAY_MS);
    buf_append_format(into, "%04d-%02d-%02d", date.year, date.month, date.day);
}

static void append_time(struct buf *into, int64_t wall_ms)
{
    char text[CLOCK_ISO_SIZE];
    clock_format_iso(wall_ms, text);
    buf_append_text(into, text);
}

static void append_more(struct buf *into, size_t count)
{
    if (count > SHOWN_MAX) {
        buf_append_format(into, " and %zu more", count - SHOWN_MAX);
    }
}

static bool describe_rows(struct str payload, struct buf *into)
{
    struct lake_log_rows rows;
    struct err ignored;
    if (!lake_log_get_rows(payload, &rows, &ignored)) {
        return false;
    }
    buf_append_format(into, "rows: table %.*s, %llu%s rows, days", STR_ARG(rows.table),
                      (unsigned long long)rows.rows, rows.dead ? " dead" : "");
    for (size_t i = 0; i < rows.sections_count && i < SHOWN_MAX; i++) {
        buf_append_byte(into, ' ');
        append_day(into, rows.sections[i].day);
    }
    append_more(into, rows.sections_count);
    buf_append_format(into, ", %s, group %llu, last %s, key %s, arrived ",
                      rows.way == LAKE_BATCH ? "batch" : "buffered", (unsigned long long)rows.group,
                      yes_no(rows.last), yes_no(rows.has_key));
    append_time(into, rows.arrival_ms);
    if (rows.last) {
        buf_append_format(into, ", request %llu rows and %llu dead",
                          (unsigned long long)rows.request_rows,
                          (unsigned long long)rows.request_dead);
    }
    mem_free((void *)(uintptr_t)rows.sections);
    return true;
}

static bool describe_schema(struct str payload, struct buf *into)
{
    struct worker_cursor cursor = {.rest = payload};
    struct str table = worker_get_text(&cursor);
    struct str text = worker_get_text(&cursor);
    const struct lake_schema *schema;
    struct err ignored;
    if (!worker_get_end(&cursor) || !lake_schema_parse(text, &schema, &ignored)) {
        return false;
    }
    buf_append_format(into, "schema: table %.*s, %zu columns", STR_ARG(table),
                      schema->columns_count);
    for (size_t i = 0; i < schema->columns_count && i < SHOWN_MAX; i++) {
        const struct lake_schema_column *column = &schema->columns[i];
        buf_append_format(into, "%s %.*s %s", i == 0 ? ":" : ",", (int)column->name_size,
                          column->name, column->sql_type);
    }
    append_more(into, schema->columns_count);
    lake_schema_drop(schema);
    return true;
}

static void append_objects(struct buf *into, const struct lake_plan *plan)
{
    buf_append_format(into, ", %zu objects", plan->objects_count);
    for (size_t i = 0; i < plan->objects_count && i < SHOWN_MAX; i++) {
        const struct lake_plan_object *object = &plan->objects[i];
        buf_append_format(into, "%s %s with %llu rows of ", i == 0 ? ":" : ",", object->key,
                          (unsigned long long)object->rows);
        append_day(into, object->day);
    }
    append_more(into, plan->objects_count);
}

static bool describe_plan(struct str payload, struct buf *into)
{
    struct worker_cursor cursor = {.rest = payload};
    struct lake_plan plan = {0};
    lake_log_get_plan(&cursor, &plan);
    bool good = worker_get_end(&cursor);
    if (good) {
        buf_append_format(into, "plan: table %s, positions %llu-%llu, made ", plan.table,
                          (unsigned long long)plan.first, (unsigned long long)plan.last);
        append_time(into, plan.made_ms);
        buf_append_text(into, plan.dated ? ", dated" : "");
        append_objects(into, &plan);
    }
    lake_plan_finish(&plan);
    return good;
}

static bool describe_position(const char *what, struct str payload, struct buf *into)
{
    struct str table;
    uint64_t position;
    struct err ignored;
    if (!lake_log_get_position(payload, &table, &position, &ignored)) {
        return false;
    }
    buf_append_format(into, "%s: table %.*s, position %llu", what, STR_ARG(table),
                      (unsigned long long)position);
    return true;
}

/* Prologues and KEYS begin with how many there are of what they hold. */
static bool describe_count(const char *what, struct str payload, struct buf *into)
{
    struct worker_cursor cursor = {.rest = payload};
    uint32_t count = worker_get_u32(&cursor);
    if (cursor.failed) {
        return false;
    }
    buf_append_format(into, "%s: %u", what, count);
    return true;
}

static bool describe(unsigned type, struct str payload, struct buf *into)
{
    switch (type) {
    case WAL_TYPE_PROLOGUE:
        return describe_count("tables", payload, into);
    case LAKE_LOG_SCHEMA:
        return describe_schema(payload, into);
    case LAKE_LOG_ROWS:
        return describe_rows(payload, into);
    case LAKE_LOG_CANCEL:
        return describe_position("cancel", payload, into);
    case LAKE_LOG_PLAN:
        return describe_plan(payload, into);
    case LAKE_LOG_COMMITTED:
        return describe_position("committed", payload, into);
    case LAKE_LOG_STORED:
        return describe_position("stored", payload, into);
    case LAKE_LOG_KEYS:
        return describe_count("keys", payload, into);
    default:
        return false;
    }
}

void lake_log_describe(unsigned type, struct str payload, struct buf *into)
{
    if (!describe(type, payload, into)) {
        buf_append_text(into, "not of the lake");
    }
}
