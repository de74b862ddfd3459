#include "api_write.h"
#include "api_problems.h"
#include "clock.h"
#include "digest.h"
#include "num.h"

enum {
    LOOK_EVERY_MS = 50,
    DRAINED_BODY_MAX = 64 << 10, /* a larger body is not read to its end: the connection goes */
    NAME_ECHO_MAX = 700
};

/* ---- a full log ---- */

static unsigned full_for(struct api *api)
{
    struct lake_backlog backlog;
    lake_backlog(api->options.lake, &backlog);
    unsigned seconds = backlog.retry_after_s == 0 ? 1 : backlog.retry_after_s;
    atomic_store(&api->log_gets_room, backlog.last_failure[0] == '\0' && backlog.stuck_tables == 0);
    return backlog.full ? seconds : 0;
}

/* One request in a while looks, the others take what it saw. */
static unsigned seconds_until_room(struct api *api)
{
    long long looked_ms = atomic_load(&api->log_looked_ms);
    int64_t now_ms = clock_now_ms();
    if (now_ms - looked_ms >= LOOK_EVERY_MS &&
        atomic_compare_exchange_strong(&api->log_looked_ms, &looked_ms, now_ms)) {
        atomic_store(&api->log_retry_after_s, full_for(api));
    }
    return atomic_load(&api->log_retry_after_s);
}

static bool has_large_body(const struct http_exchange *exchange)
{
    struct str length = http_header(exchange, "Content-Length");
    uint64_t size;
    struct err ignored;
    if (length.ptr == NULL) {
        return http_has_body(exchange); /* chunked: nobody knows */
    }
    return !num_parse_u64(length, 0, DRAINED_BODY_MAX, &size, &ignored);
}

bool write_has_room(struct request *request)
{
    unsigned seconds = seconds_until_room(request->api);
    /* A body that is read while it arrives can wait a little for a flush: its writer does. */
    bool waits =
        (request->route->flags & ROUTE_STREAMS) != 0 && atomic_load(&request->api->log_gets_room);
    if (seconds == 0 || waits) {
        return true;
    }
    struct err err;
    (void)err_set(&err, ERR_BUSY,
                  "the log is full, because the store does not take what is in it; retry later");
    request->retry_after_s = seconds;
    request->close = has_large_body(request->exchange);
    reply_error(request, &err);
    return false;
}

void write_reply_error(struct request *request, const struct err *err)
{
    if (err->kind == ERR_BUSY) {
        request->retry_after_s = full_for(request->api);
    }
    reply_error(request, err);
}

/* ---- names and keys ---- */

static bool check_table(struct str table, bool (*check)(struct str name, struct buf *message),
                        struct err *err)
{
    struct buf reason;
    buf_init(&reason, WRITE_TEXT_SIZE_MAX);
    bool good = check(table, &reason);
    if (!good) {
        for (size_t i = 0; i < reason.len; i++) { /* err_set ends at a NUL of the name */
            reason.ptr[i] = reason.ptr[i] == '\0' ? ' ' : reason.ptr[i];
        }
        (void)err_set(err, ERR_INVALID, "%.*s",
                      STR_ARG(str_first(buf_str(&reason), NAME_ECHO_MAX)));
    }
    buf_finish(&reason);
    return good;
}

bool write_check_table(struct str table, struct err *err)
{
    return check_table(table, ingest_check_table, err);
}

bool write_check_known_table(struct str table, struct err *err)
{
    return check_table(table, ingest_check_known_table, err);
}

static bool is_key(struct str text)
{
    bool good = text.len >= 1 && text.len <= WRITE_KEY_MAX;
    for (size_t i = 0; good && i < text.len; i++) {
        good = text.ptr[i] >= 0x20 && text.ptr[i] <= 0x7e;
    }
    return good;
}

bool write_read_key(const struct request *request, struct lake_request *into, struct err *err)
{
    struct str key = http_header(request->exchange, "Idempotency-Key");
    into->has_key = key.ptr != NULL;
    if (key.ptr == NULL) {
        return true;
    }
    if (!is_key(key)) {
        return err_set(err, ERR_INVALID,
                       "Idempotency-Key must be 1 to %d printable ASCII characters", WRITE_KEY_MAX);
    }
    struct buf scope;
    buf_init(&scope, WRITE_TEXT_SIZE_MAX);
    buf_append_text(&scope, request->route->path);
    buf_append_byte(&scope, '\0');
    buf_append(&scope, into->table);
    buf_append_byte(&scope, '\0');
    buf_append(&scope, key);
    struct sha256 digest = digest_sha256(buf_str(&scope));
    buf_finish(&scope);
    memcpy(into->key, digest.bytes, sizeof(into->key));
    return true;
}

/* ---- results ---- */

void write_note_result(struct request *request, const struct lake_result *result)
{
    if (result->repeated) {
        request->replayed = true;
        reply_add_result_header(request, "Idempotency-Replayed", "true");
        return;
    }
    request->rows_ingested = result->accepted;
    request->dead_letters = result->dead_letters;
}
