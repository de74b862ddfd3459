/* server_auth.h - whether callers have to say who they are, and `eider token`.
 * Promise   a listener beyond loopback asks for tokens unless somebody said in plain words that it
 *           must not; which of the two it is, is in the log of the start. */
#pragma once

#include "auth.h"
#include "config.h"

/* `exposed` is the setting of a listener beyond loopback, or NULL when there is none. */
bool server_auth_required(const struct config *config, const char *exposed, bool *ret_required,
                          struct err *err) MUST_CHECK;
/* Nothing is asked wherever the server listens. */
bool server_auth_is_insecure(const struct config *config);

bool server_open_auth(const struct config *config, const char *exposed, struct auth **ret_auth,
                      struct err *err) MUST_CHECK;

/* `eider token WORDS`: its exit status; -1 when the words are wrong. */
int server_token(int count, char **words);
