/* config.h - settings by name: from the environment, then from a KEY=VALUE file.
 * Promise   every setting is a row of one table, from which reading, `eider config` and
 *           docs/config.md come. A value is checked when it is loaded; an unknown name that begins
 *           with the product's prefix is an error that names it, and the nearest known one.
 * Owner     main owns one struct config; texts live as long as it.   Threads  read-only after
 *           config_load. Settings that are read again are another struct config.
 * Errors    ERR_INVALID naming the setting. */
#pragma once

#include "buf.h"
#include "err.h"

enum setting_kind {
    SETTING_TEXT,
    SETTING_COUNT,       /* a whole number from min to max */
    SETTING_LOOSE_COUNT, /* leading digits of the text; anything else, and 0, means the default */
    SETTING_PORT_NUMBER, /* leading digits; text without them is an error */
    SETTING_BYTES,       /* 512MB, 6GB, 1GiB */
    SETTING_BOOL,
    SETTING_LOOSE_BOOL, /* anything else means the default */
};

struct setting {
    const char *name;
    enum setting_kind kind;
    const char *default_text; /* NULL: unset */
    uint64_t min;
    uint64_t max;
    bool secret;
    const char *help;
    bool hot; /* may change while the server runs: server_reload.h */
};

struct config;

/* `settings` ends with a row without a name. `file` may be NULL. `environment` is environ. */
struct config *config_load(const struct setting *settings, const char *prefix, const char *file,
                           char *const *environment, struct err *err);
/* From the same file as it is now; what the environment gave stays as it was, since secrets have
 * been wiped from there. The same errors as config_load. */
struct config *config_load_again(const struct config *config, struct err *err);
const char *config_file(const struct config *config); /* NULL: none was given */
void config_destroy(struct config *config);

/* The name must be in the table. Text is NULL when it is unset and has no default; an empty value
 * counts as unset but for config_is_given. */
const char *config_text(const struct config *config, const char *name);
/* The first of two names that is set: for settings that go by two spellings. */
const char *config_either(const struct config *config, const char *name, const char *other);
uint64_t config_number(const struct config *config, const char *name);
bool config_bool(const struct config *config, const char *name);
bool config_is_given(const struct config *config, const char *name); /* by environment or file */

/* Appends the names of the settings, hot or cold, whose values differ, as `A, B`. Two spellings of
 * one number are the same value. */
void config_append_changes(const struct config *config, const struct config *other, bool hot,
                           struct buf *into);

/* Every setting with its value, where that came from, its default and its help. */
void config_describe(const struct config *config, struct buf *into);
