/* server.h - the one struct of the process: what it is made of, and in which order it starts and
 * stops.
 * Start     data folder and its lock -> the engine library's digest -> store -> object cache ->
 *           engine -> lake -> api -> listeners.
 * Stop      no new connections -> requests in flight end (30 s) -> listeners -> api -> lake ->
 *           engine -> object cache -> store -> lock.
 * Owner     main.   Threads  main waits for signals; all others belong to the modules
 *           (ARCHITECTURE.md has the table).
 * Errors    a start that fails says why in words for the person who started it. */
#pragma once

#include "config.h"

struct server;

/* Every setting (server_settings.c). */
extern const struct setting server_settings[];
#define SERVER_SETTING_PREFIX "EIDER_"

struct server *server_start(const struct config *config, struct err *err);
/* Until SIGTERM or SIGINT, then drains. The exit code. A second one ends the process at once.
 * SIGHUP reads the settings again (server_reload.h). */
int server_wait(struct server *server);
void server_stop(struct server *server);
