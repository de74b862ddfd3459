#include "api_query.h"
#include "api_texts.h"
#include "mem.h"
#include "worker_text.h"

enum {
    OBJECTS_MAX = 100000,
    PROVEN_ONE_BY_ONE_MAX = 16, /* objects of a pattern that are asked for before memory answers */
};

void declared_table_destroy(struct declared_table *table)
{
    mem_free((char *)(uintptr_t)table->name.ptr);
    mem_free((char *)(uintptr_t)table->folded.ptr);
    for (size_t i = 0; i < table->paths_count; i++) {
        mem_free((char *)(uintptr_t)table->paths[i].ptr);
    }
    for (size_t i = 0; i < table->objects_count; i++) {
        mem_free((char *)(uintptr_t)table->objects[i].key.ptr);
    }
    mem_free(table->paths);
    mem_free(table->objects);
    mem_free(table);
}

/* ---- the objects of one table, in the order found ---- */

static struct query_object *new_object(struct declared_table *table)
{
    table->objects = mem_grow(table->objects, table->objects_count, 1, &table->objects_capacity,
                              sizeof(*table->objects));
    return &table->objects[table->objects_count++];
}

static bool add_object(struct query *query, struct declared_table *table, struct str key,
                       const struct store_object *info, bool proven, struct err *err)
{
    if (++query->objects_count > OBJECTS_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "the statement reads more than %d objects",
                       OBJECTS_MAX);
    }
    *new_object(table) = (struct query_object){
        .key = str_make(mem_copy_bytes(key.ptr, key.len), key.len),
        .info = *info,
        .proven = proven,
    };
    return true;
}

/* While a pattern is listed. */
struct listing {
    struct query *query;
    struct declared_table *table;
    struct str pattern;
};

static bool visit_match(void *context, struct str key, const struct store_object *object,
                        struct err *err)
{
    const struct listing *listing = context;
    return !store_match_key(listing->pattern, key) ||
           add_object(listing->query, listing->table, key, object, false, err);
}

/* An object of exactly this name comes before a pattern. */
static bool find_path(struct query *query, struct declared_table *table, struct str path,
                      struct err *err)
{
    struct cancel *cancel = query->request->cancel;
    struct store_object object;
    size_t before = table->objects_count;
    if (store_head(query->store, path, cancel, &object, err)) {
        return add_object(query, table, path, &object, true, err);
    }
    if (err->kind != ERR_STORE_MISSING || !store_has_glob(path)) {
        return false;
    }
    struct listing listing = {.query = query, .table = table, .pattern = path};
    if (!store_list(query->store, store_glob_prefix(path), visit_match, &listing, cancel, err)) {
        return false;
    }
    return table->objects_count > before ||
           err_set(err, ERR_STORE_MISSING, "no objects match \"%.*s\"", STR_ARG(path));
}

static void forget_objects(struct query *query, struct declared_table *table)
{
    query->objects_count -= table->objects_count;
    for (size_t i = 0; i < table->objects_count; i++) {
        mem_free((char *)(uintptr_t)table->objects[i].key.ptr);
    }
    table->objects_count = 0;
}

static bool find_table(struct query *query, struct declared_table *table, struct err *err)
{
    for (size_t i = 0; !table->found && i < table->paths_count; i++) {
        if (!find_path(query, table, table->paths[i], err)) {
            forget_objects(query, table);
            return false;
        }
    }
    table->found = true;
    return true;
}

static struct declared_table *find_name(const struct query *query, struct str wanted)
{
    struct str name = map_folded_key(wanted);
    struct declared_table *table = map_find(&query->by_name, name);
    mem_free((char *)(uintptr_t)name.ptr);
    return table;
}

/* ---- before the statement runs ---- */

struct finder {
    struct query *query;
    struct cancel *cancel;
    bool good;
    struct err *err;
};

static void find_named(void *context, struct str name)
{
    struct finder *finder = context;
    struct declared_table *table = find_name(finder->query, name);
    if (finder->good && table != NULL) {
        finder->good = find_table(finder->query, table, finder->err);
    }
}

static void find_in_lake(void *context, struct str name)
{
    struct finder *finder = context;
    struct engine_names names = {.names = &name, .count = 1};
    finder->good = finder->good && lake_statement_find(finder->query->over_lake, &names,
                                                       finder->cancel, finder->err);
}

