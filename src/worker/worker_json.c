#include "worker_json.h"

#include "json_write.h"
#include "mem.h"
#include "worker_number.h"
#include "worker_shim.h"

enum {
    FLUSH_SIZE = 64 * 1024,
    DAY_MS = 86400000
};

/* How to print one column or one nested part of it; made once per result. */
struct plan {
    duckdb_type type;
    duckdb_type stored; /* DECIMAL and ENUM: the integer type underneath */
    unsigned scale;     /* DECIMAL */
    struct str key;     /* with quotes, colon and, from the second on, a leading comma */
    char **enum_texts;  /* ENUM: each already a JSON string */
    uint64_t enum_count;
    struct plan *parts; /* LIST: one; STRUCT: one per field */
    size_t parts_count;
};

/* The memory of a vector, looked up once per chunk. */
struct view {
    duckdb_vector vector;
    const void *data;
    uint64_t *validity;
    struct view *parts;
};

struct json_encoder {
    struct plan *columns;
    struct view *views;
    size_t columns_count;
    uint64_t rows;
};

static struct str make_key(struct str name, bool first)
{
    struct buf key;
    buf_init(&key, name.len * 6 + 16);
    if (!first) {
        buf_append_byte(&key, ',');
    }
    json_append_string(&key, name);
    buf_append_byte(&key, ':');
    size_t size;
    char *bytes = buf_take(&key, &size);
    return str_make(bytes, size);
}

static void plan_enum(struct plan *plan, duckdb_logical_type type)
{
    plan->stored = duckdb_enum_internal_type(type);
    plan->enum_count = duckdb_enum_dictionary_size(type);
    plan->enum_texts = mem_alloc_array(plan->enum_count, sizeof(*plan->enum_texts));
    for (uint64_t i = 0; i < plan->enum_count; i++) {
        char *text = duckdb_enum_dictionary_value(type, i);
        struct buf quoted;
        buf_init(&quoted, strlen(text) * 6 + 16);
        json_append_string(&quoted, str_of(text));
        size_t size;
        plan->enum_texts[i] = buf_take(&quoted, &size);
        duckdb_free(text);
    }
}

static void plan_init(struct plan *plan, duckdb_logical_type type)
{
    plan->type = duckdb_get_type_id(type);
    if (plan->type == DUCKDB_TYPE_DECIMAL) {
        plan->stored = duckdb_decimal_internal_type(type);
        plan->scale = duckdb_decimal_scale(type);
    } else if (plan->type == DUCKDB_TYPE_ENUM) {
        plan_enum(plan, type);
    } else if (plan->type == DUCKDB_TYPE_LIST) {
        plan->parts_count = 1;
        plan->parts = mem_alloc(sizeof(*plan->parts));
        duckdb_logical_type child = duckdb_list_type_child_type(type);
        plan_init(plan->parts, child);
        duckdb_destroy_logical_type(&child);
    } else if (plan->type == DUCKDB_TYPE_STRUCT) {
        plan->parts_count = duckdb_struct_type_child_count(type);
        plan->parts = mem_alloc_array(plan->parts_count, sizeof(*plan->parts));
        for (size_t i = 0; i < plan->parts_count; i++) {
            duckdb_logical_type child = duckdb_struct_type_child_type(type, i);
            plan_init(&plan->parts[i], child);
            duckdb_destroy_logical_type(&child);
            char *name = duckdb_struct_type_child_name(type, i);
            plan->parts[i].key = make_key(str_of(name), i == 0);
            duckdb_free(name);
        }
    }
}

static void plan_finish(struct plan *plan)
{
    mem_free((char *)(uintptr_t)plan->key.ptr);
    for (uint64_t i = 0; i < plan->enum_count; i++) {
        mem_free(plan->enum_texts[i]);
    }
    mem_free(plan->enum_texts);
    for (size_t i = 0; i < plan->parts_count; i++) {
        plan_finish(&plan->parts[i]);
    }
    mem_free(plan->parts);
}

