/* server_databases.h - hosted databases, with their settings. */
#pragma once

#include "api.h"
#include "config.h"
#include "server_lake.h"

struct server_databases {
    struct databases *databases;
    struct store *backup_store;
    char *folder, *trash_folder;
    struct databases_options options;
    char memory_text[32]; /* of one database, as the settings have it */
};

/* Where backups and exports to a path go. */
void server_backup_folder(const struct config *config, char path[static SERVER_PATH_SIZE]);

/* Opens no database: that is for the first request. */
bool server_open_databases(const struct config *config, struct engine *engine,
                           const char *spool_folder, struct server_databases *ret_databases,
                           struct err *err) MUST_CHECK;
void server_describe_databases(const struct config *config,
                               const struct server_databases *databases,
                               struct api_options *options);
/* After everything that runs; with a last checkpoint of each until deadline_ms (clock_now_ms). */
void server_close_databases(struct server_databases *databases, int64_t deadline_ms);
