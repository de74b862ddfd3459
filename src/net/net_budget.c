/* Retries are paid for with tokens: a retry costs five, a success gives one back, and a tenth of a
 * second gives one, so that an endpoint that comes back after a long outage is soon treated as
 * before. Rows are few and found by hash; two endpoints that share one merely share a budget. */
#include "net_internal.h"

static uint64_t hash_name(struct str name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ (unsigned char)name.ptr[i]) * 0x100000001b3u;
    }
    return hash == 0 ? 1 : hash;
}

void net_budgets_init(struct net_budgets *budgets)
{
    *budgets = (struct net_budgets){0};
    lock_init(&budgets->lock, LOCK_STORE);
}

void net_budgets_finish(struct net_budgets *budgets)
{
    lock_finish(&budgets->lock);
}

/* The row of a name; an unknown name takes the row that was used longest ago. */
static struct net_budget *find_row(struct net_budgets *budgets, struct str name, int64_t now_ms)
    REQUIRES(&budgets->lock);
static struct net_budget *find_row(struct net_budgets *budgets, struct str name, int64_t now_ms)
{
    enum {
        REFILL_MS = 100
    };
    uint64_t hash = hash_name(name);
    struct net_budget *row = &budgets->rows[0];
    for (size_t i = 0; i < NET_BUDGET_ROWS && row->name_hash != hash; i++) {
        struct net_budget *candidate = &budgets->rows[i];
        bool better = candidate->name_hash == hash || candidate->used_ms < row->used_ms;
        row = better ? candidate : row;
    }
    if (row->name_hash != hash) {
        *row = (struct net_budget){
            .name_hash = hash, .tokens = NET_BUDGET_TOKENS_MAX, .refilled_ms = now_ms};
    }
    int64_t gained = (now_ms - row->refilled_ms) / REFILL_MS;
    row->refilled_ms += gained * REFILL_MS;
    row->tokens += gained;
    row->tokens = row->tokens > NET_BUDGET_TOKENS_MAX ? NET_BUDGET_TOKENS_MAX : row->tokens;
    row->used_ms = now_ms;
    return row;
}

bool net_budgets_take(struct net_budgets *budgets, struct str name, int64_t now_ms)
{
    lock_take(&budgets->lock);
    struct net_budget *row = find_row(budgets, name, now_ms);
    bool enough = row->tokens >= NET_BUDGET_RETRY_COST;
    row->tokens -= enough ? NET_BUDGET_RETRY_COST : 0;
    lock_release(&budgets->lock);
    return enough;
}

void net_budgets_return(struct net_budgets *budgets, struct str name, int64_t now_ms)
{
    lock_take(&budgets->lock);
    struct net_budget *row = find_row(budgets, name, now_ms);
    row->tokens += row->tokens < NET_BUDGET_TOKENS_MAX ? 1 : 0;
    lock_release(&budgets->lock);
}
