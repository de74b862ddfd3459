/* What the probe asks of S3 alone: can the bucket be reached with these keys, and if not, why; are
 * conditions and checksums looked at. */
#include "store_probe_internal.h"
#include "store_s3.h"

#include <stdio.h>

#define TEXT "compared and replaced\n"

static bool succeeded(const struct net_response *response)
{
    return response->status >= 200 && response->status < 300;
}

/* --- reaching the bucket --- */

static enum store_cause cause_of_failure(enum net_failure failure)
{
    switch (failure) {
    case NET_FAILURE_RESOLVE:
        return STORE_CAUSE_HOST_UNKNOWN;
    case NET_FAILURE_CONNECT:
        return STORE_CAUSE_NO_CONNECTION;
    case NET_FAILURE_TRUST:
        return STORE_CAUSE_NOT_TRUSTED;
    case NET_FAILURE_TLS:
        return STORE_CAUSE_NO_TLS;
    case NET_FAILURE_ADDRESS:
        return STORE_CAUSE_FORBIDDEN;
    case NET_FAILURE_NONE:
    case NET_FAILURE_LOST:
        break;
    }
    return STORE_CAUSE_SILENT;
}

/* clang-format off */
static const struct {
    const char *code;
    enum store_cause cause;
} causes[] = {
    { "NoSuchBucket",                 STORE_CAUSE_BUCKET_MISSING },
    { "AuthorizationHeaderMalformed", STORE_CAUSE_REGION },
    { "PermanentRedirect",            STORE_CAUSE_REGION },
    { "TemporaryRedirect",            STORE_CAUSE_REGION },
    { "IllegalLocationConstraintException", STORE_CAUSE_REGION },
    { "InvalidAccessKeyId",           STORE_CAUSE_KEY_UNKNOWN },
    { "XAdminUserNotFound",           STORE_CAUSE_KEY_UNKNOWN },
    { "SignatureDoesNotMatch",        STORE_CAUSE_SECRET_WRONG },
    { "ExpiredToken",                 STORE_CAUSE_TOKEN_EXPIRED },
    { "TokenRefreshRequired",         STORE_CAUSE_TOKEN_EXPIRED },
    { "InvalidToken",                 STORE_CAUSE_TOKEN_WRONG },
    { "InvalidTokenId",               STORE_CAUSE_TOKEN_WRONG },
    { "InvalidClientTokenId",         STORE_CAUSE_TOKEN_WRONG },
    { "RequestTimeTooSkewed",         STORE_CAUSE_CLOCK },
    { "AccessDenied",                 STORE_CAUSE_DENIED },
    { "AllAccessDisabled",            STORE_CAUSE_DENIED },
};
/* clang-format on */

static enum store_cause cause_of_answer(const struct net_response *response)
{
    struct s3_error error;
    s3_read_error(response, &error);
    for (size_t i = 0; i < COUNT_OF(causes); i++) {
        if (strcmp(causes[i].code, error.code) == 0) {
            return causes[i].cause;
        }
    }
    if (response->status >= 300 && response->status < 400) {
        return STORE_CAUSE_REGION;
    }
    return error.code[0] == '\0' && response->status < 500 ? STORE_CAUSE_NOT_S3
                                                           : STORE_CAUSE_FAILED;
}

/* The detail is what the store or the HTTP client has said; where the cause is plain it only
 * repeats the message. */
static bool fail_reach(struct store_probe *probe, enum store_cause cause, const struct err *err)
{
    bool plain = (cause >= STORE_CAUSE_BUCKET_MISSING && cause <= STORE_CAUSE_TOKEN_WRONG) ||
                 cause == STORE_CAUSE_HOST_UNKNOWN || cause == STORE_CAUSE_NO_CONNECTION ||
                 cause == STORE_CAUSE_NOT_S3;
    bool more = !plain && err->detail[0] != '\0';
    probe_tell(probe, "reach", STORE_PROBE_FAIL, cause, "%s%s%s", err->message, more ? "; " : "",
               more ? err->detail : "");
    return false;
}

static void tell_clock(struct store_s3 *s3, struct store_probe *probe)
{
    long long offset_s = atomic_load(&s3->clock_offset_ms) / 1000;
    if (offset_s != 0) {
        probe_tell(probe, "clock", STORE_PROBE_WARN, STORE_CAUSE_CLOCK,
                   "this machine's clock is %lld seconds %s the store's; signatures are made with "
                   "the store's time",
                   offset_s < 0 ? -offset_s : offset_s, offset_s < 0 ? "ahead of" : "behind");
    }
}

