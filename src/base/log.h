/* log.h - one line per event on stderr: JSON lines, or readable text when stderr is a terminal.
 * Event names are fixed (`engine.worker_killed`); fields are a name and a value. Control characters
 * in a value, from whomever, are escaped or replaced: they neither begin another line nor reach a
 * terminal. Row values, SQL and credentials are never logged. Code below `api`, `ops` and the
 * thread loops returns errors instead of logging them.
 * Threads   any; a line is written with one call and never interleaves. */
#pragma once

#include "err.h"
#include "str.h"

enum log_level {
    LOG_DEBUG,
    LOG_INFO,
    LOG_WARN,
    LOG_ERROR
};

struct log_field {
    const char *name;
    struct str text; /* used when ptr is set */
    int64_t number;  /* otherwise */
    bool is_flag;    /* the number is true or false */
};

#define LOG_TEXT(name_, str_) ((struct log_field){.name = (name_), .text = (str_)})
#define LOG_NUM(name_, number_) ((struct log_field){.name = (name_), .number = (int64_t)(number_)})
#define LOG_FLAG(name_, flag_) \
    ((struct log_field){.name = (name_), .number = (flag_), .is_flag = true})
#define LOG_ERR(err_) \
    LOG_TEXT("error", str_of((err_)->message)), LOG_TEXT("detail", str_of((err_)->detail))

void log_set_level(enum log_level level);
bool log_wants(enum log_level level);
void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t count);

#define LOG(level, event, ...)                               \
    do {                                                     \
        const struct log_field fields_[] = {__VA_ARGS__};    \
        log_write(level, event, fields_, COUNT_OF(fields_)); \
    } while (0)
