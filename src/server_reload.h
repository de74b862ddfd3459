/* server_reload.h - settings that change while the server runs.
 * Promise   all or nothing: the file is read and checked whole before the first value is used. When
 *           something in it is wrong, or a setting that needs a restart differs from what runs,
 *           nothing changes and one line of the log says why.
 *           Tokens and keys are read again too, by themselves: no setting of them changes.
 * Not here  who asks for it (server_wait), which settings are hot (server_settings.c).
 * Threads   main. What others read meanwhile is atomic, or a list that is replaced as a whole. */
#pragma once

#include "api.h"
#include "config.h"
#include "lake.h"
#include "log.h"
#include "net.h"

/* ---- also at start ---- */

enum log_level server_log_level(const struct config *config);
bool server_allow_endpoints(const struct config *config, struct net *net,
                            struct err *err) MUST_CHECK;

/* ---- later ---- */

struct server_running {
    const struct config *config;
    struct auth *auth;
    struct net *net;
    struct lake *lake;
    struct api *api;
};

/* What the server runs with from now on, for the caller to own; NULL: as before. */
struct config *server_reload(const struct server_running *running);
