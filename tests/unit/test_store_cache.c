#include "test.h"

#include "clock.h"
#include "crc32c.h"
#include "fd.h"
#include "mem.h"
#include "store_cache_internal.h"
#include "thread.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = STORE_CACHE_BLOCK_SIZE,
    BLOCKS = 5,
    OBJECT_SIZE = 4 * BLOCK + 1000
};

/* A cache in front of a store in a folder, with one object in it; all gone at the end. */
struct fixture {
    char path[64];
    char cache_path[80];
    struct store *store;
    struct store_cache *cache;
    struct store_cache_source source;
    struct store_object info;
    struct cancel cancel;
    struct err err;
};

static char byte_at(size_t offset)
{
    return (char)(offset * 7 + offset / BLOCK);
}

static bool fixture_init(struct fixture *f, uint64_t bytes_max)
{
    *f = (struct fixture){.path = "/tmp/eider-cache-XXXXXX"};
    cancel_init(&f->cancel, clock_now_ms() + 60000);
    f->store = mkdtemp(f->path) == NULL ? NULL : store_open_folder(f->path, &f->err);
    (void)snprintf(f->cache_path, sizeof(f->cache_path), "%s/.cache", f->path);
    f->cache = store_cache_open(f->cache_path, bytes_max, &f->err);
    char *bytes = mem_alloc(OBJECT_SIZE);
    for (size_t i = 0; i < OBJECT_SIZE; i++) {
        bytes[i] = byte_at(i);
    }
    const struct store_source whole = {.bytes = str_make(bytes, OBJECT_SIZE), .fd = -1};
    bool good = f->store != NULL && f->cache != NULL &&
                store_put(f->store, STR("object"), &whole, &(struct store_put_options){0},
                          &f->cancel, &f->info, &f->err);
    mem_free(bytes);
    f->source =
        (struct store_cache_source){.store = f->store, .key = STR("object"), .object = &f->info};
    return good;
}

static void fixture_finish(struct fixture *f)
{
    char command[128];
    store_cache_close(f->cache);
    store_close(f->store);
    cancel_finish(&f->cancel);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
    (void)!system(command);
}

static bool restart(struct fixture *f, uint64_t bytes_max)
{
    store_cache_close(f->cache);
    f->cache = store_cache_open(f->cache_path, bytes_max, &f->err);
    return f->cache != NULL;
}

/* One block as a reader finds it: 1 right, 0 not there, -1 wrong. */
static int look(struct cached_object *object, uint64_t block)
{
    struct err err;
    struct store_cache_reader reader;
    unsigned char bits = 0;
    char *bytes = mem_alloc(BLOCK);
    if (!store_cache_open_reader(object, &reader, &err)) {
        mem_free(bytes);
        return -1;
    }
    off_t bits_at = (off_t)(reader.bits_offset + STORE_CACHE_BITS_SKIP + block / 8);
    int found = pread(reader.fd, &bits, 1, bits_at) == 1 ? bits >> (block % 8) & 1 : -1;
    off_t at = (off_t)(reader.data_offset + block * BLOCK);
    ssize_t size = found == 1 ? pread(reader.fd, bytes, BLOCK, at) : 0;
    for (ssize_t i = 0; i < size; i++) {
        found = bytes[i] == byte_at(block * BLOCK + (size_t)i) ? found : -1;
    }
    mem_free(bytes);
    fd_close(&reader.fd);
    return found == 1 && size != (block == BLOCKS - 1 ? 1000 : BLOCK) ? -1 : found;
}

/* Flips a byte of the only file of the cache, counted from where the object begins. */
static bool damage(struct fixture *f, off_t offset)
{
    bool done = false;
    DIR *folder = opendir(f->cache_path);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        struct stat status;
        char byte = 0;
        int fd = openat(dirfd(folder), entry->d_name, O_RDWR);
        if (fd >= 0 && fstat(fd, &status) == 0) {
            off_t at = status.st_size - OBJECT_SIZE + offset;
            done = pread(fd, &byte, 1, at) == 1;
            byte ^= 1;
            done = done && pwrite(fd, &byte, 1, at) == 1;
        }
        fd_close(&fd);
    }
    (void)closedir(folder);
    return done;
}

