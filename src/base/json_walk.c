#include "json_token.h"

/* From the byte after the opening quote to the one after the closing quote. */
static const char *pass_string(const char *at, const char *end, bool *escaped)
{
    for (;;) {
        at = find_special(at, end);
        if (at == end) {
            return end;
        }
        if (*at == '"') {
            return at + 1;
        }
        *escaped = *escaped || *at == '\\';
        at = end - at < 2 ? end : at + 2;
    }
}

static const char *pass_container(const char *at, const char *end)
{
    size_t depth = 0;
    bool escaped = false;
    while (at < end) {
        char c = *at++;
        if (c == '"') {
            at = pass_string(at, end, &escaped);
        } else if ((c | 0x20) == '{') { /* [ and { differ in this bit only, and so do ] and } */
            depth++;
        } else if ((c | 0x20) == '}' && --depth == 0) {
            break;
        }
    }
    return at;
}

static struct json_span take_number(const char *at, const char *end)
{
    struct json_span span = {.kind = JSON_INTEGER, .text = str_make(at, 0)};
    const char *after = skip_digits(at + 1, end); /* the first byte is a digit or the sign */
    if (after < end && (*after == '.' || (*after | 0x20) == 'e')) {
        span.kind = JSON_REAL;
        while (after < end && (is_digit(*after) || *after == '.' || *after == '+' ||
                               *after == '-' || (*after | 0x20) == 'e')) {
            after++;
        }
    }
    span.text.len = (size_t)(after - at);
    return span;
}

static struct json_span take_word(const char *at, const char *end, enum json_kind kind, size_t size)
{
    size_t left = (size_t)(end - at);
    return (struct json_span){.kind = kind, .text = str_make(at, size < left ? size : left)};
}

/* The value that starts at `at`, in text known to be valid. Never reads past `end`, whatever the
 * text is. */
static struct json_span take_value(const char *at, const char *end)
{
    struct json_span span = {.kind = JSON_NULL, .text = str_make(at, 0)};
    if (at == end) {
        return span;
    }
    switch (*at) {
    case '"':
        span.kind = JSON_STRING;
        span.text.len = (size_t)(pass_string(at + 1, end, &span.escaped) - at);
        return span;
    case '{':
    case '[':
        span.kind = *at == '{' ? JSON_OBJECT : JSON_ARRAY;
        span.text.len = (size_t)(pass_container(at, end) - at);
        return span;
    case 'n':
        return take_word(at, end, JSON_NULL, 4);
    case 't':
        return take_word(at, end, JSON_BOOL, 4);
    case 'f':
        return take_word(at, end, JSON_BOOL, 5);
    case 'N':
        return take_word(at, end, JSON_NONFINITE, 3);
    case 'I':
        return take_word(at, end, JSON_NONFINITE, 8);
    default:
        return end - at > 1 && at[1] == 'I' ? take_word(at, end, JSON_NONFINITE, 9)
                                            : take_number(at, end);
    }
}

static struct json_span take_known(struct str container)
{
    return (struct json_span){
        .kind = container.ptr[0] == '{' ? JSON_OBJECT : JSON_ARRAY,
        .text = container,
    };
}

struct json_cursor json_open(struct json_span container)
{
    struct json_cursor cursor = {.object = container.kind == JSON_OBJECT};
    if ((cursor.object || container.kind == JSON_ARRAY) && container.text.len > 0) {
        cursor.rest = str_from(container.text, 1);
    }
    return cursor;
}

/* Goes to the next key or element; at the end, which is at the bracket, nothing is left. */
static bool step(struct json_cursor *cursor)
{
    if (cursor->rest.len == 0) {
        return false;
    }
    const char *end = cursor->rest.ptr + cursor->rest.len;
    const char *at = cursor->rest.ptr;
    while (at < end && (is_space(*at) || *at == ',')) {
        at++;
    }
    bool more = at < end && *at != ']' && *at != '}';
    cursor->rest = str_make(at, more ? (size_t)(end - at) : 0);
    return more;
}

bool json_next(struct json_cursor *cursor, struct json_span *ret_key, struct json_span *ret_value)
{
    if (!step(cursor)) {
        return false;
    }
    const char *end = cursor->rest.ptr + cursor->rest.len;
    const char *at = cursor->rest.ptr;
    if (cursor->object) {
        struct json_span key = take_value(at, end);
        at += key.text.len;
        while (at < end && (is_space(*at) || *at == ':')) {
            at++;
        }
        *ret_key = key;
    }
    bool known = at == cursor->bulk.ptr && (*at == '{' || *at == '[');
    *ret_value = known ? take_known(cursor->bulk) : take_value(at, end);
    at += ret_value->text.len;
    cursor->rest = str_make(at, (size_t)(end - at));
    return true;
}

bool json_enter(struct json_cursor *array, struct json_cursor *ret_inside)
{
    assert(!array->object);
    if (!step(array)) {
        return false;
    }
    *ret_inside = (struct json_cursor){
        .rest = str_from(array->rest, 1),
        .object = array->rest.ptr[0] == '{',
    };
    return true;
}

