#include "worker_arrow_read_field.h"

#include "json_write.h"
#include "mem.h"
#include "worker_arrow_read.h"

#include <stdio.h>

/* Numbers of Schema.fbs: the union `Type`. */
enum {
    TYPE_NULL = 1,
    TYPE_INT,
    TYPE_FLOAT,
    TYPE_BINARY,
    TYPE_UTF8,
    TYPE_BOOL,
    TYPE_DECIMAL,
    TYPE_DATE,
    TYPE_TIME,
    TYPE_TIMESTAMP,
    TYPE_INTERVAL,
    TYPE_LIST,
    TYPE_STRUCT,
    TYPE_UNION,
    TYPE_FIXED_BINARY,
    TYPE_FIXED_LIST,
    TYPE_MAP,
    TYPE_DURATION,
    TYPE_LARGE_BINARY,
    TYPE_LARGE_UTF8,
    TYPE_LARGE_LIST,
    TYPE_RUN_END,
    TYPE_BINARY_VIEW,
    TYPE_UTF8_VIEW,
    TYPE_LIST_VIEW,
    TYPE_LARGE_LIST_VIEW,
    TYPE_COUNT
};

enum {
    DECIMAL_DIGITS_MAX = 38, /* of the engine's */
    SCALE_MAX = 1000
};

struct parser {
    struct flat_source *source;
    arrow_dictionary_finder *find;
    void *context;
    size_t fields_left; /* tables may be shared: a small message must not become a large tree */
    unsigned depth;
    struct str column; /* for messages */
    struct err *err;
};

static bool refuse(struct parser *parser, const char *what)
{
    return err_set(parser->err, ERR_INVALID, "column \"%.*s\": %s",
                   STR_ARG(str_first(parser->column, 200)), what);
}

static void set_type(struct arrow_field *field, const char *sql_type, enum arrow_layout layout,
                     size_t width, arrow_appender *append)
{
    (void)snprintf(field->sql_type, sizeof(field->sql_type), "%s", sql_type);
    field->layout = layout;
    field->width = width;
    field->append = append;
}

/* ---- one function per type ---- */

typedef bool type_reader(struct parser *parser, struct arrow_field *field,
                         struct flat_table_in type);

static int64_t number(struct parser *parser, struct flat_table_in type, unsigned slot, size_t size,
                      int64_t otherwise)
{
    return flat_read_number(parser->source, type, slot, size, otherwise);
}

static bool read_null(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "NULL", LAYOUT_NONE, 0, arrow_append_null);
    return true;
}

/* 1, 2, 4 or 8 bytes; else 0. */
static size_t int_width(struct parser *parser, struct flat_table_in type, bool *ret_signed)
{
    int64_t bits = number(parser, type, 0, 4, 0);
    *ret_signed = number(parser, type, 1, 1, 0) != 0;
    return bits == 8 || bits == 16 || bits == 32 || bits == 64 ? (size_t)bits / 8 : 0;
}

static bool read_int(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    static const char *const names[2][9] = {
        {[1] = "UTINYINT", [2] = "USMALLINT", [4] = "UINTEGER", [8] = "UBIGINT"},
        {[1] = "TINYINT", [2] = "SMALLINT", [4] = "INTEGER", [8] = "BIGINT"},
    };
    size_t width = int_width(parser, type, &field->is_signed);
    if (width == 0) {
        return refuse(parser, "integers have 8, 16, 32 or 64 bits");
    }
    set_type(field, names[field->is_signed][width], LAYOUT_FIXED, width, arrow_append_int);
    return true;
}

static bool read_float(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    switch (number(parser, type, 0, 2, 0)) {
    case 0:
        set_type(field, "FLOAT", LAYOUT_FIXED, 2, arrow_append_half);
        return true;
    case 1:
        set_type(field, "FLOAT", LAYOUT_FIXED, 4, arrow_append_float);
        return true;
    case 2:
        set_type(field, "DOUBLE", LAYOUT_FIXED, 8, arrow_append_double);
        return true;
    default:
        return refuse(parser, "the precision of its numbers is not known");
    }
}

