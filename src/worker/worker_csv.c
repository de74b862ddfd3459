#include "worker_csv.h"

#include "mem.h"
#include "worker_columns.h"

/* The engine casts a chunk's columns to text, all rows at once, as its own CSV writer does. */
struct csv {
    size_t columns_count;
    duckdb_data_chunk texts; /* one VARCHAR column per column of the result */
    bool *plain;             /* columns whose texts never need quotes */
};

/* One column of `texts`. */
struct text_view {
    duckdb_string_t *texts;
    const uint64_t *validity;
    bool plain;
};

static bool needs_quotes(struct str text)
{
    static const bool special[256] = {['"'] = true, [','] = true, ['\r'] = true, ['\n'] = true};
    for (size_t i = 0; i < text.len; i++) {
        if (special[(unsigned char)text.ptr[i]]) {
            return true;
        }
    }
    return text.len == 0;
}

/* Numbers and times: no comma, no quote, never empty. */
static bool is_plain(duckdb_type type)
{
    switch ((int)type) {
    case DUCKDB_TYPE_BOOLEAN:
    case DUCKDB_TYPE_TINYINT:
    case DUCKDB_TYPE_SMALLINT:
    case DUCKDB_TYPE_INTEGER:
    case DUCKDB_TYPE_BIGINT:
    case DUCKDB_TYPE_UTINYINT:
    case DUCKDB_TYPE_USMALLINT:
    case DUCKDB_TYPE_UINTEGER:
    case DUCKDB_TYPE_UBIGINT:
    case DUCKDB_TYPE_HUGEINT:
    case DUCKDB_TYPE_FLOAT:
    case DUCKDB_TYPE_DOUBLE:
    case DUCKDB_TYPE_DECIMAL:
    case DUCKDB_TYPE_DATE:
    case DUCKDB_TYPE_TIMESTAMP:
    case DUCKDB_TYPE_UUID:
        return true;
    default:
        return false;
    }
}

static void append_field(struct buf *out, struct str text)
{
    if (!needs_quotes(text)) {
        buf_append(out, text);
        return;
    }
    buf_append_byte(out, '"');
    while (text.len > 0) {
        size_t plain = str_find_byte(text, '"');
        buf_append(out, str_first(text, plain));
        if (plain < text.len) {
            buf_append_text(out, "\"\"");
            plain++;
        }
        text = str_from(text, plain);
    }
    buf_append_byte(out, '"');
}

void *csv_create(duckdb_result *result, const struct str *names, struct sink *sink)
{
    struct csv *csv = mem_alloc(sizeof(*csv));
    csv->columns_count = duckdb_column_count(result);
    csv->plain = mem_alloc_array(csv->columns_count, sizeof(*csv->plain));
    duckdb_logical_type text = duckdb_create_logical_type(DUCKDB_TYPE_VARCHAR);
    duckdb_logical_type *types = mem_alloc_array(csv->columns_count, sizeof(*types));
    for (size_t i = 0; i < csv->columns_count; i++) {
        types[i] = text;
        csv->plain[i] = is_plain(duckdb_column_type(result, i));
        if (i > 0) {
            buf_append_byte(&sink->out, ',');
        }
        append_field(&sink->out, names[i]);
    }
    buf_append_text(&sink->out, "\r\n");
    csv->texts = duckdb_create_data_chunk(types, csv->columns_count);
    mem_free(types);
    duckdb_destroy_logical_type(&text);
    return csv;
}

/* Texts of up to 12 bytes stand in the vector itself and are copied with a fixed size. */
static void append_value(struct buf *out, const struct text_view *view, uint64_t row)
{
    enum {
        INLINE_SIZE = 12
    };
    duckdb_string_t *text = &view->texts[row];
    struct str bytes = str_make(duckdb_string_t_data(text), duckdb_string_t_length(*text));
    char *at = buf_room(out, bytes.len + INLINE_SIZE);
    if (at == NULL || (!view->plain && needs_quotes(bytes))) {
        append_field(out, bytes);
        return;
    }
    if (bytes.len <= INLINE_SIZE) {
        memcpy(at, text->value.inlined.inlined, INLINE_SIZE);
    } else {
        memcpy(at, bytes.ptr, bytes.len);
    }
    buf_wrote(out, at + bytes.len);
}

static void append_row(const struct text_view *views, size_t count, uint64_t row, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        if (column_has(views[i].validity, row)) {
            append_value(out, &views[i], row);
        }
    }
    buf_append_text(out, "\r\n");
}

static bool cast_columns(struct csv *csv, duckdb_data_chunk chunk, struct text_view *views,
                         struct err *err)
{
    duckdb_data_chunk_reset(csv->texts);
    for (size_t i = 0; i < csv->columns_count; i++) {
        duckdb_vector texts = duckdb_data_chunk_get_vector(csv->texts, i);
        char problem[SHIM_TEXT_SIZE];
        if (!shim_cast(duckdb_data_chunk_get_vector(chunk, i), texts,
                       duckdb_data_chunk_get_size(chunk), problem)) {
            return err_set(err, ERR_UNPROCESSABLE, "column %zu: %s", i + 1, problem);
        }
        views[i].texts = duckdb_vector_get_data(texts);
        views[i].plain = csv->plain[i];
        views[i].validity = duckdb_vector_get_validity(texts);
    }
    return true;
}

bool csv_put(void *state, duckdb_data_chunk chunk, uint64_t rows, struct sink *sink,
             struct err *err)
{
    struct csv *csv = state;
    struct text_view *views = mem_alloc_array(csv->columns_count, sizeof(*views));
    bool good = cast_columns(csv, chunk, views, err);
    for (uint64_t row = 0; good && row < rows; row++) {
        append_row(views, csv->columns_count, row, &sink->out);
        if (sink_is_full(sink)) {
            sink_flush(sink);
        }
    }
    mem_free(views);
    return good;
}

void csv_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink)
{
    (void)state;
    (void)outcome;
    (void)limited;
    (void)sink; /* the last line has its end */
}

void csv_destroy(void *state)
{
    struct csv *csv = state;
    if (csv != NULL) {
        duckdb_destroy_data_chunk(&csv->texts);
        mem_free(csv->plain);
        mem_free(csv);
    }
}
