#include "worker_database.h"

#include "mem.h"

void worker_put_database(struct buf *buf, const struct worker_database *database)
{
    worker_put_text(buf, database->name);
    worker_put_u32(buf, database->read_only);
    worker_put_u64(buf, database->temp_bytes_max);
    worker_put_u64(buf, database->checkpoint_bytes);
}

bool worker_get_database(struct worker_cursor *cursor, struct worker_database *ret_database)
{
    struct worker_database database = {.name = worker_get_text(cursor)};
    database.read_only = worker_get_u32(cursor);
    database.temp_bytes_max = worker_get_u64(cursor);
    database.checkpoint_bytes = worker_get_u64(cursor);
    *ret_database = database;
    return worker_get_end(cursor) && database.name.len > 0;
}

void worker_put_request(struct buf *buf, const struct worker_request *request)
{
    worker_put_u64(buf, request->number);
    worker_put_u32(buf, request->kind);
    worker_put_u32(buf, request->role);
    worker_put_u32(buf, request->format);
    worker_put_u32(buf, request->fetch);
    worker_put_u64(buf, request->fetch_size);
    worker_put_u64(buf, request->rows_max);
    worker_put_u64(buf, request->result_bytes_max);
    worker_put_u32(buf, request->atomic);
    worker_put_u32(buf, request->loose_parameters);
    worker_put_u32(buf, request->mode);
    worker_put_text(buf, request->parameters);
    worker_put_text(buf, request->table);
    worker_put_u64(buf, request->statements_count);
    for (size_t i = 0; i < request->statements_count; i++) {
        worker_put_text(buf, request->statements[i]);
    }
}

static bool is_known(const struct worker_request *request)
{
    return request->kind >= WORKER_STATEMENTS && request->kind <= WORKER_CHECKPOINT &&
           request->role >= WORKER_ROLE_READ && request->role <= WORKER_ROLE_ADMIN &&
           request->format < WORKER_FORMAT_COUNT && request->fetch <= WORKER_FETCH_NONE &&
           request->mode <= WORKER_IMPORT_REPLACE &&
           request->statements_count <= WORKER_STATEMENTS_MAX;
}

static void get_statements(struct worker_cursor *cursor, struct worker_request *request)
{
    request->statements_count = worker_get_count(cursor, sizeof(uint64_t));
    struct str *statements = mem_alloc_array(request->statements_count, sizeof(*statements));
    for (size_t i = 0; i < request->statements_count; i++) {
        statements[i] = worker_get_text(cursor);
    }
    request->statements = statements;
}

bool worker_get_request(struct str payload, struct worker_request *ret_request, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_request request = {.number = worker_get_u64(&cursor)};
    request.kind = worker_get_u32(&cursor);
    request.role = worker_get_u32(&cursor);
    request.format = worker_get_u32(&cursor);
    request.fetch = worker_get_u32(&cursor);
    request.fetch_size = worker_get_u64(&cursor);
    request.rows_max = worker_get_u64(&cursor);
    request.result_bytes_max = worker_get_u64(&cursor);
    request.atomic = worker_get_u32(&cursor);
    request.loose_parameters = worker_get_u32(&cursor);
    request.mode = worker_get_u32(&cursor);
    request.parameters = worker_get_text(&cursor);
    request.table = worker_get_text(&cursor);
    get_statements(&cursor, &request);
    if (!worker_get_end(&cursor) || !is_known(&request)) {
        worker_request_finish(&request);
        return err_set(err, ERR_CORRUPT, "a request message is damaged");
    }
    *ret_request = request;
    return true;
}

void worker_request_finish(struct worker_request *request)
{
    mem_free((void *)(uintptr_t)request->statements);
    request->statements = NULL;
    request->statements_count = 0;
}

void worker_put_done(struct buf *buf, const struct worker_done *done)
{
    worker_put_u32(buf, done->kind);
    worker_put_u32(buf, done->fault);
    worker_put_u32(buf, done->failed_at);
    worker_put_u32(buf, done->truncated);
    worker_put_u32(buf, done->rolled_back);
    worker_put_u32(buf, done->changing);
    worker_put_u64(buf, done->rows);
    worker_put_u64(buf, done->execution_us);
    worker_put_u64(buf, done->memory_bytes);
    worker_put_u64(buf, done->peak_bytes);
    worker_put_text(buf, done->message);
}

bool worker_get_done(struct str payload, struct worker_done *ret_done, struct err *err)
{
    struct worker_cursor cursor = {.rest = payload};
    struct worker_done done = {.kind = worker_get_u32(&cursor)};
    done.fault = worker_get_u32(&cursor);
    done.failed_at = worker_get_u32(&cursor);
    done.truncated = worker_get_u32(&cursor);
    done.rolled_back = worker_get_u32(&cursor);
    done.changing = worker_get_u32(&cursor);
    done.rows = worker_get_u64(&cursor);
    done.execution_us = worker_get_u64(&cursor);
    done.memory_bytes = worker_get_u64(&cursor);
    done.peak_bytes = worker_get_u64(&cursor);
    done.message = worker_get_text(&cursor);
    bool known = done.kind < ERR_KIND_COUNT && done.fault <= WORKER_FAULT_ENGINE &&
                 done.failed_at <= WORKER_STATEMENTS_MAX;
    if (!worker_get_end(&cursor) || !known) {
        return err_set(err, ERR_CORRUPT, "a message of a request's end is damaged");
    }
    *ret_done = done;
    return true;
}
