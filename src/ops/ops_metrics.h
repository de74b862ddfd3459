/* ops_metrics.h - everything that is counted, as one text that Prometheus reads.
 * Promise   the text is in the exposition format 0.0.4: HELP and TYPE once per family, all samples
 *           of a family together, label values and help escaped, histograms cumulative with +Inf.
 * Not here  what is counted (each module does that itself, with metric.h); who may read it (api).
 * Owner     struct server owns one; families and contexts are borrowed and outlive it.
 * Threads   ops_metrics_add before requests are served; ops_metrics_render from any thread
 *           afterwards. Collect functions run on the rendering thread, an http thread: they read
 *           numbers, and never wait for work.
 * Limits    METRICS_TEXT_SIZE_MAX of text. Label values come from tables of ours (routes, lanes,
 *           reasons), never from a request: the number of series does not grow with what clients
 *           send. That is the collect functions' part.
 *
 * A new family: a row in the table of its module's file (server_metrics.c, api_metrics.c) with the
 * function that collects it, and a line in docs/metrics.md. */
#pragma once

#include "buf.h"
#include "metric.h"

enum {
    METRICS_TEXT_SIZE_MAX = 4 << 20
};

struct ops_metrics;
struct ops_samples; /* the family that is being collected */

enum ops_metric_type {
    OPS_COUNTER,  /* the name ends with _total */
    OPS_GAUGE,    /* the name does not */
    OPS_HISTOGRAM /* the name ends with _seconds */
};

struct ops_family {
    const char *name;
    enum ops_metric_type type;
    const char *help;
    void (*collect)(void *context, struct ops_samples *samples);
};

struct ops_label {
    const char *name;
    struct str value;
};

struct ops_labels {
    const struct ops_label *list;
    size_t count;
};

/* The labels of one sample, written where they are used: OPS_LABELS({"lane", name}). */
#define OPS_LABELS(...)                                                             \
    ((struct ops_labels){.list = (const struct ops_label[]){__VA_ARGS__},           \
                         .count = sizeof((const struct ops_label[]){__VA_ARGS__}) / \
                                  sizeof(struct ops_label)})
#define OPS_NO_LABELS ((struct ops_labels){0})

struct ops_metrics *ops_metrics_create(void);
void ops_metrics_destroy(struct ops_metrics *metrics);

/* A name that breaks the conventions, or is there already, is a mistake of the programmer. */
void ops_metrics_add(struct ops_metrics *metrics, const struct ops_family *families, size_t count,
                     void *context);

void ops_metrics_render(const struct ops_metrics *metrics, struct buf *into);

/* ---- for collect functions ---- */
void ops_put_u64(struct ops_samples *samples, struct ops_labels labels, uint64_t value);
/* Seconds, from microseconds. */
void ops_put_seconds(struct ops_samples *samples, struct ops_labels labels, int64_t value_us);
void ops_put_histogram(struct ops_samples *samples, struct ops_labels labels,
                       const struct metric_histogram *histogram);

/* ---- the process itself (ops_process.c), under the names that every exporter uses ---- */
struct ops_process {
    int64_t start_ms; /* wall clock; set by ops_process_add */
};

void ops_process_add(struct ops_metrics *metrics, struct ops_process *process);
