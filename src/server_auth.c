#include "server_auth.h"

#include "auth_tokens.h"
#include "log.h"
#include "mem.h"
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PATH_SIZE = 4096
};

/* ---- at start ---- */

enum mode {
    MODE_AUTO,
    MODE_REQUIRED,
    MODE_OFF
};

static bool read_mode(const struct config *config, enum mode *ret_mode, struct err *err)
{
    static const char *const names[] = {"auto", "required", "off"};
    const char *text = config_text(config, "EIDER_AUTH");
    for (unsigned i = 0; i < COUNT_OF(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_mode = (enum mode)i;
            return true;
        }
    }
    return err_set(err, ERR_INVALID, "EIDER_AUTH must be auto, required or off");
}

bool server_auth_required(const struct config *config, const char *exposed, bool *ret_required,
                          struct err *err)
{
    enum mode mode = MODE_AUTO;
    if (!read_mode(config, &mode, err)) {
        return false;
    }
    bool insecure = config_bool(config, "EIDER_INSECURE");
    if (mode == MODE_OFF && exposed != NULL && !insecure) {
        return err_set(err, ERR_INVALID,
                       "%s can be reached from other machines, and with EIDER_AUTH=off nothing "
                       "asks clients who they are. Take EIDER_AUTH away, listen on 127.0.0.1, or "
                       "set EIDER_INSECURE=1 if the network around it is closed",
                       exposed);
    }
    *ret_required = mode == MODE_REQUIRED || (mode == MODE_AUTO && exposed != NULL && !insecure);
    return true;
}

bool server_auth_is_insecure(const struct config *config)
{
    return config_bool(config, "EIDER_INSECURE") &&
           strcmp(config_text(config, "EIDER_AUTH"), "required") != 0;
}

static void path_of_tokens(const struct config *config, char path[static PATH_SIZE])
{
    const char *given = config_text(config, "EIDER_TOKENS_FILE");
    (void)snprintf(path, PATH_SIZE, "%s%s",
                   given != NULL ? given : config_text(config, "EIDER_DATA"),
                   given != NULL ? "" : "/tokens");
}

static void tell(struct auth *auth, const char *exposed, const char *path)
{
    if (!auth_is_required(auth) && exposed != NULL) {
        LOG(LOG_WARN, "server.insecure",
            LOG_TEXT("note", STR("listening beyond loopback without asking clients who they are: "
                                 "whoever reaches it may read and write everything")));
    }
    if (auth_is_required(auth) && !auth_has_any(auth)) {
        LOG(LOG_WARN, "server.no_tokens", LOG_TEXT("file", str_of(path)),
            LOG_TEXT("note", STR("every request needs a token and there is none yet; with the same "
                                 "settings: eider token create --role admin --name NAME")));
    }
}

bool server_open_auth(const struct config *config, const char *exposed, struct auth **ret_auth,
                      struct err *err)
{
    char path[PATH_SIZE];
    path_of_tokens(config, path);
    struct auth_options options = {
        .tokens_path = path,
        .jwt_keys_path = config_text(config, "EIDER_JWT_KEYS"),
        .jwt_issuer = config_text(config, "EIDER_JWT_ISSUER"),
        .jwt_audience = config_text(config, "EIDER_JWT_AUDIENCE"),
        .graph_api_key = config_text(config, "GRAPH_API_KEY"),
    };
    if (!server_auth_required(config, exposed, &options.required, err)) {
        return false;
    }
    *ret_auth = auth_create(&options, err);
    if (*ret_auth != NULL) {
        tell(*ret_auth, exposed, path);
    }
    return *ret_auth != NULL;
}

/* ---- eider token ---- */

struct wish {
    const char *verb;
    const char *name;
    const char *role;
    const char *config_file;
};

/* The value of an option that is given once. */
static bool take_option(const char *option, const char *wanted, const char *value,
                        const char **into)
{
    if (strcmp(option, wanted) != 0 || *into != NULL) {
        return false;
    }
    *into = value;
    return true;
}

static bool read_wish(int count, char **words, struct wish *wish)
{
    if (count == 0) {
        return false;
    }
    wish->verb = words[0];
    for (int i = 1; i < count; i += 2) {
        if (i + 1 == count ||
            (!take_option(words[i], "--name", words[i + 1], &wish->name) &&
             !take_option(words[i], "--role", words[i + 1], &wish->role) &&
             !take_option(words[i], "--config", words[i + 1], &wish->config_file))) {
            return false;
        }
    }
    return true;
}

static bool create_token(const char *path, const struct wish *wish, struct err *err)
{
    enum auth_role role;
    char token[TOKEN_TEXT_SIZE];
    if (!auth_role_parse(str_of(wish->role), &role)) {
        return err_set(err, ERR_INVALID, "--role must be read, write or admin");
    }
    if (!tokens_create(path, str_of(wish->name), role, token, err)) {
        return false;
    }
    (void)printf("The token '%s' of the role %s is in %s, as a hash. This is the only time it is "
                 "shown:\n%s\n",
                 wish->name, auth_role_name(role), path, token);
    mem_wipe(token, sizeof(token));
    return true;
}

static void print_token(void *context, const struct token_info *info)
{
    (void)context;
    (void)printf("%-32s  %-5s  %s\n", info->name, auth_role_name(info->role), info->created);
}

static bool revoke_token(const char *path, const struct wish *wish, struct err *err)
{
    if (!tokens_revoke(path, str_of(wish->name), err)) {
        return false;
    }
    (void)printf("The token '%s' is revoked; a running server knows within a second or two.\n",
                 wish->name);
    return true;
}

/* -1: the words do not go together. */
static int run_wish(const char *path, const struct wish *wish, struct err *err)
{
    bool name = wish->name != NULL;
    bool role = wish->role != NULL;
    if (strcmp(wish->verb, "create") == 0 && name && role) {
        return create_token(path, wish, err);
    }
    if (strcmp(wish->verb, "revoke") == 0 && name && !role) {
        return revoke_token(path, wish, err);
    }
    if (strcmp(wish->verb, "list") == 0 && !name && !role) {
        return tokens_visit(path, print_token, NULL, err);
    }
    return -1;
}

int server_token(int count, char **words)
{
    struct wish wish = {0};
    struct err err;
    char path[PATH_SIZE];
    if (!read_wish(count, words, &wish)) {
        return -1;
    }
    struct config *config =
        config_load(server_settings, SERVER_SETTING_PREFIX, wish.config_file, environ, &err);
    int good = 0;
    if (config != NULL) {
        path_of_tokens(config, path);
        good = run_wish(path, &wish, &err);
    }
    config_destroy(config);
    if (good == 0) {
        (void)fprintf(stderr, "eider: %s%s%s\n", err.message, err.detail[0] == '\0' ? "" : ": ",
                      err.detail);
    }
    return good < 0 ? -1 : good > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
