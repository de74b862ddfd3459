#include "net_internal.h"

#include "clock.h"
#include "mem.h"

#include <stdio.h>

/* Sending a request may take this long and a millisecond per KiB. */
enum {
    SEND_SLACK_MS = 30000
};

struct net *net_create(const struct net_options *options)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return NULL;
    }
    struct net *net = mem_alloc(sizeof(*net));
    struct net_options *o = &net->options;
    *o = *options;
    net->ca_file = mem_copy_text(options->ca_file);
    o->ca_file = net->ca_file;
    o->connect_timeout_ms = o->connect_timeout_ms == 0 ? 3000 : o->connect_timeout_ms;
    o->first_byte_timeout_ms = o->first_byte_timeout_ms == 0 ? 10000 : o->first_byte_timeout_ms;
    o->idle_timeout_ms = o->idle_timeout_ms == 0 ? 10000 : o->idle_timeout_ms;
    net_shelf_init(&net->shelf, o->idle_connections_max == 0 ? 64 : o->idle_connections_max);
    net_budgets_init(&net->budgets);
    net_guard_init(&net->guard);
    net->guard.resolver = net_resolver_create(net_resolve_system, NULL);
    return net;
}

bool net_allow_endpoints(struct net *net, struct str list, struct err *err)
{
    struct net_rules rules = {0};
    if (list.ptr != NULL && !net_rules_read(&rules, list, err)) {
        return false;
    }
    net_guard_take_rules(&net->guard, &rules);
    return true;
}

void net_set_resolver(struct net *net, net_resolve_fn *resolve, void *context)
{
    net_resolver_destroy(net->guard.resolver);
    net->guard.resolver = net_resolver_create(resolve, context);
}

void net_destroy(struct net *net)
{
    if (net == NULL) {
        return;
    }
    net_shelf_finish(&net->shelf);
    net_budgets_finish(&net->budgets);
    net_guard_finish(&net->guard);
    net_resolver_destroy(net->guard.resolver);
    mem_free(net->ca_file);
    mem_free(net);
    curl_global_cleanup();
}

bool net_take_retry(struct net *net, struct str name)
{
    return net_budgets_take(&net->budgets, name, clock_now_ms());
}

void net_return_retry(struct net *net, struct str name)
{
    net_budgets_return(&net->budgets, name, clock_now_ms());
}

/* --- setting a request up --- */

/* scheme://host:port of a URL, without its path. */
static void copy_origin(const char *url, char origin[static NET_ORIGIN_SIZE])
{
    const char *host = strstr(url, "://");
    host = host == NULL ? url : host + 3;
    size_t len = (size_t)(host - url) + strcspn(host, "/?#");
    (void)snprintf(origin, NET_ORIGIN_SIZE, "%.*s", (int)(len < 1024 ? len : 1024), url);
}

static bool append_line(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    *list = longer == NULL ? *list : longer;
    return longer != NULL;
}

/* Headers that curl would add by itself are switched off by naming them without a value. */
static bool make_headers(struct net_transfer *transfer)
{
    bool good =
        append_line(&transfer->headers, "Expect:") && append_line(&transfer->headers, "Accept:");
    for (size_t i = 0; good && i < transfer->request->headers_count; i++) {
        good = append_line(&transfer->headers, transfer->request->headers[i]);
    }
    return good;
}

static void set_transport_options(const struct net_transfer *transfer)
{
    CURL *easy = transfer->easy;
    const struct net_options *options = transfer->options;
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* never wait for a resolver thread */
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, options->connect_timeout_ms);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    (void)curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 128L * 1024);
    if (options->ca_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
    }
}

static bool changes_something(const struct net_request *request)
{
    return strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0;
}

static bool set_request_options(struct net_transfer *transfer, struct err *err)
{
    const struct net_request *request = transfer->request;
    CURL *easy = transfer->easy;
    bool has_body = request->body != NULL || strcmp(request->method, "PUT") == 0 ||
                    strcmp(request->method, "POST") == 0;
    if (!make_headers(transfer)) {
        return err_set(err, ERR_UNAVAILABLE, "the server is short of memory");
    }
    if (curl_easy_setopt(easy, CURLOPT_URL, request->url) != CURLE_OK) {
        return err_set(err, ERR_UNAVAILABLE, "the server is short of memory");
    }
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    if (transfer->pass->pin[0] != '\0') {
        if (!append_line(&transfer->pin, transfer->pass->pin)) {
            return err_set(err, ERR_UNAVAILABLE, "the server is short of memory");
        }
        (void)curl_easy_setopt(easy, CURLOPT_RESOLVE, transfer->pin);
    }
    if (strcmp(request->method, "HEAD") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else {
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    }
    if (has_body) {
        uint64_t size = request->body == NULL ? 0 : request->body->size;
        (void)curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
    }
    return true;
}

/* --- the wait --- */

/* Looks whether bytes have moved since the last look; how many are left to send decides the phase.
 */
static void watch_progress(struct net_transfer *transfer, int64_t now_ms)
{
    curl_off_t sent = 0;
    curl_off_t received = 0;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_DOWNLOAD_T, &received);
    curl_off_t moved = sent + received + (curl_off_t)transfer->headers_size;
    if (moved != transfer->bytes_moved) {
        transfer->bytes_moved = moved;
        transfer->moved_ms = now_ms;
    }
    const struct net_body *body = transfer->request->body;
    bool whole = transfer->connected && (body == NULL || (uint64_t)sent >= body->size);
    transfer->response->request_sent = transfer->response->request_sent || whole;
}

