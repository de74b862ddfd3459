#include "lake_rows.h"

#include "lake_rows_line.h"
#include "lake_rows_record.h"
#include "mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What has been seen in a column, as bits. */
enum {
    SAW_BOOL = 1 << 0,
    SAW_INT64 = 1 << 1,    /* an integer within 64 bits, signed */
    SAW_INT128 = 1 << 2,   /* within 38 digits */
    SAW_LONG = 1 << 3,     /* beyond that */
    SAW_INEXACT = 1 << 4,  /* an integer that no double holds */
    SAW_REAL = 1 << 5,     /* also NaN and the infinities */
    SAW_OVERFLOW = 1 << 6, /* a real too large for a double */
    SAW_TEXT = 1 << 7,     /* a string or a nested value */
};

enum {
    DECIMAL_DIGITS_MAX = 38,
    DOUBLE_DIGITS_MAX = 309
};

enum column_type {
    TYPE_BOOLEAN,
    TYPE_BIGINT,
    TYPE_DECIMAL,
    TYPE_DOUBLE,
    TYPE_VARCHAR
};

/* clang-format off */
static const struct { const char *sql_type; const char *line_type; } types[] = {
    [TYPE_BOOLEAN] = { "BOOLEAN",       "BOOLEAN" },
    [TYPE_BIGINT]  = { "BIGINT",        "BIGINT"  },
    [TYPE_DECIMAL] = { "DECIMAL(38,0)", "VARCHAR" },
    [TYPE_DOUBLE]  = { "DOUBLE",        "DOUBLE"  },
    [TYPE_VARCHAR] = { "VARCHAR",       "VARCHAR" },
};
/* clang-format on */

struct inference {
    struct record record;
    unsigned char seen[LAKE_ROWS_COLUMNS_MAX];
    unsigned char type[LAKE_ROWS_COLUMNS_MAX];
};

static void destroy_inference(struct inference **inference)
{
    record_finish(&(*inference)->record);
    mem_free(*inference);
}

void lake_rows_finish(struct lake_rows *rows)
{
    for (size_t i = 0; i < rows->columns_count; i++) {
        mem_free(rows->columns[i].name);
        mem_free(rows->columns[i].sql_type);
    }
    mem_free(rows->columns);
    buf_finish(&rows->lines);
    *rows = (struct lake_rows){0};
}

/* --- what a number is ------------------------------------------------------------------ */

/* Exact when at most 53 bits stand between the highest and the lowest one. */
static bool fits_double(uint64_t magnitude)
{
    return magnitude == 0 || magnitude >> __builtin_ctzll(magnitude) < UINT64_C(1) << 53;
}

/* For integers beyond 64 bits: the double nearest to it, written in full, has the same digits or
 * not. */
static bool long_fits_double(struct str digits)
{
    char text[DOUBLE_DIGITS_MAX + 2];
    char again[DOUBLE_DIGITS_MAX + 2];
    if (digits.len > DOUBLE_DIGITS_MAX) {
        return false;
    }
    memcpy(text, digits.ptr, digits.len);
    text[digits.len] = '\0';
    double value = strtod(text, NULL);
    return isfinite(value) && snprintf(again, sizeof(again), "%.0f", value) == (int)digits.len &&
           memcmp(again, text, digits.len) == 0;
}

