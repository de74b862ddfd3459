#include "json_write.h"
#include "lake_schema_build.h"
#include "mem.h"
#include "num.h"

/* ---- writing ---- */

static const char *const kind_names[] = {
    [LAKE_BOOLEAN] = "boolean", [LAKE_BIGINT] = "bigint",   [LAKE_DECIMAL] = "decimal",
    [LAKE_DOUBLE] = "double",   [LAKE_VARCHAR] = "varchar", [LAKE_CAST] = "cast",
};

/* Marks are rare, so only those that are set are written. */
static const struct mark {
    const char *name;
    size_t offset;
} marks[] = {
    {"exact", offsetof(struct lake_schema_column, exact)},
    {"mixed", offsetof(struct lake_schema_column, mixed)},
    {"provisional", offsetof(struct lake_schema_column, provisional)},
    {"declared", offsetof(struct lake_schema_column, declared)},
};

static bool *mark_of(struct lake_schema_column *column, const struct mark *mark)
{
    return (bool *)((char *)column + mark->offset);
}

static void write_marks(struct json_writer *writer, const struct lake_schema_column *column)
{
    struct lake_schema_column copy = *column;
    json_member_string(writer, "kind", str_of(kind_names[column->kind]));
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        if (*mark_of(&copy, &marks[i])) {
            json_member_bool(writer, marks[i].name, true);
        }
    }
}

static void write_columns(struct json_writer *writer, const struct lake_schema *schema,
                          bool for_people)
{
    json_key(writer, STR("columns"));
    json_begin_array(writer);
    for (size_t i = 0; i < schema->columns_count; i++) {
        const struct lake_schema_column *column = &schema->columns[i];
        json_begin_object(writer);
        json_member_string(writer, "name", lake_schema_column_name(column));
        json_member_string(writer, "type", str_of(column->sql_type));
        if (!for_people) {
            write_marks(writer, column);
        }
        json_end_object(writer);
    }
    json_end_array(writer);
}

static void write_name(struct json_writer *writer, const struct lake_schema *schema, size_t place,
                       bool for_people)
{
    if (for_people) {
        json_put_string(writer, lake_schema_column_name(&schema->columns[place]));
    } else {
        json_put_u64(writer, place);
    }
}

static void write_partition(struct json_writer *writer, const struct lake_schema *schema,
                            bool for_people)
{
    json_key(writer, STR("partition_by"));
    if (schema->partition_rule == LAKE_PARTITION_ARRIVAL) {
        json_put_string(writer, STR("arrival"));
    } else {
        write_name(writer, schema, schema->partition_column, for_people);
    }
}

/* People get null for a default, which is also how they ask for it. */
static void write_number(struct json_writer *writer, const char *name, uint64_t value,
                         bool for_people)
{
    json_key(writer, str_of(name));
    if (for_people && value == 0) {
        json_put_null(writer);
    } else {
        json_put_u64(writer, value);
    }
}

void lake_schema_append_json(const struct lake_schema *schema, bool for_people, struct buf *into)
{
    struct json_writer writer;
    json_writer_init(&writer, into);
    json_begin_object(&writer);
    write_columns(&writer, schema, for_people);
    write_partition(&writer, schema, for_people);
    json_key(&writer, STR("sort_by"));
    json_begin_array(&writer);
    for (size_t i = 0; i < schema->sort_count; i++) {
        write_name(&writer, schema, schema->sort[i], for_people);
    }
    json_end_array(&writer);
    write_number(&writer, "retention_days", schema->retention_days, for_people);
    write_number(&writer, "flush_bytes", schema->flush_bytes, for_people);
    write_number(&writer, "flush_age_ms", schema->flush_age_ms, for_people);
    write_number(&writer, "flush_rows", schema->flush_rows, for_people);
    if (!for_people) {
        json_member_u64(&writer, "version", schema->version);
        json_member_bool(&writer, "stored", schema->stored);
    }
    json_end_object(&writer);
}

/* ---- reading what we wrote ---- */

static bool corrupt(struct err *err, const char *member)
{
    return err_set(err, ERR_CORRUPT, "the schema of a table is damaged: %s", member);
}

static bool get_u64(struct json_span object, const char *name, uint64_t max, uint64_t *ret_value,
                    struct err *err)
{
    struct json_span value;
    struct err parse_err;
    if (!json_find(object, str_of(name), &value) || value.kind != JSON_INTEGER ||
        !num_parse_u64(value.text, 0, max, ret_value, &parse_err)) {
        return corrupt(err, name);
    }
    return true;
}

static bool get_bool(struct json_span object, const char *name, bool *ret_value, struct err *err)
{
    struct json_span value;
    *ret_value = false;
    if (!json_find(object, str_of(name), &value)) {
        return true;
    }
    *ret_value = str_equal(value.text, STR("true"));
    return value.kind == JSON_BOOL || corrupt(err, name);
}

static bool get_text(struct json_span object, const char *name, struct buf *into, struct err *err)
{
    struct json_span value;
    buf_init(into, LAKE_COLUMN_NAME_MAX);
    if (!json_find(object, str_of(name), &value) || value.kind != JSON_STRING ||
        !json_unescape(value, into) || buf_failed(into)) {
        return corrupt(err, name);
    }
    return true;
}

static bool parse_kind(struct str text, enum lake_kind *ret_kind)
{
    for (size_t i = 0; i < COUNT_OF(kind_names); i++) {
        if (str_equal(text, str_of(kind_names[i]))) {
            *ret_kind = (enum lake_kind)i;
            return true;
        }
    }
    return false;
}