bool query_find_tables(struct query *query, struct cancel *cancel, struct err *err)
{
    struct finder finder = {.query = query, .cancel = cancel, .good = true, .err = err};
    if (!texts_ask(query->request->api->texts, TEXT_MAY_READ_TABLES, buf_str(&query->sql))) {
        return true; /* and the store is not asked which there are */
    }
    worker_visit_names(buf_str(&query->sql), query->over_lake != NULL ? find_in_lake : find_named,
                       &finder);
    return finder.good;
}

/* A listing shows that an object is there, not that its bytes may be read. */
bool query_prove_objects(struct query *query)
{
    unsigned left = PROVEN_ONE_BY_ONE_MAX;
    struct declared_table *table = query->tables;
    for (; table != NULL; table = table->next) {
        for (size_t i = 0; i < table->objects_count; i++) {
            struct query_object *object = &table->objects[i];
            struct store_object now;
            struct err ignored;
            if (object->proven) {
                continue;
            }
            object->proven =
                left > 0 &&
                store_head(query->store, object->key, query->request->cancel, &now, &ignored) &&
                strcmp(now.etag, object->info.etag) == 0;
            if (!object->proven) {
                return false;
            }
            left--;
        }
    }
    return true;
}

bool query_append_identity(const struct query *query, struct buf *into)
{
    if (query->over_lake != NULL) {
        return lake_statement_append_identity(query->over_lake, into);
    }
    bool good = true;
    store_append_identity(query->store, into);
    const struct declared_table *table = query->tables;
    for (; table != NULL; table = table->next) {
        if (!table->found) {
            continue;
        }
        worker_put_text(into, table->name);
        worker_put_u64(into, table->objects_count);
        for (size_t i = 0; i < table->objects_count; i++) {
            worker_put_text(into, table->objects[i].key);
            worker_put_text(into, str_of(table->objects[i].info.etag));
            good = good && table->objects[i].info.etag[0] != '\0';
        }
    }
    return good;
}

/* ---- when the worker asks ---- */

static void put_object(struct query *query, struct engine_job *job,
                       const struct query_object *found, struct buf *tables)
{
    const struct engine_object object = {
        .store = query->store, .key = found->key, .info = &found->info, .proven = found->proven};
    struct buf path;
    buf_init(&path, QUERY_FIELD_SIZE_MAX);
    buf_append(&path, buf_str(&query->url));
    buf_append(&path, found->key);
    engine_declare(job, buf_str(&path), &object);
    worker_put_text(tables, buf_str(&path));
    worker_put_u32(tables, 0); /* its schema is not known */
    buf_finish(&path);
}

static bool add_table(struct query *query, struct engine_job *job, struct declared_table *table,
                      struct buf *tables, uint64_t *count, struct err *err)
{
    if (table == NULL || table->added) {
        return true;
    }
    table->added = true;
    if (!find_table(query, table, err)) {
        return false;
    }
    worker_put_text(tables, table->name);
    worker_put_u32(tables, WORKER_TABLE_FILES);
    worker_put_u64(tables, table->objects_count);
    for (size_t i = 0; i < table->objects_count; i++) {
        put_object(query, job, &table->objects[i], tables);
    }
    worker_put_u64(tables, 0); /* no schemas */
    worker_put_u64(tables, 0); /* and no tails */
    (*count)++;
    return true;
}

/* Only what the statement names is looked at: a stale snapshot of another table does no harm. */
bool query_resolve(void *context, struct engine_job *job, const struct engine_names *names,
                   struct buf *tables, uint64_t *ret_tables_count, struct err *err)
{
    struct query *query = context;
    bool good = true;
    for (size_t i = 0; good && i < names->count; i++) {
        struct declared_table *table = find_name(query, names->names[i]);
        good = add_table(query, job, table, tables, ret_tables_count, err);
    }
    struct declared_table *table = names->all ? query->tables : NULL;
    for (; good && table != NULL; table = table->next) {
        bool shadowed = map_find(&query->by_name, table->folded) != table;
        good = shadowed || worker_is_catalog_name(table->folded) ||
               add_table(query, job, table, tables, ret_tables_count, err);
    }
    return good;
}
