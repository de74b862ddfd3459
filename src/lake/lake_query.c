#include "lake_source.h"
#include "map.h"
#include "mem.h"
#include "worker_text.h"

#include <stdio.h>

/* One table of SQL: the folders whose names differ at most in case, which a table's first writers
 * chose and SQL does not tell apart. */
struct sql_table {
    struct str name; /* folded */
    struct lake_source *sources;
    size_t sources_count;
    bool found; /* the sources are */
    bool added; /* the worker knows it */
    struct sql_table *next;
};

/* One statement over the lake. */
struct lake_statement {
    struct lake *lake;
    bool listed; /* names, by_name and tables are filled */
    struct lake_names names;
    struct map by_name; /* tables by their folded names */
    struct sql_table *tables;
    struct map files_by_path;             /* for the schemas that come back */
    const struct engine_request *request; /* while it runs */
    struct engine_job *job;
    struct cancel *cancel;
};

/* ---- TABLES ---- */

/* Schemas that objects of a table have, each as worker_put_schema writes it, distinct. */
struct schema_texts {
    struct buf *items;
    size_t count;
};

static uint32_t schema_index(struct schema_texts *schemas, struct buf *schema)
{
    for (size_t i = 0; i < schemas->count; i++) {
        if (str_equal(buf_str(&schemas->items[i]), buf_str(schema))) {
            buf_finish(schema);
            return (uint32_t)i + 1;
        }
    }
    schemas->items[schemas->count++] = *schema;
    return (uint32_t)schemas->count;
}

/* Index + 1 of the object's schema, 0 when the worker has to look. */
static uint32_t look_up_schema(struct lake *lake, const struct lake_listed *item,
                               struct schema_texts *schemas)
{
    struct buf schema;
    buf_init(&schema, WORKER_FRAME_SIZE_MAX);
    lock_take(&lake->lock);
    bool known =
        lake_schemas_find(lake->schemas, str_of(item->key), str_of(item->object.etag), &schema);
    lock_release(&lake->lock);
    if (known && !buf_failed(&schema)) {
        return schema_index(schemas, &schema);
    }
    buf_finish(&schema);
    return 0;
}

static void append_file(struct lake_statement *statement, const struct lake_listed *item,
                        struct schema_texts *schemas, struct buf *tables)
{
    struct str path = str_of(item->path);
    map_set(&statement->files_by_path, path, (void *)(uintptr_t)item);
    worker_put_text(tables, path);
    worker_put_u32(tables, look_up_schema(statement->lake, item, schemas));
    const struct engine_object object = {
        .store = statement->lake->store,
        .key = str_of(item->key),
        .info = &item->object,
        .proven = true, /* the server listed its own lake with its own credentials */
    };
    engine_declare(statement->job, path, &object);
}

static uint64_t files_count(const struct sql_table *table)
{
    uint64_t count = 0;
    for (size_t i = 0; i < table->sources_count; i++) {
        count += table->sources[i].shown_count;
    }
    return count;
}

static void append_files(struct lake_statement *statement, const struct sql_table *table,
                         struct buf *tables)
{
    uint64_t count = files_count(table);
    struct schema_texts schemas = {.items = mem_alloc_array(count, sizeof(*schemas.items))};
    worker_put_u64(tables, count);
    for (size_t i = 0; i < table->sources_count; i++) {
        const struct lake_source *source = &table->sources[i];
        for (size_t at = 0; at < source->shown_count; at++) {
            append_file(statement, &source->listing->items[lake_source_item(source, at)], &schemas,
                        tables);
        }
    }
    worker_put_u64(tables, schemas.count);
    for (size_t i = 0; i < schemas.count; i++) {
        buf_append(tables, buf_str(&schemas.items[i]));
        buf_finish(&schemas.items[i]);
    }
    mem_free(schemas.items);
}

static void append_tails(struct lake_statement *statement, const struct sql_table *table,
                         struct buf *tables)
{
    struct buf tails;
    uint64_t count = 0;
    buf_init(&tails, WORKER_FRAME_SIZE_MAX);
    for (size_t i = 0; i < table->sources_count; i++) {
        count += lake_source_append_tail(&table->sources[i], statement->job, &tails);
    }
    worker_put_u64(tables, count);
    buf_append(tables, buf_str(&tails));
    tables->failed = tables->failed || buf_failed(&tails);
    buf_finish(&tails);
}

