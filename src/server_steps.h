/* server_steps.h - the steps of a start, one by one, for `eider check`. Each does what server_start
 * does at this point, or says why that cannot be done; server_stop undoes them. */
#pragma once

#include "engine.h"
#include "server.h"
#include "server_lake.h"

struct server *server_create(const struct config *config);

/* Addresses are well formed, no two are the same, none is exposed against the settings, and each
 * can be opened now. */
bool server_check_listeners(const struct server *server, struct err *err) MUST_CHECK;
bool server_lock_data(struct server *server, struct err *err) MUST_CHECK;
bool server_open_net(struct server *server, struct err *err) MUST_CHECK;
/* After server_open_net. */
bool server_open_lake(struct server *server, const struct server_lake **ret_lake,
                      struct err *err) MUST_CHECK;
/* After server_lock_data. Returns while the engine warms up; server_wait_engine also says when it
 * is not the engine of this build. */
bool server_start_engine(struct server *server, struct err *err) MUST_CHECK;
bool server_wait_engine(struct server *server, struct err *err) MUST_CHECK;
struct engine *server_engine(const struct server *server);
