#include "store_cache_internal.h"

#include "fd.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    IDENTITY_SIZE_MAX = 16 * 1024
};

/* ---- the table of objects ---- */

static struct cached_object **bucket_of(struct store_cache *cache, const struct sha256 *identity)
{
    uint32_t hash;
    memcpy(&hash, identity->bytes, sizeof(hash));
    return &cache->buckets[hash % CACHE_BUCKETS_COUNT];
}

static struct cached_object *find(struct store_cache *cache, const struct sha256 *identity)
    REQUIRES(&cache->lock)
{
    struct cached_object *object = *bucket_of(cache, identity);
    while (object != NULL && memcmp(&object->identity, identity, sizeof(*identity)) != 0) {
        object = object->next_in_bucket;
    }
    return object;
}

/* As the most recently used one. */
static void link_by_use(struct cached_object *object)
{
    struct store_cache *cache = object->cache;
    object->older = cache->newest;
    object->newer = NULL;
    if (cache->newest != NULL) {
        cache->newest->newer = object;
    } else {
        cache->oldest = object;
    }
    cache->newest = object;
}

static void unlink_by_use(struct cached_object *object)
{
    struct store_cache *cache = object->cache;
    if (object->older != NULL) {
        object->older->newer = object->newer;
    } else {
        cache->oldest = object->newer;
    }
    if (object->newer != NULL) {
        object->newer->older = object->older;
    } else {
        cache->newest = object->older;
    }
}

static struct cached_object *add(struct store_cache *cache, const struct sha256 *identity,
                                 uint64_t size, uint64_t disk_bytes) REQUIRES(&cache->lock)
{
    struct cached_object *object = mem_alloc(sizeof(*object));
    struct cached_object **bucket = bucket_of(cache, identity);
    *object = (struct cached_object){
        .cache = cache,
        .identity = *identity,
        .size = size,
        .blocks_count = (size + STORE_CACHE_BLOCK_SIZE - 1) / STORE_CACHE_BLOCK_SIZE,
        .disk_bytes = disk_bytes,
        .next_in_bucket = *bucket,
    };
    *bucket = object;
    link_by_use(object);
    cache->counts.kept_objects++;
    cache->counts.kept_bytes += disk_bytes;
    return object;
}

/* Forgets the object; its file stays. */
static void drop(struct cached_object *object)
{
    struct store_cache *cache = object->cache;
    assert(object->users == 0);
    assert(object->claims == NULL);
    assert(object->waiters == NULL);
    struct cached_object **link = bucket_of(cache, &object->identity);
    while (*link != object) {
        link = &(*link)->next_in_bucket;
    }
    *link = object->next_in_bucket;
    unlink_by_use(object);
    cache->counts.kept_objects--;
    cache->counts.kept_bytes -= object->disk_bytes;
    mem_free(object->present);
    mem_free(object->ready);
    mem_free(object);
}

void cache_evict(struct cached_object *object)
{
    char name[CACHE_NAME_SIZE];
    cache_file_name(&object->identity, name);
    (void)unlinkat(object->cache->folder_fd, name, 0);
    object->cache->counts.evicted_objects++;
    drop(object);
}

/* ---- what an earlier process left ---- */

struct found_file {
    struct sha256 identity;
    uint64_t size;
    uint64_t disk_bytes;
    int64_t used_ns;
};

struct found_files {
    struct found_file *files;
    size_t count;
    size_t capacity;
};

static struct found_file *next_place(struct found_files *found)
{
    found->files = mem_grow(found->files, found->count, 1, &found->capacity, sizeof(*found->files));
    return &found->files[found->count];
}

static int compare_use(const void *left, const void *right)
{
    const struct found_file *a = left;
    const struct found_file *b = right;
    return (a->used_ns > b->used_ns) - (a->used_ns < b->used_ns);
}

static void close_folder(DIR **folder)
{
    if (*folder != NULL) {
        (void)closedir(*folder);
    }
}

/* Only headers are read; blocks are checked when they are first wanted. */
static bool scan(struct store_cache *cache, struct found_files *found, struct err *err)
{
    CLEANUP(fd_close) int fd = openat(cache->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(close_folder) DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot read the folder of the cache");
    }
    fd = -1; /* the folder's now */
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        struct found_file *file = next_place(found);
        if (entry->d_name[0] == '.' && (entry->d_name[1] == '\0' || entry->d_name[1] == '.')) {
            continue;
        }
        if (cache_file_check(cache->folder_fd, entry->d_name, &file->identity, &file->size,
                             &file->disk_bytes, &file->used_ns)) {
            found->count++;
        } else {
            (void)unlinkat(cache->folder_fd, entry->d_name, 0);
        }
    }
    return true;
}

static bool take_over(struct store_cache *cache, struct err *err)
{
    struct found_files found = {0};
    bool good = scan(cache, &found, err);
    if (found.count > 0) {
        qsort(found.files, found.count, sizeof(*found.files), compare_use);
    }
    lock_take(&cache->lock);
    for (size_t i = 0; i < found.count; i++) {
        const struct found_file *file = &found.files[i];
        (void)add(cache, &file->identity, file->size, file->disk_bytes);
    }
    cache_make_room(cache);
    lock_release(&cache->lock);
    mem_free(found.files);
    return good;
}

struct store_cache *store_cache_open(const char *folder, uint64_t bytes_max, struct err *err)
{
    if (!fd_make_directories(folder, err)) {
        return NULL;
    }
    struct store_cache *cache = mem_alloc(sizeof(*cache));
    cache->bytes_max = bytes_max;
    cache->fills_last = &cache->fills;
    lock_init(&cache->lock, LOCK_CACHE);
    cache->folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cache->folder_fd < 0) {
        (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot open the folder of the cache");
    }
    if (cache->folder_fd < 0 || !take_over(cache, err)) {
        store_cache_close(cache);
        return NULL;
    }
    return cache;
}

