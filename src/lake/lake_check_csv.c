#include "json_token.h"
#include "json_write.h"
#include "lake_check_internal.h"
#include "lake_schema_build.h"
#include "mem.h"

#include <stdio.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    CELLS_FIRST = 16
};

static void forget_header(struct check_csv *csv)
{
    for (size_t i = 0; i < csv->fields_count; i++) {
        mem_free(csv->fields[i].key);
        mem_free(csv->fields[i].name);
    }
    mem_free(csv->fields);
    csv->fields = NULL;
    csv->fields_count = 0;
}

void check_csv_finish(struct check_csv *csv)
{
    forget_header(csv);
    mem_free(csv->cells);
    buf_finish(&csv->record);
    buf_finish(&csv->text);
    *csv = (struct check_csv){0};
}

/* ---- splitting a record into cells ---- */

/* What splitting finds. `next` is behind the line end, or the end of the bytes. */
struct split {
    const char *end; /* of the bytes */
    bool last;
    size_t cells_count;
    const char *record_end; /* before the line end */
    const char *next;
    const char *wrong_at;
    const char *wrong;
};

/* Written in place: a cell that is handed over by value is read before its halves are stored. */
static void add_cell(struct check_csv *csv, struct split *split, struct str text, bool quoted,
                     bool doubled)
{
    if (split->cells_count == csv->cells_capacity) {
        size_t capacity = csv->cells_capacity == 0 ? CELLS_FIRST : 2 * csv->cells_capacity;
        struct check_csv_cell *cells = mem_alloc_array(capacity, sizeof(*cells));
        for (size_t i = 0; i < split->cells_count; i++) {
            cells[i] = csv->cells[i];
        }
        mem_free(csv->cells);
        csv->cells = cells;
        csv->cells_capacity = capacity;
    }
    struct check_csv_cell *cell = &csv->cells[split->cells_count++];
    cell->text.ptr = text.ptr;
    cell->text.len = text.len;
    cell->quoted = quoted;
    cell->doubled = doubled;
}

static void note_wrong(struct split *split, const char *at, const char *reason)
{
    if (split->wrong == NULL) {
        split->wrong_at = at;
        split->wrong = reason;
    }
}

/* The next comma, line end or quote, or the end. */
static const char *find_delimiter(const char *at, const char *end)
{
#if defined(__SSE2__)
    while (end - at >= 16) {
        __m128i sent = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i comma = _mm_cmpeq_epi8(sent, _mm_set1_epi8(','));
        __m128i line_end = _mm_cmpeq_epi8(sent, _mm_set1_epi8('\n'));
        __m128i quote = _mm_cmpeq_epi8(sent, _mm_set1_epi8('"'));
        __m128i found = _mm_or_si128(_mm_or_si128(comma, line_end), quote);
        unsigned marks = (unsigned)_mm_movemask_epi8(found);
        if (marks != 0) {
            return at + __builtin_ctz(marks);
        }
        at += 16;
    }
#endif
    while (at < end && *at != ',' && *at != '\n' && *at != '"') {
        at++;
    }
    return at;
}

/* A field without quotes around it, to the comma or line end. */
static const char *split_plain(struct check_csv *csv, struct split *split, const char *at)
{
    const char *start = at;
    while ((at = find_delimiter(at, split->end)) < split->end && *at == '"') {
        note_wrong(split, at, "a quote inside a field that has none around it");
        at++;
    }
    const char *stop = at;
    bool at_line_end = at == split->end || *at == '\n';
    if (at_line_end && stop > start && stop[-1] == '\r') {
        stop--;
    }
    add_cell(csv, split, str_make(start, (size_t)(stop - start)), false, false);
    return at;
}

/* A field in quotes; NULL when it does not end. */
static const char *split_quoted(struct check_csv *csv, struct split *split, const char *at)
{
    bool doubled = false;
    const char *start = at + 1;
    at = start;
    for (;;) {
        at = memchr(at, '"', (size_t)(split->end - at));
        if (at == NULL || (at + 1 == split->end && !split->last)) {
            return NULL;
        }
        if (at + 1 == split->end || at[1] != '"') {
            break;
        }
        doubled = true;
        at += 2;
    }
    add_cell(csv, split, str_make(start, (size_t)(at - start)), true, doubled);
    at++;
    if (split->end - at >= 2 && at[0] == '\r' && at[1] == '\n') {
        at++;
    } else if (split->end - at == 1 && at[0] == '\r') {
        at = split->last ? split->end : at;
    }
    if (at < split->end && *at != ',' && *at != '\n') {
        note_wrong(split, at, "text after the quote that closes a field");
        while ((at = find_delimiter(at, split->end)) < split->end && *at == '"') {
            at++;
        }
    }
    return at;
}

