#include "clock.h"
#include "database_internal.h"
#include "fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAME_SIZE = FILE_NAME_SIZE + 64,
    HEADERS_SIZE = 3 * 4096 /* what the engine writes before a file is a database */
};

#define ASIDE_INFIX ".quarantine-"

/* The main file, its log, the log of what is committed during a checkpoint, and both together after
 * a crash in one. One that stayed behind would be replayed into the database that takes its place.
 */
static const char *const suffixes[] = {"", ".wal", ".wal.checkpoint", ".wal.recovery"};

static bool has(const struct database *database, const char *suffix, off_t size_min)
{
    char name[NAME_SIZE];
    struct stat status;
    (void)snprintf(name, sizeof(name), "%s%s", database->file_name, suffix);
    return fstatat(database->folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           status.st_size >= size_min;
}

bool database_has_file(const struct database *database)
{
    return has(database, "", 0);
}

bool database_has_log(const struct database *database)
{
    bool found = false;
    for (size_t i = 1; i < COUNT_OF(suffixes); i++) {
        found = found || has(database, suffixes[i], 1);
    }
    return found;
}

bool database_is_half_made(const struct database *database)
{
    return has(database, "", 1) && !has(database, "", HEADERS_SIZE) && !database_has_log(database);
}

/* A name of the main file, with the time it was set aside; its logs have the same with a suffix. */
static bool is_aside(const struct database *database, const char *name)
{
    size_t size = strlen(database->file_name);
    return strncmp(name, database->file_name, size) == 0 &&
           strncmp(name + size, ASIDE_INFIX, strlen(ASIDE_INFIX)) == 0;
}

/* Calls `visit` with each name that was set aside until it says no, and tells whether it did. */
static bool visit_aside(const struct database *database,
                        bool (*visit)(void *context, const char *name), void *context)
{
    int fd = openat(database->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        fd_close(&fd);
        return false;
    }
    bool stopped = false;
    for (struct dirent *entry = readdir(folder); entry != NULL && !stopped;
         entry = readdir(folder)) {
        stopped = is_aside(database, entry->d_name) && !visit(context, entry->d_name);
    }
    (void)closedir(folder);
    return stopped;
}

static bool stop_at_first(void *context, const char *name)
{
    (void)context;
    (void)name;
    return false;
}

bool database_is_quarantined(const struct database *database)
{
    return !database_has_file(database) && visit_aside(database, stop_at_first, NULL);
}

/* ---- renames ---- */

static bool failed(const struct database *database, const char *what, struct err *err)
{
    return err_set_errno(err, ERR_UNAVAILABLE, errno, "the files of database '%s' cannot be %s",
                         database->name, what);
}

/* The logs go last: a crash in between leaves a log without a file, which an opening sets aside,
 * and never a file without what its log holds. */
static bool rename_all(const struct database *database, int into_fd, const char *new_name,
                       const char *what, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        char from[NAME_SIZE];
        char into[2 * NAME_SIZE];
        (void)snprintf(from, sizeof(from), "%s%s", database->file_name, suffixes[i]);
        (void)snprintf(into, sizeof(into), "%s%s", new_name, suffixes[i]);
        if (renameat(database->folder_fd, from, into_fd, into) != 0 && errno != ENOENT) {
            return failed(database, what, err);
        }
    }
    return (fd_sync(into_fd) && fd_sync(database->folder_fd)) || failed(database, what, err);
}

static void stamp(char text[static CLOCK_ISO_SIZE + 8])
{
    char time[CLOCK_ISO_SIZE];
    int64_t now_ms = clock_wall_ms();
    clock_format_amz(now_ms, time);
    (void)snprintf(text, CLOCK_ISO_SIZE + 8, "%s-%03d", time, (int)(now_ms % 1000));
}

bool database_set_aside(const struct database *database, struct err *err)
{
    char time[CLOCK_ISO_SIZE + 8];
    char name[NAME_SIZE];
    stamp(time);
    (void)snprintf(name, sizeof(name), "%s" ASIDE_INFIX "%s", database->file_name, time);
    return rename_all(database, database->folder_fd, name, "set aside", err);
}

static int open_trash(const struct databases *databases, struct err *err)
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

static void trash_name(const struct database *database, char name[static NAME_SIZE])
{
    char time[CLOCK_ISO_SIZE + 8];
    stamp(time);
    (void)snprintf(name, NAME_SIZE, "%s-%s.duckdb", database->name, time);
}

struct trash {
    const struct database *database;
    int fd;
};

/* Hidden from who looks for what was set aside, where the trash is on another file system. */
static bool aside_to_trash(void *context, const char *name)
{
    const struct trash *trash = context;
    const struct database *database = trash->database;
    char beside[NAME_SIZE + 8];
    (void)snprintf(beside, sizeof(beside), ".trash-%s", name);
    return renameat(database->folder_fd, name, trash->fd, name) == 0 ||
           (errno == EXDEV &&
            renameat(database->folder_fd, name, database->folder_fd, beside) == 0);
}

/* What was once set aside goes too: it would stand for a damaged database. A file that is on
 * another file system than the trash (DUCKDB_DATABASE_PATH may be anywhere) stays in its folder. */
bool database_to_trash(const struct database *database, struct err *err)
{
    CLEANUP(fd_close) int trash_fd = open_trash(database->owner, err);
    if (trash_fd < 0) {
        return false;
    }
    struct trash trash = {.database = database, .fd = trash_fd};
    if (visit_aside(database, aside_to_trash, &trash)) {
        return failed(database, "moved to the trash", err);
    }
    char name[NAME_SIZE];
    trash_name(database, name);
    if (rename_all(database, trash_fd, name, "moved to the trash", err)) {
        return true;
    }
    char beside[NAME_SIZE + 8];
    (void)snprintf(beside, sizeof(beside), ".trash-%s", name);
    return rename_all(database, database->folder_fd, beside, "moved to the trash", err);
}

bool database_replace(const struct database *database, const char *new_name, struct err *err)
{
    char name[NAME_SIZE];
    char beside[NAME_SIZE + 8];
    trash_name(database, name);
    (void)snprintf(beside, sizeof(beside), ".trash-%s", name);
    bool linked =
        linkat(database->folder_fd, database->file_name, database->folder_fd, beside, 0) == 0;
    if (!linked && errno != ENOENT) {
        return failed(database, "kept", err);
    }
    if (renameat(database->folder_fd, new_name, database->folder_fd, database->file_name) != 0) {
        (void)failed(database, "replaced", err);
        (void)unlinkat(database->folder_fd, beside, 0);
        return false;
    }
    if (!fd_sync(database->folder_fd)) {
        return failed(database, "replaced", err); /* both are there: which counts is not known */
    }
    CLEANUP(fd_close) int trash_fd = linked ? open_trash(database->owner, err) : -1;
    if (trash_fd >= 0) { /* on another file system it stays where it is */
        (void)renameat(database->folder_fd, beside, trash_fd, name);
    }
    return true;
}

/* ---- the trash ---- */

/* By the time of the rename, which the kernel notes. */
void databases_empty_trash(const struct databases *databases)
{
    struct err ignored;
    int fd = open_trash(databases, &ignored);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        fd_close(&fd);
        return;
    }
    int64_t before_s = (clock_wall_ms() - databases->options.trash_keep_ms) / 1000;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        struct stat status;
        if (strstr(entry->d_name, ".duckdb") != NULL &&
            fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && status.st_ctime < before_s) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    (void)closedir(folder);
}
