// The second C++ file, for the same reason as worker_shim.cpp: DuckDB's C API has no words for this.

#include "worker_shim_statement.h"

#include <cstdlib>
#include <cstring>
#include <duckdb/common/error_data.hpp>
#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/connection.hpp>
#include <duckdb/main/pending_query_result.hpp>
#include <duckdb/main/prepared_statement.hpp>
#include <duckdb/parser/parsed_data/copy_info.hpp>
#include <duckdb/parser/statement/copy_statement.hpp>
#include <duckdb/parser/statement/select_statement.hpp>
#include <duckdb/storage/buffer_manager.hpp>

using namespace duckdb;

struct shim_parsed {
    vector<unique_ptr<SQLStatement>> statements;
    vector<StatementType> types; // what they were before they were used up
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

duckdb_pending_result Plan(Connection &connection, unique_ptr<SQLStatement> statement,
                           const shim_plan_options &options)
{
    case_insensitive_map_t<BoundParameterData> values;
    for (size_t i = 0; i < options.values_count; i++) {
        auto &value = *reinterpret_cast<Value *>(options.values[i].value);
        values[TextOf(options.values[i].name)] = BoundParameterData(value);
    }
    // What PREPARE and EXECUTE would check; without any value the engine's own words are better.
    if (!values.empty()) {
        PreparedStatement::VerifyParameters(values, statement->named_param_map);
    }
    QueryParameters parameters(options.stream ? QueryResultOutputType::ALLOW_STREAMING
                                              : QueryResultOutputType::FORCE_MATERIALIZED);
    auto pending = values.empty()
                       ? connection.context->PendingQuery(std::move(statement), parameters)
                       : connection.context->PendingQuery(std::move(statement), values, parameters);
    if (pending->HasError()) {
        pending->ThrowError();
    }
    if (options.reads_only && !pending->properties.IsReadOnly()) {
        pending->Close();
        throw PermissionException("this statement changes something: it needs a role that may");
    }
    auto wrapper = make_uniq<PendingStatementWrapper>();
    wrapper->allow_streaming = options.stream;
    wrapper->statement = std::move(pending);
    return reinterpret_cast<duckdb_pending_result>(wrapper.release());
}

unique_ptr<SQLStatement> CopyOf(unique_ptr<SQLStatement> statement, const char *path)
{
    auto copy = make_uniq<CopyStatement>();
    auto names = std::move(statement->named_param_map);
    copy->info->select_statement = std::move(statement->Cast<SelectStatement>().node);
    copy->info->is_from = false;
    copy->info->format = "parquet";
    copy->info->is_format_auto_detected = false;
    copy->info->file_path = path;
    copy->info->options["compression"] = {Value("zstd")};
    copy->named_param_map = std::move(names);
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
        parsed->statements = Of(connection).context->ParseStatements(TextOf(text));
        for (auto &statement : parsed->statements) {
            parsed->types.push_back(statement->type);
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
    duckdb_pending_result planned = nullptr;
    (void)Guarded(ret_failure, [&]() {
        planned = Plan(Of(connection), std::move(parsed->statements[index]), *options);
    });
    return planned;
}

extern "C" bool shim_parsed_copy_to(shim_parsed *parsed, size_t index, const char *path,
                                    shim_failure *ret_failure)
{
    return Guarded(ret_failure, [&]() {
        if (parsed->types[index] != StatementType::SELECT_STATEMENT) {
            throw InvalidInputException("only a query has rows to export");
        }
        parsed->statements[index] = CopyOf(std::move(parsed->statements[index]), path);
    });
}

extern "C" bool shim_in_transaction(duckdb_connection connection)
{
    return !Of(connection).context->transaction.IsAutoCommit();
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
