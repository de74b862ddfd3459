#include "worker_params.h"

#include "json_scan.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TEXT_SIZE_MAX = 128 << 20,
    DECIMAL_DIGITS_MAX = 38,
    NUMBER_SIZE_MAX = 512, /* of a number's text; longer ones are refused */
};

/* The type of a number, in the order of widening. */
enum width {
    WIDTH_INTEGER,
    WIDTH_BIGINT,
    WIDTH_UBIGINT, /* of Python's integers, outside lists */
    WIDTH_HUGEINT,
    WIDTH_DECIMAL,
    WIDTH_DOUBLE
};

/* One value in the making; `where` names the parameter in errors. */
struct maker {
    const char *where;
    enum parameters_style style;
    bool in_list;     /* numbers of a list have one type */
    enum width width; /* that type */
    struct err *err;
};

/* ---- numbers ---- */

/* The digits of a number without sign, point and exponent. False when they do not fit 38 digits. */
static bool read_digits(struct str text, __int128 *ret_value, unsigned *ret_digits,
                        unsigned *ret_scale)
{
    bool negative = text.len > 0 && text.ptr[0] == '-';
    bool fraction = false;
    __int128 value = 0;
    *ret_digits = 0;
    *ret_scale = 0;
    for (size_t i = negative; i < text.len; i++) {
        if (text.ptr[i] == '.') {
            fraction = true;
            continue;
        }
        *ret_digits += *ret_digits > 0 || text.ptr[i] != '0' || fraction;
        *ret_scale += fraction;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text.ptr[i] - '0', &value)) {
            return false;
        }
    }
    *ret_value = negative ? -value : value;
    return *ret_digits <= DECIMAL_DIGITS_MAX || !fraction;
}

static bool has_exponent(struct str text)
{
    return str_find_byte(text, 'e') < text.len || str_find_byte(text, 'E') < text.len;
}

static enum width width_of(struct json_span number)
{
    __int128 value;
    unsigned digits;
    unsigned scale;
    if (has_exponent(number.text) || !read_digits(number.text, &value, &digits, &scale)) {
        return WIDTH_DOUBLE;
    }
    if (number.kind == JSON_REAL) {
        return WIDTH_DECIMAL;
    }
    return value == (int32_t)value   ? WIDTH_INTEGER
           : value == (int64_t)value ? WIDTH_BIGINT
                                     : WIDTH_HUGEINT;
}

static enum width width_for(const struct maker *maker, struct json_span number)
{
    enum width width = width_of(number);
    if (maker->style == PARAMETERS_AS_SQL) {
        return width;
    }
    bool negative = number.text.ptr[0] == '-';
    if (width == WIDTH_HUGEINT && !negative && !maker->in_list) {
        __int128 value;
        unsigned digits;
        unsigned scale;
        (void)read_digits(number.text, &value, &digits, &scale);
        return value <= (__int128)UINT64_MAX ? WIDTH_UBIGINT : WIDTH_HUGEINT;
    }
    return width == WIDTH_DECIMAL ? WIDTH_DOUBLE : width;
}

static duckdb_hugeint hugeint_of(__int128 value)
{
    return (duckdb_hugeint){.lower = (uint64_t)value, .upper = (int64_t)(value >> 64)};
}

static duckdb_value make_double(struct str text)
{
    char copy[NUMBER_SIZE_MAX + 1];
    (void)snprintf(copy, sizeof(copy), "%.*s", STR_ARG(text));
    return duckdb_create_double(strtod(copy, NULL));
}

