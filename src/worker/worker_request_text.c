#include "mem.h"
#include "worker_crew.h"
#include "worker_request_run.h"

#include <stdio.h>

enum {
    MESSAGE_SIZE_MAX = 16 << 10 /* a list of candidates may be long */
};

/* ---- what went wrong ---- */

bool request_fail(struct request *run, enum err_kind kind, enum worker_fault fault, struct str text)
{
    if (run->done->kind != ERR_NONE) {
        return false;
    }
    text = str_first(text, MESSAGE_SIZE_MAX);
    run->done->kind = kind;
    run->done->fault = fault;
    run->done->message = str_make(mem_copy_bytes(text.ptr, text.len), text.len);
    return false;
}

/* A transaction's errors are conflicts: a COMMIT or ROLLBACK that has nothing to end is judged
 * before it runs (see run_statement). */
static enum worker_fault fault_of(duckdb_error_type type)
{
    if (type == DUCKDB_ERROR_TRANSACTION) {
        return WORKER_FAULT_CONFLICT;
    }
    if (type == DUCKDB_ERROR_OUT_OF_MEMORY) {
        return WORKER_FAULT_MEMORY;
    }
    if (type == DUCKDB_ERROR_INTERRUPT) {
        return WORKER_FAULT_STOPPED;
    }
    if (type == DUCKDB_ERROR_IO || type == DUCKDB_ERROR_NETWORK || type == DUCKDB_ERROR_HTTP) {
        return WORKER_FAULT_IO;
    }
    bool engine = type == DUCKDB_ERROR_FATAL || type == DUCKDB_ERROR_INTERNAL;
    return engine ? WORKER_FAULT_ENGINE : WORKER_FAULT_STATEMENT;
}

static enum err_kind kind_of(enum worker_fault fault)
{
    static const enum err_kind kinds[] = {
        [WORKER_FAULT_NONE] = ERR_INVALID,      [WORKER_FAULT_STATEMENT] = ERR_INVALID,
        [WORKER_FAULT_CONFLICT] = ERR_CONFLICT, [WORKER_FAULT_MEMORY] = ERR_UNPROCESSABLE,
        [WORKER_FAULT_STOPPED] = ERR_STOPPED,   [WORKER_FAULT_ROOM] = ERR_UNAVAILABLE,
        [WORKER_FAULT_IO] = ERR_UNAVAILABLE,    [WORKER_FAULT_ENGINE] = ERR_INTERNAL,
    };
    return kinds[fault];
}

/* Of what the engine says of itself, its first line: the others are a trace. */
bool request_fail_engine(struct request *run, duckdb_error_type type, const char *text)
{
    enum worker_fault fault = fault_of(type);
    struct str message = str_of(text);
    if (message.len == 0) {
        message = STR("the statement failed without a reason");
    }
    if (fault == WORKER_FAULT_ENGINE) {
        message = str_first(message, str_find_byte(message, '\n'));
    }
    enum err_kind kind = type == DUCKDB_ERROR_PERMISSION ? ERR_FORBIDDEN : kind_of(fault);
    return request_fail(run, kind, fault, message);
}

bool request_fail_shim(struct request *run, struct shim_failure *failure_take)
{
    (void)request_fail_engine(run, failure_take->type, failure_take->text);
    duckdb_free(TAKE(failure_take->text));
    return false;
}

bool request_fail_err(struct request *run, const struct err *err)
{
    bool memory = err->kind == ERR_UNPROCESSABLE;
    const char *prefix = err->kind == ERR_FORBIDDEN  ? "Permission Error: "
                         : err->kind == ERR_INTERNAL ? "INTERNAL Error: "
                         : memory                    ? "Out of Memory Error: "
                                                     : "Invalid Input Error: ";
    char text[sizeof(err->message) + 32];
    (void)snprintf(text, sizeof(text), "%s%s", prefix, err->message);
    enum worker_fault fault = memory                      ? WORKER_FAULT_MEMORY
                              : err->kind == ERR_INTERNAL ? WORKER_FAULT_ENGINE
                                                          : WORKER_FAULT_STATEMENT;
    return request_fail(run, err->kind, fault, str_of(text));
}

bool request_fail_result(struct request *run, duckdb_result *result, const struct err *err)
{
    const char *problem = duckdb_result_error(result);
    if (err != NULL && (problem == NULL || problem[0] == '\0')) {
        return request_fail_err(run, err);
    }
    return request_fail_engine(run, duckdb_result_error_type(result), problem);
}

