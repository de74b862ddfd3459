#include "lake_check.h"

#include "lake_check_internal.h"
#include "lake_schema_build.h"
#include "mem.h"

#include <stdio.h>

enum {
    SECTIONS_FIRST = 16,
    SPARE_COLUMNS_MAX = 500,
    SPARE_SIZE_MAX = 128 << 10
};

static void use_options(struct lake_check *check, const struct lake_check_options *options)
{
    check->options = *options;
    check->lines = options->lines == NULL ? &check->own_lines : options->lines;
    check->writer.lines = check->lines;
}

struct lake_check *lake_check_create(const struct lake_check_options *options)
{
    struct lake_check *check = mem_alloc(sizeof(*check));
    line_init(&check->writer, &check->own_lines, options->lines_size_max);
    use_options(check, options);
    buf_init(&check->name, options->lines_size_max);
    buf_init(&check->rest, options->lines_size_max);
    return check;
}

static void forget_news(struct lake_check *check)
{
    for (size_t i = 0; i < check->news_count; i++) {
        mem_free(check->news[i].name);
        mem_free(check->news[i].folded);
    }
    check->news_count = 0;
    map_finish(&check->news_places);
}

static void forget_known(struct lake_check *check)
{
    for (size_t i = 0; i < check->known_count; i++) {
        mem_free(check->known[i].folded);
        mem_free(check->known[i].sql_type);
    }
    mem_free(check->known);
    check->known = NULL;
    check->known_count = 0;
}

void lake_check_destroy(struct lake_check *check)
{
    if (check == NULL) {
        return;
    }
    forget_news(check);
    forget_known(check);
    check_fast_forget(check);
    lake_schema_drop(check->schema);
    mem_free(check->slots);
    mem_free(check->touched);
    mem_free(check->saw);
    mem_free(check->news);
    mem_free(check->sections);
    mem_free(check->wants);
    line_finish(&check->writer);
    buf_finish(&check->own_lines);
    buf_finish(&check->name);
    buf_finish(&check->rest);
    check_csv_finish(&check->csv);
    mem_free(check);
}

/* ---- used again ---- */

bool lake_check_knows(const struct lake_check *check, const struct lake_schema *schema)
{
    return check->schema == schema;
}

bool lake_check_is_spare(const struct lake_check *check)
{
    return check->clean && check->known_count == 0 && check->options.input != LAKE_CSV &&
           check->schema->columns_count <= SPARE_COLUMNS_MAX &&
           check->own_lines.capacity + check->name.capacity + check->rest.capacity +
                   check->writer.scratch.capacity +
                   check->sections_capacity * sizeof(*check->sections) <=
               SPARE_SIZE_MAX;
}

bool lake_check_restart(struct lake_check *check, const struct lake_check_options *options)
{
    assert(lake_check_is_spare(check));
    if (options->input == LAKE_CSV || options->day_given != check->options.day_given ||
        options->lines_size_max != check->options.lines_size_max) {
        return false;
    }
    use_options(check, options);
    check->place = (struct check_place){.records = 0};
    check->clean = false;
    return true;
}

void lake_check_know_types(struct lake_check *check, const struct lake_known_type *types,
                           size_t types_count)
{
    forget_known(check);
    check->known = mem_alloc_array(types_count + 1, sizeof(*check->known));
    check->known_count = types_count;
    for (size_t i = 0; i < types_count; i++) {
        struct str folded = map_folded_key(types[i].name);
        check->known[i] = (struct check_known){
            .folded = (char *)(uintptr_t)folded.ptr,
            .folded_size = folded.len,
            .sql_type = mem_copy_bytes(types[i].sql_type.ptr, types[i].sql_type.len),
        };
    }
}

/* ---- what passes note ---- */

static uint64_t offset_of(const struct pass *pass, const char *at)
{
    return pass->place.bytes + (uint64_t)(at - pass->bytes.ptr);
}

