#include "lake_internal.h"
#include "mem.h"

enum {
    FILES_MAX = 100000
};

/* One statement over the lake, while it runs. */
struct statement {
    struct lake *lake;
    const struct lake_query *query;
    struct cancel *cancel;
    struct engine_job *job;
    struct file_list *tables; /* what was listed, for the schemas that come back */
};

/* The objects of one table, as the store listed them. */
struct listed_file {
    char *key;
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
static void append_path(struct buf *path, const struct lake *lake, const char *key)
{
    buf_append_format(path, "lake://%s", key + strlen(lake->prefix));
}

/* Appends what worker_put_table would, straight from the list. */
static void append_table(struct statement *statement, struct str name, struct file_list *list,
                         struct buf *tables)
{
    worker_put_text(tables, name);
    worker_put_u32(tables, WORKER_TABLE_LAKE);
    worker_put_u64(tables, list->count);
    struct buf path;
    buf_init(&path, STORE_KEY_SIZE_MAX + 16);
    for (size_t i = 0; i < list->count; i++) {
        struct listed_file *file = &list->files[i];
        buf_reset(&path);
        append_path(&path, statement->lake, file->key);
        worker_put_text(tables, buf_str(&path));
        worker_put_u32(tables, file->schema);
        engine_declare(statement->job, buf_str(&path), statement->lake->store, str_of(file->key),
                       &file->object);
    }
    buf_finish(&path);
    worker_put_u64(tables, list->schemas_count);
    for (size_t i = 0; i < list->schemas_count; i++) {
        buf_append(tables, buf_str(&list->schemas[i]));
    }
}

static bool list_table(struct statement *statement, struct str name, struct file_list **ret_list,
                       struct err *err)
{
    struct lake *lake = statement->lake;
    struct file_list *list = mem_alloc(sizeof(*list));
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    lake_append_table_prefix(&prefix, lake, name);
    bool good =
        store_list(lake->store, buf_str(&prefix), visit_object, list, statement->cancel, err);
    buf_finish(&prefix);
    if (!good) {
        list_destroy(list);
        return false;
    }
    look_up_schemas(lake, list);
    *ret_list = list;
    return true;
}

static bool add_table(struct statement *statement, struct str name, struct buf *tables,
                      uint64_t *count, struct err *err)
{
    struct file_list *list;
    if (!list_table(statement, name, &list, err)) {
        return false;
    }
    list->next = statement->tables;
    statement->tables = list;
    if (list->count > 0) {
        append_table(statement, name, list, tables);
        (*count)++;
    }
    return true;
}

/* A table's folder keeps the case of its first use, SQL does not care about case: find the folder
 * that fits. */
struct name_search {
    struct str wanted;
    struct buf found;
};

static bool compare_name(void *context, struct str name)
{
    struct name_search *search = context;
    if (str_equal_nocase(name, search->wanted)) {
        buf_reset(&search->found);
        buf_append(&search->found, name);
    }
    return !str_equal(name, search->wanted);
}

static bool add_named(struct statement *statement, struct str wanted, struct buf *tables,
                      uint64_t *count, struct err *err)
{
    if (wanted.len == 0 || wanted.len > 256 || str_find_byte(wanted, '/') < wanted.len) {
        return true; /* no table of ours: the engine says so */
    }
    struct name_search search = {.wanted = wanted};
    buf_init(&search.found, STORE_KEY_SIZE_MAX);
    bool good = lake_visit_tables(statement->lake, compare_name, &search, statement->cancel, err);
    if (good && search.found.len > 0) {
        good = add_table(statement, buf_str(&search.found), tables, count, err);
    }
    buf_finish(&search.found);
    return good;
}

struct all_tables {
    struct statement *statement;
    struct buf *tables;
    uint64_t *count;
    struct err *err;
    bool good;
};

static bool add_each(void *context, struct str name)
{
    struct all_tables *all = context;
    all->good = add_table(all->statement, name, all->tables, all->count, all->err);
    return all->good;
}

static bool resolve(void *context, struct engine_job *job, const struct engine_names *names,
                    struct buf *tables, uint64_t *ret_tables_count, struct err *err)
{
    struct statement *statement = context;
    statement->job = job;
    if (names->all) {
        struct all_tables all = {statement, tables, ret_tables_count, err, true};
        return lake_visit_tables(statement->lake, add_each, &all, statement->cancel, err) &&
               all.good;
    }
    for (size_t i = 0; i < names->count; i++) {
        if (!add_named(statement, names->names[i], tables, ret_tables_count, err)) {
            return false;
        }
    }
    return true;
}

/* A worker has read a footer: the next statement need not. */
static void keep_schema(void *context, struct str path, const struct worker_schema *schema)
{
    struct statement *statement = context;
    struct lake *lake = statement->lake;
    struct buf candidate;
    buf_init(&candidate, STORE_KEY_SIZE_MAX + 16);
    for (struct file_list *list = statement->tables; list != NULL; list = list->next) {
        for (size_t i = 0; i < list->count; i++) {
            buf_reset(&candidate);
            append_path(&candidate, lake, list->files[i].key);
            if (str_equal(buf_str(&candidate), path)) {
                lock_take(&lake->lock);
                lake_schemas_keep(lake->schemas, str_of(list->files[i].key),
                                  str_of(list->files[i].object.etag), schema);
                lock_release(&lake->lock);
            }
        }
    }
    buf_finish(&candidate);
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
    while (statement.tables != NULL) {
        struct file_list *list = statement.tables;
        statement.tables = list->next;
        list_destroy(list);
    }
    return good;
}
