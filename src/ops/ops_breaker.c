#include "ops_breaker.h"

#include "mem.h"

#include <string.h>

enum {
    SLICES =
        30, /* of the window: what ended is counted by slice, so that it is forgotten by slice */
};

/* What ended in one slice of time. */
struct slice {
    int64_t number; /* time / slice length */
    unsigned failed;
    unsigned successful;
};

struct breaker {
    struct breaker_options options;
    struct lock lock; /* LOCK_BREAKER: everything below */
    enum breaker_state state;
    struct slice slices[SLICES];
    unsigned successes_in_a_row; /* while half open */
    unsigned openings_in_a_row;
    int64_t open_until_ms;
    bool probing;
    unsigned failures_at_opening; /* told until it closes */
    uint64_t epoch;
    int64_t last_failure_ms, last_success_ms; /* 0: never */
    double elapsed_ms;                        /* of all that passed */
    struct breaker_status totals;
};

struct breaker *breaker_create(const struct breaker_options *options)
{
    assert(options->failure_threshold > 0 && options->success_threshold > 0);
    assert(options->window_ms >= SLICES && options->timeout_ms > 0);
    struct breaker *breaker = mem_alloc(sizeof(*breaker));
    breaker->options = *options;
    lock_init(&breaker->lock, LOCK_BREAKER);
    return breaker;
}

void breaker_destroy(struct breaker *breaker)
{
    if (breaker != NULL) {
        lock_finish(&breaker->lock);
        mem_free(breaker);
    }
}

/* ---- the window ---- */

static int64_t slice_number(const struct breaker *breaker, int64_t now_ms)
{
    return now_ms / (breaker->options.window_ms / SLICES);
}

static void count(struct breaker *breaker, int64_t now_ms, bool failed) REQUIRES(&breaker->lock)
{
    int64_t number = slice_number(breaker, now_ms);
    struct slice *slice = &breaker->slices[number % SLICES];
    if (slice->number != number) {
        *slice = (struct slice){.number = number};
    }
    slice->failed += failed;
    slice->successful += !failed;
}

static struct slice sum(const struct breaker *breaker, int64_t now_ms) REQUIRES(&breaker->lock)
{
    struct slice all = {.number = slice_number(breaker, now_ms)};
    for (size_t i = 0; i < SLICES; i++) {
        if (breaker->slices[i].number > all.number - SLICES) {
            all.failed += breaker->slices[i].failed;
            all.successful += breaker->slices[i].successful;
        }
    }
    return all;
}

/* ---- states ---- */

static void forget(struct breaker *breaker) REQUIRES(&breaker->lock)
{
    memset(breaker->slices, 0, sizeof(breaker->slices));
    breaker->successes_in_a_row = 0;
    breaker->probing = false;
    breaker->epoch++;
}

static void close_breaker(struct breaker *breaker) REQUIRES(&breaker->lock)
{
    breaker->state = BREAKER_CLOSED;
    breaker->openings_in_a_row = 0;
    breaker->open_until_ms = 0;
    breaker->failures_at_opening = 0;
    forget(breaker);
}

static int64_t open_time_ms(const struct breaker *breaker) REQUIRES(&breaker->lock)
{
    int64_t time_ms = breaker->options.timeout_ms;
    for (unsigned i = 0; i < breaker->openings_in_a_row; i++) {
        if (time_ms >= breaker->options.timeout_max_ms / 2) {
            return breaker->options.timeout_max_ms;
        }
        time_ms *= 2;
    }
    return time_ms;
}

static void open_breaker(struct breaker *breaker, int64_t now_ms) REQUIRES(&breaker->lock)
{
    breaker->state = BREAKER_OPEN;
    breaker->open_until_ms = now_ms + open_time_ms(breaker);
    breaker->openings_in_a_row++;
    breaker->totals.opened++;
    unsigned failures = sum(breaker, now_ms).failed;
    breaker->failures_at_opening =
        failures > breaker->failures_at_opening ? failures : breaker->failures_at_opening;
    forget(breaker);
}

static void after_success(struct breaker *breaker, int64_t now_ms) REQUIRES(&breaker->lock)
{
    count(breaker, now_ms, false);
    if (breaker->state == BREAKER_HALF_OPEN &&
        ++breaker->successes_in_a_row >= breaker->options.success_threshold) {
        close_breaker(breaker);
    }
}

