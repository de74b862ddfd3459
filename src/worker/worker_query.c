#include "mem.h"
#include "worker_guard.h"
#include "worker_layers.h"
#include "worker_params.h"
#include "worker_run.h"
#include "worker_shim.h"
#include "worker_shim_work.h"
#include "worker_text.h"

#include <stdio.h>

/* One statement on its way: what its steps share. */
struct query {
    struct duck *duck;
    struct channel *channel;
    const struct worker_job *job;
    const struct parameters *parameters;
    bool pivot;
    bool answered; /* the one result has been sent */
    struct encode_outcome outcome;
};

struct name_list {
    struct buf *names;
    uint64_t count;
};

static void put_name(void *context, struct str name)
{
    struct name_list *list = context;
    worker_put_text(list->names, name);
    list->count++;
}

static uint64_t put_all_names(struct str statement, struct buf *names)
{
    struct name_list list = {.names = names};
    worker_visit_names(statement, put_name, &list);
    return list.count;
}

/* The engine leaves out names of its own views: a client's table may have such a name. */
static void put_catalog_name(void *context, struct str name)
{
    if (worker_is_catalog_name(name)) {
        put_name(context, name);
    }
}

static uint64_t put_catalog_names(struct str statement, struct buf *names)
{
    struct name_list list = {.names = names};
    worker_visit_names(statement, put_catalog_name, &list);
    return list.count;
}

static uint64_t put_names(duckdb_value list, struct buf *names)
{
    uint64_t count = duckdb_get_list_size(list);
    for (uint64_t i = 0; i < count; i++) {
        duckdb_value name = duckdb_get_list_child(list, i);
        char *text = duckdb_get_varchar(name);
        worker_put_text(names, str_of(text));
        duckdb_free(text);
        duckdb_destroy_value(&name);
    }
    return count;
}

/* RESOLVE: u32 all, u64 count, names. The engine lists a statement's tables, but for a PIVOT, and
 * for a JOIN ... USING, whose columns it does not know yet: there every name of the text is asked
 * for. */
static void ask_tables(struct duck *duck, struct channel *channel, const char *statement,
                       const struct guard_verdict *verdict, struct buf *answer)
{
    struct buf names;
    struct buf body;
    buf_init(&names, WORKER_FRAME_SIZE_MAX / 2);
    buf_init(&body, WORKER_FRAME_SIZE_MAX);
    duckdb_value list =
        verdict->pivot ? NULL : duckdb_get_table_names(duck->connection, statement, false);
    uint64_t count =
        list == NULL ? put_all_names(str_of(statement), &names) : put_names(list, &names);
    if (list != NULL) {
        count += put_catalog_names(str_of(statement), &names);
    }
    duckdb_destroy_value(&list);
    worker_put_u32(&body, verdict->catalog);
    worker_put_u64(&body, count);
    buf_append(&body, buf_str(&names));
    channel_ask(channel, WORKER_RESOLVE, buf_str(&body), answer, NULL);
    buf_finish(&names);
    buf_finish(&body);
}

static bool resolve_tables(struct duck *duck, struct channel *channel, const char *statement,
                           const struct guard_verdict *verdict, struct err *err)
{
    struct buf answer;
    buf_init(&answer, WORKER_FRAME_SIZE_MAX);
    ask_tables(duck, channel, statement, verdict, &answer);
    bool good = tables_create(duck, channel, buf_str(&answer), err);
    buf_finish(&answer);
    return good;
}

static bool is_reading(duckdb_statement_type type)
{
    return type == DUCKDB_STATEMENT_TYPE_SELECT || type == DUCKDB_STATEMENT_TYPE_EXPLAIN;
}

/* What the engine makes of a PIVOT besides the query itself. A client cannot write these: its text
 * is one statement that reads. */
static bool is_helper(duckdb_statement_type type)
{
    return type == DUCKDB_STATEMENT_TYPE_CREATE || type == DUCKDB_STATEMENT_TYPE_TRANSACTION;
}

/* Asking for the type of a failed prepare throws through the C boundary and would end the process:
 * ask only here. */
static bool prepare(struct query *query, duckdb_extracted_statements statements, idx_t index,
                    duckdb_prepared_statement *ret_prepared, duckdb_statement_type *ret_type,
                    struct err *err)
{
    if (duckdb_prepare_extracted_statement(query->duck->connection, statements, index,
                                           ret_prepared) != DuckDBSuccess) {
        return duck_fail(err, DUCKDB_ERROR_INVALID, duckdb_prepare_error(*ret_prepared));
    }
    *ret_type = duckdb_prepared_statement_type(*ret_prepared);
    if (!is_reading(*ret_type) && !(query->pivot && is_helper(*ret_type))) {
        return err_set(err, ERR_INVALID, "only statements that read are allowed");
    }
    bool bare_helper = !is_reading(*ret_type) && duckdb_nparams(*ret_prepared) == 0;
    return bare_helper || parameters_bind(query->parameters, *ret_prepared, err);
}

static bool execute(struct query *query, duckdb_pending_result pending, struct err *err)
{
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    duckdb_error_type type;
    if (!shim_work(pending, &type)) {
        return duck_fail(err, type, duckdb_pending_error(pending));
    }
    if (duckdb_execute_pending(pending, &result) != DuckDBSuccess) {
        return duck_fail(err, duckdb_result_error_type(&result), duckdb_result_error(&result));
    }
    struct encode_options options = {
        .format = (enum worker_format)query->job->format,
        .rows_max = query->job->rows_max,
    };
    return encode_result(query->duck, query->channel, &result, &options, &query->outcome, err);
}