static duckdb_value make_number(const struct maker *maker, struct json_span span)
{
    enum width width = maker->in_list ? maker->width : width_for(maker, span);
    __int128 value = 0;
    unsigned digits = 0;
    unsigned scale = 0;
    if (width != WIDTH_DOUBLE) {
        (void)read_digits(span.text, &value, &digits, &scale);
    }
    switch (width) {
    case WIDTH_INTEGER:
        return duckdb_create_int32((int32_t)value);
    case WIDTH_BIGINT:
        return duckdb_create_int64((int64_t)value);
    case WIDTH_UBIGINT:
        return duckdb_create_uint64((uint64_t)value);
    case WIDTH_HUGEINT:
        return duckdb_create_hugeint(hugeint_of(value));
    case WIDTH_DECIMAL:
        return duckdb_create_decimal((duckdb_decimal){
            .width = (uint8_t)(digits > scale ? digits : scale),
            .scale = (uint8_t)scale,
            .value = hugeint_of(value),
        });
    case WIDTH_DOUBLE:
        break;
    }
    return make_double(span.text);
}

/* The type that holds every number inside a list; with a fraction among them, DOUBLE. */
static enum width widest_in(struct json_span span)
{
    if (span.kind == JSON_INTEGER || span.kind == JSON_REAL) {
        enum width width = width_of(span);
        return width == WIDTH_DECIMAL ? WIDTH_DOUBLE : width;
    }
    enum width widest = WIDTH_INTEGER;
    if (span.kind == JSON_ARRAY || span.kind == JSON_OBJECT) {
        struct json_cursor cursor = json_open(span);
        struct json_span key;
        struct json_span inner;
        while (json_next(&cursor, &key, &inner)) {
            enum width width = widest_in(inner);
            widest = width > widest ? width : widest;
        }
    }
    return widest;
}

/* ---- values ---- */

/* Makes a value; `shape` is appended a text that is equal for values of one type. NULL on failure.
 */
static duckdb_value make_value(const struct maker *maker, struct json_span span, struct buf *shape);

static duckdb_value refuse(const struct maker *maker, const char *why)
{
    (void)err_set(maker->err, ERR_INVALID, "%s %s", maker->where, why);
    return NULL;
}

static duckdb_value make_text(const struct maker *maker, struct json_span span)
{
    struct buf text;
    buf_init(&text, TEXT_SIZE_MAX);
    duckdb_value value = NULL;
    if (!json_unescape(span, &text)) {
        (void)refuse(maker, "has an unpaired surrogate");
    } else if (buf_failed(&text) ||
               (value = duckdb_create_varchar_length(text.ptr, text.len)) == NULL) {
        (void)refuse(maker, "is not a text the engine takes");
    }
    buf_finish(&text);
    return value;
}

/* The values of a container, with their types. */
struct parts {
    duckdb_value *values;
    duckdb_logical_type *types; /* borrowed from the values */
    char **names;
    size_t count;
};

static void parts_finish(struct parts *parts)
{
    for (size_t i = 0; i < parts->count; i++) {
        duckdb_destroy_value(&parts->values[i]);
        mem_free(parts->names[i]);
    }
    mem_free(parts->values);
    mem_free(parts->types);
    mem_free(parts->names);
}

static void parts_init(struct parts *parts, uint64_t count)
{
    parts->values = mem_alloc_array(count, sizeof(*parts->values));
    parts->types = mem_alloc_array(count, sizeof(*parts->types));
    parts->names = mem_alloc_array(count, sizeof(*parts->names));
}

static bool parts_add(struct parts *parts, const struct maker *maker, struct json_span span,
                      struct buf *shape)
{
    duckdb_value value = make_value(maker, span, shape);
    if (value == NULL) {
        return false;
    }
    parts->values[parts->count] = value;
    parts->types[parts->count] = duckdb_get_value_type(value);
    parts->count++;
    return true;
}

