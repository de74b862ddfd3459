#include "clock.h"
#include "json_write.h"
#include "lake_internal.h"
#include "lake_ship.h"
#include "num.h"

#include <stdio.h>

enum {
    MANIFEST_SIZE_MAX = 16 << 20,
    PLAN_DIGITS = 20,
    PRUNED_MAX = 10000 /* of a table at a time */
};

#define DAY_MS INT64_C(86400000)

static void append_folder(struct buf *key, const struct lake *lake, const char *table)
{
    buf_append_format(key, "%s_eider/commits/%s/%s/", lake->prefix, table,
                      wal_writer(lake->records));
}

static void write_object(struct json_writer *json, const struct lake_plan_object *object)
{
    struct civil_time date = clock_civil_utc(object->day * DAY_MS);
    char day[16];
    (void)snprintf(day, sizeof(day), "%04d-%02d-%02d", date.year, date.month, date.day);
    json_begin_object(json);
    json_member_string(json, "key", str_of(object->key));
    json_member_string(json, "day", str_of(day));
    json_member_u64(json, "rows", object->rows);
    if (object->aside) {
        json_member_bool(json, "set_aside", true);
    }
    json_end_object(json);
}

static void write_manifest(struct buf *into, const struct lake *lake, const struct lake_plan *plan)
{
    struct json_writer json;
    char made[CLOCK_ISO_SIZE];
    clock_format_iso(plan->made_ms, made);
    json_writer_init(&json, into);
    json_begin_object(&json);
    json_member_u64(&json, "format", 1);
    json_member_string(&json, "table", str_of(plan->table));
    json_member_string(&json, "writer", str_of(wal_writer(lake->records)));
    json_member_u64(&json, "first", plan->first);
    json_member_u64(&json, "last", plan->last);
    json_member_string(&json, "made", str_of(made));
    json_key(&json, STR("objects"));
    json_begin_array(&json);
    for (size_t i = 0; i < plan->objects_count; i++) {
        write_object(&json, &plan->objects[i]);
    }
    json_end_array(&json);
    json_end_object(&json);
}

/* One that is there already is our own: of this plan, before a crash or a lost answer. */
bool lake_manifest_put(struct lake *lake, struct lake_table *table, const struct lake_plan *plan,
                       struct cancel *cancel, struct err *err)
{
    struct buf key;
    struct buf text;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_init(&text, MANIFEST_SIZE_MAX);
    append_folder(&key, lake, table->name);
    buf_append_format(&key, "%020llu.json", (unsigned long long)plan->last);
    write_manifest(&text, lake, plan);
    struct store_source source = {.bytes = buf_str(&text), .fd = -1};
    struct store_put_options options = {.create_only = true, .content_type = "application/json"};
    bool good = buf_failed(&text)
                    ? err_set(err, ERR_TOO_LARGE, "the list of a flush's objects is too long")
                    : store_put(lake->store, buf_str(&key), &source, &options, cancel, NULL, err) ||
                          err->kind == ERR_CONFLICT;
    if (good) {
        lock_take(&table->lock);
        table->manifests_new++;
        lock_release(&table->lock);
    }
    buf_finish(&key);
    buf_finish(&text);
    return good;
}

/* ---- old ones ---- */

struct pruning {
    struct lake *lake;
    struct cancel *cancel;
    size_t kept;
    size_t prefix_size;
    struct lake_names names; /* of one table, oldest first */
};

static bool is_manifest(struct str name)
{
    uint64_t ignored;
    struct err err;
    return name.len == PLAN_DIGITS + STR(".json").len && str_ends(name, STR(".json")) &&
           num_parse_u64(str_first(name, PLAN_DIGITS), 0, UINT64_MAX, &ignored, &err);
}

/* Those that are looked at are the oldest, since the store lists them in order. */
static bool note_manifest(void *context, struct str key, const struct store_object *object,
                          struct err *err)
{
    struct pruning *pruning = context;
    (void)object;
    if (is_manifest(str_from(key, pruning->prefix_size))) {
        lake_names_add(&pruning->names, key);
    }
    return pruning->names.count < pruning->kept + PRUNED_MAX ||
           err_set(err, ERR_STOPPED, "enough for one time");
}

static bool prune_table(void *context, struct lake_table *table)
{
    struct pruning *pruning = context;
    struct err err;
    lock_take(&table->lock);
    bool due = table->manifests_new > 0;
    table->manifests_new = 0;
    lock_release(&table->lock);
    if (!due) {
        return true;
    }
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    append_folder(&prefix, pruning->lake, table->name);
    pruning->prefix_size = prefix.len;
    bool good = store_list(pruning->lake->store, buf_str(&prefix), note_manifest, pruning,
                           pruning->cancel, &err) ||
                err.kind == ERR_STOPPED;
    for (size_t i = 0; good && i + pruning->kept < pruning->names.count; i++) {
        good = store_delete(pruning->lake->store, str_of(pruning->names.items[i]), pruning->cancel,
                            &err);
    }
    buf_finish(&prefix);
    lake_names_finish(&pruning->names);
    pruning->names = (struct lake_names){0};
    return cancel_check(pruning->cancel, &err);
}

void lake_manifests_prune(struct lake *lake, size_t kept, struct cancel *cancel)
{
    struct pruning pruning = {.lake = lake, .cancel = cancel, .kept = kept};
    lake_table_visit(lake, prune_table, &pruning);
}
