#include "lake_schema_build.h"
#include "mem.h"
#include "num.h"

/* What a PUT of a table says, taken over member by member into a copy. */

enum {
    RETENTION_DAYS_MAX = 36500,
    TYPE_TEXT_MAX = 255
};

static bool get_text(struct json_span value, size_t size_max, struct buf *into)
{
    buf_init(into, size_max);
    return value.kind == JSON_STRING && json_unescape(value, into) && !buf_failed(into);
}

/* ---- columns ---- */

struct declared_type {
    enum lake_kind kind;
    struct str sql_type;
};

static bool refuse(struct err *err, struct str name, const char *reason)
{
    return err_set(err, ERR_INVALID, "column \"%.*s\": %s", STR_ARG(name), reason);
}

/* A type for a column that there is: the same, or a wider one. What has been a number stays to be
 * taken as one when the column becomes text. */
static bool redeclare(struct lake_schema_column *column, const struct declared_type *type,
                      struct err *err)
{
    struct str before = str_of(column->sql_type);
    struct str name = lake_schema_column_name(column);
    if (!column->provisional && str_equal(before, type->sql_type)) {
        column->declared = true;
        return true;
    }
    if (!column->provisional && !lake_schema_type_widens(before, type->sql_type, column->exact)) {
        return err_set(err, ERR_INVALID, "column \"%.*s\" is %s, which %.*s does not hold",
                       STR_ARG(name), column->sql_type, STR_ARG(type->sql_type));
    }
    bool mixed = type->kind == LAKE_VARCHAR && !column->provisional;
    lake_schema_set_type(column, type->kind, type->sql_type);
    column->mixed = mixed;
    column->declared = true;
    return true;
}

static bool declare_type(struct lake_schema *schema, struct str name,
                         const struct declared_type *type, struct err *err)
{
    struct lake_schema_column *column;
    if (lake_schema_is_rest(name) && type->kind != LAKE_VARCHAR) {
        return refuse(err, name, "is VARCHAR, for what fits no other column");
    }
    size_t place = lake_schema_find(schema, name);
    if (place < schema->columns_count) {
        if (place == schema->rest) {
            return true;
        }
        return redeclare(&schema->columns[place], type, err);
    }
    if (!lake_schema_add(schema, name, &column, err)) {
        return false;
    }
    if (!lake_schema_is_rest(name)) {
        lake_schema_set_type(column, type->kind, type->sql_type);
        column->declared = true;
    }
    return true;
}

static bool declare_column(struct lake_schema *schema, struct json_span object, struct err *err)
{
    CLEANUP(buf_finish) struct buf name = {0};
    CLEANUP(buf_finish) struct buf type = {0};
    CLEANUP(buf_finish) struct buf normal = {0};
    struct json_span value;
    struct declared_type declared;
    if (!json_find(object, STR("name"), &value) || !get_text(value, LAKE_COLUMN_NAME_MAX, &name)) {
        return err_set(err, ERR_INVALID, "a column needs a \"name\": a text of at most 255 bytes");
    }
    const char *problem = lake_schema_name_problem(buf_str(&name));
    if (problem != NULL) {
        return err_set(err, ERR_INVALID, "%s", problem);
    }
    buf_init(&normal, TYPE_TEXT_MAX);
    if (!json_find(object, STR("type"), &value) || !get_text(value, TYPE_TEXT_MAX, &type)) {
        return refuse(err, buf_str(&name), "needs a \"type\"");
    }
    if (!lake_schema_type_kind(buf_str(&type), &declared.kind, &normal)) {
        return refuse(err, buf_str(&name), "its type is none that a table can have");
    }
    declared.sql_type = buf_str(&normal);
    return declare_type(schema, buf_str(&name), &declared, err);
}

static bool check_members(struct json_span object, const char *const *names, size_t names_count,
                          struct err *err)
{
    struct json_cursor cursor = json_open(object);
    struct json_span key;
    struct json_span value;
    while (json_next(&cursor, &key, &value)) {
        bool known = false;
        for (size_t i = 0; i < names_count; i++) {
            known = known || json_string_equal(key, str_of(names[i]));
        }
        if (!known) {
            return err_set(err, ERR_INVALID, "unknown member %.*s",
                           STR_ARG(str_first(key.text, LAKE_COLUMN_NAME_MAX)));
        }
    }
    return true;
}