static bool fail_lost(const struct net_transfer *transfer, struct err *err, const char *what)
{
    if (transfer->response->request_sent && changes_something(transfer->request)) {
        return err_set(err, ERR_UNCERTAIN, "%s: the answer of %s was lost (%s)",
                       transfer->request->method, transfer->origin, what);
    }
    return err_set(err, ERR_STORE, "%s: %s", transfer->origin, what);
}

/* When the present phase runs out; connecting has its own limit inside curl. */
static bool check_phase(const struct net_transfer *transfer, int64_t now_ms, int64_t *ret_limit_ms,
                        struct err *err)
{
    const struct net_options *options = transfer->options;
    const struct net_request *request = transfer->request;
    *ret_limit_ms = now_ms + options->connect_timeout_ms;
    if (!transfer->connected) {
        return true;
    }
    const char *what = "no byte has moved for too long";
    int64_t limit_ms = transfer->moved_ms + options->idle_timeout_ms;
    if (!transfer->response->request_sent) {
        int64_t size = request->body == NULL ? 0 : (int64_t)request->body->size;
        int64_t sending_ends_ms = transfer->connected_ms + SEND_SLACK_MS + size / 1024;
        limit_ms = sending_ends_ms < limit_ms ? sending_ends_ms : limit_ms;
        what = "the request could not be sent in time";
    } else if (!transfer->header_ended) {
        /* Not from the last byte of the answer: a header that trickles in has its end, too. */
        int64_t since_ms = transfer->answer_begun ? transfer->answer_begun_ms : transfer->moved_ms;
        long wait_ms = request->first_byte_timeout_ms;
        limit_ms = since_ms + (wait_ms == 0 ? options->first_byte_timeout_ms : wait_ms);
        what = "no answer in time";
    }
    *ret_limit_ms = limit_ms;
    return now_ms < limit_ms || fail_lost(transfer, err, what);
}

/* Lets curl work until the request is done. False when it must end before. */
static bool run_transfer(struct net_transfer *transfer, struct cancel *cancel, struct err *err)
{
    for (;;) {
        int running = 0;
        int64_t limit_ms = 0;
        if (curl_multi_perform(transfer->multi, &running) != CURLM_OK) {
            return err_set(err, ERR_INTERNAL, "the HTTP client failed");
        }
        int64_t now_ms = clock_now_ms();
        watch_progress(transfer, now_ms);
        if (running == 0) {
            return true;
        }
        if (cancel != NULL && !cancel_check(cancel, err)) {
            return false;
        }
        if (!check_phase(transfer, now_ms, &limit_ms, err)) {
            return false;
        }
        int wait_ms = limit_ms - now_ms < 1000 ? (int)(limit_ms - now_ms) : 1000;
        struct curl_waitfd raised = {.fd = -1, .events = CURL_WAIT_POLLIN};
        if (cancel != NULL) {
            raised.fd = cancel_fd(cancel);
            wait_ms = cancel_left_ms(cancel, wait_ms);
        }
        (void)curl_multi_poll(transfer->multi, &raised, cancel == NULL ? 0 : 1, wait_ms, NULL);
    }
}

static CURLcode read_outcome(const struct net_transfer *transfer)
{
    int left = 0;
    const CURLMsg *message = curl_multi_info_read(transfer->multi, &left);
    return message != NULL && message->msg == CURLMSG_DONE ? message->data.result
                                                           : CURLE_FAILED_INIT;
}

static enum net_failure failure_of(const struct net_transfer *transfer, CURLcode code)
{
    if (transfer->address_refused) {
        return NET_FAILURE_ADDRESS;
    }
    switch ((unsigned)code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return NET_FAILURE_RESOLVE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return NET_FAILURE_TRUST;
    case CURLE_SSL_CONNECT_ERROR:
        return NET_FAILURE_TLS;
    default:
        return transfer->connected ? NET_FAILURE_LOST : NET_FAILURE_CONNECT;
    }
}

static void describe_connect(const struct net_transfer *transfer, CURLcode code, struct err *err)
{
    const char *origin = transfer->origin;
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL) {
        (void)err_set(err, ERR_STORE, "%s is not a usable address", origin);
        return;
    }
    char text[128];
    const char *reason = code == CURLE_OPERATION_TIMEDOUT ? "no answer in time"
                         : transfer->system_error != 0
                             ? strerror_r((int)transfer->system_error, text, sizeof(text))
                             : "";
    (void)err_set(err, ERR_STORE, "cannot connect to %s%s%s", origin, reason[0] == '\0' ? "" : ": ",
                  reason);
}

