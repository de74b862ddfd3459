#include "lake_rows.h"

#include "lake_rows_line.h"
#include "lake_rows_record.h"
#include "mem.h"

enum {
    WHOLE_DIGITS_MAX = 40,
    SHOWN_VALUE_SIZE = 60
};

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

/* How JSON values become text for a type; the cast itself is SQL. */
enum type_class {
    CLASS_TEXT,
    CLASS_INTEGER,
    CLASS_WIDE_INTEGER,
    CLASS_BOOLEAN,
    CLASS_NUMBER
};

/* clang-format off */
static const struct { const char *name; enum type_class class; } named_types[] = {
    { "TINYINT",   CLASS_INTEGER }, { "INT1",   CLASS_INTEGER },
    { "SMALLINT",  CLASS_INTEGER }, { "INT2",   CLASS_INTEGER }, { "INT16", CLASS_INTEGER },
    { "SHORT",     CLASS_INTEGER },
    { "INTEGER",   CLASS_INTEGER }, { "INT4",   CLASS_INTEGER }, { "INT32", CLASS_INTEGER },
    { "INT",       CLASS_INTEGER }, { "SIGNED", CLASS_INTEGER }, { "INTEGRAL", CLASS_INTEGER },
    { "BIGINT",    CLASS_INTEGER }, { "INT8",   CLASS_INTEGER }, { "INT64", CLASS_INTEGER },
    { "LONG",      CLASS_INTEGER }, { "OID",    CLASS_INTEGER },
    { "UTINYINT",  CLASS_INTEGER }, { "UINT8",  CLASS_INTEGER },
    { "USMALLINT", CLASS_INTEGER }, { "UINT16", CLASS_INTEGER },
    { "UINTEGER",  CLASS_INTEGER }, { "UINT32", CLASS_INTEGER },
    { "UBIGINT",   CLASS_INTEGER }, { "UINT64", CLASS_INTEGER },
    { "HUGEINT",   CLASS_WIDE_INTEGER }, { "INT128",  CLASS_WIDE_INTEGER },
    { "UHUGEINT",  CLASS_WIDE_INTEGER }, { "UINT128", CLASS_WIDE_INTEGER },
    { "BOOLEAN",   CLASS_BOOLEAN }, { "BOOL",   CLASS_BOOLEAN }, { "LOGICAL", CLASS_BOOLEAN },
    { "DOUBLE",    CLASS_NUMBER },  { "FLOAT8", CLASS_NUMBER },
    { "FLOAT",     CLASS_NUMBER },  { "FLOAT4", CLASS_NUMBER },  { "REAL", CLASS_NUMBER },
    { "DECIMAL",   CLASS_NUMBER },  { "DEC",    CLASS_NUMBER },  { "NUMERIC", CLASS_NUMBER },
};
/* clang-format on */

static enum type_class classify(struct str type)
{
    struct str name = str_trim(str_first(type, str_find_byte(type, '(')));
    for (size_t i = 0; i < COUNT_OF(named_types); i++) {
        if (str_equal_nocase(name, str_of(named_types[i].name))) {
            return named_types[i].class;
        }
    }
    return CLASS_TEXT;
}

struct declared_column {
    enum type_class class;
    struct str target;
    size_t next; /* index + 1 of the next column with the same source, or 0 */
};

struct declaration {
    struct record record; /* its keys are the sources */
    struct record targets;
    struct declared_column *columns;
    size_t *first; /* for each key: index + 1 of its first column */
    struct buf text;
    uint64_t row;
};

static void declaration_finish(struct declaration *declaration)
{
    record_finish(&declaration->record);
    record_finish(&declaration->targets);
    mem_free(declaration->columns);
    mem_free(declaration->first);
    buf_finish(&declaration->text);
}

/* --- whole numbers --------------------------------------------------------------------- */

/* A number as text: its digits are those of `whole` followed by those of `fraction`. */
struct decimal {
    bool negative;
    struct str whole;
    struct str fraction;
    int64_t exponent;
};

static struct str take_digits(struct str *rest)
{
    size_t size = 0;
    while (size < rest->len && rest->ptr[size] >= '0' && rest->ptr[size] <= '9') {
        size++;
    }
    struct str digits = str_first(*rest, size);
    *rest = str_from(*rest, size);
    return digits;
}

static bool take_byte(struct str *rest, char byte)
{
    if (rest->len == 0 || rest->ptr[0] != byte) {
        return false;
    }
    *rest = str_from(*rest, 1);
    return true;
}

/* Exponents stop growing where they are beyond any text that could make up for them. */
static bool take_exponent(struct str *rest, int64_t *ret_exponent)
{
    bool negative = take_byte(rest, '-');
    if (!negative) {
        (void)take_byte(rest, '+');
    }
    struct str digits = take_digits(rest);
    int64_t exponent = 0;
    for (size_t i = 0; i < digits.len && exponent < INT64_C(1000000000000000); i++) {
        exponent = exponent * 10 + (digits.ptr[i] - '0');
    }
    *ret_exponent = negative ? -exponent : exponent;
    return digits.len > 0;
}

