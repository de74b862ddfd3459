#include "clock.h"
#include "database_internal.h"
#include "fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESTORE_HEX "0123456789abcdef"

int databases_open_trash(const struct databases *databases, struct err *err)
{
    const char *path = databases->options.trash_folder;
    if (!fd_make_directories(path, err)) {
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the trash folder cannot be opened");
    }
    return fd;
}

/* Removes the files of a folder that `judge` says yes to. */
static void remove_files(const char *path,
                         bool (*judge)(const char *name, const struct stat *status,
                                       int64_t before_ms),
                         int64_t before_ms)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry = folder == NULL ? NULL : readdir(folder); entry != NULL;
         entry = readdir(folder)) {
        struct stat status;
        if (fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && judge(entry->d_name, &status, before_ms)) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
}

/* By the time of the rename, which the kernel notes. */
static bool is_old(const char *name, const struct stat *status, int64_t before_ms)
{
    int64_t renamed_ms = (int64_t)status->st_ctim.tv_sec * 1000 + status->st_ctim.tv_nsec / 1000000;
    return strstr(name, ".duckdb") != NULL && renamed_ms <= before_ms;
}

static bool is_old_beside(const char *name, const struct stat *status, int64_t before_ms)
{
    return str_starts(str_of(name), STR(DATABASE_TRASH_PREFIX)) && is_old(name, status, before_ms);
}

static bool is_half_restored(const char *name, const struct stat *status, int64_t before_ms)
{
    struct str text = str_of(name);
    size_t prefix = strlen(DATABASE_RESTORE_PREFIX);
    (void)status;
    (void)before_ms;
    return str_starts(text, STR(DATABASE_RESTORE_PREFIX)) &&
           text.len == prefix + DATABASE_RESTORE_DIGITS &&
           strspn(name + prefix, RESTORE_HEX) == DATABASE_RESTORE_DIGITS;
}

/* ---- the clock ---- */

static int64_t later(int64_t a_ms, int64_t b_ms)
{
    return a_ms > b_ms ? a_ms : b_ms;
}

void databases_init_clock(struct databases *databases)
{
    const struct databases_options *options = &databases->options;
    struct stat status;
    int64_t written_ms =
        later(clock_doubt_written(options->folder), clock_doubt_written(options->trash_folder));
    if (options->default_path != NULL && stat(options->default_path, &status) == 0) {
        written_ms = later(written_ms, (int64_t)status.st_mtim.tv_sec * 1000);
    }
    clock_doubt_init(&databases->clock, "database.clock_doubted", written_ms, clock_wall_ms(),
                     clock_now_ms());
}

/* ---- for the keeper ---- */

void databases_empty_trash(struct databases *databases)
{
    const struct databases_options *options = &databases->options;
    int64_t wall_ms = clock_wall_ms();
    bool believed = clock_doubt_look(&databases->clock, wall_ms, clock_now_ms());
    if (!believed && options->trash_keep_ms > 0) {
        return;
    }
    int64_t before_ms = wall_ms - options->trash_keep_ms;
    remove_files(options->trash_folder, is_old, before_ms);
    remove_files(options->folder, is_old_beside, before_ms);
    if (databases->default_folder != NULL) {
        remove_files(databases->default_folder, is_old_beside, before_ms);
    }
}

void databases_remove_half_restored(const struct databases *databases)
{
    remove_files(databases->options.folder, is_half_restored, 0);
    if (databases->default_folder != NULL) {
        remove_files(databases->default_folder, is_half_restored, 0);
    }
}
