#include "lake_rows_line.h"

enum {
    UNIT_ESCAPE_SIZE = 6
}; /* \uXXXX */

void line_init(struct line_writer *writer, struct buf *lines, size_t lines_bytes_max)
{
    *writer = (struct line_writer){.lines = lines};
    buf_init(lines, lines_bytes_max);
    buf_init(&writer->scratch, lines_bytes_max);
}

void line_finish(struct line_writer *writer)
{
    buf_finish(&writer->scratch);
}

void line_begin(struct line_writer *writer)
{
    writer->line_start = writer->lines->len;
    buf_append_byte(writer->lines, '{');
}

void line_end(struct line_writer *writer)
{
    buf_append(writer->lines, STR("}\n"));
    size_t size = writer->lines->len - writer->line_start;
    if (!buf_failed(writer->lines) && size - 1 > writer->line_size_max) {
        writer->line_size_max = size - 1;
    }
}

/* Digits are written from the end, with what stands around them, so that one append does. */
void line_key(struct line_writer *writer, size_t column_index)
{
    char text[32];
    size_t at = sizeof(text);
    text[--at] = ':';
    text[--at] = '"';
    do {
        text[--at] = (char)('0' + column_index % 10);
        column_index /= 10;
    } while (column_index > 0);
    text[--at] = 'c';
    text[--at] = '"';
    if (writer->lines->len > writer->line_start + 1) {
        text[--at] = ',';
    }
    buf_append_bytes(writer->lines, text + at, sizeof(text) - at);
}

void line_literal(struct line_writer *writer, struct str json)
{
    buf_append(writer->lines, json);
}

void line_quoted(struct line_writer *writer, struct str plain)
{
    if (buf_reserve(writer->lines, plain.len + 2)) {
        buf_append_byte(writer->lines, '"');
        buf_append(writer->lines, plain);
        buf_append_byte(writer->lines, '"');
    }
}

/* --- surrogates ------------------------------------------------------------------------ */

enum unit_kind {
    UNIT_PLAIN,
    UNIT_HIGH,
    UNIT_LOW
};

/* What the valid escape at the start of the text is: surrogates are \uD800 to \uDBFF and \uDC00 to
 * \uDFFF. */
static enum unit_kind unit_kind(struct str json)
{
    if (json.len < UNIT_ESCAPE_SIZE || json.ptr[0] != '\\' || json.ptr[1] != 'u' ||
        (json.ptr[2] | 0x20) != 'd') {
        return UNIT_PLAIN;
    }
    char second = (char)(json.ptr[3] | 0x20);
    if (second == '8' || second == '9' || second == 'a' || second == 'b') {
        return UNIT_HIGH;
    }
    return second >= 'c' && second <= 'f' ? UNIT_LOW : UNIT_PLAIN;
}

size_t line_find_unpaired(struct str json)
{
    size_t at = 0;
    while (at < json.len) {
        at += str_find_byte(str_from(json, at), '\\');
        enum unit_kind kind = unit_kind(str_from(json, at));
        if (kind == UNIT_PLAIN) {
            at = json.len - at < 2 ? json.len : at + 2;
        } else if (kind == UNIT_HIGH &&
                   unit_kind(str_from(json, at + UNIT_ESCAPE_SIZE)) == UNIT_LOW) {
            at += UNIT_ESCAPE_SIZE + UNIT_ESCAPE_SIZE;
        } else {
            return at;
        }
    }
    return json.len;
}

/* Appends JSON text with \ufffd in place of each unpaired surrogate escape, which has the same
 * size. */
static void append_repaired(struct buf *into, struct str json)
{
    while (json.len > 0) {
        size_t size = line_find_unpaired(json);
        buf_append(into, str_first(json, size));
        json = str_from(json, size);
        if (json.len > 0) {
            buf_append(into, STR("\\ufffd"));
            json = str_from(json, UNIT_ESCAPE_SIZE);
        }
    }
}

/* --- texts ----------------------------------------------------------------------------- */

/* Compact JSON text holds no control characters: only quotes and backslashes need an escape to make
 * it a string. */
static void append_escaped(struct buf *into, struct str json)
{
    size_t copied = 0;
    for (size_t i = 0; i < json.len; i++) {
        if (json.ptr[i] == '"' || json.ptr[i] == '\\') {
            buf_append_bytes(into, json.ptr + copied, i - copied);
            buf_append_byte(into, '\\');
            copied = i; /* the character itself goes with the next stretch */
        }
    }
    buf_append_bytes(into, json.ptr + copied, json.len - copied);
}

static void append_nested(struct line_writer *writer, struct json_span value)
{
    buf_reset(&writer->scratch);
    json_append_compact(value, &writer->scratch);
    struct str compact = buf_str(&writer->scratch);
    if (buf_failed(&writer->scratch)) {
        writer->lines->failed = true; /* the text alone is over the limit of the lines */
        return;
    }
    buf_append_byte(writer->lines, '"');
    size_t unpaired;
    while ((unpaired = line_find_unpaired(compact)) < compact.len) {
        append_escaped(writer->lines, str_first(compact, unpaired));
        buf_append(writer->lines, STR("\\\\ufffd"));
        compact = str_from(compact, unpaired + UNIT_ESCAPE_SIZE);
    }
    append_escaped(writer->lines, compact);
    buf_append_byte(writer->lines, '"');
}

void line_text(struct line_writer *writer, struct json_span value)
{
    switch (value.kind) {
    case JSON_STRING:
        if (value.escaped) {
            append_repaired(writer->lines, value.text);
        } else {
            buf_append(writer->lines, value.text);
        }
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        append_nested(writer, value);
        break;
    case JSON_NULL:
    case JSON_BOOL:
    case JSON_INTEGER:
    case JSON_REAL:
    case JSON_NONFINITE:
        line_quoted(writer, value.text);
        break;
    }
}

bool line_check(const struct line_writer *writer, struct err *err)
{
    if (buf_failed(writer->lines)) {
        return err_set(err, ERR_TOO_LARGE, "the records take more than %zu bytes as rows",
                       writer->scratch.size_max);
    }
    return true;
}
