#include "lake_check_internal.h"
#include "lake_schema_build.h"
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    SHOWN_NAME_SIZE = 100,
    SLOTS_FIRST = 64,
    NEWS_FIRST = 16
};

static enum check_found refuse(struct check_problem *problem, const char *at, const char *format,
                               ...) PRINTF_LIKE(3, 4);

static enum check_found refuse(struct check_problem *problem, const char *at, const char *format,
                               ...)
{
    va_list arguments;
    problem->at = at;
    va_start(arguments, format);
    (void)vsnprintf(problem->reason, sizeof(problem->reason), format, arguments);
    va_end(arguments);
    return CHECK_BAD;
}

/* Cut to a length fit for a message, never inside a character. */
static struct str shown_name(struct str name)
{
    size_t size = name.len < SHOWN_NAME_SIZE ? name.len : SHOWN_NAME_SIZE;
    while (size > 0 && size < name.len && ((unsigned char)name.ptr[size] & 0xC0) == 0x80) {
        size--;
    }
    return str_first(name, size);
}

/* ---- names that the schema lacks ---- */

static const char *known_type(const struct lake_check *check, struct str folded)
{
    for (size_t i = 0; i < check->known_count; i++) {
        const struct check_known *known = &check->known[i];
        if (str_equal(str_make(known->folded, known->folded_size), folded)) {
            return known->sql_type;
        }
    }
    return NULL;
}

static void grow_news(struct lake_check *check)
{
    if (check->news_count < check->news_capacity) {
        return;
    }
    size_t capacity = check->news_capacity == 0 ? NEWS_FIRST : 2 * check->news_capacity;
    struct check_new *news = mem_alloc_array(capacity, sizeof(*news));
    for (size_t i = 0; i < check->news_count; i++) {
        news[i] = check->news[i];
    }
    mem_free(check->news);
    check->news = news;
    check->news_capacity = capacity;
}

/* The slot of a name that the schema lacks. */
static bool find_new(struct pass *pass, struct str name, struct json_span key, size_t *ret_slot,
                     struct check_problem *problem)
{
    struct lake_check *check = pass->check;
    struct str folded = map_folded_key(name);
    const void *found = map_find(&check->news_places, folded);
    if (found != NULL) {
        mem_free((void *)(uintptr_t)folded.ptr);
        *ret_slot = pass->schema->columns_count + (size_t)(uintptr_t)found - 1;
        return true;
    }
    size_t place = pass->schema->columns_count + check->news_count;
    const char *reason = lake_schema_name_problem(name);
    if (reason != NULL || place >= LAKE_COLUMNS_MAX) {
        mem_free((void *)(uintptr_t)folded.ptr);
        if (reason != NULL) {
            (void)refuse(problem, key.text.ptr, "%s", reason);
        } else {
            (void)refuse(problem, key.text.ptr, "more than %d columns in all", LAKE_COLUMNS_MAX);
        }
        return false;
    }
    grow_news(check);
    check->news[check->news_count++] = (struct check_new){
        .name = mem_copy_bytes(name.ptr, name.len),
        .folded = (char *)(uintptr_t)folded.ptr,
        .name_size = name.len,
        .sql_type = known_type(check, folded),
    };
    map_set(&check->news_places, folded, (void *)(uintptr_t)check->news_count);
    *ret_slot = place;
    return true;
}

/* ---- reading the members ---- */

static void grow_slots(struct lake_check *check, size_t needed)
{
    if (needed <= check->slots_capacity) {
        return;
    }
    size_t capacity = check->slots_capacity == 0 ? SLOTS_FIRST : check->slots_capacity;
    while (capacity < needed) {
        capacity *= 2;
    }
    struct check_slot *slots = mem_alloc_array(capacity, sizeof(*slots));
    uint32_t *touched = mem_alloc_array(capacity, sizeof(*touched));
    for (size_t i = 0; i < check->slots_capacity; i++) {
        slots[i] = check->slots[i];
        touched[i] = check->touched[i];
    }
    mem_free(check->slots);
    mem_free(check->touched);
    check->slots = slots;
    check->touched = touched;
    check->slots_capacity = capacity;
}

static bool find_slot(struct pass *pass, struct json_span key, size_t *ret_slot,
                      struct check_problem *problem)
{
    struct lake_check *check = pass->check;
    struct str name = str_make(key.text.ptr + 1, key.text.len - 2);
    if (key.escaped) {
        buf_reset(&check->name);
        (void)json_unescape(key, &check->name); /* surrogates are paired: that was looked at */
        name = buf_str(&check->name);
        if (buf_failed(&check->name)) {
            (void)refuse(problem, key.text.ptr, "a column name is too long");
            return false;
        }
    }
    *ret_slot = lake_schema_find(pass->schema, name);
    return *ret_slot < pass->schema->columns_count || find_new(pass, name, key, ret_slot, problem);
}

