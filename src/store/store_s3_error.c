/* What an answer that is not a success means: from the error document where there is one, else from
 * the status. */
#include "store_s3.h"
#include "store_xml.h"

#include <stdio.h>

/* Printable ASCII only, since these texts come from outside and end in messages. */
static void copy_printable(char *into, size_t size, struct str text)
{
    size_t len = 0;
    for (size_t i = 0; i < text.len && len + 1 < size; i++) {
        char byte = text.ptr[i];
        into[len++] = byte >= 0x20 && byte < 0x7f ? byte : '?';
    }
    into[len] = '\0';
}

static bool take_error_field(void *context, struct str parent, struct str name, struct str text,
                             struct err *err)
{
    struct s3_error *error = context;
    (void)err;
    if (!str_equal(parent, STR("Error"))) {
        return true;
    }
    if (str_equal(name, STR("Code"))) {
        copy_printable(error->code, sizeof(error->code), text);
    } else if (str_equal(name, STR("Message"))) {
        copy_printable(error->message, sizeof(error->message), text);
    } else if (str_equal(name, STR("Region"))) {
        copy_printable(error->region, sizeof(error->region), text);
    } else if (str_equal(name, STR("Endpoint"))) {
        copy_printable(error->endpoint, sizeof(error->endpoint), text);
    }
    return true;
}

/* A body that is not XML, such as a proxy's page, leaves the fields empty. */
void s3_read_error(const struct net_response *response, struct s3_error *ret_error)
{
    struct err ignored = {0};
    *ret_error = (struct s3_error){0};
    if (!store_xml_read(buf_str(&response->body), take_error_field, ret_error, &ignored)) {
        *ret_error = (struct s3_error){0};
    }
}

static bool take_root(void *context, struct str parent, struct str name, struct str text,
                      struct err *err)
{
    bool *is_error = context;
    (void)text;
    (void)err;
    *is_error = parent.len == 0 && str_equal(name, STR("Error"));
    return true;
}

bool s3_is_error_document(const struct net_response *response)
{
    struct err ignored = {0};
    bool is_error = false;
    return store_xml_read(buf_str(&response->body), take_root, &is_error, &ignored) && is_error;
}

struct meaning {
    const char *code; /* NULL: any */
    unsigned status;  /* 0: any */
    enum err_kind kind;
};

/* clang-format off */
static const struct meaning meanings[] = {
    { "NoSuchBucket",          0,   ERR_STORE_MISSING },
    { "NoSuchKey",             0,   ERR_STORE_MISSING },
    { "AccessDenied",          0,   ERR_STORE_DENIED },
    { "InvalidAccessKeyId",    0,   ERR_STORE_DENIED },
    { "SignatureDoesNotMatch", 0,   ERR_STORE_DENIED },
    { "ExpiredToken",          0,   ERR_STORE_DENIED },
    { "TokenRefreshRequired",  0,   ERR_STORE_DENIED },
    { "InvalidToken",          0,   ERR_STORE_DENIED },
    { "InvalidTokenId",        0,   ERR_STORE_DENIED },
    { "InvalidClientTokenId",  0,   ERR_STORE_DENIED },
    { "InvalidSecurity",       0,   ERR_STORE_DENIED },
    { "RequestTimeTooSkewed",  0,   ERR_STORE_DENIED },
    { "AccountProblem",        0,   ERR_STORE_DENIED },
    { "XAdminUserNotFound",    0,   ERR_STORE_DENIED },
    { NULL,                    401, ERR_STORE_DENIED },
    { NULL,                    403, ERR_STORE_DENIED },
    { NULL,                    404, ERR_STORE_MISSING },
    { NULL,                    412, ERR_CONFLICT },
    { NULL,                    416, ERR_INVALID },
};
/* clang-format on */

static enum err_kind find_kind(const char *method, unsigned status, const char *code)
{
    for (size_t i = 0; i < COUNT_OF(meanings); i++) {
        const struct meaning *meaning = &meanings[i];
        if ((meaning->code == NULL || strcmp(meaning->code, code) == 0) &&
            (meaning->status == 0 || meaning->status == status)) {
            return meaning->kind;
        }
    }
    /* HEAD has no body to say so: an expired token is a bare 400. */
    return status == 400 && strcmp(method, "HEAD") == 0 ? ERR_STORE_DENIED : ERR_STORE;
}

