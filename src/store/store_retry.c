/* Which answers and failures are worth another attempt, how long to wait before it, and who pays
 * for it. */
#include "store_s3.h"

#include "clock.h"
#include "digest.h"
#include "num.h"

#include <time.h>

enum {
    ATTEMPTS_MAX = 3,
    WAIT_FIRST_MS = 50,
    WAIT_MAX_MS = 20000,
    SKEW_MIN_MS = 240000
};

static bool status_may_retry(unsigned status)
{
    static const unsigned statuses[] = {408, 429, 500, 502, 503, 504};
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        if (statuses[i] == status) {
            return true;
        }
    }
    return false;
}

/* Codes that come with a status that does not say so. */
static bool code_may_retry(const char *code)
{
    static const char *const codes[] = {
        "SlowDown",         "RequestTimeout", "InternalError", "ConditionalRequestConflict",
        "OperationAborted", "IncompleteBody", "BadDigest"};
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        if (strcmp(codes[i], code) == 0) {
            return true;
        }
    }
    return false;
}

static bool answer_may_retry(const struct net_response *response)
{
    if (status_may_retry(response->status)) {
        return true;
    }
    if (response->status < 400) {
        return false;
    }
    struct s3_error error;
    s3_read_error(response, &error);
    return code_may_retry(error.code);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static bool parse_date(struct str text, int64_t *ret_wall_ms)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct err ignored = {0};
    if (text.len != 29) {
        return false;
    }
    static const struct {
        size_t offset, len;
        uint64_t max;
    } fields[] = {{5, 2, 31}, {12, 4, 9999}, {17, 2, 23}, {20, 2, 59}, {23, 2, 60}};
    uint64_t values[COUNT_OF(fields)];
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        struct str digits = str_make(text.ptr + fields[i].offset, fields[i].len);
        if (!num_parse_u64(digits, 0, fields[i].max, &values[i], &ignored)) {
            return false;
        }
    }
    size_t month = str_find(str_of(months), str_make(text.ptr + 8, 3));
    if (month % 3 != 0 || month >= sizeof(months) - 1) {
        return false;
    }
    struct tm parts = {
        .tm_mday = (int)values[0],
        .tm_mon = (int)(month / 3),
        .tm_year = (int)values[1] - 1900,
        .tm_hour = (int)values[2],
        .tm_min = (int)values[3],
        .tm_sec = (int)values[4],
    };
    *ret_wall_ms = (int64_t)timegm(&parts) * 1000;
    return true;
}

/* A 403 whose Date is far from ours means that the signature looked too old or too new (HEAD cannot
 * say so): takes over the store's clock. True when that changes something. */
static bool learn_clock(struct store_s3 *s3, const struct net_response *response)
{
    int64_t theirs_ms = 0;
    if (response->status != 403 || !parse_date(str_of(response->date), &theirs_ms)) {
        return false;
    }
    long long offset_ms = theirs_ms - clock_wall_ms();
    long long change_ms = offset_ms - atomic_load(&s3->clock_offset_ms);
    bool said =
        str_find(buf_str(&response->body), STR("RequestTimeTooSkewed")) < response->body.len;
    if (!said && change_ms > -SKEW_MIN_MS && change_ms < SKEW_MIN_MS) {
        return false;
    }
    atomic_store(&s3->clock_offset_ms, offset_ms);
    return true;
}

/* Full jitter: anything between nothing and the doubled time; a store that names a time is given
 * it. */
static int choose_wait_ms(unsigned attempt, const struct net_response *response)
{
    struct err ignored = {0};
    uint64_t seconds = 0;
    if (num_parse_u64(str_of(response->retry_after), 0, WAIT_MAX_MS / 1000, &seconds, &ignored)) {
        return (int)seconds * 1000;
    }
    uint32_t most = (uint32_t)WAIT_FIRST_MS << attempt;
    uint32_t random = 0;
    digest_random(&random, sizeof(random));
    return (int)(random % ((most < WAIT_MAX_MS ? most : WAIT_MAX_MS) + 1));
}

/* A 200 to CompleteMultipartUpload may turn out to be a failure: gives it the status that its code
 * usually has. */
static void unmask_error(struct net_response *response)
{
    if (response->status != 200 || !s3_is_error_document(response)) {
        return;
    }
    struct s3_error error;
    s3_read_error(response, &error);
    response->status = strcmp(error.code, "PreconditionFailed") == 0 ? 412
                       : strcmp(error.code, "NoSuchUpload") == 0     ? 404
                                                                     : 500;
}

