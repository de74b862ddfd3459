#include "worker_lines_read.h"

#include "fd.h"
#include "mem.h"
#include "worker_lines_quoted.h"
#include "worker_lines_text.h"
#include "worker_shim.h"

#include <stdio.h>

enum {
    SLICE_SIZE = 8 << 20, /* of the lines, one thread at a time */
    SLICE_SIZE_MIN = 512 << 10,
    BUFFER_SIZE = 256 << 10,
    BEYOND_SIZE = 16 << 10 /* what is read at once behind a slice, to end its last line */
};

/* Where one column is in the chunk at hand. */
struct column {
    duckdb_type type;
    bool quoted; /* a text in the line: lines_read_quoted */
    duckdb_vector vector;
    void *values;
    uint64_t rows; /* that have a value, or none */
};

/* One thread's. The buffer holds bytes `base` and on of the lines; those before `at` are done with,
 * `whole` is behind the last line that is complete. */
struct reader {
    struct lines_file *file;
    struct column *columns;
    uint64_t slice; /* its number */
    uint64_t slice_end;
    bool begun; /* there is a slice */
    uint64_t base;
    char *buffer;
    size_t capacity;
    size_t at;
    size_t whole;
    size_t size;
};

/* ---- values ---- */

static void mark_missing(struct column *column, uint64_t end)
{
    duckdb_vector_ensure_validity_writable(column->vector);
    uint64_t *validity = duckdb_vector_get_validity(column->vector);
    while (column->rows < end) {
        if (column->rows % 64 == 0 && end - column->rows >= 64) {
            validity[column->rows / 64] = 0;
            column->rows += 64;
        } else {
            validity[column->rows / 64] &= ~(UINT64_C(1) << column->rows % 64);
            column->rows++;
        }
    }
}

static inline char *read_value(const struct column *column, uint64_t row, char *at, const char *end)
{
    const char *behind;
    if (column->quoted) {
        behind = lines_read_quoted(column->type, at, end, column->values, row);
    } else if (column->type == DUCKDB_TYPE_VARCHAR) {
        behind = lines_read_text(at, (duckdb_string_t *)column->values + row);
    } else if (column->type == DUCKDB_TYPE_BIGINT) {
        behind = lines_read_bigint(at, (int64_t *)column->values + row);
    } else if (column->type == DUCKDB_TYPE_DOUBLE) {
        behind = lines_read_double(at, end, (double *)column->values + row);
    } else {
        behind = lines_read_boolean(at, (bool *)column->values + row);
    }
    return behind == NULL ? NULL : at + (behind - at);
}

/* cN": and what N is; NULL when that is no column. */
static inline char *read_key(char *at, size_t columns_count, size_t *ret_place)
{
    size_t place = 0;
    if (at[0] != '"' || at[1] != 'c' || at[2] == '"') {
        return NULL;
    }
    for (at += 2; *at >= '0' && *at <= '9' && place < columns_count; at++) {
        place = place * 10 + (size_t)(*at - '0');
    }
    *ret_place = place;
    return at[0] == '"' && at[1] == ':' && place < columns_count ? at + 2 : NULL;
}

/* One line of {"c0":..,"c3":..}; behind its line end, or NULL when it is not of that shape. */
static char *read_line(struct reader *reader, char *at, uint64_t row)
{
    size_t columns_count = reader->file->lines->columns_count;
    const char *end = reader->buffer + reader->whole;
    if (*at++ != '{') {
        return NULL;
    }
    if (*at == '}') {
        return at[1] == '\n' ? at + 2 : NULL;
    }
    for (;; at++) {
        size_t place;
        at = read_key(at, columns_count, &place);
        if (at == NULL) {
            return NULL;
        }
        struct column *column = &reader->columns[place];
        if (column->rows > row) {
            return NULL; /* a second time in this line */
        }
        if (column->rows < row) {
            mark_missing(column, row);
        }
        column->rows = row + 1;
        at = read_value(column, row, at, end);
        if (at == NULL || *at != ',') {
            break;
        }
    }
    return at != NULL && at[0] == '}' && at[1] == '\n' ? at + 2 : NULL;
}

/* ---- bytes ---- */

