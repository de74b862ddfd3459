#include "log.h"

#include "clock.h"
#include "json_write.h"

#include <stdatomic.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int level_min = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&level_min, (int)level);
}

bool log_wants(enum log_level level)
{
    return (int)level >= atomic_load(&level_min);
}

static void format_json(struct buf *line, const char *when, enum log_level level, const char *event,
                        const struct log_field *fields, size_t count)
{
    struct json_writer writer;
    json_writer_init(&writer, line);
    json_begin_object(&writer);
    json_member_string(&writer, "time", str_of(when));
    json_member_string(&writer, "level", str_of(level_names[level]));
    json_member_string(&writer, "event", str_of(event));
    for (size_t i = 0; i < count; i++) {
        json_key(&writer, str_of(fields[i].name));
        if (fields[i].text.ptr != NULL) {
            json_put_string(&writer, fields[i].text);
        } else {
            json_put_i64(&writer, fields[i].number);
        }
    }
    json_end_object(&writer);
}

static void format_text(struct buf *line, const char *when, enum log_level level, const char *event,
                        const struct log_field *fields, size_t count)
{
    buf_append_format(line, "%s %-5s %s", when, level_names[level], event);
    for (size_t i = 0; i < count; i++) {
        if (fields[i].text.ptr == NULL) {
            buf_append_format(line, " %s=%lld", fields[i].name, (long long)fields[i].number);
            continue;
        }
        if (fields[i].text.len == 0) {
            continue;
        }
        buf_append_format(line, " %s=", fields[i].name);
        json_append_string(line, fields[i].text);
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t count)
{
    if (!log_wants(level)) {
        return;
    }
    char when[CLOCK_ISO_SIZE];
    clock_format_iso(clock_wall_ms(), when);
    struct buf line;
    buf_init(&line, 64 * 1024);
    if (isatty(STDERR_FILENO)) {
        format_text(&line, when, level, event, fields, count);
    } else {
        format_json(&line, when, level, event, fields, count);
    }
    if (!buf_failed(&line)) {
        buf_append_byte(&line, '\n');
        (void)!write(STDERR_FILENO, line.ptr, line.len);
    }
    buf_finish(&line);
}
