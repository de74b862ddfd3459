/* worker_rows.h - result chunks become the `data` of contracts/analytics.md: rows as arrays.
 * Promise   ALL and MANY: [[1,"a"],[2,"b"]]; ONE: the first row itself, or null; NONE: null, after
 *           the statement has run to its end. Values by section 3 of the contract at any depth:
 *           integers with all their digits, reals as Python prints them, DECIMAL a string with its
 *           zeros, times as ISO 8601, BLOB its text when it is UTF-8 and \xNN of the other bytes
 *           when it is not, INTERVAL a duration whose months have 30 days; NaN and infinities null.
 * Owner     the caller.   Threads  none shared.   Limits  those of the sink. */
#pragma once

#include "worker_database.h"
#include "worker_encode.h"
#include "worker_sink.h"

struct rows_options {
    enum worker_fetch fetch;
    uint64_t fetch_size; /* MANY */
    uint64_t rows_max;   /* 0: all */
};

/* Appends to sink->out, and sends what has gathered as it goes, if the sink has a channel. */
bool rows_encode(duckdb_result *result, const struct rows_options *options, struct sink *sink,
                 struct encode_outcome *ret_outcome, struct err *err) MUST_CHECK;
