#include "server_reload.h"

#include "mem.h"
#include "server_tables.h"

#include <string.h>

enum {
    NAMES_SIZE_MAX = 16 << 10
};

/* ---- also at start ---- */

enum log_level server_log_level(const struct config *config)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    const char *level = config_either(config, "EIDER_LOG_LEVEL", "LOG_LEVEL");
    for (size_t i = 0; level != NULL && i < COUNT_OF(names); i++) {
        if (strcmp(level, names[i]) == 0) {
            return (enum log_level)i;
        }
    }
    return LOG_INFO;
}

static const char endpoints_name[] = "EIDER_ALLOWED_ENDPOINTS";

bool server_allow_endpoints(const struct config *config, struct net *net, struct err *err)
{
    struct err reason;
    return net_allow_endpoints(net, str_of(config_text(config, endpoints_name)), &reason) ||
           err_set(err, ERR_INVALID, "%s: %s", endpoints_name, reason.message);
}

/* ---- later ---- */

static bool refuse_cold(const struct config *config, const struct config *next, struct err *err)
{
    struct buf names;
    buf_init(&names, NAMES_SIZE_MAX);
    config_append_changes(config, next, false, &names);
    bool good = names.len == 0 || err_set(err, ERR_INVALID,
                                          "only a restart can change %.*s; start again, or "
                                          "put back what was there",
                                          STR_ARG(buf_str(&names)));
    buf_finish(&names);
    return good;
}

/* One of the two levels may keep the line from being seen. */
static void tell(const struct config *config, const struct config *next)
{
    struct buf names;
    buf_init(&names, NAMES_SIZE_MAX);
    config_append_changes(config, next, true, &names);
    enum log_level before = server_log_level(config);
    enum log_level after = server_log_level(next);
    log_set_level(before < after ? before : after);
    LOG(LOG_INFO, "server.reloaded",
        LOG_TEXT("changed", names.len > 0 ? buf_str(&names) : STR("nothing")));
    log_set_level(after);
    buf_finish(&names);
}

/* Without need it is not replaced: kept connections belong to their list. */
static bool change_endpoints(const struct server_running *running, const struct config *next,
                             struct err *err)
{
    bool same = str_equal(str_of(config_text(running->config, endpoints_name)),
                          str_of(config_text(next, endpoints_name)));
    return same || server_allow_endpoints(next, running->net, err);
}

/* The one step that can fail is the first, and changes nothing when it does. EIDER_DRAIN_MS needs
 * none: it is read when the drain begins. */
static bool apply(const struct server_running *running, const struct config *next, struct err *err)
{
    if (!change_endpoints(running, next, err)) {
        return false;
    }
    const struct lake_flush_limits limits = server_flush_limits(next);
    lake_set_flush_limits(running->lake, &limits);
    api_set_backlog_age_max(running->api, (int64_t)config_number(next, "EIDER_BACKLOG_AGE_MAX_MS"));
    return true;
}

static void reload_auth(struct auth *auth)
{
    struct err err;
    if (auth_reload(auth, &err)) {
        LOG(LOG_INFO, "auth.reloaded", LOG_FLAG("any", auth_has_any(auth)));
    } else {
        LOG(LOG_ERROR, "auth.files_refused", LOG_ERR(&err),
            LOG_TEXT("note", STR("tokens and keys are those of before")));
    }
}

struct config *server_reload(const struct server_running *running)
{
    reload_auth(running->auth);
    if (config_file(running->config) == NULL) {
        LOG(LOG_WARN, "server.reload_refused",
            LOG_TEXT("error", STR("there is no file to read: none was given with --config")));
        return NULL;
    }
    struct err err;
    struct config *next = config_load_again(running->config, &err);
    if (next != NULL && refuse_cold(running->config, next, &err) && apply(running, next, &err)) {
        tell(running->config, next);
        return next;
    }
    LOG(LOG_ERROR, "server.reload_refused", LOG_ERR(&err),
        LOG_TEXT("note", STR("nothing has changed")));
    config_destroy(next);
    return NULL;
}