static void view_init(struct view *view, const struct plan *plan, duckdb_vector vector)
{
    view->vector = vector;
    view->validity = duckdb_vector_get_validity(vector);
    if (plan->type == DUCKDB_TYPE_STRUCT) {
        for (size_t i = 0; i < plan->parts_count; i++) {
            view_init(&view->parts[i], &plan->parts[i], duckdb_struct_vector_get_child(vector, i));
        }
        return;
    }
    view->data = duckdb_vector_get_data(vector);
    if (plan->type == DUCKDB_TYPE_LIST) {
        view_init(view->parts, plan->parts, duckdb_list_vector_get_child(vector));
    }
}

static void view_create_parts(struct view *view, const struct plan *plan)
{
    view->parts = mem_alloc_array(plan->parts_count, sizeof(*view->parts));
    for (size_t i = 0; i < plan->parts_count; i++) {
        view_create_parts(&view->parts[i], &plan->parts[i]);
    }
}

static void view_destroy_parts(struct view *view, const struct plan *plan)
{
    for (size_t i = 0; i < plan->parts_count; i++) {
        view_destroy_parts(&view->parts[i], &plan->parts[i]);
    }
    mem_free(view->parts);
}

#define AT(type_) (((const type_ *)view->data)[row])

static __int128 hugeint_of(duckdb_hugeint value)
{
    return (__int128)((unsigned __int128)(uint64_t)value.upper << 64 | value.lower);
}

static void append_decimal(const struct plan *plan, const struct view *view, uint64_t row,
                           struct buf *out)
{
    __int128 value = plan->stored == DUCKDB_TYPE_SMALLINT  ? AT(int16_t)
                     : plan->stored == DUCKDB_TYPE_INTEGER ? AT(int32_t)
                     : plan->stored == DUCKDB_TYPE_BIGINT  ? AT(int64_t)
                                                           : hugeint_of(AT(duckdb_hugeint));
    number_append_decimal(out, value, plan->scale);
}

static void append_enum(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    uint64_t index = plan->stored == DUCKDB_TYPE_UTINYINT    ? AT(uint8_t)
                     : plan->stored == DUCKDB_TYPE_USMALLINT ? AT(uint16_t)
                                                             : AT(uint32_t);
    buf_append_text(out, index < plan->enum_count ? plan->enum_texts[index] : "null");
}

static void append_blob(duckdb_string_t *blob, struct buf *out)
{
    const unsigned char *bytes = (const unsigned char *)duckdb_string_t_data(blob);
    uint32_t size = duckdb_string_t_length(*blob);
    buf_append_text(out, "{\"type\":\"Buffer\",\"data\":[");
    for (uint32_t i = 0; i < size; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        buf_append_u64(out, bytes[i]);
    }
    buf_append_text(out, "]}");
}

static void append_interval(duckdb_interval interval, struct buf *out)
{
    buf_append_format(out, "{\"months\":%d,\"days\":%d,\"micros\":", interval.months,
                      interval.days);
    number_append_i64(out, interval.micros);
    buf_append_byte(out, '}');
}

/* Whole units per millisecond, rounded down: a time before 1970 must not round up into the next
 * millisecond. */
static void append_timestamp(struct buf *out, int64_t value, int64_t units_per_ms)
{
    if (value == INT64_MAX || value == -INT64_MAX || value == INT64_MIN) {
        buf_append_text(out, "null"); /* the engine's infinities */
        return;
    }
    number_append_timestamp_ms(out, value / units_per_ms - (value % units_per_ms < 0));
}

static void append_large_timestamp(struct buf *out, int64_t value, int64_t ms_per_unit)
{
    int64_t ms;
    if (__builtin_mul_overflow(value, ms_per_unit, &ms)) {
        buf_append_text(out, "null");
    } else {
        number_append_timestamp_ms(out, ms);
    }
}

static void add_text(void *context, const char *bytes, size_t size)
{
    json_append_string(context, str_make(bytes, size));
}

static void append_value(const struct plan *plan, const struct view *view, uint64_t row,
                         struct buf *out);

static void append_list(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    duckdb_list_entry entry = AT(duckdb_list_entry);
    buf_append_byte(out, '[');
    for (uint64_t i = 0; i < entry.length; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        append_value(plan->parts, view->parts, entry.offset + i, out);
    }
    buf_append_byte(out, ']');
}

