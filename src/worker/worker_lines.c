#include "worker_lines.h"

#include "worker_lines_quoted.h"

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

static bool is_integer(struct str type)
{
    static const char *const names[] = {"TINYINT",  "SMALLINT",  "INTEGER",  "BIGINT",
                                        "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"};
    bool found = false;
    for (size_t i = 0; !found && i < COUNT_OF(names); i++) {
        found = is_type(type, names[i]);
    }
    return found;
}

/* NULL for what does not fit the column. TRY_CAST alone lets pass what the cast makes another value
 * of, a fraction rounded to an integer or a number beyond FLOAT's range made infinite, and an
 * infinite TIMESTAMP_S, which the engine cannot write to Parquet. */
static void append_try(struct buf *sql, const struct worker_column *column, size_t index)
{
    bool integer = is_integer(column->sql_type);
    bool real = is_type(column->sql_type, "FLOAT");
    bool seconds = is_type(column->sql_type, "TIMESTAMP_S");
    buf_append_text(sql, integer || real || seconds ? "CASE WHEN " : "");
    if (integer) {
        buf_append_format(sql, "TRY_CAST(c%zu AS DOUBLE) = ", index);
        lines_append_cast(sql, column, index, "TRY_CAST");
    } else if (real) {
        buf_append_text(sql, "isfinite(");
        lines_append_cast(sql, column, index, "TRY_CAST");
        buf_append_format(sql, ") OR NOT isfinite(TRY_CAST(c%zu AS DOUBLE))", index);
    } else if (seconds) {
        buf_append_format(sql, "isfinite(TRY_CAST(c%zu AS TIMESTAMPTZ))", index);
    }
    buf_append_text(sql, integer || real || seconds ? " THEN " : "");
    lines_append_cast(sql, column, index, "TRY_CAST");
    buf_append_text(sql, integer || real || seconds ? " END" : "");
}

static bool has_loose(const struct worker_lines *lines)
{
    bool loose = false;
    for (size_t i = 0; !loose && i < lines->columns_count; i++) {
        loose = lines->columns[i].loose != 0;
    }
    return loose;
}

static void append_reader(struct buf *sql, const struct worker_lines *lines, struct str source,
                          bool filename)
{
    enum {
        OBJECT_SIZE_MIN = 1 << 20
    };
    if (lines->direct) {
        buf_append_text(sql, "eider_lines()");
        return;
    }
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

/* A value that may not fit is tried once, as tN beside cN. */
void lines_append_source(struct buf *sql, const struct worker_lines *lines, struct str source,
                         bool filename)
{
    if (!has_loose(lines)) {
        append_reader(sql, lines, source, filename);
        return;
    }
    buf_append_text(sql, "(SELECT *");
    for (size_t i = 0; i < lines->columns_count; i++) {
        if (lines->columns[i].loose != 0) {
            buf_append_text(sql, ", ");
            append_try(sql, &lines->columns[i], i);
            buf_append_format(sql, " AS t%zu", i);
        }
    }
    buf_append_text(sql, " FROM ");
    append_reader(sql, lines, source, filename);
    buf_append_byte(sql, ')');
}

/* The column `rest`: what is there already, and the texts that their columns could not take. The
 * inner json_merge_patch drops the members that are null, which the outer one would take for a wish
 * to have them removed. */
static void append_rest(struct buf *sql, const struct worker_lines *lines, size_t rest)
{
    buf_append_text(sql, "CASE WHEN false");
    for (size_t i = 0; i < lines->columns_count; i++) {
        if (lines->columns[i].loose != 0) {
            buf_append_format(sql, " OR (c%zu IS NOT NULL AND t%zu IS NULL)", i, i);
        }
    }
    buf_append_format(sql,
                      " THEN CAST(json_merge_patch(coalesce(c%zu, '{}'), "
                      "json_merge_patch('{}', json_object(",
                      rest);
    const char *comma = "";
    for (size_t i = 0; i < lines->columns_count; i++) {
        if (lines->columns[i].loose != 0) {
            buf_append_text(sql, comma);
            sql_append_literal(sql, lines->columns[i].name);
            buf_append_format(sql, ", CASE WHEN t%zu IS NULL THEN c%zu END", i, i);
            comma = ", ";
        }
    }
    buf_append_format(sql, "))) AS VARCHAR) ELSE c%zu END", rest);
}

void lines_append_value(struct buf *sql, const struct worker_lines *lines, size_t index)
{
    const struct worker_column *column = &lines->columns[index];
    if (column->loose != 0) {
        buf_append_format(sql, "t%zu", index);
    } else if (index + 1 == lines->rest && has_loose(lines)) {
        append_rest(sql, lines, index);
    } else if (lines->direct && lines_quoted_type(column) != DUCKDB_TYPE_INVALID) {
        buf_append_format(sql, "c%zu", index);
    } else {
        lines_append_cast(sql, column, index, "CAST");
    }
}
