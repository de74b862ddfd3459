/* cancel.h - why and until when one piece of work goes on: a deadline, and a flag that other
 * threads may raise.
 * Promise   after cancel_raise() a thread that polls cancel_fd() wakes, and cancel_check() fails
 *           for good.
 * Owner     whoever started the work (the request); everybody below borrows it.
 * Threads   cancel_raise from any thread; the rest from the thread that does the work. */
#pragma once

#include "err.h"

#include <stdatomic.h>

struct cancel {
    atomic_int event_fd; /* made when it is first asked for: most work ends before */
    int64_t deadline_ms; /* clock_now_ms; INT64_MAX for none */
    atomic_int reason;   /* enum err_kind; ERR_NONE while nothing happened */
};

void cancel_init(struct cancel *cancel, int64_t deadline_ms);
void cancel_finish(struct cancel *cancel);
void cancel_raise(struct cancel *cancel,
                  enum err_kind reason); /* ERR_CANCELLED, ERR_STOPPED or ERR_UNAVAILABLE; the
                                            first counts */

/* -1: the process has no descriptor left; cancel_check then fails. */
int cancel_fd(struct cancel *cancel);

/* False, with what was raised or ERR_TIMEOUT, when the work should stop. */
bool cancel_check(struct cancel *cancel, struct err *err) MUST_CHECK;

/* Milliseconds to the deadline, from 0 to most_ms. */
int cancel_left_ms(const struct cancel *cancel, int most_ms);

/* Waits, as long as nothing is raised and the deadline is ahead, for at most wait_ms. */
bool cancel_wait(struct cancel *cancel, int wait_ms, struct err *err) MUST_CHECK;
