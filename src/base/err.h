/* err.h - the one error type.
 * Promise   a function that can fail returns false and fills the caller's struct err, only then.
 *           `message` is for the client: no paths, no SQL, no secrets. `detail` is for the log.
 * Not here  HTTP wording: each personality decides how a kind and a message look on the wire.
 * Owner     the caller, on its stack.   Threads  none shared.   Limits  both texts are cut at their
 *           size. */
#pragma once

#include "macros.h"

#include <stdarg.h>

enum err_kind {
    ERR_NONE = 0,
    ERR_INVALID,         /* the caller's request is wrong */
    ERR_UNAUTHENTICATED, /* who asks is not said, or not rightly */

    ERR_FORBIDDEN,     /* understood and refused */
    ERR_NOT_FOUND,     /* the thing named does not exist */
    ERR_METHOD,        /* the route exists, the method does not */
    ERR_CONFLICT,      /* somebody else was first */
    ERR_TOO_LARGE,     /* over a size limit */
    ERR_MEDIA_TYPE,    /* content type or encoding not known */
    ERR_UNPROCESSABLE, /* well-formed, yet no answer is possible (a query beyond its memory) */
    ERR_BUSY,          /* a queue is full; try again */
    ERR_CANCELLED,     /* the client went away */
    ERR_STOPPED,       /* somebody asked for the work to end */
    ERR_TIMEOUT,       /* a deadline passed */
    ERR_STORE,         /* the object store failed or could not be reached */
    ERR_STORE_DENIED,  /* the object store refused the credentials */
    ERR_STORE_MISSING, /* the object or bucket does not exist */
    ERR_UNCERTAIN,     /* the request may or may not have taken effect */
    ERR_CORRUPT,       /* bytes from disk or network break their format */
    ERR_NOT_IMPLEMENTED,
    ERR_UNAVAILABLE, /* a part of the server is not usable now */
    ERR_INTERNAL,    /* a fault of the server itself */
    ERR_KIND_COUNT
};

struct err {
    enum err_kind kind;
    char message[768];
    char detail[768];
};

/* One row of the table that gives each kind its HTTP status, wire code and whether a retry may
 * help. */
struct err_kind_info {
    unsigned http_status;
    const char *code;
    bool may_retry;
};

const struct err_kind_info *err_kind_info(enum err_kind kind);

/* Both return false, so that a function can end with `return err_set(...)`. */
bool err_set(struct err *err, enum err_kind kind, const char *format, ...) PRINTF_LIKE(3, 4);
bool err_set_errno(struct err *err, enum err_kind kind, int errno_value, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* Adds what only the log may see. */
void err_add_detail(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);
