// In C++ for the same reason as worker_shim.cpp: DuckDB's C API has no words for this.

#include "worker_shim_statement.h"

#include "worker_shim.h"

#include <cstdlib>
#include <cstring>
#include <duckdb/common/error_data.hpp>
#include <duckdb/execution/executor.hpp>
#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_config.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/connection.hpp>
#include <duckdb/main/pending_query_result.hpp>
#include <duckdb/main/prepared_statement.hpp>
#include <duckdb/parallel/task_scheduler.hpp>
#include <duckdb/parser/expression/cast_expression.hpp>
#include <duckdb/parser/expression/columnref_expression.hpp>
#include <duckdb/parser/expression/constant_expression.hpp>
#include <duckdb/parser/parsed_data/copy_info.hpp>
#include <duckdb/parser/query_node/select_node.hpp>
#include <duckdb/parser/result_modifier.hpp>
#include <duckdb/parser/statement/copy_statement.hpp>
#include <duckdb/parser/statement/insert_statement.hpp>
#include <duckdb/parser/statement/select_statement.hpp>
#include <duckdb/parser/statement/set_statement.hpp>
#include <duckdb/parser/tableref/emptytableref.hpp>
#include <duckdb/parser/tableref/expressionlistref.hpp>
#include <duckdb/parser/tableref/subqueryref.hpp>
#include <duckdb/storage/buffer_manager.hpp>

using namespace duckdb;

struct shim_parsed {
    vector<unique_ptr<SQLStatement>> statements;
    vector<StatementType> types; // what they were before they were used up
    vector<bool> added;          // the engine made them of another one
};

