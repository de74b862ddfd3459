/* lake_check_fixture.h - a body through the check as a writer of the lake does it: pass, widen,
 * pass again; what comes of it as text. For test_lake_check*.c. */
#pragma once

#include "lake_check.h"
#include "mem.h"
#include "test.h"

enum {
    LINES_SIZE_MAX = 64 << 20,
    PASSES_MAX = 3
};

/* What a body became: schema, lines, days, bad records, as text. */
struct outcome {
    const struct lake_schema *schema;
    struct buf columns;
    struct buf lines;
    struct buf days;
    struct buf bad;
    uint64_t rows;
    unsigned passes_most; /* that one piece took */
};

static inline void outcome_init(struct outcome *outcome)
{
    *outcome = (struct outcome){.schema = lake_schema_create_empty()};
    buf_init(&outcome->columns, LINES_SIZE_MAX);
    buf_init(&outcome->lines, LINES_SIZE_MAX);
    buf_init(&outcome->days, LINES_SIZE_MAX);
    buf_init(&outcome->bad, LINES_SIZE_MAX);
}

static inline void outcome_finish(struct outcome *outcome)
{
    lake_schema_drop(outcome->schema);
    buf_finish(&outcome->columns);
    buf_finish(&outcome->lines);
    buf_finish(&outcome->days);
    buf_finish(&outcome->bad);
}

static inline void describe(struct outcome *outcome)
{
    const struct lake_schema *schema = outcome->schema;
    buf_reset(&outcome->columns);
    for (size_t i = 0; i < schema->columns_count; i++) {
        const struct lake_schema_column *column = &schema->columns[i];
        buf_append_format(&outcome->columns, "%s%s %s%s%s%s", i > 0 ? ", " : "", column->name,
                          column->sql_type, column->mixed ? " mixed" : "",
                          column->provisional ? " provisional" : "",
                          column->kind == LAKE_BIGINT && !column->exact ? " inexact" : "");
    }
}

static inline void note_bad(void *context, const struct lake_bad_record *bad)
{
    struct outcome *outcome = context;
    buf_append_format(&outcome->bad, "%" PRIu64 "@%" PRIu64 " %s: %.*s\n", bad->index, bad->offset,
                      bad->reason, STR_ARG(bad->text));
}

static inline void note_sections(struct outcome *outcome, const struct lake_checked *checked)
{
    for (size_t i = 0; i < checked->sections_count; i++) {
        buf_append_format(&outcome->days, "%d:%u ", checked->sections[i].day,
                          checked->sections[i].rows);
    }
}

/* Sections say what the lines are. */
static inline bool sections_agree(const struct lake_checked *checked)
{
    uint64_t rows = 0;
    uint64_t size = 0;
    size_t longest = 0;
    struct str rest = checked->lines;
    struct str line;
    uint64_t lines = 0;
    for (size_t i = 0; i < checked->sections_count; i++) {
        rows += checked->sections[i].rows;
        size += checked->sections[i].size;
    }
    while (str_next_part(&rest, '\n', &line)) {
        lines += line.len > 0;
        longest = line.len > longest ? line.len : longest;
    }
    return rows == checked->rows && size == checked->lines.len && lines == rows &&
           longest == checked->line_size_max;
}

/* One piece until it counts. */
static inline bool feed(struct lake_check *check, struct outcome *outcome, struct str bytes,
                        bool last, size_t *ret_used, struct err *err)
{
    for (unsigned pass = 1; pass <= PASSES_MAX; pass++) {
        struct lake_checked checked;
        const struct lake_schema *wider;
        outcome->passes_most = pass > outcome->passes_most ? pass : outcome->passes_most;
        if (!lake_check_pass(check, outcome->schema, bytes, last, &checked, NULL, err)) {
            return false;
        }
        if (checked.wants_count == 0) {
            buf_append(&outcome->lines, checked.lines);
            note_sections(outcome, &checked);
            outcome->rows += checked.rows;
            *ret_used = checked.used;
            return sections_agree(&checked) ||
                   err_set(err, ERR_INTERNAL, "the sections are not those of the lines");
        }
        if (!lake_schema_widen(outcome->schema, checked.wants, checked.wants_count, &wider, err)) {
            return false;
        }
        lake_schema_drop(outcome->schema);
        outcome->schema = wider;
    }
    return err_set(err, ERR_INTERNAL, "wants after %d passes", PASSES_MAX);
}

/* The body in pieces of `piece` new bytes; what is not used comes again. */
static inline bool take(const struct lake_check_options *options, struct outcome *outcome,
                        struct str body, size_t piece, struct err *err)
{
    struct lake_check_options own = *options;
    own.bad = note_bad;
    own.context = outcome;
    own.lines_size_max = own.lines_size_max == 0 ? LINES_SIZE_MAX : own.lines_size_max;
    own.record_size_max = own.record_size_max == 0 ? LINES_SIZE_MAX : own.record_size_max;
    struct lake_check *check = lake_check_create(&own);
    size_t used = 0;
    size_t given = 0;
    bool good = true;
    do {
        size_t now = 0;
        given = body.len - given > piece ? given + piece : body.len;
        char *copy = mem_copy_bytes(body.ptr + used, given - used); /* of exactly this size */
        good = feed(check, outcome, str_make(copy, given - used), given == body.len, &now, err);
        mem_free(copy);
        used += now;
    } while (good && given < body.len);
    lake_check_destroy(check);
    describe(outcome);
    return good &&
           (used == body.len || err_set(err, ERR_INTERNAL, "%zu of %zu used", used, body.len));
}
