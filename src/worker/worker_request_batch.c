#include "clock.h"
#include "json_write.h"
#include "mem.h"
#include "worker_request_run.h"
#include "worker_rows.h"
#include "worker_text.h"

/* One batch: its results are gathered, since a client is told of none when one fails. */
struct batch {
    struct request *run;
    struct sink sink; /* without a channel */
    size_t at;        /* the statement that runs, from 0 */
};

static struct str statement_of(const struct batch *batch)
{
    return batch->run->request->statements[batch->at];
}

static bool fail_statement(struct batch *batch)
{
    batch->run->done->failed_at = (uint32_t)batch->at + 1;
    return false;
}

/* BEGIN, COMMIT and ROLLBACK would end the one transaction; and each text is one statement. All of
 * it is judged before anything runs. */
static bool check_statement(struct batch *batch)
{
    struct rules_verdict verdict;
    struct err err;
    struct str text = statement_of(batch);
    enum worker_role role = (enum worker_role)batch->run->request->role;
    bool good = true;
    if (batch->run->request->atomic != 0 && worker_controls_transaction(text)) {
        (void)err_set(
            &err, ERR_INVALID,
            "BEGIN, COMMIT and ROLLBACK have no place in a batch that is one transaction");
        good = request_fail_err(batch->run, &err);
    } else if (rules_check(text, role, &verdict, &err) && verdict.statements > 1) {
        (void)err_set(&err, ERR_INVALID, "only one statement per query of a batch is allowed");
        good = request_fail_err(batch->run, &err);
    }
    return good || fail_statement(batch);
}

static void append_seconds(struct buf *out, int64_t micros)
{
    buf_append_format(out, "%lld.%06lld", (long long)(micros / 1000000),
                      (long long)(micros % 1000000));
}

static bool fail_too_large(struct batch *batch)
{
    struct err err;
    (void)err_set(&err, ERR_TOO_LARGE, "the results of this batch are larger than %zu bytes",
                  batch->sink.out.size_max);
    return request_fail_err(batch->run, &err);
}

/* {"data":[],"execution_time":0.0003,"memory_usage":0.0,"row_count":0,"columns":["Count"],
 * "query_hash":null} */
static bool put_result(struct batch *batch, duckdb_result *result, int64_t begun_us)
{
    struct buf *out = &batch->sink.out;
    struct rows_options options = {.fetch = WORKER_FETCH_ALL,
                                   .rows_max = batch->run->request->rows_max};
    struct encode_outcome outcome = {0};
    struct err err;
    buf_append_text(out, batch->at > 0 ? ",{\"data\":" : "{\"data\":");
    bool good = rows_encode(result, &options, &batch->sink, &outcome, &err);
    if (!good) {
        return buf_failed(out) ? fail_too_large(batch)
                               : request_fail_result(batch->run, result, &err);
    }
    buf_append_text(out, ",\"execution_time\":");
    append_seconds(out, clock_now_us() - begun_us);
    buf_append_text(out, ",\"memory_usage\":0.0,\"row_count\":");
    buf_append_u64(out, outcome.rows);
    buf_append_text(out, ",\"columns\":[");
    for (idx_t i = 0; i < duckdb_column_count(result); i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        json_append_string(out, str_of(duckdb_column_name(result, i)));
    }
    buf_append_text(out, "],\"query_hash\":null}");
    batch->run->done->rows += outcome.rows;
    batch->run->done->truncated |= outcome.truncated;
    return !buf_failed(out) || fail_too_large(batch);
}

static bool run_text(struct batch *batch)
{
    int64_t begun_us = clock_now_us();
    CLEANUP(request_text_finish) struct request_text text = {0};
    duckdb_result result = {0};
    bool good = request_text_init(batch->run, &text, statement_of(batch)) &&
                request_text_run(batch->run, &text, NULL, &result) &&
                put_result(batch, &result, begun_us);
    duckdb_destroy_result(&result);
    good = good && request_text_end(batch->run, &text);
    if (good && channel_cancelled(batch->run->channel)) {
        good = request_fail(batch->run, ERR_STOPPED, WORKER_FAULT_STOPPED,
                            STR("INTERRUPT Error: Interrupted!"));
    }
    return good || fail_statement(batch);
}

static bool check_all(struct batch *batch)
{
    bool good = true;
    for (batch->at = 0; good && batch->at < batch->run->request->statements_count; batch->at++) {
        good = check_statement(batch);
    }
    return good;
}

/* All that is answered is known to fit before a COMMIT. */
static bool run_all(struct batch *batch)
{
    buf_append_byte(&batch->sink.out, '[');
    bool good = true;
    for (batch->at = 0; good && batch->at < batch->run->request->statements_count; batch->at++) {
        good = run_text(batch);
    }
    buf_append_byte(&batch->sink.out, ']');
    return good && (!buf_failed(&batch->sink.out) || fail_too_large(batch));
}

static bool run_atomic(struct batch *batch)
{
    if (!request_sql(batch->run, "BEGIN TRANSACTION")) {
        return false;
    }
    if (run_all(batch) && request_sql(batch->run, "COMMIT")) {
        return true;
    }
    if (shim_in_transaction(batch->run->connection)) { /* a COMMIT that failed has ended it */
        duckdb_result ignored = {0};
        (void)duckdb_query(batch->run->connection, "ROLLBACK", &ignored);
        duckdb_destroy_result(&ignored);
    }
    batch->run->done->rolled_back = 1;
    return false;
}

static void send_all(struct batch *batch)
{
    struct sink out;
    sink_init(&out, batch->run->channel);
    sink_pass(&out, buf_str(&batch->sink.out));
    sink_finish(&out);
}

bool request_run_batch(struct request *run)
{
    uint64_t size_max = run->request->result_bytes_max;
    struct batch batch = {.run = run};
    sink_init(&batch.sink, NULL);
    batch.sink.out.size_max = size_max > 0 && size_max < SINK_SIZE_MAX ? size_max : SINK_SIZE_MAX;
    bool good = check_all(&batch);
    good = good && (run->request->atomic != 0 ? run_atomic(&batch) : run_all(&batch));
    good = good && request_ends_whole(run);
    if (good) {
        send_all(&batch);
    }
    sink_finish(&batch.sink);
    return good;
}
