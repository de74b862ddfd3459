#include "test.h"

#include "worker_arrow_column.h"

enum {
    ROWS = 2048
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static bool has_bit(const struct buf *bits, uint64_t at)
{
    return (bits->ptr[at / 8] >> (at % 8) & 1) != 0;
}

/* A chunk of one column, every third row or so NULL. */
static duckdb_data_chunk make_chunk(duckdb_type type, duckdb_vector *ret_vector)
{
    duckdb_logical_type logical = duckdb_create_logical_type(type);
    duckdb_data_chunk chunk = duckdb_create_data_chunk(&logical, 1);
    duckdb_destroy_logical_type(&logical);
    duckdb_data_chunk_set_size(chunk, ROWS);
    *ret_vector = duckdb_data_chunk_get_vector(chunk, 0);
    duckdb_vector_ensure_validity_writable(*ret_vector);
    uint64_t seed = 7;
    for (idx_t i = 0; i < ROWS; i++) {
        duckdb_validity_set_row_validity(duckdb_vector_get_validity(*ret_vector), i,
                                         next_random(&seed) % 3 != 0);
    }
    return chunk;
}

static void init_column(struct arrow_column *column, duckdb_type type)
{
    duckdb_logical_type logical = duckdb_create_logical_type(type);
    arrow_column_init(column, STR("c"), logical);
    duckdb_destroy_logical_type(&logical);
}

/* Slices of any length, so that bits begin and end anywhere; returns which row of the chunk each
 * row of the batch is. */
static size_t append_slices(struct arrow_column *column, uint16_t *origins, size_t origins_max)
{
    uint64_t seed = 42;
    size_t count = 0;
    while (count + 200 < origins_max) {
        uint64_t first = next_random(&seed) % (ROWS - 200);
        uint64_t size = next_random(&seed) % 200;
        column->append(column, first, size);
        for (uint64_t i = 0; i < size; i++) {
            origins[count++] = (uint16_t)(first + i);
        }
    }
    return count;
}

TEST(slices_keep_values_and_nulls)
{
    static uint16_t origins[20000];
    duckdb_vector vector;
    duckdb_data_chunk chunk = make_chunk(DUCKDB_TYPE_BIGINT, &vector);
    int64_t *values = duckdb_vector_get_data(vector);
    const uint64_t *validity = duckdb_vector_get_validity(vector);
    for (int64_t i = 0; i < ROWS; i++) {
        values[i] = i * i - 1000;
    }
    struct arrow_column column;
    char problem[SHIM_TEXT_SIZE];
    init_column(&column, DUCKDB_TYPE_BIGINT);
    CHECK(arrow_column_bind(&column, vector, ROWS, problem));
    size_t count = append_slices(&column, origins, COUNT_OF(origins));
    CHECK_U64(column.rows, count);
    uint64_t nulls = 0;
    for (size_t i = 0; i < count; i++) {
        bool valid = (validity[origins[i] / 64] >> (origins[i] % 64) & 1) != 0;
        int64_t value;
        memcpy(&value, column.data.ptr + i * 8, 8);
        CHECK(has_bit(&column.validity, i) == valid);
        CHECK_I64(value, valid ? values[origins[i]] : 0);
        nulls += !valid;
    }
    CHECK_U64(column.null_count, nulls);
    arrow_column_finish(&column);
    duckdb_destroy_data_chunk(&chunk);
}

TEST(slices_keep_bits)
{
    static uint16_t origins[20000];
    duckdb_vector vector;
    duckdb_data_chunk chunk = make_chunk(DUCKDB_TYPE_BOOLEAN, &vector);
    bool *values = duckdb_vector_get_data(vector);
    const uint64_t *validity = duckdb_vector_get_validity(vector);
    for (int i = 0; i < ROWS; i++) {
        values[i] = i % 5 < 2;
    }
    struct arrow_column column;
    char problem[SHIM_TEXT_SIZE];
    init_column(&column, DUCKDB_TYPE_BOOLEAN);
    CHECK(arrow_column_bind(&column, vector, ROWS, problem));
    size_t count = append_slices(&column, origins, COUNT_OF(origins));
    for (size_t i = 0; i < count; i++) {
        bool valid = (validity[origins[i] / 64] >> (origins[i] % 64) & 1) != 0;
        CHECK(has_bit(&column.data, i) == (valid && values[origins[i]]));
    }
    arrow_column_finish(&column);
    duckdb_destroy_data_chunk(&chunk);
}

TEST(texts_of_any_size)
{
    duckdb_vector vector;
    duckdb_data_chunk chunk = make_chunk(DUCKDB_TYPE_VARCHAR, &vector);
    char text[64];
    memset(text, 'x', sizeof(text));
    for (idx_t i = 0; i < ROWS; i++) {
        text[0] = (char)('a' + i % 26);
        duckdb_vector_assign_string_element_len(vector, i, text, i % 40);
    }
    struct arrow_column column;
    char problem[SHIM_TEXT_SIZE];
    init_column(&column, DUCKDB_TYPE_VARCHAR);
    CHECK(arrow_column_bind(&column, vector, ROWS, problem));
    size_t total = arrow_column_text_size(&column, 0, ROWS);
    column.append(&column, 0, ROWS);
    CHECK_U64(column.data.len, total);
    CHECK_U64(column.offsets.len, (ROWS + 1) * 4);
    const uint64_t *validity = duckdb_vector_get_validity(vector);
    uint32_t start = 0;
    for (idx_t i = 0; i < ROWS; i++) {
        uint32_t end;
        memcpy(&end, column.offsets.ptr + (i + 1) * 4, 4);
        bool valid = (validity[i / 64] >> (i % 64) & 1) != 0;
        CHECK_U64(end - start, valid ? i % 40 : 0);
        CHECK(end == start || column.data.ptr[start] == (char)('a' + i % 26));
        start = end;
    }
    arrow_column_finish(&column);
    duckdb_destroy_data_chunk(&chunk);
}

/* Lists whose elements do not lie side by side, in the order of the rows. */
TEST(lists_with_gaps)
{
    static const duckdb_list_entry entries[] = {{10, 2}, {3, 3}, {6, 1}, {0, 0}, {7, 2}, {0, 1}};
    static const int64_t expected[] = {10, 11, 3, 4, 5, 6, 7, 8, 0};
    static const uint32_t ends[] = {0, 2, 5, 6, 6, 8, 9};
    duckdb_logical_type item = duckdb_create_logical_type(DUCKDB_TYPE_BIGINT);
    duckdb_logical_type list = duckdb_create_list_type(item);
    duckdb_vector vector = duckdb_create_vector(list, ROWS);
    struct arrow_column column;
    arrow_column_init(&column, STR("c"), list);
    duckdb_destroy_logical_type(&list);
    duckdb_destroy_logical_type(&item);
    (void)duckdb_list_vector_reserve(vector, 20);
    (void)duckdb_list_vector_set_size(vector, 20);
    int64_t *items = duckdb_vector_get_data(duckdb_list_vector_get_child(vector));
    for (int64_t i = 0; i < 20; i++) {
        items[i] = i;
    }
    memcpy(duckdb_vector_get_data(vector), entries, sizeof(entries));
    char problem[SHIM_TEXT_SIZE];
    CHECK(arrow_column_bind(&column, vector, COUNT_OF(entries), problem));
    column.append(&column, 0, 4);
    column.append(&column, 4, 2);
    CHECK_U64(column.offsets.len, sizeof(ends));
    CHECK(memcmp(column.offsets.ptr, ends, sizeof(ends)) == 0);
    CHECK_U64(column.parts->data.len, sizeof(expected));
    CHECK(memcmp(column.parts->data.ptr, expected, sizeof(expected)) == 0);
    arrow_column_finish(&column);
    duckdb_destroy_vector(&vector);
}

/* The examples of the flatbuffers and Arrow documents are few; what pyarrow reads is tested with
 * it. Here: offsets lead to their targets and numbers are aligned. */
TEST(flat_tables_are_aligned)
{
    for (size_t before = 0; before < 16; before++) {
        struct buf out;
        buf_init(&out, 1000);
        for (size_t i = 0; i < before; i++) {
            buf_append_byte(&out, 'x');
        }
        struct flat_field fields[] = {
            {.slot = 3, .size = 1, .value = 7},
            {.slot = 0, .size = 8, .value = -5},
            {.slot = 5, .size = 4},
            {.slot = 1, .size = 2, .value = 300},
        };
        size_t table = flat_table(&out, fields, COUNT_OF(fields));
        size_t text = flat_string(&out, STR("abc"));
        flat_link(&out, fields[2].at, text);
        int32_t back;
        memcpy(&back, out.ptr + table, 4);
        for (size_t i = 0; i < COUNT_OF(fields); i++) {
            uint16_t offset;
            memcpy(&offset, out.ptr + table - (size_t)back + 4 + 2 * fields[i].slot, 2);
            CHECK_U64(table + offset, fields[i].at);
            CHECK_U64(fields[i].at % fields[i].size, 0);
        }
        uint32_t forward;
        memcpy(&forward, out.ptr + fields[2].at, 4);
        CHECK_STR(str_make(out.ptr + fields[2].at + forward + 4, 3), "abc");
        buf_finish(&out);
    }
}

static const struct test_case cases[] = {
    TEST_CASE(slices_keep_values_and_nulls),
    TEST_CASE(slices_keep_bits),
    TEST_CASE(texts_of_any_size),
    TEST_CASE(lists_with_gaps),
    TEST_CASE(flat_tables_are_aligned),
};

TEST_MAIN(cases)
