#include "api_problems.h"

#include "clock.h"
#include "encoding.h"
#include "lake_ingest.h"

enum {
    /* Two names of 1 MiB, each byte escaped as six, beside a full list of small entries. */
    BODY_SIZE_MAX = 16 << 20,
    PROBLEMS_MAX = 1000,
    INPUT_ECHO_MAX = 1024,
    INPUT_CUT = 200,
    DEPTH_MAX = 256,
    TABLE_NAME_MAX = 64,
};

void problems_init(struct problems *problems)
{
    *problems = (struct problems){.count = 0};
    buf_init(&problems->body, BODY_SIZE_MAX);
    json_writer_init(&problems->writer, &problems->body);
    json_begin_object(&problems->writer);
    json_key(&problems->writer, STR("detail"));
    json_begin_array(&problems->writer);
}

void problems_finish(struct problems *problems)
{
    buf_finish(&problems->body);
}

/* What came in may hold NaN, which an answer must not: such values, and long ones, are echoed as
 * text. */
static void write_input(struct json_writer *writer, struct json_span input)
{
    if (input.text.ptr == NULL) {
        json_put_null(writer);
        return;
    }
    struct json_scanner scanner;
    struct json_span root;
    struct err ignored;
    json_scanner_init(&scanner, input.text);
    scanner.depth_max = DEPTH_MAX + 1;
    if (input.text.len <= INPUT_ECHO_MAX && json_scan_document(&scanner, &root, &ignored)) {
        json_put_raw(writer, input.text);
    } else {
        json_put_string(writer, str_first(input.text, INPUT_CUT));
    }
}

void problems_add(struct problems *problems, const struct problem *problem)
{
    if (problems->count == PROBLEMS_MAX) {
        return;
    }
    struct json_writer *writer = &problems->writer;
    json_begin_object(writer);
    json_member_string(writer, "type", str_of(problem->type));
    json_key(writer, STR("loc"));
    json_begin_array(writer);
    json_put_string(writer, str_of(problem->place));
    if (problem->field != NULL) {
        json_put_string(writer, str_of(problem->field));
    }
    if (problem->index >= 0) {
        json_put_i64(writer, problem->index);
    }
    json_end_array(writer);
    json_member_string(writer, "msg", problem->message);
    json_key(writer, STR("input"));
    write_input(writer, problem->input);
    if (problem->context != NULL) {
        json_key(writer, STR("ctx"));
        json_put_raw(writer, str_of(problem->context));
    }
    json_end_object(writer);
    problems->count++;
}

void problems_reply(struct problems *problems, struct request *request)
{
    assert(problems->count > 0);
    json_end_array(&problems->writer);
    json_end_object(&problems->writer);
    reply_buf(request, 422, &problems->body);
}

/* ---- the body ---- */

static bool reply_unreadable(struct request *request)
{
    struct err err;
    (void)err_set(&err, ERR_INVALID, "There was an error parsing the body");
    reply_error(request, &err);
    return false;
}

/* The body in UTF-8; the original accepts the UTF-16 and UTF-32 that JSON once allowed. */
static bool utf8_body(struct request *request, struct str *ret_text)
{
    struct str text = http_body(request->exchange);
    const char *encoding = encoding_sniff(text);
    if (encoding != NULL) {
        if (!encoding_to_utf8(text, encoding, &request->text)) {
            return false;
        }
        text = buf_str(&request->text);
    }
    *ret_text = text;
    return str_is_utf8(text);
}

static bool is_json_type(struct str type)
{
    struct str bare = str_trim(str_first(type, str_find_byte(type, ';')));
    return type.ptr == NULL || str_equal_nocase(bare, STR("application/json")) ||
           (str_starts_nocase(bare, STR("application/")) && bare.len > 5 &&
            str_equal_nocase(str_from(bare, bare.len - 5), STR("+json")));
}

static void add_not_an_object(struct problems *problems, struct json_span input)
{
    problems_add(problems, &(struct problem){
                               .type = "model_attributes_type",
                               .place = "body",
                               .index = -1,
                               .message = STR(
                                   "Input should be a valid dictionary or object to extract fields "
                                   "from"),
                               .input = input,
                           });
}

static void add_malformed(struct problems *problems, struct json_scanner *scanner)
{
    struct buf context;
    buf_init(&context, 4096);
    struct json_writer writer;
    json_writer_init(&writer, &context);
    json_begin_object(&writer);
    json_member_string(&writer, "error", str_of(scanner->error_text));
    json_end_object(&writer);
    struct str before = str_first(scanner->text, scanner->error_offset);
    problems_add(problems, &(struct problem){
                               .type = "json_invalid",
                               .place = "body",
                               .index = (int64_t)str_count_code_points(before),
                               .message = STR("JSON decode error"),
                               .input = {.text = STR("{}")},
                               .context = context.ptr,
                           });
    buf_finish(&context);
}

static void add_missing_body(struct problems *problems)
{
    problems_add(problems, &(struct problem){.type = "missing",
                                             .place = "body",
                                             .index = -1,
                                             .message = STR("Field required")});
}

/* Malformed JSON is reported alone; what is wrong with a well-formed body joins what was found in
 * the query. */