/* The last of several values for one column stays, where the first one stood. */
static bool read_members(struct pass *pass, struct json_span object, struct check_problem *problem)
{
    struct lake_check *check = pass->check;
    struct json_cursor cursor = json_open(object);
    struct json_span key;
    struct json_span value;
    size_t slot;
    check->record_number++;
    check->touched_count = 0;
    while (json_next(&cursor, &key, &value)) {
        if (!find_slot(pass, key, &slot, problem)) {
            return false;
        }
        grow_slots(check, slot + 1);
        if (check->slots[slot].record != check->record_number) {
            check->touched[check->touched_count++] = (uint32_t)slot;
        }
        check->slots[slot] =
            (struct check_slot){.record = check->record_number, .key = key, .value = value};
    }
    return true;
}

static bool find_day(struct pass *pass, int32_t *ret_day, struct check_problem *problem)
{
    const struct lake_schema *schema = pass->schema;
    struct lake_check *check = pass->check;
    *ret_day = check->options.day;
    if (check->options.day_given || schema->partition_rule != LAKE_PARTITION_COLUMN) {
        return true;
    }
    const struct lake_schema_column *column = &schema->columns[schema->partition_column];
    grow_slots(check, schema->partition_column + 1);
    const struct check_slot *slot = &check->slots[schema->partition_column];
    if (slot->record != check->record_number ||
        check_day_of(column, slot->value, ret_day) != CHECK_DAY_WRONG) {
        return true;
    }
    (void)refuse(problem, slot->value.text.ptr, "column \"%.*s\" holds no date to partition by",
                 STR_ARG(shown_name(lake_schema_column_name(column))));
    return false;
}

/* ---- what does not fit ---- */

enum fit {
    FIT_COLUMN,
    FIT_REST,
    FIT_WANT /* the schema has to change first */
};

static enum fit judge(const struct lake_schema *schema, size_t slot, struct json_span value,
                      unsigned *ret_saw)
{
    *ret_saw = check_look_at(value);
    if (slot >= schema->columns_count) {
        return FIT_WANT;
    }
    if (value.kind == JSON_NULL) {
        return FIT_COLUMN;
    }
    if (slot == schema->rest) {
        return FIT_REST;
    }
    if (lake_schema_can_widen(schema, slot, *ret_saw)) {
        return FIT_WANT;
    }
    if (lake_schema_fits(&schema->columns[slot], *ret_saw)) {
        return FIT_COLUMN;
    }
    return schema->rest < schema->columns_count ? FIT_REST : FIT_WANT;
}

/* Notes what the record wants; true when it wants nothing. */
static bool collect_wants(struct pass *pass)
{
    struct lake_check *check = pass->check;
    size_t columns_count = pass->schema->columns_count;
    bool fits = true;
    for (size_t i = 0; i < check->touched_count; i++) {
        size_t slot = check->touched[i];
        unsigned saw;
        if (judge(pass->schema, slot, check->slots[slot].value, &saw) == FIT_WANT) {
            fits = false;
            *(slot < columns_count ? &check->saw[slot] : &check->news[slot - columns_count].saw) |=
                saw;
        }
    }
    pass->wanting = pass->wanting || !fits;
    return fits;
}

/* ---- writing the line ---- */

static void write_value(struct line_writer *writer, enum lake_kind kind, struct json_span value)
{
    bool zero = value.kind == JSON_INTEGER && str_equal(value.text, STR("-0"));
    switch (kind) {
    case LAKE_BOOLEAN:
        line_literal(writer, value.text);
        break;
    case LAKE_BIGINT:
        line_literal(writer, zero ? STR("0") : value.text);
        break;
    case LAKE_DECIMAL:
        line_quoted(writer, zero ? STR("0") : value.text);
        break;
    case LAKE_DOUBLE:
        if (value.kind == JSON_NONFINITE) {
            line_quoted(writer, value.text);
        } else {
            line_literal(writer, value.text);
        }
        break;
    case LAKE_VARCHAR:
    case LAKE_CAST:
        line_text(writer, value);
        break;
    }
}

static void append_quoted(struct buf *into, struct str word)
{
    buf_append_byte(into, '"');
    buf_append(into, word);
    buf_append_byte(into, '"');
}

