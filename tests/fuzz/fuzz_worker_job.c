/* Messages between server and worker: any bytes are refused, or decode to something that encodes
 * to the same bytes again. The first byte of the input picks the message. */
#include "worker_job.h"

#include <stdlib.h>

#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static void must_be(struct buf *encoded, struct str payload)
{
    MUST(!buf_failed(encoded));
    MUST(str_equal(buf_str(encoded), payload));
}

static void check_job(struct str payload, struct buf *encoded)
{
    struct worker_job job;
    struct err err = {0};
    if (!worker_get_job(payload, &job, &err)) {
        MUST(err.kind == ERR_CORRUPT);
        return;
    }
    worker_put_job(encoded, &job);
    must_be(encoded, payload);
    worker_job_finish(&job);
}

static void check_schema(struct str payload, struct buf *encoded)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_schema schema;
    bool good = worker_get_schema(&cursor, &schema);
    if (good) {
        worker_put_schema(encoded, &schema);
        must_be(encoded, str_first(payload, payload.len - cursor.rest.len));
    }
    worker_schema_finish(&schema);
}

static void check_table(struct str payload, struct buf *encoded)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_table table;
    if (!worker_get_table(&cursor, &table)) {
        return;
    }
    for (size_t i = 0; i < table.files_count; i++) {
        MUST(table.files[i].schema <= table.schemas_count);
    }
    for (size_t i = 0; i < table.tails_count; i++) {
        MUST(table.tails[i].rest <= table.tails[i].columns_count);
    }
    worker_put_table(encoded, &table);
    must_be(encoded, str_first(payload, payload.len - cursor.rest.len));
    worker_table_finish(&table);
}

static void check_outcome(struct str payload, struct buf *encoded)
{
    struct worker_outcome outcome;
    struct err err = {0};
    if (!worker_get_outcome(payload, &outcome, &err)) {
        MUST(err.kind == ERR_CORRUPT);
        return;
    }
    MUST(outcome.kind < ERR_KIND_COUNT);
    worker_put_outcome(encoded, &outcome);
    must_be(encoded, payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(struct str payload, struct buf * encoded) = {
        check_job, check_schema, check_table, check_outcome};
    if (size == 0) {
        return 0;
    }
    struct buf encoded;
    buf_init(&encoded, size + 1);
    checks[data[0] % COUNT_OF(checks)](str_make((const char *)data + 1, size - 1), &encoded);
    buf_finish(&encoded);
    return 0;
}