bool pass_bad(struct pass *pass, struct str record, const char *at, const char *reason,
              struct err *err)
{
    const struct lake_check_options *options = &pass->check->options;
    struct lake_bad_record bad = {
        .index = pass->place.records++,
        .offset = offset_of(pass, at),
        .text = record,
    };
    (void)snprintf(bad.reason, sizeof(bad.reason), "%s", reason);
    pass->bad_count++;
    if (options->keep_bad) {
        if (pass->loud && options->bad != NULL) {
            options->bad(options->context, &bad);
        }
        return true;
    }
    if (pass->ret_bad != NULL) {
        *pass->ret_bad = bad;
    }
    return err_set(err, ERR_UNPROCESSABLE, "record %llu, byte %llu: %s",
                   (unsigned long long)bad.index, (unsigned long long)bad.offset, bad.reason);
}

static struct lake_section *open_section(struct lake_check *check, int32_t day)
{
    if (check->sections_count > 0 && check->sections[check->sections_count - 1].day == day &&
        check->sections[check->sections_count - 1].rows < UINT32_MAX) {
        return &check->sections[check->sections_count - 1];
    }
    if (check->sections_count == check->sections_capacity) {
        size_t capacity =
            check->sections_capacity == 0 ? SECTIONS_FIRST : 2 * check->sections_capacity;
        struct lake_section *sections = mem_alloc_array(capacity, sizeof(*sections));
        for (size_t i = 0; i < check->sections_count; i++) {
            sections[i] = check->sections[i];
        }
        mem_free(check->sections);
        check->sections = sections;
        check->sections_capacity = capacity;
    }
    struct lake_section *section = &check->sections[check->sections_count++];
    *section = (struct lake_section){.day = day};
    return section;
}

bool pass_row(struct pass *pass, size_t line_start, int32_t day, struct err *err)
{
    struct lake_check *check = pass->check;
    pass->place.records++;
    if (pass->wanting) {
        return true;
    }
    if (!line_check(&check->writer, err)) {
        return false;
    }
    struct lake_section *section = open_section(check, day);
    section->rows++;
    section->size += check->lines->len - line_start;
    pass->rows++;
    return true;
}

bool pass_take_fast(struct pass *pass, const char *start, const char *end, int32_t day)
{
    struct lake_check *check = pass->check;
    if (end > pass->utf8_until || (uint64_t)(end - start) > check->options.record_size_max) {
        return false;
    }
    pass->place.records++;
    if (pass->wanting) {
        return true;
    }
    size_t size = (size_t)(check->fast_end - check->lines->ptr) - check->lines->len;
    buf_wrote(check->lines, check->fast_end);
    if (size - 1 > check->writer.line_size_max) {
        check->writer.line_size_max = size - 1;
    }
    struct lake_section *section = open_section(check, day);
    section->rows++;
    section->size += size;
    pass->rows++;
    return true;
}

bool pass_record_size(struct pass *pass, size_t size, struct err *err)
{
    uint64_t size_max = pass->check->options.record_size_max;
    return size <= size_max ||
           err_set(err, ERR_TOO_LARGE, "record %llu is larger than %llu bytes",
                   (unsigned long long)pass->place.records, (unsigned long long)size_max);
}

bool pass_unfinished(struct pass *pass, const char *at, struct err *err)
{
    pass->used = (size_t)(at - pass->bytes.ptr);
    return pass_record_size(pass, pass->bytes.len - pass->used, err);
}

/* Plain text is skipped by the word. */
static const char *find_utf8_problem(const char *at, const char *end)
{
    while (at < end) {
        uint64_t eight;
        if (end - at >= 8) {
            memcpy(&eight, at, sizeof(eight));
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += 8;
                continue;
            }
        }
        size_t size = str_utf8_size(str_make(at, (size_t)(end - at)));
        if (size == 0) {
            break;
        }
        at += size;
    }
    return at;
}

const char *pass_utf8_problem(struct pass *pass, const char *start, const char *end)
{
    if (pass->utf8_until < start) {
        pass->utf8_until = find_utf8_problem(start, pass->bytes.ptr + pass->bytes.len);
    }
    return pass->utf8_until < end ? pass->utf8_until : NULL;
}

/* ---- passes ---- */

static void prepare(struct lake_check *check, const struct lake_schema *schema)
{
    if (check->schema != schema) {
        check_fast_forget(check);
        lake_schema_keep(schema);
        lake_schema_drop(check->schema);
        check->schema = schema;
        check_fast_prepare(check);
        mem_free(check->saw);
        check->saw = mem_alloc_array(schema->columns_count + 1, sizeof(*check->saw));
    } else if (check->wants != NULL) {
        memset(check->saw, 0, schema->columns_count * sizeof(*check->saw));
    }
    forget_news(check);
    mem_free(check->wants);
    check->wants = NULL;
}

