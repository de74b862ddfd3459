/* worker_request.h - what runs inside a slot of a database worker: one request, from its texts to
 * its RESULT frames.
 * Promise   statements are judged by worker_rules.h before the engine sees them. COLUMNS and RESULT
 *           frames go to the slot's socket through `slot_channel`, COLUMNS before the first RESULT
 *           and only of WORKER_STATEMENTS. No transaction is open afterwards; one that was left
 *           open is a failure when it has changed something. `ret_done` is filled but for
 *           peak_bytes, also when the request fails; false says that it did. The DONE frame is not
 *           sent here.
 *             STATEMENTS  in order, each a transaction of its own unless the text opens one; the
 *                         parameters are the last one's, and so is the result
 *             BATCH       atomic: one transaction around all, which has to be left alone by the
 *                         statements; otherwise one each, up to the first that fails. RESULT is a
 *                         JSON array, held until all is done
 *             IMPORT      one transaction
 *             EXPORT      one query, which reads
 *             CHECKPOINT  as the engine's
 * Not here  the connection: fresh, and closed by the caller afterwards, who also interrupts it.
 *           duck's own connection is not used. Peak memory, and who asks.
 * Owner     the caller of everything. `fds` are those of the request, -1 for none; they stay open.
 *           duck->files is the slot's own: job:// of a statement on `connection` is answered by it.
 * Threads   one request per connection and channel; requests of several slots run side by side.
 * Errors    ret_done->kind and fault, by the engine's class of error; the message begins with that
 *           class as the engine words it ("Catalog Error: ...").
 * Limits    a batch's results, result_bytes_max; one row of a result, 256 MiB. */
#pragma once

#include "worker_channel.h"
#include "worker_database.h"
#include "worker_duck.h"

/* `message` in ret_done points into memory of the request that request_done_finish frees. */
bool request_serve(struct duck *duck, duckdb_connection connection, struct channel *slot_channel,
                   const struct worker_request *request, const int fds[2],
                   struct worker_done *ret_done);
void request_done_finish(struct worker_done *done);