static unsigned look_at_integer(struct str text)
{
    bool negative = text.ptr[0] == '-';
    struct str digits = str_from(text, negative ? 1 : 0);
    uint64_t magnitude = 0;
    bool small = digits.len <= 19; /* 19 digits always fit 64 bits without a sign */
    for (size_t i = 0; small && i < digits.len; i++) {
        magnitude = magnitude * 10 + (uint64_t)(digits.ptr[i] - '0');
    }
    if (small && magnitude <= (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return SAW_INT64 | (fits_double(magnitude) ? 0 : SAW_INEXACT);
    }
    unsigned exact = long_fits_double(digits) ? 0 : SAW_INEXACT;
    return exact | (digits.len <= DECIMAL_DIGITS_MAX ? SAW_INT128 : SAW_LONG);
}

/* Only a long number or an exponent can lead beyond the range of a double. */
static unsigned look_at_real(struct str text)
{
    bool exponent = str_find_byte(text, 'e') < text.len || str_find_byte(text, 'E') < text.len;
    if (!exponent && text.len < DOUBLE_DIGITS_MAX) {
        return SAW_REAL;
    }
    CLEANUP(mem_free_text) char *copy = mem_copy_bytes(text.ptr, text.len);
    return SAW_REAL | (isinf(strtod(copy, NULL)) ? SAW_OVERFLOW : 0);
}

/* --- first pass: types ----------------------------------------------------------------- */

static unsigned look_at(struct json_span value)
{
    switch (value.kind) {
    case JSON_NULL:
        return 0;
    case JSON_BOOL:
        return SAW_BOOL;
    case JSON_INTEGER:
        return look_at_integer(value.text);
    case JSON_REAL:
        return look_at_real(value.text);
    case JSON_NONFINITE:
        return SAW_REAL;
    case JSON_STRING:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return SAW_TEXT;
}

static enum column_type decide(unsigned seen)
{
    const unsigned integers = SAW_INT64 | SAW_INT128;
    if ((seen & (SAW_TEXT | SAW_OVERFLOW)) != 0 || seen == 0) {
        return TYPE_VARCHAR;
    }
    if ((seen & SAW_BOOL) != 0) {
        return seen == SAW_BOOL ? TYPE_BOOLEAN : TYPE_VARCHAR;
    }
    if ((seen & SAW_REAL) != 0) {
        return (seen & SAW_INEXACT) == 0 ? TYPE_DOUBLE : TYPE_VARCHAR;
    }
    seen &= ~(unsigned)SAW_INEXACT;
    return seen == SAW_INT64 ? TYPE_BIGINT : (seen & ~integers) == 0 ? TYPE_DECIMAL : TYPE_VARCHAR;
}

static bool check_surrogates(struct json_span value, struct str name, uint64_t index,
                             struct err *err)
{
    bool can_escape = value.escaped || value.kind == JSON_OBJECT || value.kind == JSON_ARRAY;
    if (!can_escape || line_find_unpaired(value.text) == value.text.len) {
        return true;
    }
    return err_set(err, ERR_INVALID,
                   "record %llu, column \"%.*s\": the %s has an unpaired surrogate escape",
                   (unsigned long long)index, STR_ARG(record_shown_name(name)),
                   value.kind == JSON_STRING ? "string" : "nested value");
}

static bool infer_record(struct inference *inference, struct json_span object, uint64_t index,
                         struct err *err)
{
    struct record *record = &inference->record;
    if (object.kind != JSON_OBJECT) {
        return err_set(err, ERR_INVALID, "record %llu is not an object", (unsigned long long)index);
    }
    if (!record_read(record, object, index, RECORD_ADD, err)) {
        return false;
    }
    for (size_t i = 0; i < record->touched_count; i++) {
        uint32_t column = record->touched[i];
        const struct record_key *key = &record->keys[column];
        inference->seen[column] |= (unsigned char)look_at(key->value);
        if (!check_surrogates(key->value, str_make(key->name, key->name_size), index, err)) {
            return false;
        }
    }
    return true;
}

static bool infer_types(struct inference *inference, struct json_span records, struct err *err)
{
    struct json_cursor cursor = json_open(records);
    struct json_span object;
    uint64_t index = 0;
    while (json_next(&cursor, NULL, &object)) {
        if (!infer_record(inference, object, index++, err)) {
            return false;
        }
    }
    if (inference->record.keys_count == 0) {
        return err_set(err, ERR_INVALID, "the records have no columns");
    }
    for (size_t i = 0; i < inference->record.keys_count; i++) {
        inference->type[i] = (unsigned char)decide(inference->seen[i]);
    }
    return true;
}

/* --- second pass: lines ---------------------------------------------------------------- */

static struct str without_negative_zero(struct str integer)
{
    return str_equal(integer, STR("-0")) ? STR("0") : integer;
}

static void write_value(struct line_writer *writer, enum column_type type, struct json_span value)
{
    switch (type) {
    case TYPE_BOOLEAN:
        line_literal(writer, value.text);
        break;
    case TYPE_BIGINT:
        line_literal(writer, without_negative_zero(value.text));
        break;
    case TYPE_DECIMAL:
        line_quoted(writer, without_negative_zero(value.text));
        break;
    case TYPE_DOUBLE:
        if (value.kind == JSON_NONFINITE) {
            line_quoted(writer, value.text);
        } else {
            line_literal(writer, value.text);
        }
        break;
    case TYPE_VARCHAR:
        line_text(writer, value);
        break;
    }
}

static bool write_record(struct inference *inference, struct json_span object, uint64_t index,
                         struct line_writer *writer, struct err *err)
{
    struct record *record = &inference->record;
    if (!record_read(record, object, index, RECORD_ADD, err)) {
        return false;
    }
    line_begin(writer);
    for (size_t i = 0; i < record->touched_count; i++) {
        uint32_t column = record->touched[i];
        struct json_span value = record->keys[column].value;
        if (value.kind != JSON_NULL) {
            line_key(writer, column);
            write_value(writer, (enum column_type)inference->type[column], value);
        }
    }
    line_end(writer);
    return line_check(writer, err);
}

static bool write_lines(struct inference *inference, struct json_span records,
                        struct line_writer *writer, struct lake_rows *rows, struct err *err)
{
    struct json_cursor cursor = json_open(records);
    struct json_span object;
    while (json_next(&cursor, NULL, &object)) {
        if (!write_record(inference, object, rows->rows_count++, writer, err)) {
            return false;
        }
    }
    rows->line_size_max = writer->line_size_max;
    return true;
}

static void take_columns(struct inference *inference, struct lake_rows *rows)
{
    struct record *record = &inference->record;
    rows->columns = mem_alloc_array(record->keys_count, sizeof(*rows->columns));
    rows->columns_count = record->keys_count;
    for (size_t i = 0; i < record->keys_count; i++) {
        rows->columns[i] = (struct lake_column){
            .name = TAKE(record->keys[i].name),
            .sql_type = mem_copy_text(types[inference->type[i]].sql_type),
            .line_type = types[inference->type[i]].line_type,
        };
    }
}

bool lake_rows_infer(struct json_span records, size_t lines_bytes_max, struct lake_rows *ret_rows,
                     struct err *err)
{
    assert(records.kind == JSON_ARRAY);
    CLEANUP(destroy_inference) struct inference *inference = mem_alloc(sizeof(*inference));
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    CLEANUP(line_finish) struct line_writer writer = {0};
    record_init(&inference->record, true, records.text.len + 1);
    line_init(&writer, &rows.lines, lines_bytes_max);
    if (!infer_types(inference, records, err) ||
        !write_lines(inference, records, &writer, &rows, err)) {
        return false;
    }
    take_columns(inference, &rows);
    *ret_rows = rows;
    rows = (struct lake_rows){0};
    return true;
}
