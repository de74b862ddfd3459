/* Where a request may go: the host and port of its URL, what the host resolves to, and the address
 * of the socket in the end. */
#include "net_internal.h"

#include "mem.h"
#include "num.h"

#include <stdio.h>

/* --- the list in force --- */

void net_guard_init(struct net_guard *guard)
{
    lock_init(&guard->lock, LOCK_NET);
    guard->rules = mem_alloc(sizeof(*guard->rules));
    *guard->rules = (struct net_rules){.number = 1, .users = 1};
}

void net_guard_finish(struct net_guard *guard)
{
    net_guard_drop_rules(guard, guard->rules);
    lock_finish(&guard->lock);
}

void net_guard_take_rules(struct net_guard *guard, struct net_rules *rules)
{
    struct net_rules *next = mem_alloc(sizeof(*next));
    *next = *rules;
    next->users = 1;
    *rules = (struct net_rules){0};
    lock_take(&guard->lock);
    struct net_rules *before = guard->rules;
    next->number = before->number + 1;
    guard->rules = next;
    lock_release(&guard->lock);
    net_guard_drop_rules(guard, before);
}

struct net_rules *net_guard_hold_rules(struct net_guard *guard)
{
    lock_take(&guard->lock);
    struct net_rules *rules = guard->rules;
    rules->users++;
    lock_release(&guard->lock);
    return rules;
}

void net_guard_drop_rules(struct net_guard *guard, struct net_rules *rules)
{
    lock_take(&guard->lock);
    bool last = --rules->users == 0;
    lock_release(&guard->lock);
    if (last) {
        net_rules_finish(rules);
        mem_free(rules);
    }
}

/* --- one request --- */

struct target {
    char host[NET_HOST_SIZE]; /* an IPv6 address without its brackets */
    bool is_address;
    struct net_address address;
    unsigned port;
};

static bool copy_part(const CURLU *url, CURLUPart part, unsigned flags, char *into, size_t size)
{
    char *text = NULL;
    bool good = curl_url_get((CURLU *)(uintptr_t)url, part, &text, flags) == CURLUE_OK &&
                (size_t)snprintf(into, size, "%s", text) < size;
    curl_free(text);
    return good;
}

/* Taken apart by the parser that curl itself uses when it is given this URL: it undoes the old
 * spellings of IPv4 addresses, and there is no second opinion on where the host ends. */
static bool read_target(const char *text, struct target *ret_target)
{
    char host[NET_HOST_SIZE];
    char port[8];
    struct err ignored;
    uint64_t number = 0;
    CURLU *url = curl_url();
    bool good = url != NULL &&
                curl_url_set(url, CURLUPART_URL, text, CURLU_PATH_AS_IS) == CURLUE_OK &&
                copy_part(url, CURLUPART_HOST, 0, host, sizeof(host)) &&
                copy_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof(port)) &&
                num_parse_u64(str_of(port), 1, 65535, &number, &ignored);
    curl_url_cleanup(url);
    if (!good) {
        return false;
    }
    struct str name = str_of(host);
    bool bracketed = name.len > 2 && host[0] == '[' && host[name.len - 1] == ']';
    name = bracketed ? str_make(host + 1, name.len - 2) : name;
    *ret_target = (struct target){.port = (unsigned)number};
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.ptr[i];
        ret_target->host[i] = byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
    }
    ret_target->is_address = net_address_parse(ret_target->host, &ret_target->address);
    return true;
}

static const char *open_bracket(const struct target *target)
{
    return strchr(target->host, ':') == NULL ? "" : "[";
}

static const char *close_bracket(const struct target *target)
{
    return strchr(target->host, ':') == NULL ? "" : "]";
}

static bool refuse_always(const struct target *target, struct err *err)
{
    return err_set(err, ERR_FORBIDDEN, "the address of %s%s%s may not be contacted",
                   open_bracket(target), target->host, close_bracket(target));
}

