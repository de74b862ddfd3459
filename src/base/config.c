#include "config.h"

#include "mem.h"
#include "nearest.h"
#include "num.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    FILE_SIZE_MAX = 1 << 20
};

enum origin {
    ORIGIN_DEFAULT,
    ORIGIN_FILE,
    ORIGIN_ENVIRONMENT
};

struct value {
    char *text; /* NULL: not given */
    enum origin origin;
};

struct config {
    const struct setting *settings;
    const char *prefix;
    char *file; /* NULL: none was given */
    size_t count;
    struct value *values;
};

static size_t find(const struct config *config, struct str name)
{
    size_t i = 0;
    while (i < config->count && !str_equal(str_of(config->settings[i].name), name)) {
        i++;
    }
    return i;
}

static size_t must_find(const struct config *config, const char *name)
{
    size_t i = find(config, str_of(name));
    assert(i < config->count);
    return i;
}

static uint64_t leading_number(const char *text)
{
    uint64_t number = 0;
    while (*text == ' ') {
        text++;
    }
    for (; *text >= '0' && *text <= '9' && number < UINT32_MAX; text++) {
        number = number * 10 + (uint64_t)(*text - '0');
    }
    return number;
}

static bool has_leading_digit(const char *text)
{
    text += strspn(text, " ");
    return *text >= '0' && *text <= '9';
}

static bool check_value(const struct setting *setting, const char *text, struct err *err)
{
    uint64_t number;
    bool flag;
    struct err reason;
    bool good = true;
    if (text[0] == '\0') {
        return true;
    }
    if (setting->kind == SETTING_COUNT) {
        good = num_parse_u64(str_of(text), setting->min, setting->max, &number, &reason);
    } else if (setting->kind == SETTING_BYTES) {
        good = num_parse_bytes(str_of(text), &number, &reason);
    } else if (setting->kind == SETTING_BOOL) {
        good = num_parse_bool(str_of(text), &flag, &reason);
    } else if (setting->kind == SETTING_PORT_NUMBER &&
               (!has_leading_digit(text) || leading_number(text) > setting->max)) {
        good = err_set(&reason, ERR_INVALID, "'%s' is not a port number", text);
    }
    return good || err_set(err, ERR_INVALID, "%s: %s", setting->name, reason.message);
}

/* The setting that was meant: the same name without the prefix (EIDER_S3_REGION), or the nearest
 * one that has it. */
static const char *meant(const struct config *config, struct str name, struct str prefix)
{
    size_t bare = find(config, str_from(name, prefix.len));
    if (bare < config->count) {
        return config->settings[bare].name;
    }
    /* The prefix is right, so only what follows it counts. */
    struct nearest nearest = nearest_to(str_from(name, prefix.len));
    for (size_t i = 0; i < config->count; i++) {
        if (str_starts(str_of(config->settings[i].name), prefix)) {
            nearest_try(&nearest, config->settings[i].name + prefix.len);
        }
    }
    return nearest.found == NULL ? NULL : nearest.found - prefix.len;
}

static bool refuse_name(const struct config *config, struct str name, struct str prefix,
                        struct err *err)
{
    const char *other = meant(config, name, prefix);
    if (other != NULL) {
        return err_set(err, ERR_INVALID, "%.*s is not a setting; did you mean %s?", STR_ARG(name),
                       other);
    }
    return err_set(err, ERR_INVALID, "%.*s is not a setting; `eider config` lists them all",
                   STR_ARG(name));
}

static void set_value(struct config *config, size_t i, struct str text, enum origin origin)
{
    struct value *value = &config->values[i];
    if (value->text != NULL) {
        mem_wipe(value->text, strlen(value->text));
    }
    mem_free(value->text);
    *value = (struct value){.text = mem_copy_bytes(text.ptr, text.len), .origin = origin};
}

static bool give(struct config *config, struct str name, struct str text, enum origin origin,
                 const char *prefix, struct err *err)
{
    size_t i = find(config, name);
    if (i == config->count) {
        return !str_starts(name, str_of(prefix)) || refuse_name(config, name, str_of(prefix), err);
    }
    set_value(config, i, text, origin);
    return check_value(&config->settings[i], config->values[i].text, err);
}

