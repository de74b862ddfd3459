#include "lake_stream.h"

#include "lake_internal.h"
#include "mem.h"

enum {
    PASS_SIZE = 2 << 20,      /* bytes of a pass, when there are that many */
    PIECE_SIZE_MIN = 8 << 10, /* less is gathered first */
    HAND_OVER_MIN = 32 << 10
};

/* ---- checks of requests that are over ---- */

static struct lake_check *take_spare(struct lake *lake, const struct lake_schema *schema)
{
    struct lake_check *check = NULL;
    lock_take(&lake->tables_lock);
    for (size_t i = 0; check == NULL && i < LAKE_SPARES_COUNT; i++) {
        if (lake->spares[i] != NULL && lake_check_knows(lake->spares[i], schema)) {
            check = TAKE(lake->spares[i]);
        }
    }
    lock_release(&lake->tables_lock);
    return check;
}

static void keep_spare(struct lake *lake, struct lake_check *check)
{
    if (check != NULL && lake_check_is_spare(check)) {
        lock_take(&lake->tables_lock);
        size_t free = 0;
        while (free < LAKE_SPARES_COUNT && lake->spares[free] != NULL) {
            free++;
        }
        if (free == LAKE_SPARES_COUNT) {
            free = lake->spares_next;
            lake->spares_next = (free + 1) % LAKE_SPARES_COUNT;
        }
        struct lake_check **place = &lake->spares[free];
        struct lake_check *before = *place;
        *place = check;
        check = before;
        lock_release(&lake->tables_lock);
    }
    lake_check_destroy(check);
}

static struct lake_check *open_check(struct lake *lake, const struct lake_schema *schema,
                                     const struct lake_check_options *options)
{
    struct lake_check *check = take_spare(lake, schema);
    if (check != NULL && !lake_check_restart(check, options)) {
        lake_check_destroy(check);
        check = NULL;
    }
    return check != NULL ? check : lake_check_create(options);
}

/* ---- one stream ---- */

/* Types of new columns come from as many records as there are: so the first ones are gathered. */
static bool can_go_by_piece(const struct lake_stream *stream)
{
    return stream->has_lines && !stream->whole && stream->schema->columns_count > 0;
}

void lake_stream_init(struct lake_stream *stream, struct lake *lake, struct lake_table *table,
                      const struct lake_check_options *options, bool whole)
{
    *stream = (struct lake_stream){.lake = lake, .table = table, .whole = whole};
    stream->schema = lake_table_schema(table);
    stream->has_lines = options->input == LAKE_NDJSON;
    stream->by_piece = can_go_by_piece(stream);
    buf_init_brief(&stream->held, SIZE_MAX / 8);
    buf_init_brief(&stream->lines, SIZE_MAX / 8);
    struct lake_check_options own = *options;
    own.lines = &stream->lines;
    stream->check = open_check(lake, stream->schema, &own);
}

void lake_stream_let_go(struct lake_stream *stream)
{
    if (stream->widening) {
        stream->widening = false;
        lake_table_end_widening(stream->table);
    }
}

void lake_stream_finish(struct lake_stream *stream)
{
    lake_stream_let_go(stream);
    keep_spare(stream->lake, stream->check);
    lake_schema_drop(stream->schema);
    buf_finish(&stream->held);
    buf_finish(&stream->lines);
    mem_free(stream->sections);
    lake_days_finish(&stream->days);
    *stream = (struct lake_stream){0};
}

static void set_schema(struct lake_stream *stream, const struct lake_schema *schema_take)
{
    lake_schema_drop(stream->schema);
    stream->schema = schema_take;
}

static bool begin_widening(struct lake_stream *stream, struct err *err)
{
    const struct lake_schema *schema = NULL;
    if (stream->at_once) {
        schema = lake_table_try_widening(stream->table);
        stream->would_wait = schema == NULL;
    } else if (!lake_table_begin_widening(stream->table, stream->cancel, &schema, err)) {
        return false;
    }
    if (schema == NULL) {
        return err_set(err, ERR_BUSY, "another request adds columns to the table");
    }
    set_schema(stream, schema);
    stream->widening = true;
    return true;
}

