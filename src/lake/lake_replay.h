/* lake_replay.h - what the two logs say when the lake is opened, and what their segments begin
 * with; for lake*.c only.
 * Promise   after lake_replay_end each acknowledged row that is in no object is in a tail or a
 *           batch, each begun plan is its table's plan, each idempotency key is known. Running it
 *           again after a crash gives the same.
 * Owner     lake_open, for as long as it runs.   Threads  one. */
#pragma once

#include "lake_table.h"

struct lake_replay;
struct lake_replay *lake_replay_create(struct lake *lake);
void lake_replay_destroy(struct lake_replay *replay);

/* wal_options.replay of the log of plans, which comes first, and of the log of records; the context
 * is the struct lake, which has the struct lake_replay. */
bool lake_replay_plans(void *context, const struct wal_place *place, unsigned type,
                       struct str payload, struct err *err);
bool lake_replay_records(void *context, const struct wal_place *place, unsigned type,
                         struct str payload, struct err *err);
/* Between the two. */
void lake_replay_plans_end(struct lake_replay *replay);
/* Finds each plan's rows in its table's tail. Requests that were never closed are dropped. */
void lake_replay_end(struct lake_replay *replay);

/* wal_options.prologue; the context is the struct lake. */
void lake_prologue_plans(void *context, struct buf *into);
void lake_prologue_records(void *context, struct buf *into);