void store_cache_close(struct store_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    while (cache->oldest != NULL) {
        drop(cache->oldest);
    }
    fd_close(&cache->folder_fd);
    lock_finish(&cache->lock);
    mem_free(cache);
}

/* ---- use ---- */

static void append_part(struct buf *text, struct str part)
{
    buf_append_u64(text, part.len);
    buf_append_byte(text, ':');
    buf_append(text, part);
}

/* What no other state of any other object has. */
static struct sha256 identify(const struct store_cache_source *source)
{
    struct buf place;
    struct buf text;
    buf_init(&place, IDENTITY_SIZE_MAX);
    buf_init(&text, 2 * IDENTITY_SIZE_MAX);
    store_append_identity(source->store, &place);
    append_part(&text, buf_str(&place));
    append_part(&text, source->key);
    append_part(&text, str_of(source->object->etag));
    buf_append_u64(&text, source->object->size);
    struct sha256 identity = digest_sha256(buf_str(&text));
    if (source->object->etag[0] == '\0' || buf_failed(&place) || buf_failed(&text)) {
        digest_random(identity.bytes, sizeof(identity.bytes)); /* shared with nobody */
    }
    buf_finish(&place);
    buf_finish(&text);
    return identity;
}

static bool is_file_there(const struct cached_object *object)
{
    char name[CACHE_NAME_SIZE];
    cache_file_name(&object->identity, name);
    return faccessat(object->cache->folder_fd, name, R_OK | W_OK, AT_EACCESS) == 0;
}

/* The maps of an object whose file is there; an object whose file cannot be read begins anew. */
static bool load(struct cached_object *object, bool fresh, struct err *err)
{
    size_t size = (size_t)(object->blocks_count / 8 + 1);
    object->present = mem_alloc(size);
    object->ready = mem_alloc(size);
    object->loaded = true;
    if (!fresh) {
        if (cache_file_load(object, object->present, err)) {
            return true;
        }
        memset(object->present, 0, size);
    } /* else untouched, and no memory yet: how large it is, is only the store's word */
    return cache_file_create(object, err);
}

static struct cached_object *find_or_add(struct store_cache *cache, const struct sha256 *identity,
                                         uint64_t size, struct err *err) REQUIRES(&cache->lock)
{
    struct cached_object *object = find(cache, identity);
    if (object != NULL && object->users == 0 && (object->size != size || !is_file_there(object))) {
        drop(object); /* somebody has tidied up, or put a file of his own there */
        object = NULL;
    }
    bool fresh = object == NULL;
    if (fresh) {
        object = add(cache, identity, size, 0);
    }
    if (!object->loaded && !load(object, fresh, err)) {
        cache_evict(object);
        return NULL;
    }
    return object;
}

bool store_cache_acquire(struct store_cache *cache, const struct store_cache_source *source,
                         struct cached_object **ret_object, struct err *err)
{
    /* Memory and disk are taken for each block there may be, before a byte has been seen. */
    if (source->object->size > STORE_CACHE_OBJECT_SIZE_MAX) {
        return err_set(err, ERR_UNPROCESSABLE, "the object \"%.*s\" is larger than 8 TiB",
                       STR_ARG(source->key));
    }
    struct sha256 identity = identify(source);
    lock_take(&cache->lock);
    struct cached_object *object = find_or_add(cache, &identity, source->object->size, err);
    if (object != NULL) {
        if (object->users++ == 0 && object->blocks_count > 0) {
            cache_note_fill(object, 0, object->blocks_count);
        }
        object->forget = source->object->etag[0] == '\0';
        unlink_by_use(object);
        link_by_use(object);
        *ret_object = object;
    }
    lock_release(&cache->lock);
    return object != NULL;
}

/* The time of its last use, for the order after a restart, and the room it takes now: fetches that
 * failed may have left bytes. */
static void note_use(struct cached_object *object)
{
    char name[CACHE_NAME_SIZE];
    struct stat status;
    int folder_fd = object->cache->folder_fd;
    cache_file_name(&object->identity, name);
    (void)utimensat(folder_fd, name, NULL, AT_SYMLINK_NOFOLLOW);
    if (fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
        cache_count_room(object, (uint64_t)status.st_blocks * 512);
    }
}

void store_cache_release(struct cached_object *object)
{
    if (object == NULL) {
        return;
    }
    struct store_cache *cache = object->cache;
    lock_take(&cache->lock);
    assert(object->users > 0);
    if (--object->users == 0) {
        cache_forget_fills(object);
        if (object->forget) {
            cache_evict(object);
        } else {
            note_use(object);
        }
    }
    cache_make_room(cache);
    lock_release(&cache->lock);
}

bool store_cache_open_reader(struct cached_object *object, struct store_cache_reader *ret_reader,
                             struct err *err)
{
    *ret_reader = (struct store_cache_reader){
        .fd = cache_file_open(object, O_RDONLY, err),
        .bits_offset = cache_bits_offset(object->blocks_count),
        .data_offset = cache_data_offset(object->blocks_count),
    };
    return ret_reader->fd >= 0;
}

void store_cache_note_hits(struct store_cache *cache, uint64_t blocks, uint64_t bytes)
{
    lock_take(&cache->lock);
    cache->counts.hit_blocks += blocks;
    cache->counts.hit_bytes += bytes;
    lock_release(&cache->lock);
}

struct store_cache_counts store_cache_counts(struct store_cache *cache)
{
    lock_take(&cache->lock);
    struct store_cache_counts counts = cache->counts;
    lock_release(&cache->lock);
    return counts;
}
