#include "clock.h"
#include "database_internal.h"
#include "fd.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_NAME "default"
#define FILE_SUFFIX ".duckdb"

enum {
    NAMES_PER_DATABASE = 8 /* that are remembered after a drop, of each that there may be */
};

bool database_name_is_good(struct str name)
{
    bool good =
        name.len > 0 && name.len < DATABASE_NAME_SIZE && name.ptr[0] != '_' && name.ptr[0] != '-';
    for (size_t i = 0; good && i < name.len; i++) {
        char c = name.ptr[i];
        good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    }
    return good;
}

/* ---- one database, without its file ---- */

static const char *file_name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static char *copy_folder(const char *path)
{
    size_t size = (size_t)(file_name_of(path) - path);
    return size == 0   ? mem_copy_text(".")
           : size == 1 ? mem_copy_text("/")
                       : mem_copy_bytes(path, size - 1);
}

static void set_path(struct database *database, const char *path)
{
    database->path = mem_copy_text(path);
    database->folder = copy_folder(path);
    (void)snprintf(database->file_name, sizeof(database->file_name), "%s", file_name_of(path));
}

static bool is_default(struct str name)
{
    return str_equal(name, STR(DEFAULT_NAME));
}

static bool are_the_same(const char *path, const char *other_path)
{
    struct stat status;
    struct stat other;
    return stat(path, &status) == 0 && stat(other_path, &other) == 0 &&
           status.st_dev == other.st_dev && status.st_ino == other.st_ino;
}

/* DUCKDB_DATABASE_PATH may be a file of our own folder, which has a database's name then. */
void databases_find_default(struct databases *databases)
{
    const struct databases_options *options = &databases->options;
    struct err ignored;
    if (options->default_path == NULL) {
        return;
    }
    databases->default_folder = copy_folder(options->default_path);
    struct str name = str_of(file_name_of(options->default_path));
    if (!str_ends(name, STR(FILE_SUFFIX))) {
        return;
    }
    name = str_first(name, name.len - strlen(FILE_SUFFIX));
    if (database_name_is_good(name) && fd_make_directories(options->folder, &ignored) &&
        are_the_same(databases->default_folder, options->folder)) {
        (void)snprintf(databases->default_alias, sizeof(databases->default_alias), "%.*s",
                       STR_ARG(name));
    }
}

/* One file is one database, and has one name: two would not know of one another's locks. */
struct str database_own_name(const struct databases *databases, struct str name)
{
    bool other = name.len == 0 || str_equal(name, str_of(databases->default_alias));
    return other ? STR(DEFAULT_NAME) : name;
}

uint64_t databases_group(const struct databases *databases, struct str name)
{
    return map_hash(database_own_name(databases, name), 0) | 1;
}

static struct database *create(struct databases *databases, struct str name)
{
    struct database *database = mem_alloc(sizeof(*database));
    database->owner = databases;
    (void)snprintf(database->name, sizeof(database->name), "%.*s", STR_ARG(name));
    if (is_default(name) && databases->options.default_path != NULL) {
        set_path(database, databases->options.default_path);
    } else {
        char path[4096];
        (void)snprintf(path, sizeof(path), "%s/%s" FILE_SUFFIX, databases->options.folder,
                       database->name);
        set_path(database, path);
    }
    database->folder_fd = -1;
    database->temp_fd = -1;
    database->last_waiter = &database->first_waiter;
    database->is_default = is_default(name);
    database->there = database->is_default;
    database->breaker = breaker_create(&databases->options.breaker);
    database->timings = timings_create();
    return database;
}

void database_destroy(struct database *database)
{
    fd_close(&database->folder_fd);
    fd_close(&database->temp_fd);
    breaker_destroy(database->breaker);
    timings_destroy(database->timings);
    mem_free(database->path);
    mem_free(database->folder);
    mem_free(database);
}

/* ---- looking for it ---- */

static bool is_of(const struct database *database, const char *name)
{
    struct str own = str_of(database->file_name);
    if (!str_starts(str_of(name), own)) {
        return false;
    }
    struct str rest = str_of(name + own.len);
    return rest.len == 0 || str_starts(rest, STR(DATABASE_ASIDE_INFIX)) ||
           str_starts(rest, STR(DATABASE_REPLACED_INFIX));
}

/* Its own file, or one that was set aside. By the path: most names that are asked for and are not
 * there get no folder opened. */
static bool is_on_disk(const struct database *database)
{
    DIR *folder = opendir(database->folder);
    bool found = false;
    while (folder != NULL && !found) {
        struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            break;
        }
        found = is_of(database, entry->d_name);
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return found;
}

static struct database *find_known(struct databases *databases, struct str name)
{
    lock_take(&databases->lock);
    struct database *found = map_find(&databases->by_name, name);
    lock_release(&databases->lock);
    return found;
}

static unsigned count_there(const struct databases *databases) REQUIRES(&databases->lock)
{
    unsigned count = 0;
    for (const struct database *at = databases->first; at != NULL; at = at->next) {
        count += at->there;
    }
    return count;
}

