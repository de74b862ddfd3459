#include "log.h"

#include "clock.h"
#include "json_write.h"

#include <stdatomic.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int level_min = LOG_INFO;
static atomic_int terminal = -1; /* whether people read along; -1: not looked at yet */

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
        } else if (fields[i].is_flag) {
            json_put_bool(&writer, fields[i].number != 0);
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

/* JSON escapes the control characters below space. DEL, and U+0080 to U+009F, which some terminals
 * obey (U+009B begins a sequence of theirs), become question marks. */
static void disarm(struct buf *line)
{
    for (size_t i = 0; i < line->len; i++) {
        unsigned char byte = (unsigned char)line->ptr[i];
        unsigned char next = i + 1 < line->len ? (unsigned char)line->ptr[i + 1] : 0;
        if (byte == 0x7f) {
            line->ptr[i] = '?';
        } else if (byte == 0xc2 && next >= 0x80 && next <= 0x9f) {
            line->ptr[i] = '?';
            line->ptr[i + 1] = '?';
        }
    }
}

static bool is_terminal(void)
{
    int known = atomic_load(&terminal);
    if (known < 0) {
        known = isatty(STDERR_FILENO);
        atomic_store(&terminal, known);
    }
    return known != 0;
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
    if (is_terminal()) {
        format_text(&line, when, level, event, fields, count);
    } else {
        format_json(&line, when, level, event, fields, count);
    }
    if (!buf_failed(&line)) {
        disarm(&line);
        buf_append_byte(&line, '\n');
        (void)!write(STDERR_FILENO, line.ptr, line.len);
    }
    buf_finish(&line);
}