static struct str unquoted(struct str value)
{
    bool quoted = value.len >= 2 && (value.ptr[0] == '"' || value.ptr[0] == '\'') &&
                  value.ptr[value.len - 1] == value.ptr[0];
    return quoted ? str_make(value.ptr + 1, value.len - 2) : value;
}

static bool read_lines(struct config *config, struct str text, const char *file, const char *prefix,
                       struct err *err)
{
    struct str line;
    for (unsigned number = 1; str_next_part(&text, '\n', &line); number++) {
        line = str_trim(line);
        if (line.len == 0 || line.ptr[0] == '#') {
            continue;
        }
        if (str_starts(line, STR("export "))) {
            line = str_trim(str_from(line, 7));
        }
        size_t equals = str_find_byte(line, '=');
        if (equals == line.len || equals == 0) {
            return err_set(err, ERR_INVALID, "%s line %u is not KEY=VALUE", file, number);
        }
        struct str value = unquoted(str_trim(str_from(line, equals + 1)));
        struct err reason;
        if (!give(config, str_trim(str_first(line, equals)), value, ORIGIN_FILE, prefix, &reason)) {
            return err_set(err, ERR_INVALID, "%s line %u: %s", file, number, reason.message);
        }
    }
    return true;
}

static bool read_file(struct config *config, const char *file, const char *prefix, struct err *err)
{
    FILE *stream = fopen(file, "re");
    if (stream == NULL) {
        return err_set(err, ERR_INVALID, "cannot read %s: %s", file, strerror(errno));
    }
    CLEANUP(mem_free_text) char *text = mem_alloc(FILE_SIZE_MAX + 1);
    size_t size = fread(text, 1, FILE_SIZE_MAX, stream);
    bool whole = feof(stream) != 0;
    (void)fclose(stream);
    return whole ? read_lines(config, str_make(text, size), file, prefix, err)
                 : err_set(err, ERR_INVALID, "%s is larger than 1 MiB", file);
}

static bool read_environment(struct config *config, char *const *environment, const char *prefix,
                             struct err *err)
{
    for (; environment != NULL && *environment != NULL; environment++) {
        struct str entry = str_of(*environment);
        size_t equals = str_find_byte(entry, '=');
        if (equals < entry.len &&
            !give(config, str_first(entry, equals), str_from(entry, equals + 1), ORIGIN_ENVIRONMENT,
                  prefix, err)) {
            return false;
        }
    }
    return true;
}

static struct config *create(const struct setting *settings, const char *prefix, const char *file)
{
    struct config *config = mem_alloc(sizeof(*config));
    config->settings = settings;
    config->prefix = prefix;
    config->file = mem_copy_text(file);
    while (settings[config->count].name != NULL) {
        config->count++;
    }
    config->values = mem_alloc_array(config->count, sizeof(*config->values));
    return config;
}

struct config *config_load(const struct setting *settings, const char *prefix, const char *file,
                           char *const *environment, struct err *err)
{
    struct config *config = create(settings, prefix, file);
    if ((file == NULL || read_file(config, file, prefix, err)) &&
        read_environment(config, environment, prefix, err)) {
        return config;
    }
    config_destroy(config);
    return NULL;
}

static void keep_environment(struct config *config, const struct config *before)
{
    for (size_t i = 0; i < config->count; i++) {
        if (before->values[i].origin == ORIGIN_ENVIRONMENT) {
            set_value(config, i, str_of(before->values[i].text), ORIGIN_ENVIRONMENT);
        }
    }
}

/* A pipe was emptied the first time; opening it could take for ever. */
static bool check_readable_again(const char *file, struct err *err)
{
    struct stat info;
    return stat(file, &info) != 0 || S_ISREG(info.st_mode) ||
           err_set(err, ERR_INVALID, "cannot read %s again: it is not a regular file", file);
}

struct config *config_load_again(const struct config *config, struct err *err)
{
    struct config *again = create(config->settings, config->prefix, config->file);
    if (again->file != NULL && (!check_readable_again(again->file, err) ||
                                !read_file(again, again->file, again->prefix, err))) {
        config_destroy(again);
        return NULL;
    }
    keep_environment(again, config);
    return again;
}

const char *config_file(const struct config *config)
{
    return config->file;
}