/* The first time, the table may have a newer schema by now that is wide enough. */
static bool widen(struct lake_stream *stream, const struct lake_checked *checked, struct err *err)
{
    if (!stream->widening) {
        return begin_widening(stream, err);
    }
    const struct lake_schema *wider;
    if (!lake_schema_widen(stream->schema, checked->wants, checked->wants_count, &wider, err)) {
        return false;
    }
    set_schema(stream, wider);
    return true;
}

static bool keep_days(struct lake_stream *stream, const struct lake_checked *checked,
                      struct err *err)
{
    bool good = true;
    for (size_t i = 0; good && i < checked->sections_count; i++) {
        good = lake_days_add(&stream->days, checked->sections[i].day, LAKE_DAYS_MAX);
    }
    return good ||
           err_set(err, ERR_TOO_LARGE, "the records of one request may belong to at most %d days",
                   LAKE_DAYS_MAX);
}

static void keep_sections(struct lake_stream *stream, const struct lake_checked *checked)
{
    stream->sections = mem_grow(stream->sections, stream->sections_count, checked->sections_count,
                                &stream->sections_capacity, sizeof(*stream->sections));
    for (size_t i = 0; i < checked->sections_count; i++) {
        const struct lake_section *next = &checked->sections[i];
        struct lake_section *before =
            stream->sections_count == 0 ? NULL : &stream->sections[stream->sections_count - 1];
        if (before != NULL && before->day == next->day && next->rows < UINT32_MAX - before->rows) {
            before->rows += next->rows;
            before->size += next->size;
        } else {
            stream->sections[stream->sections_count++] = *next;
        }
    }
}

static bool keep_checked(struct lake_stream *stream, const struct lake_checked *checked,
                         struct err *err)
{
    if (!keep_days(stream, checked, err)) {
        return false;
    }
    keep_sections(stream, checked);
    stream->rows += checked->rows;
    return true;
}

/* One pass, again and again until the schema is wide enough. */
static bool pass(struct lake_stream *stream, struct str bytes, bool last, size_t *ret_used,
                 struct lake_bad_record *ret_bad, struct err *err)
{
    enum {
        ROUNDS_MAX = 8 /* one more than widening can ask for, twice */
    };
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct lake_checked checked;
        if (!lake_check_pass(stream->check, stream->schema, bytes, last, &checked, ret_bad, err)) {
            return false;
        }
        if (checked.wants_count == 0) {
            *ret_used = checked.used;
            return keep_checked(stream, &checked, err);
        }
        if (!widen(stream, &checked, err)) {
            return false;
        }
    }
    return err_set(err, ERR_INTERNAL, "the schema of table %s does not settle",
                   stream->table->name);
}

/* Passes over the input as far as it goes; what is left over is an unfinished record. */
static bool pass_all(struct lake_stream *stream, struct str input, bool last, size_t *ret_used,
                     struct lake_bad_record *ret_bad, struct err *err)
{
    size_t at = 0;
    size_t wanted = stream->whole ? SIZE_MAX : PASS_SIZE;
    bool ended = false;
    while (!ended) {
        struct str slice = str_first(str_from(input, at), wanted);
        bool to_end = slice.len == input.len - at;
        size_t used;
        if (!pass(stream, slice, last && to_end, &used, ret_bad, err)) {
            return false;
        }
        at += used;
        if (used == 0) {
            wanted = wanted > SIZE_MAX / 2 ? SIZE_MAX : 2 * wanted; /* a record longer than that */
        }
        ended = to_end && (last || used == 0 || at == input.len);
    }
    *ret_used = at;
    return true;
}

