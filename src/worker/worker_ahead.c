#include "worker_ahead.h"

enum {
    REACH = AHEAD_WINDOW_MAX, /* a read this far ahead still belongs to the same reader */
    DENSITY_DIVISOR = 4       /* who skips more than three of four blocks is not run ahead of */
};

static bool is_near(const struct ahead_stream *stream, uint64_t block)
{
    return stream->used > 0 && block >= stream->begin && block <= stream->next + REACH;
}

static uint64_t distance(const struct ahead_stream *stream, uint64_t block)
{
    return block > stream->next ? block - stream->next : stream->next - block;
}

static struct ahead_stream begin_stream(const struct ahead_read *read, uint64_t clock)
{
    return (struct ahead_stream){.begin = read->first,
                                 .next = read->end,
                                 .asked = read->end,
                                 .read = read->fresh,
                                 .used = clock};
}

/* The stream that this read goes on with; NULL when there is none. *ret_oldest has not moved for
 * longest. */
static struct ahead_stream *find_stream(struct ahead *ahead, uint64_t block,
                                        struct ahead_stream **ret_oldest)
{
    struct ahead_stream *nearest = NULL;
    struct ahead_stream *oldest = &ahead->streams[0];
    for (unsigned i = 0; i < AHEAD_STREAMS_MAX; i++) {
        struct ahead_stream *stream = &ahead->streams[i];
        oldest = stream->used < oldest->used ? stream : oldest;
        if (is_near(stream, block) &&
            (nearest == NULL || distance(stream, block) < distance(nearest, block))) {
            nearest = stream;
        }
    }
    *ret_oldest = oldest;
    return nearest;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool ahead_note_read(struct ahead *ahead, uint64_t blocks_count, const struct ahead_read *read,
                     uint64_t *ret_first, uint64_t *ret_count)
{
    struct ahead_stream *oldest;
    struct ahead_stream *stream = find_stream(ahead, read->first, &oldest);
    ahead->clock++;
    if (stream == NULL) {
        *oldest = begin_stream(read, ahead->clock);
        return false;
    }
    stream->used = ahead->clock;
    stream->read += read->fresh;
    if (read->end <= stream->next) {
        return false;
    }
    stream->next = read->end;
    uint64_t moved = stream->next - stream->begin;
    if (stream->read < moved / DENSITY_DIVISOR) {
        *stream = begin_stream(read, ahead->clock);
        return false;
    }
    uint64_t from = stream->asked > read->end ? stream->asked : read->end;
    uint64_t window = least(2 * stream->read, AHEAD_WINDOW_MAX);
    uint64_t target = least(read->end + window, blocks_count);
    if (target < from + AHEAD_STEP_MIN && (target < blocks_count || target <= from)) {
        return false;
    }
    stream->asked = target;
    *ret_first = from;
    *ret_count = target - from;
    return true;
}