static bool read_bool(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "BOOLEAN", LAYOUT_BITS, 0, arrow_append_bool);
    return true;
}

static bool read_binary(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "BLOB", LAYOUT_BYTES, 4, arrow_append_blob);
    return true;
}

static bool read_large_binary(struct parser *parser, struct arrow_field *field,
                              struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "BLOB", LAYOUT_BYTES, 8, arrow_append_blob);
    return true;
}

static bool read_binary_view(struct parser *parser, struct arrow_field *field,
                             struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "BLOB", LAYOUT_VIEWS, 16, arrow_append_blob_view);
    return true;
}

static bool read_fixed_binary(struct parser *parser, struct arrow_field *field,
                              struct flat_table_in type)
{
    int64_t width = number(parser, type, 0, 4, 0);
    if (width < 0) {
        return refuse(parser, "the size of its values is negative");
    }
    set_type(field, "BLOB", LAYOUT_FIXED, (size_t)width, arrow_append_fixed_blob);
    return true;
}

static bool read_utf8(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "VARCHAR", LAYOUT_BYTES, 4, arrow_append_text);
    field->text = true;
    return true;
}

static bool read_large_utf8(struct parser *parser, struct arrow_field *field,
                            struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "VARCHAR", LAYOUT_BYTES, 8, arrow_append_text);
    field->text = true;
    return true;
}

static bool read_utf8_view(struct parser *parser, struct arrow_field *field,
                           struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "VARCHAR", LAYOUT_VIEWS, 16, arrow_append_text_view);
    field->text = true;
    return true;
}

/* The engine's decimals have at most 38 digits, and no more of them after the point than that:
 * wider ones are kept as text, with all their digits. */
static bool read_decimal(struct parser *parser, struct arrow_field *field,
                         struct flat_table_in type)
{
    int64_t precision = number(parser, type, 0, 4, 0);
    int64_t scale = number(parser, type, 1, 4, 0);
    int64_t bits = number(parser, type, 2, 4, 128);
    bool known = bits == 32 || bits == 64 || bits == 128 || bits == 256;
    if (!known || precision < 1 || precision > 76 || scale < -SCALE_MAX || scale > SCALE_MAX) {
        return refuse(parser, "its decimals are of no kind that Arrow knows");
    }
    set_type(field, "VARCHAR", LAYOUT_FIXED, (size_t)bits / 8, arrow_append_decimal);
    field->scale = (int)scale;
    int64_t digits = scale < 0 ? precision - scale : precision > scale ? precision : scale;
    if (digits <= DECIMAL_DIGITS_MAX) {
        (void)snprintf(field->sql_type, sizeof(field->sql_type), "DECIMAL(%d,%d)", (int)digits,
                       scale < 0 ? 0 : (int)scale);
    }
    return true;
}

static bool read_date(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    field->is_signed = true;
    switch (number(parser, type, 0, 2, 1)) {
    case 0:
        set_type(field, "DATE", LAYOUT_FIXED, 4, arrow_append_day);
        return true;
    case 1:
        set_type(field, "DATE", LAYOUT_FIXED, 8, arrow_append_day_ms);
        return true;
    default:
        return refuse(parser, "the unit of its dates is not known");
    }
}

/* Seconds, milliseconds, microseconds, nanoseconds: digits after the second. */
static bool read_unit(struct parser *parser, struct arrow_field *field, struct flat_table_in type,
                      int64_t otherwise)
{
    int64_t unit = number(parser, type, 0, 2, otherwise);
    if (unit < 0 || unit > 3) {
        return refuse(parser, "the unit of its times is not known");
    }
    field->digits = (unsigned)unit * 3;
    field->is_signed = true;
    return true;
}

