/* The files of the object cache; their format is in store_cache_internal.h. */
#include "store_cache_internal.h"

#include "crc32c.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_MAGIC UINT64_C(0x3168636143726445) /* "EdrCach1" where the lowest byte comes first */

enum {
    CACHE_VERSION = 1,
    RECORDS_AT_ONCE = 8192,
};

static uint64_t align(uint64_t offset)
{
    return (offset + CACHE_ALIGNMENT - 1) / CACHE_ALIGNMENT * CACHE_ALIGNMENT;
}

uint64_t cache_bits_offset(uint64_t blocks_count)
{
    return align(CACHE_HEADER_SIZE + blocks_count * sizeof(uint64_t));
}

uint64_t cache_data_offset(uint64_t blocks_count)
{
    return align(cache_bits_offset(blocks_count) + STORE_CACHE_BITS_SKIP + blocks_count / 8 + 1);
}

void cache_file_name(const struct sha256 *identity, char name[static CACHE_NAME_SIZE])
{
    digest_hex(identity->bytes, sizeof(identity->bytes), name);
}

static bool disk_failed(const char *what, struct err *err)
{
    (void)err_set_errno(err, ERR_UNAVAILABLE, errno, "the server's object cache failed");
    err_add_detail(err, "%s", what);
    return false;
}

int cache_file_open(const struct cached_object *object, int flags, struct err *err)
{
    char name[CACHE_NAME_SIZE];
    cache_file_name(&object->identity, name);
    flags |= O_CLOEXEC | O_NOFOLLOW;
    int fd = FD_UNINTERRUPTED(openat(object->cache->folder_fd, name, flags));
    if (fd < 0) {
        (void)disk_failed("open", err);
    }
    return fd;
}

/* ---- the header ---- */

static uint32_t header_crc(const struct cache_header *header)
{
    return crc32c(0, header, offsetof(struct cache_header, crc));
}

/* Readers map these bytes: they must be there, whatever becomes of the disk. */
static bool clear_bits(int fd, uint64_t blocks_count)
{
    static const char zeros[4096];
    uint64_t offset = cache_bits_offset(blocks_count);
    uint64_t end = offset + STORE_CACHE_BITS_SKIP + blocks_count / 8 + 1;
    for (; offset < end; offset += sizeof(zeros)) {
        if (!fd_write_at(fd, zeros, sizeof(zeros), offset)) {
            return false;
        }
    }
    return true;
}

bool cache_file_create(const struct cached_object *object, struct err *err)
{
    char name[CACHE_NAME_SIZE];
    int folder_fd = object->cache->folder_fd;
    cache_file_name(&object->identity, name);
    (void)unlinkat(folder_fd, name, 0);
    int flags = O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC;
    CLEANUP(fd_close) int fd = FD_UNINTERRUPTED(openat(folder_fd, name, flags, 0600));
    if (fd < 0) {
        return disk_failed("create", err);
    }
    struct cache_header header = {
        .magic = CACHE_MAGIC,
        .version = CACHE_VERSION,
        .block_size = STORE_CACHE_BLOCK_SIZE,
        .object_size = object->size,
        .identity = object->identity,
    };
    header.crc = header_crc(&header);
    uint64_t size = cache_data_offset(object->blocks_count) + object->size;
    /* The header comes last: a file without one is deleted at the next start. */
    bool good = FD_UNINTERRUPTED(ftruncate(fd, (off_t)size)) == 0 &&
                clear_bits(fd, object->blocks_count) && fd_write_at(fd, &header, sizeof(header), 0);
    if (!good) {
        (void)disk_failed("create", err);
        (void)unlinkat(folder_fd, name, 0);
    }
    return good;
}

static bool is_good_header(const struct cache_header *header, uint64_t file_size)
{
    if (header->magic != CACHE_MAGIC || header->version != CACHE_VERSION ||
        header->block_size != STORE_CACHE_BLOCK_SIZE || header->crc != header_crc(header) ||
        header->object_size > file_size) {
        return false;
    }
    uint64_t blocks = (header->object_size + STORE_CACHE_BLOCK_SIZE - 1) / STORE_CACHE_BLOCK_SIZE;
    return file_size == cache_data_offset(blocks) + header->object_size;
}

bool cache_file_check(int folder_fd, const char *name, struct sha256 *ret_identity,
                      uint64_t *ret_size, uint64_t *ret_disk_bytes, int64_t *ret_used_ns)
{
    struct stat status;
    struct cache_header header;
    char own_name[CACHE_NAME_SIZE];
    CLEANUP(fd_close)
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) ||
        !fd_read_at(fd, &header, sizeof(header), 0) ||
        !is_good_header(&header, (uint64_t)status.st_size)) {
        return false;
    }
    cache_file_name(&header.identity, own_name);
    *ret_identity = header.identity;
    *ret_size = header.object_size;
    *ret_disk_bytes = (uint64_t)status.st_blocks * 512;
    *ret_used_ns = (int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
    return strcmp(own_name, name) == 0;
}

