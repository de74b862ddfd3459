#include "worker_arrow_read_field.h"

#include "json_write.h"
#include "worker_exact.h"
#include "worker_json_text.h"

enum {
    DAY_MS = 86400000,
    VIEW_SIZE = 16,
    VIEW_INLINE_MAX = 12
};

#define APPENDER(name, statement)                                                            \
    void arrow_append_##name(const struct arrow_field *field, uint64_t row, struct buf *out) \
    {                                                                                        \
        (void)field, (void)row;                                                              \
        statement;                                                                           \
    }

static const char *at_row(const struct arrow_field *field, uint64_t row)
{
    return field->data.ptr + row * field->width;
}

/* ---- numbers ---- */

static float load_float(const struct arrow_field *field, uint64_t row)
{
    float value;
    memcpy(&value, at_row(field, row), sizeof(value));
    return value;
}

static double load_double(const struct arrow_field *field, uint64_t row)
{
    double value;
    memcpy(&value, at_row(field, row), sizeof(value));
    return value;
}

/* Half precision: 1 bit of sign, 5 of exponent, 10 of fraction. A float holds each of them. */
static float load_half(const struct arrow_field *field, uint64_t row)
{
    uint16_t bits;
    memcpy(&bits, at_row(field, row), sizeof(bits));
    float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
    unsigned exponent = bits >> 10 & 31;
    float fraction = (float)(bits & 1023);
    if (exponent == 31) {
        return fraction > 0 ? __builtin_nanf("") : sign * __builtin_inff();
    }
    return sign * (exponent == 0 ? fraction * 0x1p-24F
                                 : __builtin_ldexpf(1024 + fraction, (int)exponent - 25));
}

static void append_int(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    int64_t value = arrow_load(field, row);
    if (field->is_signed) {
        exact_append_i64(out, value);
    } else {
        exact_append_u64(out, (uint64_t)value);
    }
}

static bool load_bit(const struct arrow_field *field, uint64_t row)
{
    return ((unsigned char)field->data.ptr[row / 8] >> (row % 8) & 1) != 0;
}

/* ---- texts ---- */

static struct str bytes_of(const struct arrow_field *field, uint64_t row)
{
    uint64_t begin = arrow_offset(field, row);
    return str_make(field->data.ptr + begin, arrow_offset(field, row + 1) - begin);
}

bool arrow_view(const struct arrow_field *field, uint64_t row, struct str *ret_bytes)
{
    const char *view = field->data.ptr + row * VIEW_SIZE;
    int32_t size;
    int32_t buffer;
    int32_t offset;
    memcpy(&size, view, 4);
    memcpy(&buffer, view + 8, 4);
    memcpy(&offset, view + 12, 4);
    if (size >= 0 && size <= VIEW_INLINE_MAX) {
        *ret_bytes = str_make(view + 4, (size_t)size);
        return true;
    }
    if (size < 0 || buffer < 0 || offset < 0 || (size_t)buffer >= field->buffers_count) {
        return false;
    }
    struct str bytes = field->buffers[buffer];
    if ((size_t)offset > bytes.len || (size_t)size > bytes.len - (size_t)offset) {
        return false;
    }
    *ret_bytes = str_make(bytes.ptr + offset, (size_t)size);
    return true;
}

static struct str view_of(const struct arrow_field *field, uint64_t row)
{
    struct str bytes = STR("");
    (void)!arrow_view(field, row, &bytes); /* the bind has looked at it */
    return bytes;
}

static struct str fixed_of(const struct arrow_field *field, uint64_t row)
{
    return str_make(at_row(field, row), field->width);
}

/* ---- times ---- */

static int64_t day_of(int64_t ms)
{
    return ms / DAY_MS - (ms % DAY_MS < 0);
}

static void append_months(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    int32_t months;
    memcpy(&months, at_row(field, row), sizeof(months));
    exact_append_interval(out, months, 0, 0);
}

static void append_days_time(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    int32_t parts[2]; /* days, milliseconds */
    memcpy(parts, at_row(field, row), sizeof(parts));
    exact_append_interval(out, 0, parts[0], (int64_t)parts[1] * 1000000);
}

static void append_interval(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    int32_t parts[2]; /* months, days */
    int64_t nanoseconds;
    memcpy(parts, at_row(field, row), sizeof(parts));
    memcpy(&nanoseconds, at_row(field, row) + sizeof(parts), sizeof(nanoseconds));
    exact_append_interval(out, parts[0], parts[1], nanoseconds);
}

/* ---- nested ---- */

void arrow_append_value(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    if (arrow_has(field, row)) {
        field->append(field, row, out);
    } else {
        buf_append(out, STR("null"));
    }
}

