/* The reader of JSON text against jansson: both must accept the same texts and read the same
 * values. They differ by design in these points, which are told apart below: numbers      jansson
 * refuses integers beyond 64 bits and reals beyond a double surrogates   jansson refuses escapes of
 * surrogates without their other half NUL          jansson refuses it in keys (in values it is
 * asked to accept it) depth        jansson stops at a fixed depth of its own byte order   jansson
 * refuses a mark at the start, we skip it; such texts are passed without it Duplicate keys are no
 * difference: the last one wins in both. */

/* Both libraries name their types JSON_x; jansson's are JANSSON_x here, so its macros json_is_x are
 * of no use. */
#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_INTEGER JANSSON_INTEGER
#define JSON_REAL JANSSON_REAL
#define JSON_TRUE JANSSON_TRUE
#define JSON_FALSE JANSSON_FALSE
#define JSON_NULL JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_INTEGER
#undef JSON_REAL
#undef JSON_TRUE
#undef JSON_FALSE
#undef JSON_NULL

#include "json_scan.h"

#include <stdlib.h>

#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static bool string_has_nul(struct json_span string)
{
    struct buf text = {0};
    buf_init(&text, string.text.len + 1);
    (void)json_unescape(string, &text);
    bool found = str_find_byte(buf_str(&text), '\0') < text.len;
    buf_finish(&text);
    return found;
}

static bool string_is_paired(struct json_span string)
{
    struct buf text = {0};
    buf_init(&text, string.text.len + 1);
    bool paired = json_unescape(string, &text);
    MUST(!buf_failed(&text));
    MUST(str_is_utf8(buf_str(&text)));
    MUST(json_string_equal(string, buf_str(&text)));
    buf_finish(&text);
    return paired;
}

/* True when the value holds something that jansson refuses by design. */
static bool only_ours(struct json_span value)
{
    if (value.kind == JSON_STRING) {
        return !string_is_paired(value);
    }
    struct json_cursor cursor = json_open(value);
    struct json_span key;
    struct json_span member;
    bool found = false;
    while (json_next(&cursor, &key, &member)) {
        if (value.kind == JSON_OBJECT) {
            found = !string_is_paired(key) || string_has_nul(key) || found;
        }
        found = only_ours(member) || found;
    }
    return found;
}

static void compare_number(struct json_span ours, const json_t *theirs)
{
    char text[400] = {0};
    if (ours.text.len >= sizeof(text)) {
        MUST(json_typeof(theirs) == JANSSON_INTEGER || json_typeof(theirs) == JANSSON_REAL);
        return;
    }
    memcpy(text, ours.text.ptr, ours.text.len);
    if (ours.kind == JSON_INTEGER) {
        MUST(json_typeof(theirs) == JANSSON_INTEGER);
        MUST(json_integer_value(theirs) == strtoll(text, NULL, 10));
    } else {
        MUST(json_typeof(theirs) == JANSSON_REAL);
        MUST(!(json_real_value(theirs) < strtod(text, NULL)));
        MUST(!(json_real_value(theirs) > strtod(text, NULL)));
    }
}

static void compare(struct json_span ours, json_t *theirs);

static void compare_object(struct json_span ours, json_t *theirs)
{
    struct json_cursor cursor = json_open(ours);
    struct json_span key;
    struct json_span value;
    const char *name;
    json_t *member;
    uint64_t count = 0;
    while (json_next(&cursor, &key, &value)) {
        count++;
    }
    MUST(count == json_count(ours));
    MUST(count >= json_object_size(theirs));
    MUST((count == 0) == (json_object_size(theirs) == 0));
    json_object_foreach(theirs, name, member)
    {
        MUST(json_find(ours, str_of(name), &value));
        compare(value, member);
    }
    cursor = json_open(ours);
    while (json_next(&cursor, &key, &value)) {
        struct buf text = {0};
        buf_init(&text, key.text.len + 1);
        MUST(json_unescape(key, &text));
        MUST(json_object_get(theirs, text.len == 0 ? "" : text.ptr) != NULL);
        buf_finish(&text);
    }
}

static void compare_array(struct json_span ours, const json_t *theirs)
{
    struct json_cursor cursor = json_open(ours);
    struct json_span value;
    size_t index = 0;
    while (json_next(&cursor, NULL, &value)) {
        MUST(index < json_array_size(theirs));
        compare(value, json_array_get(theirs, index++));
    }
    MUST(index == json_array_size(theirs));
}

static void compare(struct json_span ours, json_t *theirs)
{
    switch (ours.kind) {
    case JSON_NULL:
        MUST(json_typeof(theirs) == JANSSON_NULL);
        MUST(str_equal(ours.text, STR("null")));
        break;
    case JSON_BOOL:
        MUST(json_typeof(theirs) ==
             (str_equal(ours.text, STR("true")) ? JANSSON_TRUE : JANSSON_FALSE));
        MUST(str_equal(ours.text, STR("true")) || str_equal(ours.text, STR("false")));
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        compare_number(ours, theirs);
        break;
    case JSON_NONFINITE:
        abort(); /* nobody asked for it */
    case JSON_STRING:
        MUST(json_typeof(theirs) == JANSSON_STRING);
        MUST(json_string_equal(ours,
                               str_make(json_string_value(theirs), json_string_length(theirs))));
        break;
    case JSON_ARRAY:
        MUST(json_typeof(theirs) == JANSSON_ARRAY);
        compare_array(ours, theirs);
        break;
    case JSON_OBJECT:
        MUST(json_typeof(theirs) == JANSSON_OBJECT);
        compare_object(ours, theirs);
        break;
    }
}

/* Compact text is accepted again, holds as much, and does not shrink a second time. */
static void check_compact(struct json_span root)
{
    struct buf once = {0};
    struct buf twice = {0};
    struct json_scanner scanner;
    struct json_span again;
    struct err err;
    buf_init(&once, root.text.len + 1);
    buf_init(&twice, root.text.len + 1);
    json_append_compact(root, &once);
    json_scanner_init(&scanner, buf_str(&once));
    scanner.depth_max = 1024;
    MUST(json_scan_document(&scanner, &again, &err));
    MUST(again.kind == root.kind);
    MUST(json_count(again) == json_count(root));
    json_append_compact(again, &twice);
    MUST(str_equal(buf_str(&once), buf_str(&twice)));
    buf_finish(&once);
    buf_finish(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_make((const char *)data, size);
    struct json_scanner scanner;
    struct json_span root;
    struct err err;
    if (!str_is_utf8(text)) {
        return 0;
    }
    json_scanner_init(&scanner, text);
    scanner.depth_max = 1024;
    text = scanner.text;
    bool good = json_scan_document(&scanner, &root, &err);
    json_error_t reason;
    json_t *theirs = json_loadb(text.len == 0 ? "" : text.ptr, text.len,
                                JSON_DECODE_ANY | JSON_ALLOW_NUL, &reason);
    if (!good) {
        MUST(scanner.error_offset <= text.len);
        MUST(theirs == NULL || strcmp(scanner.error_text, JSON_TOO_DEEP) == 0 ||
             str_find_byte(text, '\0') < text.len);
    } else if (theirs == NULL) {
        enum json_error_code code = json_error_code(&reason);
        MUST(code == json_error_numeric_overflow || code == json_error_stack_overflow ||
             only_ours(root));
    } else {
        MUST(!only_ours(root));
        compare(root, theirs);
    }
    if (good) {
        MUST(root.text.ptr >= text.ptr);
        MUST(root.text.ptr + root.text.len <= text.ptr + text.len);
        check_compact(root);
    }
    json_decref(theirs);
    return 0;
}
