/* What libmicrohttpd lets through and a strict server does not: two readers of one connection, a
 * proxy and this server, must not differ over where a request ends. */
#include "http_private.h"

/* ---- the header as it lay on the wire ---- */

/* Up to this version the header stays where it was read, NUL is written over colons and over both
 * bytes of a line end, and a value ends at its first NUL: the distances between fields tell how the
 * lines ended. Later ones have a setting for strictness instead (http_server.c). */
#define LAST_VERSION_IN_PLACE "0.9.76"

static bool stays_in_place(void)
{
    return strcmp(MHD_get_version(), LAST_VERSION_IN_PLACE) <= 0;
}

static bool is_nul(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != '\0') {
            return false;
        }
    }
    return true;
}

/* One CR and one LF, and nothing else, between the two. A lone LF is one NUL, a NUL of the client's
 * is one more, and a folded line was moved to some other place. */
static bool is_line_end(const char *end, const char *next)
{
    return (uintptr_t)next - (uintptr_t)end == 2 && is_nul(end, 2);
}

void http_wire_begin(struct http_wire *wire, const char *target, size_t target_len,
                     const char *version)
{
    /* A NUL in the target ends it for libmicrohttpd, not for others. */
    wire->odd = stays_in_place() && version != target + target_len + 1;
    wire->end = version + strlen(version);
}

void http_wire_take(struct http_wire *wire, const char *name, size_t name_len, const char *value,
                    size_t value_len)
{
    if (value == NULL) {
        wire->odd = true;
        return;
    }
    const char *colon = name + name_len;
    uintptr_t value_gap = (uintptr_t)value - (uintptr_t)colon;
    bool good = is_line_end(wire->end, name) && value_gap >= 1 &&
                value_gap <= HTTP_HEADER_BYTES_MAX && *colon == '\0';
    for (size_t i = 1; good && i < value_gap; i++) {
        good = colon[i] == ' ' || colon[i] == '\t';
    }
    wire->odd = wire->odd || (stays_in_place() && !good);
    wire->end = value + value_len;
}

bool http_wire_is_strict(const struct http_wire *wire)
{
    /* The last line's end, and that of the empty line. */
    return !wire->odd && (!stays_in_place() || is_nul(wire->end, 4));
}

/* ---- names, values, targets ---- */

static bool is_token(struct str name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.ptr[i];
        char lower = (char)(byte | 0x20);
        bool good = (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9') ||
                    (byte != '\0' && strchr(others, byte) != NULL);
        if (!good) {
            return false;
        }
    }
    return name.len > 0;
}

static bool has_control_byte(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            return true;
        }
    }
    return false;
}

/* White space in it would have moved the rest of the target into the version. */
static bool is_target(const struct http_request *request)
{
    struct str target = str_of(request->target);
    bool form = request->authority.ptr != NULL || str_starts(target, STR("/")) ||
                (str_equal(target, STR("*")) && str_equal(request->method, STR("OPTIONS")));
    return form && !has_control_byte(target) && str_find_byte(target, ' ') == target.len &&
           str_find_byte(target, '\t') == target.len;
}

static bool is_host(struct str host)
{
    static const char others[] = "-._~!$&'()*+,;=:[]%";
    for (size_t i = 0; i < host.len; i++) {
        char lower = (char)(host.ptr[i] | 0x20);
        bool letter = (lower >= 'a' && lower <= 'z') || (host.ptr[i] >= '0' && host.ptr[i] <= '9');
        if (!letter && (host.ptr[i] == '\0' || strchr(others, host.ptr[i]) == NULL)) {
            return false;
        }
    }
    return true;
}

static bool check_host(const struct http_request *request, bool is_http_1_0, struct err *err)
{
    struct str host = {0};
    size_t count = http_count_fields(request, STR("Host"), &host);
    host = str_trim(host);
    if (count > 1 || (count == 0 && !is_http_1_0) || !is_host(host)) {
        return err_set(err, ERR_INVALID, "the request needs exactly one usable Host field");
    }
    struct str authority = request->authority;
    if (authority.ptr != NULL && count == 1 && !str_equal_nocase(authority, host)) {
        return err_set(err, ERR_INVALID, "the request target and the Host field differ");
    }
    return true;
}

bool http_check_strict(const struct http_request *request, const struct http_wire *wire,
                       bool is_http_1_0, struct err *err)
{
    if (!http_wire_is_strict(wire)) {
        return err_set(err, ERR_INVALID, "a line of the request header is malformed");
    }
    for (size_t i = 0; i < request->fields_count; i++) {
        if (!is_token(request->fields[i].name)) {
            return err_set(err, ERR_INVALID, "a field name of the request header is malformed");
        }
        if (has_control_byte(request->fields[i].value)) {
            return err_set(err, ERR_INVALID, "a field value of the request header is malformed");
        }
    }
    if (!is_target(request)) {
        return err_set(err, ERR_INVALID, "the request target is malformed");
    }
    return check_host(request, is_http_1_0, err);
}
