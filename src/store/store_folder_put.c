/* Storing into a folder: the bytes are written and synced under a temporary name and then moved, so
 * that nobody ever sees a part of an object; the directory is synced before the put is called done.
 */
#include "store_folder.h"

#include "clock.h"
#include "digest.h"
#include "fd.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum {
    CHUNK_SIZE = 256 * 1024,
    DIRECTORY_MODE = 0750,
    FILE_MODE = 0640,
    NAME_SIZE = 33
};

/* One object on its way. */
struct landing {
    struct store_folder *folder;
    struct str key;
    int temporary_fd; /* the folder of temporary files */
    int parent_fd;
    char name[NAME_SIZE]; /* of the temporary file */
    struct folder_path leaf;
    bool written; /* the temporary file exists */
};

void folder_sweep(const struct store_folder *folder)
{
    enum {
        OLD_SECONDS = 3600
    };
    int fd = folder_open(folder, FOLDER_TEMPORARY, O_RDONLY | O_DIRECTORY);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        fd_close(&fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        struct stat status;
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && status.st_mtime < clock_wall_ms() / 1000 - OLD_SECONDS) {
            (void)unlinkat(fd, entry->d_name, 0);
        }
    }
    (void)closedir(directory);
}

/* --- directories --- */

static bool fail_put(int errno_value, struct str key, struct err *err)
{
    if (errno_value == ENOTDIR || errno_value == EISDIR) {
        return err_set_errno(err, ERR_STORE, errno_value,
                             "\"%.*s\" cannot be stored: in a folder, a name is either an object "
                             "or a folder",
                             STR_ARG(key));
    }
    if (errno_value == ENAMETOOLONG) {
        return err_set_errno(err, ERR_INVALID, errno_value,
                             "\"%.*s\" cannot be stored: a part of it is too long for a folder",
                             STR_ARG(key));
    }
    (void)folder_fail(errno_value, key, err);
    err->kind = err->kind == ERR_STORE_MISSING ? ERR_STORE : err->kind;
    return false;
}

static void remember_synced(struct store_folder *folder, struct str path)
    REQUIRES(&folder->directories_lock);
static void remember_synced(struct store_folder *folder, struct str path)
{
    if (map_find(&folder->synced, path) != NULL) {
        return;
    }
    struct folder_synced *synced = mem_alloc(sizeof(*synced) + path.len);
    memcpy(synced->text, path.ptr, path.len);
    synced->path = str_make(synced->text, path.len);
    synced->next = folder->synced_first;
    folder->synced_first = synced;
    map_set(&folder->synced, synced->path, synced);
}

void folder_forget_synced(struct store_folder *folder)
{
    map_finish(&folder->synced);
    for (struct folder_synced *next, *synced = folder->synced_first; synced != NULL;
         synced = next) {
        next = synced->next;
        mem_free(synced);
    }
}

/* Goes one step down, into a directory that is made when it is missing. One that is there may not
 * be durable either: whoever made it, here or in another process, may have died before the sync. */
static bool step_down(int *fd, const char *name, bool synced, struct str key, struct err *err)
{
    bool made = FD_UNINTERRUPTED(mkdirat(*fd, name, DIRECTORY_MODE)) == 0;
    if (!made && errno != EEXIST) {
        return fail_put(errno, key, err);
    }
    if ((made || !synced) && !fd_sync(*fd)) {
        return fail_put(errno, key, err);
    }
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int next = FD_UNINTERRUPTED(openat(*fd, name, flags));
    if (next < 0) {
        return fail_put(errno, key, err);
    }
    fd_close(fd);
    *fd = next;
    return true;
}

static bool make_parents(struct store_folder *folder, struct str path, struct str key, int *ret_fd,
                         struct err *err) REQUIRES(&folder->directories_lock);
static bool make_parents(struct store_folder *folder, struct str path, struct str key, int *ret_fd,
                         struct err *err)
{
    CLEANUP(fd_close) int fd = folder_open(folder, ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fail_put(errno, key, err);
    }
    struct str segment;
    for (struct str rest = path; str_next_part(&rest, '/', &segment);) {
        struct folder_path name = folder_path_of(segment);
        struct str so_far = str_first(path, (size_t)(segment.ptr + segment.len - path.ptr));
        bool synced = map_find(&folder->synced, so_far) != NULL;
        if (!step_down(&fd, name.text, synced, key, err)) {
            return false;
        }
        remember_synced(folder, so_far);
    }
    *ret_fd = fd;
    fd = -1;
    return true;
}

/* The directory at path, made when it is missing, and durable: one that another put is making now
 * is not remembered as synced before it is. */
static bool open_parent(struct store_folder *folder, struct str path, struct str key, int *ret_fd,
                        struct err *err)
{
    struct folder_path text = folder_path_of(path);
    *ret_fd = folder_open(folder, text.text, O_RDONLY | O_DIRECTORY);
    bool found = *ret_fd >= 0;
    if (!found && errno != ENOENT) {
        return fail_put(errno, key, err);
    }
    lock_take(&folder->directories_lock);
    bool good = found && (path.len == 0 || map_find(&folder->synced, path) != NULL);
    if (!good) {
        fd_close(ret_fd);
        good = make_parents(folder, path, key, ret_fd, err);
    }
    lock_release(&folder->directories_lock);
    return good;
}

/* --- the file --- */

