/* Arrow streams from outside: one of pyarrow's with all kinds of columns, cut off and changed at
 * every byte; and streams made here that lie about themselves. */
#include "test.h"

#include "arrow_body_reader.h"
#include "arrow_stream_sample.h"
#include "worker_arrow_flat.h"

enum {
    MEMORY_MAX = 16 << 20,
    LINES_MAX = 8 << 20
};

static void decode_base64(const char *text, struct buf *into)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned count = 0;
    for (; *text != '\0' && *text != '='; text++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *text) - digits);
        count += 6;
        if (count >= 8) {
            count -= 8;
            buf_append_byte(into, (char)(bits >> count));
        }
    }
}

static void load_sample(struct buf *body)
{
    buf_init(body, 1 << 20);
    decode_base64(arrow_sample_base64, body);
}

TEST(a_column_of_most_types)
{
    struct buf body;
    struct arrow_memory memory;
    struct err err = {0};
    load_sample(&body);
    arrow_memory_init(&memory, buf_str(&body), LINES_MAX);
    CHECK_OK(arrow_memory_read(&memory, MEMORY_MAX, &err), err);
    CHECK_STR(buf_str(&memory.columns), arrow_sample_columns);
    CHECK_STR(buf_str(&memory.lines), arrow_sample_lines);
    CHECK_U64(memory.rows, 3);
    arrow_memory_finish(&memory);
    buf_finish(&body);
}

/* A stream that ends early is an error, but at the end of one of its messages, where streams may
 * end. Whatever came out before are whole lines. */
TEST(cut_off_anywhere)
{
    struct buf body;
    size_t ends = 0;
    load_sample(&body);
    for (size_t size = 0; size < body.len; size++) {
        struct arrow_memory memory;
        struct err err = {0};
        arrow_memory_init(&memory, str_first(buf_str(&body), size), LINES_MAX);
        if (arrow_memory_read(&memory, MEMORY_MAX, &err)) {
            CHECK(memory.rows == 0 || memory.rows == 3);
            ends++;
        } else {
            CHECK_U64(err.kind, ERR_INVALID);
            CHECK(memory.rows == 0 || memory.rows == 3);
        }
        arrow_memory_finish(&memory);
    }
    CHECK_U64(ends,
              4); /* after the schema, two dictionaries, the batch; its end mark is left out */
    buf_finish(&body);
}

/* Sanitizers say whether a step went beyond a block. */
TEST(changed_anywhere)
{
    static const unsigned char changes[] = {0x01, 0xFF};
    struct buf body;
    load_sample(&body);
    for (size_t at = 0; at < body.len; at++) {
        for (size_t i = 0; i < COUNT_OF(changes); i++) {
            struct arrow_memory memory;
            struct err err = {0};
            body.ptr[at] = (char)(body.ptr[at] ^ (char)changes[i]);
            arrow_memory_init(&memory, buf_str(&body), LINES_MAX);
            bool good = arrow_memory_read(&memory, MEMORY_MAX, &err);
            CHECK(good || err.kind == ERR_INVALID || err.kind == ERR_TOO_LARGE);
            CHECK(!good || memory.rows == 0 || memory.lines.ptr[memory.lines.len - 1] == '\n');
            arrow_memory_finish(&memory);
            body.ptr[at] = (char)(body.ptr[at] ^ (char)changes[i]);
        }
    }
    buf_finish(&body);
}

/* ---- streams made here ---- */

enum {
    TYPE_NULL = 1,
    TYPE_INT = 2,
    TYPE_BINARY = 4,
    TYPE_UTF8 = 5,
    TYPE_BOOL = 6,
    TYPE_TIME = 9,
    TYPE_STRUCT = 13,
    TYPE_UNION = 14,
    TYPE_RUN_END = 22,
    TYPE_UTF8_VIEW = 24,
    TYPE_LIST_VIEW = 25
};

static void end_message(struct buf *flat, struct str body, struct buf *stream)
{
    while (flat->len % 8 != 0) {
        buf_append_byte(flat, '\0');
    }
    flat_put_u32(stream, UINT32_MAX);
    flat_put_u32(stream, (uint32_t)flat->len);
    buf_append(stream, buf_str(flat));
    buf_append(stream, body);
    buf_finish(flat);
}

static size_t begin_message(struct buf *flat, int type, size_t body_size)
{
    buf_init(flat, 16 << 20);
    flat_put_u32(flat, 0);
    struct flat_field fields[] = {
        {.slot = 0, .size = 2, .value = 4},
        {.slot = 1, .size = 1, .value = type},
        {.slot = 2, .size = 4},
        {.slot = 3, .size = 8, .value = (int64_t)body_size},
    };
    flat_link(flat, 0, flat_table(flat, fields, COUNT_OF(fields)));
    return fields[2].at;
}

