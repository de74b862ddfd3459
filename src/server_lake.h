/* server_lake.h - which lake the settings mean. */
#pragma once

#include "config.h"
#include "net.h"
#include "store.h"

struct server_lake {
    struct store *store;
    char *prefix;   /* "" or ends with a slash */
    char *endpoint; /* what the ingest personality tells about it */
    char *bucket;
    char *region;
};

enum {
    SERVER_PATH_SIZE = 4096
};

/* True, with its path, when the lake is a folder. */
bool server_lake_folder(const struct config *config, char path[static SERVER_PATH_SIZE]);
bool server_lake_open(const struct config *config, struct net *net, struct server_lake *ret_lake,
                      struct err *err) MUST_CHECK;
void server_lake_close(struct server_lake *lake);
