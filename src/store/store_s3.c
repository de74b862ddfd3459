#include "store_s3.h"
#include "store_probe_internal.h"

#include "clock.h"
#include "digest.h"
#include "mem.h"

#include <stdio.h>

/* --- opening and closing --- */

static char *copy_str(struct str text)
{
    return mem_copy_bytes(text.len == 0 ? "" : text.ptr, text.len);
}

static void free_secret(char *text)
{
    if (text != NULL) {
        mem_wipe(text, strlen(text));
    }
    mem_free(text);
}

static void close_s3(struct store *store)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    mem_free(s3->origin);
    mem_free(s3->host);
    mem_free(s3->endpoint_host);
    mem_free(s3->path_prefix);
    mem_free(s3->bucket);
    mem_free(s3->region);
    mem_free(s3->access_key);
    free_secret(s3->secret_key);
    free_secret(s3->session_token);
    mem_free(s3->budget_name);
    mem_free(s3);
}

/* These end in header lines, so nothing but visible ASCII may be in them. */
static bool check_visible(struct str text, size_t len_max, const char *what, struct err *err)
{
    bool good = text.len <= len_max;
    for (size_t i = 0; good && i < text.len; i++) {
        good = text.ptr[i] > ' ' && text.ptr[i] <= '~';
    }
    return good || err_set(err, ERR_INVALID, "the %s of the store is not usable", what);
}

static bool check_options(const struct store_s3_options *options, struct err *err)
{
    enum {
        TOKEN_LEN_MAX = 16 * 1024
    };
    if (options->access_key.len == 0 || options->secret_key.len == 0) {
        return err_set(err, ERR_INVALID, "the store needs an access key and a secret key");
    }
    if (options->secret_key.len > 1024) {
        return err_set(err, ERR_INVALID, "the secret key of the store is not usable");
    }
    return store_check_bucket(options->bucket, err) &&
           check_visible(options->region, 64, "region", err) &&
           check_visible(options->access_key, 256, "access key", err) &&
           check_visible(options->session_token, TOKEN_LEN_MAX, "session token", err);
}

static const struct store_operations operations_s3;

struct store *store_open_s3(struct net *net, const struct store_s3_options *options,
                            struct err *err)
{
    struct store_endpoint parts;
    if (!store_split_endpoint(options->endpoint, &parts, err) || !check_options(options, err)) {
        return NULL;
    }
    struct store_s3 *s3 = mem_alloc(sizeof(*s3));
    s3->base.operations = &operations_s3;
    s3->net = net;
    s3->own = options->own;
    s3->bucket = copy_str(options->bucket);
    s3->region = copy_str(options->region.len == 0 ? STR("us-east-1") : options->region);
    s3->access_key = copy_str(options->access_key);
    s3->secret_key = copy_str(options->secret_key);
    s3->session_token = copy_str(options->session_token);
    s3_set_addresses(s3, options, &parts);
    atomic_init(&s3->clock_offset_ms, 0);
    return &s3->base;
}

static void append_url(const struct store *store, struct str key, struct buf *buf)
{
    const struct store_s3 *s3 = (const struct store_s3 *)store;
    buf_append_format(buf, "s3://%s/", s3->bucket);
    buf_append(buf, key);
}

static void append_identity(const struct store *store, struct buf *into)
{
    const struct store_s3 *s3 = (const struct store_s3 *)store;
    buf_append_format(into, "%s%s %s", s3->origin, s3->path_prefix, s3->bucket);
}

/* --- reading --- */

void s3_copy_etag(struct store_object *object, const char *etag)
{
    /* One that does not fit is as good as none; a part of it would never match. */
    size_t len = strlen(etag);
    len = len < sizeof(object->etag) ? len : 0;
    memcpy(object->etag, etag, len);
    object->etag[len] = '\0';
}

static bool is_success(const struct net_response *response)
{
    return response->status >= 200 && response->status < 300;
}

/* An answer to HEAD has no body: whether the object, the bucket or the access key is unknown to the
 * store, and what it has against a token, is learnt by asking for the first byte. */
