#include "worker_json.h"

#include "json_write.h"
#include "mem.h"
#include "worker_columns.h"
#include "worker_json_plan.h"
#include "worker_json_text.h"
#include "worker_number.h"

enum {
    DAY_MS = 86400000
};

struct json_encoder {
    struct plan *columns;
    struct view *views;
    size_t columns_count;
    bool lines;
    bool begun; /* a row has been written */
};

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
    buf_append(out, index < plan->enum_count ? plan->enum_texts[index] : STR("null"));
}

static void append_blob(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    (void)plan;
    duckdb_string_t blob = AT(duckdb_string_t);
    const unsigned char *bytes = (const unsigned char *)duckdb_string_t_data(&blob);
    uint32_t size = duckdb_string_t_length(blob);
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

void plan_append_varchar(const struct plan *plan, const struct view *view, uint64_t row,
                         struct buf *out)
{
    (void)plan;
    const duckdb_string_t *at = &AT(duckdb_string_t);
    duckdb_string_t text = *at;
    json_text_append(out, str_make(duckdb_string_t_data(&text), duckdb_string_t_length(text)));
}

static void add_text(void *context, const char *bytes, size_t size)
{
    json_append_string(context, str_make(bytes, size));
}

/* Everything without a JSON form of its own is the engine's text. */
void plan_append_engine_text(const struct plan *plan, const struct view *view, uint64_t row,
                             struct buf *out)
{
    (void)plan;
    if (!shim_value_text(view->vector, row, add_text, out)) {
        buf_append_text(out, "null");
    }
}

void plan_append_value(const struct plan *plan, const struct view *view, uint64_t row,
                       struct buf *out)
{
    if (column_has(view->validity, row)) {
        plan->append(plan, view, row, out);
    } else {
        buf_append(out, STR("null"));
    }
}

void plan_append_list(const struct plan *plan, const struct view *view, uint64_t row,
                      struct buf *out)
{
    duckdb_list_entry entry = AT(duckdb_list_entry);
    buf_append_byte(out, '[');
    for (uint64_t i = 0; i < entry.length; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        plan_append_value(plan->parts, view->parts, entry.offset + i, out);
    }
    buf_append_byte(out, ']');
}

/* Keys are short, and there are as many as values: they are copied in steps of a fixed size. */
static void append_key(struct buf *out, struct str key)
{
    char *at = buf_room(out, key.len + PLAN_KEY_STEP);
    if (at == NULL) {
        return;
    }
    for (size_t i = 0; i < key.len; i += PLAN_KEY_STEP) {
        memcpy(at + i, key.ptr + i, PLAN_KEY_STEP);
    }
    buf_wrote(out, at + key.len);
}

void plan_append_struct(const struct plan *plan, const struct view *view, uint64_t row,
                        struct buf *out)
{
    buf_append_byte(out, '{');
    for (size_t i = 0; i < plan->parts_count; i++) {
        append_key(out, plan->parts[i].key);
        plan_append_value(&plan->parts[i], &view->parts[i], row, out);
    }
    buf_append_byte(out, '}');
}

/* clang-format off */
APPENDER(append_null,         buf_append_text(out, "null"))
APPENDER(append_bool,         buf_append(out, AT(bool) ? STR("true") : STR("false")))
APPENDER(append_tinyint,      number_append_i64(out, AT(int8_t)))
APPENDER(append_smallint,     number_append_i64(out, AT(int16_t)))
APPENDER(append_integer,      number_append_i64(out, AT(int32_t)))
APPENDER(append_bigint,       number_append_i64(out, AT(int64_t)))
APPENDER(append_utinyint,     number_append_i64(out, AT(uint8_t)))
APPENDER(append_usmallint,    number_append_i64(out, AT(uint16_t)))
APPENDER(append_uinteger,     number_append_i64(out, AT(uint32_t)))
APPENDER(append_ubigint,      number_append_u64(out, AT(uint64_t)))
APPENDER(append_hugeint,      number_append_i128(out, hugeint_of(AT(duckdb_hugeint))))
APPENDER(append_uhugeint,     number_append_u128(out, (unsigned __int128)hugeint_of(AT(duckdb_hugeint))))
APPENDER(append_float,        number_append_double(out, (double)AT(float)))
APPENDER(append_double,       number_append_double(out, AT(double)))
APPENDER(append_date,         append_large_timestamp(out, AT(int32_t), DAY_MS))
APPENDER(append_timestamp_us, append_timestamp(out, AT(int64_t), 1000))
APPENDER(append_timestamp_s,  append_large_timestamp(out, AT(int64_t), 1000))
APPENDER(append_timestamp_ms, append_timestamp(out, AT(int64_t), 1))
APPENDER(append_timestamp_ns, append_timestamp(out, AT(int64_t), 1000000))
APPENDER(append_months_days,  append_interval(AT(duckdb_interval), out))

/* One row per type that has a JSON form of its own. */
static value_appender *const appenders[] = {
    [DUCKDB_TYPE_SQLNULL]      = append_null,
    [DUCKDB_TYPE_BOOLEAN]      = append_bool,
    [DUCKDB_TYPE_TINYINT]      = append_tinyint,
    [DUCKDB_TYPE_SMALLINT]     = append_smallint,
    [DUCKDB_TYPE_INTEGER]      = append_integer,
    [DUCKDB_TYPE_BIGINT]       = append_bigint,
    [DUCKDB_TYPE_UTINYINT]     = append_utinyint,
    [DUCKDB_TYPE_USMALLINT]    = append_usmallint,
    [DUCKDB_TYPE_UINTEGER]     = append_uinteger,
    [DUCKDB_TYPE_UBIGINT]      = append_ubigint,
    [DUCKDB_TYPE_HUGEINT]      = append_hugeint,
    [DUCKDB_TYPE_UHUGEINT]     = append_uhugeint,
    [DUCKDB_TYPE_FLOAT]        = append_float,
    [DUCKDB_TYPE_DOUBLE]       = append_double,
    [DUCKDB_TYPE_DECIMAL]      = append_decimal,
    [DUCKDB_TYPE_DATE]         = append_date,
    [DUCKDB_TYPE_TIMESTAMP]    = append_timestamp_us,
    [DUCKDB_TYPE_TIMESTAMP_TZ] = append_timestamp_us,
    [DUCKDB_TYPE_TIMESTAMP_S]  = append_timestamp_s,
    [DUCKDB_TYPE_TIMESTAMP_MS] = append_timestamp_ms,
    [DUCKDB_TYPE_TIMESTAMP_NS] = append_timestamp_ns,
    [DUCKDB_TYPE_INTERVAL]     = append_months_days,
    [DUCKDB_TYPE_ENUM]         = append_enum,
    [DUCKDB_TYPE_LIST]         = plan_append_list,
    [DUCKDB_TYPE_STRUCT]       = plan_append_struct,
    [DUCKDB_TYPE_BLOB]         = append_blob,
    [DUCKDB_TYPE_VARCHAR]      = plan_append_varchar,
};
/* clang-format on */

value_appender *plan_json_appender(duckdb_type type)
{
    bool known = (size_t)type < COUNT_OF(appenders) && appenders[type] != NULL;
    return known ? appenders[type] : plan_append_engine_text;
}

static struct json_encoder *encoder_create(duckdb_result *result, const struct str *names,
                                           enum plan_style style)
{
    struct json_encoder *encoder = mem_alloc(sizeof(*encoder));
    encoder->columns_count = duckdb_column_count(result);
    encoder->columns = mem_alloc_array(encoder->columns_count, sizeof(*encoder->columns));
    encoder->views = mem_alloc_array(encoder->columns_count, sizeof(*encoder->views));
    for (size_t i = 0; i < encoder->columns_count; i++) {
        duckdb_logical_type type = duckdb_column_logical_type(result, i);
        plan_init(&encoder->columns[i], type, style);
        duckdb_destroy_logical_type(&type);
        encoder->columns[i].key = plan_make_key(names[i], i == 0);
        view_create_parts(&encoder->views[i], &encoder->columns[i]);
    }
    return encoder;
}

void *json_create(duckdb_result *result, const struct str *names, struct sink *sink)
{
    struct json_encoder *encoder = encoder_create(result, names, PLAN_JSON);
    struct json_writer writer;
    json_writer_init(&writer, &sink->out);
    json_begin_object(&writer);
    json_key(&writer, STR("columns"));
    json_begin_array(&writer);
    for (size_t i = 0; i < encoder->columns_count; i++) {
        json_put_string(&writer, names[i]);
    }
    json_end_array(&writer);
    json_key(&writer, STR("rows"));
    json_begin_array(&writer);
    return encoder;
}

void *ndjson_create(duckdb_result *result, const struct str *names, struct sink *sink)
{
    (void)sink;
    struct json_encoder *encoder = encoder_create(result, names, PLAN_JSON);
    encoder->lines = true;
    return encoder;
}

void *exact_create(duckdb_result *result, const struct str *names, struct sink *sink)
{
    (void)sink;
    struct json_encoder *encoder = encoder_create(result, names, PLAN_EXACT);
    encoder->lines = true;
    return encoder;
}

void json_destroy(void *state)
{
    struct json_encoder *encoder = state;
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

static void append_row(struct json_encoder *encoder, uint64_t row, struct buf *out)
{
    buf_append(out, encoder->begun && !encoder->lines ? STR(",{") : STR("{"));
    encoder->begun = true;
    for (size_t i = 0; i < encoder->columns_count; i++) {
        append_key(out, encoder->columns[i].key);
        plan_append_value(&encoder->columns[i], &encoder->views[i], row, out);
    }
    buf_append(out, encoder->lines ? STR("}\n") : STR("}"));
}

bool json_put(void *state, duckdb_data_chunk chunk, uint64_t rows, struct sink *sink,
              struct err *err)
{
    (void)err; /* every value has a JSON form */
    struct json_encoder *encoder = state;
    for (size_t i = 0; i < encoder->columns_count; i++) {
        view_init(&encoder->views[i], &encoder->columns[i], duckdb_data_chunk_get_vector(chunk, i));
    }
    for (uint64_t row = 0; row < rows; row++) {
        append_row(encoder, row, &sink->out);
        if (sink_is_full(sink)) {
            sink_flush(sink);
        }
    }
    return true;
}

void json_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink)
{
    (void)state;
    buf_append_text(&sink->out, "],\"row_count\":");
    buf_append_u64(&sink->out, outcome->rows);
    if (limited) {
        buf_append_text(&sink->out, ",\"truncated\":");
        buf_append_text(&sink->out, outcome->truncated ? "true" : "false");
    }
    buf_append_byte(&sink->out, '}');
}

void ndjson_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink)
{
    (void)state;
    (void)outcome;
    (void)limited;
    (void)sink; /* the last line has its end */
}
