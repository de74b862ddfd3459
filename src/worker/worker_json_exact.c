#include "worker_exact.h"
#include "worker_json_plan.h"

/* A MAP is stored as a list of pairs; the keys of exact lines are texts. */
void plan_append_map(const struct plan *plan, const struct view *view, uint64_t row,
                     struct buf *out)
{
    duckdb_list_entry entry = AT(duckdb_list_entry);
    const struct plan *pair = plan->parts;
    const struct view *pairs = view->parts;
    buf_append_byte(out, '{');
    for (uint64_t i = entry.offset; i < entry.offset + entry.length; i++) {
        if (i > entry.offset) {
            buf_append_byte(out, ',');
        }
        plan_append_varchar(&pair->parts[0], &pairs->parts[0], i, out);
        buf_append_byte(out, ':');
        plan_append_value(&pair->parts[1], &pairs->parts[1], i, out);
    }
    buf_append_byte(out, '}');
}

static void exact_decimal(const struct plan *plan, const struct view *view, uint64_t row,
                          struct buf *out)
{
    if (plan->stored == DUCKDB_TYPE_HUGEINT) {
        const duckdb_hugeint *value = &AT(duckdb_hugeint);
        exact_append_decimal(out, (const unsigned char *)value, sizeof(*value), (int)plan->scale);
        return;
    }
    int64_t value = plan->stored == DUCKDB_TYPE_SMALLINT  ? AT(int16_t)
                    : plan->stored == DUCKDB_TYPE_INTEGER ? AT(int32_t)
                                                          : AT(int64_t);
    exact_append_decimal(out, (const unsigned char *)&value, sizeof(value), (int)plan->scale);
}

static bool append_infinity(struct buf *out, int64_t value, int64_t infinity)
{
    if (value == infinity || value == -infinity) {
        buf_append_text(out, value > 0 ? "\"infinity\"" : "\"-infinity\"");
        return true;
    }
    return false;
}

static void exact_date(const struct plan *plan, const struct view *view, uint64_t row,
                       struct buf *out)
{
    (void)plan;
    if (!append_infinity(out, AT(int32_t), INT32_MAX)) {
        exact_append_date(out, AT(int32_t));
    }
}

static void exact_timestamp(const struct plan *plan, const struct view *view, uint64_t row,
                            struct buf *out)
{
    unsigned digits = plan->type == DUCKDB_TYPE_TIMESTAMP_S    ? 0
                      : plan->type == DUCKDB_TYPE_TIMESTAMP_MS ? 3
                      : plan->type == DUCKDB_TYPE_TIMESTAMP_NS ? 9
                                                               : 6;
    if (!append_infinity(out, AT(int64_t), INT64_MAX)) {
        exact_append_timestamp(out, AT(int64_t), digits, plan->type == DUCKDB_TYPE_TIMESTAMP_TZ);
    }
}

/* clang-format off */
APPENDER(exact_bool,      buf_append(out, AT(bool) ? STR("true") : STR("false")))
APPENDER(exact_tinyint,   exact_append_i64(out, AT(int8_t)))
APPENDER(exact_smallint,  exact_append_i64(out, AT(int16_t)))
APPENDER(exact_integer,   exact_append_i64(out, AT(int32_t)))
APPENDER(exact_bigint,    exact_append_i64(out, AT(int64_t)))
APPENDER(exact_utinyint,  exact_append_u64(out, AT(uint8_t)))
APPENDER(exact_usmallint, exact_append_u64(out, AT(uint16_t)))
APPENDER(exact_uinteger,  exact_append_u64(out, AT(uint32_t)))
APPENDER(exact_ubigint,   exact_append_u64(out, AT(uint64_t)))
APPENDER(exact_hugeint,   exact_append_i128(out, hugeint_of(AT(duckdb_hugeint))))
APPENDER(exact_uhugeint,  exact_append_u128(out, (unsigned __int128)hugeint_of(AT(duckdb_hugeint))))
APPENDER(exact_float,     exact_append_float(out, AT(float), plan->nested))
APPENDER(exact_double,    exact_append_double(out, AT(double), plan->nested))

static value_appender *const appenders[] = {
    [DUCKDB_TYPE_BOOLEAN]      = exact_bool,
    [DUCKDB_TYPE_TINYINT]      = exact_tinyint,
    [DUCKDB_TYPE_SMALLINT]     = exact_smallint,
    [DUCKDB_TYPE_INTEGER]      = exact_integer,
    [DUCKDB_TYPE_BIGINT]       = exact_bigint,
    [DUCKDB_TYPE_UTINYINT]     = exact_utinyint,
    [DUCKDB_TYPE_USMALLINT]    = exact_usmallint,
    [DUCKDB_TYPE_UINTEGER]     = exact_uinteger,
    [DUCKDB_TYPE_UBIGINT]      = exact_ubigint,
    [DUCKDB_TYPE_HUGEINT]      = exact_hugeint,
    [DUCKDB_TYPE_UHUGEINT]     = exact_uhugeint,
    [DUCKDB_TYPE_FLOAT]        = exact_float,
    [DUCKDB_TYPE_DOUBLE]       = exact_double,
    [DUCKDB_TYPE_DECIMAL]      = exact_decimal,
    [DUCKDB_TYPE_DATE]         = exact_date,
    [DUCKDB_TYPE_TIMESTAMP]    = exact_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_S]  = exact_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_MS] = exact_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_NS] = exact_timestamp,
    [DUCKDB_TYPE_TIMESTAMP_TZ] = exact_timestamp,
    [DUCKDB_TYPE_LIST]         = plan_append_list,
    [DUCKDB_TYPE_STRUCT]       = plan_append_struct,
    [DUCKDB_TYPE_MAP]          = plan_append_map,
    [DUCKDB_TYPE_VARCHAR]      = plan_append_varchar,
};
/* clang-format on */

value_appender *plan_exact_appender(duckdb_type type)
{
    assert((size_t)type < COUNT_OF(appenders) && appenders[type] != NULL);
    return appenders[type];
}
