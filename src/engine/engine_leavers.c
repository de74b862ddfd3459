/* Workers that have reported and whose processes the kernel still takes apart. The client does not
 * wait for that, which takes as long as a tenth of a small query; the memory is not granted again
 * before. Nobody has a lock: who looks at them takes them all, and puts back those that are there.
 */
#include "engine_internal.h"
#include "mem.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

struct engine_leaver {
    int pidfd;
    uint64_t memory_bytes;
    struct engine_leaver *next;
};

static void keep(struct engine *engine, struct engine_leaver *leaver)
{
    leaver->next = atomic_load(&engine->leavers);
    while (!atomic_compare_exchange_weak(&engine->leavers, &leaver->next, leaver)) {
    }
}

static bool is_gone(const struct engine_leaver *leaver, int wait_ms)
{
    struct pollfd gone = {.fd = leaver->pidfd, .events = POLLIN};
    return poll(&gone, 1, wait_ms) > 0;
}

void leavers_take(struct engine *engine, int pidfd, uint64_t memory_bytes)
{
    struct engine_leaver *leaver = mem_alloc(sizeof(*leaver));
    *leaver = (struct engine_leaver){.pidfd = pidfd, .memory_bytes = memory_bytes};
    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    (void)atomic_fetch_add(&engine->leavers_count, 1);
    keep(engine, leaver);
}

bool leavers_release(struct engine *engine, int wait_ms)
{
    bool any = false;
    struct engine_leaver *leaver = atomic_exchange(&engine->leavers, NULL);
    while (leaver != NULL) {
        struct engine_leaver *next = leaver->next;
        if (is_gone(leaver, wait_ms)) {
            (void)close(leaver->pidfd);
            engine_memory_release(&engine->memory, leaver->memory_bytes);
            mem_free(leaver);
            (void)atomic_fetch_sub(&engine->leavers_count, 1);
            any = true;
        } else {
            keep(engine, leaver);
        }
        leaver = next;
    }
    return any;
}
