#include "worker_arrow_append.h"

#include "worker_columns.h"

/* `count` (at most 64) bits of the mask from bit `first` on, in the low end of the word. A mask of
 * NULL is all ones. */
static uint64_t read_bits(const uint64_t *mask, uint64_t first, uint64_t count)
{
    uint64_t word = UINT64_MAX;
    if (mask != NULL) {
        uint64_t shift = first % 64;
        word = mask[first / 64] >> shift;
        if (shift + count > 64) {
            word |= mask[first / 64 + 1] << (64 - shift);
        }
    }
    return count == 64 ? word : word & ((UINT64_C(1) << count) - 1);
}

/* Makes room for `count` more bits behind `at`, all zero. */
static uint64_t *grow_bits(struct buf *bits, uint64_t at, uint64_t count)
{
    size_t size = (size_t)((at + count + 63) / 64 * 8);
    size_t extra = size - bits->len;
    char *room = buf_room(bits, extra);
    if (room == NULL) {
        return NULL;
    }
    memset(room, 0, extra);
    buf_wrote(bits, room + extra);
    return (uint64_t *)(void *)bits->ptr;
}

static uint64_t append_bits(struct buf *bits, uint64_t at, const uint64_t *mask, uint64_t first,
                            uint64_t count)
{
    uint64_t *words = grow_bits(bits, at, count);
    uint64_t ones = 0;
    for (uint64_t done = 0; words != NULL && done < count;) {
        uint64_t bit = (at + done) % 64;
        uint64_t take = 64 - bit < count - done ? 64 - bit : count - done;
        uint64_t word = read_bits(mask, first + done, take);
        ones += (uint64_t)__builtin_popcountll(word);
        words[(at + done) / 64] |= word << bit;
        done += take;
    }
    return ones;
}

/* Counts the rows and takes over which of them are NULL; returns how many are. */
static uint64_t begin_rows(struct arrow_column *column, uint64_t first, uint64_t count)
{
    uint64_t valid =
        append_bits(&column->validity, column->rows, column->source_validity, first, count);
    column->rows += count;
    column->null_count += count - valid;
    return count - valid;
}

/* The row, already appended, becomes NULL after all. */
static void forget_row(struct arrow_column *column, uint64_t row)
{
    uint64_t *words = (uint64_t *)(void *)column->validity.ptr;
    uint64_t bit = UINT64_C(1) << (row % 64);
    if (!buf_failed(&column->validity) && (words[row / 64] & bit) != 0) {
        words[row / 64] &= ~bit;
        column->null_count++;
    }
}

/* Room for `count` values in `data`, already counted as written; NULL when there is none. */
static void *room_for_values(struct arrow_column *column, uint64_t count)
{
    size_t size = (size_t)count * column->width;
    char *room = buf_room(&column->data, size);
    if (room != NULL) {
        buf_wrote(&column->data, room + size);
    }
    return room;
}

static bool is_null(const struct arrow_column *column, uint64_t row)
{
    return !column_has(column->source_validity, row);
}

void append_fixed(struct arrow_column *column, uint64_t first, uint64_t count)
{
    uint64_t nulls = begin_rows(column, first, count);
    char *into = room_for_values(column, count);
    if (into == NULL) {
        return;
    }
    memcpy(into, (const char *)column->source + first * column->width, count * column->width);
    for (uint64_t i = 0; nulls > 0 && i < count; i++) {
        if (is_null(column, first + i)) {
            memset(into + i * column->width, 0, column->width);
            nulls--;
        }
    }
}

void append_date(struct arrow_column *column, uint64_t first, uint64_t count)
{
    append_fixed(column, first, count);
    const int32_t *days = (const int32_t *)column->source + first;
    for (uint64_t i = 0; i < count; i++) {
        if (days[i] == INT32_MAX || days[i] == -INT32_MAX) {
            forget_row(column, column->rows - count + i);
        }
    }
}

void append_timestamp(struct arrow_column *column, uint64_t first, uint64_t count)
{
    append_fixed(column, first, count);
    const int64_t *times = (const int64_t *)column->source + first;
    for (uint64_t i = 0; i < count; i++) {
        if (times[i] == INT64_MAX || times[i] == -INT64_MAX) {
            forget_row(column, column->rows - count + i);
        }
    }
}

void append_time(struct arrow_column *column, uint64_t first, uint64_t count)
{
    append_fixed(column, first, count);
    const int64_t *times = (const int64_t *)column->source;
    for (uint64_t row = first; row < first + count; row++) {
        if (times[row] >= column->limit && !is_null(column, row)) {
            column->problem = "TIME 24:00:00 has no place in an Arrow time";
        }
    }
}

