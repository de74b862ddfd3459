/* Rows from any records: whatever the input, each line is one JSON object again, its keys name
 * columns and its values are strings. */
#include "lake_rows.h"

#include <stdlib.h>

enum {
    LINES_BYTES_MAX = 1 << 20
};

#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static void check_value(struct json_span value)
{
    struct buf text;
    buf_init(&text, value.text.len + 1);
    MUST(value.kind == JSON_STRING);
    MUST(json_unescape(value, &text));
    buf_finish(&text);
}

static void check_line(const struct lake_rows *rows, struct str line)
{
    struct json_scanner scanner;
    struct json_span object;
    struct json_span key;
    struct json_span value;
    struct err err;
    json_scanner_init(&scanner, line);
    MUST(json_scan_document(&scanner, &object, &err));
    MUST(object.kind == JSON_OBJECT);
    MUST(line.len <= rows->line_size_max);
    struct json_cursor cursor = json_open(object);
    while (json_next(&cursor, &key, &value)) {
        char *end;
        MUST(key.text.ptr[1] == 'c');
        size_t column = strtoul(key.text.ptr + 2, &end, 10);
        MUST(*end == '"');
        MUST(column < rows->columns_count);
        check_value(value);
    }
}

static void check_rows(struct lake_rows *rows, struct json_span records)
{
    struct str rest = buf_str(&rows->lines);
    uint64_t count = 0;
    MUST(rows->rows_count == json_count(records));
    while (rest.len > 0) {
        size_t size = str_find_byte(rest, '\n');
        MUST(size < rest.len);
        check_line(rows, str_first(rest, size));
        rest = str_from(rest, size + 1);
        count++;
    }
    MUST(count == rows->rows_count);
    lake_rows_finish(rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct lake_declared declared[] = {
        {{"a", 1}, {"one", 3}, {"BIGINT", 6}},
        {{"b", 1}, {"two", 3}, {"VARCHAR", 7}},
        {{"a", 1}, {"three", 5}, {"BOOLEAN", 7}},
        {{"c", 1}, {"four", 4}, {"HUGEINT", 7}},
    };
    struct str text = str_make((const char *)data, size);
    struct json_scanner scanner;
    struct json_span records;
    struct lake_rows rows;
    struct err err;
    json_scanner_init(&scanner, text);
    scanner.allow_nonfinite = true;
    if (!str_is_utf8(text) || !json_scan_document(&scanner, &records, &err) ||
        records.kind != JSON_ARRAY) {
        return 0;
    }
    if (lake_rows_declared(records, declared, COUNT_OF(declared), LINES_BYTES_MAX, &rows, &err)) {
        check_rows(&rows, records);
    }
    return 0;
}
