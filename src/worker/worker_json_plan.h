/* worker_json_plan.h - how the JSON encoders (worker_json.c, worker_json_exact.c, worker_rows.c)
 * print a column.
 * Owner     the encoder.   Threads  none shared. */
#pragma once

#include "buf.h"
#include "worker_columns.h"
#include "worker_shim.h"

struct plan;
struct view;
typedef void value_appender(const struct plan *plan, const struct view *view, uint64_t row,
                            struct buf *out);

enum {
    PLAN_KEY_STEP = 16
};

enum plan_style {
    PLAN_JSON,  /* worker_json.h */
    PLAN_EXACT, /* worker_exact.h */
    PLAN_ROWS   /* worker_rows.h */
};

/* How to print one column or one nested part of it; made once per result. */
struct plan {
    value_appender *append; /* a value that is not NULL */
    duckdb_type type;
    duckdb_type stored;  /* DECIMAL and ENUM: the integer type underneath */
    unsigned scale;      /* DECIMAL */
    uint64_t array_size; /* ARRAY */
    bool nested;
    struct str key; /* quotes, colon and, from the second on, a comma before; PLAN_KEY_STEP to
                      spare */
    struct str *enum_texts; /* ENUM: each already a JSON string */
    uint64_t enum_count;
    struct plan *parts; /* LIST, MAP, ARRAY: one; STRUCT: one per field; UNION: the tag too */
    size_t parts_count;
};

/* The memory of a vector, looked up once per chunk. */
struct view {
    duckdb_vector vector;
    const void *data;
    uint64_t *validity;
    struct view *parts;
};

void plan_init(struct plan *plan, duckdb_logical_type type, enum plan_style style);
void plan_finish(struct plan *plan);
struct str plan_make_key(struct str name, bool first);

void view_create_parts(struct view *view, const struct plan *plan);
void view_destroy_parts(struct view *view, const struct plan *plan);
void view_init(struct view *view, const struct plan *plan, duckdb_vector vector);

#define AT(type_) (((const type_ *)view->data)[row])

static inline __int128 hugeint_of(duckdb_hugeint value)
{
    return (__int128)((unsigned __int128)(uint64_t)value.upper << 64 | value.lower);
}

/* A function that appends the value of one type; `value` is an expression of it. */
#define APPENDER(name, statement)                                                    \
    static void name(const struct plan *plan, const struct view *view, uint64_t row, \
                     struct buf *out)                                                \
    {                                                                                \
        (void)plan, (void)view, (void)row;                                           \
        statement;                                                                   \
    }

value_appender plan_append_value; /* of a row that may be NULL */
value_appender plan_append_varchar, plan_append_list, plan_append_struct, plan_append_map,
    plan_append_engine_text;

/* Of exact lines: for the types that shim_line_type() answers. */
value_appender *plan_exact_appender(duckdb_type type);
value_appender *plan_json_appender(duckdb_type type);
value_appender *plan_rows_appender(duckdb_type type);
