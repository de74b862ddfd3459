#include "json_token.h"
#include "json_write.h"
#include "lake_check_internal.h"
#include "lake_schema_build.h"
#include "mem.h"

#include <stdio.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* The way that nearly all records go: keys are those of the record before, in its order, or at
 * least columns that there are, each once; values fit. Each byte is looked at once and copied on
 * the way. What is checked is what json_scan and lake_check_record.c check; whatever is not plain,
 * wrong or merely rare, is left to them: then nothing has been written, and the record starts again
 * there. */

#define INLINE static inline __attribute__((always_inline))
#define NOT_INLINE __attribute__((noinline))

enum {
    ROOM = 1 << 16, /* for one line; longer ones are not for here */
    ROOM_MIN = 1024,
    ROOM_FACTOR = 8, /* a line is hardly so much longer than its record */
    SLACK = 64,      /* what may be written between two looks at the room */
    NUMBER_MAX = 32,
    EXACT_DIGITS = 15, /* an integer of so many digits is exact in a double */
    ESCAPE_SIZE = 6    /* \uXXXX */
};

enum fast_class {
    FAST_NEVER,
    FAST_BOOLEAN,
    FAST_BIGINT,
    FAST_DECIMAL,
    FAST_DOUBLE,
    FAST_TEXT, /* strings only */
    FAST_ANY   /* strings, and numbers as text */
};

/* Where the reading and the writing of one record are. Its address goes to functions that are part
 * of their callers only, so that it lives in registers. */
struct fast {
    const char *at;
    const char *end;
    char *out;
    char *out_limit; /* SLACK before the end of the room */
    bool lines;      /* a line end is no white space */
};

/* ---- columns ---- */

static enum fast_class class_of(const struct lake_schema *schema, size_t place)
{
    const struct lake_schema_column *column = &schema->columns[place];
    if (place == schema->rest || column->provisional) {
        return FAST_NEVER;
    }
    switch (column->kind) {
    case LAKE_BOOLEAN:
        return FAST_BOOLEAN;
    case LAKE_BIGINT:
        return FAST_BIGINT;
    case LAKE_DECIMAL:
        return FAST_DECIMAL;
    case LAKE_DOUBLE:
        return FAST_DOUBLE;
    case LAKE_VARCHAR:
        return column->mixed ? FAST_ANY : FAST_TEXT;
    case LAKE_CAST:
        break;
    }
    return FAST_ANY;
}

/* ,"cN": as snprintf would, which takes longer than a small record. */
static unsigned write_prefix(char *prefix, size_t size, size_t place)
{
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + place % 10);
        place /= 10;
    } while (place > 0);
    assert(count + sizeof(",\"c\":") - 1 <= size);
    char *at = prefix;
    memcpy(at, ",\"c", 3);
    at += 3;
    while (count > 0) {
        *at++ = digits[--count];
    }
    memcpy(at, "\":", 2);
    return (unsigned)(at + 2 - prefix);
}

/* What is needed of a column is made when it is met first, so that a wide table costs one record
 * little. */
static void learn_column(struct lake_check *check, size_t place)
{
    struct check_column *column = &check->columns[place];
    const struct lake_schema_column *known = &check->schema->columns[place];
    struct buf key;
    if (column->key != NULL) {
        return;
    }
    buf_init(&key, 8 * LAKE_COLUMN_NAME_MAX);
    json_append_string(&key, lake_schema_column_name(known));
    buf_append_byte(&key, ':');
    column->key = buf_take(&key, &column->key_size);
    memcpy(column->key_start, column->key,
           column->key_size < sizeof(column->key_start) ? column->key_size
                                                        : sizeof(column->key_start));
    column->prefix_size = write_prefix(column->prefix, sizeof(column->prefix), place);
    column->class = (unsigned char)class_of(check->schema, place);
    column->exact = known->exact;
}

INLINE bool is_key(const struct fast *fast, const struct check_column *column)
{
    size_t left = (size_t)(fast->end - fast->at);
    size_t size = column->key_size;
#if defined(__SSE2__)
    if (size <= 16 && left >= 16) {
        __m128i sent = _mm_loadu_si128((const __m128i *)(const void *)fast->at);
        __m128i key = _mm_loadu_si128((const __m128i *)(const void *)column->key_start);
        unsigned same = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(sent, key));
        return (~same & ((1U << size) - 1)) == 0;
    }