/* A table Field; what it links to comes later. */
static size_t put_field(struct buf *flat, int type, size_t *ret_name, size_t *ret_type,
                        size_t *ret_parts)
{
    struct flat_field fields[] = {
        {.slot = 0, .size = 4},
        {.slot = 2, .size = 1, .value = type},
        {.slot = 3, .size = 4},
        {.slot = 5, .size = 4},
    };
    size_t table = flat_table(flat, fields, COUNT_OF(fields));
    *ret_name = fields[0].at;
    *ret_type = fields[2].at;
    *ret_parts = fields[3].at;
    return table;
}

static size_t put_schema(struct buf *flat, size_t columns, int64_t endianness)
{
    size_t header = begin_message(flat, 1, 0);
    struct flat_field fields[] = {
        {.slot = 0, .size = 2, .value = endianness},
        {.slot = 1, .size = 4},
    };
    flat_link(flat, header, flat_table(flat, fields, COUNT_OF(fields)));
    size_t list = flat_offsets(flat, columns);
    flat_link(flat, fields[1].at, list);
    return list;
}

static void add_column(struct buf *flat, size_t list, size_t index, const char *name, int type,
                       int64_t type_value)
{
    size_t name_at;
    size_t type_at;
    size_t parts_at;
    struct flat_field parameters[] = {
        {.slot = 0, .size = 4, .value = type_value},
        {.slot = 1, .size = 4, .value = type == TYPE_TIME ? 32 : 0},
    };
    flat_link(flat, list + 4 + 4 * index, put_field(flat, type, &name_at, &type_at, &parts_at));
    flat_link(flat, name_at, flat_string(flat, str_of(name)));
    flat_link(flat, type_at, flat_table(flat, parameters, COUNT_OF(parameters)));
    flat_link(flat, parts_at, flat_offsets(flat, 0));
}

/* A stream of one column and one batch. */
struct lie {
    const char *name;
    int type;
    int64_t type_value;
    int64_t batch_rows;
    int64_t rows;
    int64_t nulls;
    struct str buffers[3];
    int64_t places[3][2]; /* offset and size, where they are not the buffer's own */
    const char *reason;
};

static void put_batch(struct buf *stream, const struct lie *lie)
{
    struct buf body;
    struct buf flat;
    buf_init(&body, 1 << 20);
    int64_t places[3][2] = {{0}};
    for (size_t i = 0; i < 3; i++) {
        places[i][0] = (int64_t)body.len;
        places[i][1] = (int64_t)lie->buffers[i].len;
        if (lie->places[i][0] != 0 || lie->places[i][1] != 0) {
            memcpy(places[i], lie->places[i], sizeof(places[i]));
        }
        buf_append(&body, lie->buffers[i]);
    }
    size_t count = lie->type == TYPE_NULL                               ? 0
                   : lie->type == TYPE_UTF8 || lie->type == TYPE_BINARY ? 3
                                                                        : 2;
    size_t header = begin_message(&flat, 3, body.len);
    struct flat_field fields[] = {
        {.slot = 0, .size = 8, .value = lie->batch_rows},
        {.slot = 1, .size = 4},
        {.slot = 2, .size = 4},
        {.slot = 4, .size = 4},
    };
    flat_link(&flat, header, flat_table(&flat, fields, COUNT_OF(fields)));
    flat_link(&flat, fields[1].at, flat_vector(&flat, 1, true));
    flat_put_i64(&flat, lie->rows);
    flat_put_i64(&flat, lie->nulls);
    flat_link(&flat, fields[2].at, flat_vector(&flat, count, true));
    buf_append_bytes(&flat, places, count * sizeof(places[0]));
    flat_link(&flat, fields[3].at, flat_vector(&flat, 1, true));
    flat_put_i64(&flat, 0);
    end_message(&flat, buf_str(&body), stream);
    buf_finish(&body);
}

static void make_stream(struct buf *stream, const struct lie *lie)
{
    struct buf flat;
    buf_init(stream, 16 << 20);
    size_t list = put_schema(&flat, 1, 0);
    add_column(&flat, list, 0, "c", lie->type, lie->type_value);
    end_message(&flat, STR(""), stream);
    put_batch(stream, lie);
}

