#include "map.h"
#include "mem.h"
#include "worker_lines.h"
#include "worker_run.h"

#include <stdio.h>

static void append_paths(struct buf *sql, const struct worker_table *table)
{
    buf_append_byte(sql, '[');
    for (size_t i = 0; i < table->files_count; i++) {
        buf_append_text(sql, i == 0 ? "" : ", ");
        sql_append_literal(sql, table->files[i].path);
    }
    buf_append_byte(sql, ']');
}

static bool create_view(struct duck *duck, struct str name, struct buf *sql, struct err *err)
{
    bool good = !buf_failed(sql) ? duck_create_view(duck, name, buf_str(sql), err)
                                 : err_set(err, ERR_TOO_LARGE, "a table has too many files");
    buf_finish(sql);
    return good;
}

/* Files that a client declared: one file as it is, several united by column name; k=v folders are
 * columns. */
static bool create_files_view(struct duck *duck, const struct worker_table *table, struct err *err)
{
    struct buf sql;
    buf_init(&sql, WORKER_FRAME_SIZE_MAX);
    buf_append_text(&sql, "SELECT * FROM read_parquet(");
    append_paths(&sql, table);
    buf_append_text(&sql, table->files_count > 1 ? ", union_by_name = true)" : ")");
    return create_view(duck, table->name, &sql, err);
}

/* ---- lake tables: one schema over all files, partitions from the path ---- */

/* A schema in memory of its own: copies of what a result said. */
struct known_schema {
    struct worker_schema schema;
    struct buf text; /* as worker_put_schema writes it; the columns point into it */
};

static void known_finish(struct known_schema *known)
{
    worker_schema_finish(&known->schema);
    buf_finish(&known->text);
}

/* Runs DESCRIBE and keeps names and types. */
static bool describe(struct duck *duck, struct buf *sql, struct known_schema *ret_known,
                     struct err *err)
{
    duckdb_result result = {0};
    if (!duck_run(duck, buf_str(sql), &result, err)) {
        return false;
    }
    *ret_known = (struct known_schema){0};
    buf_init(&ret_known->text, WORKER_FRAME_SIZE_MAX);
    uint64_t count = duckdb_row_count(&result);
    worker_put_u64(&ret_known->text, count);
    struct buf text;
    buf_init(&text, WORKER_FRAME_SIZE_MAX);
    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t column = 0; column < 2; column++) {
            buf_reset(&text);
            duck_append_text(&result, column, i, &text);
            worker_put_text(&ret_known->text, buf_str(&text));
        }
    }
    buf_finish(&text);
    duckdb_destroy_result(&result);
    struct worker_cursor cursor = {.rest = buf_str(&ret_known->text)};
    if (buf_failed(&ret_known->text) || !worker_get_schema(&cursor, &ret_known->schema)) {
        known_finish(ret_known);
        return err_set(err, ERR_TOO_LARGE, "a file has too many columns");
    }
    return true;
}

/* Opens the footer of a file whose schema the server does not know yet, and tells the server. */
static bool describe_file(struct duck *duck, struct channel *channel, struct str path,
                          struct known_schema *ret_known, struct err *err)
{
    struct buf sql;
    buf_init(&sql, WORKER_FRAME_SIZE_MAX);
    buf_append_text(&sql, "DESCRIBE SELECT * FROM read_parquet(");
    sql_append_literal(&sql, path);
    buf_append_text(&sql, ", hive_partitioning = false)");
    bool good = describe(duck, &sql, ret_known, err);
    if (!good && err->kind == ERR_INVALID) { /* not the statement's fault */
        struct err reason = *err;
        (void)err_set(err, ERR_CORRUPT, "%.*s is not a readable Parquet file: %.400s",
                      STR_ARG(path), reason.message);
    }
    if (good) {
        struct buf payload;
        buf_init(&payload, WORKER_FRAME_SIZE_MAX);
        worker_put_text(&payload, path);
        worker_put_schema(&payload, &ret_known->schema);
        if (!buf_failed(&payload)) {
            channel_send(channel, WORKER_SCHEMAS, buf_str(&payload));
        }
        buf_finish(&payload);
    }
    buf_finish(&sql);
    return good;
}