/* All elements have one shape, but for NULLs, which have any. */
static bool read_elements(const struct maker *maker, struct json_span span, struct parts *parts,
                          struct buf *shape, duckdb_logical_type *ret_type)
{
    struct json_cursor cursor = json_open(span);
    struct json_span element;
    struct buf other;
    buf_init(&other, TEXT_SIZE_MAX);
    bool good = true;
    while (good && json_next(&cursor, NULL, &element)) {
        buf_reset(&other);
        good = parts_add(parts, maker, element, &other);
        if (!good || element.kind == JSON_NULL) {
            continue;
        }
        if (*ret_type == NULL) {
            *ret_type = parts->types[parts->count - 1];
            buf_append(shape, buf_str(&other));
        } else if (!str_equal(str_from(buf_str(shape), 1), buf_str(&other))) {
            (void)refuse(maker, "is a list whose elements have different types");
            good = false;
        }
    }
    buf_finish(&other);
    return good;
}

static duckdb_value make_list(const struct maker *outer, struct json_span span, struct buf *shape)
{
    struct maker maker = *outer;
    if (!outer->in_list) {
        maker.in_list = true;
        maker.width = widest_in(span);
    }
    CLEANUP(parts_finish) struct parts parts = {0};
    parts_init(&parts, json_count(span));
    struct buf own;
    buf_init(&own, TEXT_SIZE_MAX);
    buf_append_byte(&own, '[');
    duckdb_logical_type type = NULL;
    duckdb_value value = NULL;
    if (read_elements(&maker, span, &parts, &own, &type)) {
        CLEANUP(duckdb_destroy_logical_type)
        duckdb_logical_type nothing = duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL);
        value = duckdb_create_list_value(type != NULL ? type : nothing, parts.values, parts.count);
        buf_append(shape, buf_str(&own));
        if (value == NULL) {
            (void)refuse(&maker, "is a list the engine does not take");
        }
    }
    buf_finish(&own);
    return value;
}

static char *copy_name(struct json_span key)
{
    struct buf name;
    buf_init(&name, TEXT_SIZE_MAX);
    (void)json_unescape(key, &name);
    buf_append_byte(&name, '\0');
    size_t size;
    return buf_take(&name, &size);
}

/* A member that is named twice is refused: the engine's struct cannot hold both. */
static bool read_members(const struct maker *maker, struct json_span span, struct parts *parts,
                         struct buf *shape)
{
    struct json_cursor cursor = json_open(span);
    struct json_span key;
    struct json_span member;
    while (json_next(&cursor, &key, &member)) {
        char *name = copy_name(key);
        for (size_t i = 0; i < parts->count; i++) {
            if (strcmp(parts->names[i], name) == 0) {
                mem_free(name);
                (void)refuse(maker, "is an object that names a member twice");
                return false;
            }
        }
        buf_append_format(shape, "%zu:%s=", strlen(name), name);
        parts->names[parts->count] = name;
        if (!parts_add(parts, maker, member, shape)) {
            mem_free(name);
            return false;
        }
    }
    return true;
}

static duckdb_value make_struct(const struct maker *maker, struct json_span span, struct buf *shape)
{
    if (json_count(span) == 0) {
        return refuse(maker, "is an object without members");
    }
    CLEANUP(parts_finish) struct parts parts = {0};
    parts_init(&parts, json_count(span));
    buf_append_byte(shape, '{');
    if (!read_members(maker, span, &parts, shape)) {
        return NULL;
    }
    buf_append_byte(shape, '}');
    CLEANUP(duckdb_destroy_logical_type)
    duckdb_logical_type type =
        duckdb_create_struct_type(parts.types, (const char **)(uintptr_t)parts.names, parts.count);
    duckdb_value value = duckdb_create_struct_value(type, parts.values);
    return value != NULL ? value : refuse(maker, "is an object the engine does not take");
}

/* Exactly two members, lists of one length: what Python's dictionaries look like to the engine. */
static bool is_map(struct json_span span, struct json_span *ret_keys, struct json_span *ret_values)
{
    return json_count(span) == 2 && json_find(span, STR("key"), ret_keys) &&
           json_find(span, STR("value"), ret_values) && ret_keys->kind == JSON_ARRAY &&
           ret_values->kind == JSON_ARRAY && json_count(*ret_keys) == json_count(*ret_values);
}

