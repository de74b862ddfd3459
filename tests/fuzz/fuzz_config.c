/* Settings: any file loads or fails with a message, what is loaded can be read by its kind, and
 * secrets do not show in the description. */
#include "config.h"
#include "fd.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

enum {
    COUNT_MIN = 1,
    COUNT_MAX = 64,
    LOOSE_MAX = 1000
};

/* clang-format off */
static const struct setting settings[] = {
    { "E_TEXT",  SETTING_TEXT,        "fallback", 0, 0, false, "A text.", false },
    { "E_COUNT", SETTING_COUNT,       "2", COUNT_MIN, COUNT_MAX, false, "A count.", false },
    { "E_BYTES", SETTING_BYTES,       "50MiB", 0, 0, false, "A size.", false },
    { "E_FLAG",  SETTING_BOOL,        "false", 0, 0, false, "A flag.", false },
    { "LOOSE",   SETTING_LOOSE_COUNT, "12", 1, LOOSE_MAX, false, "A loose count.", false },
    { "LFLAG",   SETTING_LOOSE_BOOL,  "true", 0, 0, false, "A loose flag.", false },
    { "PORT",    SETTING_PORT_NUMBER, NULL, 0, 65535, false, "A port.", false },
    { "SECRET",  SETTING_TEXT,        NULL, 0, 0, true, "A secret.", false },
    { NULL, SETTING_TEXT, NULL, 0, 0, false, NULL, false },
};
/* clang-format on */

static void check_loaded(const struct config *config, size_t size)
{
    struct buf text;
    uint64_t count = config_number(config, "E_COUNT");
    uint64_t loose = config_number(config, "LOOSE");
    MUST(count >= COUNT_MIN && count <= COUNT_MAX);
    MUST(loose >= 1 && loose <= LOOSE_MAX);
    MUST(config_text(config, "E_TEXT")[0] != '\0');
    (void)config_number(config, "E_BYTES");
    (void)config_number(config, "PORT");
    (void)config_bool(config, "E_FLAG");
    (void)config_bool(config, "LFLAG");
    buf_init(&text, 2 * size + 4096);
    config_describe(config, &text);
    MUST(!buf_failed(&text));
    const char *secret = config_text(config, "SECRET");
    struct str line =
        config_is_given(config, "SECRET") ? STR("\nSECRET=***\n") : STR("\nSECRET=\n");
    MUST(secret == NULL || config_is_given(config, "SECRET"));
    MUST(str_find(buf_str(&text), line) < text.len);
    buf_finish(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct err err = {0};
    CLEANUP(fd_close) int fd = memfd_create("settings", MFD_CLOEXEC);
    MUST(fd >= 0);
    MUST(fd_write_all(fd, str_make((const char *)data, size), &err));
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct config *config = config_load(settings, "E_", path, NULL, &err);
    if (config == NULL) {
        MUST(err.kind == ERR_INVALID && err.message[0] != '\0');
    } else {
        check_loaded(config, size);
    }
    config_destroy(config);
    return 0;
}
