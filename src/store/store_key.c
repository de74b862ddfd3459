#include "store_internal.h"

#include "net.h"
#include "num.h"

/* --- keys --- */

static bool has_control_byte(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if (byte < 0x20 || byte == 0x7f) {
            return true;
        }
    }
    return false;
}

static bool check_segment(struct str segment, struct str key, struct err *err)
{
    if (segment.len == 0) {
        return err_set(err, ERR_INVALID, "the key \"%.*s\" has an empty segment", STR_ARG(key));
    }
    if (str_equal(segment, STR(".")) || str_equal(segment, STR(".."))) {
        return err_set(err, ERR_INVALID, "the key \"%.*s\" has a segment \"%.*s\"", STR_ARG(key),
                       STR_ARG(segment));
    }
    return true;
}

static bool check_bytes(struct str key, struct err *err)
{
    if (key.len > STORE_KEY_SIZE_MAX) {
        return err_set(err, ERR_INVALID, "a key may have at most %d bytes, this one has %zu",
                       (int)STORE_KEY_SIZE_MAX, key.len);
    }
    if (has_control_byte(key)) {
        return err_set(err, ERR_INVALID, "a key may not contain control characters");
    }
    return true;
}

bool store_check_key(struct str key, struct err *err)
{
    if (key.len == 0) {
        return err_set(err, ERR_INVALID, "a key may not be empty");
    }
    if (!check_bytes(key, err)) {
        return false;
    }
    for (struct str rest = key;;) {
        size_t slash = str_find_byte(rest, '/');
        if (!check_segment(str_first(rest, slash), key, err)) {
            return false;
        }
        if (slash == rest.len) {
            return true;
        }
        rest = str_from(rest, slash + 1);
    }
}

bool store_check_prefix(struct str prefix, struct err *err)
{
    if (!check_bytes(prefix, err)) {
        return false;
    }
    struct str rest = prefix;
    for (size_t slash; (slash = str_find_byte(rest, '/')) < rest.len;) {
        if (!check_segment(str_first(rest, slash), prefix, err)) {
            return false;
        }
        rest = str_from(rest, slash + 1);
    }
    return true;
}

/* --- buckets and endpoints --- */

static bool is_alphanumeric(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9');
}

bool store_check_bucket(struct str bucket, struct err *err)
{
    bool good = bucket.len >= 3 && bucket.len <= 255 && is_alphanumeric(bucket.ptr[0]) &&
                is_alphanumeric(bucket.ptr[bucket.len - 1]) &&
                str_find(bucket, STR("..")) == bucket.len;
    for (size_t i = 0; good && i < bucket.len; i++) {
        char byte = bucket.ptr[i];
        good = is_alphanumeric(byte) || byte == '.' || byte == '-' || byte == '_';
    }
    return good || err_set(err, ERR_INVALID,
                           "a bucket name has 3 to 63 letters, digits, \".\", \"-\" or \"_\", "
                           "and begins and ends with a letter or digit");
}

bool store_split_endpoint(struct str endpoint, struct store_endpoint *ret_parts, struct err *err)
{
    size_t colon = str_find(endpoint, STR("://"));
    struct str scheme = str_first(endpoint, colon);
    if (colon == endpoint.len ||
        (!str_equal_nocase(scheme, STR("http")) && !str_equal_nocase(scheme, STR("https")))) {
        return err_set(err, ERR_INVALID, "the endpoint must begin with http:// or https://");
    }
    struct str rest = str_from(endpoint, scheme.len + 3);
    if (str_ends(rest, STR("/"))) {
        rest.len--;
    }
    if (str_find_byte(rest, '/') < rest.len || str_find_byte(rest, '?') < rest.len ||
        str_find_byte(rest, '#') < rest.len) {
        return err_set(err, ERR_INVALID, "the endpoint may not have a path, query or fragment");
    }
    if (str_find_byte(rest, '@') < rest.len) {
        return err_set(err, ERR_INVALID, "the endpoint may not carry a user name");
    }
    size_t bracket = rest.len > 0 && rest.ptr[0] == '[' ? str_find_byte(rest, ']') : 0;
    size_t host_len = bracket + str_find_byte(str_from(rest, bracket), ':');
    struct str port = str_from(rest, host_len);
    uint64_t number = 0;
    if (port.len > 0) {
        port = str_from(port, 1);
        if (port.len > 5 || !num_parse_u64(port, 1, 65535, &number, err)) {
            return err_set(err, ERR_INVALID, "the endpoint has no usable port");
        }
    }
    *ret_parts = (struct store_endpoint){
        .scheme = scheme,
        .host = str_first(rest, host_len),
        .port = port,
    };
    if (str_ends(ret_parts->host, STR("."))) {
        return err_set(err, ERR_INVALID, "the endpoint's host may not end with a dot");
    }
    return net_host_usable(ret_parts->host) ||
           err_set(err, ERR_INVALID, "the endpoint has no usable host name");
}

bool store_check_endpoint(struct str endpoint, struct err *err)
{
    struct store_endpoint parts;
    return store_split_endpoint(endpoint, &parts, err);
}

bool store_is_aws(struct str endpoint)
{
    struct store_endpoint parts;
    struct err ignored;
    return store_split_endpoint(endpoint, &parts, &ignored) &&
           (str_ends(parts.host, STR(".amazonaws.com")) ||
            str_ends(parts.host, STR(".amazonaws.com.cn")));
}

/* --- percent encoding --- */

void store_append_encoded(struct buf *buf, struct str text, bool keep_slashes)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.ptr[i];
        if (is_alphanumeric(byte) || byte == '-' || byte == '.' || byte == '_' || byte == '~' ||
            (byte == '/' && keep_slashes)) {
            buf_append_byte(buf, byte);
        } else {
            buf_append_byte(buf, '%');
            buf_append_byte(buf, digits[(unsigned char)byte >> 4]);
            buf_append_byte(buf, digits[(unsigned char)byte & 15]);
        }
    }
}

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    char lower = (char)(byte | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool store_append_decoded(struct buf *buf, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.ptr[i];
        if (byte != '%') {
            buf_append_byte(buf, byte == '+' ? ' ' : byte);
            continue;
        }
        int high = text.len - i > 2 ? hex_value(text.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_value(text.ptr[i + 2]) : -1;
        if (low < 0) {
            return false;
        }
        buf_append_byte(buf, (char)(high * 16 + low));
        i += 2;
    }
    return true;
}
