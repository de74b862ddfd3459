#include "worker_encode.h"

#include "mem.h"
#include "worker_arrow.h"
#include "worker_columns.h"
#include "worker_csv.h"
#include "worker_json.h"
#include "worker_parquet.h"
#include "worker_shim_work.h"

/* A format that we write ourselves, row after row or batch after batch; Parquet is the engine's
 * work. `put` gets a chunk and how many of its rows are wanted; a value that the format cannot
 * hold is its error. */
struct encoder {
    void *(*create)(duckdb_result *result, const struct str *names, struct sink *sink);
    bool (*put)(void *state, duckdb_data_chunk chunk, uint64_t rows, struct sink *sink,
                struct err *err);
    void (*end)(void *state, const struct encode_outcome *outcome, bool limited, struct sink *sink);
    void (*destroy)(void *state);
};

/* clang-format off */
static const struct encoder encoders[WORKER_FORMAT_COUNT] = {
    [WORKER_FORMAT_JSON]   = { json_create,   json_put, json_end,   json_destroy },
    [WORKER_FORMAT_NDJSON] = { ndjson_create, json_put, ndjson_end, json_destroy },
    [WORKER_FORMAT_CSV]    = { csv_create,    csv_put,  csv_end,    csv_destroy },
    [WORKER_FORMAT_ARROW]  = { arrow_create,  arrow_put, arrow_end, arrow_destroy },
    [WORKER_FORMAT_EXACT]  = { exact_create,  json_put, ndjson_end, json_destroy },
};
/* clang-format on */

struct transfer {
    const struct encoder *encoder;
    void *state;
    struct channel *channel;
    struct sink *sink;
    uint64_t rows_max;
    struct encode_outcome outcome;
};

static bool put_chunk(struct transfer *transfer, duckdb_data_chunk chunk, struct err *err)
{
    struct encode_outcome *outcome = &transfer->outcome;
    uint64_t rows = duckdb_data_chunk_get_size(chunk);
    if (transfer->rows_max > 0 && rows > transfer->rows_max - outcome->rows) {
        rows = transfer->rows_max - outcome->rows;
        outcome->truncated = true;
    }
    if (!columns_flatten(chunk)) {
        return err_set(err, ERR_UNPROCESSABLE, "no memory for the result");
    }
    if (rows > 0 && !transfer->encoder->put(transfer->state, chunk, rows, transfer->sink, err)) {
        return false;
    }
    outcome->rows += rows;
    channel_add_rows(transfer->channel, rows);
    if (buf_failed(&transfer->sink->out)) {
        return err_set(err, ERR_UNPROCESSABLE, "one row of the result is larger than 256 MiB");
    }
    sink_offer(transfer->sink);
    return true;
}

static bool put_chunks(struct transfer *transfer, duckdb_result *result, struct err *err)
{
    bool good = true;
    while (good && !transfer->outcome.truncated) {
        CLEANUP(duckdb_destroy_data_chunk) duckdb_data_chunk chunk = shim_fetch(result);
        if (chunk == NULL) {
            break;
        }
        good = put_chunk(transfer, chunk, err);
    }
    const char *problem = duckdb_result_error(result);
    if (good && problem != NULL && problem[0] != '\0') {
        return duck_fail(err, duckdb_result_error_type(result), problem);
    }
    return good;
}

bool encode_result(struct duck *duck, struct channel *channel, duckdb_result *result,
                   const struct encode_options *options, struct encode_outcome *ret_outcome,
                   struct err *err)
{
    assert(options->format < WORKER_FORMAT_COUNT);
    assert(options->format != WORKER_FORMAT_ROWS); /* worker_rows.h */
    const struct encoder *encoder = &encoders[options->format];
    if (encoder->create == NULL) {
        return parquet_encode(duck, channel, result, options, ret_outcome, err);
    }
    struct sink sink;
    sink_init(&sink, channel);
    struct str *names = columns_names(result, false);
    struct transfer transfer = {
        .encoder = encoder,
        .state = encoder->create(result, names, &sink),
        .channel = channel,
        .sink = &sink,
        .rows_max = options->rows_max,
    };
    bool good = put_chunks(&transfer, result, err);
    if (good) {
        encoder->end(transfer.state, &transfer.outcome, options->rows_max > 0, &sink);
        sink_flush(&sink);
        *ret_outcome = transfer.outcome;
    }
    encoder->destroy(transfer.state);
    columns_names_free(names, duckdb_column_count(result));
    sink_finish(&sink);
    return good;
}
