/* lake_ship.h - from the tail to the store; for lake*.c only.
 * Promise   rows become objects exactly once: what an object will hold and how it is called is
 *           durable (PLAN; for a batch, its own ROWS record) before it is uploaded, uploads create
 *           only, and a plan that was begun is finished under the same names, also after a crash.
 *           An object is shown to SQL in the moment its rows leave the tail. Nothing is trimmed
 *           from the log before its object is known to be there and COMMITTED or STORED is durable.
 * Not here  which rows there are (lake_table), SQL (lake_query). A log that was restored from a
 *           copy, or runs twice: its writer's identity would be in the lake twice, with other rows
 *           under the same positions. That is not supported; it is noticed at the first name that
 *           both make (ship_put_object: the content id differs, ERR_CONFLICT), not before, and not
 *           in a folder, which keeps no content ids.
 * Threads   `flush`, options.flush_threads of them, started by lake_ship_start: due tables, batches
 *           and plans left by a crash, trimming, expired keys, retention. lake_ship_table and
 *           lake_ship_batch run on the caller's thread.
 * Errors    ERR_STORE*, ERR_TIMEOUT, ERR_CANCELLED and what engine_run gives; the plan stays, and
 *           is tried again: by the threads after a pause (1 s doubling to 60 s, with jitter), by a
 *           caller at once. */
#pragma once

#include "lake_table.h"

struct lake_ship *lake_ship_create(struct lake *lake);
void lake_ship_start(struct lake_ship *ship);
/* Stops the threads; what they do is cancelled. */
void lake_ship_destroy(struct lake_ship *ship); /* accepts NULL */
/* A table may be due: cheap, from any thread, also with the table's lock held. */
void lake_ship_poke(struct lake_ship *ship);

/* Flushes all that is in the tail now, or up to `position` when that is not 0; in plans of at most
 * twice the table's flush_bytes. Waits for a flush of the table that runs. */
bool lake_ship_table(struct lake *lake, struct lake_table *table, const struct lake_date *date,
                     uint64_t position, struct cancel *cancel, struct lake_flushed *ret_flushed,
                     struct err *err) MUST_CHECK;

/* Stores a batch that the caller owns. On failure the caller decides: lake_ship_cancel, or leave it
 * to the threads (lake_ship_disown). ERR_UNCERTAIN: nobody could say whether the object is
 * there. */
bool lake_ship_batch(struct lake *lake, struct lake_table *table, struct lake_batch *batch,
                     struct cancel *cancel, struct buf *ret_url, struct err *err) MUST_CHECK;
/* Writes CANCEL durably, and ends the batch; an object that turns up later is deleted. */
bool lake_ship_cancel(struct lake *lake, struct lake_table *table, uint64_t position,
                      struct err *err) MUST_CHECK;
void lake_ship_disown(struct lake *lake, struct lake_table *table, uint64_t position);

/* Flushes everything, until cancel says stop: for the drain. */
void lake_ship_drain(struct lake *lake, struct cancel *cancel);

/* Rows, bytes, age, failures (lake_ingest.h), but for what the log knows. */
void lake_ship_backlog(struct lake *lake, struct lake_backlog *into);
/* New records are refused: from 95 % of the log's limit on, until it is at 80 % again. Cheap. */
bool lake_ship_is_full(struct lake *lake, unsigned *ret_retry_after_s);

/* While the log has no room for `bytes` and flushes go well: waits for it, but not for long. What
 * it is worth: a client's body is not sent in vain. Does not say whether there is room now. */
void lake_ship_wait_for_room(struct lake *lake, uint64_t bytes);

/* The object of a batch that was cancelled: no part of any view, and deleted when it turns up,
 * which is looked at a few times. The list of them is bounded; a replay makes it anew from what the
 * log still holds. */
void lake_ship_delete_later(struct lake *lake, struct str key);
bool lake_ship_is_cancelled(const struct lake *lake, struct str key);

/* ---- one Parquet file of gathered lines (lake_write.c) ---- */

/* Lines of one window, in the schema's columns, sorted as it says. Values that the engine cannot
 * cast go to _rest. An unnamed file: the caller closes ret_fd. */
bool lake_write_lines(struct lake *lake, const struct lake_schema *schema,
                      const struct lake_lines *lines, const struct lake_window *window,
                      struct cancel *cancel, int *ret_fd, uint64_t *ret_size,
                      struct err *err) MUST_CHECK;

/* ---- schemas and positions in the store ---- */

/* <prefix>_eider/schemas/<table>/<version, 10 digits>.json, create-only, so that writers who share
 * a lake agree: the newest is merged into ours, and ours becomes the next version when it says
 * more. Afterwards the table's schema is `stored`. */
bool lake_schema_store(struct lake *lake, struct lake_table *table, struct cancel *cancel,
                       struct err *err) MUST_CHECK;

/* The same for a schema that is not the table's yet, made from it by a declaration, while the
 * caller holds the table's widening (lake_table_begin_widening); the merged one is returned, kept
 * once. */
bool lake_schema_store_declared(struct lake *lake, struct lake_table *table,
                                const struct lake_schema *wanted, struct cancel *cancel,
                                const struct lake_schema **ret_stored, struct err *err) MUST_CHECK;

/* <prefix>_eider/commits/<table>/<writer>/<plan, 20 digits>.json, create-only: which positions of
 * this writer are in the lake, and in which objects. The seam for Iceberg commits. */
bool lake_manifest_put(struct lake *lake, struct lake_table *table, const struct lake_plan *plan,
                       struct cancel *cancel, struct err *err) MUST_CHECK;
/* Deletes all but the newest `kept` of each table that got some since the last time. Nothing reads
 * the older ones: positions only grow, so the newest says how far this writer is, and the plan that
 * runs has the highest. Each writer has a folder of its own and deletes there alone, oldest first,
 * so that a crash or a second call finds a shorter list of the same kind. */
#define LAKE_MANIFESTS_KEPT 1000
void lake_manifests_prune(struct lake *lake, size_t kept, struct cancel *cancel);
