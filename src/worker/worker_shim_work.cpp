// In C++ for the same reason as worker_shim.cpp: DuckDB's C API has no words for this.

#include "worker_shim_work.h"

#include <chrono>
#include <duckdb/common/error_data.hpp>
#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/connection.hpp>
#include <duckdb/main/pending_query_result.hpp>
#include <duckdb/main/stream_query_result.hpp>
#include <thread>

using namespace duckdb;

namespace
{

bool Tell(const PendingQueryResult &pending, duckdb_error_type *ret_type)
{
    bool good = !pending.HasError();
    *ret_type = good ? DUCKDB_ERROR_INVALID : ErrorTypeToC(pending.GetErrorType());
    return good;
}

// Of who has asked for work in vain so many times: a short wait is not worth a sleep.
void PauseAfter(unsigned asked)
{
    const unsigned asked_max = 20;
    if (asked > asked_max) {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

void WorkUntilReady(PendingQueryResult &pending)
{
    unsigned asked = 0;
    for (;;) {
        auto state = pending.ExecuteTask();
        if (PendingQueryResult::IsResultReady(state)) {
            return;
        }
        asked = state == PendingExecutionResult::NO_TASKS_AVAILABLE ? asked + 1 : 0;
        if (state == PendingExecutionResult::BLOCKED) {
            pending.WaitForTask();
        } else {
            PauseAfter(asked);
        }
    }
}

// The engine does not tell here whether there was a task: one takes longer than to find none.
void WorkUntilChunk(StreamQueryResult &stream)
{
    const std::chrono::microseconds task_min(10);
    unsigned asked = 0;
    for (;;) {
        auto start = std::chrono::steady_clock::now();
        auto state = stream.ExecuteTask();
        if (StreamQueryResult::IsChunkReady(state)) {
            return;
        }
        bool worked = std::chrono::steady_clock::now() - start >= task_min;
        asked = worked ? 0 : asked + 1;
        if (state == StreamExecutionResult::BLOCKED) {
            stream.WaitForTask();
        } else {
            PauseAfter(asked);
        }
    }
}

} // namespace

extern "C" bool shim_start_whole(duckdb_connection connection,
                                 duckdb_extracted_statements statements, uint64_t index,
                                 duckdb_pending_result *ret_pending, duckdb_error_type *ret_type)
{
    auto wrapper = make_uniq<PendingStatementWrapper>();
    wrapper->allow_streaming = false;
    try {
        auto &context = *reinterpret_cast<Connection *>(connection)->context;
        auto &list = reinterpret_cast<ExtractStatementsWrapper *>(statements)->statements;
        wrapper->statement = context.PendingQuery(std::move(list[index]), QueryParameters(false));
    } catch (std::exception &caught) {
        wrapper->statement = make_uniq<PendingQueryResult>(ErrorData(caught));
    }
    bool good = Tell(*wrapper->statement, ret_type);
    *ret_pending = reinterpret_cast<duckdb_pending_result>(wrapper.release());
    return good;
}

extern "C" bool shim_work(duckdb_pending_result pending_p, duckdb_error_type *ret_type)
{
    auto &pending = *reinterpret_cast<PendingStatementWrapper *>(pending_p)->statement;
    try {
        WorkUntilReady(pending);
    } catch (std::exception &caught) {
        pending.SetError(ErrorData(caught));
    }
    return Tell(pending, ret_type);
}

extern "C" duckdb_data_chunk shim_fetch(duckdb_result *result)
{
    auto &set = *reinterpret_cast<DuckDBResultData *>(result->internal_data)->result;
    try {
        if (set.type == QueryResultType::STREAM_RESULT && !set.HasError()) {
            WorkUntilChunk(set.Cast<StreamQueryResult>());
        }
    } catch (std::exception &caught) {
        set.SetError(ErrorData(caught));
    }
    return set.HasError() ? nullptr : duckdb_fetch_chunk(*result);
}
