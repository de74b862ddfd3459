#include "clock.h"
#include "fd.h"
#include "lake_internal.h"
#include "lake_keys.h"
#include "lake_listing.h"
#include "lake_replay.h"
#include "lake_ship.h"
#include "mem.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SEGMENT_BYTES = 64 << 20,
    PLANS_SEGMENT_BYTES = 4 << 20,
    QUEUE_BYTES_MAX = 256 << 20
};

static void log_broken(void *context, const struct err *err)
{
    struct lake *lake = context;
    atomic_store(&lake->broken, true);
    if (lake->options.broken != NULL) {
        lake->options.broken(lake->options.context, err);
    }
}

static bool open_plans(struct lake *lake, struct err *err)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof(folder), "%s/plans", lake->options.log_folder);
    struct wal_options options = {
        .folder = folder,
        .segment_bytes = PLANS_SEGMENT_BYTES,
        .queue_bytes_max = QUEUE_BYTES_MAX,
        .context = lake,
        .replay = lake_replay_plans,
        .prologue = lake_prologue_plans,
        .broken = log_broken,
    };
    lake->plans = wal_open(&options, err);
    if (lake->plans == NULL) {
        return false;
    }
    lake_replay_plans_end(lake->replay);
    return true;
}

static bool open_records(struct lake *lake, struct err *err)
{
    const struct lake_options *given = &lake->options;
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof(folder), "%s/records", given->log_folder);
    struct wal_options options = {
        .folder = folder,
        .segment_bytes = given->log_segment_bytes > 0 ? given->log_segment_bytes : SEGMENT_BYTES,
        .queue_bytes_max = QUEUE_BYTES_MAX,
        .bytes_max = given->log_bytes_max,
        .disk_free_min = given->disk_free_min,
        .context = lake,
        .replay = lake_replay_records,
        .prologue = lake_prologue_records,
        .broken = log_broken,
    };
    lake->records = wal_open(&options, err);
    if (lake->records == NULL) {
        return false;
    }
    lake_replay_end(lake->replay);
    return true;
}

static void store_flush_limits(struct lake *lake, const struct lake_flush_limits *limits)
{
    atomic_store(&lake->flush_bytes, limits->bytes);
    atomic_store(&lake->flush_rows, limits->rows);
    atomic_store(&lake->flush_age_ms, limits->age_ms);
}

struct lake *lake_open(const struct lake_options *options, struct err *err)
{
    assert(options->prefix.len == 0 || options->prefix.ptr[options->prefix.len - 1] == '/');
    struct lake *lake = mem_alloc(sizeof(*lake));
    lake->options = *options;
    if (lake->options.object_bytes_max == 0) {
        lake->options.object_bytes_max = UINT64_MAX;
    }
    store_flush_limits(lake, &options->flush);
    lake->store = options->store;
    lake->engine = options->engine;
    lake->prefix = mem_copy_bytes(options->prefix.ptr, options->prefix.len);
    lake->spool_folder = mem_copy_text(options->spool_folder);
    lake->options.log_folder = mem_copy_text(options->log_folder);
    lake->schemas = lake_schemas_create();
    lake->listings = lake_listings_create();
    lock_init(&lake->lock, LOCK_SCHEMA);
    lock_init(&lake->tables_lock, LOCK_TABLES);
    lake->keys = lake_keys_create(options->keys_max);
    lake->ship = lake_ship_create(lake);
    lake->replay = lake_replay_create(lake);
    clock_doubt_init(&lake->clock, "lake.clock_doubted", clock_doubt_written(options->log_folder),
                     clock_wall_ms(), clock_now_ms());
    bool good = fd_make_directories(options->log_folder, err) && open_plans(lake, err) &&
                open_records(lake, err);
    lake_replay_destroy(lake->replay);
    lake->replay = NULL;
    if (!good) {
        lake_close(lake);
        return NULL;
    }
    return lake;
}

void lake_start(struct lake *lake)
{
    lake_ship_start(lake->ship);
}

void lake_set_flush_limits(struct lake *lake, const struct lake_flush_limits *limits)
{
    store_flush_limits(lake, limits);
    lake_ship_poke(lake->ship);
}

void lake_drain(struct lake *lake, struct cancel *cancel)
{
    lake_ship_drain(lake, cancel);
}

void lake_backlog(struct lake *lake, struct lake_backlog *ret_backlog)
{
    *ret_backlog = (struct lake_backlog){
        .log_bytes = (uint64_t)metric_level(&wal_counts(lake->records)->bytes),
        .log_bytes_max = lake->options.log_bytes_max,
        .broken = atomic_load(&lake->broken),
    };
    lake_ship_backlog(lake, ret_backlog);
}

const struct lake_counts *lake_counts(const struct lake *lake)
{
    return &lake->counts;
}

const struct wal_counts *lake_log_counts(const struct lake *lake)
{
    return wal_counts(lake->records);
}