/* Wider than JSON, since strings are read too: a plus sign, leading zeros, no digit on one side of
 * the point. */
static bool parse_decimal(struct str text, struct decimal *ret_decimal)
{
    struct decimal decimal = {.negative = take_byte(&text, '-')};
    if (!decimal.negative) {
        (void)take_byte(&text, '+');
    }
    decimal.whole = take_digits(&text);
    if (take_byte(&text, '.')) {
        decimal.fraction = take_digits(&text);
    }
    if (decimal.whole.len + decimal.fraction.len == 0) {
        return false;
    }
    if (take_byte(&text, 'e') || take_byte(&text, 'E')) {
        if (!take_exponent(&text, &decimal.exponent)) {
            return false;
        }
    }
    *ret_decimal = decimal;
    return text.len == 0;
}

static char digit_at(const struct decimal *decimal, size_t index)
{
    if (index < decimal->whole.len) {
        return decimal->whole.ptr[index];
    }
    return decimal->fraction.ptr[index - decimal->whole.len];
}

enum whole_kind {
    WHOLE_WRITTEN,
    WHOLE_TOO_LONG,
    WHOLE_NOT
};

/* Writes the value out in digits. Too long is left to the cast, which refuses it with the right
 * words. */
static enum whole_kind write_whole(const struct decimal *decimal, char *text, size_t *ret_size)
{
    size_t first = 0;
    size_t last = decimal->whole.len + decimal->fraction.len;
    while (last > 0 && digit_at(decimal, last - 1) == '0') {
        last--;
    }
    while (first < last && digit_at(decimal, first) == '0') {
        first++;
    }
    if (last == 0) {
        text[0] = '0';
        *ret_size = 1;
        return WHOLE_WRITTEN;
    }
    int64_t point = (int64_t)decimal->whole.len + decimal->exponent;
    if (point < (int64_t)last) {
        return WHOLE_NOT;
    }
    if (point - (int64_t)first > WHOLE_DIGITS_MAX) {
        return WHOLE_TOO_LONG;
    }
    size_t size = 0;
    if (decimal->negative) {
        text[size++] = '-';
    }
    for (size_t i = first; i < last; i++) {
        text[size++] = digit_at(decimal, i);
    }
    for (size_t i = last; i < (size_t)point; i++) {
        text[size++] = '0';
    }
    *ret_size = size;
    return WHOLE_WRITTEN;
}

static bool refuse_fraction(const struct declaration *declaration,
                            const struct declared_column *column, struct str sent, struct err *err)
{
    struct str shown = str_first(sent, SHOWN_VALUE_SIZE);
    return err_set(err, ERR_INVALID, "data[%llu], column \"%.*s\": %.*s%s is not a whole number",
                   (unsigned long long)declaration->row, STR_ARG(record_shown_name(column->target)),
                   STR_ARG(shown), shown.len < sent.len ? "..." : "");
}

/* A number, or a string that may hold one: what is not a number stays as it is, for the cast to
 * judge. */
static bool write_integer(struct declaration *declaration, const struct declared_column *column,
                          struct json_span value, struct line_writer *writer, struct err *err)
{
    struct str text = value.text;
    if (value.kind == JSON_STRING) {
        buf_reset(&declaration->text);
        (void)json_unescape(value, &declaration->text);
        text = str_trim(buf_str(&declaration->text));
    }
    struct decimal decimal;
    if (!parse_decimal(text, &decimal)) {
        line_text(writer, value);
        return true;
    }
    char digits[WHOLE_DIGITS_MAX + 1];
    size_t size;
    switch (write_whole(&decimal, digits, &size)) {
    case WHOLE_WRITTEN:
        line_quoted(writer, str_make(digits, size));
        return true;
    case WHOLE_TOO_LONG:
        line_text(writer, value);
        return true;
    case WHOLE_NOT:
        break;
    }
    return refuse_fraction(declaration, column, value.text, err);
}

/* --- values ---------------------------------------------------------------------------- */

static bool is_zero(struct str number)
{
    for (size_t i = 0; i < number.len && (number.ptr[i] | 0x20) != 'e'; i++) {
        if (number.ptr[i] >= '1' && number.ptr[i] <= '9') {
            return false;
        }
    }
    return true;
}

static void write_boolean(struct line_writer *writer, struct json_span value)
{
    if (value.kind == JSON_INTEGER || value.kind == JSON_REAL) {
        line_quoted(writer, is_zero(value.text) ? STR("false") : STR("true"));
    } else {
        line_text(writer, value);
    }
}

