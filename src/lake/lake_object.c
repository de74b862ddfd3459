#include "clock.h"
#include "lake_internal.h"
#include "lake_ship.h"
#include "num.h"

/* data_HHMMSS_<12 hex digits>-r<first>-<last>.parquet, or -b<position>: 16 digits each, so that
 * names of one second are listed in the order of the log. Before the suffix -p<part>, 5 digits,
 * when the plan has several objects of the day. */
enum {
    WRITER_DIGITS = 12,
    WRITER_AT = 12, /* after "data_HHMMSS_" */
    REST_AT = WRITER_AT + WRITER_DIGITS + 1
};

#define DAY_MS INT64_C(86400000)

void lake_object_append_key(const struct lake *lake, struct str table, int32_t day, int64_t time_ms,
                            enum lake_way way, uint64_t first, uint64_t last, size_t part,
                            struct buf *key)
{
    struct civil_time date = clock_civil_utc(day * DAY_MS);
    struct civil_time time = clock_civil_utc(time_ms);
    lake_append_table_prefix(key, lake, table);
    buf_append_format(key, "year=%04d/month=%02d/day=%02d/data_%02d%02d%02d_%.*s-", date.year,
                      date.month, date.day, time.hour, time.minute, time.second, WRITER_DIGITS,
                      wal_writer(lake->records));
    if (way == LAKE_BATCH) {
        buf_append_format(key, "b%016llu", (unsigned long long)last);
    } else {
        buf_append_format(key, "r%016llu-%016llu", (unsigned long long)first,
                          (unsigned long long)last);
    }
    if (part != LAKE_PART_NONE) {
        buf_append_format(key, "-p%05zu", part);
    }
    buf_append_text(key, ".parquet");
}

/* What comes after this writer's digits in the name of one of its objects; false: it is
 * another's. */
static bool own_part(const struct lake *lake, struct str key, struct str *ret_part)
{
    size_t leaf = key.len;
    while (leaf > 0 && key.ptr[leaf - 1] != '/') {
        leaf--;
    }
    struct str name = str_from(key, leaf);
    struct str writer = str_make(wal_writer(lake->records), WRITER_DIGITS);
    if (name.len <= REST_AT || !str_starts(name, STR("data_")) ||
        !str_ends(name, STR(".parquet")) || name.ptr[REST_AT - 1] != '-' ||
        !str_equal(str_make(name.ptr + WRITER_AT, WRITER_DIGITS), writer)) {
        return false;
    }
    *ret_part = str_first(str_from(name, REST_AT), name.len - REST_AT - STR(".parquet").len);
    return ret_part->len > 1;
}

bool lake_object_is_own(const struct lake *lake, struct str key)
{
    struct str part;
    return own_part(lake, key, &part);
}

static bool is_undecided(const struct lake_view *view, uint64_t position)
{
    bool found = position > view->position;
    for (size_t i = 0; !found && i < view->undecided_count; i++) {
        found = view->undecided[i] == position;
    }
    return found;
}

bool lake_view_hides(const struct lake *lake, const struct lake_view *view, struct str key)
{
    struct str part;
    uint64_t position;
    struct err ignored;
    if (!own_part(lake, key, &part)) {
        return false;
    }
    struct str digits = str_from(part, 1);
    if (part.ptr[0] == 'b') {
        return num_parse_u64(digits, 0, UINT64_MAX, &position, &ignored) &&
               (is_undecided(view, position) || lake_ship_is_cancelled(lake, key));
    }
    size_t dash = str_find_byte(digits, '-');
    struct str last = str_from(digits, dash < digits.len ? dash + 1 : dash);
    last = str_first(last, str_find_byte(last, '-')); /* -p<part> may follow */
    return part.ptr[0] == 'r' && dash < digits.len &&
           num_parse_u64(last, 0, UINT64_MAX, &position, &ignored) && position > view->committed;
}
