/* net_internal.h - what the files of this folder share: the shelf's owner, the retry budgets,
 * and the guard that decides where a request may go. */
#pragma once

#include "net.h"
#include "thread.h"

#include <curl/curl.h>
#include <sys/socket.h>

enum {
    NET_BUDGET_ROWS = 64,
    NET_BUDGET_TOKENS_MAX = 500,
    NET_BUDGET_RETRY_COST = 5
};

struct net_budget {
    uint64_t name_hash; /* 0 for an empty row */
    int64_t tokens;
    int64_t refilled_ms;
    int64_t used_ms;
};

struct net_budgets {
    struct lock lock;
    struct net_budget rows[NET_BUDGET_ROWS] GUARDED_BY(lock);
};

void net_budgets_init(struct net_budgets *budgets);
void net_budgets_finish(struct net_budgets *budgets);
bool net_budgets_take(struct net_budgets *budgets, struct str name, int64_t now_ms);
void net_budgets_return(struct net_budgets *budgets, struct str name, int64_t now_ms);

/* --- addresses --- */

enum {
    NET_ADDRESS_TEXT_SIZE = 46, /* INET6_ADDRSTRLEN */
    NET_ADDRESSES_MAX = 16,
    NET_HOST_SIZE = 256
};

/* An IPv4 address is kept as ::ffff:a.b.c.d. */
struct net_address {
    uint8_t bytes[16];
};

struct net_address net_address_of_v4(const void *four_bytes);
bool net_address_is_v4(const struct net_address *address);
/* False for other families. */
bool net_address_read(const struct sockaddr *from, struct net_address *ret_address);
/* Only the plain spellings: four decimal numbers, or IPv6 without brackets. */
bool net_address_parse(const char *text, struct net_address *ret_address);
void net_address_format(const struct net_address *address, char text[static NET_ADDRESS_TEXT_SIZE]);
bool net_address_within(const struct net_address *address, const struct net_address *network,
                        unsigned prefix);
/* False for addresses that no request may go to, whatever name or setting led there: link-local
 * ones (cloud metadata services live there), other metadata services, unspecified, multicast and
 * broadcast, also where they are wrapped in an IPv6 address. */
bool net_address_allowed(const struct net_address *address);
/* False also for loopback, private networks and what else the public internet does not reach. */
bool net_address_public(const struct net_address *address);

/* --- the list of allowed endpoints --- */

struct net_entry {
    enum {
        NET_ENTRY_HOST,
        NET_ENTRY_SUFFIX,
        NET_ENTRY_NETWORK
    } kind;
    char *name;                 /* host or suffix */
    struct net_address network; /* an address is a network of one */
    unsigned prefix;            /* 0 to 128 */
    unsigned port;              /* 0: any for a network, 80 and 443 for a name */
    bool any_port;              /* of a name without a port */
};

struct net_rules {
    bool listed;     /* false: there is no list, every endpoint may be asked for */
    uint64_t number; /* of the list, from 1; the guard's, as is the next */
    unsigned users;
    struct net_entry *entries;
    size_t count;
};

bool net_rules_read(struct net_rules *rules, struct str list, struct err *err) MUST_CHECK;
void net_rules_finish(struct net_rules *rules);
bool net_rules_list_host(const struct net_rules *rules, struct str host, unsigned port);
bool net_rules_list_address(const struct net_rules *rules, const struct net_address *address,
                            unsigned port);

/* --- names to addresses --- */

struct net_answer {
    size_t count;
    struct net_address addresses[NET_ADDRESSES_MAX];
};

/* Blocks. False when the name is not known. */
typedef bool net_resolve_fn(void *context, const char *host, struct net_answer *ret_answer);
bool net_resolve_system(void *context, const char *host, struct net_answer *ret_answer);

struct net_resolver;
struct net_resolver *net_resolver_create(net_resolve_fn *resolve, void *context);
/* Look-ups that still hang end later, by themselves. */
void net_resolver_destroy(struct net_resolver *resolver);
/* Asks on a thread of its own, because the system's resolver can neither be cancelled nor given a
 * deadline; an answer is kept for a while. */
