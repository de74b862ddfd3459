/* server_metrics.h - what the parts of the server count, as families of /metrics. The api adds its
 * own (api_metrics.c); everything below it is put together here, because the modules know nothing
 * of names and labels.
 *
 * A module that counts something new offers its numbers through a plain function (store_counts(),
 * engine_counts()), and gets a table of families and one line in server_metrics_add. */
#pragma once

#include "engine.h"
#include "http.h"
#include "lake.h"
#include "ops_metrics.h"

/* What the families read; lives as long as they do. */
struct server_metrics {
    struct ops_process process;
    struct engine *engine;
    struct store_cache *cache;
    struct http_server *http;
    struct lake *lake;
};

/* Before the first request is served. */
void server_metrics_add(struct server_metrics *parts, struct ops_metrics *metrics);