bool request_sql(struct request *run, const char *sql)
{
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    return duckdb_query(run->connection, sql, &result) == DuckDBSuccess ||
           request_fail_result(run, &result, NULL);
}

bool request_ends_whole(struct request *run)
{
    struct err err;
    if (!shim_in_transaction(run->connection) || !shim_transaction_changed(run->connection)) {
        return true;
    }
    (void)err_set(&err, ERR_INVALID,
                  "what this request changed since its last COMMIT was not kept: a transaction is "
                  "still open at its end; write COMMIT, or send the statements as a batch");
    return request_fail_err(run, &err);
}

/* ---- judging and parsing ---- */

/* Taking a text apart is not always harmless (worker_query.c). */
static bool is_safe_to_parse(struct str text)
{
    for (; text.len > 0; text = str_from(text, 1)) {
        if (str_starts_nocase(text, STR("pragma")) || str_starts_nocase(text, STR("import"))) {
            return false;
        }
    }
    return true;
}

/* A refused text that is no SQL at all is told so, in the parser's words. */
static bool refuse(struct request *run, struct str sql, const struct err *err)
{
    struct shim_failure failure = {0};
    if (err->kind == ERR_FORBIDDEN && is_safe_to_parse(sql)) {
        struct shim_parsed *parsed = shim_parse(run->connection, sql, &failure);
        shim_parsed_destroy(parsed);
        if (parsed == NULL) {
            return request_fail_shim(run, &failure);
        }
    }
    return request_fail_err(run, err);
}

static bool is_reading(duckdb_statement_type type)
{
    return type == DUCKDB_STATEMENT_TYPE_SELECT || type == DUCKDB_STATEMENT_TYPE_EXPLAIN;
}

/* ALTER TABLE t ADD COLUMN c INT DEFAULT (1 + 2) becomes ALTER, UPDATE, ALTER, with a transaction
 * around them where there is none: as many UPDATEs as there were such statements. */
static bool becomes_several(const struct request_text *text)
{
    size_t own = 0;
    bool good = true;
    for (size_t i = 0; good && i < text->count; i++) {
        duckdb_statement_type type = shim_parsed_type(text->parsed, i);
        bool added = shim_parsed_is_added(text->parsed, i);
        own += !added || type == DUCKDB_STATEMENT_TYPE_UPDATE;
        good = !added || type == DUCKDB_STATEMENT_TYPE_ALTER ||
               type == DUCKDB_STATEMENT_TYPE_UPDATE || type == DUCKDB_STATEMENT_TYPE_TRANSACTION;
    }
    return good && own == text->verdict.statements;
}

/* What the engine has read must be what the rules have: as many statements, of those kinds. Only a
 * PIVOT and an ALTER become several, of which the last but for a COMMIT has the answer. */
static bool check_parsed(struct request *run, struct request_text *text)
{
    const struct rules_verdict *verdict = &text->verdict;
    struct err err;
    bool more = text->count > verdict->statements;
    bool same =
        text->count == verdict->statements || (more && (verdict->pivot || becomes_several(text)));
    for (size_t i = 0; same && i < text->count; i++) {
        same = rules_allow_type(shim_parsed_type(text->parsed, i),
                                (enum worker_role)run->request->role, verdict);
    }
    if (!same) {
        (void)err_set(&err, ERR_FORBIDDEN, "this text has statements that are not allowed here");
        return request_fail_err(run, &err);
    }
    text->answer = text->count - 1;
    while ((verdict->pivot || more) && text->answer > 0 &&
           shim_parsed_type(text->parsed, text->answer) == DUCKDB_STATEMENT_TYPE_TRANSACTION) {
        text->answer--;
    }
    return true;
}

bool request_text_init(struct request *run, struct request_text *text, struct str sql)
{
    struct err err;
    struct shim_failure failure = {0};
    *text = (struct request_text){0};
    if (!rules_check(sql, (enum worker_role)run->request->role, &text->verdict, &err)) {
        return refuse(run, sql, &err);
    }
    text->parsed = shim_parse(run->connection, sql, &failure);
    if (text->parsed == NULL) {
        return request_fail_shim(run, &failure);
    }
    text->count = shim_parsed_count(text->parsed);
    return check_parsed(run, text);
}

void request_text_finish(struct request_text *text)
{
    shim_parsed_destroy(TAKE(text->parsed));
}

/* ---- running ---- */

static bool is_positional(struct str name)
{
    return name.len > 0 && name.ptr[0] >= '0' && name.ptr[0] <= '9';
}

/* The values for one statement: of a helper only those it asks for, of the last one all that must
 * be asked for. Returns how many. */
