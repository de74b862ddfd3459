/* api_queries.h - POST /query in the list of queries (ops_running.h), on its way through the api.
 * Promise   a query is listed from queries_enter on, and has ended in the list before its answer,
 *           or the end of a streamed one, is on its way to the client. All but queries_enter and
 *           queries_give_id do nothing for a request that is not listed, or not any more. */
#pragma once

#include "api_internal.h"

/* The request's id among the queries, and its X-Query-Id, when the route is that of POST /query. */
void queries_give_id(struct request *request, const struct route *route);

void queries_enter(struct request *request, struct str statement);
/* Its queue was full. */
void queries_forget(struct request *request);
void queries_begin(struct request *request);
void queries_stream(struct request *request);
void queries_progress(struct request *request, const struct engine_progress *progress);
void queries_outcome(struct request *request, const struct engine_outcome *outcome);
void queries_sent(struct request *request, uint64_t bytes);
void queries_end(struct request *request, enum err_kind kind);
/* A whole answer goes out: the end, unless queries_end has told it before. */
void queries_answer(struct request *request, unsigned status, uint64_t bytes);

/* Those that were cancelled while they waited, or lost their client, leave the queue now. */
void queries_sweep(struct api *api);

struct running *queries_create(void);
