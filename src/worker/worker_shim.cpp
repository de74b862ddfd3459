// What DuckDB's C API cannot do, such as print one value of a nested vector, its C++ classes can,
// when headers and library are of the same version (checked at build and at start).

#include "worker_shim.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <duckdb/catalog/catalog.hpp>
#include <duckdb/common/enums/database_modification_type.hpp>
#include <duckdb/common/error_data.hpp>
#include <duckdb/common/random_engine.hpp>
#include <duckdb/common/type_visitor.hpp>
#include <duckdb/common/types/value.hpp>
#include <duckdb/common/types/vector.hpp>
#include <duckdb/common/vector_operations/vector_operations.hpp>
#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_config.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/config.hpp>
#include <duckdb/main/connection.hpp>
#include <duckdb/main/settings.hpp>
#include <duckdb/parallel/task_scheduler.hpp>
#include <duckdb/parser/parsed_data/create_view_info.hpp>
#include <duckdb/storage/buffer/buffer_pool.hpp>
#include <duckdb/storage/buffer_manager.hpp>
#include <duckdb/transaction/meta_transaction.hpp>

using namespace duckdb;

namespace
{

void FlattenParts(Vector &vector, idx_t rows)
{
    vector.Flatten(rows);
    switch (vector.GetType().InternalType()) {
    case PhysicalType::STRUCT:
        for (auto &part : StructVector::GetEntries(vector)) {
            FlattenParts(*part, rows);
        }
        break;
    case PhysicalType::LIST:
        FlattenParts(ListVector::GetEntry(vector), ListVector::GetListSize(vector));
        break;
    case PhysicalType::ARRAY:
        FlattenParts(ArrayVector::GetEntry(vector), rows * ArrayType::GetSize(vector.GetType()));
        break;
    default:
        break;
    }
}

void SetGlobalOption(DatabaseInstance &instance, const char *name, const Value &value)
{
    auto &config = DBConfig::GetConfig(instance);
    auto option = DBConfig::GetOptionByName(name);
    if (!option) {
        throw InvalidInputException("the engine has no setting %s", name);
    }
    if (option->set_global) {
        config.SetOption(&instance, *option, value);
    } else {
        config.SetOption(string(name), value);
    }
}

// Never made: it names what it inherits.
struct LimitedPool : public BufferPool {
    static atomic<idx_t> BufferPool::*Limit()
    {
        return &LimitedPool::maximum_memory;
    }
};

// `SET memory_limit` besides gives back all memory that the engine keeps for later, which takes a
// tenth of a small job's time, and the grants of jobs that run together differ.
void SetMemoryLimit(DatabaseInstance &instance, idx_t memory_bytes)
{
    auto &manager = BufferManager::GetBufferManager(instance);
    if (manager.GetUsedMemory() > memory_bytes) {
        throw OutOfMemoryException("the engine uses more than the job may");
    }
    DBConfig::GetConfig(instance).options.maximum_memory = memory_bytes;
    manager.GetBufferPool().*LimitedPool::Limit() = memory_bytes;
    if (manager.GetMaxMemory() != memory_bytes) {
        throw InternalException("the memory limit is not what it was set to");
    }
}

} // namespace