bool s3_probe_reach(struct store *store, struct store_probe *probe)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    CLEANUP(net_response_finish) struct net_response response = {0};
    struct probe_key key = probe_key_of(probe, "object");
    struct s3_request request = {.method = "GET", .body_bytes_max = S3_ANSWER_BYTES_MAX};
    struct err err = {0};
    bool in_host = s3->path_prefix[1] == '\0';
    s3_add_query(&request, "list-type", STR("2"));
    s3_add_query(&request, "max-keys", STR("1"));
    s3_add_query(&request, "prefix", str_of(key.text));
    if (!s3_call(s3, &request, probe->cancel, &response, NULL, &err)) {
        return fail_reach(probe,
                          err.kind == ERR_FORBIDDEN ? STORE_CAUSE_FORBIDDEN
                                                    : cause_of_failure(response.failure),
                          &err);
    }
    if (!succeeded(&response)) {
        enum store_cause cause = cause_of_answer(&response);
        (void)s3_fail(s3, "GET", (struct str){0}, &response, &err);
        if (cause == STORE_CAUSE_NOT_S3) {
            (void)err_set(&err, ERR_STORE, "%s answers with status %u, and not as S3 does",
                          s3->origin, response.status);
        }
        return fail_reach(probe, cause, &err);
    }
    if (str_find(buf_str(&response.body), STR("ListBucketResult")) == response.body.len) {
        (void)err_set(&err, ERR_STORE, "%s answers, but not with a list of the bucket's objects",
                      s3->origin);
        return fail_reach(probe, in_host ? STORE_CAUSE_HOST_STYLE : STORE_CAUSE_NOT_S3, &err);
    }
    probe_tell(probe, "reach", STORE_PROBE_OK, STORE_CAUSE_NONE,
               "%s answers for the bucket \"%s\" (region %s, bucket in the %s)", s3->origin,
               s3->bucket, s3->region, in_host ? "host name" : "path");
    tell_clock(s3, probe);
    return true;
}

/* --- conditions --- */

/* Stores a text under a condition. `damaged` sends the checksum of other bytes. Returns the status,
 * 0 for no answer. */
static unsigned put_if(struct store_s3 *s3, struct store_probe *probe, const char *name,
                       const char *etag, bool damaged, struct err *err)
{
    CLEANUP(net_response_finish) struct net_response response = {0};
    const struct store_source source = {.bytes = STR(TEXT), .fd = -1, .size = sizeof(TEXT) - 1};
    const struct net_body body = {.bytes = source.bytes, .fd = -1, .size = source.size};
    struct store_payload payload;
    struct probe_key key = probe_key_of(probe, name);
    if (!store_digest_source(&source, 0, source.size, &payload, err)) {
        return 0;
    }
    struct s3_request request = {
        .method = "PUT",
        .key = str_of(key.text),
        .body = &body,
        .payload_sha256_hex = payload.sha256_hex,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
    };
    if (etag != NULL) {
        s3_add_header(&request, "if-match", str_of(etag));
    }
    if (damaged) {
        s3_add_header(&request, "x-amz-checksum-crc32", STR("AAAAAA=="));
    }
    bool answered = s3_perform(s3, &request, probe->cancel, &response, err);
    if (answered && !succeeded(&response)) {
        (void)s3_fail(s3, "PUT", str_of(key.text), &response, err);
    }
    return answered ? response.status : 0;
}

static bool is_refusal(unsigned status)
{
    return status >= 400 && status < 500;
}

static unsigned get_if(struct store_s3 *s3, struct store_probe *probe, struct err *err)
{
    CLEANUP(net_response_finish) struct net_response response = {0};
    struct probe_key key = probe_key_of(probe, "object");
    struct s3_request request = {
        .method = "GET", .key = str_of(key.text), .body_bytes_max = S3_ANSWER_BYTES_MAX};
    s3_add_header(&request, "if-match", STR("\"00000000000000000000000000000000\""));
    return s3_perform(s3, &request, probe->cancel, &response, err) ? response.status : 0;
}

/* Eider compares ETags itself when it reads, so a store that does not costs only bytes; replacing
 * an object by comparison needs the store. */
static void check_compare(struct store_s3 *s3, struct store_probe *probe)
{
    struct err err = {0};
    static const char wrong[] = "\"00000000000000000000000000000000\"";
    unsigned read = get_if(s3, probe, &err);
    unsigned missing = put_if(s3, probe, "condition", wrong, false, &err);
    unsigned replaced = put_if(s3, probe, "object", wrong, false, &err);
    if (replaced == 0 || missing == 0 || read == 0) {
        probe_tell_error(probe, "compare", &err);
    } else if (is_refusal(replaced) && is_refusal(missing) && is_refusal(read)) {
        probe_tell(probe, "compare", STORE_PROBE_OK, STORE_CAUSE_NONE,
                   "reads and puts with a wrong If-Match are refused");
    } else {
        probe_tell(probe, "compare", STORE_PROBE_WARN, STORE_CAUSE_NO_COMPARE,
                   "with a wrong If-Match the store answered %u to a read, %u to a put of an "
                   "object and %u to a put where there is none (412 or 404 are right)",
                   read, replaced, missing);
    }
}

static void check_checksum(struct store_s3 *s3, struct store_probe *probe)
{
    struct err err = {0};
    unsigned status = put_if(s3, probe, "checksum", NULL, true, &err);
    if (status == 0 || status >= 500) {
        probe_tell_error(probe, "checksum", &err);
    } else if (is_refusal(status)) {
        probe_tell(probe, "checksum", STORE_PROBE_OK, STORE_CAUSE_NONE,
                   "a put whose CRC-32 is wrong is refused");
    } else {
        probe_tell(probe, "checksum", STORE_PROBE_WARN, STORE_CAUSE_NO_CHECKSUM,
                   "a put whose CRC-32 is wrong was accepted (status %u)", status);
    }
}

void s3_probe_conditions(struct store *store, struct store_probe *probe)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    check_compare(s3, probe);
    check_checksum(s3, probe);
}
