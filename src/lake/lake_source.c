#include "lake_source.h"

#include "clock.h"
#include "mem.h"

enum {
    MS_PER_DAY = 86400000
};

/* ---- finding ---- */

static void leave_out_hidden(struct lake *lake, struct lake_source *source)
{
    const struct lake_listing *listing = source->listing;
    source->shown_count = listing->count;
    if (source->table == NULL) {
        return;
    }
    size_t count = 0;
    for (size_t i = 0; i < listing->count; i++) {
        bool hidden = lake_view_hides(lake, &source->tail.view, str_of(listing->items[i].key));
        if (hidden && source->shown == NULL) {
            source->shown = mem_alloc_array(listing->count, sizeof(*source->shown));
            for (; count < i; count++) {
                source->shown[count] = count;
            }
        }
        if (!hidden && source->shown != NULL) {
            source->shown[count++] = i;
        }
    }
    source->shown_count = source->shown == NULL ? listing->count : count;
}

static bool open_tail(struct lake *lake, struct lake_source *source, struct cancel *cancel,
                      struct err *err)
{
    if (cancel != NULL) {
        return lake_tail_open(lake, source->table, &source->tail, err);
    }
    return lake_tail_recall(lake, source->table, &source->tail) ||
           err_set(err, ERR_BUSY, "the log has to be read");
}

static bool look(struct lake *lake, struct lake_source *source, struct cancel *cancel,
                 struct err *err)
{
    source->table = lake_table_find(lake, source->folder);
    if (source->table != NULL && !open_tail(lake, source, cancel, err)) {
        source->table = NULL;
        return false;
    }
    uint64_t generation = source->table == NULL ? 0 : source->tail.view.generation;
    source->listing = lake_listing_objects(lake, source->folder, generation, cancel, err);
    return source->listing != NULL;
}

/* A table that the log learned of while the store was listed is looked at again, with a view. */
bool lake_source_find(struct lake *lake, struct lake_source *source, struct cancel *cancel,
                      struct err *err)
{
    bool good = look(lake, source, cancel, err);
    if (good && source->table == NULL && lake_table_find(lake, source->folder) != NULL) {
        lake_source_finish(lake, source);
        good = look(lake, source, cancel, err);
    }
    if (good) {
        leave_out_hidden(lake, source);
    } else {
        lake_source_finish(lake, source);
    }
    return good;
}

void lake_source_finish(struct lake *lake, struct lake_source *source)
{
    if (source->table != NULL) {
        lake_tail_close(lake, source->table, &source->tail);
    }
    lake_listing_release(source->listing);
    mem_free(source->shown);
    *source = (struct lake_source){.folder = source->folder};
}

size_t lake_source_item(const struct lake_source *source, size_t at)
{
    return source->shown == NULL ? at : source->shown[at];
}

static bool has_tail(const struct lake_source *source)
{
    return source->table != NULL &&
           (source->tail.rows > 0 || source->tail.schema->columns_count > 0);
}

bool lake_source_is_table(const struct lake_source *source)
{
    return source->shown_count > 0 || has_tail(source);
}

/* ---- telling it from others ---- */

static bool append_objects(const struct lake_source *source, struct buf *into)
{
    const struct lake_listing *listing = source->listing;
    worker_put_u64(into, source->shown_count);
    if (source->shown == NULL) {
        buf_append_bytes(into, listing->identity.bytes, sizeof(listing->identity.bytes));
        return listing->has_etags;
    }
    bool good = true;
    for (size_t i = 0; i < source->shown_count; i++) {
        const struct lake_listed *item = &listing->items[source->shown[i]];
        worker_put_text(into, str_of(item->key));
        worker_put_text(into, str_of(item->object.etag));
        good = good && item->object.etag[0] != '\0';
    }
    return good;
}

/* A column that was declared or widened since the objects were written shows in SQL at once. */
static void append_columns(const struct lake_schema *schema, struct buf *into)
{
    worker_put_u64(into, schema->columns_count);
    for (size_t i = 0; i < schema->columns_count; i++) {
        const struct lake_schema_column *column = &schema->columns[i];
        worker_put_text(into, str_make(column->name, column->name_size));
        worker_put_text(into, str_of(column->sql_type));
    }
}

/* Without rows in the log, objects and columns say all. Generations begin anew with each opening of
 * the log. */
bool lake_source_append_identity(const struct lake *lake, const struct lake_source *source,
                                 struct buf *into)
{
    worker_put_text(into, source->folder);
    bool good = append_objects(source, into);
    bool objects_only = !has_tail(source) || (source->tail.rows == 0 && source->shown_count > 0);
    bool columns = objects_only && has_tail(source);
    worker_put_u32(into, objects_only);
    worker_put_u32(into, columns);
    if (columns) {
        append_columns(source->tail.schema, into);
    } else if (!objects_only) {
        worker_put_u64(into, wal_epoch(lake->records));
        worker_put_u64(into, source->tail.view.generation);
        worker_put_u64(into, source->tail.view.committed);
    }
    return good;
}

/* ---- the tail ---- */

/* The day is where a worker looks for it in objects too. */
static void append_path(const struct lake_source *source, size_t index, struct buf *path)
{
    struct civil_time day = clock_civil_utc((int64_t)source->tail.windows[index].day * MS_PER_DAY);
    buf_append_format(path, "lake://tail/%.*s/year=%04d/month=%02d/day=%02d/%zu.json",
                      STR_ARG(source->folder), day.year, day.month, day.day, index);
}

static struct str *declare_windows(const struct lake_source *source, struct engine_job *job)
{
    const struct lake_tail *tail = &source->tail;
    struct str *paths = mem_alloc_array(tail->windows_count, sizeof(*paths));
    for (size_t i = 0; i < tail->windows_count; i++) {
        struct buf path;
        buf_init(&path, STORE_KEY_SIZE_MAX + 64);
        append_path(source, i, &path);
        char *text = buf_take(&path, &paths[i].len);
        paths[i].ptr = text;
        const struct engine_window window = {
            .fd = tail->fd,
            .offset = tail->windows[i].offset,
            .size = tail->windows[i].size,
        };
        engine_declare_window(job, paths[i], &window);
    }
    return paths;
}

bool lake_source_append_tail(const struct lake_source *source, struct engine_job *job,
                             struct buf *into)
{
    if (!has_tail(source)) {
        return false;
    }
    const struct lake_schema *schema = source->tail.schema;
    size_t columns_count;
    struct worker_column *columns = lake_worker_columns(schema, &columns_count);
    struct str *windows = declare_windows(source, job);
    const struct worker_tail tail = {
        .columns = columns,
        .columns_count = columns_count,
        .rest = lake_worker_rest(schema),
        .line_size_max = source->tail.line_size_max,
        .windows = windows,
        .windows_count = source->tail.windows_count,
    };
    worker_put_tail(into, &tail);
    for (size_t i = 0; i < source->tail.windows_count; i++) {
        mem_free((char *)(uintptr_t)windows[i].ptr);
    }
    mem_free(windows);
    mem_free(columns);
    return true;
}
