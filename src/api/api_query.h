/* api_query.h - one POST /query on its way: read (api_query.c), its tables found
 * (api_query_tables.c), answered from memory or run (api_query_run.c). */
#pragma once

#include "api_internal.h"
#include "map.h"

enum {
    QUERY_FIELD_SIZE_MAX = 2 << 20
};

/* One object of a declared table. */
struct query_object {
    struct str key; /* owned */
    struct store_object info;
    bool proven; /* by a HEAD with the request's own credentials; else it was listed */
};

/* One declared table: a name, and the paths it was given. */
struct declared_table {
    struct str name;
    struct str folded; /* in lower case: SQL does not care */
    struct str *paths; /* without leading slashes */
    size_t paths_count;
    struct query_object *objects; /* once they were looked up */
    size_t objects_count;
    size_t objects_capacity;
    bool found;
    bool added;                  /* the worker knows it */
    struct declared_table *next; /* the one declared before */
};

struct query {
    struct request *request;
    struct buf sql;
    struct str parameters; /* points into the body */
    uint64_t rows_max;
    int64_t timeout_ms;
    struct store *store;              /* NULL: the server's own lake */
    struct lake_statement *over_lake; /* where there is no store */
    struct buf url;                   /* s3://bucket/ */
    struct declared_table *tables;    /* the last declared first */
    struct map by_name;               /* folded names; the last declared wins */
    uint64_t objects_count;
    bool has_key;
    bool has_etag;     /* the answer's header */
    bool key_checked;  /* it covers what the worker asked for */
    struct sha256 key; /* of the result */
    bool collecting;   /* into `copy`, to be kept */
    struct buf copy;
    struct engine_request run;
    struct engine_job *begun; /* while the tables are looked for */
};

/* The event sidecar_query, before the reply: `status` is ok, busy or error (api_query.c). */
void query_log(const struct query *query, const char *status);

/* Answers from memory where that takes no time: on thread `http` (api_query_run.c). */
bool query_answer_at_once(struct query *query);

/* ---- tables (api_query_tables.c) ---- */
void declared_table_destroy(struct declared_table *table);
/* Looks up the objects of the tables that the text names. False when that cannot be done (err says
 * why; the statement may still run: the name may be no table in it). With cancel NULL, which goes
 * for the lake alone, it takes no time and fails where it would. */
bool query_find_tables(struct query *query, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Whether every object found has been seen with the request's own credentials, which is done here
 * for a few that were only listed. */
bool query_prove_objects(struct query *query);
/* Appends what tells the objects found from others; false when one has no ETag. */
bool query_append_identity(const struct query *query, struct buf *into) MUST_CHECK;
bool query_resolve(void *context, struct engine_job *job, const struct engine_names *names,
                   struct buf *tables, uint64_t *ret_tables_count, struct err *err) MUST_CHECK;
