#include "lake_schema_build.h"
#include "num.h"

enum {
    DECIMAL_DIGITS_MAX = 38,
    DECIMAL_DIGITS_DEFAULT = 18,
    DECIMAL_SCALE_DEFAULT = 3
};

enum family {
    FAMILY_NONE,
    FAMILY_SIGNED,
    FAMILY_UNSIGNED,
    FAMILY_FLOATING,
    FAMILY_TIME /* of day and date: DATE, then timestamps by their unit */
};

/* `bits` orders a family: each type holds those with fewer. `digits`: of the longest integer. */
struct type {
    const char *name;
    enum lake_kind kind;
    enum family family;
    unsigned bits;
    unsigned digits;
};

/* clang-format off */
static const struct type types[] = {
    { "BOOLEAN",      LAKE_BOOLEAN, FAMILY_NONE,       0,  0 },
    { "TINYINT",      LAKE_CAST,    FAMILY_SIGNED,     7,  3 },
    { "SMALLINT",     LAKE_CAST,    FAMILY_SIGNED,    15,  5 },
    { "INTEGER",      LAKE_CAST,    FAMILY_SIGNED,    31, 10 },
    { "BIGINT",       LAKE_BIGINT,  FAMILY_SIGNED,    63, 19 },
    { "UTINYINT",     LAKE_CAST,    FAMILY_UNSIGNED,   8,  3 },
    { "USMALLINT",    LAKE_CAST,    FAMILY_UNSIGNED,  16,  5 },
    { "UINTEGER",     LAKE_CAST,    FAMILY_UNSIGNED,  32, 10 },
    { "UBIGINT",      LAKE_CAST,    FAMILY_UNSIGNED,  64, 20 },
    { "FLOAT",        LAKE_CAST,    FAMILY_FLOATING,  24,  0 },
    { "DOUBLE",       LAKE_DOUBLE,  FAMILY_FLOATING,  53,  0 },
    { "VARCHAR",      LAKE_VARCHAR, FAMILY_NONE,       0,  0 },
    { "DATE",         LAKE_CAST,    FAMILY_TIME,       1,  0 },
    { "TIMESTAMP_S",  LAKE_CAST,    FAMILY_TIME,       2,  0 },
    { "TIMESTAMP_MS", LAKE_CAST,    FAMILY_TIME,       3,  0 },
    { "TIMESTAMP",    LAKE_CAST,    FAMILY_TIME,       4,  0 },
    { "TIMESTAMP_NS", LAKE_CAST,    FAMILY_NONE,       0,  0 },
    { "TIMESTAMPTZ",  LAKE_CAST,    FAMILY_NONE,       0,  0 },
    { "TIME",         LAKE_CAST,    FAMILY_NONE,       0,  0 },
    { "UUID",         LAKE_CAST,    FAMILY_NONE,       0,  0 },
    { "BLOB",         LAKE_CAST,    FAMILY_NONE,       0,  0 },
    { "JSON",         LAKE_CAST,    FAMILY_NONE,       0,  0 },
};

static const struct { const char *name; const char *normal; } aliases[] = {
    { "BOOL", "BOOLEAN" },     { "LOGICAL", "BOOLEAN" },
    { "INT1", "TINYINT" },
    { "INT2", "SMALLINT" },    { "INT16", "SMALLINT" },   { "SHORT", "SMALLINT" },
    { "INT", "INTEGER" },      { "INT4", "INTEGER" },     { "INT32", "INTEGER" },
    { "SIGNED", "INTEGER" },
    { "INT8", "BIGINT" },      { "INT64", "BIGINT" },     { "LONG", "BIGINT" },
    { "UINT8", "UTINYINT" },   { "UINT16", "USMALLINT" }, { "UINT32", "UINTEGER" },
    { "UINT64", "UBIGINT" },
    { "REAL", "FLOAT" },       { "FLOAT4", "FLOAT" },     { "FLOAT8", "DOUBLE" },
    { "DOUBLE PRECISION", "DOUBLE" },
    { "TEXT", "VARCHAR" },     { "STRING", "VARCHAR" },   { "CHAR", "VARCHAR" },
    { "BPCHAR", "VARCHAR" },   { "NVARCHAR", "VARCHAR" },
    { "DATETIME", "TIMESTAMP" }, { "TIMESTAMP_US", "TIMESTAMP" },
    { "TIMESTAMP WITHOUT TIME ZONE", "TIMESTAMP" },
    { "TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ" },
    { "TIME WITHOUT TIME ZONE", "TIME" },
    { "BYTEA", "BLOB" },       { "BINARY", "BLOB" },      { "VARBINARY", "BLOB" },
};
/* clang-format on */

static const struct type *find_type(struct str name)
{
    for (size_t i = 0; i < COUNT_OF(aliases); i++) {
        if (str_equal_nocase(name, str_of(aliases[i].name))) {
            name = str_of(aliases[i].normal);
            break;
        }
    }
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (str_equal_nocase(name, str_of(types[i].name))) {
            return &types[i];
        }
    }
    return NULL;
}

static bool parse_small(struct str text, uint64_t min, uint64_t max, unsigned *ret_value)
{
    struct err err;
    uint64_t value;
    if (!num_parse_u64(str_trim(text), min, max, &value, &err)) {
        return false;
    }
    *ret_value = (unsigned)value;
    return true;
}