void config_destroy(struct config *config)
{
    if (config == NULL) {
        return;
    }
    for (size_t i = 0; i < config->count; i++) {
        if (config->values[i].text != NULL) {
            mem_wipe(config->values[i].text, strlen(config->values[i].text));
        }
        mem_free(config->values[i].text);
    }
    mem_free(config->values);
    mem_free(config->file);
    mem_free(config);
}

const char *config_text(const struct config *config, const char *name)
{
    size_t i = must_find(config, name);
    const char *text = config->values[i].text;
    return text != NULL && text[0] != '\0' ? text : config->settings[i].default_text;
}

const char *config_either(const struct config *config, const char *name, const char *other)
{
    return config_is_given(config, name) ? config_text(config, name) : config_text(config, other);
}

bool config_is_given(const struct config *config, const char *name)
{
    const char *text = config->values[must_find(config, name)].text;
    return text != NULL && text[0] != '\0';
}

static uint64_t number_of(const struct setting *setting, const char *text)
{
    uint64_t number = 0;
    struct err ignored;
    if (setting->kind == SETTING_BYTES) {
        return num_parse_bytes(str_of(text), &number, &ignored) ? number : 0;
    }
    return leading_number(text);
}

uint64_t config_number(const struct config *config, const char *name)
{
    size_t i = must_find(config, name);
    const struct setting *setting = &config->settings[i];
    const char *text = config_text(config, name);
    uint64_t number = text == NULL ? 0 : number_of(setting, text);
    bool loose = setting->kind == SETTING_LOOSE_COUNT;
    if (loose && (number < setting->min || number > setting->max)) {
        number = setting->default_text == NULL ? 0 : number_of(setting, setting->default_text);
    }
    return number;
}

bool config_bool(const struct config *config, const char *name)
{
    size_t i = must_find(config, name);
    const char *text = config_text(config, name);
    const char *fallback = config->settings[i].default_text;
    bool flag = false;
    struct err ignored;
    if (text == NULL || !num_parse_bool(str_of(text), &flag, &ignored)) {
        flag = false;
        if (fallback != NULL && !num_parse_bool(str_of(fallback), &flag, &ignored)) {
            flag = false;
        }
    }
    return flag;
}

static bool is_same(const struct config *config, const struct config *other, size_t i)
{
    const struct setting *setting = &config->settings[i];
    const char *value = config_text(config, setting->name);
    const char *change = config_text(other, setting->name);
    if (value == NULL || change == NULL) {
        return value == change;
    }
    if (strcmp(value, change) == 0) {
        return true;
    }
    switch (setting->kind) {
    case SETTING_COUNT:
    case SETTING_LOOSE_COUNT:
    case SETTING_PORT_NUMBER:
    case SETTING_BYTES:
        return config_number(config, setting->name) == config_number(other, setting->name);
    case SETTING_BOOL:
    case SETTING_LOOSE_BOOL:
        return config_bool(config, setting->name) == config_bool(other, setting->name);
    case SETTING_TEXT:
    default:
        return false;
    }
}

void config_append_changes(const struct config *config, const struct config *other, bool hot,
                           struct buf *into)
{
    assert(config->settings == other->settings);
    for (size_t i = 0; i < config->count; i++) {
        if (config->settings[i].hot == hot && !is_same(config, other, i)) {
            buf_append_format(into, "%s%s", into->len > 0 ? ", " : "", config->settings[i].name);
        }
    }
}

void config_describe(const struct config *config, struct buf *into)
{
    static const char *const origins[] = {"default", "file", "environment"};
    for (size_t i = 0; i < config->count; i++) {
        const struct setting *setting = &config->settings[i];
        const struct value *value = &config->values[i];
        bool given = value->text != NULL;
        const char *shown = given ? value->text : setting->default_text;
        bool masked = setting->secret && shown != NULL && shown[0] != '\0';
        buf_append_format(into, "%s=%s\n", setting->name,
                          masked          ? "***"
                          : shown == NULL ? ""
                                          : shown);
        buf_append_format(into, "    from: %s", origins[given ? value->origin : ORIGIN_DEFAULT]);
        if (setting->default_text != NULL && !setting->secret) {
            buf_append_format(into, "; default: %s", setting->default_text);
        } else {
            buf_append_text(into,
                            setting->default_text == NULL ? "; default: unset" : "; default: ***");
        }
        buf_append_format(into, "\n    %s%s\n", setting->help,
                          setting->hot ? " Changes on SIGHUP." : "");
    }
}
