/* worker_helpers.h - the engine's threads besides the job's own.
 * Promise   the engine plans for all of its threads from the beginning, but they are started when
 *           there is work for them: a short statement is over before a second thread would be of
 *           use, and starting one, with memory of its own for two allocators, takes as long as a
 *           short statement. Nothing waits for them: the job's own thread does all work that nobody
 *           else takes. A statement that is one task after the other, as where the rows of a result
 *           have an order that only one thread can keep, has no use for them at any length: they
 *           would take its tasks from the job's own thread, which then asks for one all the time.
 * Owner     the worker; they end with the process.   Threads  helpers_start from any. */
#pragma once

#include <duckdb.h>

struct helpers;

/* Before the first statement; `threads` with the job's own. */
struct helpers *helpers_create(duckdb_database database, unsigned threads);

/* Whether there is a task that nobody works on just now. */
bool helpers_wanted(const struct helpers *helpers);

/* Starts them, the first time it is called. Fewer when there is no memory for more. */
void helpers_start(struct helpers *helpers);
