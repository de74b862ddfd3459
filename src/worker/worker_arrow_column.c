#include "worker_arrow_column.h"

#include "mem.h"
#include "worker_arrow_append.h"

enum {
    COLUMN_SIZE_MAX = INT32_MAX - 64
};

/* Time units of Arrow's Schema.fbs; an Int's second field says that it is signed. */
enum {
    SECOND = 0,
    MILLISECOND = 1,
    MICROSECOND = 2,
    NANOSECOND = 3
};

#define DAY_US INT64_C(86400000000)

static void set_fields(struct arrow_column *column, const struct flat_field *fields, size_t count)
{
    assert(count <= ARROW_TYPE_FIELDS_MAX);
    memcpy(column->fields, fields, count * sizeof(*fields));
    column->fields_count = count;
}

#define FIELDS(column, ...)                                        \
    set_fields((column), (const struct flat_field[]){__VA_ARGS__}, \
               COUNT_OF(((const struct flat_field[]){__VA_ARGS__})))

/* Types whose values are copied as they are. */
static bool init_number(struct arrow_column *column, duckdb_type type)
{
    /* clang-format off */
    static const struct { uint8_t bits; bool is_signed; } integers[] = {
        [DUCKDB_TYPE_TINYINT]   = { 8, true },   [DUCKDB_TYPE_UTINYINT]  = { 8, false },
        [DUCKDB_TYPE_SMALLINT]  = { 16, true },  [DUCKDB_TYPE_USMALLINT] = { 16, false },
        [DUCKDB_TYPE_INTEGER]   = { 32, true },  [DUCKDB_TYPE_UINTEGER]  = { 32, false },
        [DUCKDB_TYPE_BIGINT]    = { 64, true },  [DUCKDB_TYPE_UBIGINT]   = { 64, false },
    };
    /* clang-format on */
    column->append = append_fixed;
    if ((size_t)type < COUNT_OF(integers) && integers[type].bits > 0) {
        column->type = ARROW_INT;
        column->width = integers[type].bits / 8;
        FIELDS(column, {.slot = 0, .size = 4, .value = integers[type].bits},
               {.slot = 1, .size = 1, .value = integers[type].is_signed});
        return true;
    }
    if (type == DUCKDB_TYPE_FLOAT || type == DUCKDB_TYPE_DOUBLE) {
        column->type = ARROW_FLOAT;
        column->width = type == DUCKDB_TYPE_FLOAT ? 4 : 8;
        FIELDS(column, {.slot = 0, .size = 2, .value = type == DUCKDB_TYPE_FLOAT ? 1 : 2});
        return true;
    }
    return false;
}

static bool init_time(struct arrow_column *column, duckdb_type type)
{
    /* clang-format off */
    static const struct { bool known; int unit; } timestamps[] = {
        [DUCKDB_TYPE_TIMESTAMP_S]  = { true, SECOND },
        [DUCKDB_TYPE_TIMESTAMP_MS] = { true, MILLISECOND },
        [DUCKDB_TYPE_TIMESTAMP]    = { true, MICROSECOND },
        [DUCKDB_TYPE_TIMESTAMP_TZ] = { true, MICROSECOND },
        [DUCKDB_TYPE_TIMESTAMP_NS] = { true, NANOSECOND },
    };
    /* clang-format on */
    column->width = 8;
    if ((size_t)type < COUNT_OF(timestamps) && timestamps[type].known) {
        column->type = ARROW_TIMESTAMP;
        column->append = append_timestamp;
        column->utc = type == DUCKDB_TYPE_TIMESTAMP_TZ;
        FIELDS(column, {.slot = 0, .size = 2, .value = timestamps[type].unit},
               {.slot = 1, .size = 4});
        column->fields_count = column->utc ? 2 : 1;
    } else if (type == DUCKDB_TYPE_DATE) {
        column->type = ARROW_DATE;
        column->append = append_date;
        column->width = 4;
        FIELDS(column, {.slot = 0, .size = 2, .value = 0 /* days */});
    } else if (type == DUCKDB_TYPE_TIME || type == DUCKDB_TYPE_TIME_NS) {
        bool nano = type == DUCKDB_TYPE_TIME_NS;
        column->type = ARROW_TIME;
        column->append = append_time;
        column->limit = nano ? DAY_US * 1000 : DAY_US;
        FIELDS(column, {.slot = 0, .size = 2, .value = nano ? NANOSECOND : MICROSECOND},
               {.slot = 1, .size = 4, .value = 64});
    } else if (type == DUCKDB_TYPE_INTERVAL) {
        column->type = ARROW_INTERVAL;
        column->append = append_interval;
        column->width = 16;
        FIELDS(column, {.slot = 0, .size = 2, .value = 2 /* months, days, nanoseconds */});
    } else {
        return false;
    }
    return true;
}

