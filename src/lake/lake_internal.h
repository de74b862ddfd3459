/* lake_internal.h - what the files of this folder share. */
#pragma once

#include "clock_doubt.h"
#include "lake_ingest.h"
#include "map.h"
#include "thread.h"

#include <stdatomic.h>

struct lake_schemas;
struct lake_listings;

struct lake_table;
struct lake_hold;
struct lake_keys;
struct lake_replay;
struct lake_ship;

enum {
    LAKE_SPARES_COUNT = 8
};

struct lake {
    struct lake_options options;
    struct store *store;
    struct engine *engine;
    char *prefix; /* "" or ends with a slash */
    char *spool_folder;
    struct lock lock; /* LOCK_SCHEMA: schemas, listings */
    struct lake_schemas *schemas;
    struct lake_listings *listings;
    /* ---- the durable log ---- */
    struct wal *records;
    struct wal *plans;
    struct lake_ship *ship;
    struct lake_keys *keys;
    struct lake_replay *replay; /* while the lake is opened */
    struct lake_counts counts;
    struct clock_doubt clock;     /* of whoever keeps house */
    atomic_ullong schemas_bytes;  /* of all tables: see lake_table_publish */
    atomic_ullong tail_records;   /* of all tables: each takes memory */
    atomic_ullong gathered_bytes; /* of lines, for queries: lake_tail */
    atomic_ullong plans_bytes;    /* of all that are not finished */
    atomic_ullong flush_bytes;    /* struct lake_flush_limits */
    atomic_ullong flush_rows;
    atomic_llong flush_age_ms;
    atomic_bool broken;      /* a log cannot be written any more */
    struct lock tables_lock; /* LOCK_TABLES: the rest; taken before a table's own lock */
    struct map tables;       /* by name */
    struct map owners;       /* tables that have columns, by their names in lower case */
    struct lake_table **tables_list;
    size_t tables_count;
    struct lake_hold *holds;
    uint64_t registered; /* up to here all records are where lake_needed_from looks */
    uint64_t groups;     /* numbers for requests of several records */
    struct lake_check *spares[LAKE_SPARES_COUNT]; /* for the next request; may be NULL */
    size_t spares_next;                           /* which of them gives way */
};

/* <prefix>data/<table>/ */
void lake_append_table_prefix(struct buf *key, const struct lake *lake, struct str table);

/* The schema's columns as a worker reads them in lines: mem_free them. A table whose records were
 * all empty has rows and no columns, which neither SQL nor a file can have: it gets _rest. */
struct worker_column *lake_worker_columns(const struct lake_schema *schema, size_t *ret_count);
uint32_t lake_worker_rest(const struct lake_schema *schema); /* place + 1, or 0 */

/* A growing list of names; lake_names_finish accepts zeroed memory. */
struct lake_names {
    char **items;
    size_t count;
    size_t capacity;
};
void lake_names_add(struct lake_names *list, struct str name);
void lake_names_finish(struct lake_names *list);

/* ---- schemas of objects already read (lake_schemas.c), keyed by key and ETag; bounded ---- */
struct lake_schemas *lake_schemas_create(void);
void lake_schemas_destroy(struct lake_schemas *schemas);

/* The object's schema as worker_put_schema wrote it, copied to `into`; false when it is not known.
 */
bool lake_schemas_find(struct lake_schemas *schemas, struct str key, struct str etag,
                       struct buf *into);
void lake_schemas_keep(struct lake_schemas *schemas, struct str key, struct str etag,
                       const struct worker_schema *schema);