TEST(blocks_are_fetched_once_and_shown)
{
    struct fixture f;
    struct cached_object *object;
    struct store_cache_fetched fetched = {0};
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_I64(look(object, 1), 0);
    CHECK_OK(store_cache_fill(object, &f.source, 1, 2, &f.cancel, &fetched, &f.err), f.err);
    CHECK_U64(fetched.blocks, 2);
    CHECK_I64(look(object, 0), 0);
    CHECK_I64(look(object, 1), 1);
    CHECK_I64(look(object, 2), 1);
    CHECK_OK(store_cache_fill(object, &f.source, 0, BLOCKS, &f.cancel, &fetched, &f.err), f.err);
    CHECK_U64(fetched.blocks, BLOCKS);
    CHECK_U64(fetched.bytes, OBJECT_SIZE);
    CHECK_I64(look(object, BLOCKS - 1), 1);
    uint64_t first = 0;
    uint64_t count;
    CHECK(!store_cache_find_missing(object, &first, BLOCKS, 16, &count));
    store_cache_release(object);
    struct store_cache_counts counts = store_cache_counts(f.cache);
    CHECK_U64(counts.missed_blocks, BLOCKS);
    CHECK_U64(counts.fetched_bytes, OBJECT_SIZE);
    CHECK_U64(counts.kept_objects, 1);
    CHECK(counts.kept_bytes >= OBJECT_SIZE);
    fixture_finish(&f);
}

TEST(missing_runs_are_found)
{
    struct fixture f;
    struct cached_object *object;
    struct store_cache_fetched fetched = {0};
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_OK(store_cache_fill(object, &f.source, 1, 1, &f.cancel, &fetched, &f.err), f.err);
    uint64_t first = 0;
    uint64_t count = 0;
    CHECK(store_cache_find_missing(object, &first, BLOCKS, 16, &count));
    CHECK(first == 0 && count == 1);
    first = 1;
    CHECK(store_cache_find_missing(object, &first, BLOCKS, 2, &count));
    CHECK(first == 2 && count == 2);
    first = 4;
    CHECK(store_cache_find_missing(object, &first, BLOCKS, 2, &count));
    CHECK(first == 4 && count == 1);
    store_cache_release(object);
    fixture_finish(&f);
}

TEST(blocks_survive_a_restart_but_for_damaged_ones)
{
    struct fixture f;
    struct cached_object *object;
    struct store_cache_fetched fetched = {0};
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_OK(store_cache_fill(object, &f.source, 0, BLOCKS, &f.cancel, &fetched, &f.err), f.err);
    store_cache_release(object);
    CHECK_OK(restart(&f, 1 << 30), f.err);
    CHECK(damage(&f, 2 * BLOCK + 77));
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_I64(look(object, 0), 0); /* not before it is checked */
    fetched = (struct store_cache_fetched){0};
    CHECK_OK(store_cache_fill(object, &f.source, 0, BLOCKS, &f.cancel, &fetched, &f.err), f.err);
    CHECK_U64(fetched.blocks, 1);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        CHECK_I64(look(object, block), 1);
    }
    CHECK_U64(store_cache_counts(f.cache).damaged_blocks, 1);
    store_cache_release(object);
    fixture_finish(&f);
}

