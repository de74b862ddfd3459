/* store.h - objects in S3 or in a local folder, behind one small interface.
 * Promise   store_put answers true only when the whole object can be read back under its key: S3
 *           has acknowledged it, the folder has synced file and directory. A put that fails leaves
 *           no object and no multipart upload behind, or says ERR_UNCERTAIN. Create-only puts never
 *           replace an object (ERR_CONFLICT), also when several writers race. Keys are bytes:
 *           spaces, `+`, `=`, `%`, `#`, `?`, `*` and non-ASCII letters survive the round trip.
 * Not here  what an object means; caching (store_cache.h); globs (store_match_key matches, the
 *           caller lists).
 * Owner     store_open_* gives one handle, to be closed by store_close; a handle for a request's
 *           own credentials is cheap.   Threads  a handle may be used by several threads at once.
 * Errors    ERR_STORE (unreachable, 5xx after retries), ERR_STORE_DENIED (401, 403),
 *           ERR_STORE_MISSING (404: no such object or bucket), ERR_CONFLICT (create-only put of an
 *           existing key; if_match that does not match any more), ERR_UNCERTAIN, ERR_INVALID (key
 *           or option), ERR_TIMEOUT and ERR_CANCELLED from cancel. Messages name the object's key
 *           or bucket, never credentials.
 * Limits    key 1024 bytes, single put up to 16 MiB, multipart above; 3 attempts per call with
 *           full-jitter backoff 50 ms..20 s and a retry budget per endpoint; list answers of at
 *           most 1 MiB of XML per page. */
#pragma once

#include "buf.h"
#include "cancel.h"
#include "err.h"
#include "metric.h"

struct net;
struct store;

enum {
    STORE_KEY_SIZE_MAX = 1024,
    STORE_ETAG_SIZE = 256,
    STORE_CONTENT_ID_SIZE = 65 /* with the NUL */
};

struct store_object {
    uint64_t size;
    char etag[STORE_ETAG_SIZE]; /* opaque, quotes included; a folder makes one from size, inode and
                                   change time */
    char content_id
        [STORE_CONTENT_ID_SIZE]; /* from store_head alone: what the put gave; "" without */
};

/* All strings are copied. */
struct store_s3_options {
    struct str endpoint; /* http://host[:port] or https://...; a trailing slash is ignored */
    struct str bucket;
    struct str region; /* "us-east-1" when empty */
    struct str access_key;
    struct str secret_key;
    struct str session_token; /* may be empty */
    bool virtual_hosted;      /* the bucket in the host name; default: in the path. A bucket that
                                 cannot be there (an address as endpoint, capitals or an underscore
                                 in its name, dots and https) stays in the path */
    bool own; /* the server's own store, by its configuration and with its keys: the list of allowed
                 endpoints does not apply to it */
};

struct store *store_open_s3(struct net *net, const struct store_s3_options *options,
                            struct err *err);
/* Creates the folder when it is missing. */
struct store *store_open_folder(const char *path, struct err *err);
void store_close(struct store *store);

/* Checks the form of an endpoint: http(s), a host, no userinfo, path, query or fragment. */
bool store_check_endpoint(struct str endpoint, struct err *err) MUST_CHECK;
/* True for AWS's own endpoints, which want the bucket in the host name. */
bool store_is_aws(struct str endpoint);
/* Refuses what no store should be asked for: empty, over 1024 bytes, control bytes, `.` or `..` or
 * empty segments. */
bool store_check_key(struct str key, struct err *err) MUST_CHECK;
/* 3..63 (255 for old buckets) letters, digits, `.`, `-`, `_`, beginning and ending with a letter or
 * digit. */
bool store_check_bucket(struct str bucket, struct err *err) MUST_CHECK;

/* The address of a key for people and answers: s3://bucket/key or file:///folder/key (an absolute
 * path). */
void store_append_url(const struct store *store, struct str key, struct buf *buf);

/* Appends a text that tells this store from every other, whoever asks: its endpoint and bucket, or
 * its folder. */
void store_append_identity(const struct store *store, struct buf *into);

/* What is put: `bytes` when fd is -1, else `size` bytes of fd from offset 0. */
struct store_source {
    struct str bytes;
    int fd;
    uint64_t size;
};

struct store_put_options {
    bool create_only;
    const char *content_type; /* NULL: application/octet-stream */
    const char
        *content_id; /* what the object is, for whoever finds its key taken: letters and digits,
                               kept with it (store_keeps_content_id). NULL: none */
};

