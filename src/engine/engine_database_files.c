#include "clock.h"
#include "engine_database_internal.h"
#include "fd.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FILE_MODE = 0600,
    NAME_SIZE_MAX = 255,
    LOCK_WAIT_MS = 2000, /* for a process that was killed to be gone */
    LOCK_TRY_MS = 20
};

/* What the engine appends to the name of the main file: its log, the log of what is committed
 * during a checkpoint, and both together after a crash in one. */
static const struct str log_suffixes[] = {
    STR_INIT(".wal"),
    STR_INIT(".wal.checkpoint"),
    STR_INIT(".wal.recovery"),
};

/* ---- names ---- */

enum place {
    PLACE_NOWHERE,
    PLACE_MAIN,
    PLACE_LOG,
    PLACE_TEMP,
    PLACE_TEMP_FOLDER
};

/* A name that was checked, and where it is. */
struct target {
    enum place place;
    int folder_fd;
    char name[NAME_SIZE_MAX + 1];
};

static bool is_log_name(const struct database_files *files, struct str name)
{
    struct str main = str_of(files->name);
    for (size_t i = 0; i < COUNT_OF(log_suffixes); i++) {
        if (str_starts(name, main) && str_equal(str_from(name, main.len), log_suffixes[i])) {
            return true;
        }
    }
    return false;
}

/* The engine's own: letters, digits and three signs. No separator, no "..", nothing hidden. */
static bool is_simple_name(struct str name)
{
    if (name.len == 0 || name.ptr[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-' || c == '.';
        if (!good) {
            return false;
        }
    }
    return true;
}

static struct target find_target(const struct database_files *files, struct str name)
{
    struct target target = {.folder_fd = files->folder_fd};
    struct str temp = str_starts(name, STR("tmp/")) ? str_from(name, 4) : STR("");
    const char *prefix = "";
    if (str_equal(name, str_of(files->name))) {
        target.place = PLACE_MAIN;
    } else if (is_log_name(files, name)) {
        target.place = PLACE_LOG;
    } else if (files->temp_fd >= 0 && str_equal(name, STR("tmp"))) {
        target.place = PLACE_TEMP_FOLDER;
    } else if (files->temp_fd >= 0 && is_simple_name(temp)) {
        target.place = PLACE_TEMP;
        target.folder_fd = files->temp_fd;
        prefix = files->temp_prefix;
        name = temp;
    }
    int size = snprintf(target.name, sizeof(target.name), "%s%.*s", prefix, STR_ARG(name));
    if (size < 0 || (size_t)size >= sizeof(target.name)) {
        target.place = PLACE_NOWHERE;
    }
    return target;
}

/* ---- descriptors ---- */

/* O_NONBLOCK keeps a FIFO that somebody has put there from stopping us; files do not mind. */
static int open_beneath(int folder_fd, const char *name, int flags)
{
    const struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW),
        .mode = (flags & O_CREAT) != 0 ? FILE_MODE : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    long fd = -1;
    for (int attempt = 0; attempt < 16; attempt++) {
        fd = syscall(SYS_openat2, folder_fd, name, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
            break;
        }
    }
    return (int)fd;
}

/* A file, and nothing that only looks like one; -1, and errno, otherwise. */
static int keep_regular(int fd, struct stat *ret_status)
{
    if (fd >= 0 && (fstat(fd, ret_status) != 0 || !S_ISREG(ret_status->st_mode))) {
        fd_close(&fd);
        errno = EACCES;
    }
    return fd;
}

static int open_or_make(int folder_fd, const char *name, int flags, bool *ret_made)
{
    int fd = -1;
    for (int attempt = 0; attempt < 16 && fd < 0; attempt++) {
        *ret_made = false;
        fd = open_beneath(folder_fd, name, flags);
        if (fd >= 0 || errno != ENOENT) {
            break;
        }
        fd = open_beneath(folder_fd, name, flags | O_CREAT | O_EXCL);
        *ret_made = fd >= 0;
        if (fd < 0 && errno != EEXIST) {
            break;
        }
    }
    return fd;
}

/* ---- the main file ---- */

static bool fail_open(int errno_value, const struct database_files *files, struct err *err)
{
    if (errno_value == ENOENT && files->read_only) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno_value, "the database has no file");
    }
    if (errno_value == ENOSPC || errno_value == EDQUOT) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno_value,
                             "the disk has no room for the database");
    }
    return err_set_errno(err, ERR_UNAVAILABLE, errno_value, "the database's file cannot be opened");
}

/* The lock belongs to the description, which the worker gets too: it ends with the last of both. */
static bool try_lock(const struct database_files *files)
{
    struct flock whole = {
        .l_type = files->read_only ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET,
    };
    return fcntl(files->main_fd, F_OFD_SETLK, &whole) == 0;
}