/* One side of a map, which is a list of its own as to its numbers. */
static bool read_side(const struct maker *outer, struct json_span span, struct parts *parts,
                      struct buf *shape, duckdb_logical_type *ret_type)
{
    struct maker maker = *outer;
    if (!outer->in_list) {
        maker.in_list = true;
        maker.width = widest_in(span);
    }
    parts_init(parts, json_count(span));
    struct buf own;
    buf_init(&own, TEXT_SIZE_MAX);
    buf_append_byte(&own, '<');
    *ret_type = NULL;
    bool good = read_elements(&maker, span, parts, &own, ret_type);
    buf_append(shape, buf_str(&own));
    buf_finish(&own);
    return good;
}

static bool has_null(struct json_span list)
{
    struct json_cursor cursor = json_open(list);
    struct json_span element;
    while (json_next(&cursor, NULL, &element)) {
        if (element.kind == JSON_NULL) {
            return true;
        }
    }
    return false;
}

static duckdb_value make_map(const struct maker *maker, struct json_span keys_span,
                             struct json_span values_span, struct buf *shape)
{
    CLEANUP(parts_finish) struct parts keys = {0};
    CLEANUP(parts_finish) struct parts values = {0};
    duckdb_logical_type key_type = NULL;
    duckdb_logical_type value_type = NULL;
    if (has_null(keys_span)) {
        return refuse(maker, "is a map with a key that is null");
    }
    if (!read_side(maker, keys_span, &keys, shape, &key_type) ||
        !read_side(maker, values_span, &values, shape, &value_type)) {
        return NULL;
    }
    buf_append_byte(shape, '>');
    CLEANUP(duckdb_destroy_logical_type)
    duckdb_logical_type nothing = duckdb_create_logical_type(DUCKDB_TYPE_SQLNULL);
    CLEANUP(duckdb_destroy_logical_type)
    duckdb_logical_type type = duckdb_create_map_type(key_type != NULL ? key_type : nothing,
                                                      value_type != NULL ? value_type : nothing);
    duckdb_value value = duckdb_create_map_value(type, keys.values, values.values, keys.count);
    return value != NULL ? value : refuse(maker, "is a map the engine does not take");
}

static duckdb_value make_object(const struct maker *maker, struct json_span span, struct buf *shape)
{
    struct json_span keys;
    struct json_span values;
    if (maker->style == PARAMETERS_AS_PYTHON && is_map(span, &keys, &values)) {
        return make_map(maker, keys, values, shape);
    }
    return make_struct(maker, span, shape);
}

