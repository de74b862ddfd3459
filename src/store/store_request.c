/* One signed request: headers, URL, signature. */
#include "store_s3.h"

#include "clock.h"
#include "mem.h"

enum {
    HEADERS_MAX = S3_PAIRS_MAX + 4,
    LINES_BYTES_MAX = 64 * 1024
};

void s3_add_query(struct s3_request *request, const char *name, struct str value)
{
    assert(request->query_count < S3_PAIRS_MAX);
    request->query[request->query_count++] =
        (struct sigv4_pair){.name = str_of(name), .value = value};
}

void s3_add_header(struct s3_request *request, const char *name, struct str value)
{
    assert(request->headers_count < S3_PAIRS_MAX);
    assert(value.len > 0);
    request->headers[request->headers_count++] =
        (struct sigv4_pair){.name = str_of(name), .value = value};
}

static const char *payload_hex(const struct s3_request *request)
{
    static const char of_nothing[] =
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    return request->payload_sha256_hex == NULL ? of_nothing : request->payload_sha256_hex;
}

/* All headers that are signed, sorted by name. */
static size_t collect_headers(const struct store_s3 *s3, const struct s3_request *request,
                              const char *amz_date, struct sigv4_pair headers[HEADERS_MAX])
{
    size_t count = 0;
    headers[count++] = (struct sigv4_pair){STR("host"), str_of(s3->host)};
    headers[count++] = (struct sigv4_pair){STR("x-amz-date"), str_of(amz_date)};
    headers[count++] =
        (struct sigv4_pair){STR("x-amz-content-sha256"), str_of(payload_hex(request))};
    if (s3->session_token[0] != '\0') {
        headers[count++] =
            (struct sigv4_pair){STR("x-amz-security-token"), str_of(s3->session_token)};
    }
    for (size_t i = 0; i < request->headers_count; i++) {
        headers[count++] = request->headers[i];
    }
    sigv4_sort(headers, count);
    return count;
}

static void append_path(struct buf *buf, const struct store_s3 *s3, struct str key)
{
    struct str prefix = str_of(s3->path_prefix);
    if (key.ptr == NULL && prefix.len > 1) {
        prefix.len--; /* the bucket itself, without a slash behind it */
    }
    buf_append(buf, prefix);
    store_append_encoded(buf, key, true);
}

/* Header lines one after the other, each with its NUL; the Host line is left to the HTTP client. */
static size_t append_lines(struct buf *lines, const struct sigv4_pair *headers, size_t count,
                           size_t offsets[HEADERS_MAX + 1])
{
    size_t lines_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (str_equal(headers[i].name, STR("host"))) {
            continue;
        }
        offsets[lines_count++] = lines->len;
        buf_append(lines, headers[i].name);
        buf_append_text(lines, ": ");
        buf_append(lines, headers[i].value);
        buf_append_byte(lines, '\0');
    }
    return lines_count;
}

static void finish_secret(struct buf *buf)
{
    if (buf->ptr != NULL) {
        mem_wipe(buf->ptr, buf->capacity);
    }
    buf_finish(buf);
}

bool s3_perform(struct store_s3 *s3, const struct s3_request *request, struct cancel *cancel,
                struct net_response *ret_response, struct err *err)
{
    CLEANUP(buf_finish) struct buf path;
    CLEANUP(buf_finish) struct buf query;
    CLEANUP(buf_finish) struct buf url;
    CLEANUP(finish_secret) struct buf lines;
    buf_init(&path, LINES_BYTES_MAX);
    buf_init(&query, LINES_BYTES_MAX);
    buf_init(&url, LINES_BYTES_MAX);
    buf_init(&lines, LINES_BYTES_MAX);
    *ret_response = (struct net_response){0};

    char amz_date[CLOCK_ISO_SIZE];
    clock_format_amz(clock_wall_ms() + atomic_load(&s3->clock_offset_ms), amz_date);
    struct sigv4_pair headers[HEADERS_MAX];
    size_t count = collect_headers(s3, request, amz_date, headers);
    append_path(&path, s3, request->key);
    sigv4_append_query(&query, request->query, request->query_count);
    buf_append_format(&url, "%s%s%s%s", s3->origin, buf_str(&path).ptr, query.len > 0 ? "?" : "",
                      buf_str(&query).ptr);

    size_t offsets[HEADERS_MAX + 1];
    size_t lines_count = append_lines(&lines, headers, count, offsets);
    offsets[lines_count++] = lines.len;
    buf_append_text(&lines, "Authorization: ");
    sigv4_append_authorization(&lines,
                               &(struct sigv4_keys){.access_key = str_of(s3->access_key),
                                                    .secret_key = str_of(s3->secret_key),
                                                    .region = str_of(s3->region)},
                               &(struct sigv4_request){.method = request->method,
                                                       .path = buf_str(&path),
                                                       .query = buf_str(&query),
                                                       .headers = headers,
                                                       .headers_count = count,
                                                       .payload_sha256_hex = payload_hex(request),
                                                       .amz_date = amz_date});
    if (buf_failed(&path) || buf_failed(&query) || buf_failed(&url) || buf_failed(&lines)) {
        return err_set(err, ERR_INVALID, "the request to the store is too long");
    }
    const char *header_lines[HEADERS_MAX + 1];
    for (size_t i = 0; i < lines_count; i++) {
        header_lines[i] = lines.ptr + offsets[i];
    }
    const struct net_request sent = {
        .method = request->method,
        .url = url.ptr,
        .headers = header_lines,
        .headers_count = lines_count,
        .body = request->body,
        .body_bytes_max = request->body_bytes_max,
        .into_fd = request->into_file ? request->into_fd : -1,
        .into_offset = request->into_offset,
        .first_byte_timeout_ms = request->first_byte_timeout_ms,
        .own = s3->own,
        .endpoint_host = s3->endpoint_host,
    };
    bool answered = net_perform(s3->net, &sent, cancel, ret_response, err);
    bool body_sent = request->body != NULL && ret_response->request_sent;
    store_count_bytes(ret_response->body_size, body_sent ? request->body->size : 0);
    return answered;
}