static bool has_room(const struct databases *databases, struct err *err) REQUIRES(&databases->lock)
{
    unsigned most = databases->options.databases_max;
    if (count_there(databases) >= most) {
        return err_set(err, ERR_CONFLICT, "there are %u databases already, as many as there may be",
                       most);
    }
    /* What was dropped is still known: somebody may be looking at its numbers. */
    return databases->count < most * NAMES_PER_DATABASE ||
           err_set(err, ERR_CONFLICT,
                   "%u names of databases have been used since the server started; use one of them "
                   "again, or restart the server",
                   databases->count);
}

/* Another thread may have added it meanwhile: then that one is it. */
static struct database *add(struct databases *databases, struct database *database, struct err *err)
{
    lock_take(&databases->lock);
    struct database *known = map_find(&databases->by_name, str_of(database->name));
    bool full = known == NULL && !database->is_default && !has_room(databases, err);
    if (known == NULL && !full) {
        map_set(&databases->by_name, str_of(database->name), database);
        database->next = databases->first;
        databases->first = database;
        databases->count++;
    }
    lock_release(&databases->lock);
    if (known == NULL && !full) {
        return database;
    }
    database_destroy(database);
    return known;
}

static bool check_name(struct str name, struct err *err)
{
    return database_name_is_good(name) ||
           err_set(err, ERR_INVALID,
                   "a database's name has 1 to 63 of the characters a-z, 0-9, _ and -, and begins "
                   "with a letter or digit");
}

static bool look_on_disk(struct database *database)
{
    bool there = is_on_disk(database);
    lock_take(&database->owner->lock);
    database->there = database->there || there;
    there = database->there;
    lock_release(&database->owner->lock);
    return there;
}

static bool is_there(struct database *database)
{
    lock_take(&database->owner->lock);
    bool there = database->there;
    lock_release(&database->owner->lock);
    return there || look_on_disk(database);
}

struct database *database_find(struct databases *databases, struct str name, struct err *err)
{
    name = database_own_name(databases, name);
    if (!check_name(name, err)) {
        return NULL;
    }
    struct database *known = find_known(databases, name);
    if (known != NULL && is_there(known)) {
        return known;
    }
    struct database *fresh = known == NULL ? create(databases, name) : NULL;
    if (fresh != NULL && is_there(fresh)) {
        return add(databases, fresh, err);
    }
    if (fresh != NULL) {
        database_destroy(fresh);
    }
    (void)err_set(err, ERR_NOT_FOUND, "there is no database '%.*s'", STR_ARG(name));
    return NULL;
}

static int open_folder(const char *path, struct err *err)
{
    int fd = fd_make_directories(path, err) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "a database's folder cannot be opened");
        err_add_detail(err, "%s", path);
    }
    return fd;
}

/* The first one that has both folders open gives them to everybody. */
bool database_reach(struct database *database, struct err *err)
{
    struct databases *databases = database->owner;
    const struct databases_options *options = &databases->options;
    lock_take(&databases->lock);
    bool reached = database->folder_fd >= 0;
    lock_release(&databases->lock);
    if (reached) {
        return true;
    }
    char temp_path[4096];
    const char *beneath = options->temp_folder == NULL ? options->folder : options->temp_folder;
    (void)snprintf(temp_path, sizeof(temp_path), "%s/tmp-%s", beneath, database->name);
    CLEANUP(fd_close) int folder_fd = open_folder(database->folder, err);
    CLEANUP(fd_close) int temp_fd = folder_fd < 0 ? -1 : open_folder(temp_path, err);
    if (temp_fd < 0) {
        return false;
    }
    /* Before its first file: who made the folder may have been killed before it was durable. */
    bool unused = faccessat(folder_fd, database->file_name, F_OK, 0) != 0;
    if (unused && !fd_sync_parents(database->folder, err)) {
        return false;
    }
    lock_take(&databases->lock);
    if (database->folder_fd < 0) {
        database->folder_fd = folder_fd;
        database->temp_fd = temp_fd;
        folder_fd = -1;
        temp_fd = -1;
    }
    lock_release(&databases->lock);
    return true;
}

/* ---- making and dropping ---- */

bool databases_make(struct databases *databases, struct str name, struct cancel *cancel,
                    struct err *err)
{
    if (!check_name(name, err)) {
        return false;
    }
    name = database_own_name(databases, name);
    struct database *database = find_known(databases, name);
    database = database != NULL ? database : add(databases, create(databases, name), err);
    if (database == NULL) {
        return false;
    }
    bool on_disk = is_on_disk(database);
    bool aside = on_disk && database_reach(database, err) && database_is_quarantined(database);
    lock_take(&databases->lock);
    bool good = (!database->there && !on_disk) || aside ||
                err_set(err, ERR_CONFLICT, "there is a database '%s' already", database->name);
    good = good && (database->there || has_room(databases, err));
    if (good) {
        int64_t retry_ms;
        bool was_there = database->there;
        database->there = true;
        database->anew = true;
        database->retry_open_ms = 0;
        good = database_enter(database, USE_PROBE, cancel, &retry_ms, err);
        database->anew = false;
        database->there = good || was_there;
    }
    if (good) {
        database_leave(database, USE_PROBE);
        breaker_reset(database->breaker);
    }
    lock_release(&databases->lock);
    return good;
}