static void append_null_row(struct buf *sql, const struct worker_schema *schema)
{
    buf_append_text(sql, "SELECT ");
    for (size_t i = 0; i < schema->columns_count; i++) {
        buf_append_text(sql, i == 0 ? "NULL::" : ", NULL::");
        buf_append(sql, schema->columns[i].type);
        buf_append_text(sql, " AS ");
        sql_append_identifier(sql, schema->columns[i].name);
    }
}

/* The engine itself says what the columns of several schemas have in common. */
static bool unite(struct duck *duck, const struct worker_schema *schemas, size_t count,
                  struct known_schema *ret_known, struct err *err)
{
    struct buf sql;
    buf_init(&sql, WORKER_FRAME_SIZE_MAX);
    buf_append_text(&sql, "DESCRIBE ");
    for (size_t i = 0; i < count; i++) {
        buf_append_text(&sql, i == 0 ? "" : " UNION ALL BY NAME ");
        append_null_row(&sql, &schemas[i]);
    }
    bool good = buf_failed(&sql) ? err_set(err, ERR_TOO_LARGE, "a table has too many schemas")
                                 : describe(duck, &sql, ret_known, err);
    buf_finish(&sql);
    return good;
}

static bool is_partition_name(struct str name)
{
    return str_equal_nocase(name, STR("year")) || str_equal_nocase(name, STR("month")) ||
           str_equal_nocase(name, STR("day"));
}

/* The engine prunes files by a filter on the column `filename` alone, under exactly that name. */
static void append_partition_columns(struct buf *sql)
{
    static const char *const parts[] = {"year", "month", "day"};
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        buf_append_format(
            sql, "%sTRY_CAST(regexp_extract(filename, '/%s=([0-9]+)/', 1) AS BIGINT) AS %s",
            i == 0 ? "" : ", ", parts[i], parts[i]);
    }
}

/* `value` appends what stands for the column at `index` of the schema. */
typedef void append_value_fn(struct buf *sql, const void *context,
                             const struct worker_schema *schema, size_t index);

static void append_select(struct buf *sql, const struct worker_schema *schema,
                          append_value_fn *value, const void *context)
{
    buf_append_text(sql, "SELECT ");
    for (size_t i = 0; i < schema->columns_count; i++) {
        if (!is_partition_name(schema->columns[i].name)) {
            value(sql, context, schema, i);
            buf_append_text(sql, " AS ");
            sql_append_identifier(sql, schema->columns[i].name);
            buf_append_text(sql, ", ");
        }
    }
    append_partition_columns(sql);
}

static void append_file_value(struct buf *sql, const void *context,
                              const struct worker_schema *schema, size_t index)
{
    (void)context;
    (void)schema;
    buf_append_format(sql, "c%zu", index);
}

/* Missing columns read as NULL; with the schema given, no file is opened before the partition
 * filters have chosen. Columns are read under names of ours (c0, c1, ...), so that none can clash
 * with `filename`. */
static void append_files(struct buf *sql, const struct worker_table *table,
                         const struct worker_schema *schema)
{
    append_select(sql, schema, append_file_value, NULL);
    buf_append_text(sql, " FROM read_parquet(");
    append_paths(sql, table);
    buf_append_text(sql, ", filename = true, schema = MAP {");
    for (size_t i = 0; i < schema->columns_count; i++) {
        buf_append_text(sql, i == 0 ? "" : ", ");
        sql_append_literal(sql, schema->columns[i].name);
        buf_append_format(sql, ": {name: 'c%zu', type: ", i);
        sql_append_literal(sql, schema->columns[i].type);
        buf_append_text(sql, ", default_value: NULL}");
    }
    buf_append_text(sql, "})");
}

/* ---- rows that are in no file yet ---- */

/* A tail, and where its columns are by name: one in a thousand columns is found without a walk. */
struct tail_source {
    struct worker_lines lines;
    struct map by_name; /* columns by their folded names */
    struct str *names;
};

static struct worker_schema tail_schema(const struct worker_tail *tail)
{
    struct worker_schema_column *columns = mem_alloc_array(tail->columns_count, sizeof(*columns));
    for (size_t i = 0; i < tail->columns_count; i++) {
        columns[i] = (struct worker_schema_column){.name = tail->columns[i].name,
                                                   .type = tail->columns[i].sql_type};
    }
    return (struct worker_schema){.columns = columns, .columns_count = tail->columns_count};
}

