/* server_check.h - `eider check`: would this configuration serve, and does the store of the lake do
 * what Eider builds on.
 * Promise   one line on stdout for each thing looked at: `ok`, `warn` or `FAIL`, what was found,
 *           and what to do. What was made for the check is removed again. A thing that fails does
 *           not keep the others from being looked at, but for those that need it. */
#pragma once

#include "config.h"

/* `config` NULL: it did not load, and `err` says why. The exit status: 0 when nothing failed. */
int server_check(const struct config *config, const struct err *err);
