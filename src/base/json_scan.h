/* json_scan.h - a one-pass reader of JSON text that gives spans instead of a tree.
 * Promise   every byte is checked once against the grammar of RFC 8259 (plus the options below);
 *           what is returned are spans of the caller's text, nothing is copied. Numbers keep the
 *           client's own digits.
 * Not here  documents as trees, types, tables.
 * Owner     the caller owns the text; a scanner is a plain value.   Threads  one scanner, one
 *           thread.
 * Errors    ERR_INVALID with the reason; scanner->error_offset is where (a byte offset into
 *           scanner->text, which begins after a byte order mark), scanner->error_text the reason in
 *           the words of Python's json module, which the ingest contract shows to clients, or
 *           JSON_TOO_DEEP.
 * Limits    nesting depth_max (64 where a caller does not say otherwise, at most 1024). */
#pragma once

#include "buf.h"
#include "err.h"
#include "str.h"

#define JSON_TOO_DEEP "Nesting too deep" /* the one error_text that Python does not have */

enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_INTEGER,   /* digits only: 1, -0, 12345678901234567890123 */
    JSON_REAL,      /* with a fraction or an exponent: 1.0, 1e3 */
    JSON_NONFINITE, /* NaN, Infinity, -Infinity (allow_nonfinite) */
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

struct json_span {
    enum json_kind kind;
    bool escaped;    /* a string that holds at least one backslash */
    struct str text; /* the value as sent; a string with its quotes */
};

struct json_scanner {
    struct str text;
    size_t at;
    unsigned depth_max;
    bool allow_nonfinite;
    size_t error_offset;
    const char *error_text;
    struct str bulk; /* the longest value among the members of the root: where it ends is known */
};

/* Skips a UTF-8 byte order mark. The text must be UTF-8 (check with str_is_utf8 first). */
void json_scanner_init(struct json_scanner *scanner, struct str text);

/* Reads one whole document: a value and nothing but white space after it. */
bool json_scan_document(struct json_scanner *scanner, struct json_span *ret_root,
                        struct err *err) MUST_CHECK;

/* Walks the members of an object, or the elements of an array, that has been scanned before: cannot
 * fail.
 *     struct json_cursor cursor = json_open(span);
 *     while (json_next(&cursor, &key, &value)) ...      key is unset for an array */
struct json_cursor {
    struct str rest;
    bool object;
    struct str bulk; /* a container among the values that is not passed over, as the scanner gave
                        it; mostly none */
};
struct json_cursor json_open(struct json_span container);
bool json_next(struct json_cursor *cursor, struct json_span *ret_key, struct json_span *ret_value);

/* The elements of an array, each read where it stands: json_next has to pass over a container to
 * say where it ends, and who then reads what is inside passes twice.
 *     while (json_enter(&cursor, &inside)) { ... json_leave(&cursor, &inside); }
 * `inside` is of the next element: its members, all of which have to be read before json_leave.
 * ret_inside->object is false when the element is no object: then there is no way to go on. */
bool json_enter(struct json_cursor *array, struct json_cursor *ret_inside);
void json_leave(struct json_cursor *array, const struct json_cursor *inside);

/* The last member of that name (the last duplicate wins, as everywhere in Eider); false when there
 * is none. */
bool json_find(struct json_span object, struct str name, struct json_span *ret_value);
uint64_t json_count(struct json_span container);

/* The characters of a string span, unescaped, appended to `into`. An unpaired surrogate escape
 * becomes U+FFFD; returns false in that case, the text is appended all the same. */
bool json_unescape(struct json_span string, struct buf *into);
/* Equality with plain text, without a copy when nothing is escaped. */
bool json_string_equal(struct json_span string, struct str text);
/* Appends the span as compact JSON: white space between tokens goes, strings and numbers stay as
 * sent. */
void json_append_compact(struct json_span span, struct buf *into);