/* True when another attempt may help. */
static bool judge(const struct s3_request *request, bool answered, struct net_response *response,
                  const struct err *err)
{
    if (!answered) {
        return err->kind == ERR_STORE || err->kind == ERR_UNCERTAIN;
    }
    if (request->error_in_200) {
        unmask_error(response);
    }
    return answer_may_retry(response);
}

static enum s3_doubt doubt_about(bool answered, const struct net_response *response)
{
    if (answered) {
        return response->status >= 500 ? S3_DOUBT_FAILED : S3_DOUBT_NONE;
    }
    return response->request_sent ? S3_DOUBT_LOST : S3_DOUBT_NONE;
}

static enum store_operation operation_of(const struct s3_request *request)
{
    for (size_t i = 0; i < request->query_count; i++) {
        struct str name = request->query[i].name;
        if (str_equal(name, STR("uploads")) || str_equal(name, STR("uploadId"))) {
            return STORE_MULTIPART;
        }
    }
    struct str method = str_of(request->method);
    if (str_equal(method, STR("GET"))) {
        return request->key.ptr == NULL ? STORE_LIST : STORE_GET;
    }
    return str_equal(method, STR("HEAD"))     ? STORE_HEAD
           : str_equal(method, STR("DELETE")) ? STORE_DELETE
                                              : STORE_PUT;
}

/* Under the kind of error that the caller of the store will hear of. */
static void count_call(const struct store_s3 *s3, const struct s3_request *request,
                       int64_t start_us, bool answered, const struct net_response *response,
                       const struct err *err)
{
    struct err meaning = {.kind = answered ? ERR_NONE : err->kind};
    if (answered && (response->status < 200 || response->status > 299)) {
        (void)s3_fail(s3, request->method, request->key, response, &meaning);
    }
    store_count_call(operation_of(request), start_us, meaning.kind);
}

static bool call_until_final(struct store_s3 *s3, const struct s3_request *request,
                             struct cancel *cancel, struct net_response *ret_response,
                             enum s3_doubt *ret_doubt, struct err *err)
{
    enum s3_doubt worst = S3_DOUBT_NONE;
    bool clock_learnt = false;
    for (unsigned attempt = 1;;) {
        bool answered = s3_perform(s3, request, cancel, ret_response, err);
        bool again = judge(request, answered, ret_response, err);
        enum s3_doubt doubt = doubt_about(answered, ret_response);
        worst = doubt > worst ? doubt : worst;
        if (ret_doubt != NULL) {
            *ret_doubt = worst;
        }
        if (answered && !clock_learnt && learn_clock(s3, ret_response)) {
            clock_learnt = true;
            net_response_finish(ret_response);
            store_count_retry(operation_of(request));
            continue;
        }
        if (answered && !again) {
            net_return_retry(s3->net, str_of(s3->budget_name));
            return true;
        }
        if (!again || attempt == ATTEMPTS_MAX ||
            !net_take_retry(s3->net, str_of(s3->budget_name))) {
            /* An answer beyond every limit is the store's failure, not damage of ours. */
            err->kind = !answered && err->kind == ERR_CORRUPT ? ERR_STORE : err->kind;
            return answered;
        }
        int wait_ms = choose_wait_ms(attempt, ret_response);
        net_response_finish(ret_response);
        if (!cancel_wait(cancel, wait_ms, err)) {
            return false;
        }
        store_count_retry(operation_of(request));
        attempt++;
    }
}

bool s3_call(struct store_s3 *s3, const struct s3_request *request, struct cancel *cancel,
             struct net_response *ret_response, enum s3_doubt *ret_doubt, struct err *err)
{
    int64_t start_us = clock_now_us();
    bool answered = call_until_final(s3, request, cancel, ret_response, ret_doubt, err);
    count_call(s3, request, start_us, answered, ret_response, err);
    return answered;
}

bool s3_call_once(struct store_s3 *s3, const struct s3_request *request, struct cancel *cancel,
                  struct net_response *ret_response, struct err *err)
{
    int64_t start_us = clock_now_us();
    bool answered = s3_perform(s3, request, cancel, ret_response, err);
    count_call(s3, request, start_us, answered, ret_response, err);
    return answered;
}
