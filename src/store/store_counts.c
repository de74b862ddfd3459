#include "store_internal.h"

#include "clock.h"

/* Stores are opened for single requests and closed again, so what is counted about all of them
 * belongs to the process. */
static struct store_counts counts;

const struct store_counts *store_counts(void)
{
    return &counts;
}

void store_count_call(enum store_operation operation, int64_t start_us, enum err_kind result)
{
    metric_add(&counts.calls[operation][result], 1);
    metric_observe_us(&counts.time[operation], clock_now_us() - start_us);
}

void store_count_retry(enum store_operation operation)
{
    metric_add(&counts.retries[operation], 1);
}

void store_count_bytes(uint64_t in, uint64_t out)
{
    metric_add(&counts.bytes_in, in);
    metric_add(&counts.bytes_out, out);
}
