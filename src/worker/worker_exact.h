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

/* ---- strings, with their quotes ---- */

/* Two's complement, little-endian, 4 to 32 bytes; value / 10^scale, of which scale may be negative.
 */
void exact_append_decimal(struct buf *out, const unsigned char *bytes, size_t width, int scale);
void exact_append_date(struct buf *out, int64_t days);
/* Times count units of 10^-digits seconds; digits is 0, 3, 6 or 9. A time of day is within the day.
 */
void exact_append_time(struct buf *out, int64_t value, unsigned digits);
/* `zone`: a moment, told in UTC. */
void exact_append_timestamp(struct buf *out, int64_t value, unsigned digits, bool zone);
void exact_append_duration(struct buf *out, int64_t value, unsigned digits);
void exact_append_interval(struct buf *out, int32_t months, int32_t days, int64_t nanoseconds);
void exact_append_blob(struct buf *out, struct str bytes);
void exact_append_uuid(struct buf *out, const unsigned char bytes[static 16]);
