#include "worker_sink.h"

#include "clock.h"

void sink_init(struct sink *sink, struct channel *channel)
{
    *sink = (struct sink){.channel = channel, .sent_ms = clock_now_ms()};
    buf_init(&sink->out, SINK_SIZE_MAX);
}

void sink_finish(struct sink *sink)
{
    buf_finish(&sink->out);
}

static void send_pieces(struct sink *sink, struct str rest)
{
    while (rest.len > 0) {
        struct str piece = str_first(rest, WORKER_RESULT_SIZE_MAX);
        channel_send(sink->channel, WORKER_RESULT, piece);
        rest = str_from(rest, piece.len);
    }
}

void sink_flush(struct sink *sink)
{
    if (sink->channel == NULL) {
        return; /* all of it is gathered */
    }
    if (buf_failed(&sink->out)) {
        return; /* what is there ends in the middle of something */
    }
    send_pieces(sink, buf_str(&sink->out));
    buf_reset(&sink->out);
    sink->sent_ms = clock_now_ms();
}

void sink_end(struct sink *sink)
{
    if (sink->out.len == 0 || sink->out.len >= SINK_END_SIZE || buf_failed(&sink->out)) {
        sink_flush(sink);
    } else {
        channel_hold(sink->channel, WORKER_RESULT, buf_str(&sink->out));
        buf_reset(&sink->out);
    }
}

void sink_offer(struct sink *sink)
{
    if (sink_is_full(sink) || clock_now_ms() - sink->sent_ms >= SINK_WAIT_MS) {
        sink_flush(sink);
    }
}

bool sink_write(void *context, const void *bytes, uint64_t size)
{
    struct sink *sink = context;
    buf_append_bytes(&sink->out, bytes, size);
    if (buf_failed(&sink->out)) {
        return false;
    }
    sink_offer(sink);
    return true;
}

void sink_pass(struct sink *sink, struct str bytes)
{
    sink_flush(sink);
    send_pieces(sink, bytes);
}
