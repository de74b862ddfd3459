/* net_internal.h - what the files of this folder share: the shelf's owner, the retry budgets, the
 * address rule. */
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

/* False for addresses that no request may go to, whatever name led there: link-local ones (cloud
 * metadata services live there), multicast and broadcast. Loopback and private networks are where
 * object stores are at home. */
bool net_address_allowed(const struct sockaddr *address);

enum {
    NET_ORIGIN_SIZE = 300
}; /* scheme://host:port; a longer one is cut, which only costs reuse */

/* One multi handle with its only easy handle. The live socket is in the multi's cache, so a
 * connection that goes back to the shelf keeps it for the next request to the same origin. */
struct net_connection {
    CURLM *multi;
    CURL *easy;
    char origin[NET_ORIGIN_SIZE];
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
bool net_shelf_take(struct net_shelf *shelf, const char *origin,
                    struct net_connection *ret_connection);
/* The shelf owns the connection afterwards; *connection is empty. */
void net_shelf_return(struct net_shelf *shelf, struct net_connection *connection);

/* Of an answer that is not 2xx, whatever the limit of a good one. */
enum {
    NET_ERROR_BODY_BYTES_MAX = 64 * 1024
};

/* One request on its way. */
struct net_transfer {
    const struct net_options *options;
    const struct net_request *request;
    struct net_response *response;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    const char *origin;
    struct err *err; /* filled by the callback that gave up, see `gave_up` */
    bool gave_up;
    bool address_refused;
    bool connected;
    bool answer_begun;
    uint64_t body_read; /* bytes of the request body handed to curl */
    size_t headers_size;
    long system_error; /* errno of a connection that did not come about; 0 for another reason */
    curl_off_t bytes_moved; /* in both directions, when last looked at */
    int64_t connected_ms;
    int64_t moved_ms; /* when a byte last moved, or the wait for the answer began */
};

void net_set_callbacks(struct net_transfer *transfer);
