/* worker_crew.h - the engine's threads of a database worker, besides those of the slots.
 * Promise   the engine plans for all of its threads, but one is woken only when there are more
 *           tasks than who works on them: a statement without a second task, as small ones are, is
 *           its slot's alone. Left to itself the engine wakes a thread for each task; and when that
 *           thread takes the only one, the slot asks again and again whether it is done. Nothing
 *           waits for the crew: a slot does all work that nobody takes, and sleeps when others do.
 * Owner     the main thread; ends with the process.
 * Threads   any, but for create and stop: main.
 * Limits    tasks that are added in the middle of another are seen at its end, or by crew_offer. */
#pragma once

#include "worker_shim_statement.h"

struct crew;

/* After the engine's settings, before the first request; `threads` with the slot's own. NULL when
 * there is nobody to call, which the others accept. */
struct crew *crew_create(duckdb_database database, unsigned threads);
/* When nothing runs any more, before the database is closed: afterwards nobody is in the engine. */
void crew_stop(struct crew *crew);

/* Works on a statement together with the crew, until duckdb_execute_pending has nothing left to do
 * but to hand out the result. */
bool crew_work(struct crew *crew, duckdb_connection connection, duckdb_pending_result pending,
               struct shim_failure *ret_failure) MUST_CHECK;

/* Calls one of the crew if there are tasks that nobody has taken. */
void crew_offer(struct crew *crew);
