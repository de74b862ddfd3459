#include "build_word.h"
#include "engine.h"
#include "mem.h"
#include "nearest.h"
#include "server.h"
#include "server_auth.h"
#include "server_check.h"
#include "server_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    EXIT_USAGE = 2,
    EXIT_DATA_DAMAGED = 65 /* EX_DATAERR of sysexits.h */
};

/* ---- help ---- */

static const char usage_text[] =
    "eider - a small server between your application and its data lake\n"
    "\n"
    "usage: eider serve   [--config FILE]   run the server\n"
    "       eider check   [FILE]            would it serve; does the lake's store do what it must\n"
    "       eider log     inspect|verify DIR   what is in a durable log; is every byte of it "
    "right\n"
    "       eider token   create|list|revoke   who may do what\n"
    "       eider config  [--config FILE]   every setting: name, value, default, meaning\n"
    "       eider version                   versions of Eider and of its query engine\n"
    "\n"
    "Settings come from the environment, then from FILE (KEY=VALUE lines). `eider COMMAND --help`\n"
    "says more about one command.\n";

static const char serve_text[] =
    "usage: eider serve [--config FILE] [--insecure]\n"
    "\n"
    "Runs the server in the foreground until SIGTERM or SIGINT. Without any setting it listens on\n"
    "127.0.0.1:8080 and keeps its lake in the folder ./eider-data/lake.\n"
    "\n"
    "  --config FILE   read settings from FILE too: one KEY=VALUE a line, `#` begins a comment;\n"
    "                  the environment wins over the file; SIGHUP reads it again\n"
    "  --insecure      the same as EIDER_INSECURE=1: no tokens are asked for, wherever it listens\n"
    "\n"
    "`eider config` lists every setting.\n";

static const char check_text[] =
    "usage: eider check [FILE]\n"
    "\n"
    "Looks at everything a start needs (settings, addresses, data folder, query engine, "
    "sandbox,\n"
    "memory, certificates) and asks the store of the lake whether it does what Eider builds on:\n"
    "objects that are created once and never replaced, also by many writers at once; reading and\n"
    "listing right after writing; conditions and checksums. It writes small objects below\n"
    ".eider-check/ in the lake and removes them. FILE is as for `serve --config FILE`.\n"
    "\n"
    "One line for each thing: ok, warn or FAIL, what was found, and what to do. The exit status "
    "is\n"
    "0 when nothing failed (warnings may be there), 1 when something did.\n";

static const char log_text[] =
    "usage: eider log inspect DIR\n"
    "       eider log verify DIR\n"
    "\n"
    "DIR is the folder of a log (log/records or log/plans below EIDER_DATA) that no server uses, "
    "or\n"
    "a copy of one. Nothing in it is changed.\n"
    "\n"
    "  inspect   prints segments and records\n"
    "  verify    checks every byte, as a start would, and prints segments\n"
    "\n"
    "The exit status is 0 when all is well, 65 when records that were acknowledged are damaged\n"
    "(docs/log.md says what to do), 1 when the folder cannot be read or is in use.\n";

static const char token_text[] =
    "usage: eider token create --role ROLE --name NAME [--config FILE]\n"
    "       eider token list [--config FILE]\n"
    "       eider token revoke --name NAME [--config FILE]\n"
    "\n"
    "Tokens say who a client is: `Authorization: Bearer TOKEN`. They are kept as hashes in the "
    "file\n"
    "EIDER_TOKENS_FILE (default: tokens in EIDER_DATA), which a running server reads again by "
    "itself.\n"
    "\n"
    "  create   makes one and prints it, as the last line; it cannot be shown again\n"
    "  list     name, role and day of each\n"
    "  revoke   takes one away\n"
    "\n"
    "ROLE is read (queries, lists, metrics), write (records, and SQL that changes) or admin\n"
    "(databases, breakers, other people's queries); each may do what those before it may.\n"
    "docs/auth.md says more. The exit status is 0, 1 when it failed, 2 when the words are wrong.\n";

static const char config_help_text[] =
    "usage: eider config [--config FILE]\n"
    "\n"
    "Prints every setting with its value, where the value comes from, its default and its "
    "meaning.\n"
    "Secrets are shown as ***. A setting that is wrong is an error, as it would be for `serve`.\n";

static const char version_help_text[] =
    "usage: eider version\n"
    "\n"
    "Prints the versions of Eider and of the DuckDB it was built with, and the word of its build,\n"
    "which `eider` and `eider-engine` have to have in common.\n";

/* ---- commands ---- */

/* Takes secrets out of the environment block, which others can read as long as the process lives.
 */
static void wipe_secrets(void)
{
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        char *equals = strchr(*entry, '=');
        for (const struct setting *s = server_settings; equals != NULL && s->name != NULL; s++) {
            size_t size = (size_t)(equals - *entry);
            if (s->secret && strlen(s->name) == size && strncmp(*entry, s->name, size) == 0) {
                mem_wipe(equals + 1, strlen(equals + 1));
            }
        }
    }
}