static const struct lie lies[] = {
    {.name = "the truth",
     .type = TYPE_UTF8,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\0\0\0\0\1\0\0", 8}, {"x", 1}}},
    {.name = "offsets that fall",
     .type = TYPE_UTF8,
     .batch_rows = 2,
     .rows = 2,
     .buffers = {{0}, {"\0\0\0\0\1\0\0\0\0\0\0", 12}, {"x", 1}},
     .reason = "offsets"},
    {.name = "offsets that lead outside",
     .type = TYPE_UTF8,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\0\0\0\0\2\0\0", 8}, {"x", 1}},
     .reason = "offsets"},
    {.name = "negative offsets",
     .type = TYPE_UTF8,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\0\0\0\0\xFF\xFF\xFF\xFF", 8}, {"x", 1}},
     .reason = "offsets"},
    {.name = "offsets that are missing",
     .type = TYPE_UTF8,
     .batch_rows = 3,
     .rows = 3,
     .buffers = {{0}, {"\0\0\0\0\1\0\0", 8}, {"x", 1}},
     .reason = "too short"},
    {.name = "no UTF-8",
     .type = TYPE_UTF8,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\0\0\0\0\1\0\0", 8}, {"\xFF", 1}},
     .reason = "UTF-8"},
    {.name = "too few rows",
     .type = TYPE_INT,
     .type_value = 32,
     .batch_rows = 3,
     .rows = 2,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .reason = "fewer rows"},
    {.name = "too few values",
     .type = TYPE_INT,
     .type_value = 32,
     .batch_rows = 3,
     .rows = 3,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .reason = "too short"},
    {.name = "too few bits",
     .type = TYPE_BOOL,
     .batch_rows = 65,
     .rows = 65,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .reason = "too short"},
    {.name = "too few bits for nulls",
     .type = TYPE_INT,
     .type_value = 8,
     .batch_rows = 8,
     .rows = 8,
     .nulls = 1,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .reason = "too short"},
    {.name = "more nulls than rows",
     .type = TYPE_INT,
     .type_value = 8,
     .batch_rows = 1,
     .rows = 1,
     .nulls = 2,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .reason = "rows or nulls"},
    {.name = "a negative number of rows",
     .type = TYPE_INT,
     .type_value = 8,
     .batch_rows = -1,
     .rows = -1,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .reason = "description"},
    {.name = "rows without end",
     .type = TYPE_INT,
     .type_value = 64,
     .batch_rows = INT64_MAX,
     .rows = INT64_MAX,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .reason = "too short"},
    {.name = "nulls without end",
     .type = TYPE_NULL,
     .batch_rows = INT64_MAX,
     .rows = INT64_MAX,
     .reason = "more than 1073741824 rows"},
    {.name = "a buffer outside",
     .type = TYPE_INT,
     .type_value = 8,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .places = {{0}, {8, 8}},
     .reason = "outside"},
    {.name = "a buffer far outside",
     .type = TYPE_INT,
     .type_value = 8,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .places = {{0}, {INT64_MAX, INT64_MAX}},
     .reason = "outside"},
    {.name = "a buffer before",
     .type = TYPE_INT,
     .type_value = 8,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\0\0\0\0\0\0\0", 8}},
     .places = {{0}, {-8, 8}},
     .reason = "outside"},
    {.name = "no time of a day",
     .type = TYPE_TIME,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\x80\x51\1\0\0\0\0", 8}},
     .reason = "time of a day"},
    {.name = "a view that leads outside",
     .type = TYPE_UTF8_VIEW,
     .batch_rows = 1,
     .rows = 1,
     .buffers = {{0}, {"\15\0\0\0abcd\0\0\0\0\0\0\0", 16}},
     .reason = "views"},
    {.name = "an odd size", .type = TYPE_INT, .type_value = 24, .reason = "8, 16, 32 or 64"},
    {.name = "a union", .type = TYPE_UNION, .reason = "unions are not read"},
    {.name = "run ends", .type = TYPE_RUN_END, .reason = "run-end"},
    {.name = "a list view", .type = TYPE_LIST_VIEW, .reason = "list views"},
    {.name = "a type of the future", .type = 99, .reason = "not known"},
};

TEST(streams_that_lie)
{
    for (size_t i = 0; i < COUNT_OF(lies); i++) {
        struct buf stream;
        struct arrow_memory memory;
        struct err err = {0};
        make_stream(&stream, &lies[i]);
        arrow_memory_init(&memory, buf_str(&stream), LINES_MAX);
        bool good = arrow_memory_read(&memory, MEMORY_MAX, &err);
        if (lies[i].reason == NULL) {
            CHECK_OK(good, err);
            CHECK_STR(buf_str(&memory.lines), "{\"c\":\"x\"}\n");
        } else if (good || strstr(err.message, lies[i].reason) == NULL) {
            TEST_FAIL("%s: %s", lies[i].name, good ? "taken for good" : err.message);
        }
        arrow_memory_finish(&memory);
        buf_finish(&stream);
    }
}

/* ---- schemas ---- */

static bool read_schema(struct buf *flat, struct err *err)
{
    struct buf stream;
    struct arrow_memory memory;
    buf_init(&stream, 32 << 20);
    end_message(flat, STR(""), &stream);
    arrow_memory_init(&memory, buf_str(&stream), LINES_MAX);
    bool good = arrow_memory_read(&memory, MEMORY_MAX, err);
    arrow_memory_finish(&memory);
    buf_finish(&stream);
    return good;
}

TEST(names)
{
    static const struct {
        const char *names[2];
        const char *reason;
    } rows[] = {
        {{"a", "b"}, NULL},
        {{"a", "A"}, "more than one column \"A\""},
        {{"a", "a"}, "more than one column \"a\""},
        {{"a", ""}, "column 2 of the body has no name"},
        {{"\xFF", "b"}, "UTF-8"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct err err = {0};
        struct buf flat;
        size_t list = put_schema(&flat, 2, 0);
        add_column(&flat, list, 0, rows[i].names[0], TYPE_INT, 32);
        add_column(&flat, list, 1, rows[i].names[1], TYPE_INT, 32);
        bool good = read_schema(&flat, &err);
        CHECK(good == (rows[i].reason == NULL));
        CHECK(good || strstr(err.message, rows[i].reason) != NULL);
        CHECK(good || err.kind == ERR_INVALID);
    }
}

TEST(a_schema_without_columns_or_of_the_other_end)
{
    struct err err = {0};
    struct buf flat;
    (void)put_schema(&flat, 0, 0);
    CHECK(!read_schema(&flat, &err));
    CHECK(strstr(err.message, "no columns") != NULL);
    (void)put_schema(&flat, 0, 1);
    CHECK(!read_schema(&flat, &err));
    CHECK(strstr(err.message, "big-endian") != NULL);
}

/* Levels of structs whose `width` parts are all the same table: a small message, a large tree. */
static void put_levels(struct buf *flat, unsigned depth, size_t width)
{
    size_t list = put_schema(flat, 1, 0);
    size_t count = 1;
    for (unsigned i = 0; i < depth; i++) {
        size_t name_at;
        size_t type_at;
        size_t parts_at;
        size_t field = put_field(flat, TYPE_STRUCT, &name_at, &type_at, &parts_at);
        for (size_t part = 0; part < count; part++) {
            flat_link(flat, list + 4 + 4 * part, field);
        }
        flat_link(flat, name_at, flat_string(flat, STR("s")));
        flat_link(flat, type_at, flat_table(flat, NULL, 0));
        count = i + 1 < depth ? width : 0;
        list = flat_offsets(flat, count);
        flat_link(flat, parts_at, list);
    }
}

TEST(schemas_that_grow)
{
    static const struct {
        unsigned depth;
        size_t width;
        const char *reason;
    } rows[] = {
        {60, 1, NULL},
        {70, 1, "nested too deeply"},
        {60, 2, "columns and parts"},
        {3, 60000, "columns and parts"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct err err = {0};
        struct buf flat;
        put_levels(&flat, rows[i].depth, rows[i].width);
        bool good = read_schema(&flat, &err);
        CHECK(good == (rows[i].reason == NULL));
        CHECK(good || strstr(err.message, rows[i].reason) != NULL);
    }
}

TEST(no_streams)
{
    static const struct {
        struct str body;
        const char *reason;
    } rows[] = {
        {STR(""), "schema"},
        {STR("\0\0\0\0"), "no schema"},
        {STR("\xFF\xFF\xFF\xFF\0\0\0\0"), "no schema"},
        {STR("\xFF\xFF\xFF\xFF\0\0\0\0x"), "bytes behind its end"},
        {STR("ARROW1\0\0\xFF\xFF\xFF\xFF"), "Feather"},
        {STR("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"), "none of Arrow's"},
        {STR("{\"a\":1}\n"), "none of Arrow's"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct arrow_memory memory;
        struct err err = {0};
        arrow_memory_init(&memory, rows[i].body, LINES_MAX);
        CHECK(!arrow_memory_read(&memory, MEMORY_MAX, &err));
        CHECK_U64(err.kind, ERR_INVALID);
        if (strstr(err.message, rows[i].reason) == NULL) {
            TEST_FAIL("%s, not %s", err.message, rows[i].reason);
        }
        arrow_memory_finish(&memory);
    }
}

static const struct test_case cases[] = {
    TEST_CASE(a_column_of_most_types),
    TEST_CASE(cut_off_anywhere),
    TEST_CASE(changed_anywhere),
    TEST_CASE(streams_that_lie),
    TEST_CASE(names),
    TEST_CASE(a_schema_without_columns_or_of_the_other_end),
    TEST_CASE(schemas_that_grow),
    TEST_CASE(no_streams),
};

TEST_MAIN(cases)
