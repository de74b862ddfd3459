/* server_log.h - `eider log inspect DIR` and `eider log verify DIR`.
 * Promise   lines on stdout, what is wrong on stderr; nothing in the folder is changed. */
#pragma once

enum {
    SERVER_EXIT_DAMAGED = 65 /* EX_DATAERR: of a start too */
};

/* The exit status; -1: the verb is none. */
int server_log(const char *verb, const char *folder);
