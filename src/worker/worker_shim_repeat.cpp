// In C++ for the same reason as worker_shim.cpp: DuckDB's C API has no words for this.

#include "worker_shim_statement.h"

#include <duckdb/main/capi/capi_internal.hpp>
#include <duckdb/main/client_context.hpp>
#include <duckdb/main/client_context_state.hpp>
#include <duckdb/main/connection.hpp>
#include <duckdb/optimizer/optimizer.hpp>
#include <duckdb/optimizer/optimizer_extension.hpp>
#include <duckdb/planner/binder.hpp>
#include <duckdb/planner/expression.hpp>
#include <duckdb/planner/logical_operator_visitor.hpp>
#include <duckdb/planner/operator/logical_get.hpp>

using namespace duckdb;

namespace
{

const char *const STATE_NAME = "eider_plans";

struct Plans : public ClientContextState {
    bool changing = false;
    bool only_read = false;
};

// A table function that shows no data: duckdb_settings(), pragma_database_size().
bool IsOfSystem(const string &name)
{
    return name.rfind("duckdb_", 0) == 0 || name.rfind("pragma_", 0) == 0;
}

// True when the same plan over the same data may have another answer: a time, a random number, a
// sequence, a sample, the state of the engine. Views and macros are part of a plan.
bool Changes(LogicalOperator &plan)
{
    bool changes = plan.type == LogicalOperatorType::LOGICAL_SAMPLE;
    if (plan.type == LogicalOperatorType::LOGICAL_GET) {
        auto &get = plan.Cast<LogicalGet>();
        changes = !get.GetTable() && IsOfSystem(get.function.name);
    }
    LogicalOperatorVisitor::EnumerateExpressions(plan, [&](unique_ptr<Expression> *expression) {
        changes = changes || (*expression)->IsVolatile() || !(*expression)->IsConsistent();
    });
    for (auto &child : plan.children) {
        changes = changes || Changes(*child);
    }
    return changes;
}

// Before the optimizer makes constants of what it can, and before any task runs: the engine's
// threads take those as soon as there is a plan.
void Look(OptimizerExtensionInput &input, unique_ptr<LogicalOperator> &plan)
{
    auto plans = input.context.registered_state->GetOrCreate<Plans>(STATE_NAME);
    if (plans->only_read && !input.optimizer.binder.GetStatementProperties().IsReadOnly()) {
        throw PermissionException(SHIM_ONLY_READS);
    }
    plans->changing = plans->changing || Changes(*plan);
}

} // namespace

extern "C" bool shim_watch_plans(duckdb_database database)
{
    try {
        auto &instance = *reinterpret_cast<DatabaseWrapper *>(database)->database->instance;
        OptimizerExtension extension;
        extension.pre_optimize_function = Look;
        OptimizerExtension::Register(DBConfig::GetConfig(instance), extension);
        return true;
    } catch (...) {
        return false;
    }
}

extern "C" void shim_plans_only_read(duckdb_connection connection, bool only_read)
{
    auto &context = *reinterpret_cast<Connection *>(connection)->context;
    context.registered_state->GetOrCreate<Plans>(STATE_NAME)->only_read = only_read;
}

extern "C" bool shim_plans_change(duckdb_connection connection)
{
    try {
        auto &context = *reinterpret_cast<Connection *>(connection)->context;
        auto plans = context.registered_state->Get<Plans>(STATE_NAME);
        return plans && plans->changing;
    } catch (...) {
        return true;
    }
}
