/* server_layers.h - the setting of the test build that leaves layers of the sandbox out
 * (worker_layers.h). In every other build there is no such setting, and nothing here.
 * Errors    ERR_INVALID: a word that is no layer. */
#pragma once

#ifdef EIDER_TEST_LAYERS
#include "config.h"

/* Reads EIDER_TEST_LAYERS_OFF, and says in the log what this build is. */
bool server_layers_off(const struct config *config, uint32_t *ret_off, struct err *err) MUST_CHECK;
#endif