TEST(another_state_of_an_object_is_another_object)
{
    struct fixture f;
    struct cached_object *object;
    struct cached_object *other;
    struct store_cache_fetched fetched = {0};
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_OK(store_cache_fill(object, &f.source, 0, 1, &f.cancel, &fetched, &f.err), f.err);
    struct store_object older = f.info;
    (void)snprintf(older.etag, sizeof(older.etag), "\"older\"");
    struct store_cache_source stale = f.source;
    stale.object = &older;
    CHECK_OK(store_cache_acquire(f.cache, &stale, &other, &f.err), f.err);
    CHECK(object != other);
    CHECK_I64(look(other, 0), 0);
    CHECK(!store_cache_fill(other, &stale, 0, 1, &f.cancel, &fetched, &f.err));
    CHECK_U64(f.err.kind, ERR_CONFLICT);
    CHECK(!store_cache_prove(other, &stale, &f.cancel, &fetched, &f.err));
    CHECK_U64(f.err.kind, ERR_CONFLICT);
    CHECK_I64(look(other, 0), 0);
    store_cache_release(object);
    store_cache_release(other);
    fixture_finish(&f);
}

/* Makes the only file of the cache one of a shorter object, whose header is right in itself. */
static bool shorten(struct fixture *f)
{
    bool done = false;
    DIR *folder = opendir(f->cache_path);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        struct cache_header header;
        int fd = openat(dirfd(folder), entry->d_name, O_RDWR);
        if (fd >= 0 && pread(fd, &header, sizeof(header), 0) == sizeof(header)) {
            header.object_size = BLOCK + 1;
            header.crc = crc32c(0, &header, offsetof(struct cache_header, crc));
            off_t size = (off_t)(cache_data_offset(2) + header.object_size);
            done = pwrite(fd, &header, sizeof(header), 0) == sizeof(header) &&
                   ftruncate(fd, size) == 0;
        }
        fd_close(&fd);
    }
    (void)closedir(folder);
    return done;
}

TEST(a_file_for_an_object_of_another_size_is_replaced)
{
    struct fixture f;
    struct cached_object *object;
    struct store_cache_fetched fetched = {0};
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_OK(store_cache_fill(object, &f.source, 0, BLOCKS, &f.cancel, &fetched, &f.err), f.err);
    store_cache_release(object);
    CHECK(shorten(&f));
    CHECK_OK(restart(&f, 1 << 30), f.err);
    CHECK_U64(store_cache_counts(f.cache).kept_objects, 1);
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_OK(store_cache_fill(object, &f.source, 0, BLOCKS, &f.cancel, &fetched, &f.err), f.err);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        CHECK_I64(look(object, block), 1);
    }
    store_cache_release(object);
    fixture_finish(&f);
}

TEST(without_an_etag_nothing_is_shared_or_kept)
{
    struct fixture f;
    struct cached_object *object;
    struct cached_object *other;
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    f.info.etag[0] = '\0';
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
    CHECK_OK(store_cache_acquire(f.cache, &f.source, &other, &f.err), f.err);
    CHECK(object != other);
    store_cache_release(object);
    store_cache_release(other);
    CHECK_U64(store_cache_counts(f.cache).kept_objects, 0);
    fixture_finish(&f);
}

TEST(an_object_of_an_impossible_size_is_refused)
{
    struct fixture f;
    struct cached_object *object;
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    const uint64_t sizes[] = {STORE_CACHE_OBJECT_SIZE_MAX + 1, UINT64_C(1) << 62, UINT64_MAX};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        f.info.size = sizes[i];
        CHECK(!store_cache_acquire(f.cache, &f.source, &object, &f.err));
        CHECK(f.err.kind == ERR_UNPROCESSABLE);
    }
    CHECK_U64(store_cache_counts(f.cache).kept_objects, 0);
    fixture_finish(&f);
}