extern "C" bool shim_forget_file_names(duckdb_database database)
{
    try {
        auto wrapper = reinterpret_cast<DatabaseWrapper *>(database);
        DBConfig::GetConfig(*wrapper->database->instance).replacement_scans.clear();
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_lock_limits(duckdb_database database, uint64_t memory_bytes, unsigned threads,
                                 char *problem, size_t size)
{
    try {
        auto &instance = *reinterpret_cast<DatabaseWrapper *>(database)->database->instance;
        SetMemoryLimit(instance, memory_bytes);
        SetGlobalOption(instance, "threads", Value::BIGINT(int64_t(threads)));
        SetGlobalOption(instance, "lock_configuration", Value::BOOLEAN(true));
        // What the engine's own check of each SET looks at. Asking that check costs an exception.
        if (!Settings::Get<LockConfigurationSetting>(instance)) {
            throw InternalException("the configuration does not stay locked");
        }
        return true;
    } catch (std::exception &error) {
        (void)snprintf(problem, size, "%s", ErrorData(error).RawMessage().c_str());
        return false;
    } catch (...) {
        (void)snprintf(problem, size, "unknown");
        return false;
    }
}

extern "C" bool shim_seed_random(duckdb_connection connection, uint64_t seed)
{
    try {
        RandomEngine::Get(*reinterpret_cast<Connection *>(connection)->context).SetSeed(seed);
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_hold_threads(duckdb_database database, unsigned threads)
{
    try {
        auto &instance = *reinterpret_cast<DatabaseWrapper *>(database)->database->instance;
        // This setting is only kept, unlike `threads`: the scheduler has to be told.
        SetGlobalOption(instance, "external_threads", Value::BIGINT(int64_t(threads)));
        auto &scheduler = TaskScheduler::GetScheduler(instance);
        scheduler.SetThreads(threads, threads);
        // Otherwise the next statement sends home those the engine has, by as many wake-ups, which
        // others may take who then wait for tasks.
        scheduler.RelaunchThreads();
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_create_view(duckdb_connection connection, const char *name, const char *query,
                                 char problem[SHIM_TEXT_SIZE])
{
    try {
        auto &context = *reinterpret_cast<Connection *>(connection)->context;
        CreateViewInfo info(INVALID_CATALOG, DEFAULT_SCHEMA, name);
        info.query = CreateViewInfo::ParseSelect(query);
        info.sql = query;
        info.on_conflict = OnCreateConflict::REPLACE_ON_CONFLICT;
        context.RunFunctionInTransaction([&]() {
            auto &catalog = Catalog::GetCatalog(context, INVALID_CATALOG);
            MetaTransaction::Get(context).ModifyDatabase(
                catalog.GetAttached(), DatabaseModificationType::CREATE_CATALOG_ENTRY);
            catalog.CreateView(context, info);
        });
        return true;
    } catch (std::exception &caught) {
        (void)snprintf(problem, SHIM_TEXT_SIZE, "%s", ErrorData(caught).RawMessage().c_str());
        return false;
    }
}

extern "C" bool shim_look_at_statement(duckdb_extracted_statements statements, uint64_t index,
                                       duckdb_statement_type *ret_type)
{
    auto &statement = *reinterpret_cast<ExtractStatementsWrapper *>(statements)->statements[index];
    *ret_type = StatementTypeToC(statement.type);
    return statement.named_param_map.empty();
}

extern "C" bool shim_start_statement(duckdb_connection connection,
                                     duckdb_extracted_statements statements, uint64_t index,
                                     duckdb_pending_result *ret_pending,
                                     duckdb_error_type *ret_type)
{
    auto wrapper = make_uniq<PendingStatementWrapper>();
    wrapper->allow_streaming = true;
    try {
        auto &context = *reinterpret_cast<Connection *>(connection)->context;
        auto &list = reinterpret_cast<ExtractStatementsWrapper *>(statements)->statements;
        wrapper->statement = context.PendingQuery(std::move(list[index]), QueryParameters(true));
    } catch (std::exception &caught) {
        wrapper->statement = make_uniq<PendingQueryResult>(ErrorData(caught));
    }
    bool good = !wrapper->statement->HasError();
    *ret_type = good ? DUCKDB_ERROR_INVALID : ErrorTypeToC(wrapper->statement->GetErrorType());
    *ret_pending = reinterpret_cast<duckdb_pending_result>(wrapper.release());
    return good;
}

extern "C" bool shim_count_progress(duckdb_connection connection)
{
    try {
        auto &config =
            ClientConfig::GetConfig(*reinterpret_cast<Connection *>(connection)->context);
        config.enable_progress_bar = true;
        config.print_progress_bar = false;
        config.wait_time = 0;
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_value_text(duckdb_vector vector_p, uint64_t row,
                                void (*append)(void *, const char *, size_t), void *context)
{
    try {
        auto text = reinterpret_cast<Vector *>(vector_p)->GetValue(row).ToString();
        append(context, text.data(), text.size());
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_flatten(duckdb_vector vector, uint64_t rows)
{
    try {
        FlattenParts(*reinterpret_cast<Vector *>(vector), rows);
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_cast(duckdb_vector from, duckdb_vector into, uint64_t rows,
                          char problem[SHIM_TEXT_SIZE])
{
    try {
        auto &result = *reinterpret_cast<Vector *>(into);
        VectorOperations::DefaultCast(*reinterpret_cast<Vector *>(from), result, rows);
        FlattenParts(result, rows);
        return true;
    } catch (std::exception &caught) {
        (void)snprintf(problem, SHIM_TEXT_SIZE, "%s", ErrorData(caught).RawMessage().c_str());
        return false;
    }
}

extern "C" duckdb_logical_type shim_parquet_type(duckdb_logical_type type)
{
    auto keep = [](const LogicalType &part) -> LogicalType {
        switch (part.id()) {
        case LogicalTypeId::HUGEINT:
            return LogicalType::DECIMAL(38, 0);
        case LogicalTypeId::SQLNULL:
            return LogicalType::INTEGER;
        case LogicalTypeId::ARRAY:
            return LogicalType::LIST(ArrayType::GetChildType(part));
        case LogicalTypeId::UHUGEINT:
        case LogicalTypeId::BIGNUM:
        case LogicalTypeId::BIT:
        case LogicalTypeId::INTERVAL:
        case LogicalTypeId::TIME_TZ:
        case LogicalTypeId::TIME_NS:
        case LogicalTypeId::UNION:
        case LogicalTypeId::VARIANT:
            return LogicalType::VARCHAR;
        default:
            return part;
        }
    };
    auto &mine = *reinterpret_cast<LogicalType *>(type);
    return reinterpret_cast<duckdb_logical_type>(
        new LogicalType(TypeVisitor::VisitReplace(mine, keep)));
}

static LogicalType LineType(const LogicalType &type)
{
    switch (type.id()) {
    case LogicalTypeId::BOOLEAN:
    case LogicalTypeId::TINYINT:
    case LogicalTypeId::SMALLINT:
    case LogicalTypeId::INTEGER:
    case LogicalTypeId::BIGINT:
    case LogicalTypeId::HUGEINT:
    case LogicalTypeId::UTINYINT:
    case LogicalTypeId::USMALLINT:
    case LogicalTypeId::UINTEGER:
    case LogicalTypeId::UBIGINT:
    case LogicalTypeId::UHUGEINT:
    case LogicalTypeId::FLOAT:
    case LogicalTypeId::DOUBLE:
    case LogicalTypeId::DATE:
    case LogicalTypeId::TIMESTAMP:
    case LogicalTypeId::TIMESTAMP_SEC:
    case LogicalTypeId::TIMESTAMP_MS:
    case LogicalTypeId::TIMESTAMP_NS:
    case LogicalTypeId::TIMESTAMP_TZ:
        return LogicalType(type.id());
    case LogicalTypeId::DECIMAL:
        return LogicalType::DECIMAL(DecimalType::GetWidth(type), DecimalType::GetScale(type));
    case LogicalTypeId::LIST:
        return LogicalType::LIST(LineType(ListType::GetChildType(type)));
    case LogicalTypeId::ARRAY:
        return LogicalType::LIST(LineType(ArrayType::GetChildType(type)));
    case LogicalTypeId::MAP:
        return LogicalType::MAP(LogicalType::VARCHAR, LineType(MapType::ValueType(type)));
    case LogicalTypeId::STRUCT: {
        child_list_t<LogicalType> parts;
        for (auto &part : StructType::GetChildTypes(type)) {
            parts.emplace_back(part.first, LineType(part.second));
        }
        return LogicalType::STRUCT(std::move(parts));
    }
    default:
        return LogicalType::VARCHAR;
    }
}

extern "C" duckdb_logical_type shim_line_type(duckdb_logical_type type)
{
    return reinterpret_cast<duckdb_logical_type>(
        new LogicalType(LineType(*reinterpret_cast<LogicalType *>(type))));
}

extern "C" bool shim_type_text(duckdb_logical_type type,
                               void (*append)(void *, const char *, size_t), void *context)
{
    try {
        auto text = reinterpret_cast<LogicalType *>(type)->ToString();
        append(context, text.data(), text.size());
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" bool shim_types_equal(duckdb_logical_type a, duckdb_logical_type b)
{
    return *reinterpret_cast<LogicalType *>(a) == *reinterpret_cast<LogicalType *>(b);
}

extern "C" size_t shim_shortest_digits(double value, char digits[SHIM_DIGITS_SIZE],
                                       int *ret_exponent)
{
    char text[64];
    auto end = std::to_chars(text, text + sizeof(text) - 1, value, std::chars_format::scientific);
    *end.ptr = '\0';
    char *mark = static_cast<char *>(memchr(text, 'e', size_t(end.ptr - text)));
    size_t count = 0;
    for (char *c = text; c < mark; c++) {
        if (*c != '.') {
            digits[count++] = *c;
        }
    }
    while (count > 1 && digits[count - 1] == '0') {
        count--;
    }
    *ret_exponent = int(strtol(mark + 1, nullptr, 10)) + 1;
    return count;
}

extern "C" char *shim_put_double(char *at, double value)
{
    return std::to_chars(at, at + SHIM_DIGITS_SIZE, value).ptr;
}

extern "C" char *shim_put_float(char *at, float value)
{
    return std::to_chars(at, at + SHIM_DIGITS_SIZE, value).ptr;
}

extern "C" const char *shim_get_double(const char *at, const char *end, double *ret_value)
{
    auto read = std::from_chars(at, end, *ret_value);
    return read.ec == std::errc() ? read.ptr : nullptr;
}