static void tail_source_init(struct tail_source *source, const struct worker_tail *tail)
{
    *source = (struct tail_source){.lines = {.columns = tail->columns,
                                             .columns_count = tail->columns_count,
                                             .rest = tail->rest,
                                             .line_size_max = tail->line_size_max}};
    source->names = mem_alloc_array(tail->columns_count, sizeof(*source->names));
    for (size_t i = 0; i < tail->columns_count; i++) {
        source->names[i] = map_folded_key(tail->columns[i].name);
        map_set(&source->by_name, source->names[i], (void *)(uintptr_t)&tail->columns[i]);
    }
}

static void tail_source_finish(struct tail_source *source)
{
    map_finish(&source->by_name);
    for (size_t i = 0; i < source->lines.columns_count; i++) {
        mem_free((char *)(uintptr_t)source->names[i].ptr);
    }
    mem_free(source->names);
}

/* In the type that the whole table has for the column, which holds all of its own type. */
static void append_tail_value(struct buf *sql, const void *context,
                              const struct worker_schema *schema, size_t index)
{
    const struct tail_source *source = context;
    const struct worker_schema_column *wanted = &schema->columns[index];
    struct str name = map_folded_key(wanted->name);
    const struct worker_column *column = map_find(&source->by_name, name);
    mem_free((char *)(uintptr_t)name.ptr);
    bool same = column != NULL && str_equal(column->sql_type, wanted->type);
    buf_append_text(sql, same ? "" : "CAST(");
    if (column == NULL) {
        buf_append_text(sql, "NULL");
    } else {
        lines_append_value(sql, &source->lines, (size_t)(column - source->lines.columns));
    }
    if (!same) {
        buf_append_text(sql, " AS ");
        buf_append(sql, wanted->type);
        buf_append_byte(sql, ')');
    }
}

static void append_tail(struct buf *sql, const struct worker_tail *tail,
                        const struct worker_schema *schema)
{
    struct tail_source source;
    struct buf windows;
    buf_init(&windows, WORKER_FRAME_SIZE_MAX);
    for (size_t i = 0; i < tail->windows_count; i++) {
        buf_append_byte(&windows, i == 0 ? '[' : ',');
        sql_append_literal(&windows, tail->windows[i]);
    }
    buf_append_byte(&windows, ']');
    tail_source_init(&source, tail);
    append_select(sql, schema, append_tail_value, &source);
    buf_append_text(sql, " FROM ");
    lines_append_source(sql, &source.lines, buf_str(&windows), true);
    tail_source_finish(&source);
    sql->failed = sql->failed || buf_failed(&windows);
    buf_finish(&windows);
}

static void append_null_value(struct buf *sql, const void *context,
                              const struct worker_schema *schema, size_t index)
{
    (void)context;
    buf_append_text(sql, "NULL::");
    buf_append(sql, schema->columns[index].type);
}

/* Files, then lines, each row once: the server has seen to that. A table of which only the columns
 * are known has no rows. */
static bool create_united_view(struct duck *duck, const struct worker_table *table,
                               const struct worker_schema *schema, struct err *err)
{
    struct buf sql;
    buf_init(&sql, WORKER_FRAME_SIZE_MAX);
    bool empty = table->files_count == 0;
    if (!empty) {
        append_files(&sql, table, schema);
    }
    for (size_t i = 0; i < table->tails_count; i++) {
        if (table->tails[i].windows_count > 0) {
            buf_append_text(&sql, empty ? "" : " UNION ALL ");
            append_tail(&sql, &table->tails[i], schema);
            empty = false;
        }
    }
    if (empty) {
        append_select(&sql, schema, append_null_value, NULL);
        buf_append_text(&sql, " FROM (SELECT '' AS filename) WHERE false");
    }
    return create_view(duck, table->name, &sql, err);
}

static bool same_schema(const struct worker_schema *a, const struct worker_schema *b)
{
    bool same = a->columns_count == b->columns_count;
    for (size_t i = 0; same && i < a->columns_count; i++) {
        same = str_equal(a->columns[i].name, b->columns[i].name) &&
               str_equal(a->columns[i].type, b->columns[i].type);
    }
    return same;
}