#endif
    return left >= size && memcmp(fast->at, column->key, size) == 0;
}

/* Any key without escapes, and its colon; NULL when it names no column. */
static NOT_INLINE const char *look_up(struct lake_check *check, const char *at, const char *end,
                                      size_t *ret_place)
{
    if (at == end || *at != '"') {
        return NULL;
    }
    const char *start = at + 1;
    const char *quote = find_special(start, end);
    if (quote == end || *quote != '"') {
        return NULL;
    }
    size_t place = lake_schema_find(check->schema, str_make(start, (size_t)(quote - start)));
    const char *colon = quote + 1;
    while (colon < end && *colon == ' ') {
        colon++;
    }
    if (place == check->schema->columns_count || colon == end || *colon != ':') {
        return NULL;
    }
    learn_column(check, place);
    *ret_place = place;
    return colon + 1;
}

/* The column of the key here, which follows the one of `link`; at the value then. */
INLINE struct check_column *take_key(struct fast *fast, struct lake_check *check, uint32_t **link)
{
    struct check_column *column = &check->columns[**link];
    if (column->key_size > 0 && is_key(fast, column)) {
        fast->at += column->key_size;
    } else {
        size_t place;
        fast->at = look_up(check, fast->at, fast->end, &place);
        if (fast->at == NULL) {
            return NULL;
        }
        column = &check->columns[place];
        **link = (uint32_t)place;
    }
    if (column->record == check->record_number) {
        return NULL; /* a second time in this record */
    }
    column->record = check->record_number;
    *link = &column->next;
    return column;
}

/* ---- strings ---- */

/* The size of the escape at the backslash, with the other half of a surrogate; 0 for a bad one. */
static NOT_INLINE size_t escape_size(const char *at, const char *end)
{
    size_t left = (size_t)(end - at);
    if (left <= ESCAPE_SIZE || at[1] != 'u') {
        return left < 2 || short_escape(at[1]) == '\0' ? 0 : 2;
    }
    int32_t unit = hex_unit(at + 2);
    if (unit < 0xD800 || unit >= 0xE000) {
        return unit < 0 ? 0 : ESCAPE_SIZE;
    }
    if (unit >= 0xDC00 || left <= ESCAPE_SIZE + ESCAPE_SIZE || at[ESCAPE_SIZE] != '\\' ||
        at[ESCAPE_SIZE + 1] != 'u') {
        return 0;
    }
    unit = hex_unit(at + ESCAPE_SIZE + 2);
    return unit >= 0xDC00 && unit < 0xE000 ? ESCAPE_SIZE + ESCAPE_SIZE : 0;
}

/* Copies up to the next quote, backslash or control character; false when there is none, or no more
 * room. */
INLINE bool copy_plain(struct fast *fast)
{
#if defined(__SSE2__)
    while (fast->end - fast->at >= 16 && fast->out <= fast->out_limit) {
        __m128i sent = _mm_loadu_si128((const __m128i *)(const void *)fast->at);
        _mm_storeu_si128((__m128i *)(void *)fast->out, sent);
        unsigned marks = find_specials(sent);
        if (marks != 0) {
            fast->at += __builtin_ctz(marks);
            fast->out += __builtin_ctz(marks);
            return true;
        }
        fast->at += 16;
        fast->out += 16;
    }
#endif
    const char *special = find_special(fast->at, fast->end);
    size_t size = (size_t)(special - fast->at);
    if (special == fast->end || fast->out > fast->out_limit ||
        size > (size_t)(fast->out_limit - fast->out)) {
        return false;
    }
    memcpy(fast->out, fast->at, size);
    fast->at = special;
    fast->out += size;
    return true;
}

/* The string here with its quotes. */
INLINE bool copy_string(struct fast *fast)
{
    *fast->out++ = '"';
    fast->at++;
    while (copy_plain(fast)) {
        if (*fast->at == '"') {
            fast->at++;
            *fast->out++ = '"';
            return true;
        }
        size_t size = *fast->at == '\\' ? escape_size(fast->at, fast->end) : 0;
        if (size == 0) {
            return false;
        }
        memcpy(fast->out, fast->at, size);
        fast->at += size;
        fast->out += size;
    }
    return false;
}

/* ---- numbers ---- */

struct number {
    size_t digits; /* before the point */
    size_t size;   /* without the sign */
    bool real;
};

