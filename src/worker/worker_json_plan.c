#include "worker_json_plan.h"

#include "json_write.h"
#include "mem.h"

static value_appender *appender_of(duckdb_type type, enum plan_style style)
{
    switch (style) {
    case PLAN_EXACT:
        return plan_exact_appender(type);
    case PLAN_ROWS:
        return plan_rows_appender(type);
    case PLAN_JSON:
        break;
    }
    return plan_json_appender(type);
}

struct str plan_make_key(struct str name, bool first)
{
    struct buf key;
    buf_init(&key, name.len * 6 + 16);
    if (!first) {
        buf_append_byte(&key, ',');
    }
    json_append_string(&key, name);
    buf_append_byte(&key, ':');
    char *bytes = mem_alloc(key.len + PLAN_KEY_STEP);
    size_t size = key.len;
    memcpy(bytes, key.ptr, size);
    buf_finish(&key);
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
        char *bytes = buf_take(&quoted, &size);
        plan->enum_texts[i] = str_make(bytes, size);
        duckdb_free(text);
    }
}

/* A child type is destroyed. */
static void plan_part(struct plan *plan, size_t index, duckdb_logical_type child,
                      enum plan_style style)
{
    plan->parts[index].nested = true;
    plan_init(&plan->parts[index], child, style);
    duckdb_destroy_logical_type(&child);
}

static void plan_struct(struct plan *plan, duckdb_logical_type type, enum plan_style style)
{
    plan->parts_count = duckdb_struct_type_child_count(type);
    plan->parts = mem_alloc_array(plan->parts_count, sizeof(*plan->parts));
    for (size_t i = 0; i < plan->parts_count; i++) {
        plan_part(plan, i, duckdb_struct_type_child_type(type, i), style);
        char *name = duckdb_struct_type_child_name(type, i);
        plan->parts[i].key = plan_make_key(str_of(name), i == 0);
        duckdb_free(name);
    }
}

/* One part: a list's elements, or a map's pairs, which are a struct of two. */
static void plan_list(struct plan *plan, duckdb_logical_type type, enum plan_style style)
{
    plan->parts_count = 1;
    plan->parts = mem_alloc(sizeof(*plan->parts));
    if (plan->type == DUCKDB_TYPE_LIST) {
        plan_part(plan, 0, duckdb_list_type_child_type(type), style);
        return;
    }
    struct plan *pair = plan->parts;
    pair->type = DUCKDB_TYPE_STRUCT;
    pair->parts_count = 2;
    pair->parts = mem_alloc_array(2, sizeof(*pair->parts));
    plan_part(pair, 0, duckdb_map_type_key_type(type), style);
    plan_part(pair, 1, duckdb_map_type_value_type(type), style);
}

static void plan_array(struct plan *plan, duckdb_logical_type type, enum plan_style style)
{
    plan->parts_count = 1;
    plan->parts = mem_alloc(sizeof(*plan->parts));
    plan->array_size = duckdb_array_type_array_size(type);
    plan_part(plan, 0, duckdb_array_type_child_type(type), style);
}

/* Stored as a struct: the member's number, then the members. */
static void plan_union(struct plan *plan, duckdb_logical_type type, enum plan_style style)
{
    plan->parts_count = 1 + duckdb_union_type_member_count(type);
    plan->parts = mem_alloc_array(plan->parts_count, sizeof(*plan->parts));
    plan_part(plan, 0, duckdb_create_logical_type(DUCKDB_TYPE_UTINYINT), style);
    for (size_t i = 1; i < plan->parts_count; i++) {
        plan_part(plan, i, duckdb_union_type_member_type(type, i - 1), style);
    }
}

void plan_init(struct plan *plan, duckdb_logical_type type, enum plan_style style)
{
    plan->type = duckdb_get_type_id(type);
    plan->append = appender_of(plan->type, style);
    if (plan->type == DUCKDB_TYPE_DECIMAL) {
        plan->stored = duckdb_decimal_internal_type(type);
        plan->scale = duckdb_decimal_scale(type);
    } else if (plan->type == DUCKDB_TYPE_ENUM) {
        plan_enum(plan, type);
    } else if (plan->type == DUCKDB_TYPE_LIST ||
               (plan->type == DUCKDB_TYPE_MAP && style != PLAN_JSON)) {
        plan_list(plan, type, style);
    } else if (plan->type == DUCKDB_TYPE_STRUCT) {
        plan_struct(plan, type, style);
    } else if (plan->type == DUCKDB_TYPE_ARRAY && style == PLAN_ROWS) {
        plan_array(plan, type, style);
    } else if (plan->type == DUCKDB_TYPE_UNION && style == PLAN_ROWS) {
        plan_union(plan, type, style);
    }
}

void plan_finish(struct plan *plan)
{
    mem_free((char *)(uintptr_t)plan->key.ptr);
    for (uint64_t i = 0; i < plan->enum_count; i++) {
        mem_free((char *)(uintptr_t)plan->enum_texts[i].ptr);
    }
    mem_free(plan->enum_texts);
    for (size_t i = 0; i < plan->parts_count; i++) {
        plan_finish(&plan->parts[i]);
    }
    mem_free(plan->parts);
}

void view_init(struct view *view, const struct plan *plan, duckdb_vector vector)
{
    view->vector = vector;
    view->validity = duckdb_vector_get_validity(vector);
    bool fields = plan->type == DUCKDB_TYPE_STRUCT || plan->type == DUCKDB_TYPE_UNION;
    for (size_t i = 0; fields && i < plan->parts_count; i++) {
        view_init(&view->parts[i], &plan->parts[i], duckdb_struct_vector_get_child(vector, i));
    }
    if (fields) {
        return;
    }
    if (plan->type == DUCKDB_TYPE_ARRAY && plan->parts_count > 0) {
        view_init(view->parts, plan->parts, duckdb_array_vector_get_child(vector));
        return;
    }
    view->data = duckdb_vector_get_data(vector);
    if (plan->parts_count > 0) {
        view_init(view->parts, plan->parts, duckdb_list_vector_get_child(vector));
    }
}

void view_create_parts(struct view *view, const struct plan *plan)
{
    view->parts = mem_alloc_array(plan->parts_count, sizeof(*view->parts));
    for (size_t i = 0; i < plan->parts_count; i++) {
        view_create_parts(&view->parts[i], &plan->parts[i]);
    }
}

void view_destroy_parts(struct view *view, const struct plan *plan)
{
    for (size_t i = 0; i < plan->parts_count; i++) {
        view_destroy_parts(&view->parts[i], &plan->parts[i]);
    }
    mem_free(view->parts);
}