/* Appends what worker_put_table would, straight from what was found. */
static void append_table(struct lake_statement *statement, const struct sql_table *table,
                         struct buf *tables)
{
    worker_put_text(tables, table->sources[0].folder);
    worker_put_u32(tables, WORKER_TABLE_LAKE);
    append_files(statement, table, tables);
    append_tails(statement, table, tables);
}

/* ---- which tables there are ---- */

static bool keep_name(void *context, struct str name)
{
    struct lake_names *names = context;
    lake_names_add(names, name);
    return true;
}

static void add_name(struct lake_statement *statement, size_t index)
{
    struct str name = map_folded_key(str_of(statement->names.items[index]));
    struct sql_table *table = map_find(&statement->by_name, name);
    if (table == NULL) {
        table = mem_alloc(sizeof(*table));
        table->name = name;
        table->next = statement->tables;
        statement->tables = table;
        map_set(&statement->by_name, table->name, table);
    } else {
        mem_free((char *)(uintptr_t)name.ptr);
    }
    struct lake_source *grown = mem_alloc_array(table->sources_count + 1, sizeof(*grown));
    if (table->sources_count > 0) {
        memcpy(grown, table->sources, table->sources_count * sizeof(*grown));
    }
    mem_free(table->sources);
    grown[table->sources_count++].folder = str_of(statement->names.items[index]);
    table->sources = grown;
}

static bool list_names(struct lake_statement *statement, struct cancel *cancel, struct err *err)
{
    if (statement->listed) {
        return true;
    }
    if (!lake_visit_tables(statement->lake, true, keep_name, &statement->names, cancel, err)) {
        return false;
    }
    for (size_t i = 0; i < statement->names.count; i++) {
        add_name(statement, i);
    }
    statement->listed = true;
    return true;
}

/* ---- one table ---- */

static bool find_table(struct lake_statement *statement, struct sql_table *table,
                       struct cancel *cancel, struct err *err)
{
    if (table->found) {
        return true;
    }
    for (size_t i = 0; i < table->sources_count; i++) {
        if (!lake_source_find(statement->lake, &table->sources[i], cancel, err)) {
            while (i-- > 0) {
                lake_source_finish(statement->lake, &table->sources[i]);
            }
            return false;
        }
    }
    table->found = true;
    return true;
}

static bool is_table(const struct sql_table *table)
{
    bool known = false;
    for (size_t i = 0; !known && i < table->sources_count; i++) {
        known = lake_source_is_table(&table->sources[i]);
    }
    return known;
}

static bool add_table(struct lake_statement *statement, struct sql_table *table, struct buf *into,
                      uint64_t *ret_count, struct err *err)
{
    if (table->added) {
        return true;
    }
    table->added = true;
    if (!find_table(statement, table, statement->cancel, err)) {
        return false;
    }
    if (is_table(table)) {
        append_table(statement, table, into);
        (*ret_count)++;
    }
    return true;
}

/* Asked for every word of a statement: names of a usual length cost no memory. */
static struct sql_table *find_name(const struct lake_statement *statement, struct str wanted)
{
    char usual[64];
    if (wanted.len <= sizeof(usual)) {
        map_fold(wanted, usual);
        return map_find(&statement->by_name, str_make(usual, wanted.len));
    }
    struct str name = map_folded_key(wanted);
    struct sql_table *table = map_find(&statement->by_name, name);
    mem_free((char *)(uintptr_t)name.ptr);
    return table;
}

static bool resolve(void *context, struct engine_job *job, const struct engine_names *names,
                    struct buf *tables, uint64_t *ret_tables_count, struct err *err)
{
    struct lake_statement *statement = context;
    statement->job = job;
    /* A statement that reads no table does not need the store. */
    bool good = (names->count == 0 && !names->all) || list_names(statement, statement->cancel, err);
    for (size_t i = 0; good && i < names->count; i++) {
        struct sql_table *table = find_name(statement, names->names[i]);
        good = table == NULL || add_table(statement, table, tables, ret_tables_count, err);
    }
    struct sql_table *table = names->all ? statement->tables : NULL;
    for (; good && table != NULL; table = table->next) {
        good = worker_is_catalog_name(table->name) ||
               add_table(statement, table, tables, ret_tables_count, err);
    }
    return good;
}

