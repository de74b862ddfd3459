#include "worker_arrow.h"

#include "clock.h"
#include "mem.h"
#include "worker_arrow_message.h"

/* Batches leave as a whole, and while one is gathered nothing leaves: small ones keep those behind
 * us busy, and are in the processor's cache until they are sent. */
enum {
    BATCH_ROWS_FIRST = 4096,
    BATCH_ROWS_MAX = 16384,
    BATCH_SIZE_MAX = 4 << 20,
    SLICE_SIZE = 1 << 20
};

struct arrow {
    struct arrow_column *columns;
    size_t columns_count;
    uint64_t rows;     /* in the batch */
    uint64_t rows_max; /* of the batch; grows with each */
    uint64_t slice;    /* rows to be appended at once: few while they are large */
};

/* Dictionaries stand before the first batch, numbered in the order of the schema. */
static void number_dictionaries(struct arrow_column *columns, size_t count, int64_t *next)
{
    for (size_t i = 0; i < count; i++) {
        columns[i].dictionary_id = columns[i].texts == NULL ? 0 : (*next)++;
        number_dictionaries(columns[i].parts, columns[i].parts_count, next);
    }
}

static void send_dictionaries(const struct arrow_column *columns, size_t count, struct sink *sink)
{
    for (size_t i = 0; i < count; i++) {
        if (columns[i].texts != NULL) {
            arrow_send_dictionary(&columns[i], sink);
        }
        send_dictionaries(columns[i].parts, columns[i].parts_count, sink);
    }
}

void *arrow_create(duckdb_result *result, const struct str *names, struct sink *sink)
{
    struct arrow *arrow = mem_alloc(sizeof(*arrow));
    arrow->columns_count = duckdb_column_count(result);
    arrow->columns = mem_alloc_array(arrow->columns_count, sizeof(*arrow->columns));
    arrow->rows_max = BATCH_ROWS_FIRST;
    arrow->slice = 1;
    for (size_t i = 0; i < arrow->columns_count; i++) {
        duckdb_logical_type type = duckdb_column_logical_type(result, i);
        arrow_column_init(&arrow->columns[i], names[i], type);
        duckdb_destroy_logical_type(&type);
    }
    int64_t dictionaries = 0;
    number_dictionaries(arrow->columns, arrow->columns_count, &dictionaries);
    arrow_send_schema(arrow->columns, arrow->columns_count, sink);
    send_dictionaries(arrow->columns, arrow->columns_count, sink);
    return arrow;
}

static size_t batch_size(const struct arrow *arrow)
{
    size_t size = 0;
    for (size_t i = 0; i < arrow->columns_count; i++) {
        size += arrow_column_size(&arrow->columns[i]);
    }
    return size;
}

static void send_batch(struct arrow *arrow, struct sink *sink)
{
    if (arrow->rows == 0) {
        return;
    }
    arrow_send_batch(arrow->columns, arrow->columns_count, arrow->rows, sink);
    for (size_t i = 0; i < arrow->columns_count; i++) {
        arrow_column_reset(&arrow->columns[i]);
    }
    arrow->rows = 0;
    arrow->rows_max = arrow->rows_max < BATCH_ROWS_MAX ? arrow->rows_max * 2 : BATCH_ROWS_MAX;
}

static bool say_problem(const struct arrow *arrow, struct err *err)
{
    for (size_t i = 0; i < arrow->columns_count; i++) {
        const struct arrow_column *failed = arrow_column_failed(&arrow->columns[i]);
        if (failed != NULL) {
            const char *problem = failed->problem;
            return err_set(err, problem == NULL ? ERR_UNPROCESSABLE : ERR_INVALID,
                           "column \"%.*s\": %s", STR_ARG(str_first(arrow->columns[i].name, 200)),
                           problem != NULL ? problem : "one row is too large for an Arrow batch");
        }
    }
    return true;
}

/* The rows to be appended next: fewer when their texts are large. What is large in other ways is
 * known from the last slice. */
static uint64_t slice_rows(const struct arrow *arrow, uint64_t first, uint64_t count)
{
    count = arrow->slice < count ? arrow->slice : count;
    for (; count > 1; count /= 2) {
        size_t size = 0;
        for (size_t i = 0; i < arrow->columns_count; i++) {
            size += arrow_column_text_size(&arrow->columns[i], first, count);
        }
        if (size <= SLICE_SIZE) {
            break;
        }
    }
    return count;
}

/* A few rows of the bound chunk. Batches end between such slices, so they must be small where rows
 * are large. */
static bool put_slice(struct arrow *arrow, uint64_t first, uint64_t count, struct sink *sink,
                      struct err *err)
{
    size_t before = batch_size(arrow);
    for (size_t i = 0; i < arrow->columns_count; i++) {
        arrow->columns[i].append(&arrow->columns[i], first, count);
    }
    if (!say_problem(arrow, err)) {
        return false;
    }
    arrow->rows += count;
    size_t size = batch_size(arrow);
    uint64_t fitting = SLICE_SIZE / ((size - before) / count + 1) + 1;
    arrow->slice = arrow->slice * 2 < fitting ? arrow->slice * 2 : fitting;
    if (arrow->rows >= arrow->rows_max || size >= BATCH_SIZE_MAX) {
        send_batch(arrow, sink);
    }
    return true;
}

bool arrow_put(void *state, duckdb_data_chunk chunk, uint64_t rows, struct sink *sink,
               struct err *err)
{
    struct arrow *arrow = state;
    uint64_t chunk_rows = duckdb_data_chunk_get_size(chunk);
    for (size_t i = 0; i < arrow->columns_count; i++) {
        duckdb_vector vector = duckdb_data_chunk_get_vector(chunk, i);
        char problem[SHIM_TEXT_SIZE];
        if (!arrow_column_bind(&arrow->columns[i], vector, chunk_rows, problem)) {
            return err_set(err, ERR_UNPROCESSABLE, "column %zu: %s", i + 1, problem);
        }
    }
    for (uint64_t row = 0; row < rows;) {
        uint64_t count = slice_rows(arrow, row, rows - row);
        if (!put_slice(arrow, row, count, sink, err)) {
            return false;
        }
        row += count;
    }
    if (clock_now_ms() - sink->sent_ms >= SINK_WAIT_MS) {
        send_batch(arrow, sink);
    }
    return true;
}

void arrow_end(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink)
{
    (void)outcome;
    (void)limited;
    send_batch(state, sink);
    arrow_send_end(sink);
}

void arrow_destroy(void *state)
{
    struct arrow *arrow = state;
    if (arrow == NULL) {
        return;
    }
    for (size_t i = 0; i < arrow->columns_count; i++) {
        arrow_column_finish(&arrow->columns[i]);
    }
    mem_free(arrow->columns);
    mem_free(arrow);
}
