#include "worker_arrow_read.h"

#include "mem.h"
#include "worker_arrow_read_field.h"
#include "worker_read.h"

#include <endian.h>

/* Numbers of Message.fbs and Schema.fbs. */
enum {
    VERSION_4 = 3,
    VERSION_5 = 4,
    HEADER_SCHEMA = 1,
    HEADER_DICTIONARY = 2,
    HEADER_BATCH = 3
};

enum {
    MARKER_SIZE = 4,
    SIZE_SIZE = 4,
    METADATA_SIZE_MAX = 64 << 20,
    LINES_SIZE = 256 << 10,
    ROWS_AT_ONCE = 256 /* between two looks at whether somebody wants the lines */
};

/* The beginning of an Arrow file, which is something else than a stream. */
#define FILE_MAGIC STR("ARROW1")

struct stream {
    const struct arrow_read_options *options;
    struct buf *lines;
    uint64_t at; /* of the next message */
    struct arrow_field *fields;
    size_t fields_count;
    struct str schema_bytes; /* names point into it */
    struct arrow_dictionary **dictionaries;
    size_t dictionaries_count;
    struct arrow_room room;
    struct err *err;
};

/* A message in memory. */
struct message {
    struct str bytes; /* mapped */
    struct flat_source source;
    struct flat_table_in header;
    int64_t type;
    struct str body;
};

static bool no_stream(struct stream *stream, const char *what)
{
    return err_set(stream->err, ERR_INVALID, "the body is not an Arrow stream: %s", what);
}

static bool damaged(struct stream *stream, const char *what)
{
    return err_set(stream->err, ERR_INVALID, "the body's Arrow stream is damaged: %s", what);
}

/* ---- messages ---- */

static bool map_body(struct stream *stream, uint64_t offset, uint64_t size, struct str *ret_bytes)
{
    const struct arrow_body *body = &stream->options->body;
    if (size > body->size || offset > body->size - size) {
        return stream->fields == NULL ? no_stream(stream, "it ends in the middle of its schema")
                                      : damaged(stream, "it ends in the middle of a message");
    }
    return body->map(body->context, offset, (size_t)size, ret_bytes, stream->err);
}

static void unmap(struct stream *stream, struct str *bytes)
{
    if (bytes->ptr != NULL) {
        stream->options->body.unmap(stream->options->body.context, *bytes);
    }
    *bytes = (struct str){0};
}

static bool read_word(struct stream *stream, uint32_t *ret_word)
{
    struct str bytes;
    if (!map_body(stream, stream->at, sizeof(*ret_word), &bytes)) {
        return false;
    }
    memcpy(ret_word, bytes.ptr, sizeof(*ret_word));
    *ret_word = le32toh(*ret_word);
    unmap(stream, &bytes);
    stream->at += sizeof(*ret_word);
    return true;
}

/* The size of the next message's description; 0 at the end. The marker is not there in streams of
 * Arrow before 0.15. Bytes after the end would be rows that nobody notices. */
static bool read_metadata_size(struct stream *stream, uint32_t *ret_size)
{
    uint64_t left = stream->options->body.size - stream->at;
    *ret_size = 0;
    if (left == 0 && stream->fields != NULL) {
        return true;
    }
    if (!read_word(stream, ret_size) || (*ret_size == UINT32_MAX && !read_word(stream, ret_size))) {
        return false;
    }
    if (*ret_size == 0 && stream->at < stream->options->body.size) {
        return damaged(stream, "there are bytes behind its end");
    }
    return true;
}

static bool read_description(struct stream *stream, struct message *message, int64_t *ret_body_size)
{
    struct flat_source *source = &message->source;
    struct flat_table_in root = flat_read_root(source);
    int64_t version = flat_read_number(source, root, 0, 2, 0);
    message->type = flat_read_number(source, root, 1, 1, 0);
    message->header = flat_read_table(source, root, 2);
    *ret_body_size = flat_read_number(source, root, 3, 8, 0);
    if (source->failed || message->header.at == 0 || *ret_body_size < 0) {
        return stream->fields == NULL ? no_stream(stream, "its first message is none of Arrow's")
                                      : damaged(stream, "a message has no description");
    }
    return version == VERSION_4 || version == VERSION_5 ||
           no_stream(stream, "its version is neither V4 nor V5");
}