void lake_close(struct lake *lake)
{
    if (lake == NULL) {
        return;
    }
    lake_ship_destroy(lake->ship);
    wal_close(lake->plans); /* its prologues look at the other one */
    wal_close(lake->records);
    for (size_t i = 0; i < lake->tables_count; i++) {
        lake_table_destroy(lake->tables_list[i]);
    }
    mem_free(lake->tables_list);
    for (size_t i = 0; i < LAKE_SPARES_COUNT; i++) {
        lake_check_destroy(lake->spares[i]);
    }
    map_finish(&lake->tables);
    map_finish(&lake->owners);
    lake_keys_destroy(lake->keys);
    lake_schemas_destroy(lake->schemas);
    lake_listings_destroy(lake->listings);
    lock_finish(&lake->lock);
    lock_finish(&lake->tables_lock);
    mem_free(lake->prefix);
    mem_free(lake->spool_folder);
    mem_free((void *)(uintptr_t)lake->options.log_folder);
    mem_free(lake);
}

void lake_append_table_prefix(struct buf *key, const struct lake *lake, struct str table)
{
    buf_append_format(key, "%sdata/%.*s/", lake->prefix, STR_ARG(table));
}

/* ---- columns for workers ---- */

static const struct worker_column no_columns = {
    .name = {"_rest", 5}, .line_type = {"VARCHAR", 7}, .sql_type = {"VARCHAR", 7}};

struct worker_column *lake_worker_columns(const struct lake_schema *schema, size_t *ret_count)
{
    bool has_rest = schema->rest < schema->columns_count;
    size_t count = schema->columns_count == 0 ? 1 : schema->columns_count;
    struct worker_column *columns = mem_alloc_array(count, sizeof(*columns));
    columns[0] = no_columns;
    for (size_t i = 0; i < schema->columns_count; i++) {
        const struct lake_schema_column *column = &schema->columns[i];
        bool tried = column->kind == LAKE_CAST || column->kind == LAKE_DECIMAL;
        columns[i] = (struct worker_column){
            .name = str_make(column->name, column->name_size),
            .line_type = str_of(lake_schema_line_type(column)),
            .sql_type = str_of(column->sql_type),
            .loose = tried && has_rest && i != schema->rest,
        };
    }
    *ret_count = count;
    return columns;
}

uint32_t lake_worker_rest(const struct lake_schema *schema)
{
    return schema->rest < schema->columns_count ? (uint32_t)schema->rest + 1 : 0;
}

/* ---- names ---- */

void lake_names_add(struct lake_names *list, struct str name)
{
    list->items = mem_grow(list->items, list->count, 1, &list->capacity, sizeof(*list->items));
    list->items[list->count++] = mem_copy_bytes(name.ptr, name.len);
}

void lake_names_finish(struct lake_names *list)
{
    for (size_t i = 0; i < list->count; i++) {
        mem_free(list->items[i]);
    }
    mem_free(list->items);
}

static bool visit_folder(void *context, struct str name, const struct store_object *object,
                         struct err *err)
{
    (void)object;
    (void)err;
    lake_names_add(context, name);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A remembered list will do for SQL, which looks into each folder that it wants anyway; with cancel
 * NULL nothing else. */
static bool list_folders(struct lake *lake, bool empty_too, struct lake_names *list,
                         struct cancel *cancel, struct err *err)
{
    if (empty_too) {
        const struct lake_listing *listing = lake_listing_folders(lake, cancel, err);
        for (size_t i = 0; listing != NULL && i < listing->count; i++) {
            lake_names_add(list, str_of(listing->items[i].key));
        }
        lake_listing_release(listing);
        return listing != NULL;
    }
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    buf_append_format(&prefix, "%sdata/", lake->prefix);
    bool good =
        store_list_folders(lake->store, buf_str(&prefix), false, visit_folder, list, cancel, err);
    buf_finish(&prefix);
    return good;
}

/* A table that has rows, or that people have declared; not one that a refused request began. */
static bool visit_known(void *context, struct lake_table *table)
{
    lock_take(&table->lock);
    bool is_table = table->tail_count > 0 || table->position > 0 || table->schema->stored;
    lock_release(&table->lock);
    if (is_table) {
        lake_names_add(context, str_of(table->name));
    }
    return true;
}

bool lake_visit_tables(struct lake *lake, bool empty_too,
                       bool (*visit)(void *context, struct str name), void *context,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(lake_names_finish) struct lake_names list = {0};
    if (!list_folders(lake, empty_too, &list, cancel, err)) {
        return false;
    }
    lake_table_visit(lake, visit_known, &list);
    if (list.count > 0) {
        qsort(list.items, list.count, sizeof(*list.items), compare_names);
    }
    for (size_t i = 0; i < list.count; i++) {
        bool repeated = i > 0 && strcmp(list.items[i], list.items[i - 1]) == 0;
        if (!repeated && !visit(context, str_of(list.items[i]))) {
            break;
        }
    }
    return true;
}
