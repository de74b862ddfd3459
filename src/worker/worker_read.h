/* worker_read.h - the readers of bodies, and what they share: the columns that are told first.
 * Threads   the worker's main thread. */
#pragma once

#include "worker_channel.h"
#include "worker_encode.h"

/* ERR_INVALID for a column without a name, and for two names that are the same without case. */
bool read_check_names(const struct str *names, size_t count, struct err *err) MUST_CHECK;

/* Sends COLUMNS. */
bool read_send_columns(struct channel *channel, const struct worker_schema *schema,
                       struct err *err) MUST_CHECK;

/* The engine reads it: what JSON has no literal for is cast to text in our statement. */
bool read_parquet_body(struct duck *duck, struct channel *channel,
                       struct encode_outcome *ret_outcome, struct err *err) MUST_CHECK;