/* ---- records ---- */

static uint64_t record_of(uint32_t crc, uint64_t block)
{
    return (uint64_t)(~crc ^ (uint32_t)block) << 32 | crc;
}

static bool record_fits(uint64_t record, uint64_t block)
{
    return record == record_of((uint32_t)record, block) && record != 0;
}

static uint64_t record_offset(uint64_t block)
{
    return CACHE_HEADER_SIZE + block * sizeof(uint64_t);
}

static void free_records(uint64_t **records)
{
    mem_free(*records);
}

bool cache_file_load(const struct cached_object *object, unsigned char *present, struct err *err)
{
    CLEANUP(fd_close) int fd = cache_file_open(object, O_RDWR, err);
    if (fd < 0) {
        return false;
    }
    CLEANUP(free_records) uint64_t *records = mem_alloc_array(RECORDS_AT_ONCE, sizeof(*records));
    for (uint64_t first = 0; first < object->blocks_count; first += RECORDS_AT_ONCE) {
        uint64_t left = object->blocks_count - first;
        size_t count = left < RECORDS_AT_ONCE ? (size_t)left : RECORDS_AT_ONCE;
        if (!fd_read_at(fd, records, count * sizeof(*records), record_offset(first))) {
            return disk_failed("records", err);
        }
        for (size_t i = 0; i < count; i++) {
            cache_set_bit(present, first + i, record_fits(records[i], first + i));
        }
    }
    return clear_bits(fd, object->blocks_count) || disk_failed("bits", err);
}

uint64_t cache_file_disk_bytes(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 ? (uint64_t)status.st_blocks * 512 : 0;
}

static void free_block(char **block)
{
    mem_free(*block);
}

static bool block_crc(int fd, const struct cached_object *object, uint64_t block, char *buffer,
                      uint32_t *ret_crc)
{
    size_t size = (size_t)cache_run_size(object, block, 1);
    uint64_t offset = cache_data_offset(object->blocks_count) + block * STORE_CACHE_BLOCK_SIZE;
    if (!fd_read_at(fd, buffer, size, offset)) {
        return false;
    }
    *ret_crc = crc32c(0, buffer, size);
    return true;
}

bool cache_file_write_records(int fd, const struct cached_object *object, uint64_t first,
                              uint64_t count, struct err *err)
{
    CLEANUP(free_block) char *buffer = mem_alloc(STORE_CACHE_BLOCK_SIZE);
    for (uint64_t block = first; block < first + count; block++) {
        uint32_t crc;
        if (!block_crc(fd, object, block, buffer, &crc)) {
            return disk_failed("read back", err);
        }
        uint64_t record = record_of(crc, block);
        if (!fd_write_at(fd, &record, sizeof(record), record_offset(block))) {
            return disk_failed("record", err);
        }
    }
    return true;
}

bool cache_file_check_block(int fd, const struct cached_object *object, uint64_t block)
{
    CLEANUP(free_block) char *buffer = mem_alloc(STORE_CACHE_BLOCK_SIZE);
    uint64_t record;
    uint32_t crc;
    return fd_read_at(fd, &record, sizeof(record), record_offset(block)) &&
           record_fits(record, block) && block_crc(fd, object, block, buffer, &crc) &&
           crc == (uint32_t)record;
}

bool cache_file_write_bits(int fd, const struct cached_object *object, uint64_t first,
                           uint64_t count, struct err *err)
{
    uint64_t begin = first / 8;
    uint64_t end = (first + count - 1) / 8 + 1;
    uint64_t offset = cache_bits_offset(object->blocks_count) + STORE_CACHE_BITS_SKIP + begin;
    /* A reader that sees the bit sees the bytes. */
    thread_full_barrier();
    return fd_write_at(fd, object->ready + begin, (size_t)(end - begin), offset) ||
           disk_failed("bits", err);
}

bool cache_file_write_changes(int fd, const struct cached_object *object, uint64_t changes)
{
    thread_full_barrier();
    return fd_write_at(fd, &changes, sizeof(changes), cache_bits_offset(object->blocks_count));
}

void cache_file_erase(int fd, const struct cached_object *object, uint64_t first, uint64_t count)
{
    static const uint64_t none;
    for (uint64_t block = first; block < first + count; block++) {
        (void)!fd_write_at(fd, &none, sizeof(none), record_offset(block));
    }
    uint64_t offset = cache_data_offset(object->blocks_count) + first * STORE_CACHE_BLOCK_SIZE;
    (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                    (off_t)(count * STORE_CACHE_BLOCK_SIZE));
}