static bool write_fd(int into_fd, const struct store_source *source, struct str key,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_free_text) char *chunk = mem_alloc(CHUNK_SIZE);
    for (uint64_t offset = 0; offset < source->size;) {
        uint64_t left = source->size - offset;
        size_t wanted = left < CHUNK_SIZE ? (size_t)left : (size_t)CHUNK_SIZE;
        if (!cancel_check(cancel, err)) {
            return false;
        }
        ssize_t got = pread(source->fd, chunk, wanted, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return err_set_errno(err, ERR_INTERNAL, got < 0 ? errno : EIO,
                                 "a file to be stored cannot be read");
        }
        if (!fd_write_all(into_fd, str_make(chunk, (size_t)got), err)) {
            err->kind = ERR_STORE;
            err_add_detail(err, "while storing \"%.*s\"", STR_ARG(key));
            return false;
        }
        offset += (uint64_t)got;
    }
    return true;
}

static bool write_temporary(struct landing *landing, const struct store_source *source,
                            struct cancel *cancel, int *ret_fd, struct err *err)
{
    unsigned char random[(NAME_SIZE - 1) / 2];
    digest_random(random, sizeof(random));
    digest_hex(random, sizeof(random), landing->name);
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    CLEANUP(fd_close)
    int fd = FD_UNINTERRUPTED(openat(landing->temporary_fd, landing->name, flags, FILE_MODE));
    if (fd < 0) {
        return fail_put(errno, landing->key, err);
    }
    landing->written = true;
    if (source->fd >= 0) {
        if (!write_fd(fd, source, landing->key, cancel, err)) {
            return false;
        }
    } else if (!fd_write_all(fd, source->bytes, err)) {
        err->kind = ERR_STORE;
        return false;
    }
    if (!fd_sync(fd)) {
        return fail_put(errno, landing->key, err);
    }
    *ret_fd = fd;
    fd = -1;
    return true;
}

/* A move that never replaces, where the file system has it; else a second name, and the first is
 * removed. */
static int move_create_only(struct landing *landing)
{
    if (FD_UNINTERRUPTED(renameat2(landing->temporary_fd, landing->name, landing->parent_fd,
                                   landing->leaf.text, RENAME_NOREPLACE)) == 0) {
        landing->written = false;
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return errno;
    }
    if (FD_UNINTERRUPTED(linkat(landing->temporary_fd, landing->name, landing->parent_fd,
                                landing->leaf.text, 0)) != 0) {
        return errno;
    }
    (void)FD_UNINTERRUPTED(unlinkat(landing->temporary_fd, landing->name, 0));
    landing->written = false;
    return 0;
}

static int move_replacing(struct landing *landing)
{
    if (FD_UNINTERRUPTED(renameat(landing->temporary_fd, landing->name, landing->parent_fd,
                                  landing->leaf.text)) != 0) {
        return errno;
    }
    landing->written = false;
    return 0;
}

static bool land(struct landing *landing, bool create_only, int fd, struct store_object *ret_object,
                 struct err *err)
{
    int cause = create_only ? move_create_only(landing) : move_replacing(landing);
    if (cause == EEXIST && create_only) {
        return err_set(err, ERR_CONFLICT, "the object \"%.*s\" exists already",
                       STR_ARG(landing->key));
    }
    if (cause != 0) {
        return fail_put(cause, landing->key, err);
    }
    struct stat status;
    if (!fd_sync(landing->parent_fd) || fstat(fd, &status) != 0) {
        return err_set_errno(err, ERR_UNCERTAIN, errno,
                             "it is not known whether \"%.*s\" was stored", STR_ARG(landing->key));
    }
    folder_describe(&status, ret_object);
    return true;
}

static bool put_landing(struct landing *landing, const struct store_source *source,
                        bool create_only, struct cancel *cancel, struct store_object *ret_object,
                        struct err *err)
{
    struct str key = landing->key;
    size_t leaf = key.len;
    while (leaf > 0 && key.ptr[leaf - 1] != '/') {
        leaf--;
    }
    landing->leaf = folder_path_of(str_from(key, leaf));
    struct str parent = str_first(key, leaf == 0 ? 0 : leaf - 1);
    CLEANUP(fd_close) int fd = -1;
    return open_parent(landing->folder, STR(FOLDER_TEMPORARY), key, &landing->temporary_fd, err) &&
           open_parent(landing->folder, parent, key, &landing->parent_fd, err) &&
           write_temporary(landing, source, cancel, &fd, err) && cancel_check(cancel, err) &&
           land(landing, create_only, fd, ret_object, err);
}

bool folder_put(struct store *store, struct str key, const struct store_source *source,
                const struct store_put_options *options, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    struct landing landing = {
        .folder = (struct store_folder *)store,
        .key = key,
        .temporary_fd = -1,
        .parent_fd = -1,
    };
    if (str_starts(key, STR(FOLDER_TEMPORARY "/")) || str_equal(key, STR(FOLDER_TEMPORARY))) {
        return err_set(err, ERR_INVALID, "the key \"%.*s\" is reserved", STR_ARG(key));
    }
    bool create_only = options != NULL && options->create_only;
    bool good = put_landing(&landing, source, create_only, cancel, ret_object, err);
    if (landing.written) {
        (void)FD_UNINTERRUPTED(unlinkat(landing.temporary_fd, landing.name, 0));
    }
    fd_close(&landing.temporary_fd);
    fd_close(&landing.parent_fd);
    return good;
}