/* Kind and type have to agree; a type that we do not know may have come with a newer release. */
static bool parse_type(struct lake_schema_column *column, struct str kind_text, struct str type,
                       struct err *err)
{
    CLEANUP(buf_finish) struct buf normal = {0};
    enum lake_kind kind;
    enum lake_kind of_type;
    buf_init(&normal, LAKE_COLUMN_NAME_MAX);
    if (!parse_kind(kind_text, &kind)) {
        return corrupt(err, "kind");
    }
    const char *fixed = lake_schema_kind_type(kind);
    if (fixed != NULL ? !str_equal(type, str_of(fixed))
                      : !lake_schema_type_kind(type, &of_type, &normal)) {
        return corrupt(err, "type");
    }
    lake_schema_set_type(column, kind, type);
    return true;
}

static bool parse_column(struct lake_schema *schema, struct json_span object, struct err *err)
{
    CLEANUP(buf_finish) struct buf name = {0};
    CLEANUP(buf_finish) struct buf type = {0};
    CLEANUP(buf_finish) struct buf kind = {0};
    struct lake_schema_column *column;
    struct err add_err;
    if (object.kind != JSON_OBJECT) {
        return corrupt(err, "columns");
    }
    if (!get_text(object, "name", &name, err) || !get_text(object, "type", &type, err) ||
        !get_text(object, "kind", &kind, err)) {
        return false;
    }
    if (!lake_schema_add(schema, buf_str(&name), &column, &add_err)) {
        return corrupt(err, "name");
    }
    if (!parse_type(column, buf_str(&kind), buf_str(&type), err)) {
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(marks); i++) {
        if (!get_bool(object, marks[i].name, mark_of(column, &marks[i]), err)) {
            return false;
        }
    }
    return column->kind == LAKE_VARCHAR || !lake_schema_is_rest(buf_str(&name)) ||
           corrupt(err, LAKE_REST_NAME);
}

static bool parse_columns(struct lake_schema *schema, struct json_span root, struct err *err)
{
    struct json_span columns;
    struct json_span column;
    if (!json_find(root, STR("columns"), &columns) || columns.kind != JSON_ARRAY) {
        return corrupt(err, "columns");
    }
    struct json_cursor cursor = json_open(columns);
    while (json_next(&cursor, NULL, &column)) {
        if (!parse_column(schema, column, err)) {
            return false;
        }
    }
    return true;
}

static bool parse_place(const struct lake_schema *schema, struct json_span value, size_t *ret_place)
{
    uint64_t place;
    struct err err;
    if (value.kind != JSON_INTEGER ||
        !num_parse_u64(value.text, 0, LAKE_COLUMNS_MAX, &place, &err) ||
        place >= schema->columns_count) {
        return false;
    }
    *ret_place = (size_t)place;
    return true;
}

static bool parse_partition(struct lake_schema *schema, struct json_span root, struct err *err)
{
    struct json_span value;
    if (!json_find(root, STR("partition_by"), &value)) {
        return corrupt(err, "partition_by");
    }
    if (value.kind == JSON_STRING && json_string_equal(value, STR("arrival"))) {
        return true;
    }
    schema->partition_rule = LAKE_PARTITION_COLUMN;
    return (parse_place(schema, value, &schema->partition_column) &&
            lake_schema_can_partition(&schema->columns[schema->partition_column])) ||
           corrupt(err, "partition_by");
}

static bool parse_sort(struct lake_schema *schema, struct json_span root, struct err *err)
{
    struct json_span list;
    struct json_span value;
    if (!json_find(root, STR("sort_by"), &list) || list.kind != JSON_ARRAY ||
        json_count(list) > schema->columns_count) {
        return corrupt(err, "sort_by");
    }
    schema->sort = mem_alloc_array(schema->columns_count + 1, sizeof(*schema->sort));
    struct json_cursor cursor = json_open(list);
    while (json_next(&cursor, NULL, &value)) {
        if (!parse_place(schema, value, &schema->sort[schema->sort_count])) {
            return corrupt(err, "sort_by");
        }
        schema->sort_count++;
    }
    return true;
}

static bool parse_numbers(struct lake_schema *schema, struct json_span root, struct err *err)
{
    uint64_t days;
    if (!get_u64(root, "retention_days", UINT32_MAX, &days, err) ||
        !get_u64(root, "flush_bytes", UINT64_MAX, &schema->flush_bytes, err) ||
        !get_u64(root, "flush_age_ms", UINT64_MAX, &schema->flush_age_ms, err) ||
        !get_u64(root, "flush_rows", UINT64_MAX, &schema->flush_rows, err) ||
        !get_u64(root, "version", UINT64_MAX, &schema->version, err) ||
        !get_bool(root, "stored", &schema->stored, err)) {
        return false;
    }
    schema->retention_days = (uint32_t)days;
    return true;
}

bool lake_schema_parse(struct str json, const struct lake_schema **ret_schema, struct err *err)
{
    CLEANUP(lake_schema_discard) struct lake_schema *made = lake_schema_copy(NULL);
    struct json_scanner scanner;
    struct json_span root;
    struct err scan_err;
    json_scanner_init(&scanner, json);
    if (!str_is_utf8(json) || !json_scan_document(&scanner, &root, &scan_err) ||
        root.kind != JSON_OBJECT) {
        return corrupt(err, "no JSON object");
    }
    if (!parse_columns(made, root, err) || !parse_partition(made, root, err) ||
        !parse_sort(made, root, err) || !parse_numbers(made, root, err)) {
        return false;
    }
    *ret_schema = TAKE(made);
    return true;
}