/* NaN and the infinities are no JSON; what goes to _rest has to be. Other words hold no N or I. */
static void append_strict(struct buf *into, struct json_span value)
{
    struct json_cursor cursor = json_open(value);
    struct json_span key;
    struct json_span member;
    bool object = value.kind == JSON_OBJECT;
    bool first = true;
    if (value.kind == JSON_NONFINITE) {
        append_quoted(into, value.text);
        return;
    }
    if (!object && value.kind != JSON_ARRAY) {
        buf_append(into, value.text);
        return;
    }
    buf_append_byte(into, object ? '{' : '[');
    while (json_next(&cursor, &key, &member)) {
        if (!first) {
            buf_append_byte(into, ',');
        }
        first = false;
        if (object) {
            buf_append(into, key.text);
            buf_append_byte(into, ':');
        }
        append_strict(into, member);
    }
    buf_append_byte(into, object ? '}' : ']');
}

/* Gathers what goes to _rest; its members have the names that the client used. */
static void add_to_rest(struct lake_check *check, const struct check_slot *slot)
{
    buf_append_byte(&check->rest, check->rest.len == 0 ? '{' : ',');
    buf_append(&check->rest, slot->key.text);
    buf_append_byte(&check->rest, ':');
    append_strict(&check->rest, slot->value);
}

static void write_rest(struct lake_check *check, size_t place)
{
    if (check->rest.len == 0) {
        return;
    }
    buf_append_byte(&check->rest, '}');
    if (buf_failed(&check->rest)) {
        check->lines->failed = true;
        return;
    }
    struct json_span object = {.kind = JSON_OBJECT, .text = buf_str(&check->rest)};
    line_key(&check->writer, place);
    line_text(&check->writer, object);
}

static void write_line(struct pass *pass)
{
    struct lake_check *check = pass->check;
    buf_reset(&check->rest);
    line_begin(&check->writer);
    for (size_t i = 0; i < check->touched_count; i++) {
        size_t place = check->touched[i];
        const struct check_slot *slot = &check->slots[place];
        unsigned saw;
        if (slot->value.kind == JSON_NULL) {
            continue;
        }
        if (judge(pass->schema, place, slot->value, &saw) == FIT_REST) {
            add_to_rest(check, slot);
        } else {
            line_key(&check->writer, place);
            write_value(&check->writer, pass->schema->columns[place].kind, slot->value);
        }
    }
    write_rest(check, pass->schema->rest);
    line_end(&check->writer);
}

/* ---- the record ---- */

static enum check_found scan(struct str json, struct json_span *ret_object,
                             struct check_problem *problem)
{
    struct json_scanner scanner;
    struct err err;
    json_scanner_init(&scanner, json);
    scanner.text = json; /* a byte order mark belongs to the start of the body alone */
    scanner.allow_nonfinite = true;
    scanner.depth_max = LAKE_DEPTH_MAX;
    if (!json_scan_document(&scanner, ret_object, &err)) {
        (void)refuse(problem, json.ptr + scanner.error_offset, "%s", scanner.error_text);
        return CHECK_MALFORMED;
    }
    size_t unpaired = line_find_unpaired(json);
    if (unpaired < json.len) {
        return refuse(problem, json.ptr + unpaired, "an unpaired surrogate escape");
    }
    if (ret_object->kind != JSON_OBJECT) {
        return refuse(problem, json.ptr, "the record is not an object");
    }
    return CHECK_GOOD;
}

static const char *place_in(struct str shown, const char *at)
{
    bool inside = at >= shown.ptr && at <= shown.ptr + shown.len;
    return inside ? at : shown.ptr; /* CSV: what was judged is not what came */
}

enum check_found check_record(struct pass *pass, struct str json, struct str shown,
                              int32_t *ret_day, struct check_problem *ret_problem)
{
    struct json_span object;
    const char *wrong = pass_utf8_problem(pass, shown.ptr, shown.ptr + shown.len);
    if (wrong != NULL) {
        return refuse(ret_problem, wrong, "not UTF-8");
    }
    enum check_found found = scan(json, &object, ret_problem);
    if (found == CHECK_GOOD &&
        (!read_members(pass, object, ret_problem) || !find_day(pass, ret_day, ret_problem))) {
        found = CHECK_BAD;
    }
    if (found != CHECK_GOOD) {
        ret_problem->at = place_in(shown, ret_problem->at);
    } else if (collect_wants(pass) && !pass->wanting) {
        write_line(pass);
    }
    return found;
}

bool pass_record(struct pass *pass, struct str json, struct str shown, struct err *err)
{
    struct check_problem problem;
    int32_t day = 0;
    size_t line_start = pass->check->lines->len;
    if (!pass_record_size(pass, shown.len, err)) {
        return false;
    }
    if (check_record(pass, json, shown, &day, &problem) == CHECK_GOOD) {
        return pass_row(pass, line_start, day, err);
    }
    return pass_bad(pass, shown, problem.at, problem.reason, err);
}
