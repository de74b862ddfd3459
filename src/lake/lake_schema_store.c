#include "clock.h"
#include "lake_internal.h"
#include "lake_ship.h"
#include "mem.h"
#include "num.h"

enum {
    VERSION_DIGITS = 10,
    ATTEMPTS_MAX = 16,
    DOCUMENT_SIZE_MAX = 16 << 20,
    LOAD_TIME_MS = 3000 /* an unreachable store holds up the first request of a table this long */
};

static void append_folder(struct buf *key, const struct lake *lake, const struct lake_table *table)
{
    buf_append_format(key, "%s_eider/schemas/%s/", lake->prefix, table->name);
}

/* ---- one version ---- */

static bool note_version(void *context, struct str key, const struct store_object *object,
                         struct err *err)
{
    uint64_t *newest = context;
    uint64_t version;
    struct err ignored;
    size_t suffix = STR(".json").len;
    (void)object;
    (void)err;
    if (key.len > VERSION_DIGITS + suffix && str_ends(key, STR(".json")) &&
        num_parse_u64(str_make(key.ptr + key.len - VERSION_DIGITS - suffix, VERSION_DIGITS), 1,
                      UINT32_MAX, &version, &ignored) &&
        version > *newest) {
        *newest = version;
    }
    return true;
}

/* 0: none is stored. */
static bool find_newest(struct lake *lake, const struct lake_table *table, struct cancel *cancel,
                        uint64_t *ret_version, struct err *err)
{
    struct buf prefix;
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    append_folder(&prefix, lake, table);
    *ret_version = 0;
    bool good = store_list(lake->store, buf_str(&prefix), note_version, ret_version, cancel, err);
    buf_finish(&prefix);
    return good;
}

static void append_key(struct buf *key, const struct lake *lake, const struct lake_table *table,
                       uint64_t version)
{
    append_folder(key, lake, table);
    buf_append_format(key, "%010llu.json", (unsigned long long)version);
}

static bool read_version(struct lake *lake, const struct lake_table *table, uint64_t version,
                         struct cancel *cancel, const struct lake_schema **ret_schema,
                         struct err *err)
{
    struct buf key;
    struct buf text;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_init(&text, DOCUMENT_SIZE_MAX);
    append_key(&key, lake, table, version);
    bool good = store_get(lake->store, buf_str(&key), &text, cancel, NULL, err) &&
                lake_schema_parse(buf_str(&text), ret_schema, err);
    buf_finish(&key);
    buf_finish(&text);
    return good;
}

static bool put_version(struct lake *lake, const struct lake_table *table,
                        const struct lake_schema *schema, uint64_t version, struct cancel *cancel,
                        struct err *err)
{
    struct buf key;
    struct buf text;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_init(&text, DOCUMENT_SIZE_MAX);
    append_key(&key, lake, table, version);
    lake_schema_append_json(schema, false, &text);
    struct store_source source = {.bytes = buf_str(&text), .fd = -1};
    struct store_put_options options = {.create_only = true, .content_type = "application/json"};
    bool good = buf_failed(&text)
                    ? err_set(err, ERR_TOO_LARGE, "the table's schema is too large")
                    : store_put(lake->store, buf_str(&key), &source, &options, cancel, NULL, err);
    buf_finish(&key);
    buf_finish(&text);
    return good;
}

/* ---- what is new in it ---- */

/* The same schema, with what it knows of the store. */
static bool mark(const struct lake_schema *schema, uint64_t version, bool stored,
                 const struct lake_schema **ret_marked, struct err *err)
{
    struct buf text;
    buf_init(&text, DOCUMENT_SIZE_MAX);
    lake_schema_append_json(schema, false, &text);
    bool good = buf_failed(&text) ? err_set(err, ERR_TOO_LARGE, "the table's schema is too large")
                                  : lake_schema_parse(buf_str(&text), ret_marked, err);
    buf_finish(&text);
    if (good) {
        struct lake_schema *marked =
            (struct lake_schema *)(uintptr_t)*ret_marked; /* nobody else's */
        marked->version = version;
        marked->stored = stored;
    }
    return good;
}

static bool columns_equal(const struct lake_schema_column *a, const struct lake_schema_column *b)
{
    return strcmp(a->sql_type, b->sql_type) == 0 && a->kind == b->kind && a->exact == b->exact &&
           a->mixed == b->mixed && a->provisional == b->provisional && a->declared == b->declared;
}

