#include "json_write.h"
#include "lake_internal.h"
#include "lake_ship.h"
#include "mem.h"

struct listing {
    bool found;
};

static bool stop_at_first(void *context, struct str key, const struct store_object *object,
                          struct err *err)
{
    (void)key;
    (void)object;
    ((struct listing *)context)->found = true;
    return err_set(err, ERR_STOPPED, "found");
}

static bool has_objects(struct lake *lake, const char *folder, struct str name,
                        struct cancel *cancel, bool *ret_found, struct err *err)
{
    struct listing listing = {0};
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    buf_append_format(&prefix, "%s%s/%.*s/", lake->prefix, folder, STR_ARG(name));
    bool good = store_list(lake->store, buf_str(&prefix), stop_at_first, &listing, cancel, err);
    buf_finish(&prefix);
    *ret_found = listing.found;
    return good || listing.found;
}

/* One that is in the log, or in the store; names that are nowhere must not pile up here. */
static bool find_table(struct lake *lake, struct str name, struct cancel *cancel,
                       struct lake_table **ret_table, struct err *err)
{
    bool found = true;
    *ret_table = lake_table_find(lake, name);
    if (*ret_table == NULL && (!has_objects(lake, "_eider/schemas", name, cancel, &found, err) ||
                               (!found && !has_objects(lake, "data", name, cancel, &found, err)))) {
        return false;
    }
    if (!found) {
        return err_set(err, ERR_NOT_FOUND, "there is no table %.*s", STR_ARG(name));
    }
    *ret_table = lake_table_get(lake, name, err);
    if (*ret_table != NULL) {
        lake_table_load(lake, *ret_table, cancel);
    }
    return *ret_table != NULL;
}

bool lake_table_describe(struct lake *lake, struct str name, struct cancel *cancel,
                         struct buf *into, struct err *err)
{
    struct lake_table *table;
    if (!find_table(lake, name, cancel, &table, err)) {
        return false;
    }
    lock_take(&table->lock);
    const struct lake_schema *schema = lake_schema_keep(table->schema);
    uint64_t rows = table->tail_rows;
    lock_release(&table->lock);
    struct buf text;
    buf_init(&text, into->size_max);
    lake_schema_append_json(schema, true, &text);
    assert(text.len > 2 && text.ptr[0] == '{');
    buf_append_text(into, "{\"table\":");
    json_append_string(into, name);
    buf_append_format(into, ",\"buffered_rows\":%llu,", (unsigned long long)rows);
    buf_append(into, str_from(buf_str(&text), 1));
    buf_finish(&text);
    lake_schema_drop(schema);
    return true;
}

/* Stored first: a declaration that the store does not take has not happened. */
static bool declare(struct lake *lake, struct lake_table *table, const struct lake_schema *wanted,
                    struct cancel *cancel, struct err *err)
{
    const struct lake_schema *stored;
    if (!lake_schema_store_declared(lake, table, wanted, cancel, &stored, err)) {
        return false;
    }
    lock_take(&table->lock);
    bool good = lake_table_publish(lake, table, stored, err);
    lock_release(&table->lock);
    lake_schema_drop(stored);
    return good;
}

bool lake_table_declare(struct lake *lake, struct str name, struct json_span document,
                        struct cancel *cancel, struct err *err)
{
    struct lake_table *table = lake_table_get(lake, name, err);
    if (table == NULL) {
        return false;
    }
    lake_table_load(lake, table, cancel);
    const struct lake_schema *schema;
    const struct lake_schema *wanted = NULL;
    if (!lake_table_begin_widening(table, cancel, &schema, err)) {
        return false;
    }
    bool first = schema->columns_count == 0;
    bool good =
        lake_schema_declare(schema, document, &wanted, err) &&
        (wanted->columns_count <= schema->columns_count || lake_schemas_have_room(lake, err)) &&
        (!first || lake_table_claim(lake, table, err));
    if (good && !declare(lake, table, wanted, cancel, err)) {
        lake_table_disclaim(lake, table);
        good = false;
    }
    lake_table_end_widening(table);
    lake_schema_drop(schema);
    lake_schema_drop(wanted);
    return good;
}
