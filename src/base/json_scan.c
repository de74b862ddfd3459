#include "json_token.h"

enum {
    DEPTH_DEFAULT = 64,
    DEPTH_CEILING = 1024
};

/* One pass over a document. The nesting is a stack of bits instead of C frames, so that depth costs
 * no stack. */
struct walk {
    const char *at;
    const char *end;
    const char *error_at;
    const char *error_text;
    const char *member; /* where the last value among the root's members begins */
    struct str bulk;    /* the longest of them */
    unsigned depth;
    unsigned depth_max;
    bool allow_nonfinite;
    uint64_t objects[DEPTH_CEILING / 64]; /* bit d: the container at depth d is an object */
};

static bool fail(struct walk *walk, const char *at, const char *text)
{
    walk->error_at = at;
    walk->error_text = text;
    return false;
}

/* Checks the escape at the backslash *at and steps over it. Python wants one more character after
 * the four digits, and says so with this error rather than with the one for an unterminated string.
 */
static bool scan_escape(struct walk *walk, const char *string, const char **at)
{
    const char *letter = *at + 1;
    if (letter == walk->end) {
        return fail(walk, string, "Unterminated string starting at");
    }
    if (*letter == 'u') {
        if (walk->end - letter <= 5 || hex_unit(letter + 1) < 0) {
            return fail(walk, letter, "Invalid \\uXXXX escape");
        }
        *at = letter + 5;
        return true;
    }
    if (short_escape(*letter) == '\0') {
        return fail(walk, *at, "Invalid \\escape");
    }
    *at = letter + 1;
    return true;
}

static bool scan_string(struct walk *walk)
{
    const char *string = walk->at;
    const char *at = string + 1;
    for (;;) {
        at = find_special(at, walk->end);
        if (at == walk->end) {
            return fail(walk, string, "Unterminated string starting at");
        }
        if (*at == '"') {
            walk->at = at + 1;
            return true;
        }
        if (*at != '\\') {
            return fail(walk, at, "Invalid control character at");
        }
        if (!scan_escape(walk, string, &at)) {
            return false;
        }
    }
}

static bool scan_word(struct walk *walk, struct str word)
{
    if (!str_starts(str_make(walk->at, (size_t)(walk->end - walk->at)), word)) {
        return fail(walk, walk->at, "Expecting value");
    }
    walk->at += word.len;
    return true;
}

static bool scan_nonfinite(struct walk *walk, struct str word)
{
    return walk->allow_nonfinite ? scan_word(walk, word) : fail(walk, walk->at, "Expecting value");
}

/* A point or an exponent without digits is not part of the number: what follows it is then the
 * error. */
static bool scan_number(struct walk *walk)
{
    const char *end = walk->end;
    const char *at = walk->at + (*walk->at == '-' ? 1 : 0);
    if (at == end || !is_digit(*at)) {
        return scan_nonfinite(walk, STR("-Infinity"));
    }
    at = *at == '0' ? at + 1 : skip_digits(at, end);
    if (end - at >= 2 && *at == '.' && is_digit(at[1])) {
        at = skip_digits(at + 1, end);
    }
    if (at < end && (*at | 0x20) == 'e') {
        const char *exponent = at + 1;
        if (exponent < end && (*exponent == '+' || *exponent == '-')) {
            exponent++;
        }
        if (exponent < end && is_digit(*exponent)) {
            at = skip_digits(exponent, end);
        }
    }
    walk->at = at;
    return true;
}

static bool scan_scalar(struct walk *walk)
{
    if (walk->at == walk->end) {
        return fail(walk, walk->at, "Expecting value");
    }
    switch (*walk->at) {
    case '"':
        return scan_string(walk);
    case 'n':
        return scan_word(walk, STR("null"));
    case 't':
        return scan_word(walk, STR("true"));
    case 'f':
        return scan_word(walk, STR("false"));
    case 'N':
        return scan_nonfinite(walk, STR("NaN"));
    case 'I':
        return scan_nonfinite(walk, STR("Infinity"));
    default:
        return *walk->at == '-' || is_digit(*walk->at) ? scan_number(walk)
                                                       : fail(walk, walk->at, "Expecting value");
    }
}

static bool in_object(const struct walk *walk)
{
    unsigned level = walk->depth - 1;
    return (walk->objects[level / 64] >> (level % 64) & 1) != 0;
}

/* At the bracket that opens a container. */
static bool scan_open(struct walk *walk)
{
    if (walk->depth == walk->depth_max) {
        return fail(walk, walk->at, JSON_TOO_DEEP);
    }
    unsigned level = walk->depth++;
    uint64_t bit = UINT64_C(1) << (level % 64);
    walk->objects[level / 64] &= ~bit;
    walk->objects[level / 64] |= *walk->at == '{' ? bit : 0;
    walk->at = skip_space(walk->at + 1, walk->end);
    return true;
}

