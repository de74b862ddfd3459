#include "lake_schema.h"

#include "lake_schema_build.h"
#include "map.h"
#include "mem.h"

#include <stdatomic.h>

enum {
    SHOWN_NAME_SIZE = 120,
    COLUMNS_FIRST = 16
};

/* What stands behind every schema that is handed out. */
struct schema_box {
    struct lake_schema schema;
    atomic_uint holders;
    size_t capacity;
    struct map places; /* by name in lower case: the place, plus one */
    char **keys;       /* those names, by place */
};

/* Only the count of holders changes in what others see as constant. */
static struct schema_box *box_of(const struct lake_schema *schema)
{
    return (struct schema_box *)((uintptr_t)schema - offsetof(struct schema_box, schema));
}

static void destroy_box(struct schema_box *box)
{
    struct lake_schema *schema = &box->schema;
    for (size_t i = 0; i < schema->columns_count; i++) {
        mem_free(schema->columns[i].name);
        mem_free(schema->columns[i].sql_type);
        mem_free(box->keys[i]);
    }
    mem_free(schema->columns);
    mem_free(schema->sort);
    mem_free(box->keys);
    map_finish(&box->places);
    mem_free(box);
}

const struct lake_schema *lake_schema_create_empty(void)
{
    return lake_schema_copy(NULL);
}

const struct lake_schema *lake_schema_keep(const struct lake_schema *schema)
{
    atomic_fetch_add(&box_of(schema)->holders, 1);
    return schema;
}

void lake_schema_drop(const struct lake_schema *schema)
{
    if (schema != NULL && atomic_fetch_sub(&box_of(schema)->holders, 1) == 1) {
        destroy_box(box_of(schema));
    }
}

void lake_schema_discard(struct lake_schema **schema)
{
    lake_schema_drop(*schema);
}