#if defined(__SSE2__)
INLINE uint64_t mark_digits(const char *at)
{
    __m128i sent = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i value = _mm_sub_epi8(sent, _mm_set1_epi8('0'));
    __m128i digit = _mm_cmpeq_epi8(_mm_min_epu8(value, _mm_set1_epi8(9)), value);
    return (uint64_t)(unsigned)_mm_movemask_epi8(digit);
}
#endif

/* The number behind the sign, if any; false for long ones. An exponent stays, and is no comma. */
INLINE bool measure_number(const char *at, const char *end, struct number *number)
{
    size_t fraction;
#if defined(__SSE2__)
    if (end - at > NUMBER_MAX) {
        uint64_t other = ~(mark_digits(at) | mark_digits(at + 16) << 16);
        number->digits = (size_t)__builtin_ctzll(other);
        number->real = at[number->digits] == '.';
        fraction = (size_t)__builtin_ctzll(other >> 1 >> number->digits);
    } else
#endif
    {
        number->digits = (size_t)(skip_digits(at, end) - at);
        number->real = number->digits < (size_t)(end - at) && at[number->digits] == '.';
        const char *point = at + number->digits;
        fraction = number->real ? (size_t)(skip_digits(point + 1, end) - point - 1) : 0;
    }
    number->size = number->digits + (number->real ? fraction + 1 : 0);
    bool zeros = number->digits > 1 && *at == '0';
    return number->digits > 0 && !zeros && !(number->real && fraction == 0) &&
           number->size < NUMBER_MAX;
}

/* For integers so long that they may not fit, or not be exact. */
static NOT_INLINE bool long_integer_fits(const struct check_column *column, const char *at,
                                         size_t size)
{
    struct json_span span = {.kind = JSON_INTEGER, .text = str_make(at, size)};
    unsigned saw = check_look_at(span);
    if (column->class == FAST_DOUBLE) {
        return (saw & LAKE_SAW_INEXACT) == 0;
    }
    return (saw & LAKE_SAW_INT64) != 0 && !(column->exact && (saw & LAKE_SAW_INEXACT) != 0);
}

INLINE bool number_fits(const struct check_column *column, const struct number *number,
                        const char *at, bool negative)
{
    bool minus_zero = negative && number->size == 1 && at[1] == '0';
    bool small = number->digits <= EXACT_DIGITS;
    switch (column->class) {
    case FAST_BIGINT:
        return !number->real && !minus_zero &&
               (small || long_integer_fits(column, at, number->size + negative));
    case FAST_DOUBLE:
        return number->real || small || long_integer_fits(column, at, number->size + negative);
    case FAST_DECIMAL:
        return !number->real && !minus_zero;
    case FAST_ANY:
        return true;
    default:
        return false;
    }
}

INLINE bool copy_number(struct fast *fast, const struct check_column *column)
{
    struct number number;
    bool negative = *fast->at == '-';
    const char *at = fast->at;
    if (!measure_number(at + negative, fast->end, &number) ||
        !number_fits(column, &number, at, negative)) {
        return false;
    }
    bool quoted = column->class == FAST_DECIMAL || column->class == FAST_ANY;
    size_t size = number.size + negative;
    *fast->out = '"';
    fast->out += quoted;
    if (fast->end - at >= NUMBER_MAX) {
        memcpy(fast->out, at, NUMBER_MAX); /* of a known size, which is faster */
    } else {
        memcpy(fast->out, at, size);
    }
    fast->out += size;
    *fast->out = '"';
    fast->out += quoted;
    fast->at += size;
    return true;
}

/* ---- values and records ---- */

INLINE bool copy_word(struct fast *fast, const char *word, size_t size)
{
    if ((size_t)(fast->end - fast->at) < size || memcmp(fast->at, word, size) != 0) {
        return false;
    }
    memcpy(fast->out, word, size);
    fast->out += size;
    fast->at += size;
    return true;
}

INLINE bool copy_value(struct fast *fast, const struct check_column *column)
{
    char *out = fast->out;
    memcpy(out, column->prefix, sizeof(column->prefix));
    fast->out = out + column->prefix_size;
    switch (*fast->at) {
    case '"':
        return (column->class == FAST_TEXT || column->class == FAST_ANY) && copy_string(fast);
    case 't':
        return column->class == FAST_BOOLEAN && copy_word(fast, "true", 4);
    case 'f':
        return column->class == FAST_BOOLEAN && copy_word(fast, "false", 5);
    case 'n':
        if (!copy_word(fast, "null", 4)) {
            return false;
        }
        fast->out = out; /* null is left out */
        return true;
    default:
        return copy_number(fast, column);
    }
}

