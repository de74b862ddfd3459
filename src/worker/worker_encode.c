#include "worker_encode.h"

#include "worker_json.h"

enum {
    RESULT_BUFFER_MAX = 256 << 20
};

static void flush_result(void *context, struct buf *out)
{
    struct str rest = buf_str(out);
    while (rest.len > 0) {
        struct str piece = str_first(rest, WORKER_RESULT_SIZE_MAX);
        channel_send(context, WORKER_RESULT, piece);
        rest = str_from(rest, piece.len);
    }
    buf_reset(out);
}

bool encode_result(struct duck *duck, struct channel *channel, duckdb_result *result,
                   const struct encode_options *options, struct encode_outcome *ret_outcome,
                   struct err *err)
{
    (void)duck;
    if (options->format != WORKER_FORMAT_JSON) {
        return err_set(err, ERR_NOT_IMPLEMENTED, "this format is not there yet");
    }
    struct buf out;
    buf_init(&out, RESULT_BUFFER_MAX);
    struct json_encoder *encoder = json_encoder_create(result, &out);
    duckdb_data_chunk chunk;
    while (!buf_failed(&out) && (chunk = duckdb_fetch_chunk(*result)) != NULL) {
        json_encode_chunk(encoder, chunk, &out, flush_result, channel);
        channel_add_rows(channel, duckdb_data_chunk_get_size(chunk));
        duckdb_destroy_data_chunk(&chunk);
    }
    const char *problem = duckdb_result_error(result);
    bool good = true;
    if (buf_failed(&out)) {
        good = err_set(err, ERR_UNPROCESSABLE, "one row of the result is larger than 256 MiB");
    } else if (problem != NULL && problem[0] != '\0') {
        good = duck_fail(err, duckdb_result_error_type(result), problem);
    } else {
        ret_outcome->rows = json_encode_end(encoder, &out);
        flush_result(channel, &out);
    }
    json_encoder_destroy(encoder);
    buf_finish(&out);
    return good;
}