/* Whoever had the lock may have removed or replaced the file meanwhile. */
static bool is_still_there(const struct database_files *files)
{
    struct stat ours;
    struct stat theirs;
    return fstat(files->main_fd, &ours) == 0 &&
           fstatat(files->folder_fd, files->name, &theirs, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static bool open_main(struct database_files *files, struct stat *ret_status, struct err *err)
{
    int fd = files->read_only ? open_beneath(files->folder_fd, files->name, O_RDONLY)
                              : open_or_make(files->folder_fd, files->name, O_RDWR, &files->made);
    files->main_fd = keep_regular(fd, ret_status);
    return files->main_fd >= 0 || fail_open(errno, files, err);
}

/* True when it is locked and at its place; false, with ERR_CONFLICT, when another try may help. */
static bool open_and_lock(struct database_files *files, struct stat *ret_status, struct err *err)
{
    if (!open_main(files, ret_status, err)) {
        return false;
    }
    if (try_lock(files) && is_still_there(files)) {
        return fstat(files->main_fd, ret_status) == 0 || fail_open(errno, files, err);
    }
    fd_close(&files->main_fd);
    return err_set(err, ERR_CONFLICT, "another process has the database open");
}

static bool lock_main(struct database_files *files, struct stat *ret_status, struct cancel *cancel,
                      struct err *err)
{
    int64_t until_ms = clock_now_ms() + LOCK_WAIT_MS;
    while (!open_and_lock(files, ret_status, err)) {
        struct err why = *err;
        if (why.kind != ERR_CONFLICT) {
            return false;
        }
        if (clock_now_ms() > until_ms) {
            return false;
        }
        if (!cancel_wait(cancel, LOCK_TRY_MS, err)) {
            return false;
        }
    }
    return true;
}

/* The engine would begin anew, and remove a log first that may hold all there is. */
static bool check_log(const struct database_files *files, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(log_suffixes); i++) {
        char name[NAME_SIZE_MAX + 1];
        struct stat status;
        (void)snprintf(name, sizeof(name), "%s%.*s", files->name, STR_ARG(log_suffixes[i]));
        if (fstatat(files->folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            status.st_size > 0) {
            return err_set(err, ERR_CORRUPT,
                           "the database's file is empty, and its log is not: the file was lost");
        }
    }
    return true;
}

/* Those of an earlier process too, which had no time to do it. */
static void remove_temp_files(const struct database_files *files)
{
    int fd =
        files->temp_fd < 0 ? -1 : openat(files->temp_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        fd_close(&fd);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        if (str_starts(str_of(entry->d_name), str_of(files->temp_prefix))) {
            (void)unlinkat(files->temp_fd, entry->d_name, 0);
        }
    }
    (void)closedir(folder);
}

bool database_files_open(struct database_files *files,
                         const struct engine_database_options *options, struct cancel *cancel,
                         struct err *err)
{
    *files = (struct database_files){
        .folder_fd = options->folder_fd,
        .temp_fd = options->temp_fd,
        .name = mem_copy_text(options->name),
        .read_only = options->read_only,
        .main_fd = -1,
    };
    assert(strchr(files->name, '/') == NULL && files->name[0] != '\0');
    struct stat status;
    if (!lock_main(files, &status, cancel, err)) {
        return false;
    }
    files->begun = status.st_size > 0;
    (void)snprintf(files->temp_prefix, sizeof(files->temp_prefix), "%llx-%llx-",
                   (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    remove_temp_files(files);
    if (files->made && !fd_sync(files->folder_fd)) {
        return fail_open(errno, files, err);
    }
    return files->begun || check_log(files, err);
}

void database_files_close(struct database_files *files)
{
    struct stat status;
    if (files->main_fd >= 0) {
        remove_temp_files(files);
        if (files->made && fstat(files->main_fd, &status) == 0 && status.st_size == 0) {
            (void)unlinkat(files->folder_fd, files->name, 0);
        }
    }
    fd_close(&files->main_fd);
    mem_free(files->name);
    files->name = NULL;
}

/* ---- questions ---- */

bool database_files_read(struct str payload, struct database_question *ret_question)
{
    struct worker_cursor cursor = {.rest = payload};
    struct database_question question = {.id = worker_get_u32(&cursor)};
    question.operation = worker_get_u32(&cursor);
    question.flags = worker_get_u32(&cursor);
    question.name = worker_get_text(&cursor);
    question.new_name = worker_get_text(&cursor);
    const uint32_t flags = WORKER_FILE_WRITE | WORKER_FILE_CREATE | WORKER_FILE_TRUNCATE;
    *ret_question = question;
    return worker_get_end(&cursor) && (question.flags & ~flags) == 0 &&
           question.operation >= WORKER_FILE_OPEN && question.operation <= WORKER_FILE_EXISTS;
}

static void refuse(struct database_answer *answer)
{
    answer->errno_value = EACCES;
    answer->refused = true;
}

/* The errno of a call that failed; a name that is taken or given is durable before the engine goes
 * on. */
static int durable(const struct database_files *files, const struct target *target, int result)
{
    if (result != 0) {
        return errno;
    }
    return target->place != PLACE_LOG || fd_sync(files->folder_fd) ? 0 : EIO;
}

/* Always the one description that holds the lock. What is in the file is not thrown away through
 * us: the engine truncates a file it begins only. */
static void open_the_main(struct database_files *files, uint32_t flags,
                          struct database_answer *answer)
{
    struct stat status;
    bool writes = (flags & (WORKER_FILE_WRITE | WORKER_FILE_CREATE | WORKER_FILE_TRUNCATE)) != 0;
    if ((writes && files->read_only) || fstat(files->main_fd, &status) != 0 ||
        ((flags & WORKER_FILE_TRUNCATE) != 0 && status.st_size > 0)) {
        refuse(answer);
        return;
    }
    if (!files->begun && (flags & WORKER_FILE_CREATE) == 0) {
        answer->errno_value = ENOENT;
        return;
    }
    files->begun = true;
    answer->value = (uint64_t)status.st_size;
    answer->fd = files->main_fd;
}

static int open_flags(uint32_t flags)
{
    int result = (flags & WORKER_FILE_WRITE) != 0 ? O_RDWR : O_RDONLY;
    bool truncates = (flags & WORKER_FILE_TRUNCATE) != 0 && result == O_RDWR;
    return result | (truncates ? O_TRUNC : 0);
}

static void open_other(struct database_files *files, const struct target *target, uint32_t flags,
                       struct database_answer *answer)
{
    bool makes = (flags & WORKER_FILE_CREATE) != 0;
    bool is_temp = target->place == PLACE_TEMP;
    if (makes && is_temp && files->temp_files >= DATABASE_TEMP_FILES_MAX) {
        answer->errno_value = ENOSPC;
        return;
    }
    bool made = false;
    struct stat status;
    int fd = makes ? open_or_make(target->folder_fd, target->name, open_flags(flags), &made)
                   : open_beneath(target->folder_fd, target->name, open_flags(flags));
    fd = keep_regular(fd, &status);
    answer->errno_value = fd < 0 ? errno : 0;
    files->temp_files += made && is_temp;
    if (made) {
        answer->errno_value = durable(files, target, 0);
    }
    if (answer->errno_value != 0) {
        fd_close(&fd);
        return;
    }
    answer->fd = fd;
    answer->passing = true;
    answer->value = (uint64_t)status.st_size;
}

static void open_file(struct database_files *files, const struct target *target, uint32_t flags,
                      struct database_answer *answer)
{
    bool changes = (flags & (WORKER_FILE_WRITE | WORKER_FILE_CREATE | WORKER_FILE_TRUNCATE)) != 0;
    if (target->place == PLACE_MAIN) {
        open_the_main(files, flags, answer);
    } else if (target->place == PLACE_TEMP ||
               (target->place == PLACE_LOG && !(changes && files->read_only))) {
        open_other(files, target, flags, answer);
    } else {
        refuse(answer);
    }
}

static void remove_file(struct database_files *files, const struct target *target,
                        struct database_answer *answer)
{
    bool allowed = target->place == PLACE_TEMP || (target->place == PLACE_LOG && !files->read_only);
    if (!allowed) {
        refuse(answer);
        return;
    }
    int result = unlinkat(target->folder_fd, target->name, 0);
    files->temp_files -= result == 0 && target->place == PLACE_TEMP && files->temp_files > 0;
    answer->errno_value = durable(files, target, result);
}

static void move_file(const struct database_files *files, const struct target *from,
                      struct str new_name, struct database_answer *answer)
{
    struct target to = find_target(files, new_name);
    if (files->read_only || from->place != PLACE_LOG || to.place != PLACE_LOG) {
        refuse(answer);
        return;
    }
    int result = renameat(from->folder_fd, from->name, to.folder_fd, to.name);
    answer->errno_value = durable(files, from, result);
}

static void look_for(const struct database_files *files, const struct target *target,
                     struct database_answer *answer)
{
    struct stat status;
    switch (target->place) {
    case PLACE_MAIN:
        answer->value = files->begun;
        break;
    case PLACE_TEMP_FOLDER:
        answer->value = 1;
        break;
    case PLACE_LOG:
    case PLACE_TEMP:
        answer->value = fstatat(target->folder_fd, target->name, &status, AT_SYMLINK_NOFOLLOW) == 0;
        break;
    case PLACE_NOWHERE:
        refuse(answer);
        break;
    }
}

void database_files_answer(struct database_files *files, const struct database_question *question,
                           struct database_answer *ret_answer)
{
    *ret_answer = (struct database_answer){.fd = -1};
    struct target target = find_target(files, question->name);
    switch ((enum worker_file_operation)question->operation) {
    case WORKER_FILE_OPEN:
        open_file(files, &target, question->flags, ret_answer);
        break;
    case WORKER_FILE_REMOVE:
        remove_file(files, &target, ret_answer);
        break;
    case WORKER_FILE_MOVE:
        move_file(files, &target, question->new_name, ret_answer);
        break;
    case WORKER_FILE_EXISTS:
        look_for(files, &target, ret_answer);
        break;
    }
}
