#include "api_queries.h"

#include "clock.h"
#include "worker_redact.h"

#include <stdio.h>

enum {
    ENDED_MAX = 100,
    ENDED_KEEP_MS = 10 * 60 * 1000,
    LISTED_MAX = 500,
    LIST_BODY_MAX = 16 << 20 /* 500 statements of which each byte is escaped */
};

struct running *queries_create(void)
{
    struct running_options options = {.ended_max = ENDED_MAX, .ended_keep_ms = ENDED_KEEP_MS};
    return running_create(&options);
}

/* ---- the life of a query ---- */

static const char *listener_name(unsigned tag)
{
    return tag == API_SNAPSHOT ? "snapshot" : tag == API_ANALYTICS ? "analytics" : "main";
}

void queries_give_id(struct request *request, const struct route *route)
{
    if (route != NULL && (route->lane == LANE_QUERY || route->lane == LANE_DATABASE)) {
        running_make_id(request->query_id);
        reply_add_header(request, "X-Query-Id", request->query_id);
    }
}

void queries_enter(struct request *request, struct str statement)
{
    assert(request->query_id[0] != '\0');
    assert(request->listed == NULL);
    struct buf shown;
    buf_init(&shown, RUNNING_STATEMENT_SIZE_MAX);
    worker_redact(statement, RUNNING_STATEMENT_SIZE_MAX, &shown);
    struct running_start start = {
        .id = request->query_id,
        .statement = buf_str(&shown),
        .listener = str_of(listener_name(http_tag(request->exchange))),
        .request_id = http_request_id(request->exchange),
        .client = http_client_address(request->exchange),
        .cancel = request->cancel,
    };
    request->listed = running_enter(request->api->running, &start);
    buf_finish(&shown);
}

void queries_forget(struct request *request)
{
    if (request->listed != NULL) {
        running_forget(request->api->running, TAKE(request->listed));
    }
}

void queries_begin(struct request *request)
{
    if (request->listed != NULL) {
        running_begin(request->api->running, request->listed);
    }
}

void queries_stream(struct request *request)
{
    if (request->listed != NULL) {
        running_stream(request->api->running, request->listed);
    }
}

void queries_progress(struct request *request, const struct engine_progress *progress)
{
    if (request->listed != NULL) {
        struct running_numbers numbers = {
            .permille = progress->permille,
            .rows = progress->rows,
            .read_bytes = progress->read_bytes,
            .peak_bytes = progress->peak_bytes,
        };
        running_progress(request->api->running, request->listed, &numbers);
    }
}

void queries_outcome(struct request *request, const struct engine_outcome *outcome)
{
    struct engine_progress progress = {
        .rows = outcome->rows,
        .read_bytes = outcome->read_bytes,
        .peak_bytes = outcome->peak_bytes,
    };
    queries_progress(request, &progress);
}

void queries_sent(struct request *request, uint64_t bytes)
{
    if (request->listed != NULL) {
        running_sent(request->api->running, request->listed, bytes);
    }
}

void queries_end(struct request *request, enum err_kind kind)
{
    if (request->listed != NULL) {
        running_end(request->api->running, TAKE(request->listed), kind);
    }
}

void queries_answer(struct request *request, unsigned status, uint64_t bytes)
{
    if (status < 400) {
        queries_sent(request, bytes);
    }
    queries_end(request, status < 400 ? ERR_NONE : ERR_INTERNAL);
}

void queries_sweep(struct api *api)
{
    (void)lane_counts(api->lanes[LANE_QUERY]);
    (void)lane_counts(api->lanes[LANE_DATABASE]);
}

/* ---- the routes ---- */

static void put_percent(struct json_writer *writer, uint32_t permille)
{
    char text[16];
    int size = snprintf(text, sizeof(text), "%u.%u", permille / 10, permille % 10);
    json_key(writer, STR("progress_percent"));
    json_put_raw(writer, str_make(text, (size_t)size));
}

static void put_who(struct json_writer *writer, const struct running_view *view)
{
    json_member_string(writer, "listener", view->listener);
    json_member_string(writer, "client", view->client);
    json_member_string(writer, "request_id", view->request_id);
}

static void put_view(void *context, const struct running_view *view)
{
    struct json_writer *writer = context;
    char started_at[CLOCK_ISO_SIZE];
    clock_format_iso(view->entered_wall_ms, started_at);
    json_begin_object(writer);
    json_member_string(writer, "id", str_of(view->id));
    json_member_string(writer, "state", str_of(running_state_name(view->state)));
    json_member_string(writer, "statement", view->statement);
    put_percent(writer, view->numbers.permille);
    json_member_u64(writer, "rows", view->numbers.rows);
    json_member_u64(writer, "bytes_read", view->numbers.read_bytes);
    json_member_u64(writer, "bytes_sent", view->sent_bytes);
    json_member_u64(writer, "elapsed_ms", (uint64_t)view->elapsed_ms);
    json_member_u64(writer, "queued_ms", (uint64_t)view->queued_ms);
    json_member_u64(writer, "peak_memory_bytes", view->numbers.peak_bytes);
    json_member_string(writer, "started_at", str_of(started_at));
    put_who(writer, view);
    if (view->error != ERR_NONE) {
        json_member_string(writer, "error", str_of(err_kind_info(view->error)->code));
    }
    json_end_object(writer);
}

void queries_list(struct request *request)
{
    struct buf body;
    struct json_writer writer;
    struct running_counts counts;
    queries_sweep(request->api);
    buf_init(&body, LIST_BODY_MAX);
    json_writer_init(&writer, &body);
    json_begin_object(&writer);
    json_key(&writer, STR("queries"));
    json_begin_array(&writer);
    running_visit(request->api->running, LISTED_MAX, put_view, &writer, &counts);
    json_end_array(&writer);
    json_member_u64(&writer, "running", counts.running);
    json_member_u64(&writer, "queued", counts.queued);
    json_end_object(&writer);
    reply_buf(request, 200, &body);
    buf_finish(&body);
}

static void reply_one(struct request *request, unsigned status)
{
    struct buf body;
    struct json_writer writer;
    struct str id = buf_str(&request->parameter);
    buf_init(&body, LIST_BODY_MAX);
    json_writer_init(&writer, &body);
    if (running_find(request->api->running, id, put_view, &writer)) {
        reply_buf(request, status, &body);
    } else {
        struct err err;
        (void)err_set(&err, ERR_NOT_FOUND, "there is no query of this id, or it ended long ago");
        reply_error(request, &err);
    }
    buf_finish(&body);
}

void queries_show(struct request *request)
{
    queries_sweep(request->api);
    reply_one(request, 200);
}

void queries_cancel(struct request *request)
{
    struct api *api = request->api;
    bool asked = running_cancel(api->running, buf_str(&request->parameter)) == RUNNING_ASKED;
    queries_sweep(api);
    reply_one(request, asked ? 202 : 200);
}
