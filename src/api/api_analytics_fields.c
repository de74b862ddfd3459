#include "api_analytics.h"
#include "num.h"

#include <stdio.h>

enum {
    BODY_SIZE_MAX = 1 << 20,
    FAULTS_MAX = 100,
    MESSAGE_SIZE = 400,
    DEPTH_MAX = 128
};

void faults_init(struct faults *faults)
{
    *faults = (struct faults){.count = 0};
    buf_init(&faults->body, BODY_SIZE_MAX);
    json_writer_init(&faults->writer, &faults->body);
    json_begin_object(&faults->writer);
    json_member_string(&faults->writer, "detail", STR("Validation error"));
    json_key(&faults->writer, STR("errors"));
    json_begin_array(&faults->writer);
}

void faults_finish(struct faults *faults)
{
    buf_finish(&faults->body);
}

void faults_add(struct faults *faults, const char *field, const char *type, const char *format, ...)
{
    char message[MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    if (faults->count++ >= FAULTS_MAX) {
        return;
    }
    json_begin_object(&faults->writer);
    json_member_string(&faults->writer, "field", str_of(field));
    json_member_string(&faults->writer, "message", str_of(message));
    json_member_string(&faults->writer, "type", str_of(type));
    json_end_object(&faults->writer);
}

bool faults_reply(struct faults *faults, struct request *request)
{
    if (faults->count == 0) {
        return false;
    }
    json_end_array(&faults->writer);
    json_end_object(&faults->writer);
    reply_buf(request, 422, &faults->body);
    return true;
}

/* ---- the body ---- */

static bool reply_fault(struct request *request, const char *field, const char *type,
                        const char *message)
{
    struct faults faults;
    faults_init(&faults);
    faults_add(&faults, field, type, "%s", message);
    (void)faults_reply(&faults, request);
    faults_finish(&faults);
    return false;
}

static bool scan_body(struct request *request, struct str text)
{
    struct json_scanner scanner;
    struct err err;
    char field[40];
    json_scanner_init(&scanner, text);
    scanner.depth_max = DEPTH_MAX;
    if (!str_is_utf8(text) || !json_scan_document(&scanner, &request->body, &err)) {
        struct str before = str_first(text, scanner.error_offset);
        (void)snprintf(field, sizeof(field), "body.%zu", str_count_code_points(before));
        return reply_fault(request, field, "json_invalid", "JSON decode error");
    }
    if (request->body.kind != JSON_OBJECT) {
        return reply_fault(request, "body", "model_attributes_type",
                           "Input should be a valid dictionary or object to extract fields from");
    }
    return true;
}

bool analytics_read_body(struct request *request)
{
    struct str text = http_body(request->exchange);
    if (text.len == 0) {
        return reply_fault(request, "body", "missing", "Field required");
    }
    return scan_body(request, text);
}

bool analytics_read_optional_body(struct request *request)
{
    struct str text = http_body(request->exchange);
    return scan_body(request, text.len == 0 ? STR("{}") : text);
}

/* ---- fields ---- */

static bool find(struct json_span object, const char *name, struct json_span *ret_value)
{
    return json_find(object, str_of(name), ret_value);
}

static void check_length(struct faults *faults, const char *field, struct str text)
{
    size_t count = str_count_code_points(text);
    if (count < 1) {
        faults_add(faults, field, "string_too_short", "String should have at least 1 character");
    } else if (count > ANALYTICS_STATEMENT_CHARACTERS_MAX) {
        faults_add(faults, field, "string_too_long", "String should have at most %d characters",
                   ANALYTICS_STATEMENT_CHARACTERS_MAX);
    }
}

static bool read_string(struct faults *faults, struct json_span value, const char *field,
                        struct buf *into)
{
    if (value.kind != JSON_STRING) {
        faults_add(faults, field, "string_type", "Input should be a valid string");
        return false;
    }
    (void)json_unescape(value, into);
    if (buf_failed(into) || memchr(into->ptr == NULL ? "" : into->ptr, '\0', into->len) != NULL) {
        faults_add(faults, field, "string_type", "Input should be a valid string");
        return false;
    }
    return true;
}

void analytics_read_text(struct faults *faults, struct json_span object, const char *name,
                         const char *field, struct buf *into)
{
    struct json_span value;
    if (!find(object, name, &value)) {
        faults_add(faults, field, "missing", "Field required");
    } else if (read_string(faults, value, field, into)) {
        check_length(faults, field, buf_str(into));
    }
}

void analytics_read_option(struct faults *faults, struct json_span object, const char *name,
                           const char *field, struct buf *into)
{
    struct json_span value;
    if (find(object, name, &value) && value.kind != JSON_NULL) {
        (void)read_string(faults, value, field, into);
    }
}

static void check_range(struct faults *faults, const char *field, bool small, bool large,
                        uint64_t min, uint64_t max)
{
    if (small) {
        faults_add(faults, field, "greater_than_equal",
                   "Input should be greater than or equal to %llu", (unsigned long long)min);
    } else if (large) {
        faults_add(faults, field, "less_than_equal", "Input should be less than or equal to %llu",
                   (unsigned long long)max);
    }
}

/* "5.0" has no digit but zeros after the point: it counts as 5. */
static struct str without_zero_fraction(struct str text)
{
    size_t point = str_find_byte(text, '.');
    for (size_t i = point + 1; i < text.len; i++) {
        if (text.ptr[i] != '0') {
            return text;
        }
    }
    return str_first(text, point);
}

void analytics_parse_number(struct faults *faults, struct str text, const char *field, uint64_t min,
                            uint64_t max, uint64_t *ret_value)
{
    struct str whole = without_zero_fraction(str_trim(text));
    struct str digits =
        whole.len > 0 && (whole.ptr[0] == '-' || whole.ptr[0] == '+') ? str_from(whole, 1) : whole;
    bool number = digits.len > 0;
    for (size_t i = 0; i < digits.len; i++) {
        number = number && digits.ptr[i] >= '0' && digits.ptr[i] <= '9';
    }
    if (!number) {
        faults_add(faults, field, "int_parsing",
                   "Input should be a valid integer, unable to parse string as an integer");
        return;
    }
    bool negative = whole.ptr[0] == '-';
    uint64_t value = 0;
    struct err ignored;
    bool large = !num_parse_u64(digits, 0, UINT64_MAX, &value, &ignored);
    bool small = (negative && (large || value > 0)) || (!large && value < min);
    check_range(faults, field, small, !small && (large || value > max), min, max);
    *ret_value = value;
}

void analytics_read_number(struct faults *faults, struct json_span object, const char *name,
                           const char *field, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    struct json_span value;
    if (!find(object, name, &value) || value.kind == JSON_NULL) {
        return;
    }
    if (value.kind == JSON_BOOL) {
        *ret_value = str_equal(value.text, STR("true"));
        check_range(faults, field, *ret_value<min, *ret_value> max, min, max);
    } else if (value.kind == JSON_INTEGER) {
        analytics_parse_number(faults, value.text, field, min, max, ret_value);
    } else if (value.kind == JSON_REAL) {
        struct str whole = without_zero_fraction(value.text);
        if (str_find_byte(whole, '.') < whole.len || str_find_byte(whole, 'e') < whole.len ||
            str_find_byte(whole, 'E') < whole.len) {
            faults_add(faults, field, "int_from_float",
                       "Input should be a valid integer, got a number with a fractional part");
        } else {
            analytics_parse_number(faults, whole, field, min, max, ret_value);
        }
    } else if (value.kind == JSON_STRING && value.text.len >= 2) {
        analytics_parse_number(faults, str_make(value.text.ptr + 1, value.text.len - 2), field, min,
                               max, ret_value);
    } else {
        faults_add(faults, field, "int_type", "Input should be a valid integer");
    }
}

void analytics_read_flag(struct faults *faults, struct json_span object, const char *name,
                         const char *field, bool *ret_value)
{
    static const char *const yes[] = {"true", "1", "yes", "on", "t", "y"};
    static const char *const no[] = {"false", "0", "no", "off", "f", "n"};
    struct json_span value;
    if (!find(object, name, &value)) {
        return;
    }
    struct str text = value.text;
    if (value.kind == JSON_STRING && text.len >= 2) {
        text = str_make(text.ptr + 1, text.len - 2);
    }
    bool scalar =
        value.kind == JSON_STRING || value.kind == JSON_BOOL || value.kind == JSON_INTEGER;
    for (size_t i = 0; i < COUNT_OF(yes) && scalar; i++) {
        if (str_equal_nocase(text, str_of(yes[i])) || str_equal_nocase(text, str_of(no[i]))) {
            *ret_value = str_equal_nocase(text, str_of(yes[i]));
            return;
        }
    }
    faults_add(faults, field, scalar ? "bool_parsing" : "bool_type",
               scalar ? "Input should be a valid boolean, unable to interpret input"
                      : "Input should be a valid boolean");
}

bool analytics_read_database(struct request *request, struct faults *faults, struct buf *into)
{
    if (request->parameter.len > 0) {
        buf_append(into, buf_str(&request->parameter));
    } else if (request->body.kind == JSON_OBJECT) {
        analytics_read_option(faults, request->body, "database", "body.database", into);
    }
    if (into->len > 0 && !database_name_is_good(buf_str(into))) {
        faults_add(faults, request->parameter.len > 0 ? "path.name" : "body.database",
                   "string_pattern_mismatch",
                   "String should match pattern '^[a-z0-9][a-z0-9_-]{0,62}$'");
        return false;
    }
    return true;
}
