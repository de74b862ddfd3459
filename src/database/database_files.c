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

/* The time in a name of the main file that was set aside, which its logs have with a suffix; NULL
 * for other names. */
static const char *time_in(const struct database *database, const char *infix, const char *name)
{
    size_t size = strlen(database->file_name);
    bool aside = strncmp(name, database->file_name, size) == 0 &&
                 strncmp(name + size, infix, strlen(infix)) == 0;
    return aside ? name + size + strlen(infix) : NULL;
}

/* Calls `visit` with each name that was set aside until it says no, and tells whether it did. */
static bool visit_aside(const struct database *database, const char *infix,
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
        bool aside = time_in(database, infix, entry->d_name) != NULL;
        stopped = aside && !visit(context, entry->d_name);
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
    return !database_has_file(database) &&
           !visit_aside(database, DATABASE_REPLACED_INFIX, stop_at_first, NULL) &&
           visit_aside(database, DATABASE_ASIDE_INFIX, stop_at_first, NULL);
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

/* The other way round: a file never comes back before its logs. */
static bool rename_back(const struct database *database, const char *name)
{
    bool good = true;
    for (size_t i = COUNT_OF(suffixes); good && i-- > 0;) {
        char from[2 * NAME_SIZE];
        char into[2 * NAME_SIZE];
        (void)snprintf(from, sizeof(from), "%s%s", name, suffixes[i]);
        (void)snprintf(into, sizeof(into), "%s%s", database->file_name, suffixes[i]);
        good =
            renameat(database->folder_fd, from, database->folder_fd, into) == 0 || errno == ENOENT;
    }
    return good && fd_sync(database->folder_fd);
}

/* All of it, or nothing, but for a crash: database_mend_renames. */
static bool rename_aside(const struct database *database, const char *infix,
                         char name[static NAME_SIZE], struct err *err)
{
    char time[CLOCK_ISO_SIZE + 8];
    stamp(time);
    (void)snprintf(name, NAME_SIZE, "%s%s%s", database->file_name, infix, time);
    if (rename_all(database, database->file_name, database->folder_fd, name, err)) {
        return true;
    }
    (void)rename_back(database, name);
    return false;
}

bool database_set_aside(const struct database *database, struct err *err)
{
    CLEANUP(fd_close) int lock_fd = -1;
    char name[NAME_SIZE];
    return lock_file(database, &lock_fd, err) &&
           rename_aside(database, DATABASE_ASIDE_INFIX, name, err);
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

/* Under a name by which the trash knows it, whatever the file itself is called. */
static bool to_trash(const struct trash *trash, const char *infix, const char *name)
{
    const struct database *database = trash->database;
    const char *time = time_in(database, infix, name);
    size_t size = strcspn(time, ".");
    char into[NAME_SIZE];
    char beside[NAME_SIZE + 8];
    (void)snprintf(into, sizeof(into), "%s%s%.*s.duckdb%s", database->name, infix, (int)size, time,
                   time + size);
    name_beside(into, beside);
    return renameat(database->folder_fd, name, trash->fd, into) == 0 ||
           renameat(database->folder_fd, name, database->folder_fd, beside) == 0;
}

static bool aside_to_trash(void *context, const char *name)
{
    return to_trash(context, DATABASE_ASIDE_INFIX, name);
}

static bool replaced_to_trash(void *context, const char *name)
{
    return to_trash(context, DATABASE_REPLACED_INFIX, name);
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
    if (visit_aside(database, DATABASE_ASIDE_INFIX, aside_to_trash, &trash) ||
        visit_aside(database, DATABASE_REPLACED_INFIX, replaced_to_trash, &trash)) {
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

/* A log goes with its file, which takes several renames. What was there comes back when one fails,
 * and after a crash between them (database_mend_renames). */
static bool replace_with_log(const struct database *database, int trash_fd, const char *new_name,
                             struct err *err)
{
    char replaced[NAME_SIZE];
    struct err kept;
    if (!rename_aside(database, DATABASE_REPLACED_INFIX, replaced, err)) {
        return false;
    }
    if (!give_name(database, new_name, err)) {
        (void)rename_back(database, replaced);
        return false;
    }
    if (!fd_sync(database->folder_fd)) {
        return failed(database, "replaced", err);
    }
    (void)move_to_trash(database, trash_fd, replaced, &kept); /* else the next opening does it */
    return true;
}

bool database_replace(const struct database *database, const char *new_name, struct err *err)
{
    struct err no_trash; /* then what was there stays in its folder */
    CLEANUP(fd_close) int lock_fd = -1;
    CLEANUP(fd_close) int trash_fd = databases_open_trash(database->owner, &no_trash);
    if (!database_mend_renames(database, err) || !lock_file(database, &lock_fd, err)) {
        return false;
    }
    return database_has_log(database) ? replace_with_log(database, trash_fd, new_name, err)
                                      : replace_file(database, trash_fd, new_name, err);
}

/* ---- after a crash ---- */

struct newest {
    const struct database *database;
    const char *infix;
    char name[NAME_SIZE];
};

/* Of the main files alone: their times have no dot. */
static bool take_newest(void *context, const char *name)
{
    struct newest *newest = context;
    const char *time = time_in(newest->database, newest->infix, name);
    if (strchr(time, '.') == NULL && strcmp(name, newest->name) > 0) {
        (void)snprintf(newest->name, sizeof(newest->name), "%s", name);
    }
    return true;
}

static bool find_newest(struct newest *newest)
{
    (void)visit_aside(newest->database, newest->infix, take_newest, newest);
    return newest->name[0] != '\0';
}

static bool has_logs_aside(const struct database *database, const char *name)
{
    bool found = false;
    for (size_t i = 1; i < COUNT_OF(suffixes); i++) {
        char log[2 * NAME_SIZE];
        (void)snprintf(log, sizeof(log), "%s%s", name, suffixes[i]);
        found = found || faccessat(database->folder_fd, log, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    }
    return found;
}

/* A restore is through: what it has replaced must not come back. */
static bool clear_replaced(const struct database *database, struct err *err)
{
    struct err ignored; /* without a trash it goes beside */
    CLEANUP(fd_close) int trash_fd = databases_open_trash(database->owner, &ignored);
    struct trash trash = {.database = database, .fd = trash_fd};
    return !visit_aside(database, DATABASE_REPLACED_INFIX, replaced_to_trash, &trash) ||
           failed(database, "moved to the trash", err);
}

bool database_mend_renames(const struct database *database, struct err *err)
{
    struct newest replaced = {.database = database, .infix = DATABASE_REPLACED_INFIX};
    struct newest aside = {.database = database, .infix = DATABASE_ASIDE_INFIX};
    if (database_has_file(database)) {
        return !find_newest(&replaced) || clear_replaced(database, err);
    }
    if (find_newest(&replaced)) {
        return rename_back(database, replaced.name) || failed(database, "renamed", err);
    }
    /* A log alone, and a file that was set aside without one: they belong together. */
    if (database_has_log(database) && find_newest(&aside) &&
        !has_logs_aside(database, aside.name)) {
        return rename_back(database, aside.name) || failed(database, "renamed", err);
    }
    return true;
}