static bool is_redirect(unsigned status, const struct s3_error *error)
{
    return (status >= 300 && status < 400) ||
           strcmp(error->code, "AuthorizationHeaderMalformed") == 0;
}

static void describe_redirect(const struct store_s3 *s3, const struct net_response *response,
                              const struct s3_error *error, struct err *err)
{
    char elsewhere[NET_HEADER_SIZE] = "";
    copy_printable(elsewhere, sizeof(elsewhere), str_of(response->location));
    if (strcmp(error->code, "AuthorizationHeaderMalformed") == 0 && error->region[0] != '\0') {
        (void)err_set(err, ERR_STORE, "the bucket \"%s\" is in the region \"%s\", not \"%s\" (%s)",
                      s3->bucket, error->region, s3->region, error->code);
        return;
    }
    const char *endpoint = error->endpoint[0] != '\0' ? error->endpoint : elsewhere;
    (void)err_set(err, ERR_STORE,
                  "the bucket \"%s\" is to be asked for elsewhere: status %u, region \"%s\", "
                  "endpoint \"%s\" (redirects are not followed)",
                  s3->bucket, response->status, error->region, endpoint);
}

/* What is known about a refusal beyond its code. */
static const char *reason_of(const char *code)
{
    static const char *const reasons[][2] = {
        {"ExpiredToken", "the session token has expired"},
        {"TokenRefreshRequired", "the session token has expired"},
        {"InvalidToken", "the session token is not valid"},
        {"InvalidTokenId", "the session token is not valid"},
        {"InvalidClientTokenId", "the session token is not valid"},
        {"InvalidAccessKeyId", "the access key is not known"},
        {"XAdminUserNotFound", "the access key is not known"},
        {"SignatureDoesNotMatch", "the secret key does not belong to the access key"},
        {"RequestTimeTooSkewed", "the clocks are too far apart"},
    };
    for (size_t i = 0; i < COUNT_OF(reasons); i++) {
        if (strcmp(reasons[i][0], code) == 0) {
            return reasons[i][1];
        }
    }
    return "";
}

static void describe(const struct store_s3 *s3, const char *method, struct str key,
                     const struct net_response *response, const struct s3_error *error,
                     struct err *err)
{
    enum err_kind kind = find_kind(method, response->status, error->code);
    bool writes = strcmp(method, "PUT") == 0 || strcmp(method, "POST") == 0;
    const char *thing = key.ptr == NULL ? "bucket " : "";
    struct str name = key.ptr == NULL ? str_of(s3->bucket) : key;
    const char *code = error->code[0] != '\0' ? error->code : "no error code";
    if (kind == ERR_STORE_DENIED) {
        const char *reason = reason_of(code);
        (void)err_set(err, kind, "access denied to %s\"%.*s\"%s%s (status %u, %s)", thing,
                      STR_ARG(name), reason[0] == '\0' ? "" : ": ", reason, response->status, code);
    } else if (kind == ERR_STORE_MISSING &&
               (writes || key.ptr == NULL || strcmp(error->code, "NoSuchBucket") == 0)) {
        (void)err_set(err, kind, "the bucket \"%s\" does not exist (%s)", s3->bucket, code);
    } else if (kind == ERR_STORE_MISSING) {
        (void)err_set(err, kind, "the object \"%.*s\" does not exist", STR_ARG(name));
    } else if (kind == ERR_CONFLICT) {
        (void)err_set(err, kind,
                      writes ? "the object \"%.*s\" exists already"
                             : "the object \"%.*s\" has changed",
                      STR_ARG(name));
    } else if (kind == ERR_INVALID) {
        (void)err_set(err, kind, "the object \"%.*s\" is shorter than the range asked for",
                      STR_ARG(name));
    } else {
        (void)err_set(err, ERR_STORE, "the store answered for %s\"%.*s\" with status %u (%s)",
                      thing, STR_ARG(name), response->status, code);
    }
}

bool s3_fail(const struct store_s3 *s3, const char *method, struct str key,
             const struct net_response *response, struct err *err)
{
    struct s3_error error;
    s3_read_error(response, &error);
    if (is_redirect(response->status, &error)) {
        describe_redirect(s3, response, &error, err);
    } else {
        describe(s3, method, key, response, &error, err);
    }
    if (error.message[0] != '\0') {
        err_add_detail(err, "%s: %s", error.code, error.message);
    }
    return false;
}