/* Whether the other schema lacks something of ours. Writers have their own order of columns. */
static bool says_more(const struct lake_schema *ours, const struct lake_schema *other)
{
    bool more = false;
    for (size_t i = 0; !more && i < ours->columns_count; i++) {
        const struct lake_schema_column *column = &ours->columns[i];
        size_t at = lake_schema_find(other, str_make(column->name, column->name_size));
        more = at == other->columns_count || !columns_equal(column, &other->columns[at]);
    }
    return more;
}

/* While nobody else makes a schema of this table: `known` (kept by the caller) is not the table's
 * own any more, but one that has seen `version`. */
static bool publish(struct lake *lake, struct lake_table *table, const struct lake_schema *known,
                    uint64_t version, bool stored, struct err *err)
{
    const struct lake_schema *marked;
    if (!mark(known, version, stored, &marked, err)) {
        return false;
    }
    lock_take(&table->lock);
    bool good = lake_table_publish(lake, table, marked, err);
    lock_release(&table->lock);
    lake_schema_drop(marked);
    return good;
}

static bool merge_in(struct lake *lake, struct lake_table *table, const struct lake_schema *current,
                     const struct lake_schema *stored, uint64_t version, struct err *err)
{
    const struct lake_schema *merged;
    if (!lake_schema_merge(current, stored, &merged, err)) {
        return false;
    }
    bool good = publish(lake, table, merged, version, !says_more(merged, stored), err);
    lake_schema_drop(merged);
    return good;
}

/* ---- storing ---- */

/* Another writer was first. */
static bool take_newest(struct lake *lake, struct lake_table *table, uint64_t version,
                        struct cancel *cancel, struct err *err)
{
    const struct lake_schema *stored;
    if (!read_version(lake, table, version, cancel, &stored, err)) {
        return false;
    }
    const struct lake_schema *current;
    if (!lake_table_begin_widening(table, cancel, &current, err)) {
        lake_schema_drop(stored);
        return false;
    }
    bool good = current->version >= version || merge_in(lake, table, current, stored, version, err);
    lake_table_end_widening(table);
    lake_schema_drop(current);
    lake_schema_drop(stored);
    return good;
}

/* The table may have widened while this was on its way. */
static bool note_stored(struct lake *lake, struct lake_table *table,
                        const struct lake_schema *stored, uint64_t version, struct cancel *cancel,
                        struct err *err)
{
    const struct lake_schema *current;
    if (!lake_table_begin_widening(table, cancel, &current, err)) {
        return false;
    }
    bool all = current == stored || !says_more(current, stored);
    bool good = publish(lake, table, current, version, all, err);
    lake_table_end_widening(table);
    lake_schema_drop(current);
    return good;
}

static bool store_once(struct lake *lake, struct lake_table *table,
                       const struct lake_schema *schema, struct cancel *cancel, struct err *err)
{
    uint64_t newest;
    if (!find_newest(lake, table, cancel, &newest, err)) {
        return false;
    }
    if (newest > schema->version) {
        return take_newest(lake, table, newest, cancel, err);
    }
    uint64_t version = schema->version + 1;
    const struct lake_schema *next;
    if (!mark(schema, version, true, &next, err)) {
        return false;
    }
    bool put = put_version(lake, table, next, version, cancel, err);
    lake_schema_drop(next);
    if (!put) {
        return err->kind == ERR_CONFLICT; /* somebody was first: once more */
    }
    return note_stored(lake, table, schema, version, cancel, err);
}

bool lake_schema_store(struct lake *lake, struct lake_table *table, struct cancel *cancel,
                       struct err *err)
{
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        const struct lake_schema *schema = lake_table_schema(table);
        bool stored = schema->stored && schema->version > 0;
        bool good = stored || store_once(lake, table, schema, cancel, err);
        lake_schema_drop(schema);
        if (stored || !good) {
            return good;
        }
    }
    return err_set(err, ERR_CONFLICT, "the schema of \"%s\" keeps changing", table->name);
}

/* ---- storing what people declare ---- */

/* The rules are those of the declaration, whatever the store said of them. Our own columns are at
 * the same places in both. */
