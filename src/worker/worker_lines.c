#include "worker_lines.h"

static bool is_type(struct str type, const char *name)
{
    struct str bare = str_trim(str_first(type, str_find_byte(type, '(')));
    return str_equal_nocase(bare, str_of(name));
}

/* A timestamp with an offset means that moment: a cast straight to TIMESTAMP would drop the offset.
 * TIMESTAMP_NS stays direct, because the way through TIMESTAMPTZ keeps microseconds only. */
static bool goes_through_zone(struct str type)
{
    return is_type(type, "TIMESTAMP") || is_type(type, "DATETIME") ||
           is_type(type, "TIMESTAMP_S") || is_type(type, "TIMESTAMP_MS") ||
           is_type(type, "TIMESTAMP_US");
}

void lines_append_cast(struct buf *sql, const struct worker_column *column, size_t index,
                       const char *cast)
{
    bool zone = goes_through_zone(column->sql_type);
    buf_append_format(sql, "%s(%s%sc%zu%s AS %.*s)", cast, zone ? cast : "", zone ? "(" : "", index,
                      zone ? " AS TIMESTAMPTZ)" : "", STR_ARG(column->sql_type));
}

static void append_misfit(struct buf *sql, const struct worker_lines *lines, size_t index)
{
    buf_append_format(sql, "(c%zu IS NOT NULL AND ", index);
    lines_append_cast(sql, &lines->columns[index], index, "TRY_CAST");
    buf_append_text(sql, " IS NULL)");
}

/* Calls for each WORKER_CAST_TRY column; how many there are. */
static size_t append_each(struct buf *sql, const struct worker_lines *lines, const char *between,
                          void (*append)(struct buf *sql, const struct worker_lines *lines,
                                         size_t index))
{
    size_t count = 0;
    for (size_t i = 0; i < lines->columns_count; i++) {
        if (lines->columns[i].cast == WORKER_CAST_TRY) {
            buf_append_text(sql, count++ == 0 ? "" : between);
            append(sql, lines, i);
        }
    }
    return count;
}

static void append_member(struct buf *sql, const struct worker_lines *lines, size_t index)
{
    sql_append_literal(sql, lines->columns[index].name);
    buf_append_text(sql, ", CASE WHEN ");
    append_misfit(sql, lines, index);
    buf_append_format(sql, " THEN c%zu END", index);
}

/* What the line itself put aside, and the values that cannot be cast. A merge patch takes members
 * that are null away, and those are the columns that are well. */
static void append_rest(struct buf *sql, const struct worker_lines *lines, size_t index)
{
    size_t start = sql->len;
    buf_append_text(sql, "CASE WHEN ");
    if (append_each(sql, lines, " OR ", append_misfit) == 0) {
        buf_truncate(sql, start);
        buf_append_format(sql, "c%zu", index);
        return;
    }
    buf_append_format(
        sql, " THEN CAST(json_merge_patch(CAST(coalesce(c%zu, '{}') AS JSON), json_object(", index);
    (void)append_each(sql, lines, ", ", append_member);
    buf_append_format(sql, ")) AS VARCHAR) ELSE c%zu END", index);
}

void lines_append_value(struct buf *sql, const struct worker_lines *lines, size_t index)
{
    const struct worker_column *column = &lines->columns[index];
    switch ((enum worker_cast)column->cast) {
    case WORKER_CAST_STRICT:
        lines_append_cast(sql, column, index, "CAST");
        break;
    case WORKER_CAST_TRY:
        lines_append_cast(sql, column, index, "TRY_CAST");
        break;
    case WORKER_CAST_REST:
        append_rest(sql, lines, index);
        break;
    case WORKER_CAST_NONE:
    case WORKER_CAST_COUNT:
        buf_append_format(sql, "c%zu", index);
        break;
    }
}

void lines_append_source(struct buf *sql, const struct worker_lines *lines, struct str source,
                         bool filename)
{
    enum {
        OBJECT_SIZE_MIN = 1 << 20
    };
    buf_append_format(sql, "read_json(%.*s, format = 'newline_delimited', records = true%s",
                      STR_ARG(source), filename ? ", filename = true" : "");
    buf_append_text(sql, ", hive_partitioning = false, columns = {");
    for (size_t i = 0; i < lines->columns_count; i++) {
        buf_append_format(sql, "%sc%zu: '%.*s'", i == 0 ? "" : ", ", i,
                          STR_ARG(lines->columns[i].line_type));
    }
    uint64_t object_size = lines->line_size_max + 1024;
    object_size = object_size < OBJECT_SIZE_MIN ? OBJECT_SIZE_MIN : object_size;
    buf_append_format(sql, "}, maximum_object_size = %llu)", (unsigned long long)object_size);
}
