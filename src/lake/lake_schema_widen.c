#include "lake_schema_build.h"
#include "mem.h"

enum {
    INEXACT_INT64 = LAKE_SAW_INT64 | LAKE_SAW_INEXACT
};

/* ---- what fits ---- */

bool lake_schema_fits(const struct lake_schema_column *column, unsigned saw)
{
    const unsigned integers = LAKE_SAW_INT64 | LAKE_SAW_INT128 | LAKE_SAW_LONG;
    unsigned fits = LAKE_SAW_NULL;
    switch (column->kind) {
    case LAKE_BOOLEAN:
        fits |= LAKE_SAW_BOOL;
        break;
    case LAKE_BIGINT:
        fits |= LAKE_SAW_INT64 | LAKE_SAW_INEXACT;
        break;
    case LAKE_DECIMAL:
        fits |= LAKE_SAW_INT64 | LAKE_SAW_INT128 | LAKE_SAW_INEXACT;
        break;
    case LAKE_DOUBLE:
        fits |= LAKE_SAW_REAL | integers;
        break;
    case LAKE_VARCHAR:
        fits |= LAKE_SAW_TEXT | LAKE_SAW_NESTED | (column->mixed ? saw : 0);
        break;
    case LAKE_CAST:
        fits = saw;
        break;
    }
    return (saw & ~fits) == 0;
}

/* Whether the column has to change before it can hold what was seen, or note something of it. */
bool lake_schema_can_widen(const struct lake_schema *schema, size_t place, unsigned saw)
{
    const struct lake_schema_column *column = &schema->columns[place];
    bool fixed = column->declared || (schema->partition_rule == LAKE_PARTITION_COLUMN &&
                                      schema->partition_column == place);
    if (column->provisional) {
        return !fixed && (saw & ~(unsigned)LAKE_SAW_NULL) != 0;
    }
    if (column->kind != LAKE_BIGINT || !column->exact) {
        return false;
    }
    bool inexact = (saw & INEXACT_INT64) == INEXACT_INT64;
    return inexact || (!fixed && (saw & LAKE_SAW_REAL) != 0);
}

/* ---- widening ---- */

/* The type of a new column: see lake_check.h, and lake_schema.h for what the marks mean. */
static enum lake_kind decide_kind(unsigned saw)
{
    const unsigned integers = LAKE_SAW_INT64 | LAKE_SAW_INT128;
    const unsigned numbers = integers | LAKE_SAW_LONG | LAKE_SAW_REAL;
    unsigned kinds = saw & ~(unsigned)(LAKE_SAW_NULL | LAKE_SAW_INEXACT);
    if (kinds == LAKE_SAW_BOOL) {
        return LAKE_BOOLEAN;
    }
    if (kinds == LAKE_SAW_INT64) {
        return LAKE_BIGINT;
    }
    if (kinds != 0 && (kinds & ~integers) == 0) {
        return LAKE_DECIMAL;
    }
    bool exact = (saw & LAKE_SAW_INEXACT) == 0;
    bool reals = (kinds & LAKE_SAW_REAL) != 0 && (kinds & ~numbers) == 0;
    return reals && exact ? LAKE_DOUBLE : LAKE_VARCHAR;
}

bool lake_schema_is_text(unsigned saw)
{
    return decide_kind(saw) == LAKE_VARCHAR && (saw & ~(unsigned)LAKE_SAW_NULL) != 0;
}

static void decide(struct lake_schema_column *column, unsigned saw)
{
    enum lake_kind kind = decide_kind(saw);
    bool exact = (saw & LAKE_SAW_INEXACT) == 0;
    unsigned kinds = saw & ~(unsigned)(LAKE_SAW_NULL | LAKE_SAW_INEXACT);
    lake_schema_set_type(column, kind, str_of(lake_schema_kind_type(kind)));
    column->exact = kind == LAKE_BIGINT && exact;
    column->provisional = kinds == 0;
    column->mixed =
        kind == LAKE_VARCHAR && (kinds & ~(unsigned)(LAKE_SAW_TEXT | LAKE_SAW_NESTED)) != 0;
}

