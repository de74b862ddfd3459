/* Names to addresses, kept for 30 s, off the caller's thread. */
#include "net_internal.h"

#include "clock.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    ROWS_MAX = 64,
    KEPT_MS = 30000,
    LOOKUPS_MAX = 32 /* at one time, those that nobody waits for any more among them */
};

struct row {
    char host[NET_HOST_SIZE];
    struct net_answer answer;
    int64_t until_ms; /* 0 for an empty row */
};

struct net_resolver {
    atomic_uint references; /* the owner's, and one of each look-up */
    net_resolve_fn *resolve;
    void *context;
    struct lock lock;
    struct row rows[ROWS_MAX] GUARDED_BY(lock);
};

/* One question, shared by who asks and the thread that finds out. */
struct lookup {
    atomic_uint references;
    struct net_resolver *resolver;
    char host[NET_HOST_SIZE];
    int done_fd;
    atomic_bool done;
    bool known; /* as `answer`, to be read when done */
    struct net_answer answer;
};

bool net_resolve_system(void *context, const char *host, struct net_answer *ret_answer)
{
    (void)context;
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    *ret_answer = (struct net_answer){0};
    if (getaddrinfo(host, NULL, &wanted, &found) != 0) {
        return false;
    }
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        struct net_address *into = &ret_answer->addresses[ret_answer->count];
        /* What does not fit is never contacted. */
        if (ret_answer->count < NET_ADDRESSES_MAX && net_address_read(at->ai_addr, into)) {
            ret_answer->count++;
        }
    }
    freeaddrinfo(found);
    return ret_answer->count > 0;
}

struct net_resolver *net_resolver_create(net_resolve_fn *resolve, void *context)
{
    struct net_resolver *resolver = mem_alloc(sizeof(*resolver));
    resolver->resolve = resolve;
    resolver->context = context;
    atomic_init(&resolver->references, 1);
    lock_init(&resolver->lock, LOCK_NET);
    return resolver;
}

void net_resolver_destroy(struct net_resolver *resolver)
{
    if (resolver != NULL && atomic_fetch_sub(&resolver->references, 1) == 1) {
        lock_finish(&resolver->lock);
        mem_free(resolver);
    }
}

static void release_lookup(struct lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->references, 1) == 1) {
        net_resolver_destroy(lookup->resolver);
        fd_close(&lookup->done_fd);
        mem_free(lookup);
    }
}

static void *run_lookup(void *argument)
{
    struct lookup *lookup = argument;
    struct net_resolver *resolver = lookup->resolver;
    lookup->known = resolver->resolve(resolver->context, lookup->host, &lookup->answer);
    atomic_store(&lookup->done, true);
    uint64_t one = 1;
    (void)!write(lookup->done_fd, &one, sizeof(one));
    release_lookup(lookup);
    return NULL;
}

static bool recall(struct net_resolver *resolver, const char *host, struct net_answer *ret_answer)
{
    int64_t now_ms = clock_now_ms();
    bool found = false;
    lock_take(&resolver->lock);
    for (size_t i = 0; i < ROWS_MAX && !found; i++) {
        const struct row *row = &resolver->rows[i];
        found = row->until_ms > now_ms && strcmp(row->host, host) == 0;
        if (found) {
            *ret_answer = row->answer;
        }
    }
    lock_release(&resolver->lock);
    return found;
}

/* In the place of what will be forgotten first. */
static void keep(struct net_resolver *resolver, const char *host, const struct net_answer *answer)
{
    lock_take(&resolver->lock);
    struct row *oldest = &resolver->rows[0];
    for (size_t i = 1; i < ROWS_MAX; i++) {
        struct row *row = &resolver->rows[i];
        oldest = row->until_ms < oldest->until_ms ? row : oldest;
    }
    (void)snprintf(oldest->host, sizeof(oldest->host), "%s", host);
    oldest->answer = *answer;
    oldest->until_ms = clock_now_ms() + KEPT_MS;
    lock_release(&resolver->lock);
}

static struct lookup *start_lookup(struct net_resolver *resolver, const char *host)
{
    if (atomic_fetch_add(&resolver->references, 1) > LOOKUPS_MAX) {
        (void)atomic_fetch_sub(&resolver->references, 1);
        return NULL;
    }
    struct lookup *lookup = mem_alloc(sizeof(*lookup));
    lookup->resolver = resolver;
    lookup->done_fd = eventfd(0, EFD_CLOEXEC);
    atomic_init(&lookup->references, 2);
    atomic_init(&lookup->done, false);
    (void)snprintf(lookup->host, sizeof(lookup->host), "%s", host);
    if (lookup->done_fd < 0 || !thread_start_detached("resolve", run_lookup, lookup)) {
        release_lookup(lookup);
        release_lookup(lookup);
        return NULL;
    }
    return lookup;
}

/* Waits until the look-up is done, its time is over or the work is cancelled. */
static bool wait_for_lookup(const struct lookup *lookup, int64_t deadline_ms, struct cancel *cancel,
                            struct err *err)
{
    while (!atomic_load(&lookup->done)) {
        if (cancel != NULL && !cancel_check(cancel, err)) {
            return false;
        }
        int64_t left_ms = deadline_ms - clock_now_ms();
        if (left_ms <= 0) {
            return err_set(err, ERR_STORE, "the host %s could not be looked up in time",
                           lookup->host);
        }
        struct pollfd fds[2] = {{.fd = lookup->done_fd, .events = POLLIN},
                                {.fd = -1, .events = POLLIN}};
        int wait_ms = left_ms < 1000 ? (int)left_ms : 1000;
        if (cancel != NULL) {
            fds[1].fd = cancel_fd(cancel);
            wait_ms = cancel_left_ms(cancel, wait_ms);
        }
        (void)poll(fds, 2, wait_ms);
    }
    return true;
}

bool net_resolver_ask(struct net_resolver *resolver, const char *host, int64_t deadline_ms,
                      struct cancel *cancel, struct net_answer *ret_answer, struct err *err)
{
    if (recall(resolver, host, ret_answer)) {
        return true;
    }
    struct lookup *lookup = start_lookup(resolver, host);
    if (lookup == NULL) {
        return err_set(err, ERR_STORE, "the host %s cannot be looked up: too many hosts are", host);
    }
    bool good = wait_for_lookup(lookup, deadline_ms, cancel, err);
    if (good && !lookup->known) {
        good = err_set(err, ERR_STORE, "the host %s is not known", host);
    }
    if (good) {
        *ret_answer = lookup->answer;
        keep(resolver, host, ret_answer);
    }
    release_lookup(lookup);
    return good;
}
