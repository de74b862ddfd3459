/* lake_source.h - what a statement reads of one table: objects of the store and the log's tail, of
 * one moment; for lake*.c only.
 * Promise   each acknowledged row once: the tail is looked at before the store, and objects whose
 *           rows are in it, or that nobody was told of yet, are left out.
 * Owner     the statement.   Threads  one. */
#pragma once

#include "lake_listing.h"
#include "lake_tail.h"

struct lake_source {
    struct str folder;                  /* the table's name, as its folder has it; borrowed */
    struct lake_table *table;           /* NULL: the log does not know it */
    struct lake_tail tail;              /* when there is a table */
    const struct lake_listing *listing; /* NULL: not looked at yet */
    size_t *shown;                      /* indexes of the listing's items; NULL: all of them */
    size_t shown_count;
};

/* With cancel NULL only in memory: ERR_BUSY when that is not enough. */
bool lake_source_find(struct lake *lake, struct lake_source *source, struct cancel *cancel,
                      struct err *err) MUST_CHECK;
void lake_source_finish(struct lake *lake, struct lake_source *source); /* also when not found */

/* Index of the item that is shown as number `at` of shown_count. */
size_t lake_source_item(const struct lake_source *source, size_t at);

/* SQL knows the table: it has rows, or at least columns. */
bool lake_source_is_table(const struct lake_source *source);

/* Appends a text that is the same only for the same rows. False: an object has no ETag. */
bool lake_source_append_identity(const struct lake *lake, const struct lake_source *source,
                                 struct buf *into);

/* The tail as TABLES wants it, declared to the job; a table without one appends nothing and answers
 * false. */
bool lake_source_append_tail(const struct lake_source *source, struct engine_job *job,
                             struct buf *into);
