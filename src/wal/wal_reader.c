/* Records read again by their place, through a window over one segment. */
#include "wal_internal.h"

#include "mem.h"

#include <errno.h>
#include <inttypes.h>

enum {
    WINDOW_BYTES = 1 << 20 /* read at once, or one record if that is larger */
};

struct wal_reader {
    struct wal_folder folder; /* the log's own descriptor */
    int fd;
    uint64_t segment;
    uint64_t salt;
    uint64_t window_offset; /* in the segment, of window's first byte */
    struct buf window;
};

struct wal_reader *wal_reader_open(struct wal *wal)
{
    struct wal_reader *reader = mem_alloc(sizeof(*reader));
    reader->folder = wal->folder;
    reader->fd = -1;
    buf_init_brief(&reader->window, WAL_PAYLOAD_SIZE_MAX + WINDOW_BYTES);
    return reader;
}

void wal_reader_close(struct wal_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    (void)wal_file_close(&reader->folder, &reader->fd);
    buf_finish(&reader->window);
    mem_free(reader);
}

static bool unreadable(const struct wal_place *place, const char *why, struct err *err)
{
    return err_set(err, ERR_CORRUPT,
                   "a record of the log cannot be read: segment %" PRIu64 ", offset %u: %s",
                   place->segment, place->offset, why);
}

static bool use_segment(struct wal_reader *reader, const struct wal_place *place, struct err *err)
{
    char name[WAL_NAME_SIZE];
    char bytes[WAL_SEGMENT_HEADER_SIZE];
    struct wal_segment_header header;
    if (reader->fd >= 0 && reader->segment == place->segment) {
        return true;
    }
    (void)wal_file_close(&reader->folder, &reader->fd);
    buf_reset(&reader->window);
    wal_segment_name(place->segment, name);
    int fd = wal_file_open(&reader->folder, name, WAL_OPEN_READ);
    if (fd < 0) {
        return fd == -ENOENT ? unreadable(place, "there is no such segment", err)
                             : wal_error(fd, "open", place->segment, err);
    }
    ssize_t size = wal_file_read(&reader->folder, fd, bytes, sizeof(bytes), 0);
    if (size < 0 || !wal_segment_header_read(str_make(bytes, (size_t)size), &header) ||
        header.number != place->segment) {
        (void)wal_file_close(&reader->folder, &fd);
        return size < 0 ? wal_error((int)size, "read", place->segment, err)
                        : unreadable(place, "its segment's header is not valid", err);
    }
    reader->fd = fd;
    reader->segment = place->segment;
    reader->salt = header.salt;
    return true;
}

/* Whether the window shows the whole, valid record. */
static bool in_window(const struct wal_reader *reader, const struct wal_place *place,
                      struct str *ret_payload)
{
    struct wal_record_header header;
    uint64_t offset = place->offset - WAL_RECORD_HEADER_SIZE;
    struct str window = buf_str(&reader->window);
    if (offset < reader->window_offset || offset - reader->window_offset > window.len) {
        return false;
    }
    return wal_record_read(str_from(window, (size_t)(offset - reader->window_offset)), reader->salt,
                           &header, ret_payload) &&
           header.sequence == place->sequence && header.payload_size == place->size;
}

static bool read_window(struct wal_reader *reader, const struct wal_place *place, struct err *err)
{
    size_t size = (size_t)wal_record_size(place->size);
    size = size < WINDOW_BYTES ? WINDOW_BYTES : size;
    buf_reset(&reader->window);
    char *into = buf_room(&reader->window, size);
    if (into == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "there is no memory to read the log");
    }
    reader->window_offset = place->offset - WAL_RECORD_HEADER_SIZE;
    ssize_t got = wal_file_read(&reader->folder, reader->fd, into, size, reader->window_offset);
    if (got < 0) {
        return wal_error((int)got, "read", place->segment, err);
    }
    buf_wrote(&reader->window, into + got);
    return true;
}

bool wal_reader_get(struct wal_reader *reader, const struct wal_place *place,
                    struct str *ret_payload, struct err *err)
{
    assert(place->offset >= WAL_SEGMENT_HEADER_SIZE + WAL_RECORD_HEADER_SIZE);
    assert(place->size <= WAL_PAYLOAD_SIZE_MAX);
    if (!use_segment(reader, place, err)) {
        return false;
    }
    /* A window that was read before the record was written shows what was there then: so it is read
     * once more before anything is called damaged. */
    if (in_window(reader, place, ret_payload)) {
        return true;
    }
    return read_window(reader, place, err) &&
           (in_window(reader, place, ret_payload) || unreadable(place, "it is damaged", err));
}