static void widen_column(struct lake_schema_column *column, unsigned saw)
{
    if (column->provisional) {
        decide(column, saw);
    } else if ((saw & INEXACT_INT64) == INEXACT_INT64) {
        column->exact = false;
    } else {
        lake_schema_set_type(column, LAKE_DOUBLE, STR("DOUBLE"));
    }
}

/* `sql_type` comes from the source, which may know types that we do not: then values decide. */
static void decide_new(struct lake_schema_column *column, const struct lake_want *want)
{
    CLEANUP(buf_finish) struct buf normal = {0};
    enum lake_kind kind;
    buf_init(&normal, LAKE_COLUMN_NAME_MAX);
    if (want->sql_type != NULL && lake_schema_type_kind(str_of(want->sql_type), &kind, &normal)) {
        lake_schema_set_type(column, kind, buf_str(&normal));
        column->exact = column->exact && (want->saw & LAKE_SAW_INEXACT) == 0;
    } else {
        decide(column, want->saw);
    }
}

static bool apply_want(struct lake_schema *schema, const struct lake_want *want, bool is_new,
                       bool *changed, struct err *err)
{
    struct lake_schema_column *column;
    if (is_new && lake_schema_is_rest(want->name)) {
        *changed = true;
        return lake_schema_add_rest(schema, err);
    }
    if (is_new) {
        if (!lake_schema_add(schema, want->name, &column, err)) {
            return false;
        }
        decide_new(column, want);
        *changed = true;
    } else {
        column = &schema->columns[want->place];
        if (lake_schema_can_widen(schema, want->place, want->saw)) {
            widen_column(column, want->saw);
            *changed = true;
        }
    }
    bool needs_rest = column->kind == LAKE_CAST || !lake_schema_fits(column, want->saw);
    if (!needs_rest || schema->rest < schema->columns_count) {
        return true;
    }
    *changed = true;
    return lake_schema_add_rest(schema, err);
}

bool lake_schema_widen(const struct lake_schema *schema, const struct lake_want *wants,
                       size_t wants_count, const struct lake_schema **ret_schema, struct err *err)
{
    CLEANUP(lake_schema_discard) struct lake_schema *made = lake_schema_copy(schema);
    bool changed = false;
    for (size_t i = 0; i < wants_count; i++) {
        bool is_new = wants[i].place >= schema->columns_count;
        if (!apply_want(made, &wants[i], is_new, &changed, err)) {
            return false;
        }
    }
    if (!changed) {
        *ret_schema = lake_schema_keep(schema);
        return true;
    }
    made->stored = false;
    *ret_schema = TAKE(made);
    return true;
}

/* ---- merging ---- */

static bool same_type(const struct lake_schema_column *a, const struct lake_schema_column *b)
{
    return a->kind == b->kind && str_equal(str_of(a->sql_type), str_of(b->sql_type));
}

static void take_type(struct lake_schema_column *column, const struct lake_schema_column *from)
{
    lake_schema_set_type(column, from->kind, str_of(from->sql_type));
    column->exact = from->exact;
    column->mixed = from->mixed;
    column->provisional = from->provisional;
    column->declared = from->declared;
}

/* Ours becomes what holds the values of both; see lake_schema_merge. */
static void merge_column(struct lake_schema_column *column, const struct lake_schema_column *stored)
{
    struct str ours = str_of(column->sql_type);
    struct str theirs = str_of(stored->sql_type);
    bool declared = column->declared || stored->declared;
    if (same_type(column, stored)) {
        column->exact = column->exact && stored->exact;
        column->mixed = column->mixed || stored->mixed;
        column->provisional = column->provisional && stored->provisional;
    } else if (column->provisional) {
        take_type(column, stored);
    } else if (stored->provisional) {
        return;
    } else if (column->kind == LAKE_BIGINT && column->exact && stored->kind == LAKE_DOUBLE) {
        take_type(column, stored);
    } else if (column->kind == LAKE_BIGINT && stored->kind == LAKE_DECIMAL) {
        take_type(column, stored);
    } else if (!(column->kind == LAKE_DECIMAL && stored->kind == LAKE_BIGINT) &&
               !(column->kind == LAKE_DOUBLE && stored->kind == LAKE_BIGINT && stored->exact) &&
               !(column->kind == LAKE_CAST && str_equal(ours, theirs))) {
        lake_schema_set_type(column, LAKE_CAST, theirs);
    }
    column->declared = declared;
}

