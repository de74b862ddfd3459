#include "lake_ship_internal.h"

#include "clock.h"
#include "digest.h"
#include "log.h"
#include "mem.h"

#include <stdio.h>

enum {
    PAUSE_FIRST_MS = 1000,
    PAUSE_LONGEST_MS = 60000,
    PAUSE_STUCK_MS = 600000,
    STUCK_FAILURES = 3,
    DOUBLINGS_MAX = 10
};

/* Whether it would fail as well with a store that works: the rows, the worker, the log. */
static bool is_own(enum err_kind kind)
{
    switch (kind) {
    case ERR_UNPROCESSABLE:
    case ERR_INTERNAL:
    case ERR_INVALID:
    case ERR_TOO_LARGE:
    case ERR_CONFLICT:
    case ERR_CORRUPT:
        return true;
    case ERR_NONE:
    case ERR_UNAUTHENTICATED:
    case ERR_FORBIDDEN:
    case ERR_NOT_FOUND:
    case ERR_METHOD:
    case ERR_MEDIA_TYPE:
    case ERR_BUSY:
    case ERR_CANCELLED:
    case ERR_STOPPED:
    case ERR_TIMEOUT:
    case ERR_STORE:
    case ERR_STORE_DENIED:
    case ERR_STORE_MISSING:
    case ERR_UNCERTAIN:
    case ERR_NOT_IMPLEMENTED:
    case ERR_UNAVAILABLE:
    case ERR_KIND_COUNT:
    default:
        return false;
    }
}

/* Between three and five quarters of the pause. */
static int64_t with_jitter(int64_t pause)
{
    uint32_t random;
    digest_random(&random, sizeof(random));
    return pause * 3 / 4 + (int64_t)(random % (uint64_t)(pause / 2 + 1));
}

static int64_t pause_of(const struct lake_table *table)
{
    unsigned doublings = table->failures < DOUBLINGS_MAX ? table->failures : DOUBLINGS_MAX;
    int64_t longest = table->own_failures >= STUCK_FAILURES ? PAUSE_STUCK_MS : PAUSE_LONGEST_MS;
    int64_t pause_ms = (int64_t)PAUSE_FIRST_MS << doublings;
    return pause_ms < longest ? pause_ms : longest;
}

/* The table's positions that the attempt was about: of its plan, or of the batch that was last. */
static void find_positions(const struct lake_table *table, uint64_t *ret_first, uint64_t *ret_last)
{
    const struct lake_batch *batch = table->batches;
    while (batch != NULL && batch->next != NULL) {
        batch = batch->next;
    }
    const struct lake_plan *plan = table->plan;
    *ret_first = plan != NULL            ? plan->first
                 : table->tail_count > 0 ? table->tail[0].position
                 : batch != NULL         ? batch->position
                                         : table->position;
    *ret_last = plan != NULL ? plan->last : *ret_first;
}

/* With the table's lock held. True when it has to be told. */
static bool note_own_failure(struct lake_table *table, const struct err *err, uint64_t *ret_first,
                             uint64_t *ret_last)
{
    struct buf text;
    size_t size;
    find_positions(table, ret_first, ret_last);
    buf_init(&text, 1024);
    buf_append_format(&text, "%.60s, positions %llu-%llu: %.150s", table->name,
                      (unsigned long long)*ret_first, (unsigned long long)*ret_last, err->message);
    mem_free(table->own_failure);
    table->own_failure = buf_take(&text, &size);
    return ++table->own_failures >= STUCK_FAILURES;
}

void ship_pause(struct lake_ship *ship, struct lake_table *table, const struct err *err)
{
    uint64_t positions[2] = {0};
    lock_take(&table->lock);
    bool stuck = is_own(err->kind) && note_own_failure(table, err, &positions[0], &positions[1]);
    unsigned attempts = table->own_failures;
    table->retry_at_ms = clock_now_ms() + with_jitter(pause_of(table));
    bool first = table->failures++ == 0;
    lock_release(&table->lock);
    lock_take(&ship->lock);
    ship->failures++;
    metric_add(&ship->lake->counts.flushes[err->kind], 1);
    (void)snprintf(ship->last_failure, sizeof(ship->last_failure), "%.60s: %.180s", table->name,
                   err->message);
    lock_release(&ship->lock);
    if (stuck) {
        LOG(LOG_ERROR, "lake.flush_stuck", LOG_TEXT("table", str_of(table->name)),
            LOG_NUM("first", (int64_t)positions[0]), LOG_NUM("last", (int64_t)positions[1]),
            LOG_NUM("attempts", attempts), LOG_ERR(err));
    } else if (first) {
        LOG(LOG_WARN, "lake.flush_failed", LOG_TEXT("table", str_of(table->name)), LOG_ERR(err));
    }
    lake_ship_poke(ship);
}

/* A batch that went well says nothing of a plan that does not. */
void ship_resume(struct lake_table *table)
{
    lock_take(&table->lock);
    bool failed = table->failures > 0;
    table->failures = 0;
    table->retry_at_ms = 0;
    if (table->plan == NULL) {
        table->own_failures = 0;
        mem_free(table->own_failure);
        table->own_failure = NULL;
    }
    lock_release(&table->lock);
    if (failed) {
        LOG(LOG_INFO, "lake.flush_works_again", LOG_TEXT("table", str_of(table->name)));
    }
}

bool ship_is_stuck(struct lake_table *table)
{
    lock_take(&table->lock);
    bool stuck = table->own_failures >= STUCK_FAILURES;
    lock_release(&table->lock);
    return stuck;
}

static bool count_table(void *context, struct lake_table *table)
{
    struct lake_backlog *into = context;
    lock_take(&table->lock);
    bool stuck = table->own_failures >= STUCK_FAILURES;
    if (stuck && into->stuck_tables == 0) {
        (void)snprintf(into->stuck, sizeof(into->stuck), "%s", table->own_failure);
    }
    into->stuck_tables += stuck ? 1 : 0;
    lock_release(&table->lock);
    return true;
}

void ship_count_stuck(struct lake *lake, struct lake_backlog *into)
{
    into->stuck_tables = 0;
    into->stuck[0] = '\0';
    lake_table_visit(lake, count_table, into);
}
