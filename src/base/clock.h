/* clock.h - time: monotonic for durations and deadlines, wall time for names and logs, civil dates
 * without localtime. */
#pragma once

#include "str.h"

struct buf;

int64_t clock_now_ms(void);  /* monotonic */
int64_t clock_now_us(void);  /* monotonic */
int64_t clock_wall_ms(void); /* since 1970-01-01T00:00:00Z */

struct civil_time {
    int year;  /* 1..9999 */
    int month; /* 1..12 */
    int day;   /* 1..31 */
    int hour, minute, second, millisecond;
};

struct civil_time clock_civil_utc(int64_t wall_ms);
bool clock_date_is_real(int year, int month, int day); /* Gregorian, years 1..9999 */

#define CLOCK_ISO_SIZE 32
void clock_format_iso(int64_t wall_ms,
                      char text[static CLOCK_ISO_SIZE]); /* 2026-01-31T10:00:00.123Z */
void clock_format_amz(int64_t wall_ms, char text[static CLOCK_ISO_SIZE]); /* 20260131T100000Z */