struct schema_list {
    struct worker_schema *items; /* borrowed contents */
    size_t count;
};

static void add_distinct(struct schema_list *list, const struct worker_schema *schema)
{
    for (size_t i = 0; i < list->count; i++) {
        if (same_schema(&list->items[i], schema)) {
            return;
        }
    }
    list->items[list->count++] = *schema;
}

/* One schema is its own union, and so is none. */
static bool unite_distinct(struct duck *duck, const struct schema_list *distinct,
                           struct known_schema *ret_known, const struct worker_schema **ret_schema,
                           struct err *err)
{
    if (distinct->count <= 1) {
        *ret_schema = &distinct->items[0];
        return true;
    }
    *ret_schema = &ret_known->schema;
    return unite(duck, distinct->items, distinct->count, ret_known, err);
}

/* The schemas of a table's files and tails: those the server knows, and those found here. */
struct table_schemas {
    struct known_schema *described; /* of each file that has to be looked at */
    struct worker_schema *tails;
    struct schema_list distinct;
};

static void table_schemas_init(struct table_schemas *schemas, const struct worker_table *table)
{
    size_t count = 1 + table->files_count + table->schemas_count + table->tails_count;
    schemas->described = mem_alloc_array(table->files_count, sizeof(*schemas->described));
    schemas->tails = mem_alloc_array(table->tails_count, sizeof(*schemas->tails));
    schemas->distinct = (struct schema_list){
        .items = mem_alloc_array(count, sizeof(*schemas->distinct.items)),
    };
    for (size_t i = 0; i < table->schemas_count; i++) {
        add_distinct(&schemas->distinct, &table->schemas[i]);
    }
    for (size_t i = 0; i < table->tails_count; i++) {
        schemas->tails[i] = tail_schema(&table->tails[i]);
        if (table->tails[i].columns_count > 0) {
            add_distinct(&schemas->distinct, &schemas->tails[i]);
        }
    }
}

static void table_schemas_finish(struct table_schemas *schemas, const struct worker_table *table)
{
    for (size_t i = 0; i < table->files_count; i++) {
        known_finish(&schemas->described[i]);
    }
    for (size_t i = 0; i < table->tails_count; i++) {
        worker_schema_finish(&schemas->tails[i]);
    }
    mem_free(schemas->described);
    mem_free(schemas->tails);
    mem_free(schemas->distinct.items);
}

static bool create_lake_view(struct duck *duck, struct channel *channel,
                             const struct worker_table *table, struct err *err)
{
    struct table_schemas schemas;
    table_schemas_init(&schemas, table);
    bool good = true;
    for (size_t i = 0; good && i < table->files_count; i++) {
        if (table->files[i].schema == 0) {
            struct known_schema *described = &schemas.described[i];
            good = describe_file(duck, channel, table->files[i].path, described, err);
            if (good) {
                add_distinct(&schemas.distinct, &described->schema);
            }
        }
    }
    struct known_schema united = {0};
    const struct worker_schema *schema = NULL;
    good = good && unite_distinct(duck, &schemas.distinct, &united, &schema, err) &&
           create_united_view(duck, table, schema, err);
    known_finish(&united);
    table_schemas_finish(&schemas, table);
    return good;
}

/* TABLES: u32 error kind, text, u64 count, tables. */
bool tables_create(struct duck *duck, struct channel *channel, struct str tables, struct err *err)
{
    struct worker_cursor cursor = {.rest = tables};
    uint32_t kind = worker_get_u32(&cursor);
    struct str text = worker_get_text(&cursor);
    size_t count = worker_get_count(&cursor, sizeof(uint64_t));
    if (kind != ERR_NONE && kind < ERR_KIND_COUNT) {
        return err_set(err, (enum err_kind)kind, "%.*s", STR_ARG(text));
    }
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        struct worker_table table;
        if (!worker_get_table(&cursor, &table)) {
            return err_set(err, ERR_CORRUPT, "a table message is damaged");
        }
        good = table.kind == WORKER_TABLE_LAKE ? create_lake_view(duck, channel, &table, err)
                                               : create_files_view(duck, &table, err);
        worker_table_finish(&table);
    }
    return good;
}
