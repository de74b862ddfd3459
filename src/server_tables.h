/* server_tables.h - the lake's tables, with the settings of their log and flushes. */
#pragma once

#include "config.h"
#include "lake.h"
#include "server_lake.h"

/* Replays the log in EIDER_DATA. When the log cannot be written any more, the process says so once
 * and ends with status 70: nothing that was acknowledged is lost, and nothing else is. */
struct lake *server_open_tables(const struct config *config, const struct server_lake *where,
                                struct engine *engine, const char *spool_folder, struct err *err);

struct lake_flush_limits server_flush_limits(const struct config *config);

/* Flushes for as long as the drain has time left: until_ms (clock_now_ms). */
void server_drain_tables(struct lake *lake, int64_t until_ms);
