/* log.h - one line per event on stderr: JSON lines, or readable text when stderr is a terminal.
 * Event names are fixed (`engine.worker_killed`); fields are a name and a value. Control characters
 * in a value, from whomever, are escaped or replaced: they neither begin another line nor reach a
 * terminal. Row values, SQL and credentials are never logged. Code below `api`, `ops` and the
 * thread loops returns errors instead of logging them.
 * Promise   a line of LOG is in the kernel's hands when LOG returns. Lines of LOG_LATER, of which
 *           each request has some, are written together: LOG_LATER_MS after they were said at the
 *           latest; before, when the next line finds no room among LOG_LATER_BYTES, when a line of
 *           LOG comes (their order stays), in log_stop, and when the process aborts. A process that
 *           ends by another signal loses those that waited. On a terminal, and without log_start,
 *           they are written at once.
 * Threads   any; a line never interleaves with another one. `journal` writes those that wait. */
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

enum {
    LOG_LATER_MS = 100,
    LOG_LATER_BYTES = 4096 /* what a pipe takes as one piece, whoever else writes to it */
};

#define LOG_TEXT(name_, str_) ((struct log_field){.name = (name_), .text = (str_)})
#define LOG_NUM(name_, number_) ((struct log_field){.name = (name_), .number = (int64_t)(number_)})
#define LOG_FLAG(name_, flag_) \
    ((struct log_field){.name = (name_), .number = (flag_), .is_flag = true})
#define LOG_ERR(err_) \
    LOG_TEXT("error", str_of((err_)->message)), LOG_TEXT("detail", str_of((err_)->detail))

void log_set_level(enum log_level level);
bool log_wants(enum log_level level);
/* Once, in the server; log_stop writes what waits, and lines go out at once again. */
void log_start(void);
void log_stop(void);
void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t count);
void log_write_later(enum log_level level, const char *event, const struct log_field *fields,
                     size_t count);

#define LOG(level, event, ...)                               \
    do {                                                     \
        const struct log_field fields_[] = {__VA_ARGS__};    \
        log_write(level, event, fields_, COUNT_OF(fields_)); \
    } while (0)
#define LOG_LATER(level, event, ...)                               \
    do {                                                           \
        const struct log_field fields_[] = {__VA_ARGS__};          \
        log_write_later(level, event, fields_, COUNT_OF(fields_)); \
    } while (0)
