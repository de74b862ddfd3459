/* store_s3.h - what the files of the S3 store share: one signed request, its repetition, and what
 * an answer means. Promise   s3_call gives a final answer: everything that may be worth another
 * attempt has had it. Errors    ERR_STORE, ERR_UNCERTAIN, ERR_TIMEOUT and ERR_CANCELLED when there
 * is no answer; an answer with a bad status is success for s3_call, and s3_fail turns it into an
 * error. */
#pragma once

#include "net.h"
#include "store_internal.h"
#include "store_sigv4.h"

#include <stdatomic.h>

enum {
    S3_PAIRS_MAX = 8,
    S3_ID_SIZE = 33,                   /* 32 hexadecimal digits and a NUL */
    S3_ANSWER_BYTES_MAX = 1024 * 1024, /* of XML */
    S3_SINGLE_PUT_BYTES_MAX = 16 * 1024 * 1024,
};

struct store_s3 {
    struct store base;
    struct net *net;
    char *origin;        /* http://host:port, the bucket in front of the host when virtual_hosted */
    char *host;          /* as in the Host header */
    char *endpoint_host; /* without bucket and port */
    bool own;
    char *path_prefix; /* what comes before the key: "/bucket/" or "/" */
    char *bucket;
    char *region;
    char *access_key;
    char *secret_key;
    char *session_token; /* "" for none */
    char *budget_name;
    atomic_llong clock_offset_ms; /* the store's clock less ours, learnt when it complains */
};

struct s3_request {
    const char *method;
    struct str key; /* NULL: the bucket itself */
    struct sigv4_pair query[S3_PAIRS_MAX];
    size_t query_count;
    struct sigv4_pair headers[S3_PAIRS_MAX]; /* names in lower case */
    size_t headers_count;
    const struct net_body *body;
    const char *payload_sha256_hex; /* NULL for that of no bytes */
    uint64_t body_bytes_max;
    bool into_file;
    int into_fd;
    uint64_t into_offset;
    long first_byte_timeout_ms; /* 0 for the default */
    bool error_in_200;          /* a 200 may carry an error document (CompleteMultipartUpload) */
};

/* Sets origin, host, path_prefix and budget_name. */
void s3_set_addresses(struct store_s3 *s3, const struct store_s3_options *options,
                      const struct store_endpoint *parts);

void s3_add_query(struct s3_request *request, const char *name, struct str value);
void s3_add_header(struct s3_request *request, const char *name, struct str value);

/* One attempt, which counts as nothing yet. */
bool s3_perform(struct store_s3 *s3, const struct s3_request *request, struct cancel *cancel,
                struct net_response *ret_response, struct err *err) MUST_CHECK;

/* Why a request that was not answered with success may have taken effect all the same. */
enum s3_doubt {
    S3_DOUBT_NONE,
    S3_DOUBT_FAILED, /* an attempt was answered with a 5xx: some stores keep the object */
    S3_DOUBT_LOST    /* an attempt was sent in full and its answer was lost */
};

/* Up to three. `ret_doubt` is the worst of all attempts: whatever the last answer is, it does not
 * tell whether an earlier attempt took effect. May be NULL. The response must be finished whatever
 * is returned. */
bool s3_call(struct store_s3 *s3, const struct s3_request *request, struct cancel *cancel,
             struct net_response *ret_response, enum s3_doubt *ret_doubt,
             struct err *err) MUST_CHECK;

/* The same without further attempts: for questions whose answer may be missing. */
bool s3_call_once(struct store_s3 *s3, const struct s3_request *request, struct cancel *cancel,
                  struct net_response *ret_response, struct err *err) MUST_CHECK;

/* The fields of an <Error> document, "" where there are none. */
struct s3_error {
    char code[64];
    char message[256];
    char region[64];
    char endpoint[256];
};

void s3_read_error(const struct net_response *response, struct s3_error *ret_error);
/* True for a body whose outermost element is <Error>. */
bool s3_is_error_document(const struct net_response *response);

/* Returns false with what an answer that is not a success means. `key` NULL: the bucket was asked.
 */
bool s3_fail(const struct store_s3 *s3, const char *method, struct str key,
             const struct net_response *response, struct err *err);

/* Is the object under key the one that carries our id? */
bool s3_check_own(struct store_s3 *s3, struct str key, const char *id, uint64_t size,
                  struct cancel *cancel, bool *ret_own, struct store_object *ret_object,
                  struct err *err) MUST_CHECK;

void s3_make_id(char id[static S3_ID_SIZE]);
void s3_copy_etag(struct store_object *object, const char *etag);

bool s3_put_multipart(struct store_s3 *s3, struct str key, const struct store_source *source,
                      const struct store_put_options *options, struct cancel *cancel,
                      struct store_object *ret_object, struct err *err) MUST_CHECK;

bool s3_list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
             struct cancel *cancel, struct err *err) MUST_CHECK;
bool s3_list_folders(struct store *store, struct str prefix, bool empty_too, store_visit_fn *visit,
                     void *context, struct cancel *cancel, struct err *err) MUST_CHECK;

/* ---- store_uploads.c ---- */
bool s3_visit_uploads(struct store *store, struct str prefix, store_visit_upload_fn *visit,
                      void *context, struct cancel *cancel, struct err *err) MUST_CHECK;
bool s3_abort_upload(struct store *store, struct str key, struct str id, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
/* The request alone; what the answer means is the caller's to say. */
bool s3_send_abort(struct store_s3 *s3, struct str key, struct str id, struct cancel *cancel,
                   struct net_response *ret_response, struct err *err) MUST_CHECK;
