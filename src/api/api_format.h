/* api_format.h - which form of a result the client asks for.
 * `?format=` wins, then `Accept`; without either, or with an Accept that names none of ours, it is
 * JSON, as the snapshot contract has it. */
#pragma once

#include "api_internal.h"

/* ERR_INVALID for a `format` that does not exist. */
bool format_choose(const struct request *request, enum worker_format *ret_format,
                   struct err *err) MUST_CHECK;

/* NULL for JSON, whose content type is the personality's. */
const char *format_content_type(enum worker_format format);
