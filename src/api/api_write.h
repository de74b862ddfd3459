/* api_write.h - what the routes that take records have in common: POST /ingest, /ingest/stream,
 * /tables/{name}/rows.
 * Promise   while the log is full a request is refused before its body is read, and told when to
 *           come again. An Idempotency-Key counts for one route and one table: the same key
 *           elsewhere is another one.
 * Not here  reading the fields of a body (the personality's files), the log (lake_ingest.h). */
#pragma once

#include "api_internal.h"
#include "lake_ingest.h"

enum {
    WRITE_KEY_MAX = 255,          /* characters of an Idempotency-Key */
    WRITE_TEXT_SIZE_MAX = 1 << 20 /* table names and dates, as they come */
};

/* False when it has replied, since the log takes nothing now. Cheap: looks every 50 ms. */
bool write_has_room(struct request *request);

/* The name of a table, by the rule of contracts/ingest.md section 3: ERR_INVALID. */
bool write_check_table(struct str table, struct err *err) MUST_CHECK;
bool write_check_known_table(struct str table, struct err *err) MUST_CHECK; /* dead letters' too */

/* Fills the key of `into`, whose table is set. ERR_INVALID: it is no such key. */
bool write_read_key(const struct request *request, struct lake_request *into,
                    struct err *err) MUST_CHECK;

/* What was kept, for the answer's headers, the log line and the counters: before the reply. */
void write_note_result(struct request *request, const struct lake_result *result);

/* As reply_error, and says when a full log may have room again. */
void write_reply_error(struct request *request, const struct err *err);
