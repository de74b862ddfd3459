/* worker_redact.h - a statement as others may see it.
 * Promise   the result has none of the statement's literals: strings, numbers, blobs and dollar
 *           quotes are `?`; comments are gone; white space between tokens is one space. Names,
 *           keywords and parameters ($1, $name) stay. What is no single statement that reads or
 *           changes rows, or cannot be cut into tokens without a doubt, is "(not shown)".
 * Not here  names that are secrets themselves: what a client writes as a name is shown.
 * Threads   none shared. Runs no SQL and needs no engine: the server calls it.
 * Limits    size_max bytes, at least 16; longer ones end with "..." after a whole token. Time is
 *           linear in the statement. */
#pragma once

#include "buf.h"
#include "str.h"

/* Appends to `into`, whose own limit has to leave room for size_max bytes. */
void worker_redact(struct str statement, size_t size_max, struct buf *into);