struct arrow_interval {
    int32_t months;
    int32_t days;
    int64_t nanoseconds;
};

void append_interval(struct arrow_column *column, uint64_t first, uint64_t count)
{
    (void)begin_rows(column, first, count);
    struct arrow_interval *into = room_for_values(column, count);
    const duckdb_interval *source = column->source;
    for (uint64_t row = first; into != NULL && row < first + count; row++, into++) {
        *into = (struct arrow_interval){0};
        if (is_null(column, row)) {
            continue;
        }
        into->months = source[row].months;
        into->days = source[row].days;
        if (__builtin_mul_overflow(source[row].micros, 1000, &into->nanoseconds)) {
            column->problem = "an INTERVAL of more than 292 years of microseconds has no place in "
                              "an Arrow interval";
        }
    }
}

#define WIDEN(type)                                                     \
    for (uint64_t i = 0; i < count; i++) {                              \
        bool null = nulls > 0 && is_null(column, first + i);            \
        into[i] = null ? 0 : ((const type *)column->source)[first + i]; \
    }

/* The buffer's memory is from the allocator, so 16 bytes are aligned. */
void append_decimal(struct arrow_column *column, uint64_t first, uint64_t count)
{
    uint64_t nulls = begin_rows(column, first, count);
    __int128 *into = room_for_values(column, count);
    if (into == NULL) {
        return;
    }
    if (column->source_width == sizeof(int16_t)) {
        WIDEN(int16_t)
    } else if (column->source_width == sizeof(int32_t)) {
        WIDEN(int32_t)
    } else {
        WIDEN(int64_t)
    }
}

void append_hugeint(struct arrow_column *column, uint64_t first, uint64_t count)
{
    static const __int128 limit = (__int128)10000000000000000000U * 10000000000000000000U;
    append_fixed(column, first, count);
    const duckdb_hugeint *source = column->source;
    for (uint64_t row = first; row < first + count; row++) {
        unsigned __int128 bits =
            (unsigned __int128)(uint64_t)source[row].upper << 64 | source[row].lower;
        __int128 value = (__int128)bits;
        if ((value >= limit || value <= -limit) && !is_null(column, row)) {
            column->problem = "a HUGEINT of 39 digits has no place in an Arrow decimal of 38: cast "
                              "it to VARCHAR";
        }
    }
}

/* The engine flips the first bit, so that UUIDs sort as numbers. */
void append_uuid(struct arrow_column *column, uint64_t first, uint64_t count)
{
    (void)begin_rows(column, first, count);
    char *into = room_for_values(column, count);
    const duckdb_hugeint *source = column->source;
    for (uint64_t row = first; into != NULL && row < first + count; row++, into += 16) {
        uint64_t halves[2] = {0};
        if (!is_null(column, row)) {
            halves[0] = __builtin_bswap64((uint64_t)source[row].upper ^ UINT64_C(1) << 63);
            halves[1] = __builtin_bswap64(source[row].lower);
        }
        memcpy(into, halves, sizeof(halves));
    }
}

void append_bool(struct arrow_column *column, uint64_t first, uint64_t count)
{
    uint64_t at = column->rows;
    (void)begin_rows(column, first, count);
    const unsigned char *source = (const unsigned char *)column->source + first;
    for (uint64_t done = 0; done < count; done += 64) {
        uint64_t take = count - done < 64 ? count - done : 64;
        uint64_t word = 0;
        for (uint64_t i = 0; i < take; i++) {
            word |= (uint64_t)(source[done + i] & 1) << i;
        }
        word &= read_bits(column->source_validity, first + done, take);
        (void)append_bits(&column->data, at + done, &word, 0, take);
    }
}

size_t arrow_column_text_size(const struct arrow_column *column, uint64_t first, uint64_t count)
{
    const duckdb_string_t *texts = column->source;
    const uint64_t *validity = column->source_validity;
    uint64_t end = column->append == append_bytes ? first + count : first;
    size_t size = 0;
    for (uint64_t row = first; row < end && validity == NULL; row++) {
        size += texts[row].value.inlined.length;
    }
    for (uint64_t row = first; row < end && validity != NULL; row++) {
        size += column_has(validity, row) ? texts[row].value.inlined.length : 0;
    }
    return size;
}