static duckdb_value make_value(const struct maker *maker, struct json_span span, struct buf *shape)
{
    static const char shapes[] = {
        [JSON_NULL] = 'n', [JSON_BOOL] = 'b',   [JSON_INTEGER] = 'i',
        [JSON_REAL] = 'i', [JSON_STRING] = 's',
    };
    if (span.kind == JSON_ARRAY) {
        return make_list(maker, span, shape);
    }
    if (span.kind == JSON_OBJECT) {
        return make_object(maker, span, shape);
    }
    if (span.kind == JSON_NONFINITE || span.text.len > NUMBER_SIZE_MAX) {
        if (span.kind != JSON_STRING) {
            return refuse(maker, "is not a number the engine takes");
        }
    }
    buf_append_byte(shape, shapes[span.kind]);
    switch (span.kind) {
    case JSON_NULL:
        return duckdb_create_null_value();
    case JSON_BOOL:
        return duckdb_create_bool(span.text.ptr[0] == 't');
    case JSON_STRING:
        return make_text(maker, span);
    case JSON_INTEGER:
    case JSON_REAL:
    case JSON_NONFINITE:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return make_number(maker, span);
}

/* ---- all parameters ---- */

static bool read_item(struct parameters *parameters, enum parameters_style style,
                      struct json_span key, struct json_span span, struct err *err)
{
    char where[160];
    struct parameter *item = &parameters->items[parameters->count];
    if (parameters->named) {
        item->name = str_of(copy_name(key));
        (void)snprintf(where, sizeof(where), "params.%.100s", item->name.ptr);
    } else {
        (void)snprintf(where, sizeof(where), "params[%zu]", parameters->count);
    }
    parameters->count++;
    struct maker maker = {.where = where, .style = style, .err = err};
    struct buf shape;
    buf_init(&shape, TEXT_SIZE_MAX);
    item->value = make_value(&maker, span, &shape);
    buf_finish(&shape);
    return item->value != NULL;
}

bool parameters_read(struct parameters *parameters, struct str json, struct err *err)
{
    return parameters_read_as(parameters, PARAMETERS_AS_SQL, json, err);
}

bool parameters_read_as(struct parameters *parameters, enum parameters_style style, struct str json,
                        struct err *err)
{
    *parameters = (struct parameters){0};
    if (json.len == 0) {
        return true;
    }
    struct json_scanner scanner;
    struct json_span root;
    json_scanner_init(&scanner, json);
    if (!json_scan_document(&scanner, &root, err)) {
        return false;
    }
    if (root.kind != JSON_ARRAY && root.kind != JSON_OBJECT) {
        return err_set(err, ERR_INVALID, "params must be an array or an object");
    }
    parameters->named = root.kind == JSON_OBJECT;
    parameters->items = mem_alloc_array(json_count(root), sizeof(*parameters->items));
    struct json_cursor cursor = json_open(root);
    struct json_span key = {0};
    struct json_span span;
    bool good = true;
    while (good && json_next(&cursor, &key, &span)) {
        good = read_item(parameters, style, key, span, err);
    }
    return good;
}

/* The last of several of one name. */
static const struct parameter *find_named(const struct parameters *parameters, struct str name)
{
    for (size_t i = parameters->count; i > 0; i--) {
        if (str_equal(parameters->items[i - 1].name, name)) {
            return &parameters->items[i - 1];
        }
    }
    return NULL;
}

static bool is_number(const char *name)
{
    return name[0] >= '0' && name[0] <= '9';
}

static bool bind_one(const struct parameters *parameters, duckdb_prepared_statement prepared,
                     idx_t index, const char *name, struct err *err)
{
    const struct parameter *item = NULL;
    if (parameters->named) {
        item = find_named(parameters, str_of(name));
        if (item == NULL) {
            return err_set(err, ERR_INVALID, "params has no value for $%.100s", name);
        }
    } else if (!is_number(name)) {
        return err_set(err, ERR_INVALID,
                       "the statement's parameter $%.100s has a name: give params as an object",
                       name);
    } else {
        item = &parameters->items[index - 1];
    }
    return duckdb_bind_value(prepared, index, item->value) == DuckDBSuccess ||
           err_set(err, ERR_INVALID, "the value of parameter $%.100s cannot be bound", name);
}

bool parameters_bind(const struct parameters *parameters, duckdb_prepared_statement prepared,
                     struct err *err)
{
    idx_t count = duckdb_nparams(prepared);
    if (count > 0 && parameters->items == NULL) {
        return err_set(err, ERR_INVALID, "the statement has parameters, and no values for them");
    }
    if (!parameters->named && count != parameters->count) {
        return err_set(err, ERR_INVALID, "the statement takes %llu values, params has %zu",
                       (unsigned long long)count, parameters->count);
    }
    bool good = true;
    for (idx_t i = 1; good && i <= count; i++) {
        const char *name = duckdb_parameter_name(prepared, i);
        good = bind_one(parameters, prepared, i, name != NULL ? name : "", err);
        duckdb_free((void *)(uintptr_t)name);
    }
    return good;
}

void parameters_finish(struct parameters *parameters)
{
    for (size_t i = 0; i < parameters->count; i++) {
        duckdb_destroy_value(&parameters->items[i].value);
        mem_free((char *)(uintptr_t)parameters->items[i].name.ptr);
    }
    mem_free(parameters->items);
    *parameters = (struct parameters){0};
}
