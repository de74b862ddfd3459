/* Who may pass to a route: judged when the header is complete, before any body is read. */
#include "api_internal.h"
#include "clock.h"
#include "log.h"

#include <string.h>

/* `session_id`, of the analytics contract: the same tokens, for browsers. */
static struct str find_cookie(struct str cookies, struct str name)
{
    struct str pair;
    while (cookies.ptr != NULL && str_next_part(&cookies, ';', &pair)) {
        struct str value = str_trim(pair);
        struct str key;
        if (!str_next_part(&value, '=', &key) || !str_equal(key, name) || value.ptr == NULL) {
            continue;
        }
        bool quoted = value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"';
        return quoted ? str_make(value.ptr + 1, value.len - 2) : value;
    }
    return STR("");
}

static struct str header_or_empty(const struct request *request, const char *name)
{
    struct str value = http_header(request->exchange, name);
    return value.ptr == NULL ? STR("") : value;
}

/* A change of the files that is wrong changes nothing, and is told once. */
static void refresh(struct auth *auth)
{
    struct err err;
    if (!auth_refresh(auth, clock_now_ms(), &err)) {
        LOG(LOG_ERROR, "auth.files_refused", LOG_ERR(&err),
            LOG_TEXT("note", STR("tokens and keys are those of before")));
    }
}

static struct auth_credentials gather(const struct request *request)
{
    return (struct auth_credentials){
        .authorization = header_or_empty(request, "Authorization"),
        .session_id = find_cookie(header_or_empty(request, "Cookie"), STR("session_id")),
    };
}

static bool identify(struct request *request, const struct auth_credentials *credentials,
                     struct err *err)
{
    struct auth *auth = request->api->options.auth;
    refresh(auth);
    return auth_check(auth, credentials, clock_wall_ms(), &request->identity, err);
}

/* An open route turns nobody away, and tells more to those who say who they are. */
static void look_at(struct request *request, const struct auth_credentials *credentials)
{
    bool brought = credentials->authorization.len > 0 || credentials->session_id.len > 0;
    struct err ignored;
    if (brought || !auth_is_required(request->api->options.auth)) {
        (void)!identify(request, credentials, &ignored);
    }
}

/* Browsers say where a page is from to https and to loopback; elsewhere its origin, which they send
 * with whatever is not a GET, has to be the host that they were sent to. */
static bool is_of_another_site(const struct request *request)
{
    struct str site = header_or_empty(request, "Sec-Fetch-Site");
    struct str origin = http_header(request->exchange, "Origin");
    if (site.len > 0 || origin.ptr == NULL) {
        return str_equal_nocase(site, STR("cross-site"));
    }
    struct str scheme = STR("://");
    size_t at = str_find(origin, scheme);
    struct str host = str_from(origin, at < origin.len ? at + scheme.len : origin.len);
    return !str_equal_nocase(host, header_or_empty(request, "Host"));
}

/* A browser was sent here by a page of somebody else's: its cookie, or the place it runs at, is not
 * what that page may use to change anything. Programs do not send these headers, and a page that
 * holds a token sends it. */
static bool is_foreign_page(const struct request *request,
                            const struct auth_credentials *credentials)
{
    const char *method = request->route->method;
    bool changes = strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0;
    return changes && credentials->authorization.len == 0 && is_of_another_site(request);
}

bool gate_pass(struct request *request)
{
    struct auth *auth = request->api->options.auth;
    enum auth_role wanted = request->route->role;
    const struct auth_credentials credentials = gather(request);
    struct err err;
    if (wanted == AUTH_NOBODY) {
        look_at(request, &credentials);
        return true;
    }
    if (is_foreign_page(request, &credentials)) {
        (void)err_set(&err, ERR_FORBIDDEN,
                      "a page of another site may not send this without a token of its own in "
                      "Authorization");
        reply_error(request, &err);
        return false;
    }
    if (!identify(request, &credentials, &err)) {
        reply_add_header(request, "WWW-Authenticate", "Bearer");
        reply_error(request, &err);
        return false;
    }
    if (request->identity.role < wanted) {
        auth_count_role(auth);
        (void)err_set(&err, ERR_FORBIDDEN, "this needs a token of the role %s",
                      auth_role_name(wanted));
        reply_error(request, &err);
        return false;
    }
    return true;
}

/* Paths of the staging contract that ask for no key. */
static bool is_open_in_staging(struct str path)
{
    static const char *const open[] = {
        "/", "/health", "/status", "/info", "/metrics", "/openapi.json", "/docs", "/redoc",
    };
    for (size_t i = 0; i < COUNT_OF(open); i++) {
        if (str_equal(path, str_of(open[i]))) {
            return true;
        }
    }
    return false;
}

bool gate_pass_staging(struct request *request)
{
    struct auth_credentials credentials = gather(request);
    credentials.api_key = header_or_empty(request, "X-Graph-API-Key");
    credentials.bearer_may_be_key = true;
    bool brought = credentials.api_key.len + credentials.authorization.len > 0;
    struct err err;
    if (is_open_in_staging(http_path(request->exchange)) ||
        (identify(request, &credentials, &err) && request->identity.role >= AUTH_WRITE)) {
        return true;
    }
    if (request->identity.role != AUTH_NOBODY) {
        auth_count_role(request->api->options.auth);
    }
    reply_json(request, 401,
               brought ? STR("{\"detail\":\"Invalid API key\"}")
                       : STR("{\"detail\":\"Missing API key\"}"));
    return false;
}

bool gate_shows_all(const struct request *request)
{
    return request->identity.role >= AUTH_READ;
}