/* One record into csv->cells; false when it does not end here. */
static bool split_record(struct check_csv *csv, struct split *split, const char *at)
{
    for (;;) {
        bool quoted = at < split->end && *at == '"';
        at = quoted ? split_quoted(csv, split, at) : split_plain(csv, split, at);
        if (at == NULL || (at == split->end && !split->last)) {
            return false;
        }
        if (at == split->end || *at == '\n') {
            split->record_end = at;
            split->next = at == split->end ? at : at + 1;
            return true;
        }
        at++; /* the comma */
        if (at == split->end && !split->last) {
            return false;
        }
    }
}

/* The text of a cell; with doubled quotes it is written to csv->text. */
static struct str cell_text(struct check_csv *csv, const struct check_csv_cell *cell)
{
    if (!cell->doubled) {
        return cell->text;
    }
    struct str rest = cell->text;
    buf_reset(&csv->text);
    while (rest.len > 0) {
        size_t quote = str_find_byte(rest, '"');
        buf_append(&csv->text, str_first(rest, quote + 1));
        rest = str_from(rest, quote + 2 < rest.len ? quote + 2 : rest.len);
    }
    return buf_str(&csv->text);
}

/* ---- the header ---- */

static bool set_field(struct check_csv *csv, size_t index, struct err *err)
{
    CLEANUP(buf_finish) struct buf key = {0};
    struct str name = cell_text(csv, &csv->cells[index]);
    const char *problem = lake_schema_name_problem(name);
    if (problem != NULL) {
        return err_set(err, ERR_INVALID, "CSV header, field %zu: %s", index + 1, problem);
    }
    buf_init(&key, 8 * LAKE_COLUMN_NAME_MAX);
    json_append_string(&key, name);
    buf_append_byte(&key, ':');
    struct check_csv_field *field = &csv->fields[index];
    field->name = mem_copy_bytes(name.ptr, name.len);
    field->name_size = name.len;
    field->key = buf_take(&key, &field->key_size);
    return true;
}

/* Of fields with one name the last wins, as it does among keys. */
static void shadow_fields(struct check_csv *csv)
{
    struct map seen = {0};
    for (size_t i = csv->fields_count; i-- > 0;) {
        struct check_csv_field *field = &csv->fields[i];
        struct str folded = map_folded_key(str_make(field->name, field->name_size));
        memcpy(field->name, folded.ptr, folded.len);
        mem_free((void *)(uintptr_t)folded.ptr);
        struct str name = str_make(field->name, field->name_size);
        field->shadowed = map_find(&seen, name) != NULL;
        map_set(&seen, name, field);
    }
    map_finish(&seen);
}

static bool read_header(struct pass *pass, const struct split *split, const char *start,
                        struct err *err)
{
    struct check_csv *csv = &pass->check->csv;
    forget_header(csv);
    if (pass_utf8_problem(pass, start, split->record_end) != NULL) {
        return err_set(err, ERR_INVALID, "the CSV header is not UTF-8");
    }
    if (split->wrong != NULL) {
        return err_set(err, ERR_INVALID, "CSV header: %s", split->wrong);
    }
    if (split->cells_count > LAKE_COLUMNS_MAX) {
        return err_set(err, ERR_INVALID, "the CSV header names more than %d columns",
                       LAKE_COLUMNS_MAX);
    }
    csv->fields = mem_alloc_array(split->cells_count, sizeof(*csv->fields));
    csv->fields_count = split->cells_count;
    for (size_t i = 0; i < split->cells_count; i++) {
        if (!set_field(csv, i, err)) {
            return false;
        }
    }
    shadow_fields(csv);
    pass->place.header = true;
    return true;
}

/* ---- a record as JSON ---- */

/* Whether a field that looks like a number or boolean is one. */
static bool wants_plain(const struct lake_schema *schema, const struct check_csv_field *field)
{
    size_t place = lake_schema_find(schema, str_make(field->name, field->name_size));
    if (place == schema->columns_count) {
        return true;
    }
    const struct lake_schema_column *column = &schema->columns[place];
    return column->provisional || column->kind == LAKE_BOOLEAN || column->kind == LAKE_BIGINT ||
           column->kind == LAKE_DECIMAL || column->kind == LAKE_DOUBLE;
}

/* Most fields need nothing but quotes around them. */
static void append_text(struct buf *record, struct str text)
{
    const char *end = text.ptr + text.len;
    char *room = NULL;
    if (text.len == 0 || find_special(text.ptr, end) == end) {
        room = buf_room(record, text.len + 2);
    }
    if (room == NULL) {
        json_append_string(record, text);
        return;
    }
    *room++ = '"';
    memcpy(room, text.ptr, text.len);
    room[text.len] = '"';
    buf_wrote(record, room + text.len + 1);
}

static void append_member(struct check_csv *csv, size_t index)
{
    const struct check_csv_field *field = &csv->fields[index];
    const struct check_csv_cell *cell = &csv->cells[index];
    struct buf *record = &csv->record;
    char *room = buf_room(record, field->key_size + 1);
    if (field->shadowed || room == NULL) {
        return;
    }
    *room = record->len == 0 ? '{' : ',';
    memcpy(room + 1, field->key, field->key_size);
    buf_wrote(record, room + 1 + field->key_size);
    struct str text = cell_text(csv, cell);
    if (text.len == 0 && !cell->quoted) {
        buf_append(record, STR("null"));
    } else if (field->plain && check_plain_value(text)) {
        buf_append(record, text);
    } else {
        append_text(record, text);
    }
}