static void take_rules(struct lake_schema *into, const struct lake_schema *wanted)
{
    into->partition_rule = wanted->partition_rule;
    into->partition_column = wanted->partition_column;
    mem_free(into->sort);
    into->sort_count = wanted->sort_count;
    into->sort = mem_alloc_array(wanted->sort_count + 1, sizeof(*into->sort));
    for (size_t i = 0; i < wanted->sort_count; i++) {
        into->sort[i] = wanted->sort[i];
    }
    into->retention_days = wanted->retention_days;
    into->flush_bytes = wanted->flush_bytes;
    into->flush_age_ms = wanted->flush_age_ms;
    into->flush_rows = wanted->flush_rows;
}

/* `wanted` with what the store's newest version has beyond it, marked as its next version. */
static bool make_declared(struct lake *lake, const struct lake_table *table,
                          const struct lake_schema *wanted, struct cancel *cancel,
                          const struct lake_schema **ret_next, struct err *err)
{
    uint64_t newest;
    const struct lake_schema *stored;
    const struct lake_schema *merged;
    if (!find_newest(lake, table, cancel, &newest, err)) {
        return false;
    }
    if (newest <= wanted->version) {
        return mark(wanted, wanted->version + 1, true, ret_next, err);
    }
    if (!read_version(lake, table, newest, cancel, &stored, err)) {
        return false;
    }
    bool good = lake_schema_merge(wanted, stored, &merged, err);
    lake_schema_drop(stored);
    if (!good) {
        return false;
    }
    good = mark(merged, newest + 1, true, ret_next, err);
    lake_schema_drop(merged);
    if (good) {
        take_rules((struct lake_schema *)(uintptr_t)*ret_next, wanted); /* nobody else's yet */
    }
    return good;
}

bool lake_schema_store_declared(struct lake *lake, struct lake_table *table,
                                const struct lake_schema *wanted, struct cancel *cancel,
                                const struct lake_schema **ret_stored, struct err *err)
{
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        const struct lake_schema *next;
        if (!make_declared(lake, table, wanted, cancel, &next, err)) {
            return false;
        }
        if (put_version(lake, table, next, next->version, cancel, err)) {
            *ret_stored = next;
            return true;
        }
        lake_schema_drop(next);
        if (err->kind != ERR_CONFLICT) {
            return false;
        }
    }
    return err_set(err, ERR_CONFLICT, "the schema of \"%s\" keeps changing", table->name);
}

/* ---- looking at it first ---- */

static bool load(struct lake *lake, struct lake_table *table, const struct lake_schema *current,
                 struct cancel *cancel, struct err *err)
{
    uint64_t newest;
    const struct lake_schema *stored;
    if (!find_newest(lake, table, cancel, &newest, err)) {
        return false;
    }
    if (newest <= current->version) {
        return true;
    }
    if (!read_version(lake, table, newest, cancel, &stored, err)) {
        return false;
    }
    bool good = merge_in(lake, table, current, stored, newest, err);
    lake_schema_drop(stored);
    return good;
}

static bool is_loaded(struct lake_table *table)
{
    lock_take(&table->lock);
    bool loaded = table->loaded;
    lock_release(&table->lock);
    return loaded;
}

static void load_once(struct lake *lake, struct lake_table *table, struct cancel *cancel)
{
    struct err ignored;
    const struct lake_schema *current;
    if (!lake_table_begin_widening(table, cancel, &current, &ignored)) {
        return;
    }
    if (!is_loaded(table)) {
        (void)!load(lake, table, current, cancel, &ignored);
        lock_take(&table->lock);
        table->loaded = true;
        lock_release(&table->lock);
        (void)!(!lake_table_has_columns(table) || lake_table_claim(lake, table, &ignored));
    }
    lake_table_end_widening(table);
    lake_schema_drop(current);
}

/* A store that cannot be asked is not asked again before the flush: requests do not wait for it. */
void lake_table_load(struct lake *lake, struct lake_table *table, struct cancel *cancel)
{
    if (is_loaded(table)) {
        return;
    }
    struct cancel brief;
    cancel_init(&brief, clock_now_ms() + LOAD_TIME_MS);
    load_once(lake, table, cancel != NULL ? cancel : &brief);
    cancel_finish(&brief);
}
