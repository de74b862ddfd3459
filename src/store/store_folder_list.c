/* Listing a folder in the order of the keys' bytes: a directory sorts as its name with a slash
 * behind it, then a walk in depth gives the order S3 has. Only one directory is open at a time,
 * whatever the depth. */
#include "store_folder.h"

#include "fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum {
    DIRECTORY_BYTES_MAX = 256 * 1024 * 1024
};

struct entry {
    size_t name_offset;
    size_t name_len; /* with the slash of a directory */
    bool directory;
    struct stat status;
};

struct directory {
    struct buf names;
    struct buf entries; /* struct entry, one after the other */
};

struct walk {
    const struct store_folder *folder;
    struct str prefix;
    store_visit_fn *visit;
    void *context;
    struct cancel *cancel;
    struct buf path; /* where the walk is: "" or a path that ends with a slash */
};

static void directory_finish(struct directory *directory)
{
    buf_finish(&directory->names);
    buf_finish(&directory->entries);
}

static const struct entry *entry_at(const struct directory *directory, size_t index)
{
    const void *entries = directory->entries.ptr;
    return (const struct entry *)entries + index;
}

static size_t entries_count(const struct directory *directory)
{
    return directory->entries.len / sizeof(struct entry);
}

static struct str entry_name(const struct directory *directory, const struct entry *entry)
{
    return str_make(directory->names.ptr + entry->name_offset, entry->name_len);
}

static int compare_entries(const void *a, const void *b, void *context)
{
    const struct directory *directory = context;
    return str_compare(entry_name(directory, a), entry_name(directory, b));
}

static void add_entry(struct directory *directory, int fd, const char *name)
{
    struct entry entry = {.name_offset = directory->names.len};
    if (fstatat(fd, name, &entry.status, AT_SYMLINK_NOFOLLOW) != 0) {
        return; /* gone meanwhile */
    }
    entry.directory = S_ISDIR(entry.status.st_mode);
    if (!entry.directory && !S_ISREG(entry.status.st_mode)) {
        return;
    }
    buf_append_text(&directory->names, name);
    if (entry.directory) {
        buf_append_byte(&directory->names, '/');
    }
    entry.name_len = directory->names.len - entry.name_offset;
    buf_append_bytes(&directory->entries, &entry, sizeof(entry));
}

/* Reads the directory at `path`, sorted. One that is not there is empty. */
static bool read_directory(const struct store_folder *folder, struct str path,
                           struct directory *ret_directory, struct err *err)
{
    buf_init(&ret_directory->names, DIRECTORY_BYTES_MAX);
    buf_init(&ret_directory->entries, DIRECTORY_BYTES_MAX);
    struct folder_path text = folder_path_of(str_first(path, path.len == 0 ? 0 : path.len - 1));
    int fd = folder_open(folder, text.text, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG ||
               folder_fail(errno, path, err);
    }
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        int cause = errno;
        fd_close(&fd);
        return folder_fail(cause, path, err);
    }
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        bool hidden = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                      (path.len == 0 && strcmp(entry->d_name, FOLDER_TEMPORARY) == 0);
        if (!hidden) {
            add_entry(ret_directory, fd, entry->d_name);
        }
    }
    (void)closedir(stream);
    if (buf_failed(&ret_directory->names) || buf_failed(&ret_directory->entries)) {
        return err_set(err, ERR_TOO_LARGE, "the folder \"%.*s\" has too many entries",
                       STR_ARG(path));
    }
    size_t count = entries_count(ret_directory);
    if (count > 1) {
        qsort_r(ret_directory->entries.ptr, count, sizeof(struct entry), compare_entries,
                ret_directory);
    }
    return true;
}

static bool walk_directory(struct walk *walk, struct err *err);

/* walk->path holds the entry's whole key, with a slash when it is a directory. */
static bool walk_entry(struct walk *walk, const struct entry *entry, struct err *err)
{
    struct err unusable = {0};
    struct str key = buf_str(&walk->path);
    if (buf_failed(&walk->path) ||
        !store_check_key(str_first(key, key.len - (entry->directory ? 1 : 0)), &unusable)) {
        return true; /* nothing this interface could be asked for */
    }
    bool matches = str_starts(key, walk->prefix);
    if (entry->directory) {
        return !matches || walk_directory(walk, err);
    }
    struct store_object object;
    folder_describe(&entry->status, &object);
    return !matches || walk->visit(walk->context, key, &object, err);
}

static bool walk_directory(struct walk *walk, struct err *err)
{
    CLEANUP(directory_finish) struct directory directory = {0};
    size_t depth = walk->path.len;
    if (!cancel_check(walk->cancel, err) ||
        !read_directory(walk->folder, buf_str(&walk->path), &directory, err)) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; good && i < entries_count(&directory); i++) {
        const struct entry *entry = entry_at(&directory, i);
        buf_append(&walk->path, entry_name(&directory, entry));
        good = cancel_check(walk->cancel, err) && walk_entry(walk, entry, err);
        walk->path.failed = false;
        buf_truncate(&walk->path, depth);
    }
    return good;
}

static size_t directory_len(struct str prefix)
{
    size_t len = prefix.len;
    while (len > 0 && prefix.ptr[len - 1] != '/') {
        len--;
    }
    return len;
}

bool folder_list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
                 struct cancel *cancel, struct err *err)
{
    struct walk walk = {
        .folder = (const struct store_folder *)store,
        .prefix = prefix,
        .visit = visit,
        .context = context,
        .cancel = cancel,
    };
    if (str_starts(prefix, STR(FOLDER_TEMPORARY "/"))) {
        return true;
    }
    buf_init(&walk.path, STORE_KEY_SIZE_MAX + 1);
    buf_append(&walk.path, str_first(prefix, directory_len(prefix)));
    bool good = walk_directory(&walk, err);
    buf_finish(&walk.path);
    return good;
}

static bool note_object(void *context, struct str key, const struct store_object *object,
                        struct err *err)
{
    bool *found = context;
    (void)key;
    (void)object;
    *found = true;
    return err_set(err, ERR_CANCELLED, "found");
}

/* A directory without any object is not a folder, as in S3. */
static bool has_object(struct store *store, struct str prefix, struct cancel *cancel,
                       bool *ret_found, struct err *err)
{
    *ret_found = false;
    struct err stopped;
    if (folder_list(store, prefix, note_object, ret_found, cancel, &stopped) || *ret_found) {
        return true;
    }
    *err = stopped;
    return false;
}

bool folder_list_folders(struct store *store, struct str prefix, bool empty_too,
                         store_visit_fn *visit, void *context, struct cancel *cancel,
                         struct err *err)
{
    CLEANUP(directory_finish) struct directory directory = {0};
    CLEANUP(buf_finish) struct buf path;
    buf_init(&path, STORE_KEY_SIZE_MAX + 1);
    if (str_starts(prefix, STR(FOLDER_TEMPORARY "/"))) {
        return true;
    }
    if (!read_directory((const struct store_folder *)store, prefix, &directory, err)) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; good && i < entries_count(&directory); i++) {
        const struct entry *entry = entry_at(&directory, i);
        struct str name = entry_name(&directory, entry);
        buf_reset(&path);
        buf_append(&path, prefix);
        buf_append(&path, name);
        struct err unusable = {0};
        bool found = empty_too;
        if (!entry->directory || buf_failed(&path) ||
            !store_check_prefix(buf_str(&path), &unusable)) {
            continue;
        }
        good = (empty_too || has_object(store, buf_str(&path), cancel, &found, err)) &&
               (!found || visit(context, str_first(name, name.len - 1), NULL, err));
    }
    return good;
}
