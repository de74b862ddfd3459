/* worker_read.h - what the readers of bodies share: the columns that are told first.
 * Threads   the worker's main thread. */
#pragma once

#include "worker_channel.h"
#include "worker_encode.h"

/* ERR_INVALID for a column without a name, and for two names that are the same without case. */
bool read_check_names(const struct str *names, size_t count, struct err *err) MUST_CHECK;

/* Sends COLUMNS. */
bool read_send_columns(struct channel *channel, const struct worker_schema *schema,
                       struct err *err) MUST_CHECK;