static void after_failure(struct breaker *breaker, int64_t now_ms) REQUIRES(&breaker->lock)
{
    count(breaker, now_ms, true);
    struct slice seen = sum(breaker, now_ms);
    bool often =
        seen.failed >= breaker->options.failure_threshold && seen.failed >= seen.successful;
    if (breaker->state == BREAKER_HALF_OPEN || often) {
        open_breaker(breaker, now_ms);
    }
}

/* ---- who passes ---- */

static bool refuse(struct breaker *breaker, int64_t retry_ms, int64_t *ret_retry_ms,
                   struct err *err) REQUIRES(&breaker->lock)
{
    breaker->totals.refused++;
    *ret_retry_ms = retry_ms < 1 ? 1 : retry_ms;
    return err_set(err, ERR_UNAVAILABLE, "it has failed too often and is left alone for a while");
}

static bool enter(struct breaker *breaker, int64_t now_ms, int64_t *ret_retry_ms, struct err *err)
    REQUIRES(&breaker->lock)
{
    if (breaker->state == BREAKER_OPEN && now_ms >= breaker->open_until_ms) {
        breaker->state = BREAKER_HALF_OPEN;
    }
    if (breaker->state == BREAKER_OPEN) {
        return refuse(breaker, breaker->open_until_ms - now_ms, ret_retry_ms, err);
    }
    if (breaker->state == BREAKER_HALF_OPEN && breaker->probing) {
        return refuse(breaker, breaker->options.timeout_ms, ret_retry_ms, err);
    }
    breaker->probing = breaker->state == BREAKER_HALF_OPEN;
    return true;
}

bool breaker_enter(struct breaker *breaker, int64_t now_ms, struct breaker_pass *ret_pass,
                   int64_t *ret_retry_ms, struct err *err)
{
    lock_take(&breaker->lock);
    bool good = enter(breaker, now_ms, ret_retry_ms, err);
    if (good) {
        *ret_pass = (struct breaker_pass){
            .probe = breaker->probing,
            .epoch = breaker->epoch,
            .began_ms = now_ms,
        };
    }
    lock_release(&breaker->lock);
    return good;
}

static void add_totals(struct breaker *breaker, enum breaker_result result, int64_t elapsed_ms,
                       int64_t now_ms) REQUIRES(&breaker->lock)
{
    breaker->totals.total++;
    breaker->elapsed_ms += (double)elapsed_ms;
    if (result == BREAKER_SUCCESS) {
        breaker->totals.successful++;
        breaker->last_success_ms = now_ms;
    } else if (result == BREAKER_FAILURE) {
        breaker->totals.failed++;
        breaker->last_failure_ms = now_ms;
    }
}

void breaker_leave(struct breaker *breaker, const struct breaker_pass *pass,
                   enum breaker_result result, int64_t now_ms)
{
    lock_take(&breaker->lock);
    add_totals(breaker, result, now_ms - pass->began_ms, now_ms);
    if (pass->epoch == breaker->epoch) {
        breaker->probing = breaker->probing && !pass->probe;
        if (result == BREAKER_SUCCESS) {
            after_success(breaker, now_ms);
        } else if (result == BREAKER_FAILURE) {
            after_failure(breaker, now_ms);
        }
    }
    lock_release(&breaker->lock);
}

void breaker_reset(struct breaker *breaker)
{
    lock_take(&breaker->lock);
    close_breaker(breaker);
    lock_release(&breaker->lock);
}

/* ---- for who looks ---- */

static int64_t ago_ms(int64_t then_ms, int64_t now_ms)
{
    return then_ms == 0 ? -1 : now_ms - then_ms;
}

void breaker_status(struct breaker *breaker, int64_t now_ms, struct breaker_status *ret_status)
{
    lock_take(&breaker->lock);
    struct breaker_status status = breaker->totals;
    status.state = breaker->state;
    status.failure_count = breaker->state == BREAKER_CLOSED ? sum(breaker, now_ms).failed
                                                            : breaker->failures_at_opening;
    status.success_count = breaker->successes_in_a_row;
    bool waiting = breaker->state == BREAKER_OPEN && breaker->open_until_ms > now_ms;
    status.retry_in_ms = waiting ? breaker->open_until_ms - now_ms : 0;
    status.last_failure_ago_ms = ago_ms(breaker->last_failure_ms, now_ms);
    status.last_success_ago_ms = ago_ms(breaker->last_success_ms, now_ms);
    status.mean_ms = status.total == 0 ? 0 : breaker->elapsed_ms / (double)status.total;
    lock_release(&breaker->lock);
    *ret_status = status;
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half_open"};
    return names[state];
}