TEST(room_is_made_of_what_nobody_uses)
{
    struct fixture f;
    struct cached_object *object[3];
    struct store_cache_fetched fetched = {0};
    struct store_object infos[3];
    struct store_cache_source sources[3];
    static const char *const keys[] = {"object", "second", "third"};
    CHECK_OK(fixture_init(&f, 2 * (OBJECT_SIZE + 65536)), f.err);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        char *bytes = mem_alloc(OBJECT_SIZE);
        const struct store_source whole = {.bytes = str_make(bytes, OBJECT_SIZE), .fd = -1};
        CHECK_OK(store_put(f.store, str_of(keys[i]), &whole, &(struct store_put_options){0},
                           &f.cancel, &infos[i], &f.err),
                 f.err);
        mem_free(bytes);
        sources[i] = (struct store_cache_source){
            .store = f.store, .key = str_of(keys[i]), .object = &infos[i]};
        CHECK_OK(store_cache_acquire(f.cache, &sources[i], &object[i], &f.err), f.err);
        CHECK_OK(store_cache_fill(object[i], &sources[i], 0, BLOCKS, &f.cancel, &fetched, &f.err),
                 f.err);
        if (i > 0) {
            store_cache_release(object[i]);
        }
    }
    struct store_cache_counts counts = store_cache_counts(f.cache);
    CHECK_U64(counts.evicted_objects, 1); /* the second: the first is in use */
    CHECK_U64(counts.kept_objects, 2);
    CHECK(counts.kept_bytes <= 2 * (OBJECT_SIZE + 65536));
    store_cache_release(object[0]);
    CHECK_OK(restart(&f, 1), f.err);
    CHECK_U64(store_cache_counts(f.cache).kept_objects, 0);
    fixture_finish(&f);
}

/* ---- several at once ---- */

struct filler {
    struct fixture *fixture;
    struct cached_object *object;
    struct store_cache_fetched fetched;
    bool good;
};

static void *run_filler(void *argument)
{
    struct filler *filler = argument;
    struct fixture *f = filler->fixture;
    struct err err;
    struct cancel cancel;
    cancel_init(&cancel, clock_now_ms() + 30000);
    filler->good =
        store_cache_fill(filler->object, &f->source, 0, BLOCKS, &cancel, &filler->fetched, &err);
    cancel_finish(&cancel);
    return NULL;
}

TEST(many_who_want_the_same_fetch_it_once)
{
    struct fixture f;
    struct filler fillers[8];
    pthread_t threads[COUNT_OF(fillers)];
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t blocks = 0;
        struct cached_object *object;
        CHECK_OK(store_cache_acquire(f.cache, &f.source, &object, &f.err), f.err);
        for (size_t i = 0; i < COUNT_OF(fillers); i++) {
            fillers[i] = (struct filler){.fixture = &f, .object = object};
            threads[i] = thread_start("filler", run_filler, &fillers[i]);
        }
        for (size_t i = 0; i < COUNT_OF(fillers); i++) {
            (void)pthread_join(threads[i], NULL);
            CHECK(fillers[i].good);
            blocks += fillers[i].fetched.blocks;
        }
        CHECK_U64(blocks, BLOCKS);
        CHECK_I64(look(object, 3), 1);
        store_cache_release(object);
        CHECK_OK(restart(&f, 0) && restart(&f, 1 << 30), f.err);
    }
    fixture_finish(&f);
}

TEST(a_foreign_file_is_deleted_at_start)
{
    struct fixture f;
    char path[128];
    CHECK_OK(fixture_init(&f, 1 << 30), f.err);
    (void)snprintf(path, sizeof(path), "%s/somebody-elses", f.cache_path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0);
    fd_close(&fd);
    CHECK_OK(restart(&f, 1 << 30), f.err);
    CHECK(access(path, F_OK) != 0);
    fixture_finish(&f);
}

static const struct test_case cases[] = {
    TEST_CASE(blocks_are_fetched_once_and_shown),
    TEST_CASE(missing_runs_are_found),
    TEST_CASE(blocks_survive_a_restart_but_for_damaged_ones),
    TEST_CASE(another_state_of_an_object_is_another_object),
    TEST_CASE(a_file_for_an_object_of_another_size_is_replaced),
    TEST_CASE(without_an_etag_nothing_is_shared_or_kept),
    TEST_CASE(an_object_of_an_impossible_size_is_refused),
    TEST_CASE(room_is_made_of_what_nobody_uses),
    TEST_CASE(many_who_want_the_same_fetch_it_once),
    TEST_CASE(a_foreign_file_is_deleted_at_start),
};

TEST_MAIN(cases)