bool databases_drop(struct databases *databases, struct str name, struct cancel *cancel,
                    struct err *err)
{
    struct database *database = database_find(databases, name, err);
    if (database == NULL) {
        return false;
    }
    lock_take(&databases->lock);
    bool good = database_enter_alone(database, cancel, err);
    if (good) {
        lock_release(&databases->lock);
        good = database_reach(database, err) && database_to_trash(database, err);
        lock_take(&databases->lock);
        database->there = database->there && (!good || database->is_default);
        database_leave_alone(database);
        breaker_reset(database->breaker);
    }
    lock_release(&databases->lock);
    return good;
}

/* ---- for who looks ---- */

static void add_file(const struct database *database, struct database_info *info)
{
    struct stat status;
    char log_path[4096];
    (void)snprintf(log_path, sizeof(log_path), "%s.wal", database->path);
    if (stat(database->path, &status) == 0) {
        info->exists = true;
        info->size_bytes = (uint64_t)status.st_size;
        info->modified_wall_ms = (int64_t)status.st_mtim.tv_sec * 1000;
        struct statx born;
        bool known = statx(AT_FDCWD, database->path, 0, STATX_BTIME, &born) == 0 &&
                     (born.stx_mask & STATX_BTIME) != 0;
        info->created_wall_ms = known ? (int64_t)born.stx_btime.tv_sec * 1000 : 0;
    }
    if (stat(log_path, &status) == 0) {
        info->log_bytes = (uint64_t)status.st_size;
    }
}

/* A user, so that the engine stays for as long as it is asked. */
static void add_process(struct database *database, struct database_info *info)
{
    struct databases *databases = database->owner;
    lock_take(&databases->lock);
    bool open = database->phase == PHASE_OPEN;
    info->status = open ? DATABASE_OPEN : DATABASE_CLOSED;
    info->memory_limit_bytes = open ? database->granted_bytes : databases->options.memory_bytes;
    (void)snprintf(info->problem, sizeof(info->problem), "%.255s", database->open_err.message);
    database->users += open;
    lock_release(&databases->lock);
    if (open) {
        engine_database_state(database->engine, &info->process);
        lock_take(&databases->lock);
        database->users--;
        database_wake(database);
        condition_broadcast(&databases->changed);
        lock_release(&databases->lock);
    }
}

static void show(struct database *database, database_visit_fn *visit, void *context)
{
    struct database_info info = {.path = database->path};
    (void)snprintf(info.name, sizeof(info.name), "%s", database->name);
    add_process(database, &info);
    add_file(database, &info);
    if (info.status == DATABASE_CLOSED && !info.exists && is_on_disk(database)) {
        info.status = DATABASE_QUARANTINED;
        (void)snprintf(info.problem, sizeof(info.problem), "%s",
                       "it is damaged and was set aside; restore it from a backup, or create it "
                       "anew");
    }
    breaker_status(database->breaker, clock_now_ms(), &info.breaker);
    visit(context, &info);
}

bool databases_find(struct databases *databases, struct str name, database_visit_fn *visit,
                    void *context)
{
    struct err ignored;
    struct database *database = database_find(databases, name, &ignored);
    if (database != NULL) {
        show(database, visit, context);
    }
    return database != NULL;
}

/* Those in the folder that nobody has asked for yet become known; one too many is left out. */
static void find_all(struct databases *databases)
{
    DIR *folder = opendir(databases->options.folder);
    for (struct dirent *entry = folder == NULL ? NULL : readdir(folder); entry != NULL;
         entry = readdir(folder)) {
        const char *suffix = strstr(entry->d_name, FILE_SUFFIX);
        struct str name =
            str_make(entry->d_name, suffix == NULL ? 0 : (size_t)(suffix - entry->d_name));
        struct err ignored;
        if (database_name_is_good(name)) {
            (void)database_find(databases, name, &ignored);
        }
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
}

static int compare(const void *a, const void *b)
{
    const struct database *const *left = a;
    const struct database *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

void databases_visit(struct databases *databases, database_visit_fn *visit, void *context)
{
    struct err ignored;
    (void)database_find(databases, STR(DEFAULT_NAME), &ignored);
    find_all(databases);
    lock_take(&databases->lock);
    size_t count = 0;
    struct database **all = mem_alloc(databases->count * sizeof(struct database *));
    for (struct database *database = databases->first; database != NULL;
         database = database->next) {
        if (database->there) {
            all[count++] = database;
        }
    }
    lock_release(&databases->lock);
    qsort(all, count, sizeof(struct database *), compare);
    for (size_t i = 0; i < count; i++) {
        show(all[i], visit, context);
    }
    mem_free(all);
}
