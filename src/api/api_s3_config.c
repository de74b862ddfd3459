#include "api_s3_config.h"

#include "encoding.h"
#include "mem.h"

#include <stdio.h>

enum {
    FIELD_SIZE_MAX = 1 << 20,
    DEPTH_MAX = 256
};

bool snapshot_reads_type(struct str content_type)
{
    struct str bare = str_trim(str_first(content_type, str_find_byte(content_type, ';')));
    return content_type.ptr != NULL && str_equal_nocase(bare, STR("application/json"));
}

static bool reply_text(struct request *request, const char *text)
{
    struct err err;
    (void)err_set(&err, ERR_INVALID, "%s", text);
    reply_error(request, &err);
    return false;
}

/* The charset parameter of a content type, without quotes; empty without one. */
static struct str charset_of(struct str content_type)
{
    struct str rest = content_type;
    struct str part;
    while (str_next_part(&rest, ';', &part)) {
        part = str_trim(part);
        if (str_starts_nocase(part, STR("charset="))) {
            struct str charset = str_trim(str_from(part, 8));
            bool quoted = charset.len >= 2 && charset.ptr[0] == '"';
            return quoted ? str_make(charset.ptr + 1, charset.len - 2) : charset;
        }
    }
    return STR("");
}

/* Only the UTF family is read, as in the original; text other than UTF-8 is converted. False when a
 * reply has been sent. */
static bool read_charset(struct request *request)
{
    struct str charset = charset_of(http_header(request->exchange, "Content-Type"));
    char name[16];
    struct err err;
    bool known = charset.len < sizeof(name) && str_starts_nocase(charset, STR("utf-"));
    (void)snprintf(name, sizeof(name), "%.*s", STR_ARG(str_first(charset, sizeof(name) - 1)));
    if (charset.len == 0 || str_equal_nocase(charset, STR("utf-8"))) {
        return true;
    }
    if (!known) {
        (void)err_set(&err, ERR_MEDIA_TYPE, "unsupported charset \"%.*s\"",
                      STR_ARG(str_first(charset, 40)));
    } else if (encoding_to_utf8(http_body(request->exchange), name, &request->text)) {
        return true;
    } else {
        (void)err_set(&err, ERR_INVALID, "Invalid JSON");
    }
    reply_error(request, &err);
    return false;
}

/* Invalid UTF-8 becomes U+FFFD, as the original has it. */
static struct str repaired_body(struct request *request)
{
    struct str body = http_body(request->exchange);
    if (request->text.len > 0) {
        return buf_str(&request->text);
    }
    if (str_is_utf8(body)) {
        return body;
    }
    struct buf *text = &request->text;
    while (body.len > 0) {
        size_t size = str_utf8_size(body);
        buf_append(text, size > 0 ? str_first(body, size) : STR("\xEF\xBF\xBD"));
        body = str_from(body, size > 0 ? size : 1);
    }
    return buf_str(text);
}

bool snapshot_read_body(struct request *request)
{
    if (!snapshot_reads_type(http_header(request->exchange, "Content-Type"))) {
        return reply_text(request, "body must be an object");
    }
    if (!read_charset(request)) {
        return false;
    }
    struct str text = repaired_body(request);
    if (text.len == 0) {
        text = STR("{}");
    }
    struct json_scanner scanner;
    struct err err;
    json_scanner_init(&scanner, text);
    scanner.depth_max = DEPTH_MAX;
    if (!json_scan_document(&scanner, &request->body, &err) ||
        (request->body.kind != JSON_OBJECT && request->body.kind != JSON_ARRAY)) {
        return reply_text(request, "Invalid JSON");
    }
    request->body_bulk = scanner.bulk;
    return request->body.kind == JSON_OBJECT || reply_text(request, "body must be an object");
}

void snapshot_unknown_check(struct request *request)
{
    struct str text = repaired_body(request);
    struct json_scanner scanner;
    struct json_span root;
    struct err err;
    json_scanner_init(&scanner, text);
    scanner.depth_max = DEPTH_MAX;
    if (text.len > 0 && (!json_scan_document(&scanner, &root, &err) ||
                         (root.kind != JSON_OBJECT && root.kind != JSON_ARRAY))) {
        (void)reply_text(request, "Invalid JSON");
    } else {
        reply_not_found(request);
    }
}

bool snapshot_text_field(struct json_span object, const char *name, const char *where,
                         struct buf *into, struct err *err)
{
    struct json_span value;
    size_t before = into->len;
    if (json_find(object, str_of(name), &value) && json_text(value, into) &&
        !str_blank(str_from(buf_str(into), before))) {
        return true;
    }
    return err_set(err, ERR_INVALID, "%s must be a non-empty string", where);
}

/* One s3_config while it is read. */
struct s3_fields {
    struct buf endpoint;
    struct buf bucket;
    struct buf access_key;
    struct buf secret_key;
    struct buf session_token;
    struct buf region;
    bool path_style;
};

static void fields_init(struct s3_fields *fields)
{
    buf_init(&fields->endpoint, FIELD_SIZE_MAX);
    buf_init(&fields->bucket, FIELD_SIZE_MAX);
    buf_init(&fields->access_key, FIELD_SIZE_MAX);
    buf_init(&fields->secret_key, FIELD_SIZE_MAX);
    buf_init(&fields->session_token, FIELD_SIZE_MAX);
    buf_init(&fields->region, FIELD_SIZE_MAX);
    fields->path_style = true;
}