static void init_decimal(struct arrow_column *column, unsigned precision, unsigned scale)
{
    column->type = ARROW_DECIMAL;
    column->width = 16;
    FIELDS(column, {.slot = 0, .size = 4, .value = precision},
           {.slot = 1, .size = 4, .value = scale}, {.slot = 2, .size = 4, .value = 128});
}

static size_t stored_width(duckdb_type type)
{
    bool one = type == DUCKDB_TYPE_UTINYINT;
    bool two = type == DUCKDB_TYPE_SMALLINT || type == DUCKDB_TYPE_USMALLINT;
    bool eight = type == DUCKDB_TYPE_BIGINT;
    return one ? 1 : two ? 2 : eight ? 8 : type == DUCKDB_TYPE_HUGEINT ? 16 : 4;
}

static void init_enum(struct arrow_column *column, duckdb_logical_type type)
{
    column->type = ARROW_UTF8;
    column->append = append_fixed;
    column->width = stored_width(duckdb_enum_internal_type(type));
    column->texts_count = duckdb_enum_dictionary_size(type);
    column->texts = mem_alloc_array(column->texts_count + 1, sizeof(*column->texts));
    for (size_t i = 0; i < column->texts_count; i++) {
        char *text = duckdb_enum_dictionary_value(type, i);
        column->texts[i] = str_of(mem_copy_text(text));
        duckdb_free(text);
    }
}

/* Numbers that are more than their bytes. */
static bool init_wide(struct arrow_column *column, duckdb_type type, duckdb_logical_type logical)
{
    if (type == DUCKDB_TYPE_DECIMAL) {
        init_decimal(column, duckdb_decimal_width(logical), duckdb_decimal_scale(logical));
        column->source_width = stored_width(duckdb_decimal_internal_type(logical));
        column->append = column->source_width == 16 ? append_fixed : append_decimal;
    } else if (type == DUCKDB_TYPE_HUGEINT) {
        init_decimal(column, 38, 0);
        column->append = append_hugeint;
    } else if (type == DUCKDB_TYPE_UUID) {
        column->type = ARROW_FIXED_BINARY;
        column->append = append_uuid;
        column->width = 16;
        column->uuid = true;
        FIELDS(column, {.slot = 0, .size = 4, .value = 16});
    } else if (type == DUCKDB_TYPE_ENUM) {
        init_enum(column, logical);
    } else if (type == DUCKDB_TYPE_BOOLEAN) {
        column->type = ARROW_BOOL;
        column->append = append_bool;
    } else if (type == DUCKDB_TYPE_SQLNULL) {
        column->type = ARROW_NULL;
        column->append = append_nothing;
    } else {
        return false;
    }
    return true;
}

static void init_part(struct arrow_column *column, size_t index, struct str name,
                      duckdb_logical_type type)
{
    arrow_column_init(&column->parts[index], name, type);
    duckdb_destroy_logical_type(&type);
}

static void make_parts(struct arrow_column *column, size_t count)
{
    column->parts_count = count;
    column->parts = mem_alloc_array(count, sizeof(*column->parts));
}

/* A MAP is a list of structs of key and value. */
static void init_map(struct arrow_column *column, duckdb_logical_type type)
{
    column->type = ARROW_MAP;
    column->append = append_list;
    FIELDS(column, {.slot = 0, .size = 1, .value = 0 /* keys are not sorted */});
    make_parts(column, 1);
    struct arrow_column *entries = column->parts;
    *entries = (struct arrow_column){
        .name = str_of(mem_copy_text("entries")),
        .type = ARROW_STRUCT,
        .append = append_struct,
        .required = true,
    };
    make_parts(entries, 2);
    init_part(entries, 0, STR("key"), duckdb_map_type_key_type(type));
    init_part(entries, 1, STR("value"), duckdb_map_type_value_type(type));
    entries->parts[0].required = true;
}

static void init_struct(struct arrow_column *column, duckdb_logical_type type)
{
    column->type = ARROW_STRUCT;
    column->append = append_struct;
    make_parts(column, duckdb_struct_type_child_count(type));
    for (size_t i = 0; i < column->parts_count; i++) {
        char *name = duckdb_struct_type_child_name(type, i);
        init_part(column, i, str_of(name), duckdb_struct_type_child_type(type, i));
        duckdb_free(name);
    }
}

static bool init_nested(struct arrow_column *column, duckdb_type type, duckdb_logical_type logical)
{
    column->width = 0;
    if (type == DUCKDB_TYPE_LIST) {
        column->type = ARROW_LIST;
        column->append = append_list;
        make_parts(column, 1);
        init_part(column, 0, STR("item"), duckdb_list_type_child_type(logical));
    } else if (type == DUCKDB_TYPE_ARRAY) {
        column->type = ARROW_FIXED_LIST;
        column->append = append_array;
        column->list_size = duckdb_array_type_array_size(logical);
        FIELDS(column, {.slot = 0, .size = 4, .value = (int64_t)column->list_size});
        make_parts(column, 1);
        init_part(column, 0, STR("item"), duckdb_array_type_child_type(logical));
    } else if (type == DUCKDB_TYPE_STRUCT) {
        init_struct(column, logical);
    } else if (type == DUCKDB_TYPE_MAP) {
        init_map(column, logical);
    } else {
        return false;
    }
    return true;
}

