/* Objects above the size of one put. The upload carries a random id, so that a completion whose
 * answer was lost can be told from somebody else's object by looking at what is under the key. */
#include "store_s3.h"
#include "store_xml.h"

#include "clock.h"
#include "digest.h"
#include "mem.h"

#include <stdio.h>

enum {
    PARTS_MAX = 10000,
    PART_BYTES_MIN = S3_SINGLE_PUT_BYTES_MAX,
    PART_BYTES_STEP = 1024 * 1024,
    UPLOAD_ID_LEN_MAX = 2048,
    COMPLETION_BYTES_MAX = 4 * 1024 * 1024,
    ABORT_TIME_MS = 5000,
};

struct upload {
    struct store_s3 *s3;
    struct str key;
    const struct store_source *source;
    const struct store_put_options *options;
    struct buf upload_id;
    struct buf completion; /* the document that names all parts */
    char id[S3_ID_SIZE];
};

/* At least 16 MiB, in whole MiB, and large enough for at most 10,000 parts. */
static uint64_t choose_part_size(uint64_t size)
{
    uint64_t needed = (size + PARTS_MAX - 1) / PARTS_MAX;
    needed = (needed + PART_BYTES_STEP - 1) / PART_BYTES_STEP * PART_BYTES_STEP;
    return needed < PART_BYTES_MIN ? PART_BYTES_MIN : needed;
}

static bool take_upload_id(void *context, struct str parent, struct str name, struct str text,
                           struct err *err)
{
    struct buf *upload_id = context;
    (void)err;
    if (str_equal(parent, STR("InitiateMultipartUploadResult")) &&
        str_equal(name, STR("UploadId"))) {
        buf_append(upload_id, text);
    }
    return true;
}

