#include "json_write.h"

#include <stdio.h>

void json_writer_init(struct json_writer *writer, struct buf *buf)
{
    *writer = (struct json_writer){.buf = buf};
}

static void separate(struct json_writer *writer)
{
    if (writer->need_comma) {
        buf_append_byte(writer->buf, ',');
    }
    writer->need_comma = true;
}

static void begin(struct json_writer *writer, char bracket)
{
    separate(writer);
    buf_append_byte(writer->buf, bracket);
    writer->need_comma = false;
}

static void end(struct json_writer *writer, char bracket)
{
    buf_append_byte(writer->buf, bracket);
    writer->need_comma = true;
}

void json_begin_object(struct json_writer *writer)
{
    begin(writer, '{');
}

void json_end_object(struct json_writer *writer)
{
    end(writer, '}');
}

void json_begin_array(struct json_writer *writer)
{
    begin(writer, '[');
}

void json_end_array(struct json_writer *writer)
{
    end(writer, ']');
}

void json_key(struct json_writer *writer, struct str name)
{
    separate(writer);
    json_append_string(writer->buf, name);
    buf_append_byte(writer->buf, ':');
    writer->need_comma = false;
}

void json_put_string(struct json_writer *writer, struct str text)
{
    separate(writer);
    json_append_string(writer->buf, text);
}

void json_put_u64(struct json_writer *writer, uint64_t value)
{
    separate(writer);
    buf_append_u64(writer->buf, value);
}

void json_put_i64(struct json_writer *writer, int64_t value)
{
    separate(writer);
    buf_append_i64(writer->buf, value);
}

void json_put_bool(struct json_writer *writer, bool value)
{
    json_put_raw(writer, value ? STR("true") : STR("false"));
}

void json_put_null(struct json_writer *writer)
{
    json_put_raw(writer, STR("null"));
}

void json_put_raw(struct json_writer *writer, struct str json)
{
    separate(writer);
    buf_append(writer->buf, json);
}

void json_member_string(struct json_writer *writer, const char *name, struct str text)
{
    json_key(writer, str_of(name));
    json_put_string(writer, text);
}

void json_member_u64(struct json_writer *writer, const char *name, uint64_t value)
{
    json_key(writer, str_of(name));
    json_put_u64(writer, value);
}

void json_member_bool(struct json_writer *writer, const char *name, bool value)
{
    json_key(writer, str_of(name));
    json_put_bool(writer, value);
}

static void append_escaped(struct buf *buf, unsigned char c)
{
    static const char short_forms[] = "\b\f\n\r\t\"\\";
    static const char letters[] = "bfnrt\"\\";
    const char *found = memchr(short_forms, c, sizeof(short_forms) - 1);
    if (found != NULL) {
        buf_append_byte(buf, '\\');
        buf_append_byte(buf, letters[found - short_forms]);
    } else {
        buf_append_format(buf, "\\u%04x", c);
    }
}

/* Copies stretches that need no change in one go. */
static void append_valid(struct buf *buf, struct str text)
{
    size_t start = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        buf_append_bytes(buf, text.ptr + start, i - start);
        append_escaped(buf, c);
        start = i + 1;
    }
    buf_append_bytes(buf, text.ptr + start, text.len - start);
}

static void append_repaired(struct buf *buf, struct str text)
{
    while (text.len > 0) {
        size_t size = str_utf8_size(text);
        if (size > 0) {
            append_valid(buf, str_first(text, size));
        } else {
            size = 1;
            buf_append_text(buf, "\xEF\xBF\xBD");
        }
        text = str_from(text, size);
    }
}

void json_append_string(struct buf *buf, struct str text)
{
    buf_append_byte(buf, '"');
    if (str_is_utf8(text)) {
        append_valid(buf, text);
    } else {
        append_repaired(buf, text);
    }
    buf_append_byte(buf, '"');
}
