#include "lake_internal.h"
#include "map.h"
#include "mem.h"

#include <stdio.h>

enum {
    FILES_MAX = 100000
};

/* One statement over the lake, while it runs. */
struct statement {
    struct lake *lake;
    const struct lake_query *query;
    struct cancel *cancel;
    struct engine_job *job;
    struct file_list *tables; /* what was listed */
    struct map files_by_path; /* for the schemas that come back */
};

/* The objects of one table, as the store listed them. */
struct listed_file {
    char *key;
    char *path; /* what a worker calls it */
    struct store_object object;
    uint32_t schema; /* index + 1 into the list's schemas */
};

struct file_list {
    struct listed_file *files;
    size_t count;
    size_t capacity;
    struct buf *schemas; /* each as worker_put_schema writes it, distinct */
    size_t schemas_count;
    struct file_list *next;
};

static void list_destroy(struct file_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        mem_free(list->files[i].key);
        mem_free(list->files[i].path);
    }
    for (size_t i = 0; i < list->schemas_count; i++) {
        buf_finish(&list->schemas[i]);
    }
    mem_free(list->files);
    mem_free(list->schemas);
    mem_free(list);
}

static bool visit_object(void *context, struct str key, const struct store_object *object,
                         struct err *err)
{
    struct file_list *list = context;
    if (!str_ends(key, STR(".parquet"))) {
        return true;
    }
    if (list->count == FILES_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "the table has more than %d files", FILES_MAX);
    }
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        struct listed_file *grown = mem_alloc_array(list->capacity, sizeof(*grown));
        if (list->count > 0) {
            memcpy(grown, list->files, list->count * sizeof(*grown));
        }
        mem_free(list->files);
        list->files = grown;
    }
    list->files[list->count++] = (struct listed_file){
        .key = mem_copy_bytes(key.ptr, key.len),
        .object = *object,
    };
    return true;
}

static uint32_t schema_index(struct file_list *list, struct buf *schema)
{
    for (size_t i = 0; i < list->schemas_count; i++) {
        if (str_equal(buf_str(&list->schemas[i]), buf_str(schema))) {
            buf_finish(schema);
            return (uint32_t)i + 1;
        }
    }
    list->schemas[list->schemas_count++] = *schema;
    return (uint32_t)list->schemas_count;
}

static void look_up_schemas(struct lake *lake, struct file_list *list)
{
    list->schemas = mem_alloc_array(list->count, sizeof(*list->schemas));
    for (size_t i = 0; i < list->count; i++) {
        struct listed_file *file = &list->files[i];
        struct buf schema;
        buf_init(&schema, WORKER_FRAME_SIZE_MAX);
        lock_take(&lake->lock);
        bool known =
            lake_schemas_find(lake->schemas, str_of(file->key), str_of(file->object.etag), &schema);
        lock_release(&lake->lock);
        if (known && !buf_failed(&schema)) {
            file->schema = schema_index(list, &schema);
        } else {
            buf_finish(&schema);
        }
    }
}

/* The path a worker knows an object by: lake:// and the key without the prefix, which is nobody's
 * business. */
static char *path_of(const struct lake *lake, const char *key)
{
    struct buf path;
    buf_init(&path, STORE_KEY_SIZE_MAX + 16);
    buf_append_format(&path, "lake://%s", key + strlen(lake->prefix));
    size_t size;
    return buf_take(&path, &size);
}

/* Appends what worker_put_table would, straight from the list. */
static void append_table(struct statement *statement, struct str name, struct file_list *list,
                         struct buf *tables)
{
    worker_put_text(tables, name);
    worker_put_u32(tables, WORKER_TABLE_LAKE);
    worker_put_u64(tables, list->count);
    for (size_t i = 0; i < list->count; i++) {
        struct listed_file *file = &list->files[i];
        file->path = path_of(statement->lake, file->key);
        map_set(&statement->files_by_path, str_of(file->path), file);
        worker_put_text(tables, str_of(file->path));
        worker_put_u32(tables, file->schema);
        engine_declare(statement->job, str_of(file->path), statement->lake->store,
                       str_of(file->key), &file->object);
    }
    worker_put_u64(tables, list->schemas_count);
    for (size_t i = 0; i < list->schemas_count; i++) {
        buf_append(tables, buf_str(&list->schemas[i]));
    }
}

/* Lists the objects of one folder behind those that the list has already. */
static bool list_folder(struct statement *statement, struct str folder, struct file_list *list,
                        struct err *err)
{
    struct lake *lake = statement->lake;
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    lake_append_table_prefix(&prefix, lake, folder);
    bool good =
        store_list(lake->store, buf_str(&prefix), visit_object, list, statement->cancel, err);
    buf_finish(&prefix);
    return good;
}

static bool keep_name(void *context, struct str name)
{
    struct lake_names *names = context;
    lake_names_add(names, name);
    return true;
}

/* One table of SQL: the folders whose names differ at most in case, which a table's first writers
 * chose and SQL does not tell apart. */
