#include "worker_exact.h"

#include "worker_number.h"
#include "worker_shim.h"

#include <math.h>

enum {
    DIGITS_SIZE = 40
};

void exact_append_i64(struct buf *out, int64_t value)
{
    char *at = buf_room(out, DIGITS_SIZE);
    if (at != NULL) {
        buf_wrote(out, number_put_i64(at, value));
    }
}

void exact_append_u64(struct buf *out, uint64_t value)
{
    char *at = buf_room(out, DIGITS_SIZE);
    if (at != NULL) {
        buf_wrote(out, number_put_u64(at, value));
    }
}

void exact_append_u128(struct buf *out, unsigned __int128 value)
{
    char text[DIGITS_SIZE];
    size_t at = DIGITS_SIZE;
    for (; value > UINT64_MAX; value /= 10) {
        text[--at] = (char)('0' + (int)(value % 10));
    }
    exact_append_u64(out, (uint64_t)value);
    buf_append_bytes(out, text + at, DIGITS_SIZE - at);
}

void exact_append_i128(struct buf *out, __int128 value)
{
    unsigned __int128 bits = (unsigned __int128)value;
    if (value < 0) {
        buf_append_byte(out, '-');
    }
    exact_append_u128(out, value < 0 ? 0 - bits : bits);
}

/* What JSON has no literal for: a nested value is kept as text that any JSON reader takes. */
static void append_special(struct buf *out, double value, bool nested)
{
    const char *text = isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    struct str quoted = str_of(text);
    buf_append(out, nested ? quoted : str_make(text + 1, quoted.len - 2));
}

void exact_append_double(struct buf *out, double value, bool nested)
{
    if (!isfinite(value)) {
        append_special(out, value, nested);
        return;
    }
    if (value == 0 && signbit(value) != 0) {
        buf_append_text(out, "-0.0"); /* without the fraction it would be read as an integer */
        return;
    }
    char *at = buf_room(out, SHIM_DIGITS_SIZE);
    if (at != NULL && !number_append_short_double(out, value)) {
        buf_wrote(out, shim_put_double(at, value));
    }
}

void exact_append_float(struct buf *out, float value, bool nested)
{
    if (!isfinite(value) || value == 0) {
        exact_append_double(out, (double)value, nested);
        return;
    }
    char *at = buf_room(out, SHIM_DIGITS_SIZE);
    if (at != NULL) {
        buf_wrote(out, shim_put_float(at, value));
    }
}