bool net_resolver_ask(struct net_resolver *resolver, const char *host, int64_t deadline_ms,
                      struct cancel *cancel, struct net_answer *ret_answer,
                      struct err *err) MUST_CHECK;

/* --- the guard --- */

/* A list is never changed once it is in force: another one takes its place, and requests that have
 * begun hold the one they began with. */
struct net_guard {
    struct lock lock; /* LOCK_NET */
    struct net_rules *rules GUARDED_BY(lock);
    struct net_resolver *resolver;
};

void net_guard_init(struct net_guard *guard);
void net_guard_finish(struct net_guard *guard);
/* The guard owns the rules, which are copied; whatever they held is empty afterwards. */
void net_guard_take_rules(struct net_guard *guard, struct net_rules *rules);
struct net_rules *net_guard_hold_rules(struct net_guard *guard);
void net_guard_drop_rules(struct net_guard *guard, struct net_rules *rules);

/* Which addresses one request may be sent to. */
struct net_pass {
    bool own;                      /* the server's own store: the list does not apply */
    const struct net_rules *rules; /* held by whoever sends the request */
    unsigned port;                 /* of the URL */
    char pin[NET_HOST_SIZE + 8 + NET_ADDRESSES_MAX * (NET_ADDRESS_TEXT_SIZE + 3)];
    /* host:port:address,... for curl, "" where nothing is pinned */
};

bool net_guard_check(struct net_guard *guard, const struct net_rules *rules,
                     const struct net_request *request, int64_t deadline_ms, struct cancel *cancel,
                     struct net_pass *ret_pass, struct err *err) MUST_CHECK;
/* The last word, on the address that a socket is about to be connected to. */
bool net_guard_permits(const struct net_pass *pass, const struct sockaddr *address);

/* --- connections --- */

enum {
    NET_ORIGIN_SIZE = 300
}; /* scheme://host:port; a longer one is cut, which only costs reuse */

/* One multi handle with its only easy handle. The live socket is in the multi's cache, so a
 * connection that goes back to the shelf keeps it for the next request to the same origin. */
struct net_connection {
    CURLM *multi;
    CURL *easy;
    char origin[NET_ORIGIN_SIZE];
    uint64_t list; /* the number of the list it was made under; 0: for the server's own store, where
                      the list does not apply */
};

struct net_shelf {
    struct lock lock;
    struct net_connection *idle GUARDED_BY(lock); /* the most recently used last */
    size_t count GUARDED_BY(lock);
    size_t count_max;
};

void net_shelf_init(struct net_shelf *shelf, size_t count_max);
void net_shelf_finish(struct net_shelf *shelf);
/* False when curl has no handle to give. */
bool net_shelf_take(struct net_shelf *shelf, const char *origin, uint64_t list,
                    struct net_connection *ret_connection);
/* The shelf owns the connection afterwards; *connection is empty. */
void net_shelf_return(struct net_shelf *shelf, struct net_connection *connection);

struct net {
    struct net_options options;
    char *ca_file;
    struct net_shelf shelf;
    struct net_budgets budgets;
    struct net_guard guard;
};

/* For tests, before the first request. */
void net_set_resolver(struct net *net, net_resolve_fn *resolve, void *context);

/* Of an answer that is not 2xx, whatever the limit of a good one. */
enum {
    NET_ERROR_BODY_BYTES_MAX = 64 * 1024
};

/* One request on its way. */
struct net_transfer {
    const struct net_options *options;
    const struct net_pass *pass;
    const struct net_request *request;
    struct net_response *response;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *pin;
    const char *origin;
    struct err *err; /* filled by the callback that gave up, see `gave_up` */
    bool gave_up;
    bool address_refused;
    bool connected;
    bool answer_begun;
    int64_t answer_begun_ms;
    bool header_ended;  /* with its empty line */
    uint64_t body_read; /* bytes of the request body handed to curl */
    size_t headers_size;
    long system_error; /* errno of a connection that did not come about; 0 for another reason */
    curl_off_t bytes_moved; /* in both directions, when last looked at */
    int64_t connected_ms;
    int64_t moved_ms; /* when a byte last moved, or the wait for the answer began */
};

void net_set_callbacks(struct net_transfer *transfer);