static void make_record(struct check_csv *csv)
{
    buf_reset(&csv->record);
    for (size_t i = 0; i < csv->fields_count; i++) {
        append_member(csv, i);
    }
    buf_append_byte(&csv->record, '}');
}

static bool take_cells(struct pass *pass, const struct split *split, struct str shown,
                       struct err *err)
{
    struct check_csv *csv = &pass->check->csv;
    const char *wrong = pass_utf8_problem(pass, shown.ptr, shown.ptr + shown.len);
    if (wrong != NULL) {
        return pass_bad(pass, shown, wrong, "not UTF-8", err);
    }
    if (split->wrong != NULL) {
        return pass_bad(pass, shown, split->wrong_at, split->wrong, err);
    }
    if (split->cells_count != csv->fields_count) {
        struct check_problem problem;
        (void)snprintf(problem.reason, sizeof(problem.reason),
                       "%zu fields, where the header has %zu", split->cells_count,
                       csv->fields_count);
        return pass_bad(pass, shown, shown.ptr, problem.reason, err);
    }
    make_record(csv);
    if (buf_failed(&csv->record)) {
        return err_set(err, ERR_TOO_LARGE, "record %llu is too large",
                       (unsigned long long)pass->place.records);
    }
    struct str record = buf_str(&csv->record);
    int32_t day;
    if (check_fast_line(pass, record.ptr, record.ptr + record.len, &day) != NULL &&
        pass_take_fast(pass, shown.ptr, shown.ptr + shown.len, day)) {
        return true;
    }
    return pass_record(pass, record, shown, err);
}

/* ---- the pass ---- */

static void prepare(struct pass *pass)
{
    struct check_csv *csv = &pass->check->csv;
    if (csv->record.size_max == 0) {
        buf_init(&csv->record, pass->check->options.lines_size_max);
        buf_init(&csv->text, pass->check->options.lines_size_max);
    }
}

static void plan_fields(struct pass *pass)
{
    struct check_csv *csv = &pass->check->csv;
    for (size_t i = 0; i < csv->fields_count; i++) {
        csv->fields[i].plain = wants_plain(pass->schema, &csv->fields[i]);
    }
}

/* A record that never ends is the rest of the body. */
static bool take_open(struct pass *pass, const char *start, struct err *err)
{
    struct str rest = str_make(start, (size_t)(pass->bytes.ptr + pass->bytes.len - start));
    if (!pass->last) {
        return pass_unfinished(pass, start, err);
    }
    pass->used = pass->bytes.len;
    if (!pass->place.header) {
        return err_set(err, ERR_INVALID, "CSV header: a quoted field does not end");
    }
    return pass_record_size(pass, rest.len, err) &&
           pass_bad(pass, rest, start, "a quoted field does not end", err);
}

/* An empty line is nothing, but where one empty field is a whole record. */
static bool is_nothing(const struct pass *pass, const struct split *split)
{
    const struct check_csv *csv = &pass->check->csv;
    bool single = pass->place.header && csv->fields_count == 1;
    return !single && split->cells_count == 1 && csv->cells[0].text.len == 0 &&
           !csv->cells[0].quoted;
}

static bool take_split(struct pass *pass, const struct split *split, const char *start,
                       struct err *err)
{
    struct str shown = str_make(start, (size_t)(split->record_end - start));
    if (shown.len > 0 && shown.ptr[shown.len - 1] == '\r') {
        shown.len--;
    }
    if (is_nothing(pass, split)) {
        return true;
    }
    if (!pass_record_size(pass, shown.len, err)) {
        return false;
    }
    if (pass->place.header) {
        return take_cells(pass, split, shown, err);
    }
    if (!read_header(pass, split, start, err)) {
        return false;
    }
    plan_fields(pass);
    return true;
}

bool pass_csv(struct pass *pass, struct err *err)
{
    const char *end = pass->bytes.ptr + pass->bytes.len;
    struct str mark = STR("\xEF\xBB\xBF");
    bool marked = pass->place.bytes == 0 && str_starts(pass->bytes, mark);
    const char *at = pass->bytes.ptr + (marked ? mark.len : 0);
    prepare(pass);
    plan_fields(pass);
    while (at < end) {
        struct split split = {.end = end, .last = pass->last};
        if (!split_record(&pass->check->csv, &split, at)) {
            return take_open(pass, at, err);
        }
        if (!take_split(pass, &split, at, err)) {
            return false;
        }
        at = split.next;
    }
    pass->used = pass->bytes.len;
    return !pass->last || pass->place.header ||
           err_set(err, ERR_INVALID, "the CSV body has no header");
}
