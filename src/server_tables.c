#include "server_tables.h"

#include "clock.h"
#include "file_system.h"
#include "lake_ingest.h"
#include "log.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum {
    EXIT_LOG_BROKEN = 70, /* EX_SOFTWARE: a supervisor starts the server again */
    LAST_WORDS_MS = 200   /* for answers of 503 that are on their way */
};

static void end_process(void *context, const struct err *err)
{
    (void)context;
    LOG(LOG_ERROR, "server.log_broken", LOG_TEXT("message", str_of(err->message)),
        LOG_TEXT("detail", str_of(err->detail)),
        LOG_TEXT("note", STR("the process ends; what was acknowledged is kept, and the next start "
                             "goes on from there")));
    (void)poll(NULL, 0, LAST_WORDS_MS);
    _exit(EXIT_LOG_BROKEN);
}

/* A lock and a sync mean what they say on a disk of this machine. */
static bool check_file_system(const char *data, struct err *err)
{
    enum file_system kind;
    if (!file_system_of(data, &kind, err)) {
        return false;
    }
    if (kind == FILE_SYSTEM_NETWORK) {
        return err_set(err, ERR_INVALID,
                       "EIDER_DATA (%s) is on a network file system, where nobody can promise that "
                       "an acknowledged record is kept; give it a disk of this machine",
                       data);
    }
    if (kind == FILE_SYSTEM_OVERLAY) {
        LOG(LOG_WARN, "server.overlay",
            LOG_TEXT("note", STR("EIDER_DATA is in the container's own layer: records that are not "
                                 "in the lake yet are gone when the container is removed; mount a "
                                 "volume there")));
    }
    return true;
}

struct lake_flush_limits server_flush_limits(const struct config *config)
{
    return (struct lake_flush_limits){
        .bytes = config_number(config, "EIDER_FLUSH_BYTES"),
        .rows = config_number(config, "EIDER_FLUSH_ROWS"),
        .age_ms = (int64_t)config_number(config, "EIDER_FLUSH_AGE_MS"),
    };
}

struct lake *server_open_tables(const struct config *config, const struct server_lake *where,
                                struct engine *engine, const char *spool_folder, struct err *err)
{
    char log_folder[SERVER_PATH_SIZE];
    if (!check_file_system(config_text(config, "EIDER_DATA"), err)) {
        return NULL;
    }
    (void)snprintf(log_folder, sizeof(log_folder), "%s/log", config_text(config, "EIDER_DATA"));
    struct lake_options options = {
        .store = where->store,
        .prefix = str_of(where->prefix),
        .engine = engine,
        .spool_folder = spool_folder,
        .log_folder = log_folder,
        .log_bytes_max = config_number(config, "EIDER_LOG_MAX"),
        .log_segment_bytes = config_number(config, "EIDER_LOG_SEGMENT"),
        .disk_free_min = config_number(config, "EIDER_LOG_FREE_MIN"),
        .flush = server_flush_limits(config),
        .query_tails_bytes_max = config_number(config, "EIDER_QUERY_TAILS_MAX"),
        .set_aside = config_bool(config, "EIDER_FLUSH_SET_ASIDE"),
        .object_bytes_max = config_number(config, "EIDER_OBJECT_BYTES"),
        .flush_threads = (unsigned)config_number(config, "EIDER_FLUSH_THREADS"),
        .tail_bytes_max = config_number(config, "EIDER_LOG_MEMORY_MAX"),
        .keys_max = 1000000,
        .broken = end_process,
    };
    return lake_open(&options, err);
}

void server_drain_tables(struct lake *lake, int64_t until_ms)
{
    struct cancel cancel;
    cancel_init(&cancel, until_ms);
    lake_drain(lake, &cancel);
    cancel_finish(&cancel);
    struct lake_backlog backlog;
    lake_backlog(lake, &backlog);
    LOG(LOG_INFO, "server.flushed", LOG_NUM("rows_left", backlog.rows));
}
