/* api_s3_config.h - the request bodies of the snapshot personality, field by field, with the
 * contract's words. */
#pragma once

#include "api_internal.h"

/* The body as JSON in request->body, or a reply: content type, "Invalid JSON", "body must be an
 * object". */
bool snapshot_read_body(struct request *request);

/* A member that must be a string with more than white space: its text is appended to `into`.
 * `where` is what the message calls the field, such as "s3_config.bucket". */
bool snapshot_text_field(struct json_span object, const char *name, const char *where,
                         struct buf *into, struct err *err) MUST_CHECK;

/* The s3_config of the body becomes a store of the request's own. */
bool snapshot_open_store(struct request *request, struct store **ret_store,
                         struct err *err) MUST_CHECK;