/* Steps over the bracket that closes the container, if it is there. */
static bool scan_close(struct walk *walk)
{
    if (walk->at == walk->end || *walk->at != (in_object(walk) ? '}' : ']')) {
        return false;
    }
    walk->at++;
    walk->depth--;
    return true;
}

/* A key and its colon. */
static bool scan_key(struct walk *walk)
{
    if (walk->at == walk->end || *walk->at != '"') {
        return fail(walk, walk->at, "Expecting property name enclosed in double quotes");
    }
    if (!scan_string(walk)) {
        return false;
    }
    walk->at = skip_space(walk->at, walk->end);
    if (walk->at == walk->end || *walk->at != ':') {
        return fail(walk, walk->at, "Expecting ':' delimiter");
    }
    walk->at = skip_space(walk->at + 1, walk->end);
    return true;
}

/* After a value inside a container that goes on: the comma, and in an object the next key. */
static bool scan_comma(struct walk *walk)
{
    if (walk->at == walk->end || *walk->at != ',') {
        return fail(walk, walk->at, "Expecting ',' delimiter");
    }
    walk->at = skip_space(walk->at + 1, walk->end);
    return !in_object(walk) || scan_key(walk);
}

/* Behind a value among the root's members. */
static void note_member(struct walk *walk)
{
    size_t size = (size_t)(walk->at - walk->member);
    if (size > walk->bulk.len) {
        walk->bulk = str_make(walk->member, size);
    }
}

/* Closes the containers that end here; true when the root is among them. */
static bool scan_end(struct walk *walk)
{
    do {
        if (walk->depth == 0) {
            return true;
        }
        if (walk->depth == 1) {
            note_member(walk);
        }
        walk->at = skip_space(walk->at, walk->end);
    } while (scan_close(walk));
    return false;
}

static bool scan_value(struct walk *walk)
{
    for (;;) {
        if (walk->depth == 1) {
            walk->member = walk->at;
        }
        bool opens = walk->at < walk->end && (*walk->at == '{' || *walk->at == '[');
        if (!(opens ? scan_open(walk) : scan_scalar(walk))) {
            return false;
        }
        if (opens && !scan_close(walk)) {
            if (in_object(walk) && !scan_key(walk)) {
                return false;
            }
            continue; /* at the first value inside */
        }
        if (scan_end(walk)) {
            return true;
        }
        if (!scan_comma(walk)) {
            return false;
        }
    }
}

void json_scanner_init(struct json_scanner *scanner, struct str text)
{
    struct str mark = STR("\xEF\xBB\xBF");
    *scanner = (struct json_scanner){
        .text = str_starts(text, mark) ? str_from(text, mark.len) : text,
        .depth_max = DEPTH_DEFAULT,
    };
}

/* The span of what scan_value has read: the kind shows in the first bytes, or for numbers in the
 * last. */
static struct json_span root_span(const char *start, const char *after)
{
    struct json_span root = {.text = str_make(start, (size_t)(after - start))};
    switch (*start) {
    case '"':
        root.kind = JSON_STRING;
        root.escaped = str_find_byte(root.text, '\\') < root.text.len;
        return root;
    case '{':
        root.kind = JSON_OBJECT;
        return root;
    case '[':
        root.kind = JSON_ARRAY;
        return root;
    case 'n':
        root.kind = JSON_NULL;
        return root;
    case 't':
    case 'f':
        root.kind = JSON_BOOL;
        return root;
    default:
        root.kind = !is_digit(after[-1])                                          ? JSON_NONFINITE
                    : skip_digits(start + (*start == '-' ? 1 : 0), after) < after ? JSON_REAL
                                                                                  : JSON_INTEGER;
        return root;
    }
}

bool json_scan_document(struct json_scanner *scanner, struct json_span *ret_root, struct err *err)
{
    assert(scanner->depth_max <= DEPTH_CEILING);
    struct str text = scanner->text.len == 0 ? STR("") : scanner->text;
    const char *end = text.ptr + text.len;
    const char *start = skip_space(text.ptr, end);
    struct walk walk = {
        .at = start,
        .end = end,
        .depth_max = scanner->depth_max,
        .allow_nonfinite = scanner->allow_nonfinite,
    };
    bool good = scan_value(&walk);
    const char *after = walk.at;
    if (good) {
        walk.at = skip_space(after, end);
        good = walk.at == end || fail(&walk, walk.at, "Extra data");
    }
    scanner->at = (size_t)(walk.at - text.ptr);
    if (!good) {
        scanner->error_offset = (size_t)(walk.error_at - text.ptr);
        scanner->error_text = walk.error_text;
        return err_set(err, ERR_INVALID, "malformed JSON: %s (byte %zu)", scanner->error_text,
                       scanner->error_offset);
    }
    scanner->bulk = walk.bulk;
    *ret_root = root_span(start, after);
    return true;
}
