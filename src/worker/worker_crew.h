/* worker_crew.h - the engine's threads of a database worker, besides those of the slots.
 * Promise   the engine plans for all of its threads, but they work only while a request takes
 *           longer than a moment. Left to itself the engine wakes one for each statement: a short
 *           one is over before that is of use, and when the thread takes the only task there is,
 *           the slot asks again and again whether it is done. That was two thirds of the processor
 *           time of a small statement. Nothing waits for the crew: a slot does all work that nobody
 *           takes.
 * Owner     the main thread; ends with the process.
 * Threads   crew_note: any; the others: main.
 * Limits    the first milliseconds of a request have one thread. */
#pragma once

#include <duckdb.h>
#include <stdbool.h>
#include <stdint.h>

struct crew;

/* Asked about every millisecond while requests run: whether there is one with work for others, and
 * in *ret_any whether there is one at all. */
typedef bool crew_look_fn(void *context, bool *ret_any);

/* After the engine's settings, before the first request; `threads` with the slot's own. NULL when
 * there is nobody to call. */
struct crew *crew_create(duckdb_database database, unsigned threads, crew_look_fn *look,
                         void *context);
/* When nothing runs any more, before the database is closed: afterwards nobody is in the engine.
 * Accepts NULL, as crew_note does. */
void crew_stop(struct crew *crew);

/* A request has begun, and crew_look_fn would say so. */
void crew_note(struct crew *crew);