/* Whether both say the same; the order of columns is each writer's own. */
static bool says_all(const struct lake_schema *stored, const struct lake_schema *merged)
{
    for (size_t i = 0; i < merged->columns_count; i++) {
        const struct lake_schema_column *column = &merged->columns[i];
        size_t place = lake_schema_find(stored, lake_schema_column_name(column));
        if (place == stored->columns_count) {
            return false;
        }
        const struct lake_schema_column *other = &stored->columns[place];
        if (!same_type(column, other) || column->exact != other->exact ||
            column->mixed != other->mixed || column->provisional != other->provisional ||
            column->declared != other->declared) {
            return false;
        }
    }
    return true;
}

static void take_rules(struct lake_schema *schema, const struct lake_schema *stored)
{
    schema->partition_rule = stored->partition_rule;
    schema->partition_column = 0;
    if (stored->partition_rule == LAKE_PARTITION_COLUMN) {
        const struct lake_schema_column *column = &stored->columns[stored->partition_column];
        schema->partition_column = lake_schema_find(schema, lake_schema_column_name(column));
    }
    mem_free(schema->sort);
    schema->sort = mem_alloc_array(stored->sort_count + 1, sizeof(*schema->sort));
    schema->sort_count = stored->sort_count;
    for (size_t i = 0; i < stored->sort_count; i++) {
        const struct lake_schema_column *column = &stored->columns[stored->sort[i]];
        schema->sort[i] = lake_schema_find(schema, lake_schema_column_name(column));
    }
    schema->retention_days = stored->retention_days;
    schema->flush_bytes = stored->flush_bytes;
    schema->flush_age_ms = stored->flush_age_ms;
    schema->flush_rows = stored->flush_rows;
    schema->version = stored->version;
}

/* A column that rows are partitioned by keeps the type that makes that possible. */
static bool keep_partition_type(struct lake_schema *schema, const struct lake_schema *stored)
{
    if (schema->partition_rule != LAKE_PARTITION_COLUMN) {
        return false;
    }
    struct lake_schema_column *column = &schema->columns[schema->partition_column];
    if (lake_schema_can_partition(column)) {
        return false;
    }
    struct str type = str_of(stored->columns[stored->partition_column].sql_type);
    lake_schema_set_type(column, LAKE_CAST, type);
    return true;
}

bool lake_schema_merge(const struct lake_schema *schema, const struct lake_schema *stored,
                       const struct lake_schema **ret_schema, struct err *err)
{
    CLEANUP(lake_schema_discard) struct lake_schema *made = lake_schema_copy(schema);
    for (size_t i = 0; i < stored->columns_count; i++) {
        const struct lake_schema_column *theirs = &stored->columns[i];
        struct str name = lake_schema_column_name(theirs);
        size_t place = lake_schema_find(made, name);
        struct lake_schema_column *column;
        if (place < made->columns_count) {
            merge_column(&made->columns[place], theirs);
        } else if (lake_schema_add(made, name, &column, err)) {
            take_type(column, theirs);
        } else {
            return false;
        }
    }
    take_rules(made, stored);
    bool casts = keep_partition_type(made, stored);
    for (size_t i = 0; i < made->columns_count; i++) {
        casts = casts || made->columns[i].kind == LAKE_CAST;
    }
    if (casts && !lake_schema_add_rest(made, err)) {
        return false;
    }
    made->stored = says_all(stored, made);
    *ret_schema = TAKE(made);
    return true;
}
