/* What the segments of both logs begin with (lake_replay.h). */
#include "lake_replay.h"

#include "lake_internal.h"

enum {
    STORED_MAX = 1 << 20 /* in one prologue; without it a batch is only looked for in the store */
};

struct prologue {
    struct buf *into;
    uint32_t count;
    uint64_t log_first; /* of the log of records: it may hold rows from there on */
    size_t stored_left;
};

/* A table that a refused request began has nothing to say, and need not be there after a start. */
static bool put_table_state(void *context, struct lake_table *table)
{
    struct prologue *prologue = context;
    lock_take(&table->lock);
    lake_table_sort_stored(table); /* several old segments may have told the same */
    size_t kept = 0;
    for (size_t i = 0; i < table->stored_count; i++) {
        if (table->stored[i] >= prologue->log_first) {
            table->stored[kept++] = table->stored[i];
        }
    }
    table->stored_count = kept;
    if (kept == 0 && table->committed == 0 && table->plan == NULL) {
        lock_release(&table->lock);
        return true;
    }
    worker_put_text(prologue->into, str_of(table->name));
    worker_put_u64(prologue->into, table->committed);
    size_t told = kept < prologue->stored_left ? kept : prologue->stored_left;
    prologue->stored_left -= told;
    worker_put_u64(prologue->into, told);
    for (size_t i = kept - told; i < kept; i++) {
        worker_put_u64(prologue->into, table->stored[i]);
    }
    worker_put_u32(prologue->into, table->plan != NULL ? 1 : 0);
    if (table->plan != NULL) {
        lake_log_put_plan(prologue->into, table->plan);
    }
    lock_release(&table->lock);
    prologue->count++;
    return true;
}

static bool put_table_schema(void *context, struct lake_table *table)
{
    struct prologue *prologue = context;
    struct buf text;
    buf_init(&text, WAL_PAYLOAD_SIZE_MAX / 2);
    lock_take(&table->lock);
    bool published = table->schema_bytes > 0;
    if (published) {
        lake_schema_append_json(table->schema, false, &text);
    }
    lock_release(&table->lock);
    if (published) {
        worker_put_text(prologue->into, str_of(table->name));
        worker_put_text(prologue->into, buf_str(&text));
        prologue->count++;
    }
    buf_finish(&text);
    return true;
}

static void put_tables(struct lake *lake, struct buf *into,
                       bool (*visit)(void *context, struct lake_table *table))
{
    struct buf tables;
    buf_init(&tables, into->size_max);
    /* The log of plans is opened first. */
    struct prologue prologue = {.into = &tables, .stored_left = STORED_MAX};
    if (lake->records != NULL) {
        prologue.log_first = wal_first(lake->records);
    }
    lake_table_visit(lake, visit, &prologue);
    worker_put_u32(into, prologue.count);
    buf_append(into, buf_str(&tables));
    into->failed = into->failed || buf_failed(&tables);
    buf_finish(&tables);
}

void lake_prologue_plans(void *context, struct buf *into)
{
    put_tables(context, into, put_table_state);
}

void lake_prologue_records(void *context, struct buf *into)
{
    put_tables(context, into, put_table_schema);
}