struct sql_table {
    struct str name; /* folded */
    size_t *folders; /* indexes into the names of the lake */
    size_t folders_count;
    bool added;
    struct sql_table *next;
};

/* All tables of the lake by their folded names. */
struct catalog {
    struct lake_names names;
    struct map by_name;
    struct sql_table *tables;
};

static void catalog_finish(struct catalog *catalog)
{
    while (catalog->tables != NULL) {
        struct sql_table *table = catalog->tables;
        catalog->tables = table->next;
        mem_free((char *)(uintptr_t)table->name.ptr);
        mem_free(table->folders);
        mem_free(table);
    }
    map_finish(&catalog->by_name);
    lake_names_finish(&catalog->names);
}

static void catalog_add(struct catalog *catalog, size_t index)
{
    struct str name = map_folded_key(str_of(catalog->names.items[index]));
    struct sql_table *table = map_find(&catalog->by_name, name);
    if (table == NULL) {
        table = mem_alloc(sizeof(*table));
        table->name = name;
        table->next = catalog->tables;
        catalog->tables = table;
        map_set(&catalog->by_name, table->name, table);
    } else {
        mem_free((char *)(uintptr_t)name.ptr);
    }
    size_t *grown = mem_alloc_array(table->folders_count + 1, sizeof(*grown));
    if (table->folders_count > 0) {
        memcpy(grown, table->folders, table->folders_count * sizeof(*grown));
    }
    mem_free(table->folders);
    grown[table->folders_count++] = index;
    table->folders = grown;
}

static bool add_table(struct statement *statement, const struct catalog *catalog,
                      struct sql_table *table, struct buf *into, uint64_t *ret_count,
                      struct err *err)
{
    if (table->added) {
        return true;
    }
    table->added = true;
    struct file_list *list = mem_alloc(sizeof(*list));
    list->next = statement->tables;
    statement->tables = list;
    for (size_t i = 0; i < table->folders_count; i++) {
        struct str folder = str_of(catalog->names.items[table->folders[i]]);
        if (!list_folder(statement, folder, list, err)) {
            return false;
        }
    }
    look_up_schemas(statement->lake, list);
    if (list->count > 0) {
        append_table(statement, str_of(catalog->names.items[table->folders[0]]), list, into);
        (*ret_count)++;
    }
    return true;
}

static bool add_wanted(struct statement *statement, const struct catalog *catalog,
                       const struct engine_names *wanted, struct buf *into, uint64_t *ret_count,
                       struct err *err)
{
    bool good = true;
    for (size_t i = 0; good && i < wanted->count; i++) {
        struct str name = map_folded_key(wanted->names[i]);
        struct sql_table *table = map_find(&catalog->by_name, name);
        mem_free((char *)(uintptr_t)name.ptr);
        good = table == NULL || add_table(statement, catalog, table, into, ret_count, err);
    }
    struct sql_table *table = wanted->all ? catalog->tables : NULL;
    for (; good && table != NULL; table = table->next) {
        good = engine_is_catalog_name(table->name) ||
               add_table(statement, catalog, table, into, ret_count, err);
    }
    return good;
}

static bool resolve(void *context, struct engine_job *job, const struct engine_names *names,
                    struct buf *tables, uint64_t *ret_tables_count, struct err *err)
{
    struct statement *statement = context;
    statement->job = job;
    CLEANUP(catalog_finish) struct catalog catalog = {0};
    if (!lake_visit_tables(statement->lake, keep_name, &catalog.names, statement->cancel, err)) {
        return false;
    }
    for (size_t i = 0; i < catalog.names.count; i++) {
        catalog_add(&catalog, i);
    }
    return add_wanted(statement, &catalog, names, tables, ret_tables_count, err);
}

/* A worker has read a footer: the next statement need not. */
static void keep_schema(void *context, struct str path, const struct worker_schema *schema)
{
    struct statement *statement = context;
    struct lake *lake = statement->lake;
    const struct listed_file *file = map_find(&statement->files_by_path, path);
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
    if (lake_visit_tables(lake, append_name, &names, cancel, &ignored)) {
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

static bool pass_result(void *context, struct str bytes, struct err *err)
{
    struct statement *statement = context;
    return statement->query->result(statement->query->context, bytes, err);
}

bool lake_run_query(struct lake *lake, const struct lake_query *query, struct cancel *cancel,
                    struct engine_outcome *ret_outcome, struct err *err)
{
    struct statement statement = {.lake = lake, .query = query, .cancel = cancel};
    struct engine_request request = {
        .job = {.kind = WORKER_QUERY, .statement = query->statement},
        .input_fd = -1,
        .output_fd = -1,
        .resolve = resolve,
        .result = pass_result,
        .schema = keep_schema,
        .context = &statement,
    };
    bool good = engine_run(lake->engine, &request, cancel, ret_outcome, err);
    if (!good) {
        name_tables(lake, cancel, err);
    }
    map_finish(&statement.files_by_path);
    while (statement.tables != NULL) {
        struct file_list *list = statement.tables;
        statement.tables = list->next;
        list_destroy(list);
    }
    return good;
}
