/* Records of any kind against readers that are simpler: whatever the body,
 *   - each line is one JSON object, its keys name columns, its values have the kind that the
 *     column's line type promises;
 *   - a line of NDJSON is good exactly when json_scan accepts it as an object (and names and
 *     escapes are good);
 *   - pieces cut anywhere give the same lines and the same bad records as the whole.
 * The first byte chooses kind of body and size of the pieces. */
#include "lake_check.h"
#include "lake_rows_line.h"
#include "mem.h"

#include <stdlib.h>

enum {
    LINES_SIZE_MAX = 1 << 20,
    PASSES_MAX = 3
};

#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

struct taken {
    struct buf lines;
    struct buf bad;
    uint64_t rows;
    uint64_t bad_count;
    bool failed;
};

static void taken_init(struct taken *taken)
{
    *taken = (struct taken){0};
    buf_init(&taken->lines, 8 * LINES_SIZE_MAX);
    buf_init(&taken->bad, 8 * LINES_SIZE_MAX);
}

static void taken_finish(struct taken *taken)
{
    buf_finish(&taken->lines);
    buf_finish(&taken->bad);
}

static void note_bad(void *context, const struct lake_bad_record *bad)
{
    struct taken *taken = context;
    taken->bad_count++;
    buf_append_format(&taken->bad, "%llu %llu %s %.*s\n", (unsigned long long)bad->index,
                      (unsigned long long)bad->offset, bad->reason, STR_ARG(bad->text));
}

/* One piece until it counts; false when the body is refused. */
static bool feed(struct lake_check *check, const struct lake_schema **schema, struct str bytes,
                 bool last, struct taken *taken, size_t *ret_used)
{
    for (unsigned pass = 0; pass < PASSES_MAX; pass++) {
        struct lake_checked checked;
        const struct lake_schema *wider;
        struct err err;
        if (!lake_check_pass(check, *schema, bytes, last, &checked, NULL, &err)) {
            return false;
        }
        if (checked.wants_count == 0) {
            buf_append(&taken->lines, checked.lines);
            taken->rows += checked.rows;
            *ret_used = checked.used;
            MUST(!last || checked.used == bytes.len);
            return true;
        }
        MUST(lake_schema_widen(*schema, checked.wants, checked.wants_count, &wider, &err));
        MUST(wider != *schema);
        lake_schema_drop(*schema);
        *schema = wider;
    }
    abort();
}

static void take(enum lake_input input, struct str body, size_t piece,
                 const struct lake_schema **schema, struct taken *taken)
{
    struct lake_check_options options = {.input = input,
                                         .keep_bad = true,
                                         .record_size_max = LINES_SIZE_MAX,
                                         .lines_size_max = LINES_SIZE_MAX,
                                         .bad = note_bad,
                                         .context = taken};
    struct lake_check *check = lake_check_create(&options);
    size_t used = 0;
    size_t given = 0;
    do {
        size_t now = 0;
        given = body.len - given > piece ? given + piece : body.len;
        char *copy = mem_copy_bytes(body.ptr + used, given - used);
        taken->failed =
            !feed(check, schema, str_make(copy, given - used), given == body.len, taken, &now);
        mem_free(copy);
        used += now;
    } while (!taken->failed && given < body.len);
    lake_check_destroy(check);
}

/* ---- lines ---- */

static void check_value(struct str line_type, struct json_span value)
{
    if (str_equal(line_type, STR("VARCHAR"))) {
        struct buf text;
        buf_init(&text, value.text.len + 1);
        MUST(value.kind == JSON_STRING);
        MUST(json_unescape(value, &text));
        buf_finish(&text);
    } else if (str_equal(line_type, STR("BOOLEAN"))) {
        MUST(value.kind == JSON_BOOL);
    } else if (str_equal(line_type, STR("BIGINT"))) {
        MUST(value.kind == JSON_INTEGER);
    } else {
        MUST(value.kind == JSON_INTEGER || value.kind == JSON_REAL || value.kind == JSON_STRING);
    }
}