static bool write_declared(struct declaration *declaration, const struct declared_column *column,
                           struct json_span value, struct line_writer *writer, struct err *err)
{
    bool numeric = column->class != CLASS_TEXT && column->class != CLASS_BOOLEAN;
    bool integer = column->class == CLASS_INTEGER || column->class == CLASS_WIDE_INTEGER;
    if (column->class == CLASS_BOOLEAN) {
        write_boolean(writer, value);
    } else if (numeric && value.kind == JSON_BOOL) {
        line_quoted(writer, value.text.ptr[0] == 't' ? STR("1") : STR("0"));
    } else if (integer && value.kind == JSON_NONFINITE) {
        return refuse_fraction(declaration, column, value.text, err);
    } else if (integer && value.kind != JSON_ARRAY && value.kind != JSON_OBJECT) {
        return write_integer(declaration, column, value, writer, err);
    } else {
        line_text(writer, value);
    }
    return true;
}

static bool write_row(struct declaration *declaration, struct json_cursor *object,
                      struct line_writer *writer, struct err *err)
{
    struct record *record = &declaration->record;
    if (!object->object) {
        return err_set(err, ERR_INVALID, "data[%llu] must be an object",
                       (unsigned long long)declaration->row);
    }
    record_read(record, object);
    line_begin(writer);
    for (size_t i = 0; i < record->touched_count; i++) {
        struct json_span value = record->keys[record->touched[i]].value;
        size_t next = value.kind == JSON_NULL ? 0 : declaration->first[record->touched[i]];
        while (next != 0) {
            const struct declared_column *column = &declaration->columns[next - 1];
            line_key(writer, next - 1);
            if (!write_declared(declaration, column, value, writer, err)) {
                return false;
            }
            next = column->next;
        }
    }
    line_end(writer);
    return line_check(writer, err);
}

/* --- declarations ---------------------------------------------------------------------- */

static bool check_target(struct declaration *declaration, struct str target, size_t index,
                         struct err *err)
{
    bool added;
    if (str_find_byte(target, '\0') < target.len) {
        return err_set(err, ERR_INVALID, "columns[%zu].target holds a NUL character", index);
    }
    uint32_t other = record_add_key(&declaration->targets, target, &added);
    if (!added) {
        return err_set(err, ERR_INVALID, "columns[%zu].target \"%.*s\" is that of columns[%u]",
                       index, STR_ARG(record_shown_name(target)), other);
    }
    return true;
}

static bool declare(struct declaration *declaration, const struct lake_declared *declared,
                    size_t declared_count, struct lake_rows *rows, struct err *err)
{
    if (declared_count == 0 || declared_count > LAKE_ROWS_COLUMNS_MAX) {
        return err_set(err, ERR_INVALID, "columns must be between 1 and %d", LAKE_ROWS_COLUMNS_MAX);
    }
    declaration->columns = mem_alloc_array(declared_count, sizeof(*declaration->columns));
    declaration->first = mem_alloc_array(declared_count, sizeof(*declaration->first));
    rows->columns = mem_alloc_array(declared_count, sizeof(*rows->columns));
    for (size_t i = 0; i < declared_count; i++) {
        struct str target = declared[i].target;
        struct str type = str_trim(declared[i].type);
        enum type_class class = classify(type);
        bool added;
        if (!check_target(declaration, target, i, err)) {
            return false;
        }
        uint32_t key = record_add_key(&declaration->record, declared[i].source, &added);
        declaration->columns[i] = (struct declared_column){
            .class = class,
            .target = target,
            .next = declaration->first[key],
        };
        declaration->first[key] = i + 1;
        rows->columns[i] = (struct lake_column){
            .name = mem_copy_bytes(target.ptr, target.len),
            .sql_type = class == CLASS_WIDE_INTEGER ? mem_copy_text("DECIMAL(38,0)")
                                                    : mem_copy_bytes(type.ptr, type.len),
        };
        rows->columns_count = i + 1;
    }
    return true;
}

bool lake_rows_declared(struct json_span records, const struct lake_declared *declared,
                        size_t declared_count, size_t lines_bytes_max, struct lake_rows *ret_rows,
                        struct err *err)
{
    assert(records.kind == JSON_ARRAY);
    CLEANUP(declaration_finish) struct declaration declaration = {0};
    CLEANUP(lake_rows_finish) struct lake_rows rows = {0};
    CLEANUP(line_finish) struct line_writer writer = {0};
    record_init(&declaration.record, false, records.text.len + 1);
    record_init(&declaration.targets, true, 1);
    buf_init(&declaration.text, records.text.len + 1);
    line_init(&writer, &rows.lines, lines_bytes_max);
    if (!declare(&declaration, declared, declared_count, &rows, err)) {
        return false;
    }
    struct json_cursor cursor = json_open(records);
    struct json_cursor object;
    while (json_enter(&cursor, &object)) {
        if (!write_row(&declaration, &object, &writer, err)) {
            return false;
        }
        json_leave(&cursor, &object);
        declaration.row++;
    }
    rows.rows_count = declaration.row;
    rows.line_size_max = writer.line_size_max;
    *ret_rows = rows;
    rows = (struct lake_rows){0};
    return true;
}
