#include "http_private.h"

#include "digest.h"
#include "mem.h"
#include "num.h"

#define REQUEST_ID_BYTES 8

/* ---- the request target ---- */

/* `http://host/path?query`, which proxies send, is `/path?query`. */
static struct str take_authority(struct str target, struct str *ret_authority)
{
    struct str scheme = STR("http://");
    *ret_authority = (struct str){0};
    if (!str_starts_nocase(target, scheme)) {
        return target;
    }
    struct str rest = str_from(target, scheme.len);
    size_t slash = 0;
    while (slash < rest.len && rest.ptr[slash] != '/' && rest.ptr[slash] != '?') {
        slash++;
    }
    *ret_authority = str_first(rest, slash);
    return str_from(rest, slash);
}

void http_request_set_target(struct http_request *request, const char *target)
{
    request->target = mem_copy_text(target);
    struct str rest = take_authority(str_of(request->target), &request->authority);
    request->wire_target = target;
    size_t mark = str_find_byte(rest, '?');
    request->path = str_first(rest, mark);
    request->query = mark < rest.len ? str_from(rest, mark + 1) : STR("");
    if (request->path.len == 0) {
        request->path = STR("/");
    }
}

/* ---- header fields ---- */

struct copier {
    struct http_request *request;
    struct http_wire wire;
    char *at; /* NULL while counting */
    size_t bytes;
    size_t fields;
};

static struct str put(struct copier *copier, const char *bytes, size_t len)
{
    struct str kept = {0};
    copier->bytes += len + 1;
    if (copier->at != NULL) {
        kept = str_make(copier->at, len);
        if (len > 0) {
            memcpy(copier->at, bytes, len);
        }
        copier->at += len + 1;
    }
    return kept;
}

static enum MHD_Result copy_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                  size_t name_len, const char *value, size_t value_len)
{
    (void)kind;
    struct copier *copier = cls;
    struct http_field field;
    if (copier->at == NULL) {
        http_wire_take(&copier->wire, name, name_len, value, value == NULL ? 0 : value_len);
    }
    field.name = put(copier, name, name_len);
    field.value = put(copier, value == NULL ? "" : value, value == NULL ? 0 : value_len);
    if (copier->at != NULL) {
        copier->request->fields[copier->fields] = field;
    }
    copier->fields++;
    return MHD_YES;
}

static void copy_header(struct http_request *request, struct MHD_Connection *mhd,
                        const char *method, const char *version, struct http_wire *ret_wire,
                        size_t *ret_bytes)
{
    struct copier count = {.request = request};
    http_wire_begin(&count.wire, request->wire_target, strlen(request->target), version);
    (void)put(&count, method, strlen(method));
    (void)MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, copy_field, &count);
    *ret_wire = count.wire;
    request->text = mem_alloc(count.bytes);
    request->fields = mem_alloc_array(count.fields + 1, sizeof(struct http_field));
    request->fields_count = count.fields;
    struct copier copy = {.request = request, .at = request->text};
    request->method = put(&copy, method, strlen(method));
    (void)MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, copy_field, &copy);
    assert(copy.bytes == count.bytes);
    /* A field costs ": " and a line end on the wire, of which two NULs are counted already. */
    *ret_bytes = count.bytes + 2 * count.fields + strlen(request->target) + sizeof(" HTTP/1.1");
}

size_t http_count_fields(const struct http_request *request, struct str name, struct str *ret_first)
{
    size_t count = 0;
    *ret_first = (struct str){0};
    for (size_t i = 0; i < request->fields_count; i++) {
        if (str_equal_nocase(request->fields[i].name, name)) {
            if (count == 0) {
                *ret_first = request->fields[i].value;
            }
            count++;
        }
    }
    return count;
}

/* ---- framing ---- */

/* Two ends of a request that could be read differently by a proxy in front of us are how requests
 * are smuggled; libmicrohttpd lets them pass. Values are judged untrimmed, as it reads them:
 * "chunked " is not chunked to it. */
static bool read_framing(struct http_request *request, bool is_http_1_0, struct err *err)
{
    struct str length;
    struct str encoding;
    size_t lengths = http_count_fields(request, STR("Content-Length"), &length);
    size_t encodings = http_count_fields(request, STR("Transfer-Encoding"), &encoding);
    if (lengths > 1 || encodings > 1 || (lengths > 0 && encodings > 0)) {
        return err_set(err, ERR_INVALID, "the length of the request body is ambiguous");
    }
    if (encodings > 0 && (is_http_1_0 || !str_equal_nocase(encoding, STR("chunked")))) {
        return err_set(err, ERR_INVALID, "the transfer encoding is not supported");
    }
    request->chunked = encodings > 0;
    if (lengths > 0 && !num_parse_u64(length, 0, INT64_MAX, &request->content_length, err)) {
        return err_set(err, ERR_INVALID, "the content length is not a number");
    }
    return true;
}

static bool id_is_usable(struct str id)
{
    if (id.len == 0 || id.len >= HTTP_REQUEST_ID_SIZE) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        if (id.ptr[i] < 0x20 || id.ptr[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

static void choose_id(struct http_request *request)
{
    struct str sent;
    (void)http_count_fields(request, STR("X-Request-Id"), &sent);
    sent = str_trim(sent);
    if (id_is_usable(sent)) {
        memcpy(request->id, sent.ptr, sent.len);
        request->id[sent.len] = '\0';
    } else {
        unsigned char bytes[REQUEST_ID_BYTES];
        digest_random_id(bytes, sizeof(bytes));
        digest_hex(bytes, sizeof(bytes), request->id);
    }
}

bool http_request_load(struct http_request *request, struct MHD_Connection *mhd, const char *method,
                       const char *version, struct err *err)
{
    size_t header_bytes = 0;
    struct http_wire wire;
    copy_header(request, mhd, method, version, &wire, &header_bytes);
    choose_id(request);
    bool is_http_1_0 = strcmp(version, "HTTP/1.0") == 0;
    request->is_http_1_0 = is_http_1_0;
    struct str expected;
    (void)http_count_fields(request, STR("Expect"), &expected);
    request->head = str_equal(request->method, STR("HEAD"));
    request->expects_continue = !is_http_1_0 && str_equal_nocase(expected, STR("100-continue"));
    if (header_bytes > HTTP_HEADER_BYTES_MAX || request->fields_count > HTTP_HEADER_FIELDS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "the request header is too large");
    }
    return http_check_strict(request, &wire, is_http_1_0, err) &&
           read_framing(request, is_http_1_0, err);
}

void http_request_finish(struct http_request *request)
{
    mem_free(request->target);
    mem_free(request->text);
    mem_free(request->fields);
    *request = (struct http_request){0};
}

/* ---- accessors ---- */

struct str http_method(const struct http_exchange *exchange)
{
    return exchange->request.method;
}

struct str http_path(const struct http_exchange *exchange)
{
    return exchange->request.path;
}

struct str http_query(const struct http_exchange *exchange)
{
    return exchange->request.query;
}

struct str http_header(const struct http_exchange *exchange, const char *name)
{
    struct str first;
    (void)http_count_fields(&exchange->request, str_of(name), &first);
    return first.ptr == NULL ? first : str_trim(first);
}

struct str http_client_address(const struct http_exchange *exchange)
{
    return str_of(exchange->request.address);
}

bool http_has_body(const struct http_exchange *exchange)
{
    return exchange->request.chunked || exchange->request.content_length > 0;
}

struct str http_request_id(const struct http_exchange *exchange)
{
    return str_of(exchange->request.id);
}
