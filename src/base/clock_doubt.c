#include "clock_doubt.h"

#include "log.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
    DEPTH_MAX = 2
};

void clock_doubt_init(struct clock_doubt *clock, const char *event, int64_t written_ms,
                      int64_t wall_ms, int64_t now_ms)
{
    bool away = written_ms == 0 || wall_ms - written_ms > CLOCK_DOUBT_AWAY_MS;
    *clock = (struct clock_doubt){
        .event = event,
        .offset_ms = wall_ms - now_ms,
        .steady_ms = away ? now_ms + CLOCK_DOUBT_STEADY_MS : now_ms,
    };
    if (away && written_ms != 0) {
        LOG(LOG_WARN, clock->event, LOG_NUM("ahead_s", (wall_ms - written_ms) / 1000));
    }
}

bool clock_doubt_look(struct clock_doubt *clock, int64_t wall_ms, int64_t now_ms)
{
    int64_t step_ms = wall_ms - now_ms - clock->offset_ms;
    if (step_ms > CLOCK_DOUBT_STEP_MS) {
        LOG(LOG_WARN, clock->event, LOG_NUM("ahead_s", step_ms / 1000));
        clock->offset_ms += step_ms;
        clock->steady_ms = now_ms + CLOCK_DOUBT_STEADY_MS;
    } else if (step_ms < 0) {
        clock->offset_ms += step_ms;
    }
    return now_ms >= clock->steady_ms;
}

static int64_t written_ms(const char *folder, unsigned depth)
{
    int64_t latest_ms = 0;
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char path[PATH_MAX];
        struct stat info;
        int64_t at_ms = 0;
        int size = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.' || size < 0 || (size_t)size >= sizeof(path) ||
            lstat(path, &info) != 0) {
            continue;
        }
        if (S_ISDIR(info.st_mode) && depth > 1) {
            at_ms = written_ms(path, depth - 1);
        } else if (S_ISREG(info.st_mode)) {
            at_ms = (int64_t)info.st_mtim.tv_sec * 1000;
        }
        latest_ms = at_ms > latest_ms ? at_ms : latest_ms;
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return latest_ms;
}

int64_t clock_doubt_written(const char *folder)
{
    return written_ms(folder, DEPTH_MAX);
}
