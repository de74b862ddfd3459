#include "cancel.h"

#include "clock.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    NOT_MADE = -2
};

void cancel_init(struct cancel *cancel, int64_t deadline_ms)
{
    atomic_init(&cancel->event_fd, NOT_MADE);
    cancel->deadline_ms = deadline_ms;
    atomic_init(&cancel->reason, ERR_NONE);
}

void cancel_finish(struct cancel *cancel)
{
    int fd = atomic_exchange(&cancel->event_fd, -1);
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void ring(int fd)
{
    uint64_t one = 1;
    if (fd >= 0) {
        (void)!write(fd, &one, sizeof(one));
    }
}

/* Whoever raises meanwhile sets the reason before looking at the descriptor, and here it is the
 * other way round: one of the two rings. */
int cancel_fd(struct cancel *cancel)
{
    int fd = atomic_load(&cancel->event_fd);
    if (fd != NOT_MADE) {
        return fd;
    }
    int made = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!atomic_compare_exchange_strong(&cancel->event_fd, &fd, made)) {
        if (made >= 0) {
            (void)close(made);
        }
        return fd;
    }
    if (atomic_load(&cancel->reason) != ERR_NONE) {
        ring(made);
    }
    return made;
}

void cancel_raise(struct cancel *cancel, enum err_kind reason)
{
    int none = ERR_NONE;
    if (atomic_compare_exchange_strong(&cancel->reason, &none, (int)reason)) {
        ring(atomic_load(&cancel->event_fd));
    }
}

bool cancel_check(struct cancel *cancel, struct err *err)
{
    int reason = atomic_load(&cancel->reason);
    if (reason == ERR_CANCELLED) {
        return err_set(err, ERR_CANCELLED, "the client closed the connection");
    }
    if (reason == ERR_STOPPED) {
        return err_set(err, ERR_STOPPED, "the query was cancelled");
    }
    if (reason != ERR_NONE) {
        return err_set(err, ERR_UNAVAILABLE, "the server is shutting down");
    }
    if (atomic_load(&cancel->event_fd) == -1) {
        return err_set(err, ERR_UNAVAILABLE, "the server has too many open files");
    }
    if (clock_now_ms() >= cancel->deadline_ms) {
        return err_set(err, ERR_TIMEOUT, "the request exceeded its time limit");
    }
    return true;
}

int cancel_left_ms(const struct cancel *cancel, int most_ms)
{
    int64_t left = cancel->deadline_ms - clock_now_ms();
    left = left < 0 ? 0 : left;
    return left < most_ms ? (int)left : most_ms;
}

bool cancel_wait(struct cancel *cancel, int wait_ms, struct err *err)
{
    int64_t until_ms = clock_now_ms() + wait_ms;
    while (cancel_check(cancel, err)) {
        int64_t left = until_ms - clock_now_ms();
        if (left <= 0) {
            return true;
        }
        struct pollfd raised = {.fd = cancel_fd(cancel), .events = POLLIN};
        (void)poll(&raised, 1, cancel_left_ms(cancel, (int)left));
    }
    return false;
}