namespace
{

char *CopyText(const string &text)
{
    auto copy = reinterpret_cast<char *>(duckdb_malloc(text.size() + 1));
    if (copy != nullptr) {
        memcpy(copy, text.c_str(), text.size() + 1);
    }
    return copy;
}

void Fail(shim_failure *failure, const ErrorData &error)
{
    failure->type = ErrorTypeToC(error.Type());
    failure->text = CopyText(error.Message());
}

Connection &Of(duckdb_connection connection)
{
    return *reinterpret_cast<Connection *>(connection);
}

string TextOf(str text)
{
    return string(text.ptr, text.len);
}

// Runs what may throw; whatever it throws is the failure.
template <class WORK> bool Guarded(shim_failure *failure, WORK work)
{
    try {
        work();
        return true;
    } catch (std::exception &error) {
        Fail(failure, ErrorData(error));
    } catch (...) {
        Fail(failure, ErrorData(ExceptionType::INTERNAL, "unknown"));
    }
    return false;
}

// A value: a constant, a parameter, or one of them with a type.
bool IsValue(const ParsedExpression &expression)
{
    if (expression.GetExpressionType() == ExpressionType::OPERATOR_CAST) {
        return IsValue(*expression.Cast<CastExpression>().child);
    }
    return expression.GetExpressionType() == ExpressionType::VALUE_CONSTANT ||
           expression.GetExpressionType() == ExpressionType::VALUE_PARAMETER;
}

// SELECT 1, SELECT $v: what a pool of connections asks to see that somebody is there.
bool SelectsValues(const QueryNode &query)
{
    if (query.type != QueryNodeType::SELECT_NODE || !query.modifiers.empty() ||
        !query.cte_map.map.empty()) {
        return false;
    }
    auto &select = query.Cast<SelectNode>();
    bool plain = select.from_table && select.from_table->type == TableReferenceType::EMPTY_FROM &&
                 !select.where_clause && !select.having && !select.qualify && !select.sample &&
                 select.groups.group_expressions.empty() && select.groups.grouping_sets.empty();
    for (auto &expression : select.select_list) {
        plain = plain && IsValue(*expression);
    }
    return plain;
}

// INSERT INTO t VALUES ($a, $b), (1, 2): most of what writes row by row.
bool InsertsValues(const InsertStatement &insert)
{
    auto rows = insert.GetValuesList();
    bool plain = rows && insert.cte_map.map.empty() && insert.returning_list.empty() &&
                 !insert.on_conflict_info;
    if (plain) {
        for (auto &row : rows->values) {
            for (auto &expression : row) {
                plain = plain && IsValue(*expression);
            }
        }
    }
    return plain;
}

// The optimizer has nothing to do on it.
bool IsOfValues(const SQLStatement &statement)
{
    switch (statement.type) {
    case StatementType::SELECT_STATEMENT:
        return SelectsValues(*statement.Cast<SelectStatement>().node);
    case StatementType::INSERT_STATEMENT:
        return InsertsValues(statement.Cast<InsertStatement>());
    default:
        return false;
    }
}

// Leaves out what this statement has no use for: a third of the work on a small one.
void Economize(ClientContext &context, const SQLStatement &statement)
{
    auto &config = ClientConfig::GetConfig(context);
    bool measured = statement.type == StatementType::EXPLAIN_STATEMENT;
    config.profiler_settings = measured ? MetricsUtils::GetDefaultMetrics() : profiler_settings_t();
    config.enable_optimizer = !IsOfValues(statement);
}

unique_ptr<PendingQueryResult> Plan(Connection &connection, unique_ptr<SQLStatement> statement,
                                    const shim_plan_options &options)
{
    case_insensitive_map_t<BoundParameterData> values;
    for (size_t i = 0; i < options.values_count; i++) {
        auto &value = *reinterpret_cast<Value *>(options.values[i].value);
        values[TextOf(options.values[i].name)] = BoundParameterData(value);
    }
    if (values.empty() && !statement->named_param_map.empty()) {
        throw InvalidInputException("Expected %llu parameters, but none were supplied",
                                    statement->named_param_map.size());
    }
    PreparedStatement::VerifyParameters(values, statement->named_param_map);
    Economize(*connection.context, *statement);
    QueryParameters parameters(options.stream ? QueryResultOutputType::ALLOW_STREAMING
                                              : QueryResultOutputType::FORCE_MATERIALIZED);
    shim_plans_only_read(reinterpret_cast<duckdb_connection>(&connection), options.reads_only);
    auto pending = values.empty()
                       ? connection.context->PendingQuery(std::move(statement), parameters)
                       : connection.context->PendingQuery(std::move(statement), values, parameters);
    if (pending->HasError()) {
        pending->ThrowError();
    }
    // The plans are watched; this is for what is planned without the optimizer.
    if (options.reads_only && !pending->properties.IsReadOnly()) {
        pending->Close();
        throw PermissionException(SHIM_ONLY_READS);
    }
    return pending;
}

// None of the text: what the engine makes itself has no place in it.
bool IsAdded(const SQLStatement &statement)
{
    return statement.stmt_length == 0;
}

// Of an ALTER inside a transaction the engine makes statements that also say, by a setting, that
// whatever fails ends the transaction. Here it does so anyway, and settings are locked.
bool IsPolicy(const SQLStatement &statement)
{
    return statement.type == StatementType::SET_STATEMENT && IsAdded(statement) &&
           statement.Cast<SetStatement>().name == "current_transaction_invalidation_policy";
}

// Names that no reader of Parquet confuses: a, a_1, a_2, ...
vector<string> DistinctNames(const vector<string> &names)
{
    case_insensitive_set_t used(names.begin(), names.end());
    case_insensitive_map_t<idx_t> seen;
    vector<string> distinct;
    for (auto &name : names) {
        auto &count = seen[name];
        auto candidate = name;
        for (bool repeated = count > 0; repeated; repeated = !used.insert(candidate).second) {
            candidate = name + "_" + std::to_string(count++);
        }
        count += count == 0;
        distinct.push_back(candidate);
    }
    return distinct;
}

LogicalType ParquetType(LogicalType type)
{
    auto kept = shim_parquet_type(reinterpret_cast<duckdb_logical_type>(&type));
    if (kept == nullptr) {
        return type;
    }
    LogicalType result = *reinterpret_cast<LogicalType *>(kept);
    duckdb_destroy_logical_type(&kept);
    return result;
}

// The query, with each column cast to what a file keeps of it: (SELECT ...) AS r(c0, c1, ...).
unique_ptr<QueryNode> Keeping(unique_ptr<QueryNode> query, const PendingQueryResult &plan,
                              uint64_t rows_max)
{
    auto inner = make_uniq<SelectStatement>();
    inner->node = std::move(query);
    auto rows = make_uniq<SubqueryRef>(std::move(inner), "r");
    auto names = DistinctNames(plan.names);
    auto outer = make_uniq<SelectNode>();
    for (idx_t i = 0; i < plan.types.size(); i++) {
        auto column = "c" + std::to_string(i);
        rows->column_name_alias.push_back(column);
        unique_ptr<ParsedExpression> value = make_uniq<ColumnRefExpression>(column, "r");
        auto type = ParquetType(plan.types[i]);
        if (type != plan.types[i]) {
            value = make_uniq<CastExpression>(type, std::move(value));
        }
        value->SetAlias(names[i]);
        outer->select_list.push_back(std::move(value));
    }
    outer->from_table = std::move(rows);
    if (rows_max > 0) {
        auto limit = make_uniq<LimitModifier>();
        limit->limit = make_uniq<ConstantExpression>(Value::UBIGINT(rows_max));
        outer->modifiers.push_back(std::move(limit));
    }
    return std::move(outer);
}

unique_ptr<SQLStatement> CopyOf(unique_ptr<SQLStatement> statement, const PendingQueryResult &plan,
                                const shim_copy_options &options)
{
    auto copy = make_uniq<CopyStatement>();
    auto query = std::move(statement->Cast<SelectStatement>().node);
    copy->info->select_statement = Keeping(std::move(query), plan, options.rows_max);
    copy->info->is_from = false;
    copy->info->format = "parquet";
    copy->info->is_format_auto_detected = false;
    copy->info->file_path = options.path;
    copy->info->options["compression"] = {Value("zstd")};
    copy->named_param_map = std::move(statement->named_param_map);
    copy->query = std::move(statement->query);
    copy->stmt_location = statement->stmt_location;
    copy->stmt_length = statement->stmt_length;
    return std::move(copy);
}

} // namespace

