/* worker_text.h - what can be told of a statement from its text alone.
 * Promise   only our tokenizer looks at the text: safe with any bytes.
 * Not here  whether a statement may run (worker_guard), what it means (the engine).
 * Owner     nothing is kept.   Threads  any. */
#pragma once

#include "buf.h"

/* Calls `visit` with every name in the text, quoted (without the quotes) or not: more than its
 * tables, never fewer. A text that is no SQL has those before the place where it breaks. */
void worker_visit_names(struct str statement, void (*visit)(void *context, struct str name),
                        void *context);

/* Whether a word of the text can begin the name of a table: without one it reads none. */
bool worker_may_read_tables(struct str statement);

/* Whether the same text over the same tables gives the same answer at any other time: no clock, no
 * random numbers, no sampling, no catalog, no EXPLAIN. */
bool worker_is_repeatable(struct str statement);

/* Whether no statement of a text for a database changes anything (worker_rules.h): what a role that
 * reads may send. False for a text that is none. */
bool worker_only_reads(struct str text);

/* Whether a statement of the text begins or ends a transaction. */
bool worker_controls_transaction(struct str text);

/* pg_..., duckdb_..., sqlite_..., pragma_...: names of the engine's own views. */
bool worker_is_catalog_name(struct str name);
