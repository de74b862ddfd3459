#include "lake_internal.h"
#include "map.h"
#include "mem.h"
#include "worker_text.h"

#include <stdio.h>

enum {
    FILES_MAX = 100000
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
};

/* One table of SQL: the folders whose names differ at most in case, which a table's first writers
 * chose and SQL does not tell apart. */
struct sql_table {
    struct str name; /* folded */
    size_t *folders; /* indexes into the names of the lake */
    size_t folders_count;
    struct file_list *list; /* once it has been found */
    bool added;             /* the worker knows it */
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
static void append_table(struct lake_statement *statement, struct str name, struct file_list *list,
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
        const struct engine_object object = {
            .store = statement->lake->store,
            .key = str_of(file->key),
            .info = &file->object,
            .proven = true, /* the server listed its own lake with its own credentials */
        };
        engine_declare(statement->job, str_of(file->path), &object);
    }
    worker_put_u64(tables, list->schemas_count);
    for (size_t i = 0; i < list->schemas_count; i++) {
        buf_append(tables, buf_str(&list->schemas[i]));
    }
}

/* Lists the objects of one folder behind those that the list has already. */
static bool list_folder(struct lake *lake, struct str folder, struct file_list *list,
                        struct cancel *cancel, struct err *err)
{
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    lake_append_table_prefix(&prefix, lake, folder);
    bool good = store_list(lake->store, buf_str(&prefix), visit_object, list, cancel, err);
    buf_finish(&prefix);
    return good;
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
    size_t *grown = mem_alloc_array(table->folders_count + 1, sizeof(*grown));
    if (table->folders_count > 0) {
        memcpy(grown, table->folders, table->folders_count * sizeof(*grown));
    }
    mem_free(table->folders);
    grown[table->folders_count++] = index;
    table->folders = grown;
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
    if (table->list != NULL) {
        return true;
    }
    struct file_list *list = mem_alloc(sizeof(*list));
    for (size_t i = 0; i < table->folders_count; i++) {
        struct str folder = str_of(statement->names.items[table->folders[i]]);
        if (!list_folder(statement->lake, folder, list, cancel, err)) {
            list_destroy(list);
            return false;
        }
    }
    table->list = list;
    return true;
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
    if (table->list->count > 0) {
        struct str name = str_of(statement->names.items[table->folders[0]]);
        look_up_schemas(statement->lake, table->list);
        append_table(statement, name, table->list, into);
        (*ret_count)++;
    }
    return true;
}

static struct sql_table *find_name(const struct lake_statement *statement, struct str wanted)
{
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
    bool good = list_names(statement, statement->cancel, err);
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
        if (table->list != NULL) {
            list_destroy(table->list);
        }
        mem_free((char *)(uintptr_t)table->name.ptr);
        mem_free(table->folders);
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
        if (table->list == NULL) {
            continue;
        }
        worker_put_text(into, table->name);
        worker_put_u64(into, table->list->count);
        for (size_t i = 0; i < table->list->count; i++) {
            worker_put_text(into, str_of(table->list->files[i].key));
            worker_put_text(into, str_of(table->list->files[i].object.etag));
            good = good && table->list->files[i].object.etag[0] != '\0';
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