/* A folder has no place for it. */
bool store_keeps_content_id(const struct store *store);

bool store_put(struct store *store, struct str key, const struct store_source *source,
               const struct store_put_options *options, struct cancel *cancel,
               struct store_object *ret_object, struct err *err) MUST_CHECK;

bool store_head(struct store *store, struct str key, struct cancel *cancel,
                struct store_object *ret_object, struct err *err) MUST_CHECK;

/* Writes bytes [offset, offset + size) of the object to into_fd from into_offset on. `if_match` is
 * an ETag from head or list: an object that has changed since is ERR_CONFLICT, never mixed bytes.
 * NULL does not check. */
bool store_get_range(struct store *store, struct str key, const char *if_match, uint64_t offset,
                     uint64_t size, int into_fd, uint64_t into_offset, struct cancel *cancel,
                     struct err *err) MUST_CHECK;

/* The whole of a small object; over the buffer's ceiling is ERR_TOO_LARGE. */
bool store_get(struct store *store, struct str key, struct buf *into, struct cancel *cancel,
               struct store_object *ret_object, struct err *err) MUST_CHECK;

/* A descriptor to read the object in place: a folder has one; S3 does not and answers true with -1.
 * The object is described in ret_object when there is a descriptor. */
bool store_open_direct(struct store *store, struct str key, int *ret_fd,
                       struct store_object *ret_object, struct err *err) MUST_CHECK;

/* Calls `visit` for each key that begins with prefix, in the order of their bytes. `visit` returns
 * false, with err set, to stop. */
typedef bool store_visit_fn(void *context, struct str key, const struct store_object *object,
                            struct err *err);
bool store_list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
                struct cancel *cancel, struct err *err) MUST_CHECK;

/* The same for the names of the folders directly beneath prefix (which ends with a slash); `object`
 * is NULL. A local folder may hold some without an object in them: `empty_too` takes those as well,
 * and saves a walk through each. */
bool store_list_folders(struct store *store, struct str prefix, bool empty_too,
                        store_visit_fn *visit, void *context, struct cancel *cancel,
                        struct err *err) MUST_CHECK;

/* Deleting a key that is not there is success. */
bool store_delete(struct store *store, struct str key, struct cancel *cancel,
                  struct err *err) MUST_CHECK;

/* Multipart uploads that were begun and neither completed nor aborted, of keys that begin with
 * prefix: those that a crash left, and those that go on now, here or in another process. A folder
 * has none (what a crash left of its own is swept when it is opened). The text of `id` is the
 * visitor's until it returns; `visit` returns false, with err set, to stop. */
typedef bool store_visit_upload_fn(void *context, struct str key, struct str id, struct err *err);
bool store_visit_uploads(struct store *store, struct str prefix, store_visit_upload_fn *visit,
                         void *context, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Afterwards nobody can complete it. One that is not there is success. */
bool store_abort_upload(struct store *store, struct str key, struct str id, struct cancel *cancel,
                        struct err *err) MUST_CHECK;

/* Globs as DuckDB has them: `*` and `[ab]` within one segment, a whole segment `**` for any number
 * of segments. `?` is an ordinary character. */
bool store_has_glob(struct str pattern);
struct str store_glob_prefix(struct str pattern); /* the part before the first special character */
bool store_match_key(struct str pattern, struct str key);

/* What was asked of stores since the process began, by whomever. In S3 each request with its own
 * answer is a call (a page of a list, a part of an upload), further attempts are retries; in a
 * folder each call of this interface is one. Bytes are those of bodies, failed attempts included;
 * objects that are read in place are not seen. */
enum store_operation {
    STORE_HEAD,
    STORE_GET,
    STORE_PUT,
    STORE_LIST,
    STORE_DELETE,
    STORE_MULTIPART, /* begin, part, complete or abort of an upload; their list */
    STORE_OPERATION_COUNT
};

struct store_counts {
    struct metric_counter calls[STORE_OPERATION_COUNT][ERR_KIND_COUNT]; /* ERR_NONE: it worked */
    struct metric_histogram time[STORE_OPERATION_COUNT]; /* retries and their pauses included */
    struct metric_counter retries[STORE_OPERATION_COUNT];
    struct metric_counter bytes_in; /* from stores */
    struct metric_counter bytes_out;
};

const struct store_counts *store_counts(void);