static bool take_slice(struct reader *reader)
{
    struct lines_file *file = reader->file;
    reader->slice = atomic_fetch_add(&file->next_slice, 1);
    uint64_t count =
        file->input.size / file->slice_size + (file->input.size % file->slice_size > 0);
    if (reader->slice >= count) {
        return false;
    }
    uint64_t start = reader->slice * file->slice_size;
    uint64_t size =
        file->input.size - start < file->slice_size ? file->input.size - start : file->slice_size;
    reader->slice_end = start + size;
    reader->base = start == 0 ? 0 : start - 1; /* a line that ends there is another's */
    reader->at = reader->whole = reader->size = 0;
    reader->begun = true;
    return true;
}

/* How many bytes are wanted behind those that there are. */
static size_t wanted(const struct reader *reader)
{
    uint64_t next = reader->base + reader->size;
    uint64_t size = next < reader->slice_end ? reader->slice_end - next : BEYOND_SIZE;
    uint64_t left = reader->file->input.size - next;
    size = size < left ? size : left;
    size_t room = reader->capacity - reader->size;
    return size < room ? (size_t)size : room;
}

/* More whole lines; false when there are none: the bytes end within one, or it is too long. */
static bool fill(struct reader *reader)
{
    memmove(reader->buffer, reader->buffer + reader->at, reader->size - reader->at);
    reader->base += reader->at;
    reader->size -= reader->at;
    reader->at = reader->whole = 0;
    while (reader->whole == 0) {
        size_t size = wanted(reader);
        char *into = reader->buffer + reader->size;
        if (size == 0 || !fd_read_at(reader->file->input.fd, into, size,
                                     reader->file->input.offset + reader->base + reader->size)) {
            return false;
        }
        const char *last = memrchr(into, '\n', size);
        reader->size += size;
        reader->whole = last == NULL ? 0 : (size_t)(last - reader->buffer) + 1;
    }
    memset(reader->buffer + reader->size, 0, LINES_PADDING);
    return true;
}

/* Behind the first line end, since a line belongs to the slice that it begins in. */
static bool skip_first(struct reader *reader)
{
    if (reader->slice == 0) {
        return true;
    }
    if (!fill(reader)) {
        return false;
    }
    const char *first = memchr(reader->buffer, '\n', reader->whole);
    reader->at = (size_t)(first - reader->buffer) + 1;
    return true;
}

static bool at_slice_end(const struct reader *reader)
{
    return reader->base + reader->at >= reader->slice_end;
}

/* Stands at a line of a slice then, or there is none left: `begun` is false. */
static bool find_lines(struct reader *reader)
{
    while (!reader->begun || at_slice_end(reader)) {
        reader->begun = false;
        if (!take_slice(reader)) {
            return true;
        }
        if (!skip_first(reader)) {
            return false;
        }
    }
    return reader->at < reader->whole || fill(reader);
}

/* ---- the table function ---- */

static void begin_chunk(struct reader *reader, duckdb_data_chunk chunk)
{
    for (size_t i = 0; i < reader->file->lines->columns_count; i++) {
        struct column *column = &reader->columns[i];
        column->vector = duckdb_data_chunk_get_vector(chunk, i);
        column->values = duckdb_vector_get_data(column->vector);
        column->rows = 0;
    }
}

static bool read_lines(struct reader *reader, duckdb_data_chunk chunk)
{
    uint64_t rows_max = duckdb_vector_size();
    uint64_t row = 0;
    begin_chunk(reader, chunk);
    while (row < rows_max && reader->at < reader->whole && !at_slice_end(reader)) {
        char *behind = read_line(reader, reader->buffer + reader->at, row);
        if (behind == NULL) {
            return false;
        }
        reader->at = (size_t)(behind - reader->buffer);
        row++;
    }
    for (size_t i = 0; i < reader->file->lines->columns_count; i++) {
        if (reader->columns[i].rows < row) {
            mark_missing(&reader->columns[i], row);
        }
    }
    duckdb_data_chunk_set_size(chunk, row);
    return true;
}