/* What has no type of its own in Arrow is the engine's text. */
static void init_text(struct arrow_column *column, duckdb_type type)
{
    column->width = 0;
    column->type = type == DUCKDB_TYPE_BLOB ? ARROW_BINARY : ARROW_UTF8;
    column->append = append_bytes;
    column->cast = type != DUCKDB_TYPE_BLOB && type != DUCKDB_TYPE_VARCHAR;
}

void arrow_column_init(struct arrow_column *column, struct str name, duckdb_logical_type type)
{
    *column = (struct arrow_column){0};
    size_t size = name.len;
    column->name = str_make(mem_copy_bytes(name.ptr, size), size);
    duckdb_type id = duckdb_get_type_id(type);
    bool known = init_number(column, id) || init_wide(column, id, type) || init_time(column, id) ||
                 init_nested(column, id, type);
    if (!known) {
        init_text(column, id);
    }
    arrow_column_reset(column);
}

void arrow_column_finish(struct arrow_column *column)
{
    duckdb_destroy_vector(&column->texts_vector);
    for (size_t i = 0; i < column->parts_count; i++) {
        arrow_column_finish(&column->parts[i]);
    }
    for (size_t i = 0; i < column->texts_count; i++) {
        mem_free((char *)(uintptr_t)column->texts[i].ptr);
    }
    mem_free((char *)(uintptr_t)column->name.ptr);
    mem_free(column->texts);
    mem_free(column->parts);
    buf_finish(&column->validity);
    buf_finish(&column->offsets);
    buf_finish(&column->data);
    *column = (struct arrow_column){0};
}

static void reset_buffer(struct buf *buf)
{
    if (buf->size_max == 0) {
        buf_init(buf, COLUMN_SIZE_MAX);
    }
    buf_reset(buf);
}

void arrow_column_reset(struct arrow_column *column)
{
    column->rows = 0;
    column->null_count = 0;
    reset_buffer(&column->validity);
    reset_buffer(&column->offsets);
    reset_buffer(&column->data);
    flat_put_u32(&column->offsets, 0);
    for (size_t i = 0; i < column->parts_count; i++) {
        arrow_column_reset(&column->parts[i]);
    }
}

static bool bind_text(struct arrow_column *column, duckdb_vector *vector, uint64_t rows,
                      char problem[SHIM_TEXT_SIZE])
{
    duckdb_destroy_vector(&column->texts_vector);
    duckdb_logical_type text = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    column->texts_vector = duckdb_create_vector(text, rows > 0 ? rows : 1);
    duckdb_destroy_logical_type(&text);
    bool good = shim_cast(*vector, column->texts_vector, rows, problem);
    *vector = column->texts_vector;
    return good;
}

bool arrow_column_bind(struct arrow_column *column, duckdb_vector vector, uint64_t rows,
                       char problem[SHIM_TEXT_SIZE])
{
    if (column->cast && !bind_text(column, &vector, rows, problem)) {
        return false;
    }
    column->source_validity = duckdb_vector_get_validity(vector);
    if (column->type == ARROW_STRUCT) {
        for (size_t i = 0; i < column->parts_count; i++) {
            duckdb_vector part = duckdb_struct_vector_get_child(vector, i);
            if (!arrow_column_bind(&column->parts[i], part, rows, problem)) {
                return false;
            }
        }
        return true;
    }
    if (column->type == ARROW_FIXED_LIST) {
        return arrow_column_bind(column->parts, duckdb_array_vector_get_child(vector),
                                 rows * column->list_size, problem);
    }
    column->source = duckdb_vector_get_data(vector);
    bool list = column->type == ARROW_LIST || column->type == ARROW_MAP;
    return !list || arrow_column_bind(column->parts, duckdb_list_vector_get_child(vector),
                                      duckdb_list_vector_get_size(vector), problem);
}

size_t arrow_column_size(const struct arrow_column *column)
{
    size_t size = column->validity.len + column->offsets.len + column->data.len;
    for (size_t i = 0; i < column->parts_count; i++) {
        size += arrow_column_size(&column->parts[i]);
    }
    return size;
}

const struct arrow_column *arrow_column_failed(const struct arrow_column *column)
{
    if (column->problem != NULL || buf_failed(&column->validity) || buf_failed(&column->offsets) ||
        buf_failed(&column->data)) {
        return column;
    }
    const struct arrow_column *failed = NULL;
    for (size_t i = 0; failed == NULL && i < column->parts_count; i++) {
        failed = arrow_column_failed(&column->parts[i]);
    }
    return failed;
}