static bool explain_head(struct store_s3 *s3, struct str key, const struct net_response *refused,
                         struct cancel *cancel, struct err *err)
{
    CLEANUP(net_response_finish) struct net_response response = {0};
    struct s3_request request = {
        .method = "GET",
        .key = key,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
    };
    s3_add_header(&request, "range", STR("bytes=0-0"));
    bool explains = (refused->status == 404 || refused->status == 403 || refused->status == 400) &&
                    s3_call_once(s3, &request, cancel, &response, err) && response.status >= 400 &&
                    response.status < 500 && response.status != 416;
    return explains ? s3_fail(s3, "GET", key, &response, err)
                    : s3_fail(s3, "HEAD", key, refused, err);
}

static bool head(struct store *store, struct str key, struct cancel *cancel,
                 struct store_object *ret_object, struct err *err)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    CLEANUP(net_response_finish) struct net_response response = {0};
    const struct s3_request request = {.method = "HEAD", .key = key};
    if (!s3_call(s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    if (!is_success(&response)) {
        return explain_head(s3, key, &response, cancel, err);
    }
    if (!response.has_content_length) {
        return err_set(err, ERR_STORE, "the store does not tell the size of \"%.*s\"",
                       STR_ARG(key));
    }
    ret_object->size = response.content_length;
    s3_copy_etag(ret_object, response.etag);
    static_assert(sizeof(ret_object->content_id) == sizeof(response.meta_content_id), "a copy");
    memcpy(ret_object->content_id, response.meta_content_id, sizeof(ret_object->content_id));
    return true;
}

static bool get(struct store *store, struct str key, struct buf *into, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    CLEANUP(net_response_finish) struct net_response response = {0};
    const struct s3_request request = {
        .method = "GET",
        .key = key,
        .body_bytes_max = into->size_max - into->len,
    };
    if (!s3_call(s3, &request, cancel, &response, NULL, err)) {
        if (is_success(&response) && response.body_size > request.body_bytes_max) {
            return err_set(err, ERR_TOO_LARGE, "the object \"%.*s\" is larger than %zu bytes",
                           STR_ARG(key), into->size_max - into->len);
        }
        return false;
    }
    if (response.status != 200) {
        return s3_fail(s3, "GET", key, &response, err);
    }
    buf_append(into, buf_str(&response.body));
    if (buf_failed(into)) {
        return err_set(err, ERR_TOO_LARGE, "the object \"%.*s\" is too large", STR_ARG(key));
    }
    ret_object->size = response.body_size;
    s3_copy_etag(ret_object, response.etag);
    return true;
}

/* 206 with exactly the range asked for, or 200 with an object that is exactly that range. */
static bool check_range(const struct net_response *response, struct str key, const char *if_match,
                        uint64_t offset, uint64_t size, struct err *err)
{
    char expected[64];
    int len = snprintf(expected, sizeof(expected), "bytes %llu-%llu/", (unsigned long long)offset,
                       (unsigned long long)(offset + size - 1));
    bool whole = response->status == 200 && offset == 0;
    bool part = response->status == 206 &&
                str_starts_nocase(str_of(response->content_range), str_make(expected, (size_t)len));
    if ((!whole && !part) || response->body_size != size) {
        return err_set(err, ERR_STORE,
                       "the store sent another range of \"%.*s\" than was asked for", STR_ARG(key));
    }
    /* Some servers ignore If-Match. */
    if (if_match != NULL && response->etag[0] != '\0' && strcmp(response->etag, if_match) != 0) {
        return err_set(err, ERR_CONFLICT, "the object \"%.*s\" has changed", STR_ARG(key));
    }
    return true;
}

static bool get_range(struct store *store, struct str key, const char *if_match, uint64_t offset,
                      uint64_t size, int into_fd, uint64_t into_offset, struct cancel *cancel,
                      struct err *err)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    CLEANUP(net_response_finish) struct net_response response = {0};
    struct s3_request request = {
        .method = "GET",
        .key = key,
        .body_bytes_max = size,
        .into_file = true,
        .into_fd = into_fd,
        .into_offset = into_offset,
    };
    char range[64];
    (void)snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)offset,
                   (unsigned long long)(offset + size - 1));
    s3_add_header(&request, "range", str_of(range));
    if (if_match != NULL && if_match[0] != '\0') {
        s3_add_header(&request, "if-match", str_of(if_match));
    }
    if (!s3_call(s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    if (!is_success(&response)) {
        return s3_fail(s3, "GET", key, &response, err);
    }
    return check_range(&response, key, if_match, offset, size, err);
}

static bool open_direct(struct store *store, struct str key, int *ret_fd,
                        struct store_object *ret_object, struct err *err)
{
    (void)store;
    (void)key;
    (void)ret_object;
    (void)err;
    *ret_fd = -1;
    return true;
}

/* --- writing --- */

void s3_make_id(char id[static S3_ID_SIZE])
{
    unsigned char bytes[(S3_ID_SIZE - 1) / 2];
    digest_random(bytes, sizeof(bytes));
    digest_hex(bytes, sizeof(bytes), id);
}

bool s3_check_own(struct store_s3 *s3, struct str key, const char *id, uint64_t size,
                  struct cancel *cancel, bool *ret_own, struct store_object *ret_object,
                  struct err *err)
{
    CLEANUP(net_response_finish) struct net_response response = {0};
    const struct s3_request request = {.method = "HEAD", .key = key};
    *ret_own = false;
    if (!s3_call(s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    if (response.status == 404) {
        return true;
    }
    if (!is_success(&response)) {
        return s3_fail(s3, "HEAD", key, &response, err);
    }
    *ret_own = strcmp(response.meta_eider_id, id) == 0 && response.has_content_length &&
               response.content_length == size;
    ret_object->size = response.content_length;
    s3_copy_etag(ret_object, response.etag);
    return true;
}

static void append_base64_u32(char text[static 9], uint32_t value)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t bits = (uint64_t)value << 16; /* six groups of six bits; the last two are padding */
    for (unsigned i = 0; i < 6; i++) {
        text[i] = letters[bits >> (42 - 6 * i) & 63];
    }
    memcpy(text + 6, "==", 3);
}

/* Looks whether the put took effect, with time of its own, since the caller's may be over. */
static bool look(struct store_s3 *s3, struct str key, const char *id, uint64_t size, bool *ret_own,
                 struct store_object *ret_object, struct err *err)
{
    enum {
        LOOK_TIME_MS = 5000
    };
    struct cancel grace;
    cancel_init(&grace, clock_now_ms() + LOOK_TIME_MS);
    bool looked = s3_check_own(s3, key, id, size, &grace, ret_own, ret_object, err);
    cancel_finish(&grace);
    return looked;
}

/* The last word on a put whose answers do not say whether it took effect: only what is under the
 * key can, and only a create-only put has an id to know it by. `err` holds why the put failed; it
 * stands when the object is not there, unless an answer was lost in the connection: then the put
 * may still be on its way. */
static bool settle_put(struct store_s3 *s3, struct str key, const char *id, uint64_t size,
                       enum s3_doubt doubt, struct cancel *cancel, struct store_object *ret_object,
                       struct err *err)
{
    bool own = false;
    bool has_id = id[0] != '\0';
    struct err other = {0};
    bool looked = has_id && look(s3, key, id, size, &own, ret_object, &other);
    if (own) {
        return true;
    }
    bool stands =
        doubt == S3_DOUBT_FAILED ? looked || !has_id : looked && !cancel_check(cancel, err);
    if (stands) {
        return false;
    }
    struct err cause = *err;
    (void)err_set(err, ERR_UNCERTAIN, "it is not known whether \"%.*s\" was stored: %s",
                  STR_ARG(key), cause.message);
    err_add_detail(err, "%s", cause.detail);
    return false;
}

/* The key is taken. That may be by an attempt of this very put, whose answer was lost here or in
 * the connection. */
static bool settle_conflict(struct store_s3 *s3, struct str key, const char *id, uint64_t size,
                            struct store_object *ret_object, struct err *err)
{
    bool own = false;
    if (!look(s3, key, id, size, &own, ret_object, err)) {
        struct err cause = *err;
        return err_set(err, ERR_UNCERTAIN, "it is not known who stored \"%.*s\": %s", STR_ARG(key),
                       cause.message);
    }
    return own || err_set(err, ERR_CONFLICT, "the object \"%.*s\" exists already", STR_ARG(key));
}

static bool finish_put(struct store_s3 *s3, struct str key, const struct net_response *response,
                       const char *crc, uint64_t size, struct store_object *ret_object,
                       struct err *err)
{
    if (!is_success(response)) {
        return s3_fail(s3, "PUT", key, response, err);
    }
    if (response->checksum_crc32[0] != '\0' && strcmp(response->checksum_crc32, crc) != 0) {
        return err_set(err, ERR_STORE, "the store has another checksum for \"%.*s\"", STR_ARG(key));
    }
    ret_object->size = size;
    s3_copy_etag(ret_object, response->etag);
    return true;
}

static bool put_single(struct store_s3 *s3, struct str key, const struct store_source *source,
                       const struct store_put_options *options, struct cancel *cancel,
                       struct store_object *ret_object, struct err *err)
{
    struct store_payload payload;
    if (!store_digest_source(source, 0, source->size, &payload, err)) {
        return false;
    }
    const struct net_body body = {.bytes = source->bytes, .fd = source->fd, .size = source->size};
    struct s3_request request = {
        .method = "PUT",
        .key = key,
        .body = &body,
        .payload_sha256_hex = payload.sha256_hex,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
    };
    char crc[9];
    append_base64_u32(crc, payload.crc32);
    char id[S3_ID_SIZE] = "";
    s3_add_header(
        &request, "content-type",
        str_of(options->content_type == NULL ? "application/octet-stream" : options->content_type));
    s3_add_header(&request, "x-amz-checksum-crc32", str_of(crc));
    if (options->create_only) {
        s3_make_id(id);
        s3_add_header(&request, "if-none-match", STR("*"));
        s3_add_header(&request, "x-amz-meta-eider-id", str_of(id));
    }
    if (options->content_id != NULL) {
        s3_add_header(&request, "x-amz-meta-content-id", str_of(options->content_id));
    }
    CLEANUP(net_response_finish) struct net_response response = {0};
    enum s3_doubt doubt = S3_DOUBT_NONE;
    bool answered = s3_call(s3, &request, cancel, &response, &doubt, err);
    if (answered && response.status == 412 && options->create_only) {
        return settle_conflict(s3, key, id, source->size, ret_object, err);
    }
    bool good = answered && finish_put(s3, key, &response, crc, source->size, ret_object, err);
    if (good || doubt == S3_DOUBT_NONE) {
        return good;
    }
    return settle_put(s3, key, id, source->size, doubt, cancel, ret_object, err);
}

static bool put(struct store *store, struct str key, const struct store_source *source,
                const struct store_put_options *options, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    static const struct store_put_options defaults = {0};
    options = options == NULL ? &defaults : options;
    return source->size > S3_SINGLE_PUT_BYTES_MAX
               ? s3_put_multipart(s3, key, source, options, cancel, ret_object, err)
               : put_single(s3, key, source, options, cancel, ret_object, err);
}

static bool delete_key(struct store *store, struct str key, struct cancel *cancel, struct err *err)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    CLEANUP(net_response_finish) struct net_response response = {0};
    const struct s3_request request = {
        .method = "DELETE",
        .key = key,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
    };
    if (!s3_call(s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    struct s3_error error;
    s3_read_error(&response, &error);
    bool gone =
        response.status == 404 && (error.code[0] == '\0' || strcmp(error.code, "NoSuchKey") == 0);
    return gone || is_success(&response) || s3_fail(s3, "DELETE", key, &response, err);
}

static const struct store_operations operations_s3 = {
    .counts_itself = true,
    .keeps_content_id = true,
    .close = close_s3,
    .append_url = append_url,
    .append_identity = append_identity,
    .put = put,
    .head = head,
    .get_range = get_range,
    .get = get,
    .open_direct = open_direct,
    .list = s3_list,
    .list_folders = s3_list_folders,
    .delete_key = delete_key,
    .visit_uploads = s3_visit_uploads,
    .abort_upload = s3_abort_upload,
    .probe_reach = s3_probe_reach,
    .probe_conditions = s3_probe_conditions,
};
