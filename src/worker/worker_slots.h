/* worker_slots.h - the requests of a database worker: a thread per slot, which serves one after the
 * other.
 * Promise   each request has a connection of its own, made when it comes and closed before DONE. An
 *           INTERRUPT reaches its request also when it overtakes it, and is repeated until that
 *           ends. A slot that the server closes while a request runs in it ends the process.
 * Owner     the worker's main.   Threads  any may call.
 * Limits    WORKER_SLOTS_MAX; a number that is used again must have been closed. */
#pragma once

#include "worker_storage.h"

struct slots;

struct slots *slots_create(struct storage *storage);
/* Before the server is told that it may send requests; `threads` of one statement. */
void slots_open(struct slots *slots, duckdb_database database, unsigned threads);

/* A SLOT frame. One that makes no sense, or whose number is still in use, is closed. */
void slots_add(struct slots *slots, struct worker_frame *frame);
void slots_interrupt(struct slots *slots, unsigned number, uint64_t request);

/* What is due: repeats interrupts, sends PROGRESS. Returns in how many ms to call it again. */
int slots_tick(struct slots *slots);

/* Requests that come from now on are refused; returns when none runs. */
void slots_drain(struct slots *slots);
/* After that, before the database is closed: the engine's threads are out of it. */
void slots_close(struct slots *slots);
