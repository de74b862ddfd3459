#include "log.h"

#include "clock.h"
#include "json_write.h"
#include "thread.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum {
    LINE_SIZE_MAX = 64 << 10,
    LINE_SIZE_USUAL = 600
};

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

/* The same second is asked for again and again, and a date costs more than the rest of a line. */
static void append_time(struct buf *line)
{
    static _Thread_local char text[CLOCK_ISO_SIZE];
    static _Thread_local int64_t text_second = INT64_MIN;
    int64_t now_ms = clock_wall_ms();
    if (now_ms / 1000 != text_second) {
        text_second = now_ms / 1000;
        clock_format_iso(text_second * 1000, text);
    }
    enum {
        MILLISECONDS_AT = sizeof("2026-01-31T10:00:00.") - 1
    };
    for (int i = 2, rest = (int)(now_ms % 1000); i >= 0; i--, rest /= 10) {
        text[MILLISECONDS_AT + i] = (char)('0' + rest % 10);
    }
    buf_append_text(line, text);
}

static void append_value(struct buf *line, const struct log_field *field)
{
    if (field->text.ptr != NULL) {
        json_append_string(line, field->text);
    } else if (field->is_flag) {
        buf_append(line, field->number != 0 ? STR("true") : STR("false"));
    } else {
        buf_append_i64(line, field->number);
    }
}

/* Names, levels and events are ours: there is nothing to escape in them. */
static void format_json(struct buf *line, enum log_level level, const char *event,
                        const struct log_field *fields, size_t count)
{
    buf_append(line, STR("{\"time\":\""));
    append_time(line);
    buf_append(line, STR("\",\"level\":\""));
    buf_append_text(line, level_names[level]);
    buf_append(line, STR("\",\"event\":\""));
    buf_append_text(line, event);
    buf_append_byte(line, '"');
    for (size_t i = 0; i < count; i++) {
        buf_append(line, STR(",\""));
        buf_append_text(line, fields[i].name);
        buf_append(line, STR("\":"));
        append_value(line, &fields[i]);
    }
    buf_append_byte(line, '}');
}

static void format_text(struct buf *line, enum log_level level, const char *event,
                        const struct log_field *fields, size_t count)
{
    append_time(line);
    buf_append_format(line, " %-5s %s", level_names[level], event);
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

/* How many bytes at the beginning are below DEL, eight at a time: nearly always all. */
static size_t plain_size(struct str text)
{
    static const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t size = 0;
    uint64_t eight;
    for (; text.len - size >= sizeof(eight); size += sizeof(eight)) {
        memcpy(&eight, text.ptr + size, sizeof(eight));
        if (((eight | (eight + ones)) & (ones << 7)) != 0) {
            return size;
        }
    }
    while (size < text.len && (unsigned char)text.ptr[size] < 0x7f) {
        size++;
    }
    return size;
}

/* JSON escapes the control characters below space. DEL, and U+0080 to U+009F, which some terminals
 * obey (U+009B begins a sequence of theirs), become question marks. */
static void disarm(struct buf *line)
{
    for (size_t i = plain_size(buf_str(line)); i < line->len; i++) {
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

/* ---- lines that wait ---- */

static struct {
    atomic_bool started;
    struct lock lock; /* LOCK_LOG: everything below */
    struct condition wake;
    pthread_t thread;
    bool stopping;
    bool sleeps; /* thread `journal`, until there is a line */
    atomic_size_t len;
    char bytes[LOG_LATER_BYTES];
} waiting;

static void write_out(struct str bytes)
{
    (void)!write(STDERR_FILENO, bytes.ptr, bytes.len);
}

static void write_waiting(void)
{
    size_t len = atomic_load(&waiting.len);
    if (len > 0) {
        write_out(str_make(waiting.bytes, len));
        atomic_store(&waiting.len, 0);
    }
}

/* Another thread may be adding a line: its length counts only when it is whole. */
static void on_abort(int number)
{
    (void)number; /* back to abort(), which ends the process */
    write_waiting();
}

static void *journal(void *argument)
{
    (void)argument;
    lock_take(&waiting.lock);
    while (!waiting.stopping) {
        if (atomic_load(&waiting.len) == 0) {
            waiting.sleeps = true;
            condition_wait(&waiting.wake, &waiting.lock);
            waiting.sleeps = false;
            continue;
        }
        int64_t until_ms = clock_now_ms() + LOG_LATER_MS;
        while (!waiting.stopping && condition_wait_until(&waiting.wake, &waiting.lock, until_ms)) {
        }
        write_waiting();
    }
    lock_release(&waiting.lock);
    return NULL;
}

void log_start(void)
{
    assert(!atomic_load(&waiting.started));
    struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGABRT, &action, NULL);
    lock_init(&waiting.lock, LOCK_LOG);
    condition_init(&waiting.wake);
    waiting.stopping = false;
    waiting.thread = thread_start("journal", journal, NULL);
    atomic_store(&waiting.started, true);
}

/* Other threads may still log: what they need is not taken away. */
void log_stop(void)
{
    if (!atomic_exchange(&waiting.started, false)) {
        return;
    }
    lock_take(&waiting.lock);
    waiting.stopping = true;
    condition_signal(&waiting.wake);
    write_waiting();
    lock_release(&waiting.lock);
    (void)pthread_join(waiting.thread, NULL);
}

static void add_waiting(struct str line)
{
    lock_take(&waiting.lock);
    size_t len = atomic_load(&waiting.len);
    if (line.len > sizeof(waiting.bytes) - len) {
        write_waiting();
        len = 0;
    }
    if (line.len > sizeof(waiting.bytes) || waiting.stopping) {
        write_out(line);
    } else {
        memcpy(waiting.bytes + len, line.ptr, line.len);
        atomic_store(&waiting.len, len + line.len);
        if (waiting.sleeps) {
            condition_signal(&waiting.wake);
        }
    }
    lock_release(&waiting.lock);
}

static void write_in_order(struct str line)
{
    if (!atomic_load(&waiting.started)) {
        write_out(line);
        return;
    }
    lock_take(&waiting.lock);
    write_waiting();
    write_out(line);
    lock_release(&waiting.lock);
}

/* ---- lines ---- */

static void write_line(bool later, enum log_level level, const char *event,
                       const struct log_field *fields, size_t count)
{
    struct buf line;
    buf_init(&line, LINE_SIZE_MAX);
    (void)buf_reserve(&line, LINE_SIZE_USUAL);
    if (is_terminal()) {
        format_text(&line, level, event, fields, count);
    } else {
        format_json(&line, level, event, fields, count);
    }
    if (!buf_failed(&line)) {
        disarm(&line);
        buf_append_byte(&line, '\n');
        if (later && !is_terminal() && atomic_load(&waiting.started)) {
            add_waiting(buf_str(&line));
        } else {
            write_in_order(buf_str(&line));
        }
    }
    buf_finish(&line);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields,
               size_t count)
{
    if (log_wants(level)) {
        write_line(false, level, event, fields, count);
    }
}

void log_write_later(enum log_level level, const char *event, const struct log_field *fields,
                     size_t count)
{
    if (log_wants(level)) {
        write_line(true, level, event, fields, count);
    }
}