/* The texts of a chunk stand in the buffer until the next one is asked for. */
static bool reader_read(void *context, duckdb_data_chunk chunk, uint64_t *ret_batch,
                        char problem[SHIM_TEXT_SIZE])
{
    struct reader *reader = context;
    bool good = !atomic_load(&reader->file->odd) && find_lines(reader);
    if (good && !reader->begun) {
        duckdb_data_chunk_set_size(chunk, 0);
        return true;
    }
    *ret_batch = reader->slice;
    if (!good || !read_lines(reader, chunk)) {
        atomic_store(&reader->file->odd, true);
        (void)snprintf(problem, SHIM_TEXT_SIZE, "a line is of another shape");
        return false;
    }
    return true;
}

static void *reader_open(void *context)
{
    struct lines_file *file = context;
    const struct worker_lines *lines = file->lines;
    struct reader *reader = mem_alloc(sizeof(*reader));
    size_t line_size = (size_t)lines->line_size_max + 2; /* its line end, and the one before */
    reader->file = file;
    reader->capacity = line_size < BUFFER_SIZE ? BUFFER_SIZE : line_size;
    reader->buffer = mem_alloc(reader->capacity + LINES_PADDING);
    reader->columns = mem_alloc_array(lines->columns_count, sizeof(*reader->columns));
    for (size_t i = 0; i < lines->columns_count; i++) {
        reader->columns[i].type = file->types[i];
        reader->columns[i].quoted = lines_quoted_type(&lines->columns[i]) != DUCKDB_TYPE_INVALID;
    }
    return reader;
}

static void reader_close(void *context)
{
    struct reader *reader = context;
    mem_free(reader->columns);
    mem_free(reader->buffer);
    mem_free(reader);
}

static duckdb_type type_of(struct str line_type)
{
    static const struct {
        const char *name;
        duckdb_type type;
    } types[] = {{"BIGINT", DUCKDB_TYPE_BIGINT},
                 {"DOUBLE", DUCKDB_TYPE_DOUBLE},
                 {"BOOLEAN", DUCKDB_TYPE_BOOLEAN},
                 {"VARCHAR", DUCKDB_TYPE_VARCHAR}};
    duckdb_type found = DUCKDB_TYPE_INVALID;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        found = str_equal(line_type, str_of(types[i].name)) ? types[i].type : found;
    }
    return found;
}

bool lines_file_init(struct lines_file *file, const struct worker_lines *lines,
                     const struct lines_input *input)
{
    bool known = input->fd >= 0;
    *file = (struct lines_file){.input = *input, .lines = lines, .slice_size = SLICE_SIZE};
    file->types = mem_alloc_array(lines->columns_count, sizeof(*file->types));
    for (size_t i = 0; i < lines->columns_count; i++) {
        duckdb_type quoted = lines_quoted_type(&lines->columns[i]);
        file->types[i] =
            quoted != DUCKDB_TYPE_INVALID ? quoted : type_of(lines->columns[i].line_type);
        known = known && file->types[i] != DUCKDB_TYPE_INVALID;
    }
    return known;
}

void lines_file_finish(struct lines_file *file)
{
    mem_free(file->types);
    file->types = NULL;
}

void lines_file_fit(struct lines_file *file, uint64_t rows, uint64_t group_rows)
{
    if (rows <= group_rows || group_rows == 0) {
        return;
    }
    double share = (double)group_rows / (double)rows;
    uint64_t size = (uint64_t)(share * (double)file->input.size);
    if (size >= SLICE_SIZE_MIN && size <= 4 * (uint64_t)SLICE_SIZE) {
        file->slice_size = size;
    }
}

void lines_file_share(struct lines_file *file, unsigned threads)
{
    assert(threads > 0);
    uint64_t size = file->input.size / (2 * (uint64_t)threads) + 1;
    size = size < SLICE_SIZE_MIN ? SLICE_SIZE_MIN : size;
    file->slice_size = size < SLICE_SIZE ? size : SLICE_SIZE;
}

bool lines_file_register(struct lines_file *file, struct duck *duck, unsigned threads,
                         struct err *err)
{
    uint64_t slices = file->input.size / file->slice_size + 1;
    const struct shim_source source = {
        .name = "eider_lines",
        .context = file,
        .types = file->types,
        .columns_count = file->lines->columns_count,
        .threads_max = slices < threads ? slices : threads,
        .open = reader_open,
        .read = reader_read,
        .close = reader_close,
    };
    return shim_register_source(duck->connection, &source) ||
           err_set(err, ERR_INTERNAL, "the engine does not take the lines");
}
