#include "engine_database_internal.h"
#include "fd.h"

#include <errno.h>
#include <sys/socket.h>

enum {
    HEADER_SIZE = 2 * sizeof(uint32_t),
    READ_SIZE = 64 * 1024,
    KEEP_SIZE = 512 * 1024 /* of memory, from one request to the next */
};

void database_stream_init(struct database_stream *stream)
{
    *stream = (struct database_stream){.fd = -1};
    buf_init(&stream->incoming, WORKER_QUESTION_SIZE_MAX + 2 * READ_SIZE);
}

void database_stream_finish(struct database_stream *stream)
{
    fd_close(&stream->fd);
    buf_finish(&stream->incoming);
}

/* What has come and was not handed out. */
static struct str rest_of(const struct database_stream *stream)
{
    return str_from(buf_str(&stream->incoming), stream->taken);
}

/* The size of the frame that `rest` begins with, its header included; 0 while that is not known. */
static size_t frame_size(struct str rest, uint32_t *ret_type)
{
    if (rest.len < HEADER_SIZE) {
        return 0;
    }
    struct worker_cursor cursor = {.rest = rest};
    *ret_type = worker_get_u32(&cursor);
    return HEADER_SIZE + (size_t)worker_get_u32(&cursor);
}

enum database_next database_stream_next(struct database_stream *stream, uint32_t *ret_type,
                                        struct str *ret_payload)
{
    struct str rest = rest_of(stream);
    size_t size = frame_size(rest, ret_type);
    if (size > HEADER_SIZE + WORKER_QUESTION_SIZE_MAX) {
        return DATABASE_BROKEN;
    }
    if (size == 0 || size > rest.len) {
        return DATABASE_MORE;
    }
    *ret_payload = str_from(str_first(rest, size), HEADER_SIZE);
    stream->taken += size;
    return DATABASE_FRAME;
}

/* Room behind what has come, for the rest of a frame that has begun at least. */
static size_t make_room(struct database_stream *stream)
{
    struct buf *incoming = &stream->incoming;
    struct str rest = rest_of(stream);
    if (stream->taken > 0) {
        memmove(incoming->ptr, rest.ptr, rest.len);
        buf_truncate(incoming, rest.len);
        stream->taken = 0;
    }
    uint32_t type;
    size_t wanted = frame_size(buf_str(incoming), &type);
    size_t room = wanted > incoming->len + READ_SIZE ? wanted - incoming->len : READ_SIZE;
    return buf_reserve(incoming, room) ? room : 0;
}

enum database_received database_stream_receive(struct database_stream *stream, int flags)
{
    size_t room = make_room(stream);
    struct buf *incoming = &stream->incoming;
    ssize_t size = room == 0 ? 0 : recv(stream->fd, incoming->ptr + incoming->len, room, flags);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return DATABASE_NOTHING;
    }
    if (size <= 0) {
        return DATABASE_ENDED;
    }
    incoming->len += (size_t)size;
    return DATABASE_BYTES;
}

bool database_stream_is_empty(const struct database_stream *stream)
{
    return stream->taken == stream->incoming.len;
}

void database_stream_trim(struct database_stream *stream)
{
    if (stream->incoming.capacity > KEEP_SIZE) {
        buf_finish(&stream->incoming);
        buf_init(&stream->incoming, WORKER_QUESTION_SIZE_MAX + 2 * READ_SIZE);
        stream->taken = 0;
    }
}