/* A worker has read a footer: the next statement need not. */
static void keep_schema(void *context, struct str path, const struct worker_schema *schema)
{
    struct lake_statement *statement = context;
    struct lake *lake = statement->lake;
    const struct lake_listed *file = map_find(&statement->files_by_path, path);
    if (file != NULL) {
        lock_take(&lake->lock);
        lake_schemas_keep(lake->schemas, str_of(file->key), str_of(file->object.etag), schema);
        lock_release(&lake->lock);
    }
}

static bool append_name(void *context, struct str name)
{
    struct buf *names = context;
    buf_append_format(names, "%s%.*s", names->len == 0 ? "" : ", ", STR_ARG(name));
    return names->len < 300;
}

/* The engine suggests tables of its own when it does not know one: say which the lake has instead.
 */
static void name_tables(struct lake *lake, struct cancel *cancel, struct err *err)
{
    static const char unknown[] = "Catalog Error: Table with name ";
    struct str text = str_of(err->message);
    size_t end = str_find(text, STR("does not exist!"));
    if (err->kind != ERR_INVALID || !str_starts(text, str_of(unknown)) || end == text.len) {
        return;
    }
    struct buf names;
    struct err ignored;
    buf_init(&names, 4096);
    if (lake_visit_tables(lake, false, append_name, &names, cancel, &ignored)) {
        char sentence[sizeof(err->message)];
        (void)snprintf(sentence, sizeof(sentence), "%.*s",
                       STR_ARG(str_first(text, end + strlen("does not exist!"))));
        (void)err_set(err, ERR_INVALID, "%s %s%s", sentence,
                      names.len == 0 ? "The lake has no tables yet: POST /ingest makes one"
                                     : "Tables of the lake: ",
                      names.len == 0 ? "" : names.ptr);
    }
    buf_finish(&names);
}

/* ---- the statement ---- */

struct lake_statement *lake_statement_create(struct lake *lake)
{
    struct lake_statement *statement = mem_alloc(sizeof(*statement));
    statement->lake = lake;
    return statement;
}

void lake_statement_destroy(struct lake_statement *statement)
{
    if (statement == NULL) {
        return;
    }
    while (statement->tables != NULL) {
        struct sql_table *table = statement->tables;
        statement->tables = table->next;
        for (size_t i = 0; i < table->sources_count; i++) {
            lake_source_finish(statement->lake, &table->sources[i]);
        }
        mem_free((char *)(uintptr_t)table->name.ptr);
        mem_free(table->sources);
        mem_free(table);
    }
    map_finish(&statement->files_by_path);
    map_finish(&statement->by_name);
    lake_names_finish(&statement->names);
    mem_free(statement);
}

bool lake_statement_find(struct lake_statement *statement, const struct engine_names *names,
                         struct cancel *cancel, struct err *err)
{
    bool good = list_names(statement, cancel, err);
    for (size_t i = 0; good && i < names->count; i++) {
        struct sql_table *table = find_name(statement, names->names[i]);
        good = table == NULL || find_table(statement, table, cancel, err);
    }
    return good;
}

bool lake_statement_append_identity(const struct lake_statement *statement, struct buf *into)
{
    bool good = true;
    const struct sql_table *table = statement->tables;
    for (; table != NULL; table = table->next) {
        for (size_t i = 0; table->found && i < table->sources_count; i++) {
            good = lake_source_append_identity(statement->lake, &table->sources[i], into) && good;
        }
    }
    return good;
}

static bool pass_result(void *context, struct str bytes, struct err *err)
{
    const struct engine_request *request = ((struct lake_statement *)context)->request;
    return request->result(request->context, bytes, err);
}

static void pass_progress(void *context, const struct engine_progress *progress)
{
    const struct engine_request *request = ((struct lake_statement *)context)->request;
    if (request->progress != NULL) {
        request->progress(request->context, progress);
    }
}

bool lake_statement_run(struct lake_statement *statement, const struct engine_request *request,
                        struct cancel *cancel, struct engine_outcome *ret_outcome, struct err *err)
{
    statement->request = request;
    statement->cancel = cancel;
    struct engine_request inner = *request;
    inner.resolve = resolve;
    inner.schema = keep_schema;
    inner.result = pass_result;
    inner.progress = pass_progress;
    inner.context = statement;
    bool good = engine_run(statement->lake->engine, &inner, cancel, ret_outcome, err);
    if (!good) {
        name_tables(statement->lake, cancel, err);
    }
    return good;
}