static bool fail_with_code(const struct net_transfer *transfer, CURLcode code, const char *reason,
                           struct err *err)
{
    const char *origin = transfer->origin;
    transfer->response->failure = failure_of(transfer, code);
    switch (transfer->response->failure) {
    case NET_FAILURE_ADDRESS:
        (void)err_set(err, ERR_FORBIDDEN, "the address of %s may not be contacted", origin);
        break;
    case NET_FAILURE_RESOLVE:
        (void)err_set(err, ERR_STORE, "the host of %s is not known", origin);
        break;
    case NET_FAILURE_TRUST:
        (void)err_set(err, ERR_STORE, "the TLS certificate of %s is not trusted", origin);
        break;
    case NET_FAILURE_TLS:
        (void)err_set(err, ERR_STORE, "%s does not speak TLS as expected", origin);
        break;
    case NET_FAILURE_NONE:
    case NET_FAILURE_CONNECT:
        describe_connect(transfer, code, err);
        break;
    case NET_FAILURE_LOST:
        (void)fail_lost(transfer, err,
                        transfer->answer_begun ? "the connection broke within the answer"
                                               : "the connection broke before the answer");
        break;
    }
    err_add_detail(err, "curl %d: %s", (int)code, reason[0] != '\0' ? reason : "no reason given");
    return false;
}

static void read_facts(struct net_transfer *transfer)
{
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &transfer->system_error);
    curl_off_t length = -1;
    (void)curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    transfer->response->has_content_length = length >= 0;
    transfer->response->content_length = length < 0 ? 0 : (uint64_t)length;
}

static bool perform_transfer(struct net_transfer *transfer, struct cancel *cancel, struct err *err)
{
    char reason[CURL_ERROR_SIZE] = "";
    curl_easy_reset(transfer->easy);
    set_transport_options(transfer);
    net_set_callbacks(transfer);
    (void)curl_easy_setopt(transfer->easy, CURLOPT_ERRORBUFFER, reason);
    if (!set_request_options(transfer, err)) {
        return false;
    }
    if (curl_multi_add_handle(transfer->multi, transfer->easy) != CURLM_OK) {
        return err_set(err, ERR_INTERNAL, "the HTTP client failed");
    }
    bool ended = run_transfer(transfer, cancel, err);
    CURLcode code = ended ? read_outcome(transfer) : CURLE_OK;
    read_facts(transfer);
    (void)curl_multi_remove_handle(transfer->multi, transfer->easy);
    curl_easy_reset(transfer->easy); /* nothing of it may point to this stack any more */
    if (!ended || transfer->gave_up) {
        return false;
    }
    if (code == CURLE_OK && !transfer->header_ended) {
        code = CURLE_RECV_ERROR; /* which is no error to curl, when the connection ends there */
    }
    return code == CURLE_OK || fail_with_code(transfer, code, reason, err);
}

static bool perform_under(struct net *net, const struct net_rules *rules,
                          const struct net_request *request, struct cancel *cancel,
                          struct net_response *ret_response, struct err *err)
{
    char origin[NET_ORIGIN_SIZE];
    copy_origin(request->url, origin);
    struct net_pass pass;
    int64_t deadline_ms = clock_now_ms() + net->options.connect_timeout_ms;
    if (!net_guard_check(&net->guard, rules, request, deadline_ms, cancel, &pass, err)) {
        return false;
    }
    struct net_connection connection;
    if (!net_shelf_take(&net->shelf, origin, request->own ? 0 : rules->number, &connection)) {
        return err_set(err, ERR_UNAVAILABLE, "the server is short of memory");
    }
    uint64_t most = request->body_bytes_max;
    most = most < NET_ERROR_BODY_BYTES_MAX ? NET_ERROR_BODY_BYTES_MAX : most;
    most = most < SIZE_MAX / 8 ? most : SIZE_MAX / 8;
    buf_init(&ret_response->body, (size_t)most);
    struct net_transfer transfer = {
        .options = &net->options,
        .pass = &pass,
        .request = request,
        .response = ret_response,
        .multi = connection.multi,
        .easy = connection.easy,
        .origin = origin,
        .err = err,
    };
    bool good = perform_transfer(&transfer, cancel, err);
    curl_slist_free_all(transfer.headers);
    curl_slist_free_all(transfer.pin);
    net_shelf_return(&net->shelf, &connection);
    return good;
}

bool net_perform(struct net *net, const struct net_request *request, struct cancel *cancel,
                 struct net_response *ret_response, struct err *err)
{
    assert(request->method != NULL);
    assert(request->url != NULL);
    assert(request->body == NULL || request->body->fd >= 0 ||
           request->body->size == request->body->bytes.len);
    *ret_response = (struct net_response){0};
    if (cancel != NULL && !cancel_check(cancel, err)) {
        return false;
    }
    struct net_rules *rules = net_guard_hold_rules(&net->guard);
    bool good = perform_under(net, rules, request, cancel, ret_response, err);
    net_guard_drop_rules(&net->guard, rules);
    return good;
}

void net_response_finish(struct net_response *response)
{
    buf_finish(&response->body);
}