static void check_line(const struct lake_schema *schema, struct str line)
{
    struct json_scanner scanner;
    struct json_span object;
    struct json_span key;
    struct json_span value;
    struct err err;
    json_scanner_init(&scanner, line);
    MUST(json_scan_document(&scanner, &object, &err));
    MUST(object.kind == JSON_OBJECT);
    struct json_cursor cursor = json_open(object);
    while (json_next(&cursor, &key, &value)) {
        char *end;
        MUST(key.text.ptr[1] == 'c');
        size_t place = strtoul(key.text.ptr + 2, &end, 10);
        MUST(*end == '"');
        MUST(place < schema->columns_count);
        check_value(str_of(lake_schema_line_type(&schema->columns[place])), value);
    }
}

static void check_lines(const struct lake_schema *schema, const struct taken *taken)
{
    struct str rest = buf_str(&taken->lines);
    uint64_t count = 0;
    while (rest.len > 0) {
        size_t size = str_find_byte(rest, '\n');
        MUST(size < rest.len);
        check_line(schema, str_first(rest, size));
        rest = str_from(rest, size + 1);
        count++;
    }
    MUST(count == taken->rows);
}

/* ---- against json_scan ---- */

static bool names_are_good(struct json_span object)
{
    struct json_cursor cursor = json_open(object);
    struct json_span key;
    struct json_span value;
    bool good = true;
    while (json_next(&cursor, &key, &value)) {
        struct buf name;
        buf_init(&name, key.text.len + 1);
        (void)json_unescape(key, &name);
        good = good && name.len > 0 && name.len <= LAKE_COLUMN_NAME_MAX;
        for (size_t i = 0; i < name.len; i++) {
            good = good && (unsigned char)name.ptr[i] >= 0x20 && name.ptr[i] != 0x7F;
        }
        buf_finish(&name);
    }
    return good;
}

static bool line_is_good(struct str line)
{
    struct json_scanner scanner;
    struct json_span object;
    struct err err;
    json_scanner_init(&scanner, line);
    scanner.text = line;
    scanner.allow_nonfinite = true;
    return str_is_utf8(line) && json_scan_document(&scanner, &object, &err) &&
           object.kind == JSON_OBJECT && line_find_unpaired(line) == line.len &&
           names_are_good(object);
}

static void compare_ndjson(struct str body, const struct taken *taken)
{
    uint64_t good = 0;
    uint64_t bad = 0;
    struct str line;
    struct str rest = str_starts(body, STR("\xEF\xBB\xBF")) ? str_from(body, 3) : body;
    while (rest.len > 0) {
        size_t size = str_find_byte(rest, '\n');
        line = str_first(rest, size);
        rest = str_from(rest, size == rest.len ? size : size + 1);
        while (line.len > 0 && strchr(" \t\r", line.ptr[line.len - 1]) != NULL &&
               line.ptr[line.len - 1] != '\0') {
            line.len--;
        }
        while (line.len > 0 && strchr(" \t\r", line.ptr[0]) != NULL && line.ptr[0] != '\0') {
            line = str_from(line, 1);
        }
        if (line.len > 0 && line_is_good(line)) {
            good++;
        } else if (line.len > 0) {
            bad++;
        }
    }
    MUST(good == taken->rows);
    MUST(bad == taken->bad_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    enum lake_input input = (enum lake_input)(data[0] % 3);
    size_t piece = 1 + data[0] / 3;
    struct str body = str_make((const char *)data + 1, size - 1);
    const struct lake_schema *schema = lake_schema_create_empty();
    struct taken first;
    struct taken whole;
    struct taken cut;
    taken_init(&first);
    taken_init(&whole);
    taken_init(&cut);
    take(input, body, SIZE_MAX, &schema, &first);
    check_lines(schema, &first);
    if (input == LAKE_NDJSON && !first.failed) {
        compare_ndjson(body, &first);
    }
    take(input, body, SIZE_MAX, &schema, &whole); /* may add _rest: later pieces know the types */
    const struct lake_schema *before = schema;
    take(input, body, piece, &schema, &cut);
    MUST(whole.failed || !cut.failed);
    if (!whole.failed && schema == before) {
        MUST(str_equal(buf_str(&whole.lines), buf_str(&cut.lines)));
        MUST(str_equal(buf_str(&whole.bad), buf_str(&cut.bad)));
        check_lines(schema, &cut);
    }
    taken_finish(&first);
    taken_finish(&whole);
    taken_finish(&cut);
    lake_schema_drop(schema);
    return 0;
}
