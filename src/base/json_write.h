/* json_write.h - compact JSON into a struct buf. Commas are placed by the writer; non-ASCII text is
 * written raw.
 * Errors    an overflow marks the buffer failed (buf.h). Bytes that are not UTF-8 become U+FFFD. */
#pragma once

#include "buf.h"

struct json_writer {
    struct buf *buf;
    bool need_comma;
};

void json_writer_init(struct json_writer *writer, struct buf *buf);
void json_begin_object(struct json_writer *writer);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer);
void json_end_array(struct json_writer *writer);
void json_key(struct json_writer *writer, struct str name);
void json_put_string(struct json_writer *writer, struct str text);
void json_put_u64(struct json_writer *writer, uint64_t value);
void json_put_i64(struct json_writer *writer, int64_t value);
void json_put_bool(struct json_writer *writer, bool value);
void json_put_null(struct json_writer *writer);
void json_put_raw(struct json_writer *writer, struct str json); /* already JSON */

/* The usual pair of key and value. */
void json_member_string(struct json_writer *writer, const char *name, struct str text);
void json_member_u64(struct json_writer *writer, const char *name, uint64_t value);
void json_member_bool(struct json_writer *writer, const char *name, bool value);

/* Appends the text as a JSON string with its quotes. */
void json_append_string(struct buf *buf, struct str text);