static void append_struct(const struct plan *plan, const struct view *view, uint64_t row,
                          struct buf *out)
{
    buf_append_byte(out, '{');
    for (size_t i = 0; i < plan->parts_count; i++) {
        buf_append(out, plan->parts[i].key);
        append_value(&plan->parts[i], &view->parts[i], row, out);
    }
    buf_append_byte(out, '}');
}

/* One case per type; everything without a JSON form of its own is the engine's text. */
static void append_value(const struct plan *plan, const struct view *view, uint64_t row,
                         struct buf *out)
{
    if (view->validity != NULL && (view->validity[row / 64] >> (row % 64) & 1) == 0) {
        buf_append_text(out, "null");
        return;
    }
    /* clang-format off */
    switch ((int)plan->type) {
    case DUCKDB_TYPE_SQLNULL:      buf_append_text(out, "null"); break;
    case DUCKDB_TYPE_BOOLEAN:      buf_append_text(out, AT(bool) ? "true" : "false"); break;
    case DUCKDB_TYPE_TINYINT:      buf_append_i64(out, AT(int8_t)); break;
    case DUCKDB_TYPE_SMALLINT:     buf_append_i64(out, AT(int16_t)); break;
    case DUCKDB_TYPE_INTEGER:      buf_append_i64(out, AT(int32_t)); break;
    case DUCKDB_TYPE_BIGINT:       number_append_i64(out, AT(int64_t)); break;
    case DUCKDB_TYPE_UTINYINT:     buf_append_u64(out, AT(uint8_t)); break;
    case DUCKDB_TYPE_USMALLINT:    buf_append_u64(out, AT(uint16_t)); break;
    case DUCKDB_TYPE_UINTEGER:     buf_append_u64(out, AT(uint32_t)); break;
    case DUCKDB_TYPE_UBIGINT:      number_append_u64(out, AT(uint64_t)); break;
    case DUCKDB_TYPE_HUGEINT:      number_append_i128(out, hugeint_of(AT(duckdb_hugeint))); break;
    case DUCKDB_TYPE_UHUGEINT:     number_append_u128(out, (unsigned __int128)hugeint_of(AT(duckdb_hugeint))); break;
    case DUCKDB_TYPE_FLOAT:        number_append_double(out, (double)AT(float)); break;
    case DUCKDB_TYPE_DOUBLE:       number_append_double(out, AT(double)); break;
    case DUCKDB_TYPE_DECIMAL:      append_decimal(plan, view, row, out); break;
    case DUCKDB_TYPE_DATE:         append_large_timestamp(out, AT(int32_t), DAY_MS); break;
    case DUCKDB_TYPE_TIMESTAMP:
    case DUCKDB_TYPE_TIMESTAMP_TZ: append_timestamp(out, AT(int64_t), 1000); break;
    case DUCKDB_TYPE_TIMESTAMP_S:  append_large_timestamp(out, AT(int64_t), 1000); break;
    case DUCKDB_TYPE_TIMESTAMP_MS: append_timestamp(out, AT(int64_t), 1); break;
    case DUCKDB_TYPE_TIMESTAMP_NS: append_timestamp(out, AT(int64_t), 1000000); break;
    case DUCKDB_TYPE_INTERVAL:     append_interval(AT(duckdb_interval), out); break;
    case DUCKDB_TYPE_ENUM:         append_enum(plan, view, row, out); break;
    case DUCKDB_TYPE_LIST:         append_list(plan, view, row, out); break;
    case DUCKDB_TYPE_STRUCT:       append_struct(plan, view, row, out); break;
    case DUCKDB_TYPE_BLOB: {
        duckdb_string_t blob = AT(duckdb_string_t);
        append_blob(&blob, out);
        break;
    }
    case DUCKDB_TYPE_VARCHAR: {
        duckdb_string_t text = AT(duckdb_string_t);
        json_append_string(out, str_make(duckdb_string_t_data(&text), duckdb_string_t_length(text)));
        break;
    }
    default:
        if (!shim_value_text(view->vector, row, add_text, out)) {
            buf_append_text(out, "null");
        }
        break;
    }
    /* clang-format on */
}

