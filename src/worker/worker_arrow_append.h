/* worker_arrow_append.h - how values get from the engine's vectors into a batch: one function per
 * way of storing them. Each appends rows [first, first + count) of what arrow_column_bind() bound,
 * and is chosen once, by arrow_column_init(). */
#pragma once

#include "worker_arrow_column.h"

column_appender append_fixed;     /* the same bytes in both */
column_appender append_date;      /* infinities become NULL */
column_appender append_timestamp; /* the same */
column_appender append_time;      /* 24:00:00 does not fit */
column_appender append_interval;  /* microseconds become nanoseconds */
column_appender append_decimal;   /* of 2, 4 or 8 bytes, becomes one of 16 */
column_appender append_hugeint;   /* must have at most 38 digits */
column_appender append_uuid;      /* big-endian */
column_appender append_bool;      /* becomes bits */
column_appender append_bytes;     /* text or blob */
column_appender append_list;      /* also MAP */
column_appender append_array;
column_appender append_struct;
column_appender append_nothing; /* only NULL */
