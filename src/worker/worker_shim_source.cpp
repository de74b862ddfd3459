// A table function whose rows are made by functions of ours: DuckDB's C API has such functions too,
// but the rows of those come from one thread only when their order counts.

#include "worker_shim.h"

#include <cstdio>
#include <duckdb/catalog/catalog.hpp>
#include <duckdb/function/table_function.hpp>
#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/connection.hpp>
#include <duckdb/parser/parsed_data/create_table_function_info.hpp>

using namespace duckdb;

namespace
{

struct SourceInfo : public TableFunctionInfo {
    shim_source source;
    vector<string> names;
    vector<LogicalType> types;
};

struct SourceBinding : public TableFunctionData {
    explicit SourceBinding(const SourceInfo &info_p) : info(info_p)
    {
    }
    const SourceInfo &info;
};

struct SourceState : public GlobalTableFunctionState {
    explicit SourceState(idx_t threads_p) : threads(threads_p)
    {
    }
    idx_t MaxThreads() const override
    {
        return threads;
    }
    idx_t threads;
};

struct SourceReader : public LocalTableFunctionState {
    explicit SourceReader(const shim_source &source_p)
        : source(source_p), reader(source_p.open(source_p.context))
    {
    }
    ~SourceReader() override
    {
        source.close(reader);
    }
    const shim_source &source;
    void *reader;
    uint64_t batch = 0;
};

const SourceInfo &InfoOf(optional_ptr<const FunctionData> binding)
{
    return binding->Cast<SourceBinding>().info;
}

unique_ptr<FunctionData> BindSource(ClientContext &, TableFunctionBindInput &input,
                                    vector<LogicalType> &types, vector<string> &names)
{
    auto &info = input.info->Cast<SourceInfo>();
    types = info.types;
    names = info.names;
    return make_uniq<SourceBinding>(info);
}

unique_ptr<GlobalTableFunctionState> BeginSource(ClientContext &, TableFunctionInitInput &input)
{
    return make_uniq<SourceState>(InfoOf(input.bind_data).source.threads_max);
}

unique_ptr<LocalTableFunctionState> OpenSource(ExecutionContext &, TableFunctionInitInput &input,
                                               GlobalTableFunctionState *)
{
    return make_uniq<SourceReader>(InfoOf(input.bind_data).source);
}

void ReadSource(ClientContext &, TableFunctionInput &input, DataChunk &output)
{
    auto &state = input.local_state->Cast<SourceReader>();
    char problem[SHIM_TEXT_SIZE] = "";
    if (!state.source.read(state.reader, reinterpret_cast<duckdb_data_chunk>(&output), &state.batch,
                           problem)) {
        throw InvalidInputException("%s", string(problem));
    }
}

OperatorPartitionData BatchOfSource(ClientContext &, TableFunctionGetPartitionInput &input)
{
    if (input.partition_info.RequiresPartitionColumns()) {
        throw InternalException("the rows of a source are in no partitions");
    }
    return OperatorPartitionData(input.local_state->Cast<SourceReader>().batch);
}

} // namespace

extern "C" bool shim_register_source(duckdb_connection connection, const shim_source *source)
{
    try {
        TableFunction function(source->name, {}, ReadSource, BindSource, BeginSource, OpenSource);
        function.get_partition_data = BatchOfSource;
        auto info = make_shared_ptr<SourceInfo>();
        info->source = *source;
        for (size_t i = 0; i < source->columns_count; i++) {
            auto type = duckdb_create_logical_type(source->types[i]);
            info->names.push_back("c" + std::to_string(i));
            info->types.push_back(*reinterpret_cast<LogicalType *>(type));
            duckdb_destroy_logical_type(&type);
        }
        function.function_info = std::move(info);
        CreateTableFunctionInfo create(std::move(function));
        create.on_conflict = OnCreateConflict::REPLACE_ON_CONFLICT;
        auto &context = *reinterpret_cast<Connection *>(connection)->context;
        context.RunFunctionInTransaction(
            [&]() { Catalog::GetSystemCatalog(context).CreateTableFunction(context, create); });
        return true;
    } catch (...) {
        return false;
    }
}
