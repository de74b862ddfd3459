#include "cancel.h"
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
    HEADERS_SIZE = 3 * 4096, /* what the engine writes before a file is a database */
    LOCK_WAIT_MS = 2000,     /* for a process that was killed to be gone */
    LOCK_TRY_MS = 20
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

/* ---- the file to ourselves ---- */

static bool is_its_file(const struct database *database, int fd)
{
    struct stat ours;
    struct stat theirs;
    return fstat(fd, &ours) == 0 &&
           fstatat(database->folder_fd, database->file_name, &theirs, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

/* What is no file is held by nobody: *ret_fd stays -1. */
static bool try_lock(const struct database *database, int *ret_fd, struct err *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CLEANUP(fd_close)
    int fd = openat(database->folder_fd, database->file_name,
                    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT || errno == ELOOP || errno == EISDIR || errno == ENXIO ||
               err_set_errno(err, ERR_UNAVAILABLE, errno, "database '%s' cannot be locked",
                             database->name);
    }
    if (fcntl(fd, F_OFD_SETLK, &whole) != 0 || !is_its_file(database, fd)) {
        return err_set(err, ERR_CONFLICT, "another process has database '%s' open", database->name);
    }
    *ret_fd = fd;
    fd = -1;
    return true;
}

/* The engine's lock, whoever runs the engine. Who has it writes to the file for as long, under
 * whatever name it has by then: what is renamed below must be nobody's. */
static bool lock_file(const struct database *database, int *ret_fd, struct err *err)
{
    struct cancel patience;
    struct err late;
    cancel_init(&patience, clock_now_ms() + LOCK_WAIT_MS);
    bool good = try_lock(database, ret_fd, err);
    while (!good && err->kind == ERR_CONFLICT && cancel_wait(&patience, LOCK_TRY_MS, &late)) {
        good = try_lock(database, ret_fd, err);
    }
    cancel_finish(&patience);
    return good;
}

/* ---- renames ---- */

static bool failed(const struct database *database, const char *what, struct err *err)
{
    return err_set_errno(err, ERR_UNAVAILABLE, errno, "the files of database '%s' cannot be %s",
                         database->name, what);
}

/* The main file, `old_name`, and its logs. They go last: a crash in between leaves a log without a
 * file, which an opening sets aside, and never a file without what its log holds. */
static bool rename_all(const struct database *database, const char *old_name, int into_fd,
                       const char *new_name, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
        char from[2 * NAME_SIZE];
        char into[2 * NAME_SIZE];
        (void)snprintf(from, sizeof(from), "%s%s", old_name, suffixes[i]);
        (void)snprintf(into, sizeof(into), "%s%s", new_name, suffixes[i]);
        if (renameat(database->folder_fd, from, into_fd, into) != 0 && errno != ENOENT) {
            return failed(database, "renamed", err);
        }
    }
    return (fd_sync(into_fd) && fd_sync(database->folder_fd)) || failed(database, "renamed", err);
}

static void stamp(char text[static CLOCK_ISO_SIZE + 8])
{
    char time[CLOCK_ISO_SIZE];
    int64_t now_ms = clock_wall_ms();
    clock_format_amz(now_ms, time);
    (void)snprintf(text, CLOCK_ISO_SIZE + 8, "%s-%03d", time, (int)(now_ms % 1000));
}

static bool rename_aside(const struct database *database, char name[static NAME_SIZE],
                         struct err *err)
{
    char time[CLOCK_ISO_SIZE + 8];
    stamp(time);
    (void)snprintf(name, NAME_SIZE, "%s" ASIDE_INFIX "%s", database->file_name, time);
    return rename_all(database, database->file_name, database->folder_fd, name, err);
}

bool database_set_aside(const struct database *database, struct err *err)
{
    CLEANUP(fd_close) int lock_fd = -1;
    char name[NAME_SIZE];
    return lock_file(database, &lock_fd, err) && rename_aside(database, name, err);
}

/* ---- into the trash ---- */

/* In the folder itself: hidden from who looks for what was set aside, emptied as the trash is. */
static void name_beside(const char *name, char beside[static NAME_SIZE + 8])
{
    (void)snprintf(beside, NAME_SIZE + 8, DATABASE_TRASH_PREFIX "%s", name);
}

static void trash_name(const struct database *database, char name[static NAME_SIZE])
{
    char time[CLOCK_ISO_SIZE + 8];
    stamp(time);
    (void)snprintf(name, NAME_SIZE, "%s-%s.duckdb", database->name, time);
}

/* A file that is on another file system than the trash (DUCKDB_DATABASE_PATH may be anywhere) stays
 * in its folder. */
static bool move_to_trash(const struct database *database, int trash_fd, const char *old_name,
                          struct err *err)
{
    char name[NAME_SIZE];
    char beside[NAME_SIZE + 8];
    trash_name(database, name);
    name_beside(name, beside);
    return rename_all(database, old_name, trash_fd, name, err) ||
           rename_all(database, old_name, database->folder_fd, beside, err);
}

struct trash {
    const struct database *database;
    int fd;
};

static bool aside_to_trash(void *context, const char *name)
{
    const struct trash *trash = context;
    const struct database *database = trash->database;
    char beside[NAME_SIZE + 8];
    name_beside(name, beside);
    return renameat(database->folder_fd, name, trash->fd, name) == 0 ||
           (errno == EXDEV &&
            renameat(database->folder_fd, name, database->folder_fd, beside) == 0);
}

/* What was once set aside goes too: it would stand for a damaged database. */
bool database_to_trash(const struct database *database, struct err *err)
{
    CLEANUP(fd_close) int lock_fd = -1;
    CLEANUP(fd_close) int trash_fd = databases_open_trash(database->owner, err);
    if (trash_fd < 0 || !lock_file(database, &lock_fd, err)) {
        return false;
    }
    struct trash trash = {.database = database, .fd = trash_fd};
    if (visit_aside(database, aside_to_trash, &trash)) {
        return failed(database, "moved to the trash", err);
    }
    return move_to_trash(database, trash_fd, database->file_name, err);
}

/* ---- replaced ---- */

static bool give_name(const struct database *database, const char *new_name, struct err *err)
{
    return renameat(database->folder_fd, new_name, database->folder_fd, database->file_name) == 0 ||
           failed(database, "replaced", err);
}

/* One rename: at every moment there is a whole database of that name. */
static bool replace_file(const struct database *database, int trash_fd, const char *new_name,
                         struct err *err)
{
    char name[NAME_SIZE];
    char beside[NAME_SIZE + 8];
    trash_name(database, name);
    name_beside(name, beside);
    bool linked =
        linkat(database->folder_fd, database->file_name, database->folder_fd, beside, 0) == 0;
    if (!linked && errno != ENOENT) {
        return failed(database, "kept", err);
    }
    if (!give_name(database, new_name, err)) {
        (void)unlinkat(database->folder_fd, beside, 0);
        return false;
    }
    if (!fd_sync(database->folder_fd)) {
        return failed(database, "replaced", err); /* both are there: which counts is not known */
    }
    if (linked) { /* on another file system it stays where it is */
        (void)renameat(database->folder_fd, beside, trash_fd, name);
    }
    return true;
}

/* A log goes with its file, which takes several renames: a crash between them leaves a database
 * that was set aside, whole, and not one without what its log holds, or with the log of another. */
static bool replace_with_log(const struct database *database, int trash_fd, const char *new_name,
                             struct err *err)
{
    char aside[NAME_SIZE];
    struct err kept;
    if (!rename_aside(database, aside, err) || !give_name(database, new_name, err)) {
        return false;
    }
    if (!fd_sync(database->folder_fd)) {
        return failed(database, "replaced", err);
    }
    (void)move_to_trash(database, trash_fd, aside, &kept); /* else it stays set aside */
    return true;
}

bool database_replace(const struct database *database, const char *new_name, struct err *err)
{
    struct err no_trash; /* then what was there stays in its folder */
    CLEANUP(fd_close) int lock_fd = -1;
    CLEANUP(fd_close) int trash_fd = databases_open_trash(database->owner, &no_trash);
    if (!lock_file(database, &lock_fd, err)) {
        return false;
    }
    return database_has_log(database) ? replace_with_log(database, trash_fd, new_name, err)
                                      : replace_file(database, trash_fd, new_name, err);
}