/* A pass over whole records that the schema may be wide enough for; if not, nothing is done, and
 * the stream gathers from now on. */
static bool try_piece(struct lake_stream *stream, struct str bytes, size_t *ret_used,
                      struct lake_bad_record *ret_bad, struct err *err)
{
    struct lake_checked checked;
    *ret_used = 0;
    if (!lake_check_pass(stream->check, stream->schema, bytes, false, &checked, ret_bad, err)) {
        return false;
    }
    stream->by_piece = checked.wants_count == 0;
    *ret_used = checked.used;
    return !stream->by_piece || keep_checked(stream, &checked, err);
}

/* What was held ends with the first line of this piece. */
static bool end_held(struct lake_stream *stream, struct str *bytes, struct lake_bad_record *ret_bad,
                     struct err *err)
{
    struct buf *held = &stream->held;
    size_t size = str_find_byte(*bytes, '\n');
    if (size == bytes->len) {
        return true;
    }
    buf_append(held, str_first(*bytes, size + 1));
    *bytes = str_from(*bytes, size + 1);
    size_t used = 0;
    if (!buf_failed(held) && !try_piece(stream, buf_str(held), &used, ret_bad, err)) {
        return false;
    }
    assert(used == 0 || used == held->len);
    if (used > 0) {
        buf_reset(held);
    }
    return true;
}

/* Checks the whole lines of this piece where they are. What is left in *bytes is the beginning of a
 * line, or has to be gathered after all. */
static bool feed_piece(struct lake_stream *stream, struct str *bytes,
                       struct lake_bad_record *ret_bad, struct err *err)
{
    if (stream->held.len > 0 && !end_held(stream, bytes, ret_bad, err)) {
        return false;
    }
    size_t used = SIZE_MAX;
    while (stream->held.len == 0 && stream->by_piece && bytes->len > 0 && used > 0) {
        if (!try_piece(stream, str_first(*bytes, PASS_SIZE), &used, ret_bad, err)) {
            return false;
        }
        *bytes = str_from(*bytes, used);
    }
    return true;
}

/* What is left of the input when a pass over it is over. */
static void hold(struct lake_stream *stream, struct str input, size_t used)
{
    struct buf *held = &stream->held;
    if (held->len > 0) {
        memmove(held->ptr, held->ptr + used, held->len - used);
        buf_truncate(held, held->len - used);
    } else {
        buf_append(held, str_from(input, used));
    }
}

bool lake_stream_feed(struct lake_stream *stream, struct str bytes, bool last,
                      struct lake_bad_record *ret_bad, struct err *err)
{
    struct buf *held = &stream->held;
    if (stream->by_piece && bytes.len >= PIECE_SIZE_MIN &&
        !feed_piece(stream, &bytes, ret_bad, err)) {
        return false;
    }
    if (held->len > 0 || (!last && bytes.len < PASS_SIZE)) {
        buf_append(held, bytes);
        bytes = buf_str(held);
    }
    if (buf_failed(held)) {
        return err_set(err, ERR_TOO_LARGE, "a record is too long");
    }
    if (!last && (stream->whole || bytes.len < PASS_SIZE)) {
        return true;
    }
    size_t used;
    if (!pass_all(stream, bytes, last, &used, ret_bad, err)) {
        lake_stream_let_go(stream); /* the answer may take its time, and others wait */
        return false;
    }
    hold(stream, bytes, used);
    stream->by_piece = can_go_by_piece(stream);
    /* Others should not wait for this client's next bytes. */
    return last || !stream->widening || lake_stream_publish(stream, err);
}