/* The engine's TIME has microseconds. */
static bool read_time(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    int64_t bits = number(parser, type, 1, 4, 32);
    if (!read_unit(parser, field, type, 1)) {
        return false;
    }
    if (bits != (field->digits <= 3 ? 32 : 64)) {
        return refuse(parser, "the size of its times does not fit their unit");
    }
    set_type(field, field->digits <= 6 ? "TIME" : "VARCHAR", LAYOUT_FIXED, (size_t)bits / 8,
             arrow_append_time);
    field->clock = true;
    return true;
}

static bool read_timestamp(struct parser *parser, struct arrow_field *field,
                           struct flat_table_in type)
{
    static const char *const names[] = {"TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS"};
    if (!read_unit(parser, field, type, 0)) {
        return false;
    }
    field->zone = flat_read_text(parser->source, type, 1).len > 0;
    set_type(field, field->zone ? "TIMESTAMPTZ" : names[field->digits / 3], LAYOUT_FIXED, 8,
             arrow_append_timestamp);
    return true;
}

static bool read_duration(struct parser *parser, struct arrow_field *field,
                          struct flat_table_in type)
{
    set_type(field, "VARCHAR", LAYOUT_FIXED, 8, arrow_append_duration);
    return read_unit(parser, field, type, 1);
}

static bool read_interval(struct parser *parser, struct arrow_field *field,
                          struct flat_table_in type)
{
    static const struct {
        size_t width;
        arrow_appender *append;
    } kinds[] = {
        {4, arrow_append_months}, {8, arrow_append_days_time}, {16, arrow_append_interval}};
    int64_t unit = number(parser, type, 0, 2, 0);
    if (unit < 0 || unit > 2) {
        return refuse(parser, "the unit of its intervals is not known");
    }
    set_type(field, "VARCHAR", LAYOUT_FIXED, kinds[unit].width, kinds[unit].append);
    return true;
}

static bool read_list_of(struct parser *parser, struct arrow_field *field, enum arrow_layout layout,
                         size_t width, arrow_appender *append)
{
    set_type(field, "VARCHAR", layout, width, append);
    return field->parts_count == 1 || refuse(parser, "a list has one kind of items");
}

static bool read_list(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)type;
    return read_list_of(parser, field, LAYOUT_LIST, 4, arrow_append_list);
}

static bool read_large_list(struct parser *parser, struct arrow_field *field,
                            struct flat_table_in type)
{
    (void)type;
    return read_list_of(parser, field, LAYOUT_LIST, 8, arrow_append_list);
}

static bool read_fixed_list(struct parser *parser, struct arrow_field *field,
                            struct flat_table_in type)
{
    int64_t size = number(parser, type, 0, 4, 0);
    field->list_size = (uint64_t)size;
    if (size < 0) {
        return refuse(parser, "the size of its lists is negative");
    }
    return read_list_of(parser, field, LAYOUT_FIXED_LIST, 0, arrow_append_fixed_list);
}

static bool read_struct(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)parser;
    (void)type;
    set_type(field, "VARCHAR", LAYOUT_STRUCT, 0, arrow_append_struct);
    return true;
}

static bool read_map(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)type;
    bool pairs = field->parts_count == 1 && field->parts->layout == LAYOUT_STRUCT &&
                 field->parts->parts_count == 2;
    if (!pairs) {
        return refuse(parser, "a map has pairs of a key and a value");
    }
    return read_list_of(parser, field, LAYOUT_LIST, 4, arrow_append_map);
}

static bool read_union(struct parser *parser, struct arrow_field *field, struct flat_table_in type)
{
    (void)field;
    (void)type;
    return refuse(parser, "unions are not read; send a struct or a text");
}

static bool read_run_end(struct parser *parser, struct arrow_field *field,
                         struct flat_table_in type)
{
    (void)field;
    (void)type;
    return refuse(parser, "run-end encoded columns are not read; send the plain values or a "
                          "dictionary");
}

static bool read_list_view(struct parser *parser, struct arrow_field *field,
                           struct flat_table_in type)
{
    (void)field;
    (void)type;
    return refuse(parser, "list views are not read; send a list");
}