size_t lake_schema_find(const struct lake_schema *schema, struct str name)
{
    char folded[LAKE_COLUMN_NAME_MAX];
    if (name.len > sizeof(folded)) {
        return schema->columns_count;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        folded[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    const void *found = map_find(&box_of(schema)->places, str_make(folded, name.len));
    return found == NULL ? schema->columns_count : (size_t)(uintptr_t)found - 1;
}

const char *lake_schema_kind_type(enum lake_kind kind)
{
    static const char *const types[] = {
        [LAKE_BOOLEAN] = "BOOLEAN", [LAKE_BIGINT] = "BIGINT",   [LAKE_DECIMAL] = "DECIMAL(38,0)",
        [LAKE_DOUBLE] = "DOUBLE",   [LAKE_VARCHAR] = "VARCHAR", [LAKE_CAST] = NULL,
    };
    return types[kind];
}

const char *lake_schema_line_type(const struct lake_schema_column *column)
{
    bool literal =
        column->kind == LAKE_BOOLEAN || column->kind == LAKE_BIGINT || column->kind == LAKE_DOUBLE;
    return lake_schema_kind_type(literal ? column->kind : LAKE_VARCHAR);
}

/* ---- making ---- */

bool lake_schema_is_rest(struct str name)
{
    return str_equal_nocase(name, STR(LAKE_REST_NAME));
}

const char *lake_schema_name_problem(struct str name)
{
    if (name.len == 0) {
        return "a column name is empty";
    }
    if (name.len > LAKE_COLUMN_NAME_MAX) {
        return "a column name is longer than 255 bytes";
    }
    for (size_t i = 0; i < name.len; i++) {
        if ((unsigned char)name.ptr[i] < 0x20 || name.ptr[i] == 0x7F) {
            return "a column name holds a control character";
        }
    }
    return str_is_utf8(name) ? NULL : "a column name is not UTF-8";
}

static void make_room(struct schema_box *box)
{
    struct lake_schema *schema = &box->schema;
    if (schema->columns_count < box->capacity) {
        return;
    }
    size_t count = schema->columns_count;
    box->capacity = count < COLUMNS_FIRST ? COLUMNS_FIRST : 2 * count;
    struct lake_schema_column *columns = mem_alloc_array(box->capacity, sizeof(*columns));
    char **keys = mem_alloc_array(box->capacity, sizeof(*keys));
    for (size_t i = 0; i < count; i++) {
        columns[i] = schema->columns[i];
        keys[i] = box->keys[i];
    }
    mem_free(schema->columns);
    mem_free(box->keys);
    schema->columns = columns;
    box->keys = keys;
}

/* The place of _rest is columns_count while there is none, so it moves with every column. */
static struct lake_schema_column *append_column(struct schema_box *box, struct str name)
{
    struct lake_schema *schema = &box->schema;
    make_room(box);
    size_t place = schema->columns_count++;
    if (schema->rest == place) {
        schema->rest += lake_schema_is_rest(name) ? 0 : 1;
    }
    struct lake_schema_column *column = &schema->columns[place];
    *column = (struct lake_schema_column){
        .name = mem_copy_bytes(name.ptr, name.len),
        .name_size = name.len,
    };
    struct str key = map_folded_key(name);
    box->keys[place] = mem_copy_bytes(key.ptr, key.len);
    mem_free((void *)(uintptr_t)key.ptr);
    map_set(&box->places, str_make(box->keys[place], name.len), (void *)(uintptr_t)(place + 1));
    lake_schema_set_type(column, LAKE_VARCHAR, STR("VARCHAR"));
    return column;
}

bool lake_schema_add(struct lake_schema *schema, struct str name,
                     struct lake_schema_column **ret_column, struct err *err)
{
    const char *problem = lake_schema_name_problem(name);
    if (problem != NULL) {
        return err_set(err, ERR_INVALID, "%s", problem);
    }
    if (lake_schema_find(schema, name) < schema->columns_count) {
        return err_set(err, ERR_INVALID, "column \"%.*s\" is there already",
                       STR_ARG(str_first(name, SHOWN_NAME_SIZE)));
    }
    if (schema->columns_count == LAKE_COLUMNS_MAX) {
        return err_set(err, ERR_INVALID, "column \"%.*s\" is too many: a table has at most %d",
                       STR_ARG(str_first(name, SHOWN_NAME_SIZE)), LAKE_COLUMNS_MAX);
    }
    *ret_column = append_column(box_of(schema), name);
    return true;
}

bool lake_schema_add_rest(struct lake_schema *schema, struct err *err)
{
    struct lake_schema_column *column;
    return schema->rest < schema->columns_count ||
           lake_schema_add(schema, STR(LAKE_REST_NAME), &column, err);
}

void lake_schema_set_type(struct lake_schema_column *column, enum lake_kind kind,
                          struct str sql_type)
{
    char *copy = mem_copy_bytes(sql_type.ptr, sql_type.len);
    mem_free(column->sql_type);
    column->sql_type = copy;
    column->kind = kind;
    column->exact = kind == LAKE_BIGINT;
    column->mixed = false;
    column->provisional = false;
}

static void copy_columns(struct schema_box *box, const struct lake_schema *schema)
{
    for (size_t i = 0; i < schema->columns_count; i++) {
        const struct lake_schema_column *from = &schema->columns[i];
        struct lake_schema_column *column = append_column(box, lake_schema_column_name(from));
        lake_schema_set_type(column, from->kind, str_of(from->sql_type));
        column->exact = from->exact;
        column->mixed = from->mixed;
        column->provisional = from->provisional;
        column->declared = from->declared;
    }
}

struct lake_schema *lake_schema_copy(const struct lake_schema *schema)
{
    struct schema_box *box = mem_alloc(sizeof(*box));
    atomic_init(&box->holders, 1);
    if (schema == NULL) {
        return &box->schema;
    }
    copy_columns(box, schema);
    box->schema.partition_rule = schema->partition_rule;
    box->schema.partition_column = schema->partition_column;
    box->schema.sort_count = schema->sort_count;
    box->schema.sort = mem_alloc_array(schema->sort_count + 1, sizeof(*box->schema.sort));
    for (size_t i = 0; i < schema->sort_count; i++) {
        box->schema.sort[i] = schema->sort[i];
    }
    box->schema.retention_days = schema->retention_days;
    box->schema.flush_bytes = schema->flush_bytes;
    box->schema.flush_age_ms = schema->flush_age_ms;
    box->schema.flush_rows = schema->flush_rows;
    box->schema.version = schema->version;
    box->schema.stored = schema->stored;
    return &box->schema;
}
