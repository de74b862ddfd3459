#include "worker_objects.h"

#include "fd.h"
#include "map.h"
#include "mem.h"
#include "worker_ahead.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PIECE_SIZE = 16 << 20, /* of one read: the cache need not hold more of it at a time */
    TRIES_MAX = 100,       /* of a read whose blocks are taken away again before it comes to them */
    PATH_SIZE_MAX = 8192
};

/* What the server says of an object it has opened. */
struct opened {
    int fd;
    uint64_t size;
    uint64_t data_offset;
    uint64_t bits_offset;
    bool complete;
};

/* The server's map of an object's blocks, read-only. The server writes to it while we look. */
struct shared_map {
    atomic_ullong changes;
    unsigned char skipped[WORKER_BITS_SKIP - sizeof(atomic_ullong)];
    atomic_uchar bits[];
};

/* One object, shared by all handles that are open on it: the engine opens a file once per thread,
 * and again after it has read the footer. It stays until the process ends; its descriptor is given
 * up when nobody reads it and there are many, and asked for again later. */
struct object {
    struct objects *objects;
    char *path;
    uint64_t size;
    /* Below: under the lock, but constant while there are handles. */
    int fd; /* -1 while given up */
    unsigned handles;
    bool complete; /* every byte is there: a file of the server's own folder */
    uint64_t data_offset;
    const struct shared_map *map;
    /* Under the lock. */
    struct ahead ahead;
    unsigned char *seen; /* one bit per block: for READS */
};

struct objects {
    struct channel *channel;
    struct lock lock; /* LOCK_VFS */
    struct map by_path GUARDED_BY(lock);
    unsigned open_count GUARDED_BY(lock);
    uint64_t read_blocks GUARDED_BY(lock);
    uint64_t read_bytes GUARDED_BY(lock);
};

static uint64_t blocks_count(const struct object *object)
{
    return (object->size + WORKER_BLOCK_SIZE - 1) / WORKER_BLOCK_SIZE;
}

static void say(char *problem, size_t size, struct str text)
{
    (void)snprintf(problem, size, "%.*s", STR_ARG(text));
}

struct objects *objects_create(struct channel *channel)
{
    struct objects *objects = mem_alloc(sizeof(*objects));
    objects->channel = channel;
    lock_init(&objects->lock, LOCK_VFS);
    return objects;
}

/* ---- opening ---- */

static bool ask_open(struct objects *objects, const char *path, struct opened *ret_opened,
                     char *problem, size_t size)
{
    struct buf body;
    struct buf answer;
    buf_init(&body, WORKER_FRAME_SIZE_MAX);
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    worker_put_text(&body, str_of(path));
    struct opened opened = {.fd = -1};
    channel_ask(objects->channel, WORKER_OPEN, buf_str(&body), &answer, &opened.fd);
    struct worker_cursor cursor = {.rest = buf_str(&answer)};
    uint32_t kind = worker_get_u32(&cursor);
    opened.size = worker_get_u64(&cursor);
    opened.complete = worker_get_u32(&cursor) != 0;
    opened.data_offset = worker_get_u64(&cursor);
    opened.bits_offset = worker_get_u64(&cursor);
    struct str text = worker_get_text(&cursor);
    bool good = kind == ERR_NONE && opened.fd >= 0 && worker_get_end(&cursor);
    if (good) {
        *ret_opened = opened;
    } else {
        say(problem, size, text.len > 0 ? text : STR("the object cannot be opened"));
        fd_close(&opened.fd);
    }
    buf_finish(&body);
    buf_finish(&answer);
    return good;
}

static size_t map_size(const struct object *object)
{
    return sizeof(struct shared_map) + (size_t)(blocks_count(object) / 8 + 1);
}

static struct object *object_create(struct objects *objects, const char *path, uint64_t size)
{
    struct object *object = mem_alloc(sizeof(*object));
    *object = (struct object){
        .objects = objects,
        .path = mem_copy_text(path),
        .size = size,
        .fd = -1,
    };
    object->seen = mem_alloc((size_t)(blocks_count(object) / 8 + 1));
    map_set(&objects->by_path, str_of(object->path), object);
    return object;
}