void json_leave(struct json_cursor *array, const struct json_cursor *inside)
{
    assert(inside->rest.len == 0); /* it stands at its bracket, or where the text ends */
    size_t passed = (size_t)(inside->rest.ptr - array->rest.ptr) + 1;
    array->rest = str_from(array->rest, passed < array->rest.len ? passed : array->rest.len);
}

bool json_find(struct json_span object, struct str name, struct json_span *ret_value)
{
    if (object.kind != JSON_OBJECT) {
        return false;
    }
    struct json_cursor cursor = json_open(object);
    struct json_span key;
    struct json_span value;
    bool found = false;
    while (json_next(&cursor, &key, &value)) {
        if (json_string_equal(key, name)) {
            *ret_value = value;
            found = true;
        }
    }
    return found;
}

uint64_t json_count(struct json_span container)
{
    struct json_cursor cursor = json_open(container);
    struct json_span key;
    struct json_span value;
    uint64_t count = 0;
    while (json_next(&cursor, &key, &value)) {
        count++;
    }
    return count;
}

/* --- characters of strings ------------------------------------------------------------- */

static struct str inside_quotes(struct json_span string)
{
    assert(string.kind == JSON_STRING);
    assert(string.text.len >= 2);
    return str_make(string.text.ptr + 1, string.text.len - 2);
}

static size_t encode_utf8(uint32_t point, char *utf8)
{
    if (point < 0x80) {
        utf8[0] = (char)point;
        return 1;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        utf8[i] = (char)(0x80 | (point & 0x3F));
        point >>= 6;
    }
    utf8[0] = (char)((0xF00U >> size & 0xFFU) | point);
    return size;
}

static bool is_surrogate(int32_t unit, int32_t first)
{
    return unit >= first && unit < first + 0x400;
}

/* Takes the escape at the start of *rest and writes its character, at most four bytes; returns
 * their number. A surrogate without its other half becomes U+FFFD. */
static size_t take_escape(struct str *rest, char *utf8, bool *unpaired)
{
    if (rest->len < 6 || rest->ptr[1] != 'u') {
        utf8[0] = short_escape(rest->ptr[rest->len < 2 ? 0 : 1]); /* valid text has the letter */
        *rest = str_from(*rest, rest->len < 2 ? rest->len : 2);
        return 1;
    }
    int32_t unit = hex_unit(rest->ptr + 2);
    *rest = str_from(*rest, 6);
    if (is_surrogate(unit, 0xD800) && rest->len >= 6 && str_starts(*rest, STR("\\u"))) {
        int32_t second = hex_unit(rest->ptr + 2);
        if (is_surrogate(second, 0xDC00)) {
            *rest = str_from(*rest, 6);
            return encode_utf8((uint32_t)(0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00)),
                               utf8);
        }
    }
    if (unit < 0 || is_surrogate(unit, 0xD800) || is_surrogate(unit, 0xDC00)) {
        *unpaired = true;
        unit = 0xFFFD;
    }
    return encode_utf8((uint32_t)unit, utf8);
}

bool json_unescape(struct json_span string, struct buf *into)
{
    struct str rest = inside_quotes(string);
    bool unpaired = false;
    while (rest.len > 0) {
        size_t plain = string.escaped ? str_find_byte(rest, '\\') : rest.len;
        buf_append(into, str_first(rest, plain));
        rest = str_from(rest, plain);
        if (rest.len > 0) {
            char utf8[4];
            size_t size = take_escape(&rest, utf8, &unpaired);
            buf_append_bytes(into, utf8, size);
        }
    }
    return !unpaired;
}

bool json_string_equal(struct json_span string, struct str text)
{
    struct str rest = inside_quotes(string);
    if (!string.escaped) {
        return str_equal(rest, text);
    }
    bool unpaired = false;
    while (rest.len > 0) {
        char utf8[4] = {rest.ptr[0]};
        size_t size = 1;
        if (rest.ptr[0] == '\\') {
            size = take_escape(&rest, utf8, &unpaired);
        } else {
            rest = str_from(rest, 1);
        }
        if (!str_starts(text, str_make(utf8, size))) {
            return false;
        }
        text = str_from(text, size);
    }
    return text.len == 0;
}

void json_append_compact(struct json_span span, struct buf *into)
{
    const char *end = span.text.ptr + span.text.len;
    const char *at = span.text.ptr;
    const char *copied = at;
    bool escaped = false;
    while (at < end) {
        if (*at == '"') {
            at = pass_string(at + 1, end, &escaped);
        } else if (is_space(*at)) {
            buf_append_bytes(into, copied, (size_t)(at - copied));
            at = skip_space(at, end);
            copied = at;
        } else {
            at++;
        }
    }
    buf_append_bytes(into, copied, (size_t)(at - copied));
}
