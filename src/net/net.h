/* net.h - HTTP requests to the outside world. The only folder that includes curl, and the one place
 * that decides which addresses may be contacted.
 * Promise   net_perform sends exactly the URL, headers and body it is given (no redirects followed,
 *           no proxy from the environment, no netrc, no cookies), verifies TLS certificates, and
 *           returns within the time-outs below or as soon as `cancel` is raised. A response is
 *           whole or it is an error: a short body is ERR_STORE.
 * Not here  signatures, retries, what a status means (store).
 * Owner     struct server owns one struct net.   Threads  any number may call net_perform at once;
 *           each call takes an idle connection from a bounded shelf and puts it back.
 * Errors    ERR_FORBIDDEN (an endpoint that is not allowed), ERR_STORE (refused, reset, TLS,
 *           time-out of one phase), ERR_UNCERTAIN (a PUT, POST or DELETE was sent in full, the
 *           answer was lost), ERR_TIMEOUT and ERR_CANCELLED from cancel, ERR_CORRUPT (body over its
 *           limit).
 * Limits    connect 3 s, first byte 10 s, idle body 10 s (reliability figures, configurable for
 *           tests), response headers 64 KiB. */
#pragma once

#include "buf.h"
#include "cancel.h"
#include "err.h"

struct net;

struct net_options {
    const char *ca_file;         /* PEM bundle; NULL for the system's */
    long connect_timeout_ms;     /* 0 means 3000 */
    long first_byte_timeout_ms;  /* 0 means 10000; counted from the end of the request body */
    long idle_timeout_ms;        /* 0 means 10000; no byte in either direction */
    size_t idle_connections_max; /* 0 means 64 */
};

struct net *net_create(const struct net_options *options);
void net_destroy(struct net *net);

/* Restricts all requests but those of the server's own store (net_request.own) to a list, separated
 * by commas: host, host:port, *.suffix, *.suffix:port, an address, address:port, a network in CIDR
 * form, or `none` alone. The endpoint's host and port have to be on it, and whatever the host
 * resolves to has to be public or within an address or network on it; one answer that is not
 * refuses them all. The address connected to is one that was checked. A name without a port stands
 * for 80 and 443, an address or network without one for any; `localhost` and loopback addresses
 * stand for all of loopback. Without a list every endpoint is allowed. Link-local, metadata,
 * multicast and unspecified addresses are refused always, on a list or not, own or not.
 * A text without bytes (ptr NULL) takes the list away. Requests that have begun keep the list they
 * began with. ERR_INVALID: the list is not well-formed, and nothing has changed. */
bool net_allow_endpoints(struct net *net, struct str list, struct err *err) MUST_CHECK;

/* A host as it may stand in a URL: an ASCII name without a dot at its end, four decimal numbers,
 * or an IPv6 address in brackets. Older spellings of IPv4 addresses are not usable. */
bool net_host_usable(struct str host);

/* What is sent: bytes when fd is -1, else `size` bytes of fd from `offset` (pread; the position is
 * not moved). */
struct net_body {
    struct str bytes;
    int fd;
    uint64_t offset;
    uint64_t size;
};

struct net_request {
    const char *method;         /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *url;            /* complete and percent-encoded; sent as is */
    const char *const *headers; /* "Name: value" */
    size_t headers_count;
    const struct net_body
        *body; /* NULL for none; Content-Length is set from it, chunked is never used */
    uint64_t body_bytes_max; /* a response body beyond this is ERR_CORRUPT */
    int into_fd; /* >= 0: a 2xx body is written to this file from into_offset on; else to body */
    uint64_t into_offset;
    long first_byte_timeout_ms; /* 0 means that of the options; for requests that are known to take
                                   long */
    bool own; /* to the server's own store, as configured: the list of endpoints does not apply */
    const char *endpoint_host; /* the host that may be listed instead of the URL's, which is the
                                  same with a bucket in front; NULL for none */
};

enum {
    NET_HEADER_SIZE = 1024
};

/* Why net_perform failed, where that is known beyond the kind of the error. */
enum net_failure {
    NET_FAILURE_NONE,
    NET_FAILURE_RESOLVE, /* the host's name is not known */
    NET_FAILURE_ADDRESS, /* nobody may contact it */
    NET_FAILURE_CONNECT,
    NET_FAILURE_TLS,   /* no handshake */
    NET_FAILURE_TRUST, /* the certificate */
    NET_FAILURE_LOST   /* connected, and no whole answer */
};

struct net_response {
    enum net_failure failure;
    unsigned status;
    uint64_t body_size; /* bytes received; above body_bytes_max when that made it fail */
    bool has_content_length;
    uint64_t content_length;    /* as announced (HEAD: the object's size) */
    char etag[NET_HEADER_SIZE]; /* as sent, quotes included; "" when absent */
    char date[64];
    char content_range[128];
    char content_type[128];
    char retry_after[32];
    char checksum_crc32[32]; /* x-amz-checksum-crc32 */
    char location[NET_HEADER_SIZE];
    char meta_eider_id[64];   /* x-amz-meta-eider-id */
    char meta_content_id[65]; /* x-amz-meta-content-id */
    bool request_sent;        /* the whole request has left; set also when net_perform fails */
    struct buf body; /* bodies not written to into_fd (always for non-2xx); net_response_finish */
};

bool net_perform(struct net *net, const struct net_request *request, struct cancel *cancel,
                 struct net_response *ret_response, struct err *err) MUST_CHECK;
void net_response_finish(struct net_response *response); /* accepts zeroed memory */

/* A budget of retries per endpoint, shared by all who talk to it, so that an endpoint that is down
 * sees few more requests than usual. `name` is any text that identifies the endpoint (and whose
 * requests they are). */
bool net_take_retry(struct net *net, struct str name);   /* false: do not try again */
void net_return_retry(struct net *net, struct str name); /* after a success */
