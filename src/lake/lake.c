#include "lake_internal.h"
#include "mem.h"

#include <stdlib.h>

struct lake *lake_create(struct store *store, struct str prefix, struct engine *engine,
                         const char *spool_folder)
{
    assert(prefix.len == 0 || prefix.ptr[prefix.len - 1] == '/');
    struct lake *lake = mem_alloc(sizeof(*lake));
    lake->store = store;
    lake->engine = engine;
    lake->prefix = mem_copy_bytes(prefix.ptr, prefix.len);
    lake->spool_folder = mem_copy_text(spool_folder);
    lake->schemas = lake_schemas_create();
    lock_init(&lake->lock, LOCK_SCHEMA);
    return lake;
}

void lake_destroy(struct lake *lake)
{
    if (lake == NULL) {
        return;
    }
    for (size_t i = 0; i < lake->names_count; i++) {
        mem_free(lake->names[i]);
    }
    mem_free(lake->names);
    lake_schemas_destroy(lake->schemas);
    lock_finish(&lake->lock);
    mem_free(lake->prefix);
    mem_free(lake->spool_folder);
    mem_free(lake);
}

void lake_append_table_prefix(struct buf *key, const struct lake *lake, struct str table)
{
    buf_append_format(key, "%sdata/%.*s/", lake->prefix, STR_ARG(table));
}

/* ---- names ---- */

void lake_names_add(struct lake_names *list, struct str name)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        char **grown = mem_alloc_array(capacity, sizeof(*grown));
        if (list->count > 0) {
            memcpy(grown, list->items, list->count * sizeof(*grown));
        }
        mem_free(list->items);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] = mem_copy_bytes(name.ptr, name.len);
}

void lake_names_finish(struct lake_names *list)
{
    for (size_t i = 0; i < list->count; i++) {
        mem_free(list->items[i]);
    }
    mem_free(list->items);
}

void lake_remember_table(struct lake *lake, struct str table)
{
    lock_take(&lake->lock);
    bool known = false;
    for (size_t i = 0; !known && i < lake->names_count; i++) {
        known = str_equal(str_of(lake->names[i]), table);
    }
    if (!known) {
        struct lake_names list = {lake->names, lake->names_count, lake->names_count};
        lake_names_add(&list, table);
        lake->names = list.items;
        lake->names_count = list.count;
    }
    lock_release(&lake->lock);
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

bool lake_visit_tables(struct lake *lake, bool empty_too,
                       bool (*visit)(void *context, struct str name), void *context,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(lake_names_finish) struct lake_names list = {0};
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    buf_append_format(&prefix, "%sdata/", lake->prefix);
    bool good = store_list_folders(lake->store, buf_str(&prefix), empty_too, visit_folder, &list,
                                   cancel, err);
    buf_finish(&prefix);
    if (!good) {
        return false;
    }
    lock_take(&lake->lock);
    for (size_t i = 0; i < lake->names_count; i++) {
        lake_names_add(&list, str_of(lake->names[i]));
    }
    lock_release(&lake->lock);
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