static size_t choose_values(struct request *run, struct request_text *text, size_t index,
                            const struct parameters *parameters, struct shim_value *values)
{
    bool loose = run->request->loose_parameters != 0;
    bool of_last = index == text->answer;
    size_t count = 0;
    if (parameters == NULL || (!of_last && !text->verdict.pivot)) {
        return 0;
    }
    for (size_t i = 0; i < parameters->count; i++) {
        char number[24];
        struct shim_value value = {.name = parameters->items[i].name,
                                   .value = parameters->items[i].value};
        if (!parameters->named) {
            (void)snprintf(number, sizeof(number), "%zu", i + 1);
            value.name = str_of(number);
        }
        bool asked = shim_parsed_asks(text->parsed, index, value.name);
        bool required = of_last && (!loose || is_positional(value.name));
        if (asked || required) {
            value.name = str_make(mem_copy_bytes(value.name.ptr, value.name.len), value.name.len);
            values[count++] = value;
        }
    }
    return count;
}

/* COMMIT and ROLLBACK of nothing and BEGIN inside a transaction are the client's mistakes; the
 * engine's class for them is that of conflicts. */
static void blame_control(struct request *run, duckdb_statement_type type, bool was_inside)
{
    bool still_inside = shim_in_transaction(run->connection);
    if (type == DUCKDB_STATEMENT_TYPE_TRANSACTION && was_inside == still_inside &&
        run->done->fault == WORKER_FAULT_CONFLICT) {
        run->done->fault = WORKER_FAULT_STATEMENT;
        run->done->kind = ERR_INVALID;
    }
}

static bool execute(struct request *run, struct request_text *text, size_t index,
                    const struct shim_plan_options *options, duckdb_result *ret_result)
{
    struct shim_failure failure = {0};
    struct shim_copy_options copy = {
        .plan = *options, .path = text->parquet_path, .rows_max = text->parquet_rows_max};
    if (copy.path != NULL && index == text->answer &&
        !shim_parsed_copy_to(run->connection, text->parsed, index, &copy, &failure)) {
        return request_fail_shim(run, &failure);
    }
    CLEANUP(duckdb_destroy_pending)
    duckdb_pending_result pending =
        shim_plan(run->connection, text->parsed, index, options, &failure);
    if (pending == NULL || !crew_work(run->duck->crew, run->connection, pending, &failure)) {
        return request_fail_shim(run, &failure);
    }
    return duckdb_execute_pending(pending, ret_result) == DuckDBSuccess ||
           request_fail_result(run, ret_result, NULL);
}

static bool run_statement(struct request *run, struct request_text *text, size_t index,
                          const struct parameters *parameters, duckdb_result *ret_result)
{
    duckdb_statement_type type = shim_parsed_type(text->parsed, index);
    bool was_inside = shim_in_transaction(run->connection);
    size_t room = parameters == NULL ? 0 : parameters->count;
    struct shim_value *values = mem_alloc_array(room + 1, sizeof(*values));
    struct shim_plan_options options = {
        .values = values,
        .values_count = choose_values(run, text, index, parameters, values),
        .reads_only = run->request->role == WORKER_ROLE_READ && is_reading(type),
        .stream = index == text->answer,
    };
    bool good = execute(run, text, index, &options, ret_result);
    if (!good) {
        blame_control(run, type, was_inside);
    }
    for (size_t i = 0; i < options.values_count; i++) {
        mem_free((char *)(uintptr_t)values[i].name.ptr);
    }
    mem_free(values);
    return good;
}

static bool run_range(struct request *run, struct request_text *text, size_t first, size_t end,
                      const struct parameters *parameters)
{
    bool good = true;
    for (size_t i = first; good && i < end; i++) {
        CLEANUP(duckdb_destroy_result) duckdb_result ignored = {0};
        good = run_statement(run, text, i, parameters, &ignored);
        if (good && channel_cancelled(run->channel)) {
            good = request_fail(run, ERR_STOPPED, WORKER_FAULT_STOPPED,
                                STR("INTERRUPT Error: Interrupted!"));
        }
    }
    return good;
}

bool request_text_run(struct request *run, struct request_text *text,
                      const struct parameters *parameters, duckdb_result *ret_result)
{
    return run_range(run, text, 0, text->answer, parameters) &&
           run_statement(run, text, text->answer, parameters, ret_result);
}

bool request_text_end(struct request *run, struct request_text *text)
{
    return run_range(run, text, text->answer + 1, text->count, NULL);
}
