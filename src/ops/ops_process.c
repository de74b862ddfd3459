/* What the system knows of this process, under the names that Prometheus' own libraries use. The
 * workers are processes of their own and not part of it. */
#include "ops_metrics.h"

#include "clock.h"
#include "fd.h"
#include "num.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* /proc/self/statm: total and resident size in pages, and more. */
static uint64_t resident_bytes(void)
{
    char text[128];
    struct err ignored;
    CLEANUP(fd_close) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text));
    if (size <= 0) {
        return 0;
    }
    struct str rest = str_make(text, (size_t)size);
    struct str field;
    uint64_t pages = 0;
    bool good = str_next_part(&rest, ' ', &field) && str_next_part(&rest, ' ', &field) &&
                num_parse_u64(field, 0, UINT64_MAX / 65536, &pages, &ignored);
    return good ? pages * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Linux 6.2 and later tell the number as the folder's size; counting the names takes long when
 * there are thousands. */
static uint64_t open_fds(void)
{
    struct stat info;
    if (stat("/proc/self/fd", &info) == 0 && info.st_size > 0) {
        return (uint64_t)info.st_size;
    }
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return 0;
    }
    uint64_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(folder);
    return count - 1; /* the folder itself was open */
}

static void collect_memory(void *context, struct ops_samples *samples)
{
    (void)context;
    ops_put_u64(samples, OPS_NO_LABELS, resident_bytes());
}

static void collect_open_fds(void *context, struct ops_samples *samples)
{
    (void)context;
    ops_put_u64(samples, OPS_NO_LABELS, open_fds());
}

static void collect_max_fds(void *context, struct ops_samples *samples)
{
    (void)context;
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    ops_put_u64(samples, OPS_NO_LABELS, (uint64_t)limit.rlim_cur);
}

static int64_t microseconds(struct timeval time)
{
    return (int64_t)time.tv_sec * 1000000 + time.tv_usec;
}

static void collect_cpu(void *context, struct ops_samples *samples)
{
    (void)context;
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    ops_put_seconds(samples, OPS_NO_LABELS,
                    microseconds(usage.ru_utime) + microseconds(usage.ru_stime));
}

static void collect_start(void *context, struct ops_samples *samples)
{
    const struct ops_process *process = context;
    ops_put_seconds(samples, OPS_NO_LABELS, process->start_ms * 1000);
}

/* clang-format off */
static const struct ops_family families[] = {
    { "process_resident_memory_bytes", OPS_GAUGE,   "Resident memory of the server process, workers not included.", collect_memory },
    { "process_open_fds",              OPS_GAUGE,   "Open file descriptors.",                                       collect_open_fds },
    { "process_max_fds",               OPS_GAUGE,   "File descriptors that may be open.",                           collect_max_fds },
    { "process_cpu_seconds_total",     OPS_COUNTER, "Processor time of the server process, workers not included.",  collect_cpu },
    { "process_start_time_seconds",    OPS_GAUGE,   "When the process started, in seconds since 1970.",             collect_start },
};
/* clang-format on */

void ops_process_add(struct ops_metrics *metrics, struct ops_process *process)
{
    process->start_ms = clock_wall_ms();
    ops_metrics_add(metrics, families, COUNT_OF(families), process);
}
