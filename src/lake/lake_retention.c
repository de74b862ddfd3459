#include "lake_retention.h"

#include "clock.h"
#include "lake_internal.h"
#include "num.h"

enum {
    OBJECTS_MAX = 10000
};

#define DAY_MS INT64_C(86400000)

/* `name`=digits/ at the beginning of *rest, which then lies behind it. */
static bool take_part(struct str *rest, struct str name, size_t digits, int *ret_number)
{
    uint64_t number;
    struct err ignored;
    if (!str_starts(*rest, name) || rest->len < name.len + digits + 1 ||
        rest->ptr[name.len + digits] != '/' ||
        !num_parse_u64(str_make(rest->ptr + name.len, digits), 1, 9999, &number, &ignored)) {
        return false;
    }
    *ret_number = (int)number;
    *rest = str_from(*rest, name.len + digits + 1);
    return true;
}

bool lake_object_day(const struct lake *lake, struct str table, struct str key, int32_t *ret_day)
{
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    lake_append_table_prefix(&prefix, lake, table);
    bool ours = !buf_failed(&prefix) && str_starts(key, buf_str(&prefix));
    struct str rest = ours ? str_from(key, prefix.len) : key;
    buf_finish(&prefix);
    struct lake_date date;
    if (!ours || !take_part(&rest, STR("year="), 4, &date.year) ||
        !take_part(&rest, STR("month="), 2, &date.month) ||
        !take_part(&rest, STR("day="), 2, &date.day) ||
        !clock_date_is_real(date.year, date.month, date.day) ||
        str_find_byte(rest, '/') < rest.len || !str_ends(rest, STR(".parquet"))) {
        return false;
    }
    *ret_day = lake_day_of_date(&date);
    return true;
}

struct search {
    const struct lake *lake;
    struct str table;
    int64_t first_day; /* that is kept */
    struct lake_names old;
};

static bool note_old(void *context, struct str key, const struct store_object *object,
                     struct err *err)
{
    struct search *search = context;
    int32_t day;
    (void)object;
    if (lake_object_day(search->lake, search->table, key, &day) && day < search->first_day) {
        lake_names_add(&search->old, key);
    }
    return search->old.count < OBJECTS_MAX || err_set(err, ERR_STOPPED, "enough for one time");
}

struct retaining {
    struct lake *lake;
    struct cancel *cancel;
};

static bool retain_table(void *context, struct lake_table *table)
{
    struct retaining *retaining = context;
    struct lake *lake = retaining->lake;
    struct err err;
    lock_take(&table->lock);
    uint32_t days = table->schema->retention_days;
    lock_release(&table->lock);
    if (days == 0) {
        return true;
    }
    struct search search = {
        .lake = lake,
        .table = str_of(table->name),
        .first_day = clock_wall_ms() / DAY_MS - days,
    };
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    lake_append_table_prefix(&prefix, lake, search.table);
    (void)!store_list(lake->store, buf_str(&prefix), note_old, &search, retaining->cancel, &err);
    buf_finish(&prefix);
    bool good = true;
    for (size_t i = 0; good && i < search.old.count; i++) {
        good = store_delete(lake->store, str_of(search.old.items[i]), retaining->cancel, &err);
    }
    if (search.old.count > 0) { /* what the store listed before is no longer true */
        lock_take(&table->lock);
        table->generation++;
        lock_release(&table->lock);
    }
    lake_names_finish(&search.old);
    return cancel_check(retaining->cancel, &err);
}

void lake_retain(struct lake *lake, struct cancel *cancel)
{
    struct retaining retaining = {lake, cancel};
    lake_table_visit(lake, retain_table, &retaining);
}