/* clang-format off */
static type_reader *const readers[TYPE_COUNT] = {
    [TYPE_NULL]            = read_null,
    [TYPE_INT]             = read_int,
    [TYPE_FLOAT]           = read_float,
    [TYPE_BINARY]          = read_binary,
    [TYPE_UTF8]            = read_utf8,
    [TYPE_BOOL]            = read_bool,
    [TYPE_DECIMAL]         = read_decimal,
    [TYPE_DATE]            = read_date,
    [TYPE_TIME]            = read_time,
    [TYPE_TIMESTAMP]       = read_timestamp,
    [TYPE_INTERVAL]        = read_interval,
    [TYPE_LIST]            = read_list,
    [TYPE_STRUCT]          = read_struct,
    [TYPE_UNION]           = read_union,
    [TYPE_FIXED_BINARY]    = read_fixed_binary,
    [TYPE_FIXED_LIST]      = read_fixed_list,
    [TYPE_MAP]             = read_map,
    [TYPE_DURATION]        = read_duration,
    [TYPE_LARGE_BINARY]    = read_large_binary,
    [TYPE_LARGE_UTF8]      = read_large_utf8,
    [TYPE_LARGE_LIST]      = read_large_list,
    [TYPE_RUN_END]         = read_run_end,
    [TYPE_BINARY_VIEW]     = read_binary_view,
    [TYPE_UTF8_VIEW]       = read_utf8_view,
    [TYPE_LIST_VIEW]       = read_list_view,
    [TYPE_LARGE_LIST_VIEW] = read_list_view,
};
/* clang-format on */

/* ---- fields ---- */

/* Slots of the table Field. */
enum {
    SLOT_NAME = 0,
    SLOT_TYPE_NUMBER = 2,
    SLOT_TYPE = 3,
    SLOT_DICTIONARY = 4,
    SLOT_PARTS = 5,
    SLOT_METADATA = 6
};

static bool read_fields(struct parser *parser, struct flat_table_in table, unsigned slot,
                        struct arrow_field **ret_fields, size_t *ret_count);

static struct str extension_of(struct parser *parser, struct flat_table_in table)
{
    struct flat_list_in pairs = flat_read_list(parser->source, table, SLOT_METADATA, 4);
    for (size_t i = 0; i < pairs.count && !parser->source->failed; i++) {
        struct flat_table_in pair = flat_read_item(parser->source, pairs, i);
        if (str_equal(flat_read_text(parser->source, pair, 0), STR("ARROW:extension:name"))) {
            return flat_read_text(parser->source, pair, 1);
        }
    }
    return STR("");
}

/* Arrow's own names for what the engine has types for; others are what they are stored as. */
static void apply_extension(struct arrow_field *field, struct str name)
{
    if (str_equal(name, STR("arrow.uuid")) && field->append == arrow_append_fixed_blob &&
        field->width == 16) {
        set_type(field, "UUID", LAYOUT_FIXED, 16, arrow_append_uuid);
    } else if (str_equal(name, STR("arrow.json")) && field->text) {
        (void)snprintf(field->sql_type, sizeof(field->sql_type), "JSON");
    }
}

/* What the field would be without a dictionary. */
static bool read_plain(struct parser *parser, struct flat_table_in table, struct arrow_field *field)
{
    int64_t type = flat_read_number(parser->source, table, SLOT_TYPE_NUMBER, 1, 0);
    if (!read_fields(parser, table, SLOT_PARTS, &field->parts, &field->parts_count)) {
        return false;
    }
    if (type < 1 || type >= TYPE_COUNT) {
        return refuse(parser, "its type is not known");
    }
    if (!readers[type](parser, field, flat_read_table(parser->source, table, SLOT_TYPE))) {
        return false;
    }
    apply_extension(field, extension_of(parser, table));
    return true;
}

/* The field becomes the indexes, what it was the values; a second field of the same dictionary
 * keeps its own values for nothing but its type. */