/* Maps the next message, its body included; *ret_end at the end of the stream. */
static bool next_message(struct stream *stream, struct message *message, bool *ret_end)
{
    uint32_t size;
    *message = (struct message){0};
    if (!read_metadata_size(stream, &size)) {
        return false;
    }
    *ret_end = size == 0;
    if (size == 0) {
        return stream->fields != NULL || no_stream(stream, "it has no schema");
    }
    if (size > METADATA_SIZE_MAX) {
        return stream->fields == NULL ? no_stream(stream, "its first message is none of Arrow's")
                                      : damaged(stream, "a message is too large");
    }
    int64_t body_size;
    if (!map_body(stream, stream->at, size, &message->bytes)) {
        return false;
    }
    message->source.bytes = message->bytes;
    if (!read_description(stream, message, &body_size)) {
        return false;
    }
    unmap(stream, &message->bytes);
    message->source = (struct flat_source){0};
    if (!map_body(stream, stream->at, size + (uint64_t)body_size, &message->bytes)) {
        return false;
    }
    message->source.bytes = str_first(message->bytes, size);
    message->body = str_from(message->bytes, size);
    stream->at += size + (uint64_t)body_size;
    return read_description(stream, message, &body_size);
}

/* ---- dictionaries ---- */

static struct arrow_dictionary *find_dictionary(struct stream *stream, int64_t id)
{
    for (size_t i = 0; i < stream->dictionaries_count; i++) {
        if (stream->dictionaries[i]->id == id) {
            return stream->dictionaries[i];
        }
    }
    return NULL;
}

static struct arrow_dictionary *find_or_add_dictionary(void *context, int64_t id)
{
    struct stream *stream = context;
    struct arrow_dictionary *dictionary = find_dictionary(stream, id);
    if (dictionary != NULL || stream->dictionaries_count == ARROW_READ_DICTIONARIES_MAX) {
        return dictionary;
    }
    dictionary = mem_alloc(sizeof(*dictionary));
    dictionary->id = id;
    buf_init(&dictionary->texts, stream->options->memory_max);
    buf_init(&dictionary->ends, stream->options->memory_max);
    stream->dictionaries[stream->dictionaries_count++] = dictionary;
    return dictionary;
}

static void dictionary_destroy(struct arrow_dictionary *dictionary)
{
    buf_finish(&dictionary->texts);
    buf_finish(&dictionary->ends);
    mem_free(dictionary);
}

static size_t dictionaries_size(const struct stream *stream)
{
    size_t size = 0;
    for (size_t i = 0; i < stream->dictionaries_count; i++) {
        size += stream->dictionaries[i]->texts.len + stream->dictionaries[i]->ends.len;
    }
    return size;
}

/* The values behind those that are there. They may have indexes themselves, into dictionaries that
 * came before; into this very one as it was. */
static bool add_values(struct stream *stream, struct arrow_dictionary *dictionary, uint64_t count,
                       struct buf *texts, struct buf *ends)
{
    size_t others = dictionaries_size(stream);
    for (uint64_t row = 0; row < count; row++) {
        arrow_append_value(dictionary->values, row, texts);
        buf_append_bytes(ends, &texts->len, sizeof(texts->len));
        if (buf_failed(texts) || buf_failed(ends) ||
            texts->len + ends->len + others > stream->options->memory_max) {
            return err_set(stream->err, ERR_TOO_LARGE,
                           "the body's dictionaries are larger than %zu MB; send plain values",
                           stream->options->memory_max / 1000000);
        }
    }
    return true;
}

static bool take_dictionary(struct stream *stream, struct message *message)
{
    struct flat_source *source = &message->source;
    struct arrow_batch batch = {
        .source = source,
        .header = flat_read_table(source, message->header, 1),
        .body = message->body,
        .room = &stream->room,
    };
    bool added = flat_read_number(source, message->header, 2, 1, 0) != 0;
    struct arrow_dictionary *dictionary =
        find_dictionary(stream, flat_read_number(source, message->header, 0, 8, 0));
    uint64_t count;
    if (dictionary == NULL || batch.header.at == 0) {
        return damaged(stream, "a dictionary belongs to no column");
    }
    if (!arrow_batch_bind(&batch, dictionary->values, 1, &count, stream->err)) {
        return false;
    }
    struct buf texts;
    struct buf ends;
    buf_init(&texts, stream->options->memory_max);
    buf_init(&ends, stream->options->memory_max);
    if (added) {
        buf_append(&texts, buf_str(&dictionary->texts));
        buf_append(&ends, buf_str(&dictionary->ends));
    }
    bool good = add_values(stream, dictionary, count, &texts, &ends);
    buf_finish(&dictionary->texts);
    buf_finish(&dictionary->ends);
    dictionary->texts = texts;
    dictionary->ends = ends;
    return good;
}

/* ---- the schema, and rows ---- */

static bool tell_columns(struct stream *stream)
{
    struct str *names = mem_alloc_array(stream->fields_count, sizeof(*names));
    struct worker_schema_column *columns = mem_alloc_array(stream->fields_count, sizeof(*columns));
    for (size_t i = 0; i < stream->fields_count; i++) {
        names[i] = stream->fields[i].name;
        columns[i].name = names[i];
        columns[i].type = str_of(stream->fields[i].sql_type);
    }
    struct worker_schema schema = {.columns = columns, .columns_count = stream->fields_count};
    bool good = read_check_names(names, stream->fields_count, stream->err) &&
                stream->options->columns(stream->options->context, &schema, stream->err);
    mem_free(names);
    mem_free(columns);
    return good;
}