static bool is_taken(const struct str *names, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++) {
        if (str_equal(names[i], name)) {
            return true;
        }
    }
    return false;
}

/* The name, or name_1, name_2, ... : the first that no other column of the result has. */
static struct str unique_name(duckdb_result *result, const struct str *used, size_t used_count,
                              struct str name)
{
    struct buf candidate;
    buf_init(&candidate, name.len + 32);
    buf_append(&candidate, name);
    for (unsigned suffix = 1; is_taken(used, used_count, buf_str(&candidate)); suffix++) {
        buf_reset(&candidate);
        buf_append_format(&candidate, "%.*s_%u", STR_ARG(name), suffix);
        for (idx_t i = 0; i < duckdb_column_count(result); i++) {
            if (str_equal(buf_str(&candidate), str_of(duckdb_column_name(result, i)))) {
                buf_reset(&candidate); /* a later column has this very name */
                buf_append(&candidate, name);
                break;
            }
        }
    }
    size_t size;
    char *text = buf_take(&candidate, &size);
    return str_make(text, size);
}

struct json_encoder *json_encoder_create(duckdb_result *result, struct buf *out)
{
    struct json_encoder *encoder = mem_alloc(sizeof(*encoder));
    encoder->columns_count = duckdb_column_count(result);
    encoder->columns = mem_alloc_array(encoder->columns_count, sizeof(*encoder->columns));
    encoder->views = mem_alloc_array(encoder->columns_count, sizeof(*encoder->views));
    struct str *names = mem_alloc_array(encoder->columns_count, sizeof(*names));
    struct json_writer writer;
    json_writer_init(&writer, out);
    json_begin_object(&writer);
    json_key(&writer, STR("columns"));
    json_begin_array(&writer);
    for (size_t i = 0; i < encoder->columns_count; i++) {
        names[i] = unique_name(result, names, i, str_of(duckdb_column_name(result, i)));
        json_put_string(&writer, names[i]);
        duckdb_logical_type type = duckdb_column_logical_type(result, i);
        plan_init(&encoder->columns[i], type);
        duckdb_destroy_logical_type(&type);
        encoder->columns[i].key = make_key(names[i], i == 0);
        view_create_parts(&encoder->views[i], &encoder->columns[i]);
    }
    json_end_array(&writer);
    json_key(&writer, STR("rows"));
    json_begin_array(&writer);
    for (size_t i = 0; i < encoder->columns_count; i++) {
        mem_free((char *)(uintptr_t)names[i].ptr);
    }
    mem_free(names);
    return encoder;
}

void json_encoder_destroy(struct json_encoder *encoder)
{
    if (encoder == NULL) {
        return;
    }
    for (size_t i = 0; i < encoder->columns_count; i++) {
        view_destroy_parts(&encoder->views[i], &encoder->columns[i]);
        plan_finish(&encoder->columns[i]);
    }
    mem_free(encoder->columns);
    mem_free(encoder->views);
    mem_free(encoder);
}

void json_encode_chunk(struct json_encoder *encoder, duckdb_data_chunk chunk, struct buf *out,
                       void (*flush)(void *context, struct buf *out), void *context)
{
    for (size_t i = 0; i < encoder->columns_count; i++) {
        view_init(&encoder->views[i], &encoder->columns[i], duckdb_data_chunk_get_vector(chunk, i));
    }
    uint64_t rows = duckdb_data_chunk_get_size(chunk);
    for (uint64_t row = 0; row < rows; row++) {
        buf_append_text(out, encoder->rows++ == 0 ? "{" : ",{");
        for (size_t i = 0; i < encoder->columns_count; i++) {
            buf_append(out, encoder->columns[i].key);
            append_value(&encoder->columns[i], &encoder->views[i], row, out);
        }
        buf_append_byte(out, '}');
        if (out->len > FLUSH_SIZE) {
            flush(context, out);
        }
    }
}

uint64_t json_encode_end(struct json_encoder *encoder, struct buf *out)
{
    buf_append_text(out, "],\"row_count\":");
    buf_append_u64(out, encoder->rows);
    buf_append_byte(out, '}');
    return encoder->rows;
}