extern "C" shim_parsed *shim_parse(duckdb_connection connection, str text,
                                   shim_failure *ret_failure)
{
    auto parsed = make_uniq<shim_parsed>();
    bool good = Guarded(ret_failure, [&]() {
        for (auto &statement : Of(connection).context->ParseStatements(TextOf(text))) {
            if (IsPolicy(*statement)) {
                continue;
            }
            parsed->types.push_back(statement->type);
            parsed->added.push_back(IsAdded(*statement));
            parsed->statements.push_back(std::move(statement));
        }
    });
    return good ? parsed.release() : nullptr;
}

extern "C" void shim_parsed_destroy(shim_parsed *parsed)
{
    delete parsed;
}

extern "C" size_t shim_parsed_count(const shim_parsed *parsed)
{
    return parsed->types.size();
}

extern "C" duckdb_statement_type shim_parsed_type(const shim_parsed *parsed, size_t index)
{
    return StatementTypeToC(parsed->types[index]);
}

extern "C" bool shim_parsed_is_added(const shim_parsed *parsed, size_t index)
{
    return parsed->added[index];
}

extern "C" size_t shim_parsed_asks_count(const shim_parsed *parsed, size_t index)
{
    return parsed->statements[index]->named_param_map.size();
}

extern "C" bool shim_parsed_asks(const shim_parsed *parsed, size_t index, str name)
{
    auto &names = parsed->statements[index]->named_param_map;
    return !names.empty() && names.find(TextOf(name)) != names.end();
}

extern "C" duckdb_pending_result shim_plan(duckdb_connection connection, shim_parsed *parsed,
                                           size_t index, const shim_plan_options *options,
                                           shim_failure *ret_failure)
{
    auto wrapper = make_uniq<PendingStatementWrapper>();
    bool good = Guarded(ret_failure, [&]() {
        wrapper->allow_streaming = options->stream;
        wrapper->statement = Plan(Of(connection), std::move(parsed->statements[index]), *options);
    });
    return good ? reinterpret_cast<duckdb_pending_result>(wrapper.release()) : nullptr;
}

extern "C" enum shim_step shim_step(duckdb_pending_result pending, shim_failure *ret_failure)
{
    auto &statement = *reinterpret_cast<PendingStatementWrapper *>(pending)->statement;
    auto result = PendingExecutionResult::EXECUTION_ERROR;
    bool good = Guarded(ret_failure, [&]() {
        result = statement.ExecuteTask();
        if (result == PendingExecutionResult::EXECUTION_ERROR) {
            statement.ThrowError();
        }
    });
    if (!good) {
        return SHIM_STEP_FAILED;
    }
    if (PendingQueryResult::IsResultReady(result)) {
        return SHIM_STEP_READY;
    }
    return result == PendingExecutionResult::RESULT_NOT_READY ? SHIM_STEP_MORE : SHIM_STEP_NOTHING;
}

extern "C" size_t shim_statement_tasks(duckdb_connection connection)
{
    auto &executor = Executor::Get(*Of(connection).context);
    auto &token = executor.GetToken();
    return token.scheduler.GetTaskCountForProducer(token);
}

extern "C" size_t shim_tasks_count(duckdb_database database)
{
    auto &instance = *reinterpret_cast<DatabaseWrapper *>(database)->database->instance;
    return TaskScheduler::GetScheduler(instance).GetNumberOfTasks();
}

extern "C" bool shim_parsed_copy_to(duckdb_connection connection, shim_parsed *parsed, size_t index,
                                    const shim_copy_options *options, shim_failure *ret_failure)
{
    return Guarded(ret_failure, [&]() {
        auto &statement = parsed->statements[index];
        if (parsed->types[index] != StatementType::SELECT_STATEMENT) {
            throw InvalidInputException("only a query has rows for a Parquet file");
        }
        auto plan = Plan(Of(connection), statement->Copy(), options->plan);
        statement = CopyOf(std::move(statement), *plan, *options);
    });
}

extern "C" bool shim_in_transaction(duckdb_connection connection)
{
    return !Of(connection).context->transaction.IsAutoCommit();
}

extern "C" bool shim_transaction_changed(duckdb_connection connection)
{
    bool changed = true;
    shim_failure ignored = {};
    (void)Guarded(&ignored, [&]() {
        auto &transaction = Of(connection).context->transaction;
        changed = transaction.HasActiveTransaction() &&
                  transaction.ActiveTransaction().ModifiedDatabase() != nullptr;
    });
    duckdb_free(ignored.text);
    return changed;
}

extern "C" uint64_t shim_memory_used(duckdb_connection connection)
{
    uint64_t used = 0;
    shim_failure ignored = {};
    (void)Guarded(&ignored, [&]() {
        used = BufferManager::GetBufferManager(*Of(connection).context).GetUsedMemory();
    });
    duckdb_free(ignored.text);
    return used;
}
