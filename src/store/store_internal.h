/* store_internal.h - what the two kinds of store share: the table of operations and small helpers
 * around keys. */
#pragma once

#include "store.h"

struct store_probe;

struct store_operations {
    bool keeps_content_id;
    bool counts_itself; /* its requests, one by one; else store.c counts calls */
    void (*close)(struct store *store);
    void (*append_url)(const struct store *store, struct str key, struct buf *buf);
    void (*append_identity)(const struct store *store, struct buf *into);
    bool (*put)(struct store *store, struct str key, const struct store_source *source,
                const struct store_put_options *options, struct cancel *cancel,
                struct store_object *ret_object, struct err *err);
    bool (*head)(struct store *store, struct str key, struct cancel *cancel,
                 struct store_object *ret_object, struct err *err);
    bool (*get_range)(struct store *store, struct str key, const char *if_match, uint64_t offset,
                      uint64_t size, int into_fd, uint64_t into_offset, struct cancel *cancel,
                      struct err *err);
    bool (*get)(struct store *store, struct str key, struct buf *into, struct cancel *cancel,
                struct store_object *ret_object, struct err *err);
    bool (*open_direct)(struct store *store, struct str key, int *ret_fd,
                        struct store_object *ret_object, struct err *err);
    bool (*list)(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
                 struct cancel *cancel, struct err *err);
    bool (*list_folders)(struct store *store, struct str prefix, bool empty_too,
                         store_visit_fn *visit, void *context, struct cancel *cancel,
                         struct err *err);
    bool (*delete_key)(struct store *store, struct str key, struct cancel *cancel, struct err *err);
    /* NULL: there are none. */
    bool (*visit_uploads)(struct store *store, struct str prefix, store_visit_upload_fn *visit,
                          void *context, struct cancel *cancel, struct err *err);
    bool (*abort_upload)(struct store *store, struct str key, struct str id, struct cancel *cancel,
                         struct err *err);
    /* For store_probe.c. The first tells why nothing more can be asked; the others may be NULL. */
    bool (*probe_reach)(struct store *store, struct store_probe *probe);
    void (*probe_conditions)(struct store *store, struct store_probe *probe);
    void (*probe_end)(struct store *store, const struct store_probe *probe);
};

/* The first member of each kind of store. */
struct store {
    const struct store_operations *operations;
};

/* Percent-encodes every byte but A-Z a-z 0-9 - . _ ~, and `/` when keep_slashes. */
void store_append_encoded(struct buf *buf, struct str text, bool keep_slashes);
/* Undoes it; a plus is a space, as S3 sends keys in list answers. False when a percent sign lacks
 * its two digits. */
bool store_append_decoded(struct buf *buf, struct str text);

/* A prefix of keys to list: like a key, but it may be empty and may end within a segment or with a
 * slash. */
bool store_check_prefix(struct str prefix, struct err *err) MUST_CHECK;

/* The parts of an endpoint that store_check_endpoint has found good. */
struct store_endpoint {
    struct str scheme; /* http or https, in the case that was given */
    struct str host;   /* brackets included */
    struct str port;   /* empty when not given */
};

bool store_split_endpoint(struct str endpoint, struct store_endpoint *ret_parts,
                          struct err *err) MUST_CHECK;

/* False for a bucket that cannot be a part of the host: the endpoint is an address, the name is no
 * host name, or it has dots and https certificates (*.host) would not cover it. */
bool store_fits_host(struct str bucket, const struct store_endpoint *parts);

/* SHA-256 and CRC-32 of a source's bytes [offset, offset + size), in one reading. */
struct store_payload {
    char sha256_hex[65];
    uint32_t crc32;
};

bool store_digest_source(const struct store_source *source, uint64_t offset, uint64_t size,
                         struct store_payload *ret_payload, struct err *err) MUST_CHECK;

/* ---- counting (store_counts.c) ---- */
void store_count_call(enum store_operation operation, int64_t start_us, enum err_kind result);
void store_count_retry(enum store_operation operation);
void store_count_bytes(uint64_t in, uint64_t out);
