/* worker_guard.h - what a client's statement may be, judged on its own text before the engine sees
 * it.
 * Promise   exactly one statement that only reads: SELECT, WITH, VALUES, FROM, TABLE, PIVOT,
 *           UNPIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN (EXPLAIN ANALYZE only of a query).
 *           Functions that reach outside the statement (files, settings, secrets, logs, other SQL,
 *           waiting) are refused by name, as calls and as tables.
 * Not here  what keeps a hostile statement harmless if it gets past: locked settings and the
 *           sandbox do that.
 * Errors    ERR_INVALID with a text for the client.   Threads  none shared.   Limits  statement 1
 *           MiB. */
#pragma once

#include "err.h"
#include "str.h"

enum {
    GUARD_STATEMENT_SIZE_MAX = 1 << 20
};

struct guard_verdict {
    bool pivot;   /* a PIVOT somewhere: its tables cannot be listed beforehand */
    bool catalog; /* it asks which tables there are: SHOW, information_schema and the like */
};

bool guard_check(struct str statement, struct guard_verdict *ret_verdict,
                 struct err *err) MUST_CHECK;

/* What a database that is a client's own has beyond a query's. */
struct guard_leave {
    bool sequences; /* nextval and currval */
    bool settings;  /* current_setting('name') of those that tell nothing of the machine */
};
bool guard_check_with(struct str statement, struct guard_leave leave,
                      struct guard_verdict *ret_verdict, struct err *err) MUST_CHECK;

/* Of any text: only that it calls no function and names no view that is refused. */
bool guard_check_names(struct str text, struct guard_leave leave, struct err *err) MUST_CHECK;

/* Only the beginning is judged: the words that the one statement may begin with. */
bool guard_is_reading(struct str statement);

/* The functions that are refused, and the settings that may be read with leave, ended by NULL
 * (worker_guard_names.c). */
extern const char *const guard_refused_names[];
extern const char *const guard_readable_settings[];

/* ---- the tokenizer ---- */
enum guard_token_kind {
    GUARD_END,
    GUARD_WORD,   /* an identifier or keyword, not quoted */
    GUARD_QUOTED, /* "an identifier", text without the quotes (doubled quotes stay) */
    GUARD_STRING, /* '...', E'...', $tag$...$tag$ */
    GUARD_NUMBER,
    GUARD_SYMBOL, /* one byte */
};

struct guard_token {
    enum guard_token_kind kind;
    struct str text;
};

/* Takes one token off the front of *rest, skipping white space and comments (block comments nest).
 * False for a string, quoted name or comment that does not end, and for a NUL byte. */
bool guard_next(struct str *rest, struct guard_token *ret_token, struct err *err) MUST_CHECK;