static void prepare_lines(struct pass *pass)
{
    struct lake_check *check = pass->check;
    pass->lines_start = check->lines == &check->own_lines ? 0 : check->lines->len;
    check->lines->size_max = pass->lines_start + check->options.lines_size_max;
}

static void forget_lines(struct pass *pass)
{
    struct buf *lines = pass->check->lines;
    lines->failed = false;
    buf_truncate(lines, pass->lines_start);
}

static bool run(struct pass *pass, struct err *err)
{
    struct lake_check *check = pass->check;
    pass->place = check->place;
    pass->utf8_until = find_utf8_problem(pass->bytes.ptr, pass->bytes.ptr + pass->bytes.len);
    pass->wanting = false;
    pass->used = 0;
    pass->rows = 0;
    pass->bad_count = 0;
    check->sections_count = 0;
    check->writer.line_size_max = 0;
    forget_lines(pass);
    if (pass->place.bytes == 0 && !pass->last && str_starts(STR("\xEF\xBB\xBF"), pass->bytes)) {
        return true; /* this may become a byte order mark */
    }
    switch (check->options.input) {
    case LAKE_NDJSON:
        return pass_ndjson(pass, err);
    case LAKE_JSON:
        return pass_json(pass, err);
    case LAKE_CSV:
        break;
    }
    return pass_csv(pass, err);
}

/* A new column of CSV is one of numbers or booleans only when all of its fields are. */
static unsigned final_saw(const struct pass *pass, unsigned saw)
{
    bool text = pass->check->options.input == LAKE_CSV && lake_schema_is_text(saw);
    return text ? LAKE_SAW_TEXT | (saw & LAKE_SAW_NULL) : saw;
}

static size_t gather_wants(const struct pass *pass)
{
    struct lake_check *check = pass->check;
    size_t columns_count = pass->schema->columns_count;
    size_t count = 0;
    check->wants = mem_alloc_array(columns_count + check->news_count + 1, sizeof(*check->wants));
    for (size_t i = 0; i < columns_count; i++) {
        if (check->saw[i] != 0) {
            bool open = pass->schema->columns[i].provisional;
            unsigned saw = open ? final_saw(pass, check->saw[i]) : check->saw[i];
            check->wants[count++] = (struct lake_want){.place = i, .saw = saw};
        }
    }
    for (size_t i = 0; i < check->news_count; i++) {
        const struct check_new *new = &check->news[i];
        if (new->saw != 0) {
            check->wants[count++] = (struct lake_want){
                .place = columns_count,
                .name = str_make(new->name, new->name_size),
                .sql_type = new->sql_type,
                .saw = final_saw(pass, new->saw),
            };
        }
    }
    return count;
}

bool lake_check_pass(struct lake_check *check, const struct lake_schema *schema, struct str bytes,
                     bool last, struct lake_checked *ret_checked, struct lake_bad_record *ret_bad,
                     struct err *err)
{
    struct pass pass = {
        .check = check,
        .schema = schema,
        .bytes = bytes.len == 0 ? STR("") : bytes,
        .last = last,
        .ret_bad = ret_bad,
    };
    prepare(check, schema);
    prepare_lines(&pass);
    check->clean = false;
    if (!run(&pass, err)) {
        forget_lines(&pass);
        return false;
    }
    if (pass.wanting) {
        forget_lines(&pass);
        *ret_checked = (struct lake_checked){.wants_count = gather_wants(&pass)};
        ret_checked->wants = check->wants;
        return true;
    }
    pass.loud = true;
    if (pass.bad_count > 0 && !run(&pass, err)) {
        forget_lines(&pass);
        return false;
    }
    pass.place.bytes += pass.used;
    check->place = pass.place;
    check->clean = pass.bad_count == 0 && check->news_count == 0;
    *ret_checked = (struct lake_checked){
        .lines = str_from(buf_str(check->lines), pass.lines_start),
        .sections = check->sections,
        .sections_count = check->sections_count,
        .rows = pass.rows,
        .line_size_max = check->writer.line_size_max,
        .used = pass.used,
    };
    return true;
}