static bool set_columns(struct lake_schema *schema, struct json_span value, struct err *err)
{
    static const char *const members[] = {"name", "type"};
    struct json_cursor cursor = json_open(value);
    struct json_span column;
    if (value.kind == JSON_NULL) {
        return true;
    }
    if (value.kind != JSON_ARRAY) {
        return err_set(err, ERR_INVALID, "\"columns\" is a list of {\"name\", \"type\"}");
    }
    while (json_next(&cursor, NULL, &column)) {
        if (column.kind != JSON_OBJECT) {
            return err_set(err, ERR_INVALID, "\"columns\" is a list of {\"name\", \"type\"}");
        }
        if (!check_members(column, members, COUNT_OF(members), err) ||
            !declare_column(schema, column, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < schema->columns_count; i++) {
        if (schema->columns[i].kind == LAKE_CAST) {
            return lake_schema_add_rest(schema, err);
        }
    }
    return true;
}

/* ---- rules ---- */

static bool find_column(const struct lake_schema *schema, struct json_span value,
                        const char *member, size_t *ret_place, struct err *err)
{
    CLEANUP(buf_finish) struct buf name = {0};
    if (!get_text(value, LAKE_COLUMN_NAME_MAX, &name)) {
        return err_set(err, ERR_INVALID, "\"%s\" names columns by text", member);
    }
    *ret_place = lake_schema_find(schema, buf_str(&name));
    if (*ret_place == schema->columns_count) {
        return err_set(err, ERR_INVALID, "\"%s\": there is no column \"%.*s\"", member,
                       STR_ARG(buf_str(&name)));
    }
    return true;
}

static bool set_partition(struct lake_schema *schema, struct json_span value, struct err *err)
{
    schema->partition_rule = LAKE_PARTITION_ARRIVAL;
    schema->partition_column = 0;
    if (value.kind == JSON_NULL ||
        (value.kind == JSON_STRING && json_string_equal(value, STR("arrival")))) {
        return true;
    }
    size_t place;
    if (!find_column(schema, value, "partition_by", &place, err)) {
        return false;
    }
    const struct lake_schema_column *column = &schema->columns[place];
    if (!lake_schema_can_partition(column)) {
        return err_set(err, ERR_INVALID,
                       "\"partition_by\": column \"%s\" is %s; it has to be DATE, TIMESTAMP, "
                       "TIMESTAMPTZ or BIGINT",
                       column->name, column->sql_type);
    }
    schema->partition_rule = LAKE_PARTITION_COLUMN;
    schema->partition_column = place;
    return true;
}

static bool set_sort(struct lake_schema *schema, struct json_span value, struct err *err)
{
    struct json_cursor cursor = json_open(value);
    struct json_span name;
    schema->sort_count = 0;
    if (value.kind == JSON_NULL) {
        return true;
    }
    if (value.kind != JSON_ARRAY || json_count(value) > schema->columns_count) {
        return err_set(err, ERR_INVALID, "\"sort_by\" is a list of columns, each once");
    }
    mem_free(schema->sort);
    schema->sort = mem_alloc_array(schema->columns_count + 1, sizeof(*schema->sort));
    while (json_next(&cursor, NULL, &name)) {
        size_t place;
        if (!find_column(schema, name, "sort_by", &place, err)) {
            return false;
        }
        for (size_t i = 0; i < schema->sort_count; i++) {
            if (schema->sort[i] == place) {
                return err_set(err, ERR_INVALID, "\"sort_by\" names column \"%s\" twice",
                               schema->columns[place].name);
            }
        }
        schema->sort[schema->sort_count++] = place;
    }
    return true;
}

static bool get_number(struct json_span value, const char *member, uint64_t max,
                       uint64_t *ret_value, struct err *err)
{
    struct err parse_err;
    *ret_value = 0;
    if (value.kind == JSON_NULL) {
        return true;
    }
    if (value.kind != JSON_INTEGER || !num_parse_u64(value.text, 0, max, ret_value, &parse_err)) {
        return err_set(err, ERR_INVALID, "\"%s\" is a whole number from 0 to %llu", member,
                       (unsigned long long)max);
    }
    return true;
}

static bool set_retention(struct lake_schema *schema, struct json_span value, struct err *err)
{
    uint64_t days;
    if (!get_number(value, "retention_days", RETENTION_DAYS_MAX, &days, err)) {
        return false;
    }
    schema->retention_days = (uint32_t)days;
    return true;
}

static bool set_flush_bytes(struct lake_schema *schema, struct json_span value, struct err *err)
{
    return get_number(value, "flush_bytes", INT64_MAX, &schema->flush_bytes, err);
}

static bool set_flush_age(struct lake_schema *schema, struct json_span value, struct err *err)
{
    return get_number(value, "flush_age_ms", INT64_MAX, &schema->flush_age_ms, err);
}

static bool set_flush_rows(struct lake_schema *schema, struct json_span value, struct err *err)
{
    return get_number(value, "flush_rows", INT64_MAX, &schema->flush_rows, err);
}

/* Columns first, so that the rules can name them. */
/* clang-format off */
static const struct {
    const char *name;
    bool (*set)(struct lake_schema *schema, struct json_span value, struct err *err);
} members[] = {
    { "columns",        set_columns },
    { "partition_by",   set_partition },
    { "sort_by",        set_sort },
    { "retention_days", set_retention },
    { "flush_bytes",    set_flush_bytes },
    { "flush_age_ms",   set_flush_age },
    { "flush_rows",     set_flush_rows },
};
/* clang-format on */

bool lake_schema_declare(const struct lake_schema *schema, struct json_span document,
                         const struct lake_schema **ret_schema, struct err *err)
{
    CLEANUP(lake_schema_discard) struct lake_schema *made = lake_schema_copy(schema);
    const char *names[COUNT_OF(members)];
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        names[i] = members[i].name;
    }
    if (document.kind != JSON_OBJECT) {
        return err_set(err, ERR_INVALID, "a declaration is an object");
    }
    if (!check_members(document, names, COUNT_OF(names), err)) {
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        struct json_span value;
        if (json_find(document, str_of(members[i].name), &value) &&
            !members[i].set(made, value, err)) {
            return false;
        }
    }
    if (made->partition_rule == LAKE_PARTITION_COLUMN &&
        !lake_schema_can_partition(&made->columns[made->partition_column])) {
        return err_set(err, ERR_INVALID, "column \"%s\" is what the table is partitioned by",
                       made->columns[made->partition_column].name);
    }
    made->stored = false;
    *ret_schema = TAKE(made);
    return true;
}