INLINE void skip_blanks(struct fast *fast)
{
    while (fast->at < fast->end && *fast->at <= ' ' &&
           (*fast->at == ' ' || (!fast->lines && is_space(*fast->at)))) {
        fast->at++;
    }
}

/* The day of a row by its column's value, which starts at `value`. */
static NOT_INLINE bool take_day(const struct lake_schema *schema, const char *value,
                                const char *end, int32_t *ret_day)
{
    struct str text = str_make(value, (size_t)(end - value));
    struct json_span span = {
        .kind = *value == '"'   ? JSON_STRING
                : *value == 'n' ? JSON_NULL
                                : JSON_INTEGER,
        .escaped = *value == '"' && str_find_byte(text, '\\') < text.len,
        .text = text,
    };
    return check_day_of(&schema->columns[schema->partition_column], span, ret_day) !=
           CHECK_DAY_WRONG;
}

/* The members from here to the closing brace. */
INLINE bool copy_members(struct fast *fast, struct lake_check *check, int32_t *ret_day)
{
    const struct check_column *partition = check->partition;
    uint32_t *link = &check->first;
    for (;;) {
        skip_blanks(fast);
        struct check_column *column = take_key(fast, check, &link);
        if (column == NULL) {
            return false;
        }
        skip_blanks(fast);
        const char *value = fast->at;
        if (fast->at == fast->end || fast->out > fast->out_limit || !copy_value(fast, column) ||
            (column == partition && !take_day(check->schema, value, fast->at, ret_day))) {
            return false;
        }
        skip_blanks(fast);
        if (fast->at == fast->end) {
            return false;
        }
        char next = *fast->at++;
        if (next == '}') {
            return true;
        }
        if (next != ',') {
            return false;
        }
    }
}

/* Makes sure that a line of the usual size has room, and says how much; for a request of one small
 * record that is little, since it is made for each. 0: it has none. */
static size_t find_room(struct buf *lines, size_t left)
{
    size_t room = left < (ROOM - ROOM_MIN) / ROOM_FACTOR ? ROOM_MIN + ROOM_FACTOR * left : ROOM;
    bool found = lines->capacity - lines->len > room ||
                 (lines->size_max - lines->len > room && buf_reserve(lines, room));
    return found ? room : 0;
}

INLINE const char *copy_record(struct pass *pass, const char *at, const char *end, bool lines,
                               int32_t *ret_day)
{
    struct lake_check *check = pass->check;
    if (*at != '{' || pass->schema->columns_count == 0) {
        return NULL;
    }
    size_t room = find_room(check->lines, (size_t)(end - at));
    if (room == 0) {
        return NULL;
    }
    char *line = check->lines->ptr + check->lines->len;
    struct fast fast = {
        .at = at + 1,
        .end = end,
        .out = line,
        .out_limit = line + room - SLACK,
        .lines = lines,
    };
    check->record_number++;
    *ret_day = check->options.day;
    if (!copy_members(&fast, check, ret_day)) {
        return NULL;
    }
    fast.out += fast.out == line; /* no value: the brace alone */
    line[0] = '{';                /* in place of the first comma */
    *fast.out++ = '}';
    *fast.out++ = '\n';
    check->fast_end = fast.out;
    return fast.at;
}

const char *check_fast_line(struct pass *pass, const char *at, const char *end, int32_t *ret_day)
{
    return copy_record(pass, at, end, true, ret_day);
}

const char *check_fast_element(struct pass *pass, const char *at, const char *end, int32_t *ret_day)
{
    return copy_record(pass, at, end, false, ret_day);
}

/* ---- what is known of the schema's columns ---- */

void check_fast_forget(struct lake_check *check)
{
    for (size_t i = 0; check->schema != NULL && i < check->schema->columns_count; i++) {
        mem_free(check->columns[i].key);
    }
    mem_free(check->columns);
    check->columns = NULL;
}

void check_fast_prepare(struct lake_check *check)
{
    const struct lake_schema *schema = check->schema;
    bool by_column = schema->partition_rule == LAKE_PARTITION_COLUMN && !check->options.day_given;
    check->columns = mem_alloc_array(schema->columns_count + 1, sizeof(*check->columns));
    check->first = 0;
    check->partition = by_column ? &check->columns[schema->partition_column] : NULL;
}
