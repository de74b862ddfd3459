#include "clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec now;
    (void)clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_now_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_now_ms(void)
{
    return clock_now_us() / 1000;
}

int64_t clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

struct civil_time clock_civil_utc(int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    (void)gmtime_r(&seconds, &parts);
    return (struct civil_time){
        .year = parts.tm_year + 1900,
        .month = parts.tm_mon + 1,
        .day = parts.tm_mday,
        .hour = parts.tm_hour,
        .minute = parts.tm_min,
        .second = parts.tm_sec,
        .millisecond = (int)(wall_ms % 1000),
    };
}

bool clock_date_is_real(int year, int month, int day)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (year < 1 || year > 9999 || month < 1 || month > 12 || day < 1) {
        return false;
    }
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return day <= days[month - 1] + (month == 2 && leap);
}

void clock_format_iso(int64_t wall_ms, char text[static CLOCK_ISO_SIZE])
{
    struct civil_time t = clock_civil_utc(wall_ms);
    (void)snprintf(text, CLOCK_ISO_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.year, t.month,
                   t.day, t.hour, t.minute, t.second, t.millisecond);
}

void clock_format_amz(int64_t wall_ms, char text[static CLOCK_ISO_SIZE])
{
    struct civil_time t = clock_civil_utc(wall_ms);
    (void)snprintf(text, CLOCK_ISO_SIZE, "%04d%02d%02dT%02d%02d%02dZ", t.year, t.month, t.day,
                   t.hour, t.minute, t.second);
}
