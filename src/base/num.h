/* num.h - text to number with a range, and arithmetic that reports overflow. */
#pragma once

#include "err.h"
#include "str.h"

bool num_parse_u64(struct str text, uint64_t min, uint64_t max, uint64_t *ret_value,
                   struct err *err) MUST_CHECK;

/* A size in bytes: digits, then an optional unit (B, KB, MB, GB, KiB, MiB, GiB; case does not
 * matter). KB is 1000. */
bool num_parse_bytes(struct str text, uint64_t *ret_value, struct err *err) MUST_CHECK;

bool num_parse_bool(struct str text, bool *ret_value, struct err *err) MUST_CHECK;

static inline bool num_add(size_t a, size_t b, size_t *ret_sum)
{
    return !__builtin_add_overflow(a, b, ret_sum);
}

static inline bool num_mul(size_t a, size_t b, size_t *ret_product)
{
    return !__builtin_mul_overflow(a, b, ret_product);
}