/* Takes the descriptor over. */
static bool attach(struct object *object, struct opened *opened, char *problem, size_t size)
{
    if (!opened->complete) {
        void *map = mmap(NULL, map_size(object), PROT_READ, MAP_SHARED, opened->fd,
                         (off_t)opened->bits_offset);
        if (map == MAP_FAILED) {
            say(problem, size, STR("Out of Memory Error: no room to open another object"));
            return false;
        }
        object->map = map;
    }
    object->complete = opened->complete;
    object->data_offset = opened->data_offset;
    object->fd = opened->fd;
    opened->fd = -1;
    object->objects->open_count++;
    return true;
}

/* Counts one more handle, when the object is known and open. */
static struct object *hold_object(struct objects *objects, const char *path)
{
    lock_take(&objects->lock);
    struct object *object = map_find(&objects->by_path, str_of(path));
    if (object != NULL && object->fd < 0) {
        object = NULL;
    }
    if (object != NULL) {
        object->handles++;
    }
    lock_release(&objects->lock);
    return object;
}

/* Two threads may have asked for the same object: the second answer is thrown away. */
static struct object *keep_object(struct objects *objects, const char *path, struct opened *opened,
                                  char *problem, size_t size)
{
    lock_take(&objects->lock);
    struct object *object = map_find(&objects->by_path, str_of(path));
    if (object == NULL) {
        object = object_create(objects, path, opened->size);
    }
    bool good = object->fd >= 0 || attach(object, opened, problem, size);
    object->handles += good;
    lock_release(&objects->lock);
    fd_close(&opened->fd);
    return good ? object : NULL;
}

struct object *object_open(struct objects *objects, const char *path, char *problem, size_t size)
{
    struct object *object = hold_object(objects, path);
    struct opened opened;
    if (object == NULL && ask_open(objects, path, &opened, problem, size)) {
        object = keep_object(objects, path, &opened, problem, size);
    }
    return object;
}

void object_close(struct object *object)
{
    struct objects *objects = object->objects;
    lock_take(&objects->lock);
    assert(object->handles > 0);
    if (--object->handles == 0 && objects->open_count > OBJECTS_OPEN_MAX) {
        if (object->map != NULL) {
            (void)munmap((void *)(uintptr_t)object->map, map_size(object));
            object->map = NULL;
        }
        fd_close(&object->fd);
        objects->open_count--;
    }
    lock_release(&objects->lock);
}

uint64_t object_size(const struct object *object)
{
    return object->size;
}

/* ---- asking for blocks ---- */

/* FETCH and AHEAD: u64 first, u64 count, path. */
static void put_wanted(struct buf *body, const struct object *object, uint64_t first,
                       uint64_t count)
{
    buf_init(body, PATH_SIZE_MAX + 64);
    worker_put_u64(body, first);
    worker_put_u64(body, count);
    worker_put_text(body, str_first(str_of(object->path), PATH_SIZE_MAX));
}

/* FETCHED: u32 error kind, text. */
static bool ask_fetch(struct object *object, uint64_t first, uint64_t count, char *problem,
                      size_t size)
{
    struct buf body;
    struct buf answer;
    put_wanted(&body, object, first, count);
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    channel_ask(object->objects->channel, WORKER_FETCH, buf_str(&body), &answer, NULL);
    struct worker_cursor cursor = {.rest = buf_str(&answer)};
    uint32_t kind = worker_get_u32(&cursor);
    struct str text = worker_get_text(&cursor);
    bool good = kind == ERR_NONE && worker_get_end(&cursor);
    if (!good) {
        say(problem, size, text);
    }
    buf_finish(&body);
    buf_finish(&answer);
    return good;
}

/* ---- reading ---- */

static bool is_there(const struct object *object, uint64_t block)
{
    /* The cast takes const away for the compiler only: the page cannot be written. */
    atomic_uchar *byte = (atomic_uchar *)(uintptr_t)&object->map->bits[block / 8];
    return (atomic_load_explicit(byte, memory_order_acquire) >> (block % 8) & 1) != 0;
}

static uint64_t changes(const struct object *object)
{
    atomic_ullong *counter = (atomic_ullong *)(uintptr_t)&object->map->changes;
    thread_full_barrier();
    return atomic_load_explicit(counter, memory_order_acquire);
}

static bool is_all_there(const struct object *object, uint64_t first, uint64_t end)
{
    while (first < end && is_there(object, first)) {
        first++;
    }
    return first == end;
}