bool lake_stream_publish(struct lake_stream *stream, struct err *err)
{
    if (!stream->widening) {
        return true;
    }
    struct lake_table *table = stream->table;
    bool first = !lake_table_has_columns(table);
    bool good = false;
    if (!first || lake_table_claim(stream->lake, table, err)) {
        lock_take(&table->lock);
        bool grows = stream->schema->columns_count > table->schema->columns_count;
        good = stream->schema == table->schema ||
               ((!grows || lake_schemas_have_room(stream->lake, err)) &&
                lake_table_publish(stream->lake, table, stream->schema, err));
        lock_release(&table->lock);
        if (first && !good) {
            lake_table_disclaim(stream->lake, table);
        }
    }
    lake_stream_let_go(stream);
    return good;
}

/* ---- lines to records ---- */

static size_t count_lines(struct str lines)
{
    size_t count = 0;
    while (lines.len > 0) {
        lines = str_from(lines, str_find_byte(lines, '\n') + 1);
        count++;
    }
    return count;
}

/* The end of the last whole line within size_max, or of the first line. */
static size_t cut_at(struct str lines, size_t size_max)
{
    if (lines.len <= size_max) {
        return lines.len;
    }
    const char *end = memrchr(lines.ptr, '\n', size_max);
    return end != NULL ? (size_t)(end - lines.ptr) + 1 : str_find_byte(lines, '\n') + 1;
}

size_t lake_stream_left(const struct lake_stream *stream)
{
    return stream->lines.len - stream->lines_start;
}

bool lake_stream_take(struct lake_stream *stream, size_t size_max, struct lake_log_rows *rows)
{
    struct str lines = str_from(buf_str(&stream->lines), stream->lines_start);
    if (lines.len == 0) {
        return false;
    }
    size_t size = cut_at(lines, size_max);
    size_t count = 0;
    size_t covered = 0;
    while (covered < size) {
        covered += stream->sections[count++].size;
    }
    struct lake_section *sections = mem_alloc_array(count, sizeof(*sections));
    rows->rows = 0;
    for (size_t i = 0; i < count; i++) {
        sections[i] = stream->sections[i];
    }
    if (covered > size) { /* the cut is within the last one */
        struct lake_section *rest = &stream->sections[--count];
        size_t before = size - (covered - rest->size);
        struct str cut = str_make(lines.ptr + size - before, before);
        sections[count].size = before;
        sections[count].rows = (uint32_t)count_lines(cut);
        rest->size -= before;
        rest->rows -= sections[count].rows;
        rows->sections_count = count + 1;
    } else {
        rows->sections_count = count;
    }
    memmove(stream->sections, stream->sections + count,
            (stream->sections_count - count) * sizeof(*sections));
    stream->sections_count -= count;
    for (size_t i = 0; i < rows->sections_count; i++) {
        rows->rows += sections[i].rows;
    }
    stream->rows -= rows->rows;
    rows->sections = sections;
    rows->lines = str_first(lines, size);
    return true;
}

bool lake_stream_hand_over(struct lake_stream *stream, struct str lines, struct buf *ret_lines)
{
    size_t left = lake_stream_left(stream) - lines.len;
    if (stream->lines_start > 0 || lines.len < HAND_OVER_MIN || left > lines.len) {
        return false;
    }
    struct buf rest;
    buf_init_brief(&rest, SIZE_MAX / 8);
    buf_append(&rest, str_from(buf_str(&stream->lines), lines.len));
    if (buf_failed(&rest)) {
        buf_finish(&rest);
        return false;
    }
    *ret_lines = stream->lines;
    stream->lines = rest;
    buf_truncate(ret_lines, lines.len);
    return true;
}

/* What is left moves to the front when there is less of it than of what was taken, so that a line
 * moves about once, however many pieces there are. */
void lake_stream_taken(struct lake_stream *stream, size_t size)
{
    stream->lines_start += size;
    size_t left = lake_stream_left(stream);
    if (left <= stream->lines_start) {
        if (left > 0) {
            memmove(stream->lines.ptr, stream->lines.ptr + stream->lines_start, left);
        }
        buf_truncate(&stream->lines, left);
        stream->lines_start = 0;
    }
}
