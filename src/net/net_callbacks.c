/* What curl calls while a request is on its way: where a socket may go, the bytes of the request's
 * body, and the answer's headers and body. */
#include "net_internal.h"

#include "clock.h"

#include <errno.h>
#include <unistd.h>

enum {
    RESPONSE_HEADERS_BYTES_MAX = 64 * 1024
};

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct net_transfer *transfer = context;
    (void)purpose;
    if (!net_guard_permits(transfer->pass, &address->addr)) {
        transfer->address_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Called when the connection stands and the request is about to be sent. */
static int before_request(void *context, char *remote_ip, char *local_ip, int remote_port,
                          int local_port)
{
    struct net_transfer *transfer = context;
    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    transfer->connected = true;
    transfer->connected_ms = clock_now_ms();
    transfer->moved_ms = transfer->connected_ms;
    return CURL_PREREQFUNC_OK;
}

static size_t read_body(char *into, size_t size, size_t count, void *context)
{
    struct net_transfer *transfer = context;
    const struct net_body *body = transfer->request->body;
    uint64_t total = body == NULL ? 0 : body->size;
    uint64_t left = total - transfer->body_read;
    size_t wanted = left < size * count ? (size_t)left : size * count;
    if (wanted == 0) {
        return 0;
    }
    if (body->fd < 0) {
        memcpy(into, body->bytes.ptr + transfer->body_read, wanted);
        transfer->body_read += wanted;
        return wanted;
    }
    ssize_t got;
    do {
        got = pread(body->fd, into, wanted, (off_t)(body->offset + transfer->body_read));
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        transfer->gave_up = true;
        (void)err_set_errno(transfer->err, ERR_INTERNAL, got < 0 ? errno : EIO,
                            "a file to be sent cannot be read");
        return CURL_READFUNC_ABORT;
    }
    transfer->body_read += (uint64_t)got;
    return (size_t)got;
}

/* Curl repeats a request by itself when a kept connection turns out to be closed before any answer.
 */
static int rewind_body(void *context, curl_off_t offset, int origin)
{
    struct net_transfer *transfer = context;
    const struct net_body *body = transfer->request->body;
    if (origin != SEEK_SET || offset < 0 || body == NULL || (uint64_t)offset > body->size) {
        return CURL_SEEKFUNC_FAIL;
    }
    transfer->body_read = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

struct header_target {
    const char *name;
    size_t offset;
    size_t size;
};

#define TARGET(name, member)                                                                    \
    {                                                                                           \
        name, offsetof(struct net_response, member), sizeof(((struct net_response *)0)->member) \
    }
/* clang-format off */
static const struct header_target header_targets[] = {
    TARGET("etag",                 etag),
    TARGET("date",                 date),
    TARGET("content-range",        content_range),
    TARGET("content-type",         content_type),
    TARGET("retry-after",          retry_after),
    TARGET("x-amz-checksum-crc32", checksum_crc32),
    TARGET("location",             location),
    TARGET("x-amz-meta-eider-id",  meta_eider_id),
    TARGET("x-amz-meta-content-id", meta_content_id),
};
/* clang-format on */
#undef TARGET

/* A value that does not fit is left out: half an ETag would be a wrong one. */
static void keep_header(struct net_response *response, struct str line)
{
    struct str name = str_first(line, str_find_byte(line, ':'));
    if (name.len == line.len) {
        return;
    }
    struct str value = str_trim(str_from(line, name.len + 1));
    for (size_t i = 0; i < COUNT_OF(header_targets); i++) {
        const struct header_target *target = &header_targets[i];
        if (str_equal_nocase(name, str_of(target->name)) && value.len < target->size) {
            char *into = (char *)response + target->offset;
            memcpy(into, value.ptr, value.len);
            into[value.len] = '\0';
        }
    }
}

static void forget_headers(struct net_response *response)
{
    for (size_t i = 0; i < COUNT_OF(header_targets); i++) {
        *((char *)response + header_targets[i].offset) = '\0';
    }
}

static size_t take_header(char *bytes, size_t size, size_t count, void *context)
{
    struct net_transfer *transfer = context;
    struct str line = str_make(bytes, size * count);
    if (line.len > RESPONSE_HEADERS_BYTES_MAX - transfer->headers_size) {
        transfer->gave_up = true;
        (void)err_set(transfer->err, ERR_CORRUPT, "%s sent headers of more than %d bytes",
                      transfer->origin, (int)RESPONSE_HEADERS_BYTES_MAX);
        return 0;
    }
    transfer->headers_size += line.len;
    if (!transfer->answer_begun) {
        transfer->answer_begun = true;
        transfer->answer_begun_ms = clock_now_ms();
    }
    transfer->header_ended = transfer->header_ended || str_trim(line).len == 0;
    if (str_starts_nocase(line, STR("HTTP/"))) {
        long status = 0;
        (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
        transfer->response->status = (unsigned)status;
        transfer->header_ended = false;
        forget_headers(transfer->response); /* those of a 100 before the real answer */
    } else {
        keep_header(transfer->response, line);
    }
    return line.len;
}

static bool write_into_file(struct net_transfer *transfer, struct str bytes)
{
    uint64_t offset = transfer->request->into_offset + transfer->response->body_size;
    while (bytes.len > 0) {
        ssize_t written = pwrite(transfer->request->into_fd, bytes.ptr, bytes.len, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return err_set_errno(transfer->err, ERR_UNAVAILABLE, errno,
                                 "the server cannot write to its disk");
        }
        bytes = str_from(bytes, (size_t)written);
        offset += (uint64_t)written;
    }
    return true;
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct net_transfer *transfer = context;
    struct net_response *response = transfer->response;
    struct str bytes = str_make(data, size * count);
    bool good = response->status >= 200 && response->status < 300;
    uint64_t limit = transfer->request->body_bytes_max;
    if (!good && limit < NET_ERROR_BODY_BYTES_MAX) {
        limit = NET_ERROR_BODY_BYTES_MAX;
    }
    if (bytes.len > limit - response->body_size) {
        transfer->gave_up = true;
        response->body_size += bytes.len;
        (void)err_set(transfer->err, ERR_CORRUPT, "%s sent a body of more than %llu bytes",
                      transfer->origin, (unsigned long long)limit);
        return 0;
    }
    if (good && transfer->request->into_fd >= 0) {
        transfer->gave_up = !write_into_file(transfer, bytes);
    } else {
        buf_append(&response->body, bytes);
        if (buf_failed(&response->body)) {
            transfer->gave_up = true;
            (void)err_set(transfer->err, ERR_UNAVAILABLE, "the server is short of memory");
        }
    }
    response->body_size += bytes.len;
    return transfer->gave_up ? 0 : bytes.len;
}

void net_set_callbacks(struct net_transfer *transfer)
{
    CURL *easy = transfer->easy;
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    (void)curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_request);
    (void)curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_body);
    (void)curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_body);
    (void)curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
}