static bool answer(struct query *query, duckdb_prepared_statement prepared, struct err *err)
{
    if (query->answered) {
        return err_set(err, ERR_INVALID, "only one statement is allowed");
    }
    query->answered = true;
    CLEANUP(duckdb_destroy_pending) duckdb_pending_result pending = NULL;
    return duckdb_pending_prepared_streaming(prepared, &pending) == DuckDBSuccess
               ? execute(query, pending, err)
               : duck_fail(err, DUCKDB_ERROR_INVALID, duckdb_pending_error(pending));
}

static bool run_prepared(struct query *query, duckdb_extracted_statements statements, idx_t index,
                         struct err *err)
{
    CLEANUP(duckdb_destroy_prepare) duckdb_prepared_statement prepared = NULL;
    duckdb_statement_type type = DUCKDB_STATEMENT_TYPE_INVALID;
    if (!prepare(query, statements, index, &prepared, &type, err)) {
        return false;
    }
    if (is_reading(type)) {
        return answer(query, prepared, err);
    }
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    return duckdb_execute_prepared(prepared, &result) == DuckDBSuccess ||
           duck_fail(err, duckdb_result_error_type(&result), duckdb_result_error(&result));
}

/* Nearly every statement: one that reads, without parameters. */
static bool run_plain(struct query *query, duckdb_extracted_statements statements, struct err *err)
{
    CLEANUP(duckdb_destroy_pending) duckdb_pending_result pending = NULL;
    duckdb_error_type type;
    return shim_start_statement(query->duck->connection, statements, 0, &pending, &type)
               ? execute(query, pending, err)
               : duck_fail(err, type, duckdb_pending_error(pending));
}

static bool is_plain(const struct query *query, duckdb_extracted_statements statements)
{
    duckdb_statement_type type;
    return !query->pivot && shim_look_at_statement(statements, 0, &type) && is_reading(type) &&
           query->parameters->count == 0;
}

/* A PIVOT without an IN list comes out as several statements, of which one is the query, and each
 * can be prepared only when those before it have run. Everything else is one. */
static bool run_statements(struct query *query, const char *statement, struct err *err)
{
    CLEANUP(duckdb_destroy_extracted) duckdb_extracted_statements statements = NULL;
    idx_t count = duckdb_extract_statements(query->duck->connection, statement, &statements);
    if (count == 0) {
        return duck_fail(err, DUCKDB_ERROR_PARSER, duckdb_extract_statements_error(statements));
    }
    if (count > 1 && !query->pivot) {
        return err_set(err, ERR_INVALID, "only one statement is allowed");
    }
    if (is_plain(query, statements)) {
        return run_plain(query, statements, err);
    }
    bool good = true;
    for (idx_t i = 0; good && i < count; i++) {
        good = run_prepared(query, statements, i, err);
    }
    return good;
}

/* Taking a text apart is not always harmless: for PRAGMA and IMPORT the engine runs what they stand
 * for, and IMPORT DATABASE reads files. */
static bool is_safe_to_parse(struct str text)
{
    static const char *const words[] = {"pragma", "import"};
    for (; text.len > 0; text = str_from(text, 1)) {
        for (size_t i = 0; i < COUNT_OF(words); i++) {
            if (str_starts_nocase(text, str_of(words[i]))) {
                return false;
            }
        }
    }
    return true;
}

/* A refused text that is no SQL at all is told so, in the parser's words. */
static void prefer_parse_error(struct duck *duck, const char *statement, struct err *err)
{
    if (err->kind != ERR_INVALID || !is_safe_to_parse(str_of(statement))) {
        return;
    }
    CLEANUP(duckdb_destroy_extracted) duckdb_extracted_statements statements = NULL;
    idx_t count = duckdb_extract_statements(duck->connection, statement, &statements);
    const char *problem = duckdb_extract_statements_error(statements);
    if (count == 0 && problem != NULL) {
        (void)duck_fail(err, DUCKDB_ERROR_PARSER, problem);
    }
}

bool run_query(struct duck *duck, struct channel *channel, const struct worker_job *job,
               struct encode_outcome *ret_outcome, struct err *err)
{
#ifdef EIDER_TEST_LAYERS
    if (!WORKER_LAYER_ON(&job->limits, WORKER_LAYER_GUARD)) {
        return run_unjudged(duck, channel, job, &ret_outcome->rows, err);
    }
#endif
    struct guard_verdict verdict;
    CLEANUP(mem_free_text)
    char *statement = mem_copy_bytes(job->statement.ptr, job->statement.len);
    if (!guard_check(job->statement, &verdict, err)) {
        prefer_parse_error(duck, statement, err);
        return false;
    }
    CLEANUP(parameters_finish) struct parameters parameters = {0};
    struct query query = {
        .duck = duck,
        .channel = channel,
        .job = job,
        .parameters = &parameters,
        .pivot = verdict.pivot,
    };
    bool good = parameters_read(&parameters, job->parameters, err) &&
                resolve_tables(duck, channel, statement, &verdict, err) &&
                run_statements(&query, statement, err);
    *ret_outcome = query.outcome;
    return good;
}