static bool begin(struct upload *upload, struct cancel *cancel, struct err *err)
{
    CLEANUP(net_response_finish) struct net_response response = {0};
    const char *content_type = upload->options->content_type;
    struct s3_request request = {
        .method = "POST",
        .key = upload->key,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
    };
    s3_add_query(&request, "uploads", STR(""));
    s3_add_header(&request, "content-type",
                  str_of(content_type == NULL ? "application/octet-stream" : content_type));
    s3_add_header(&request, "x-amz-meta-eider-id", str_of(upload->id));
    if (upload->options->content_id != NULL) {
        s3_add_header(&request, "x-amz-meta-content-id", str_of(upload->options->content_id));
    }
    if (!s3_call(upload->s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    if (response.status != 200) {
        return s3_fail(upload->s3, "POST", upload->key, &response, err);
    }
    if (!store_xml_read(buf_str(&response.body), take_upload_id, &upload->upload_id, err)) {
        return false;
    }
    if (upload->upload_id.len == 0 || buf_failed(&upload->upload_id)) {
        return err_set(err, ERR_STORE, "the store began no upload of \"%.*s\"",
                       STR_ARG(upload->key));
    }
    return true;
}

static bool send_part(struct upload *upload, unsigned number, uint64_t offset, uint64_t size,
                      struct cancel *cancel, struct err *err)
{
    const struct store_source *source = upload->source;
    struct store_payload payload;
    if (!store_digest_source(source, offset, size, &payload, err)) {
        return false;
    }
    const struct net_body body = {
        .bytes =
            source->fd >= 0 ? (struct str){0} : str_make(source->bytes.ptr + offset, (size_t)size),
        .fd = source->fd,
        .offset = offset,
        .size = size,
    };
    struct s3_request request = {
        .method = "PUT",
        .key = upload->key,
        .body = &body,
        .payload_sha256_hex = payload.sha256_hex,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
    };
    char digits[16];
    (void)snprintf(digits, sizeof(digits), "%u", number);
    s3_add_query(&request, "partNumber", str_of(digits));
    s3_add_query(&request, "uploadId", buf_str(&upload->upload_id));
    CLEANUP(net_response_finish) struct net_response response = {0};
    if (!s3_call(upload->s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    if (response.status != 200) {
        return s3_fail(upload->s3, "PUT", upload->key, &response, err);
    }
    if (response.etag[0] == '\0') {
        return err_set(err, ERR_STORE, "the store gave a part of \"%.*s\" no ETag",
                       STR_ARG(upload->key));
    }
    buf_append_format(&upload->completion, "<Part><PartNumber>%u</PartNumber><ETag>", number);
    store_xml_append_escaped(&upload->completion, str_of(response.etag));
    buf_append_text(&upload->completion, "</ETag></Part>");
    return true;
}

static bool send_parts(struct upload *upload, struct cancel *cancel, struct err *err)
{
    uint64_t size = upload->source->size;
    uint64_t part_size = choose_part_size(size);
    buf_append_text(&upload->completion, "<CompleteMultipartUpload "
                                         "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    unsigned number = 1;
    for (uint64_t offset = 0; offset < size; offset += part_size, number++) {
        uint64_t left = size - offset;
        if (!send_part(upload, number, offset, left < part_size ? left : part_size, cancel, err)) {
            return false;
        }
    }
    buf_append_text(&upload->completion, "</CompleteMultipartUpload>");
    return !buf_failed(&upload->completion) ||
           err_set(err, ERR_INTERNAL, "the list of parts is too long");
}

static bool take_final_etag(void *context, struct str parent, struct str name, struct str text,
                            struct err *err)
{
    struct store_object *object = context;
    (void)err;
    if (str_equal(parent, STR("CompleteMultipartUploadResult")) && str_equal(name, STR("ETag")) &&
        text.len < sizeof(object->etag)) {
        memcpy(object->etag, text.ptr, text.len);
        object->etag[text.len] = '\0';
    }
    return true;
}

/* Sets err and returns false on every doubt; ret_doubt then says whether the object may be
 * there. */
static bool complete(struct upload *upload, struct cancel *cancel, enum s3_doubt *ret_doubt,
                     struct store_object *ret_object, struct err *err)
{
    enum {
        FIRST_BYTE_MS = 10000,
        BYTES_PER_MS = 16 * 1024
    };
    struct sha256 digest = digest_sha256(buf_str(&upload->completion));
    char digest_text[DIGEST_SHA256_HEX_SIZE];
    digest_hex(digest.bytes, sizeof(digest.bytes), digest_text);
    const struct net_body body = {
        .bytes = buf_str(&upload->completion),
        .fd = -1,
        .size = upload->completion.len,
    };
    /* Some stores copy all parts before they answer. */
    struct s3_request request = {
        .method = "POST",
        .key = upload->key,
        .body = &body,
        .payload_sha256_hex = digest_text,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
        .first_byte_timeout_ms = FIRST_BYTE_MS + (long)(upload->source->size / BYTES_PER_MS),
        .error_in_200 = true,
    };
    s3_add_query(&request, "uploadId", buf_str(&upload->upload_id));
    s3_add_header(&request, "content-type", STR("application/xml"));
    if (upload->options->create_only) {
        s3_add_header(&request, "if-none-match", STR("*"));
    }
    CLEANUP(net_response_finish) struct net_response response = {0};
    if (!s3_call(upload->s3, &request, cancel, &response, ret_doubt, err)) {
        return false;
    }
    if (response.status != 200) {
        return s3_fail(upload->s3, "POST", upload->key, &response, err);
    }
    *ret_object = (struct store_object){.size = upload->source->size};
    return store_xml_read(buf_str(&response.body), take_final_etag, ret_object, err);
}

/* The status of the answer; 0 when there was none. */
static unsigned abort_upload(struct upload *upload, struct cancel *cancel)
{
    struct err ignored = {0};
    CLEANUP(net_response_finish) struct net_response response = {0};
    bool answered = s3_send_abort(upload->s3, upload->key, buf_str(&upload->upload_id), cancel,
                                  &response, &ignored);
    return answered ? response.status : 0;
}

/* After a failure, with time of its own, since the caller's may be over: our object may be there
 * after all; if not, the upload is aborted, and once that has succeeded no late completion can make
 * it appear. */
static bool settle(struct upload *upload, bool completing, enum s3_doubt doubt,
                   struct store_object *ret_object, struct err *err)
{
    struct cancel grace;
    cancel_init(&grace, clock_now_ms() + ABORT_TIME_MS);
    struct err other = {0};
    bool own = false;
    bool looked =
        !completing || s3_check_own(upload->s3, upload->key, upload->id, upload->source->size,
                                    &grace, &own, ret_object, &other);
    unsigned status = own ? 200 : abort_upload(upload, &grace);
    cancel_finish(&grace);
    bool unknown_upload = status == 404 && looked && doubt == S3_DOUBT_NONE;
    if (own || (status >= 200 && status < 300) || unknown_upload) {
        return own;
    }
    struct err cause = *err;
    (void)err_set(err, ERR_UNCERTAIN,
                  completing ? "it is not known whether \"%.*s\" was stored: %s"
                             : "parts of \"%.*s\" may be left behind in the store: %s",
                  STR_ARG(upload->key), cause.message);
    err_add_detail(err, "%s", cause.detail);
    return false;
}

static bool run_upload(struct upload *upload, struct cancel *cancel,
                       struct store_object *ret_object, struct err *err)
{
    if (!begin(upload, cancel, err)) {
        return false;
    }
    enum s3_doubt doubt = S3_DOUBT_NONE;
    bool sent = send_parts(upload, cancel, err);
    if (sent && complete(upload, cancel, &doubt, ret_object, err)) {
        return true;
    }
    return settle(upload, sent, doubt, ret_object, err);
}

bool s3_put_multipart(struct store_s3 *s3, struct str key, const struct store_source *source,
                      const struct store_put_options *options, struct cancel *cancel,
                      struct store_object *ret_object, struct err *err)
{
    struct upload upload = {.s3 = s3, .key = key, .source = source, .options = options};
    s3_make_id(upload.id);
    buf_init(&upload.upload_id, UPLOAD_ID_LEN_MAX);
    buf_init(&upload.completion, COMPLETION_BYTES_MAX);
    bool good = run_upload(&upload, cancel, ret_object, err);
    buf_finish(&upload.upload_id);
    buf_finish(&upload.completion);
    return good;
}