static bool refuse_unlisted(const struct target *target, const char *endpoint_host, struct err *err)
{
    const char *host = endpoint_host == NULL ? target->host : endpoint_host;
    bool bare = endpoint_host == NULL; /* which has its brackets already */
    return err_set(err, ERR_FORBIDDEN,
                   "the endpoint %s%s%s:%u is not allowed here; to allow it, add it to "
                   "EIDER_ALLOWED_ENDPOINTS",
                   bare ? open_bracket(target) : "", host, bare ? close_bracket(target) : "",
                   target->port);
}

/* The client learns nothing of what the name resolves to; the log does. */
static bool refuse_answer(const struct target *target, const struct net_address *address,
                          struct err *err)
{
    char text[NET_ADDRESS_TEXT_SIZE];
    net_address_format(address, text);
    (void)err_set(
        err, ERR_FORBIDDEN,
        "the endpoint %s:%u leads to an address that is not public; to allow it, add that "
        "address or its network to EIDER_ALLOWED_ENDPOINTS",
        target->host, target->port);
    err_add_detail(err, "%s resolves to %s", target->host, text);
    return false;
}

/* All answers, not only the first: which of them a connection ends at is up to the network. */
static bool check_answer(const struct net_rules *rules, const struct target *target,
                         const struct net_answer *answer, struct err *err)
{
    for (size_t i = 0; i < answer->count; i++) {
        const struct net_address *address = &answer->addresses[i];
        if (!net_address_allowed(address)) {
            return refuse_always(target, err);
        }
        if (!net_address_public(address) && !net_rules_list_address(rules, address, target->port)) {
            return refuse_answer(target, address, err);
        }
    }
    return true;
}

/* So that curl does not ask again, and perhaps is told something else. */
static void write_pin(const struct target *target, const struct net_answer *answer,
                      struct net_pass *pass)
{
    int len = snprintf(pass->pin, sizeof(pass->pin), "%s:%u:", target->host, target->port);
    for (size_t i = 0; i < answer->count; i++) {
        char text[NET_ADDRESS_TEXT_SIZE];
        bool v4 = net_address_is_v4(&answer->addresses[i]);
        net_address_format(&answer->addresses[i], text);
        len += snprintf(pass->pin + len, sizeof(pass->pin) - (size_t)len, "%s%s%s%s",
                        i == 0 ? "" : ",", v4 ? "" : "[", text, v4 ? "" : "]");
        assert((size_t)len < sizeof(pass->pin));
    }
}

static bool is_listed(const struct net_rules *rules, const struct target *target,
                      const char *endpoint_host)
{
    if (target->is_address) {
        return net_rules_list_address(rules, &target->address, target->port);
    }
    return net_rules_list_host(rules, str_of(target->host), target->port) ||
           (endpoint_host != NULL &&
            net_rules_list_host(rules, str_of(endpoint_host), target->port));
}

bool net_guard_check(struct net_guard *guard, const struct net_rules *rules,
                     const struct net_request *request, int64_t deadline_ms, struct cancel *cancel,
                     struct net_pass *ret_pass, struct err *err)
{
    struct target target;
    struct net_answer answer;
    *ret_pass = (struct net_pass){.own = request->own, .rules = rules};
    if (!read_target(request->url, &target)) {
        return err_set(err, ERR_STORE, "the address of the store is not usable");
    }
    ret_pass->port = target.port;
    if (target.is_address && !net_address_allowed(&target.address)) {
        return refuse_always(&target, err);
    }
    if (request->own || !rules->listed) {
        return true;
    }
    if (!is_listed(rules, &target, request->endpoint_host)) {
        return refuse_unlisted(&target, request->endpoint_host, err);
    }
    if (target.is_address) {
        return true;
    }
    if (!net_resolver_ask(guard->resolver, target.host, deadline_ms, cancel, &answer, err) ||
        !check_answer(rules, &target, &answer, err)) {
        return false;
    }
    write_pin(&target, &answer, ret_pass);
    return true;
}

bool net_guard_permits(const struct net_pass *pass, const struct sockaddr *address)
{
    struct net_address to;
    if (!net_address_read(address, &to) || !net_address_allowed(&to)) {
        return false;
    }
    return pass->own || !pass->rules->listed || net_address_public(&to) ||
           net_rules_list_address(pass->rules, &to, pass->port);
}