static bool read_dictionary(struct parser *parser, struct flat_table_in encoding,
                            struct arrow_field *field)
{
    struct arrow_field *values = mem_alloc(sizeof(*values));
    *values = *field;
    values->key = (struct str){0};
    field->parts = values;
    field->parts_count = 1;
    field->text = false;
    field->clock = false;
    struct flat_table_in index = flat_read_table(parser->source, encoding, 1);
    field->is_signed = true;
    field->width = index.at == 0 ? 4 : int_width(parser, index, &field->is_signed);
    if (field->width == 0) {
        return refuse(parser, "the indexes of its dictionary have 8, 16, 32 or 64 bits");
    }
    field->layout = LAYOUT_INDEX;
    field->append = arrow_append_index;
    field->dictionary =
        parser->find(parser->context, flat_read_number(parser->source, encoding, 0, 8, 0));
    if (field->dictionary == NULL) {
        return refuse(parser, "the stream has too many dictionaries");
    }
    if (field->dictionary->values == NULL) {
        field->dictionary->values = values;
    }
    return true;
}

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

static bool read_field(struct parser *parser, struct flat_table_in table, struct arrow_field *field,
                       bool first)
{
    field->name = flat_read_text(parser->source, table, SLOT_NAME);
    field->nested = parser->depth > 1;
    if (!field->nested) {
        parser->column = field->name;
    }
    if (!str_is_utf8(field->name)) {
        return err_set(parser->err, ERR_INVALID, "the name of a column is not UTF-8");
    }
    field->key = make_key(field->name, first);
    struct flat_table_in encoding = flat_read_table(parser->source, table, SLOT_DICTIONARY);
    return read_plain(parser, table, field) &&
           (encoding.at == 0 || read_dictionary(parser, encoding, field));
}

static bool read_fields(struct parser *parser, struct flat_table_in table, unsigned slot,
                        struct arrow_field **ret_fields, size_t *ret_count)
{
    struct flat_list_in list = flat_read_list(parser->source, table, slot, 4);
    if (list.count > parser->fields_left) {
        return err_set(parser->err, ERR_INVALID, "the body has more than %d columns and parts",
                       ARROW_READ_FIELDS_MAX);
    }
    if (parser->depth == ARROW_READ_DEPTH_MAX) {
        return refuse(parser, "it is nested too deeply");
    }
    parser->fields_left -= list.count;
    *ret_fields = mem_alloc_array(list.count, sizeof(**ret_fields));
    *ret_count = list.count;
    parser->depth++;
    bool good = true;
    for (size_t i = 0; good && i < list.count; i++) {
        struct flat_table_in field = flat_read_item(parser->source, list, i);
        good = read_field(parser, field, &(*ret_fields)[i], i == 0);
        if (parser->source->failed) { /* before anything makes sense of zeros */
            good = err_set(parser->err, ERR_INVALID,
                           "the body is not an Arrow stream: its schema is damaged");
        }
    }
    parser->depth--;
    return good;
}

bool arrow_fields_read(struct flat_source *source, struct flat_table_in schema,
                       arrow_dictionary_finder *find, void *context,
                       struct arrow_field **ret_fields, size_t *ret_count, struct err *err)
{
    struct parser parser = {
        .source = source,
        .find = find,
        .context = context,
        .fields_left = ARROW_READ_FIELDS_MAX,
        .err = err,
    };
    *ret_fields = NULL;
    *ret_count = 0;
    bool good = read_fields(&parser, schema, 1, ret_fields, ret_count);
    if (good && source->failed) {
        return err_set(err, ERR_INVALID, "the body is not an Arrow stream: its schema is damaged");
    }
    return good;
}

void arrow_fields_finish(struct arrow_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mem_free((char *)(uintptr_t)fields[i].key.ptr);
        mem_free(fields[i].buffers);
        arrow_fields_finish(fields[i].parts, fields[i].parts_count);
    }
    mem_free(fields);
}