static void ask_ahead(struct object *object, uint64_t first, uint64_t count)
{
    while (count > 0 && is_there(object, first)) {
        first++;
        count--;
    }
    if (count > 0) {
        struct buf body;
        put_wanted(&body, object, first, count);
        channel_send(object->objects->channel, WORKER_AHEAD, buf_str(&body));
        buf_finish(&body);
    }
}

/* Asks for everything from the first missing block to the last one, in as few questions as go. */
static bool fetch_missing(struct object *object, uint64_t first, uint64_t end, char *problem,
                          size_t problem_size)
{
    const uint64_t most = WORKER_FETCH_SIZE_MAX / WORKER_BLOCK_SIZE;
    while (first < end && is_there(object, end - 1)) {
        end--;
    }
    while (first < end) {
        if (is_there(object, first)) {
            first++;
            continue;
        }
        uint64_t count = end - first < most ? end - first : most;
        if (!ask_fetch(object, first, count, problem, problem_size)) {
            return false;
        }
        first += count;
    }
    return true;
}

static bool read_bytes(const struct object *object, void *into, uint64_t size, uint64_t offset,
                       char *problem, size_t problem_size)
{
    if (!fd_read_at(object->fd, into, size, object->data_offset + offset)) {
        say(problem, problem_size, STR("the file ends before the data it announces"));
        return false;
    }
    return true;
}

/* Counts blocks for READS; how many of them had not been read before. */
static uint64_t note_seen(struct object *object, uint64_t first, uint64_t end)
{
    struct objects *objects = object->objects;
    uint64_t before = objects->read_blocks;
    for (uint64_t i = first; i < end; i++) {
        unsigned char mask = (unsigned char)(1U << (i % 8));
        if ((object->seen[i / 8] & mask) == 0) {
            uint64_t left = object->size - i * WORKER_BLOCK_SIZE;
            object->seen[i / 8] = (unsigned char)(object->seen[i / 8] | mask);
            objects->read_blocks++;
            objects->read_bytes += left < WORKER_BLOCK_SIZE ? left : WORKER_BLOCK_SIZE;
        }
    }
    return objects->read_blocks - before;
}

static void note_read(struct object *object, uint64_t first, uint64_t end)
{
    uint64_t ahead_first;
    uint64_t ahead_count;
    lock_take(&object->objects->lock);
    const struct ahead_read read = {
        .first = first, .end = end, .fresh = note_seen(object, first, end)};
    bool wanted =
        ahead_note_read(&object->ahead, blocks_count(object), &read, &ahead_first, &ahead_count);
    lock_release(&object->objects->lock);
    if (wanted) {
        ask_ahead(object, ahead_first, ahead_count);
    }
}

static bool read_cached(struct object *object, void *into, uint64_t size, uint64_t offset,
                        char *problem, size_t problem_size)
{
    uint64_t first = offset / WORKER_BLOCK_SIZE;
    uint64_t end = (offset + size - 1) / WORKER_BLOCK_SIZE + 1;
    note_read(object, first, end);
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        if (!fetch_missing(object, first, end, problem, problem_size)) {
            return false;
        }
        uint64_t before = changes(object);
        if (!is_all_there(object, first, end)) {
            continue;
        }
        if (!read_bytes(object, into, size, offset, problem, problem_size)) {
            return false;
        }
        if (changes(object) == before) {
            return true;
        }
    }
    say(problem, problem_size, STR("the server's object cache is too small for its readers"));
    return false;
}

bool object_read(struct object *object, void *into, uint64_t size, uint64_t offset, char *problem,
                 size_t problem_size)
{
    if (offset > object->size || size > object->size - offset) {
        say(problem, problem_size, STR("the file ends before the data it announces"));
        return false;
    }
    if (size == 0) {
        return true;
    }
    if (object->complete) {
        return read_bytes(object, into, size, offset, problem, problem_size);
    }
    bool good = true;
    for (uint64_t done = 0; good && done < size; done += PIECE_SIZE) {
        uint64_t piece = size - done < PIECE_SIZE ? size - done : PIECE_SIZE;
        good =
            read_cached(object, (char *)into + done, piece, offset + done, problem, problem_size);
    }
    return good;
}

void objects_report(struct objects *objects)
{
    struct buf payload;
    buf_init(&payload, 4096);
    worker_put_u64(&payload, objects->read_blocks);
    worker_put_u64(&payload, objects->read_bytes);
    if (objects->read_blocks > 0) {
        channel_send(objects->channel, WORKER_READS, buf_str(&payload));
    }
    buf_finish(&payload);
}
