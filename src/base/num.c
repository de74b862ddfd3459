#include "num.h"

bool num_parse_u64(struct str text, uint64_t min, uint64_t max, uint64_t *ret_value,
                   struct err *err)
{
    uint64_t value = 0;
    bool good = text.len > 0;
    for (size_t i = 0; good && i < text.len; i++) {
        char c = text.ptr[i];
        good = c >= '0' && c <= '9' && !__builtin_mul_overflow(value, UINT64_C(10), &value) &&
               !__builtin_add_overflow(value, (uint64_t)(c - '0'), &value);
    }
    if (!good || value < min || value > max) {
        return err_set(err, ERR_INVALID, "'%.*s' is not a whole number from %llu to %llu",
                       STR_ARG(str_first(text, 40)), (unsigned long long)min,
                       (unsigned long long)max);
    }
    *ret_value = value;
    return true;
}

bool num_parse_bytes(struct str text, uint64_t *ret_value, struct err *err)
{
    /* clang-format off */
    static const struct { const char *unit; uint64_t factor; } units[] = {
        { "", 1 }, { "B", 1 },
        { "KB", 1000 }, { "MB", 1000000 }, { "GB", 1000000000 }, { "TB", 1000000000000 },
        { "KiB", 1024 }, { "MiB", 1048576 }, { "GiB", 1073741824 }, { "TiB", 1099511627776 },
    };
    /* clang-format on */
    text = str_trim(text);
    size_t digits = 0;
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9') {
        digits++;
    }
    struct str unit = str_trim(str_from(text, digits));
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (str_equal_nocase(unit, str_of(units[i].unit))) {
            uint64_t count;
            if (!num_parse_u64(str_first(text, digits), 0, UINT64_MAX / units[i].factor, &count,
                               err)) {
                break;
            }
            *ret_value = count * units[i].factor;
            return true;
        }
    }
    return err_set(err, ERR_INVALID, "'%.*s' is not a size such as 512MB, 6GB or 1GiB",
                   STR_ARG(str_first(text, 40)));
}

bool num_parse_bool(struct str text, bool *ret_value, struct err *err)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        if (str_equal_nocase(text, str_of(yes[i])) || str_equal_nocase(text, str_of(no[i]))) {
            *ret_value = str_equal_nocase(text, str_of(yes[i]));
            return true;
        }
    }
    return err_set(err, ERR_INVALID, "'%.*s' is not true or false", STR_ARG(str_first(text, 40)));
}
