#include "net_internal.h"

#include "mem.h"

#include <stdio.h>

void net_shelf_init(struct net_shelf *shelf, size_t count_max)
{
    assert(count_max > 0);
    *shelf = (struct net_shelf){.count_max = count_max};
    shelf->idle = mem_alloc_array(count_max, sizeof(*shelf->idle));
    lock_init(&shelf->lock, LOCK_NET);
}

static void connection_close(struct net_connection *connection)
{
    if (connection->easy != NULL) {
        curl_easy_cleanup(connection->easy);
    }
    if (connection->multi != NULL) {
        (void)curl_multi_cleanup(connection->multi);
    }
    *connection = (struct net_connection){0};
}

void net_shelf_finish(struct net_shelf *shelf)
{
    for (size_t i = 0; i < shelf->count; i++) {
        connection_close(&shelf->idle[i]);
    }
    mem_free(shelf->idle);
    lock_finish(&shelf->lock);
    *shelf = (struct net_shelf){0};
}

static bool connection_open(struct net_connection *connection, const char *origin, uint64_t list)
{
    *connection = (struct net_connection){
        .list = list,
        .multi = curl_multi_init(),
        .easy = curl_easy_init(),
    };
    if (connection->multi == NULL || connection->easy == NULL) {
        connection_close(connection);
        return false;
    }
    (void)snprintf(connection->origin, sizeof(connection->origin), "%s", origin);
    (void)curl_multi_setopt(connection->multi, CURLMOPT_MAXCONNECTS, 1L);
    return true;
}

/* Takes the connection that was used last for this origin; when there is none, a new one is made.
 * One that was made under another list may lead to an address that this list does not have. */
bool net_shelf_take(struct net_shelf *shelf, const char *origin, uint64_t list,
                    struct net_connection *ret_connection)
{
    bool found = false;
    lock_take(&shelf->lock);
    for (size_t i = shelf->count; i > 0 && !found; i--) {
        struct net_connection *idle = &shelf->idle[i - 1];
        found = idle->list == list && strcmp(idle->origin, origin) == 0;
        if (found) {
            *ret_connection = *idle;
            shelf->count--;
            memmove(idle, idle + 1, (shelf->count - (i - 1)) * sizeof(*idle));
        }
    }
    lock_release(&shelf->lock);
    return found || connection_open(ret_connection, origin, list);
}

/* A full shelf drops the connection that has been idle longest. */
void net_shelf_return(struct net_shelf *shelf, struct net_connection *connection)
{
    struct net_connection dropped = {0};
    lock_take(&shelf->lock);
    if (shelf->count == shelf->count_max) {
        dropped = shelf->idle[0];
        shelf->count--;
        memmove(shelf->idle, shelf->idle + 1, shelf->count * sizeof(*shelf->idle));
    }
    shelf->idle[shelf->count++] = *connection;
    lock_release(&shelf->lock);
    *connection = (struct net_connection){0};
    connection_close(&dropped);
}