bool ingest_read_body(struct request *request, struct problems *other)
{
    struct str text;
    if (!utf8_body(request, &text)) {
        return reply_unreadable(request);
    }
    if (text.len == 0) {
        add_missing_body(other);
        return true;
    }
    struct json_scanner scanner;
    struct err err;
    json_scanner_init(&scanner, text);
    scanner.depth_max = DEPTH_MAX;
    scanner.allow_nonfinite = true;
    bool good = json_scan_document(&scanner, &request->body, &err);
    if (!good && strcmp(scanner.error_text, JSON_TOO_DEEP) == 0) {
        return reply_unreadable(request); /* nested too deep */
    }
    if (!good && is_json_type(http_header(request->exchange, "Content-Type"))) {
        struct problems alone;
        problems_init(&alone);
        add_malformed(&alone, &scanner);
        problems_reply(&alone, request);
        problems_finish(&alone);
        return false;
    }
    if (!good) {
        request->body = (struct json_span){.kind = JSON_NULL};
        add_not_an_object(other, (struct json_span){.kind = JSON_STRING, .text = text});
    } else if (request->body.kind == JSON_NULL) {
        add_missing_body(other);
    } else if (request->body.kind != JSON_OBJECT) {
        add_not_an_object(other, request->body);
    }
    return true;
}

/* ---- names and dates ---- */

static bool is_reserved(struct str name)
{
    /* clang-format off */
    static const struct str words[] = {
        STR_INIT("select"), STR_INIT("insert"), STR_INIT("update"), STR_INIT("delete"),
        STR_INIT("drop"), STR_INIT("create"), STR_INIT("alter"), STR_INIT("table"),
        STR_INIT("from"), STR_INIT("where"), STR_INIT("join"), STR_INIT("union"),
        STR_INIT("order"), STR_INIT("group"), STR_INIT("having"), STR_INIT("limit"),
        STR_INIT("offset"), STR_INIT("values"), STR_INIT("set"), STR_INIT("into"), STR_INIT("as"),
        STR_INIT("on"), STR_INIT("and"), STR_INIT("or"), STR_INIT("not"), STR_INIT("null"),
        STR_INIT("true"), STR_INIT("false"), STR_INIT("case"), STR_INIT("when"), STR_INIT("then"),
        STR_INIT("else"), STR_INIT("end"), STR_INIT("with"), STR_INIT("by"),
    };
    /* clang-format on */
    static_assert(COUNT_OF(words) == 35, "the contract names 35 words");
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (str_equal_nocase(name, words[i])) {
            return true;
        }
    }
    return false;
}

static bool is_plain(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_')) {
            return false;
        }
    }
    return true;
}

/* Appends piece by piece: a name may hold a NUL byte, which a format would stop at. */
static bool refuse_name(struct buf *message, const char *before, struct str name, const char *after)
{
    buf_append_text(message, before);
    buf_append(message, name);
    buf_append_text(message, after);
    return false;
}

static bool check_name(struct str name, const char *empty, const char *invalid, struct buf *message)
{
    if (name.len == 0) {
        return refuse_name(message, empty, name, "");
    }
    if (is_reserved(name)) {
        return refuse_name(message, invalid, name, ". Cannot use SQL reserved words.");
    }
    return is_plain(name) ||
           refuse_name(message, invalid, name,
                       ". Only alphanumeric characters and underscores are allowed.");
}

bool ingest_check_column(struct str name, struct buf *message)
{
    return check_name(name, "Column name cannot be empty", "Invalid column name: ", message);
}

static bool check_table(struct str name, size_t len_max, struct buf *message)
{
    static const char invalid[] = "Invalid table name: ";
    if (!check_name(name, "Table name cannot be empty", invalid, message)) {
        return false;
    }
    if (name.ptr[0] >= '0' && name.ptr[0] <= '9') {
        return refuse_name(message, invalid, name, ". Table names cannot start with a digit.");
    }
    return name.len <= len_max ||
           refuse_name(message, "Table name too long: ", name, ". Maximum 64 characters.");
}

bool ingest_check_table(struct str name, struct buf *message)
{
    return check_table(name, TABLE_NAME_MAX, message);
}

bool ingest_check_known_table(struct str name, struct buf *message)
{
    struct str suffix = STR(LAKE_DEAD_SUFFIX);
    bool dead = str_ends(name, suffix);
    return check_table(name, TABLE_NAME_MAX + (dead ? suffix.len : 0), message);
}

static bool take_digits(struct str *text, size_t least, size_t most, int *ret_value)
{
    size_t count = 0;
    int value = 0;
    while (count < text->len && count < most && text->ptr[count] >= '0' &&
           text->ptr[count] <= '9') {
        value = value * 10 + (text->ptr[count++] - '0');
    }
    *text = str_from(*text, count);
    *ret_value = value;
    return count >= least;
}

static bool take_dash(struct str *text)
{
    bool dash = text->len > 0 && text->ptr[0] == '-';
    *text = str_from(*text, dash ? 1 : 0);
    return dash;
}

bool ingest_parse_date(struct str text, struct lake_date *ret_date)
{
    struct lake_date date;
    bool good = take_digits(&text, 4, 4, &date.year) && take_dash(&text) &&
                take_digits(&text, 1, 2, &date.month) && take_dash(&text) &&
                take_digits(&text, 1, 2, &date.day) && text.len == 0 &&
                clock_date_is_real(date.year, date.month, date.day);
    if (good) {
        *ret_date = date;
    }
    return good;
}