static int fail(const struct err *err)
{
    (void)fprintf(stderr, "eider: %s%s%s\n", err->message, err->detail[0] == '\0' ? "" : ": ",
                  err->detail);
    return EXIT_FAILURE;
}

static struct config *load(const char *file, struct err *err)
{
    struct config *config = config_load(server_settings, SERVER_SETTING_PREFIX, file, environ, err);
    if (config != NULL) {
        wipe_secrets();
    }
    return config;
}

static int command_serve(const char *file)
{
    struct err err;
    struct config *config = load(file, &err);
    if (config == NULL) {
        return fail(&err);
    }
    struct server *server = server_start(config, &err);
    int code = server == NULL ? fail(&err) : server_wait(server);
    if (server == NULL && err.kind == ERR_CORRUPT) {
        code = EXIT_DATA_DAMAGED; /* nothing was changed; starting again will not help */
    }
    server_stop(server);
    config_destroy(config);
    return code;
}

static int command_check(const char *file)
{
    struct err err;
    struct config *config = load(file, &err);
    int code = server_check(config, &err);
    config_destroy(config);
    return code;
}

static int command_config(const char *file)
{
    struct err err;
    struct config *config = load(file, &err);
    if (config == NULL) {
        return fail(&err);
    }
    struct buf text;
    buf_init(&text, 1 << 20);
    config_describe(config, &text);
    (void)fwrite(text.ptr, 1, text.len, stdout);
    buf_finish(&text);
    config_destroy(config);
    return EXIT_SUCCESS;
}

static int command_version(const char *file)
{
    (void)file;
    (void)printf("eider %s\nduckdb %s\nbuild %s\n", EIDER_VERSION, engine_version() + 1,
                 build_word());
#ifdef EIDER_TEST_LAYERS
    (void)puts("TEST BUILD: the layers around SQL can be switched off. Not for use.");
#endif
    return EXIT_SUCCESS;
}

static int log_words(int count, char **words)
{
    return count == 2 ? server_log(words[0], words[1]) : -1;
}

static const struct command {
    const char *name;
    int (*run)(const char *config_file);
    int (*run_words)(int count, char **words); /* instead; -1: it does not know them */
    const char *help;
    bool takes_config;
    bool takes_file; /* the same without --config in front */
} commands[] = {
    {"serve", command_serve, NULL, serve_text, true, false},
    {"check", command_check, NULL, check_text, true, true},
    {"log", NULL, log_words, log_text, false, false},
    {"token", NULL, server_token, token_text, false, false},
    {"config", command_config, NULL, config_help_text, true, false},
    {"version", command_version, NULL, version_help_text, false, false},
};

static int usage_error(const char *what, const char *which)
{
    (void)fprintf(stderr, "eider: %s '%s'\n\n%s", what, which, usage_text);
    return EXIT_USAGE;
}

static int unknown_command(const char *name)
{
    struct nearest nearest = nearest_to(str_of(name));
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        nearest_try(&nearest, commands[i].name);
    }
    if (nearest.found == NULL) {
        return usage_error("unknown command", name);
    }
    (void)fprintf(stderr, "eider: unknown command '%s'; did you mean `eider %s`?\n", name,
                  nearest.found);
    return EXIT_USAGE;
}

static bool is_help(const char *argument)
{
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0 ||
           strcmp(argument, "help") == 0;
}

static int run_words(const struct command *command, int count, char **arguments)
{
    for (int i = 0; i < count; i++) {
        if (is_help(arguments[i])) {
            (void)fputs(command->help, stdout);
            return EXIT_SUCCESS;
        }
    }
    int code = command->run_words(count, arguments);
    if (code < 0) {
        (void)fputs(command->help, stderr);
        return EXIT_USAGE;
    }
    return code;
}

static int run_command(const struct command *command, int count, char **arguments)
{
    const char *file = NULL;
    for (int i = 0; i < count; i++) {
        if (is_help(arguments[i])) {
            (void)fputs(command->help, stdout);
            return EXIT_SUCCESS;
        }
        if (command->takes_config && strcmp(arguments[i], "--config") == 0 && i + 1 < count) {
            file = arguments[++i];
        } else if (command->run == command_serve && strcmp(arguments[i], "--insecure") == 0) {
            (void)setenv("EIDER_INSECURE", "1", 1); /* no other thread is there yet */
        } else if (command->takes_file && file == NULL && arguments[i][0] != '-') {
            file = arguments[i];
        } else {
            return usage_error("unknown argument", arguments[i]);
        }
    }
    return command->run(file);
}

int main(int count, char **arguments)
{
    if (count < 2) {
        (void)fputs(usage_text, stderr);
        return EXIT_USAGE;
    }
    if (is_help(arguments[1])) {
        (void)fputs(usage_text, stdout);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < COUNT_OF(commands); i++) {
        if (strcmp(arguments[1], commands[i].name) == 0) {
            return commands[i].run_words != NULL
                       ? run_words(&commands[i], count - 2, arguments + 2)
                       : run_command(&commands[i], count - 2, arguments + 2);
        }
    }
    return unknown_command(arguments[1]);
}
