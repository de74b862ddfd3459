#include "ops_system.h"

#include "clock.h"
#include "fd.h"
#include "mem.h"
#include "num.h"
#include "thread.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    LOOK_MS = 200,
    TEXT_SIZE = 4096,
    PROCESSES_KEPT = 16,          /* those that were looked at last */
    STAT_FIELDS_BEFORE_TIMES = 11 /* of /proc/PID/stat, between the name's ')' and utime */
};

struct process_look {
    int pid; /* 0: of none */
    int64_t looked_ms;
    uint64_t ticks;
    double cpu_percent;
};

struct ops_system {
    struct lock lock; /* LOCK_SYSTEM: everything below */
    int64_t looked_ms;
    struct process_look processes[PROCESSES_KEPT];
    uint64_t busy_ticks, all_ticks;
    struct ops_system_view view;
};

struct ops_system *ops_system_create(void)
{
    struct ops_system *system = mem_alloc(sizeof(*system));
    lock_init(&system->lock, LOCK_SYSTEM);
    return system;
}

void ops_system_destroy(struct ops_system *system)
{
    if (system != NULL) {
        lock_finish(&system->lock);
        mem_free(system);
    }
}

/* ---- what the kernel tells ---- */

static struct str read_text(const char *path, char text[static TEXT_SIZE])
{
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, TEXT_SIZE);
    return str_make(text, size < 0 ? 0 : (size_t)size);
}

/* The next number of a line of words; 0 at its end. */
static uint64_t next_number(struct str *rest)
{
    struct str field = {0};
    struct err ignored;
    uint64_t value = 0;
    while (rest->len > 0 && str_next_part(rest, ' ', &field) && field.len == 0) {
    }
    return num_parse_u64(str_trim(field), 0, UINT64_MAX, &value, &ignored) ? value : 0;
}

static uint64_t memory_kb(struct str text, const char *name)
{
    size_t at = str_find(text, str_of(name));
    struct str line = str_from(text, at);
    line = str_first(line, str_find_byte(line, '\n'));
    line = str_from(line, strlen(name) < line.len ? strlen(name) : line.len);
    return next_number(&line);
}

/* The first line of /proc/stat: user, nice, system, idle, iowait and more, in ticks. */
static void system_ticks(uint64_t *ret_busy, uint64_t *ret_all)
{
    char text[TEXT_SIZE];
    struct str line = read_text("/proc/stat", text);
    line = str_first(line, str_find_byte(line, '\n'));
    struct str word;
    (void)str_next_part(&line, ' ', &word);
    *ret_busy = 0;
    *ret_all = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t ticks = next_number(&line);
        *ret_all += ticks;
        *ret_busy += i == 3 || i == 4 ? 0 : ticks;
    }
}

static uint64_t process_ticks(int pid)
{
    char text[TEXT_SIZE];
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    struct str line = read_text(path, text);
    size_t name_end = 0;
    for (size_t i = 0; i < line.len; i++) {
        name_end = line.ptr[i] == ')' ? i + 2 : name_end;
    }
    line = str_from(line, name_end < line.len ? name_end : line.len);
    for (int i = 0; i < STAT_FIELDS_BEFORE_TIMES; i++) {
        struct str ignored;
        (void)str_next_part(&line, ' ', &ignored);
    }
    uint64_t user = next_number(&line);
    return user + next_number(&line);
}

static double percent(double part, double whole)
{
    return whole > 0 && part > 0 ? 100 * part / whole : 0;
}

/* ---- one look ---- */

static void look_at_system(struct ops_system *system) REQUIRES(&system->lock)
{
    uint64_t busy;
    uint64_t all;
    system_ticks(&busy, &all);
    system->view.cpu_percent =
        percent((double)busy - (double)system->busy_ticks, (double)all - (double)system->all_ticks);
    system->busy_ticks = busy;
    system->all_ticks = all;
}

/* The look at this process, or the place of the one that was looked at longest ago. */
static struct process_look *find_look(struct ops_system *system, int pid) REQUIRES(&system->lock)
{
    struct process_look *oldest = &system->processes[0];
    for (size_t i = 0; i < PROCESSES_KEPT; i++) {
        struct process_look *look = &system->processes[i];
        if (look->pid == pid) {
            return look;
        }
        oldest = look->looked_ms < oldest->looked_ms ? look : oldest;
    }
    *oldest = (struct process_look){0};
    return oldest;
}

/* Since the look before, which is at least LOOK_MS ago; 0 for the first. */
static double look_at_process(struct ops_system *system, int pid, int64_t now_ms)
    REQUIRES(&system->lock)
{
    struct process_look *look = find_look(system, pid);
    if (pid == 0 || (look->pid == pid && now_ms - look->looked_ms < LOOK_MS)) {
        return pid == 0 ? 0 : look->cpu_percent;
    }
    uint64_t ticks = process_ticks(pid);
    double seconds = (double)(now_ms - look->looked_ms) / 1000;
    double used = ((double)ticks - (double)look->ticks) / (double)sysconf(_SC_CLK_TCK);
    bool again = look->pid == pid;
    *look = (struct process_look){
        .pid = pid,
        .looked_ms = now_ms,
        .ticks = ticks,
        .cpu_percent = again ? percent(used, seconds) : 0,
    };
    return look->cpu_percent;
}

void ops_system_look(struct ops_system *system, int pid, uint64_t resident_bytes,
                     struct ops_system_view *ret_view)
{
    char text[TEXT_SIZE];
    struct str memory = read_text("/proc/meminfo", text);
    uint64_t total_kb = memory_kb(memory, "MemTotal:");
    uint64_t free_kb = memory_kb(memory, "MemAvailable:");
    int64_t now_ms = clock_now_ms();
    lock_take(&system->lock);
    if (system->looked_ms == 0 || now_ms - system->looked_ms >= LOOK_MS) {
        look_at_system(system);
        system->looked_ms = now_ms;
    }
    *ret_view = system->view;
    ret_view->process_cpu_percent = look_at_process(system, pid, now_ms);
    lock_release(&system->lock);
    ret_view->memory_percent = percent((double)total_kb - (double)free_kb, (double)total_kb);
    ret_view->process_memory_percent = percent((double)resident_bytes / 1024, (double)total_kb);
}

double ops_disk_percent(const char *path)
{
    struct statvfs status;
    if (statvfs(path, &status) != 0) {
        return 0;
    }
    uint64_t used = status.f_blocks - status.f_bfree;
    return percent((double)used, (double)used + (double)status.f_bavail);
}
