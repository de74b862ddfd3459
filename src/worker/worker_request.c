/* A stand-in until the real one is there. */
#include "worker_request.h"

#include "mem.h"

bool request_serve(struct duck *duck, duckdb_connection connection, struct channel *slot_channel,
                   const struct worker_request *request, const int fds[2],
                   struct worker_done *ret_done)
{
    struct buf out;
    (void)duck;
    (void)fds;
    buf_init(&out, 1 << 20);
    for (size_t i = 0; i < request->statements_count; i++) {
        CLEANUP(mem_free_text)
        char *text = mem_copy_bytes(request->statements[i].ptr, request->statements[i].len);
        CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
        if (duckdb_query(connection, text, &result) != DuckDBSuccess) {
            duckdb_error_type type = duckdb_result_error_type(&result);
            ret_done->kind = ERR_INVALID;
            ret_done->fault =
                type == DUCKDB_ERROR_INTERRUPT ? WORKER_FAULT_STOPPED : WORKER_FAULT_STATEMENT;
            const char *error = duckdb_result_error(&result);
            ret_done->message = str_make(mem_copy_text(error), strlen(error));
            return false;
        }
        ret_done->rows = duckdb_row_count(&result);
        if (ret_done->rows > 0) {
            buf_reset(&out);
            duck_append_text(&result, 0, 0, &out);
        }
    }
    channel_send(slot_channel, WORKER_RESULT, buf_str(&out));
    buf_finish(&out);
    return true;
}

void request_done_finish(struct worker_done *done)
{
    mem_free((void *)(uintptr_t)done->message.ptr);
}
