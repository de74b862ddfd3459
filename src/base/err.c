#include "err.h"

#include <stdio.h>
#include <string.h>

/* clang-format off */
static const struct err_kind_info kinds[ERR_KIND_COUNT] = {
    [ERR_NONE]            = { 200, "ok",                  false },
    [ERR_INVALID]         = { 400, "invalid_request",     false },
    [ERR_UNAUTHENTICATED] = { 401, "unauthenticated",     false },
    [ERR_FORBIDDEN]       = { 403, "forbidden",           false },
    [ERR_NOT_FOUND]       = { 404, "not_found",           false },
    [ERR_METHOD]          = { 405, "method_not_allowed",  false },
    [ERR_CONFLICT]        = { 409, "conflict",            false },
    [ERR_TOO_LARGE]       = { 413, "too_large",           false },
    [ERR_MEDIA_TYPE]      = { 415, "unsupported_media",   false },
    [ERR_UNPROCESSABLE]   = { 422, "unprocessable",       false },
    [ERR_BUSY]            = { 503, "busy",                true  },
    [ERR_CANCELLED]       = { 499, "client_gone",         false },
    [ERR_STOPPED]         = { 409, "cancelled",           false },
    [ERR_TIMEOUT]         = { 504, "timeout",             true  },
    [ERR_STORE]           = { 502, "store_failed",        true  },
    [ERR_STORE_DENIED]    = { 502, "store_denied",        false },
    [ERR_STORE_MISSING]   = { 502, "store_missing",       false },
    [ERR_UNCERTAIN]       = { 502, "outcome_unknown",     true  },
    [ERR_CORRUPT]         = { 500, "corrupt",             false },
    [ERR_NOT_IMPLEMENTED] = { 501, "not_implemented",     false },
    [ERR_UNAVAILABLE]     = { 503, "unavailable",         true  },
    [ERR_INTERNAL]        = { 500, "internal",            true  },
};
/* clang-format on */

const struct err_kind_info *err_kind_info(enum err_kind kind)
{
    assert(kind < ERR_KIND_COUNT);
    return &kinds[kind];
}

static void set_texts(struct err *err, enum err_kind kind, const char *format, va_list arguments)
    PRINTF_LIKE(3, 0);

static void set_texts(struct err *err, enum err_kind kind, const char *format, va_list arguments)
{
    assert(kind != ERR_NONE);
    err->kind = kind;
    err->detail[0] = '\0';
    (void)vsnprintf(err->message, sizeof(err->message), format, arguments);
}

bool err_set(struct err *err, enum err_kind kind, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set_texts(err, kind, format, arguments);
    va_end(arguments);
    return false;
}

bool err_set_errno(struct err *err, enum err_kind kind, int errno_value, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    set_texts(err, kind, format, arguments);
    va_end(arguments);
    char reason[128];
    err_add_detail(err, "%s", strerror_r(errno_value, reason, sizeof(reason)));
    return false;
}

void err_add_detail(struct err *err, const char *format, ...)
{
    size_t used = strlen(err->detail);
    va_list arguments;
    va_start(arguments, format);
    if (used > 0 && sizeof(err->detail) - used > 2) {
        memcpy(err->detail + used, "; ", 3);
        used += 2;
    }
    (void)vsnprintf(err->detail + used, sizeof(err->detail) - used, format, arguments);
    va_end(arguments);
}