/* The schema's message stays mapped: the names are in it. */
static bool take_schema(struct stream *stream, struct message *message)
{
    if (message->type != HEADER_SCHEMA) {
        return no_stream(stream, "it does not begin with a schema");
    }
    if (flat_read_number(&message->source, message->header, 0, 2, 0) != 0) {
        return err_set(stream->err, ERR_INVALID,
                       "the body's Arrow stream is big-endian; send little-endian numbers");
    }
    stream->schema_bytes = message->bytes;
    message->bytes = (struct str){0};
    if (!arrow_fields_read(&message->source, message->header, find_or_add_dictionary, stream,
                           &stream->fields, &stream->fields_count, stream->err)) {
        return false;
    }
    if (stream->fields_count == 0) {
        return err_set(stream->err, ERR_INVALID, "the body has no columns");
    }
    return tell_columns(stream);
}

static void append_row(const struct stream *stream, uint64_t row)
{
    struct buf *lines = stream->lines;
    buf_append_byte(lines, '{');
    for (size_t i = 0; i < stream->fields_count; i++) {
        buf_append(lines, stream->fields[i].key);
        arrow_append_value(&stream->fields[i], row, lines);
    }
    buf_append(lines, STR("}\n"));
}

static bool hand_out(struct stream *stream, uint64_t rows)
{
    if (buf_failed(stream->lines)) {
        return err_set(stream->err, ERR_TOO_LARGE, "one row of the body is too large");
    }
    return stream->options->rows(stream->options->context, stream->lines, rows, stream->err);
}

static bool take_batch(struct stream *stream, struct message *message)
{
    struct arrow_batch batch = {
        .source = &message->source,
        .header = message->header,
        .body = message->body,
        .room = &stream->room,
    };
    uint64_t rows;
    if (!arrow_batch_bind(&batch, stream->fields, stream->fields_count, &rows, stream->err)) {
        return false;
    }
    if (rows > ARROW_READ_ROWS_MAX) {
        return err_set(stream->err, ERR_TOO_LARGE, "a record batch has more than %d rows",
                       ARROW_READ_ROWS_MAX);
    }
    uint64_t since = 0;
    for (uint64_t row = 0; row < rows; row++) {
        append_row(stream, row);
        if (++since == ROWS_AT_ONCE || row + 1 == rows || stream->lines->len >= LINES_SIZE) {
            if (!hand_out(stream, since)) {
                return false;
            }
            since = 0;
        }
    }
    return true;
}

static bool take_message(struct stream *stream, struct message *message)
{
    if (stream->fields == NULL) {
        return take_schema(stream, message);
    }
    arrow_room_reset(&stream->room);
    switch (message->type) {
    case HEADER_DICTIONARY:
        return take_dictionary(stream, message);
    case HEADER_BATCH:
        return take_batch(stream, message);
    default:
        return damaged(stream, "a message is neither a batch nor a dictionary");
    }
}

static bool refuse_files(struct stream *stream)
{
    struct str bytes = {0};
    if (stream->options->body.size < FILE_MAGIC.len) {
        return true;
    }
    if (!map_body(stream, 0, FILE_MAGIC.len, &bytes)) {
        return false;
    }
    bool file = str_equal(bytes, FILE_MAGIC);
    unmap(stream, &bytes);
    return !file || no_stream(stream, "it is an Arrow (Feather) file; send an IPC stream");
}

static bool read_messages(struct stream *stream)
{
    bool good = true;
    bool end = false;
    while (good && !end) {
        struct message message;
        good = next_message(stream, &message, &end) && (end || take_message(stream, &message));
        unmap(stream, &message.bytes);
    }
    return good;
}

bool arrow_read(const struct arrow_read_options *options, struct buf *lines, struct err *err)
{
    struct stream stream = {
        .options = options,
        .lines = lines,
        .dictionaries = mem_alloc_array(ARROW_READ_DICTIONARIES_MAX, sizeof(void *)),
        .err = err,
    };
    arrow_room_init(&stream.room, options->memory_max);
    bool good = refuse_files(&stream) && read_messages(&stream);
    arrow_room_finish(&stream.room);
    arrow_fields_finish(stream.fields, stream.fields_count);
    for (size_t i = 0; i < stream.dictionaries_count; i++) {
        dictionary_destroy(stream.dictionaries[i]);
    }
    mem_free(stream.dictionaries);
    unmap(&stream, &stream.schema_bytes);
    return good;
}