/* Texts up to 12 bytes stand in the vector itself: they are copied with a fixed size. */
void append_bytes(struct arrow_column *column, uint64_t first, uint64_t count)
{
    enum {
        INLINE_SIZE = 12
    };
    (void)begin_rows(column, first, count);
    char *start =
        buf_room(&column->data, arrow_column_text_size(column, first, count) + INLINE_SIZE);
    char *ends = buf_room(&column->offsets, count * sizeof(uint32_t));
    if (start == NULL || ends == NULL) {
        return;
    }
    const duckdb_string_t *texts = column->source;
    char *at = start;
    for (uint64_t row = first; row < first + count; row++) {
        uint32_t size = is_null(column, row) ? 0 : texts[row].value.inlined.length;
        if (size <= INLINE_SIZE) {
            memcpy(at, texts[row].value.inlined.inlined, INLINE_SIZE);
        } else {
            memcpy(at, texts[row].value.pointer.ptr, size);
        }
        at += size;
        uint32_t end = (uint32_t)(at - column->data.ptr);
        memcpy(ends, &end, sizeof(end));
        ends += sizeof(end);
    }
    buf_wrote(&column->data, at);
    buf_wrote(&column->offsets, ends);
}

/* Rows without a value, also inside: parts of a NULL struct and of a NULL array have slots. */
static void append_nulls(struct arrow_column *column, uint64_t count)
{
    (void)grow_bits(&column->validity, column->rows, count);
    if (column->type == ARROW_BOOL) {
        (void)grow_bits(&column->data, column->rows, count);
    }
    column->rows += count;
    column->null_count += count;
    void *values = room_for_values(column, count);
    if (values != NULL) {
        memset(values, 0, count * column->width);
    }
    bool texts = column->append == append_bytes || column->append == append_list;
    for (uint64_t i = 0; texts && i < count && !buf_failed(&column->offsets); i++) {
        uint32_t end;
        memcpy(&end, column->offsets.ptr + column->offsets.len - sizeof(end), sizeof(end));
        flat_put_u32(&column->offsets, end);
    }
    bool same_rows = column->type == ARROW_STRUCT;
    for (size_t i = 0; i < column->parts_count && !texts; i++) {
        append_nulls(&column->parts[i], same_rows ? count : count * column->list_size);
    }
}

/* The elements of neighbouring lists mostly lie side by side: they are appended in one go. */
void append_list(struct arrow_column *column, uint64_t first, uint64_t count)
{
    (void)begin_rows(column, first, count);
    struct arrow_column *items = column->parts;
    const duckdb_list_entry *source = column->source;
    uint64_t start = 0;
    uint64_t pending = 0;
    for (uint64_t row = first; row < first + count; row++) {
        duckdb_list_entry entry = is_null(column, row) ? (duckdb_list_entry){0} : source[row];
        if (entry.length > 0 && (pending == 0 || entry.offset != start + pending)) {
            items->append(items, start, pending);
            start = entry.offset;
            pending = 0;
        }
        pending += entry.length;
        flat_put_u32(&column->offsets, (uint32_t)(items->rows + pending));
    }
    items->append(items, start, pending);
}

/* How many rows from `row` on are like it, NULL or not. */
static uint64_t run_length(const struct arrow_column *column, uint64_t row, uint64_t end)
{
    if (column->source_validity == NULL) {
        return end - row;
    }
    uint64_t next = row + 1;
    while (next < end && is_null(column, next) == is_null(column, row)) {
        next++;
    }
    return next - row;
}

/* Each part gets `times` slots per row; what stands in those of a NULL row is not looked at. */
static void append_parts(struct arrow_column *column, uint64_t first, uint64_t count,
                         uint64_t times)
{
    (void)begin_rows(column, first, count);
    for (uint64_t row = first, run; row < first + count; row += run) {
        run = run_length(column, row, first + count);
        for (size_t i = 0; i < column->parts_count; i++) {
            if (is_null(column, row)) {
                append_nulls(&column->parts[i], run * times);
            } else {
                column->parts[i].append(&column->parts[i], row * times, run * times);
            }
        }
    }
}

void append_array(struct arrow_column *column, uint64_t first, uint64_t count)
{
    append_parts(column, first, count, column->list_size);
}

void append_struct(struct arrow_column *column, uint64_t first, uint64_t count)
{
    append_parts(column, first, count, 1);
}

void append_nothing(struct arrow_column *column, uint64_t first, uint64_t count)
{
    (void)first;
    column->rows += count;
    column->null_count += count;
}
