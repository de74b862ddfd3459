/* worker_arrow_message.h - the messages of an Arrow IPC stream, version 5 of the format.
 * Promise   each message and each buffer of its body begins at a multiple of 64 bytes, if the first
 *           message does.
 * Owner     the caller.   Threads  none shared. */
#pragma once

#include "worker_arrow_column.h"
#include "worker_sink.h"

void arrow_send_schema(const struct arrow_column *columns, size_t count, struct sink *sink);

/* What is gathered in the columns; they are not emptied. */
void arrow_send_batch(const struct arrow_column *columns, size_t count, uint64_t rows,
                      struct sink *sink);

/* The dictionary of an ENUM. */
void arrow_send_dictionary(const struct arrow_column *column, struct sink *sink);

void arrow_send_end(struct sink *sink);
