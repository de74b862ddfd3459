/* store_sigv4.h - AWS Signature Version 4 for S3: the text of the Authorization header.
 * Promise   the canonical query is also the query to send: sorted, every byte but A-Z a-z 0-9 - . _
 * ~ encoded. Not here  which headers a request needs; they are all signed, in the order of their
 * names. */
#pragma once

#include "buf.h"

struct sigv4_pair {
    struct str name; /* headers: lower case */
    struct str value;
};

struct sigv4_keys {
    struct str access_key;
    struct str secret_key;
    struct str region;
};

struct sigv4_request {
    const char *method;
    struct str path;                  /* encoded, as in the URL */
    struct str query;                 /* from sigv4_append_query */
    const struct sigv4_pair *headers; /* sorted with sigv4_sort; host and x-amz-date among them */
    size_t headers_count;
    const char *payload_sha256_hex;
    const char *amz_date; /* 20260131T100000Z */
};

/* Sorts by name, then by value. */
void sigv4_sort(struct sigv4_pair *pairs, size_t count);
/* Pairs in plain text; sorts what it was given by the encoded names. */
void sigv4_append_query(struct buf *buf, const struct sigv4_pair *pairs, size_t count);
void sigv4_append_authorization(struct buf *buf, const struct sigv4_keys *keys,
                                const struct sigv4_request *request);
