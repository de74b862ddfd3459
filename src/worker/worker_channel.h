/* worker_channel.h - the worker's end of the job's socket.
 * Promise   requests (RESOLVE, OPEN, FETCH) from any thread wait for their own answer. Frames never
 *           interleave. The control thread is the only reader; when the server is gone it ends the
 *           process.
 * Owner     the worker's main; one per process.   Threads  any may call; `control` reads. */
#pragma once

#include "thread.h"
#include "worker_helpers.h"
#include "worker_job.h"

#include <duckdb.h>

struct channel;

struct channel *channel_create(int socket_fd);
/* Of one that was never started; the socket stays open. NULL is nothing. */
void channel_destroy(struct channel *channel);

/* Starts the control thread. A CANCEL frame interrupts the connection from then on. After the
 * sandbox is in place. The helpers are started when the job has run for a while, or waits for
 * blocks of an object. */
void channel_start(struct channel *channel, duckdb_connection connection, struct helpers *helpers);

/* ---- where `control` is somebody else's: a database worker (worker_slots.h) ---- */

/* Hands an answer to who asked for it. */
void channel_answer(struct channel *channel, struct worker_frame *frame);
/* The channel of a slot is used for one request after the other: begins one. NULL ends it. */
void channel_begin(struct channel *channel, duckdb_connection connection, int progress_after_ms);
void channel_cancel(struct channel *channel);
/* Sends PROGRESS when it is due; the connection is there until this returns. */
void channel_offer_progress(struct channel *channel);

/* Sends a frame without an answer; a server that is gone ends the process. */
void channel_send(struct channel *channel, uint32_t type, struct str payload);

/* The same, but the frame goes with the next one that is sent, if it is small: whoever uses this
 * sends one soon. */
void channel_hold(struct channel *channel, uint32_t type, struct str payload);

/* The payload of every request begins with a u32 id, which the answer repeats: this puts it there.
 * `body` is the rest. The answer's payload, without the id, is appended to `answer`; its
 * descriptor, if any, goes to ret_fd (may be NULL). */
void channel_ask(struct channel *channel, uint32_t type, struct str body, struct buf *answer,
                 int *ret_fd);

uint64_t channel_peak_bytes(void); /* of resident memory, of this process so far */

bool channel_cancelled(struct channel *channel);

/* Rows that have been encoded: the progress that `control` reports a few times a second. */
void channel_add_rows(struct channel *channel, uint64_t rows);
