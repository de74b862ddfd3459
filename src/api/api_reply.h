/* api_reply.h - what replies and streamed results have in common. */
#pragma once

#include "api_internal.h"

/* The request's own headers, borrowed; `into` has room for REQUEST_HEADERS_MAX. */
size_t reply_headers(const struct request *request, struct http_reply_header *into);
const char *reply_result_type(const struct request *request);
void reply_log_failure(const struct request *request, unsigned status, const struct err *err);