/* Splits NAME(PARAMETERS); `ret_parameters` has no ptr when there are none. */
static bool split_parameters(struct str type, struct str *ret_name, struct str *ret_parameters)
{
    size_t open = str_find_byte(type, '(');
    *ret_name = str_trim(str_first(type, open));
    *ret_parameters = (struct str){0};
    if (open == type.len) {
        return true;
    }
    *ret_parameters = str_make(type.ptr + open + 1, type.len - open - 2);
    return type.ptr[type.len - 1] == ')' && type.len - open > 2;
}

static bool is_decimal(struct str name)
{
    return str_equal_nocase(name, STR("DECIMAL")) || str_equal_nocase(name, STR("NUMERIC")) ||
           str_equal_nocase(name, STR("DEC"));
}

/* Parquet has no integers of 128 bits: the engine's writer makes doubles of them. */
static bool is_wide_integer(struct str name)
{
    static const char *const names[] = {"HUGEINT", "INT128", "UHUGEINT", "UINT128"};
    bool wide = false;
    for (size_t i = 0; !wide && i < COUNT_OF(names); i++) {
        wide = str_equal_nocase(name, str_of(names[i]));
    }
    return wide;
}

/* DECIMAL, DECIMAL(p) and DECIMAL(p,s), as the engine reads them. */
static bool parse_decimal(struct str type, unsigned *ret_digits, unsigned *ret_scale)
{
    struct str name;
    struct str parameters;
    if (is_wide_integer(type)) {
        *ret_digits = DECIMAL_DIGITS_MAX;
        *ret_scale = 0;
        return true;
    }
    if (!split_parameters(type, &name, &parameters) || !is_decimal(name)) {
        return false;
    }
    *ret_digits = DECIMAL_DIGITS_DEFAULT;
    *ret_scale = DECIMAL_SCALE_DEFAULT;
    if (parameters.ptr == NULL) {
        return true;
    }
    size_t comma = str_find_byte(parameters, ',');
    if (!parse_small(str_first(parameters, comma), 1, DECIMAL_DIGITS_MAX, ret_digits)) {
        return false;
    }
    *ret_scale = 0;
    return comma == parameters.len ||
           parse_small(str_from(parameters, comma + 1), 0, *ret_digits, ret_scale);
}

bool lake_schema_type_kind(struct str type, enum lake_kind *ret_kind, struct buf *ret_normal)
{
    struct str name;
    struct str parameters;
    unsigned digits;
    unsigned scale;
    type = str_trim(type);
    if (parse_decimal(type, &digits, &scale)) {
        buf_append_format(ret_normal, "DECIMAL(%u,%u)", digits, scale);
        *ret_kind = LAKE_CAST;
        return true;
    }
    if (!split_parameters(type, &name, &parameters)) {
        return false;
    }
    const struct type *found = find_type(name);
    if (found == NULL) {
        return false;
    }
    unsigned length; /* VARCHAR(10) is VARCHAR, as for the engine */
    if (parameters.ptr != NULL &&
        (found->kind != LAKE_VARCHAR || !parse_small(parameters, 1, UINT32_MAX, &length))) {
        return false;
    }
    buf_append_text(ret_normal, found->name);
    *ret_kind = found->kind;
    return true;
}

bool lake_schema_can_partition(const struct lake_schema_column *column)
{
    struct str type = str_of(column->sql_type);
    return str_equal(type, STR("DATE")) || str_starts(type, STR("TIMESTAMP")) ||
           str_equal(type, STR("BIGINT"));
}

/* ---- which type holds another ---- */

static bool widens_to_decimal(struct str from, unsigned digits, unsigned scale)
{
    unsigned from_digits;
    unsigned from_scale;
    if (parse_decimal(from, &from_digits, &from_scale)) {
        return scale >= from_scale && digits - scale >= from_digits - from_scale;
    }
    const struct type *type = find_type(from);
    return type != NULL && type->digits > 0 && digits - scale >= type->digits;
}

static bool widens_within(const struct type *from, const struct type *to, bool exact)
{
    bool integer = from->family == FAMILY_SIGNED || from->family == FAMILY_UNSIGNED;
    bool bigint_is_double = exact && from->kind == LAKE_BIGINT && to->kind == LAKE_DOUBLE;
    bool same = from->family == to->family && from->family != FAMILY_NONE;
    bool grows = same || (from->family == FAMILY_UNSIGNED && to->family == FAMILY_SIGNED) ||
                 (integer && to->family == FAMILY_FLOATING);
    return bigint_is_double || (grows && from->bits <= to->bits);
}

bool lake_schema_type_widens(struct str from, struct str to, bool exact)
{
    unsigned digits;
    unsigned scale;
    if (str_equal(from, to) || str_equal(to, STR("VARCHAR"))) {
        return true;
    }
    if (parse_decimal(to, &digits, &scale)) {
        return widens_to_decimal(from, digits, scale);
    }
    const struct type *from_type = find_type(from);
    const struct type *to_type = find_type(to);
    return from_type != NULL && to_type != NULL && widens_within(from_type, to_type, exact);
}
