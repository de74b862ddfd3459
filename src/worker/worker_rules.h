/* worker_rules.h - which statements a client of a database may send, by its role.
 * Promise   judged on the text alone, by our own tokenizer, before the engine sees a byte of it:
 *           for some statements the engine acts while it parses (worker_query.c). A role that reads
 *           has what worker_guard.h allows, several of them too. The others also change data and
 *           definitions: INSERT, UPDATE, DELETE, MERGE, TRUNCATE, CREATE, ALTER, DROP and COMMENT
 *           (tables, views, indexes, schemas, sequences, types, macros), ANALYZE, VACUUM,
 *           CHECKPOINT, BEGIN, COMMIT, ROLLBACK. Functions that reach outside the database are
 *           refused in any statement, bodies of views and macros included.
 * Not here  files, settings, extensions, other databases, secrets, prepared statements, CALL: no
 *           role has them; the text of the refusal says what there is instead.
 * Owner     texts point into the caller's.   Threads  none shared.
 * Errors    ERR_INVALID for a text that is none, ERR_FORBIDDEN for one that is refused; the message
 *           is for the client.   Limits  GUARD_STATEMENT_SIZE_MAX bytes. */
#pragma once

#include "err.h"
#include "worker_database.h"

#include <duckdb.h>

struct rules_verdict {
    size_t statements; /* that the text has; empty ones are not counted */
    bool reads_only;   /* all of them */
    bool transaction;  /* one of them is BEGIN, COMMIT, ROLLBACK or the like */
    bool pivot;        /* the engine makes several statements of one */
};

#ifdef EIDER_TEST_LAYERS
/* The test build, without the layer of the guard: from now on every text is allowed here. */
void rules_leave_out(void);
#endif

bool rules_check(struct str text, enum worker_role role, struct rules_verdict *ret_verdict,
                 struct err *err) MUST_CHECK;

/* Once more, by what the engine says a statement is: for a text that rules_check() let pass. */
bool rules_allow_type(duckdb_statement_type type, enum worker_role role,
                      const struct rules_verdict *verdict);