static void fields_finish(struct s3_fields *fields)
{
    mem_wipe(fields->secret_key.ptr, fields->secret_key.len);
    mem_wipe(fields->session_token.ptr, fields->session_token.len);
    buf_finish(&fields->endpoint);
    buf_finish(&fields->bucket);
    buf_finish(&fields->access_key);
    buf_finish(&fields->secret_key);
    buf_finish(&fields->session_token);
    buf_finish(&fields->region);
}

static bool is_scheme(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool later = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
        if (!letter && (i == 0 || !later)) {
            return false;
        }
    }
    return text.len > 0;
}

static bool invalid_url(struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "s3_config.endpoint must be a valid URL (e.g. \"http://minio:9000\")");
}

/* The contract's words for an endpoint that is no http(s) URL without a path; the rest is the
 * store's to refuse. */
static bool check_endpoint(struct str endpoint, struct err *err)
{
    struct str text = str_trim(endpoint);
    size_t colon = str_find_byte(text, ':');
    struct str scheme = str_first(text, colon);
    if (colon == text.len || !is_scheme(scheme)) {
        return invalid_url(err);
    }
    if (!str_equal_nocase(scheme, STR("http")) && !str_equal_nocase(scheme, STR("https"))) {
        return err_set(err, ERR_INVALID, "s3_config.endpoint must be http(s), got: %.*s:",
                       STR_ARG(str_first(scheme, 40)));
    }
    struct str rest = str_from(text, colon + 1);
    if (!str_starts(rest, STR("//")) || rest.len == 2) {
        return invalid_url(err);
    }
    rest = str_from(rest, 2);
    struct str path = str_from(rest, str_find_byte(rest, '/'));
    if (path.len > 1) {
        return err_set(err, ERR_INVALID, "s3_config.endpoint must not include a path: %.*s",
                       STR_ARG(str_first(endpoint, 200)));
    }
    struct err reason;
    return store_check_endpoint(text, &reason) || invalid_url(err);
}

static bool read_region(struct json_span config, struct s3_fields *fields, struct err *err)
{
    struct json_span value;
    return !json_find(config, STR("region"), &value) ||
           snapshot_text_field(config, "region", "s3_config.region", &fields->region, err);
}

static bool read_path_style(struct json_span config, struct s3_fields *fields, struct err *err)
{
    struct json_span value;
    if (!json_find(config, STR("forcePathStyle"), &value)) {
        return true;
    }
    if (value.kind != JSON_BOOL) {
        return err_set(err, ERR_INVALID, "s3_config.forcePathStyle must be a boolean");
    }
    fields->path_style = str_equal(value.text, STR("true"));
    return true;
}

/* sessionToken is ours: temporary credentials have one, and the original had no place for it. */
static bool read_token(struct json_span config, struct s3_fields *fields, struct err *err)
{
    struct json_span value;
    return !json_find(config, STR("sessionToken"), &value) || value.kind == JSON_NULL ||
           snapshot_text_field(config, "sessionToken", "s3_config.sessionToken",
                               &fields->session_token, err);
}

static bool check_bucket(struct str bucket, struct err *err)
{
    struct err reason;
    return store_check_bucket(bucket, &reason) ||
           err_set(err, ERR_INVALID, "s3_config.bucket: %s", reason.message);
}

static bool read_fields(struct json_span config, struct s3_fields *fields, struct err *err)
{
    return snapshot_text_field(config, "endpoint", "s3_config.endpoint", &fields->endpoint, err) &&
           check_endpoint(buf_str(&fields->endpoint), err) &&
           snapshot_text_field(config, "bucket", "s3_config.bucket", &fields->bucket, err) &&
           snapshot_text_field(config, "accessKeyId", "s3_config.accessKeyId", &fields->access_key,
                               err) &&
           snapshot_text_field(config, "secretAccessKey", "s3_config.secretAccessKey",
                               &fields->secret_key, err) &&
           read_region(config, fields, err) && read_path_style(config, fields, err) &&
           read_token(config, fields, err) && check_bucket(buf_str(&fields->bucket), err);
}

bool snapshot_open_store(struct request *request, struct store **ret_store, struct err *err)
{
    struct json_span config;
    if (!json_find(request->body, STR("s3_config"), &config) || config.kind != JSON_OBJECT) {
        return err_set(err, ERR_INVALID, "s3_config must be an object");
    }
    struct s3_fields fields;
    fields_init(&fields);
    bool good = read_fields(config, &fields, err);
    if (good) {
        struct store_s3_options options = {
            .endpoint = str_trim(buf_str(&fields.endpoint)),
            .bucket = buf_str(&fields.bucket),
            .region = buf_str(&fields.region),
            .access_key = buf_str(&fields.access_key),
            .secret_key = buf_str(&fields.secret_key),
            .session_token = buf_str(&fields.session_token),
            .virtual_hosted = !fields.path_style,
        };
        *ret_store = store_open_s3(request->api->options.net, &options, err);
        good = *ret_store != NULL;
        request->own_keys = good;
    }
    fields_finish(&fields);
    return good;
}
