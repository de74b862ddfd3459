/* worker_exact.h - values of bodies as JSON that gives the same value when its text is cast back.
 * Promise   true, false and numbers are JSON's literals, all digits of an integer and the fewest of
 *           a real that read back as the same one; not-a-number and infinities are NaN, Infinity
 *           and -Infinity, inside nested values strings of that. Everything else is a string: what
 *           the engine's CAST(value AS VARCHAR) gives for its type.
 * Not here  which type a value is cast to: lake_schema.h.
 * Threads   none shared. */
#pragma once

#include "buf.h"

void exact_append_i64(struct buf *out, int64_t value);
void exact_append_u64(struct buf *out, uint64_t value);
void exact_append_i128(struct buf *out, __int128 value);
void exact_append_u128(struct buf *out, unsigned __int128 value);
void exact_append_double(struct buf *out, double value, bool nested);
void exact_append_float(struct buf *out, float value, bool nested);
