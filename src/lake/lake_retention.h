/* lake_retention.h - objects that are older than their table keeps them; for lake*.c only.
 * Promise   only objects under data/<table>/year=YYYY/month=MM/day=DD/ of a table with
 *           retention_days go, and only of days that lie further back than that. What cannot be
 *           deleted now is tried the next time.
 * Threads   any; nothing is held while the store is waited for.   Limits  10,000 objects at a
 * time. */
#pragma once

#include "lake_table.h"

void lake_retain(struct lake *lake, struct cancel *cancel);

/* The day that the key's folders name, when it is an object of the table. */
bool lake_object_day(const struct lake *lake, struct str table, struct str key, int32_t *ret_day);