static void append_items(const struct arrow_field *items, uint64_t begin, uint64_t end,
                         struct buf *out)
{
    buf_append_byte(out, '[');
    for (uint64_t i = begin; i < end && !buf_failed(out);
         i++) { /* of nulls there can be any number */
        if (i > begin) {
            buf_append_byte(out, ',');
        }
        arrow_append_value(items, i, out);
    }
    buf_append_byte(out, ']');
}

static void append_struct(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    buf_append_byte(out, '{');
    for (size_t i = 0; i < field->parts_count; i++) {
        buf_append(out, field->parts[i].key);
        arrow_append_value(&field->parts[i], row, out);
    }
    buf_append_byte(out, '}');
}

/* Keys that are no strings become the strings of their JSON. */
static void append_map_key(const struct arrow_field *key, uint64_t row, struct buf *out)
{
    size_t at = out->len;
    arrow_append_value(key, row, out);
    if (buf_failed(out) || out->ptr[at] == '"') {
        return;
    }
    struct buf plain;
    buf_init(&plain, out->size_max);
    buf_append(&plain, str_from(buf_str(out), at));
    out->failed |= buf_failed(&plain);
    buf_truncate(out, at);
    json_append_string(out, buf_str(&plain));
    buf_finish(&plain);
}

static void append_map(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    const struct arrow_field *pair = field->parts;
    uint64_t begin = arrow_offset(field, row);
    uint64_t end = arrow_offset(field, row + 1);
    buf_append_byte(out, '{');
    for (uint64_t i = begin; i < end && !buf_failed(out); i++) {
        if (i > begin) {
            buf_append_byte(out, ',');
        }
        append_map_key(&pair->parts[0], i, out);
        buf_append_byte(out, ':');
        arrow_append_value(&pair->parts[1], i, out);
    }
    buf_append_byte(out, '}');
}

static void append_index(const struct arrow_field *field, uint64_t row, struct buf *out)
{
    const struct arrow_dictionary *dictionary = field->dictionary;
    const char *ends = dictionary->ends.ptr;
    size_t index = (size_t)arrow_load(field, row);
    size_t begin = 0;
    size_t end;
    memcpy(&end, ends + index * sizeof(end), sizeof(end));
    if (index > 0) {
        memcpy(&begin, ends + (index - 1) * sizeof(begin), sizeof(begin));
    }
    buf_append_bytes(out, dictionary->texts.ptr + begin, end - begin);
}

/* clang-format off */
APPENDER(null,        buf_append(out, STR("null")))
APPENDER(bool,        buf_append(out, load_bit(field, row) ? STR("true") : STR("false")))
APPENDER(int,         append_int(field, row, out))
APPENDER(half,        exact_append_float(out, load_half(field, row), field->nested))
APPENDER(float,       exact_append_float(out, load_float(field, row), field->nested))
APPENDER(double,      exact_append_double(out, load_double(field, row), field->nested))
APPENDER(decimal,     exact_append_decimal(out, (const unsigned char *)at_row(field, row), field->width, field->scale))
APPENDER(text,        json_text_append(out, bytes_of(field, row)))
APPENDER(text_view,   json_text_append(out, view_of(field, row)))
APPENDER(blob,        exact_append_blob(out, bytes_of(field, row)))
APPENDER(blob_view,   exact_append_blob(out, view_of(field, row)))
APPENDER(fixed_blob,  exact_append_blob(out, fixed_of(field, row)))
APPENDER(uuid,        exact_append_uuid(out, (const unsigned char *)at_row(field, row)))
APPENDER(day,         exact_append_date(out, arrow_load(field, row)))
APPENDER(day_ms,      exact_append_date(out, day_of(arrow_load(field, row))))
APPENDER(time,        exact_append_time(out, arrow_load(field, row), field->digits))
APPENDER(timestamp,   exact_append_timestamp(out, arrow_load(field, row), field->digits, field->zone))
APPENDER(duration,    exact_append_duration(out, arrow_load(field, row), field->digits))
APPENDER(months,      append_months(field, row, out))
APPENDER(days_time,   append_days_time(field, row, out))
APPENDER(interval,    append_interval(field, row, out))
APPENDER(list,        append_items(field->parts, arrow_offset(field, row), arrow_offset(field, row + 1), out))
APPENDER(fixed_list,  append_items(field->parts, row * field->list_size, (row + 1) * field->list_size, out))
APPENDER(struct,      append_struct(field, row, out))
APPENDER(map,         append_map(field, row, out))
APPENDER(index,       append_index(field, row, out))
/* clang-format on */
