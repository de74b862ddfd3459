#include "test.h"

#include "config.h"
#include "fd.h"

#include <sys/mman.h>
#include <unistd.h>

/* clang-format off */
static const struct setting settings[] = {
    { "EIDER_TEXT",   SETTING_TEXT,        "fallback", 0, 0,       false, "A text.", false },
    { "EIDER_NONE",   SETTING_TEXT,        NULL,       0, 0,       false, "A text without default.", false },
    { "EIDER_COUNT",  SETTING_COUNT,       "2",        1, 64,      false, "A count.", false },
    { "EIDER_BYTES",  SETTING_BYTES,       "50MiB",    0, 0,       false, "A size.", false },
    { "EIDER_FLAG",   SETTING_BOOL,        "false",    0, 0,       false, "A flag.", false },
    { "LOOSE",        SETTING_LOOSE_COUNT, "12",       1, 1000000, false, "A loose count.", false },
    { "LOOSE_NONE",   SETTING_LOOSE_COUNT, NULL,       1, 1000000, false, "A loose count, unset.", false },
    { "LOOSE_FLAG",   SETTING_LOOSE_BOOL,  "true",     0, 0,       false, "A loose flag.", false },
    { "PORT",         SETTING_PORT_NUMBER, NULL,       0, 65535,   false, "A port.", false },
    { "SECRET_KEY",   SETTING_TEXT,        NULL,       0, 0,       true,  "A secret.", false },
    { "SECRET_OLD",   SETTING_TEXT,        "old-word", 0, 0,       true,  "A secret with a default.", false },
    { "HOT",          SETTING_COUNT,       "1",        1, 64,      false, "A hot count.", true },
    { NULL, SETTING_TEXT, NULL, 0, 0, false, NULL, false },
};
/* clang-format on */

struct loaded {
    struct config *config;
    struct err err;
    char file[32]; /* the path that messages name */
};

/* `file` is the text of a file, or NULL for none; `environment` up to three entries, NULL for none.
 */
static struct loaded load(const char *file, const char *a, const char *b, const char *c)
{
    struct loaded loaded = {.config = NULL};
    const char *const given[3] = {a, b, c};
    char texts[3][128];
    char *environment[4] = {NULL};
    size_t count = 0;
    for (size_t i = 0; i < 3; i++) {
        if (given[i] != NULL) {
            (void)snprintf(texts[i], sizeof(texts[i]), "%s", given[i]);
            environment[count++] = texts[i];
        }
    }
    CLEANUP(fd_close) int fd = file == NULL ? -1 : memfd_create("settings", MFD_CLOEXEC);
    if (fd >= 0 && fd_write_all(fd, str_of(file), &loaded.err)) {
        (void)snprintf(loaded.file, sizeof(loaded.file), "/proc/self/fd/%d", fd);
    }
    loaded.config = config_load(settings, "EIDER_", file == NULL ? NULL : loaded.file, environment,
                                &loaded.err);
    return loaded;
}

/* Whether loading fails with a message that holds `what`. */
static bool fails_with(const char *file, const char *entry, const char *what)
{
    struct loaded loaded = load(file, entry, NULL, NULL);
    bool failed = loaded.config == NULL && loaded.err.kind == ERR_INVALID &&
                  strstr(loaded.err.message, what) != NULL;
    config_destroy(loaded.config);
    return failed;
}

TEST(defaults_where_nothing_is_given)
{
    struct loaded loaded = load(NULL, NULL, NULL, NULL);
    CHECK_OK(loaded.config != NULL, loaded.err);
    const struct config *config = loaded.config;
    CHECK_STR(str_of(config_text(config, "EIDER_TEXT")), "fallback");
    CHECK(config_text(config, "EIDER_NONE") == NULL);
    CHECK_U64(config_number(config, "EIDER_COUNT"), 2);
    CHECK_U64(config_number(config, "EIDER_BYTES"), 50 << 20);
    CHECK(!config_bool(config, "EIDER_FLAG"));
    CHECK(config_bool(config, "LOOSE_FLAG"));
    CHECK_U64(config_number(config, "LOOSE"), 12);
    CHECK_U64(config_number(config, "LOOSE_NONE"), 0);
    CHECK_U64(config_number(config, "PORT"), 0);
    CHECK(!config_is_given(config, "EIDER_TEXT"));
    config_destroy(loaded.config);
    config_destroy(NULL);
}

TEST(environment_before_file_before_default)
{
    struct loaded loaded = load("EIDER_TEXT=file\nEIDER_COUNT=3\nEIDER_NONE=file\n",
                                "EIDER_TEXT=environment", "EIDER_FLAG=1", NULL);
    CHECK_OK(loaded.config != NULL, loaded.err);
    const struct config *config = loaded.config;
    CHECK_STR(str_of(config_text(config, "EIDER_TEXT")), "environment");
    CHECK_STR(str_of(config_text(config, "EIDER_NONE")), "file");
    CHECK_U64(config_number(config, "EIDER_COUNT"), 3);
    CHECK(config_bool(config, "EIDER_FLAG"));
    CHECK(config_is_given(config, "EIDER_TEXT"));
    CHECK(config_is_given(config, "EIDER_COUNT"));
    CHECK(!config_is_given(config, "EIDER_BYTES"));
    CHECK_STR(str_of(config_either(config, "EIDER_NONE", "EIDER_TEXT")), "file");
    config_destroy(loaded.config);
}

TEST(an_empty_value_is_the_default)
{
    struct loaded loaded = load("EIDER_COUNT=\n", "EIDER_TEXT=", "EIDER_BYTES=", "EIDER_FLAG=");
    CHECK_OK(loaded.config != NULL, loaded.err);
    const struct config *config = loaded.config;
    CHECK_STR(str_of(config_text(config, "EIDER_TEXT")), "fallback");
    CHECK_U64(config_number(config, "EIDER_COUNT"), 2);
    CHECK_U64(config_number(config, "EIDER_BYTES"), 50 << 20);
    CHECK(!config_bool(config, "EIDER_FLAG"));
    CHECK_STR(str_of(config_either(config, "EIDER_NONE", "EIDER_TEXT")), "fallback");
    config_destroy(loaded.config);
}

TEST(unknown_names_of_ours_are_refused)
{
    CHECK(fails_with(NULL, "EIDER_TXET=a", "EIDER_TXET"));
    CHECK(fails_with("EIDER_TXET=a\n", NULL, "EIDER_TXET"));
    CHECK(fails_with(NULL, "EIDER_=a", "EIDER_ is not"));
    CHECK(fails_with(NULL, "EIDER_TEXT2=a", "EIDER_TEXT2"));
    struct loaded loaded = load("OTHER=1\nHOME=2\n", "PATH=/bin", "eider_text=x", "no equals sign");
    CHECK_OK(loaded.config != NULL, loaded.err);
    CHECK_STR(str_of(config_text(loaded.config, "EIDER_TEXT")), "fallback");
    config_destroy(loaded.config);
}

TEST(unknown_names_are_answered_with_the_nearest)
{
    CHECK(fails_with(NULL, "EIDER_CUONT=2",
                     "EIDER_CUONT is not a setting; did you mean EIDER_COUNT?"));
    CHECK(fails_with("EIDER_TEXTT=a\n", NULL,
                     "line 1: EIDER_TEXTT is not a setting; did you mean "
                     "EIDER_TEXT?"));
    CHECK(fails_with(NULL, "EIDER_PORT=80", "did you mean PORT?"));
    CHECK(fails_with(NULL, "EIDER_SECRET_KEY=x", "did you mean SECRET_KEY?"));
    /* The prefix alone makes nothing similar, and a guess that is no help is not made. */
    CHECK(fails_with(NULL, "EIDER_XYZZY=1", "EIDER_XYZZY is not a setting; `eider config` lists"));
}

TEST(values_are_checked_when_loaded)
{
    CHECK(fails_with(NULL, "EIDER_COUNT=0", "EIDER_COUNT: '0' is not a whole number from 1 to 64"));
    CHECK(fails_with(NULL, "EIDER_COUNT=65", "EIDER_COUNT"));
    CHECK(fails_with(NULL, "EIDER_COUNT=12abc", "EIDER_COUNT"));
    CHECK(fails_with(NULL, "EIDER_COUNT= 3", "EIDER_COUNT"));
    CHECK(fails_with(NULL, "EIDER_BYTES=lots", "EIDER_BYTES: 'lots' is not a size"));
    CHECK(fails_with(NULL, "EIDER_FLAG=maybe", "EIDER_FLAG: 'maybe'"));
    CHECK(fails_with(NULL, "PORT=abc", "PORT: 'abc' is not a port number"));
    CHECK(fails_with(NULL, "PORT=-1", "PORT"));
    CHECK(fails_with("EIDER_COUNT=x\n", NULL, "EIDER_COUNT: 'x'"));
    CHECK(fails_with("EIDER_COUNT=x\n", "EIDER_COUNT=3", "EIDER_COUNT: 'x'"));
}

static uint64_t number_given(const char *entry, const char *name)
{
    struct loaded loaded = load(NULL, entry, NULL, NULL);
    uint64_t number = loaded.config == NULL ? 999999 : config_number(loaded.config, name);
    config_destroy(loaded.config);
    return number;
}

TEST(loose_counts_take_leading_digits)
{
    CHECK_U64(number_given("LOOSE=7", "LOOSE"), 7);
    CHECK_U64(number_given("LOOSE=0", "LOOSE"), 12);
    CHECK_U64(number_given("LOOSE=x", "LOOSE"), 12);
    CHECK_U64(number_given("LOOSE=5abc", "LOOSE"), 5);
    CHECK_U64(number_given("LOOSE= 5", "LOOSE"), 5);
    CHECK_U64(number_given("LOOSE=4.9", "LOOSE"), 4);
    CHECK_U64(number_given("LOOSE=-3", "LOOSE"), 12);
    CHECK_U64(number_given("LOOSE=", "LOOSE"), 12);
    CHECK_U64(number_given("LOOSE=1000000", "LOOSE"), 1000000);
    CHECK_U64(number_given("LOOSE=1000001", "LOOSE"), 12);
    CHECK_U64(number_given("LOOSE=99999999999999999999999999", "LOOSE"), 12);
    CHECK_U64(number_given("LOOSE_NONE=x", "LOOSE_NONE"), 0);
    CHECK_U64(number_given("LOOSE_NONE=3", "LOOSE_NONE"), 3);
    CHECK_U64(number_given("PORT=8080abc", "PORT"), 8080);
    CHECK_U64(number_given("PORT=0", "PORT"), 0);
}

static bool flag_given(const char *entry, const char *name)
{
    struct loaded loaded = load(NULL, entry, NULL, NULL);
    bool flag = loaded.config != NULL && config_bool(loaded.config, name);
    config_destroy(loaded.config);
    return flag;
}

TEST(loose_flags_fall_back)
{
    CHECK(flag_given("LOOSE_FLAG=perhaps", "LOOSE_FLAG"));
    CHECK(!flag_given("LOOSE_FLAG=FALSE", "LOOSE_FLAG"));
    CHECK(flag_given("EIDER_FLAG=yes", "EIDER_FLAG"));
}

TEST(the_file_is_what_a_shell_would_read)
{
    struct loaded loaded = load("# a remark\r\n"
                                "\n"
                                "  export EIDER_TEXT = \"quoted # text\"  \r\n"
                                "EIDER_NONE='it=s'\n"
                                "export   EIDER_COUNT=5\n"
                                "SECRET_KEY=\"a'\n"
                                "SECRET_OLD=\"\n"
                                "LOOSE=9",
                                NULL, NULL, NULL);
    CHECK_OK(loaded.config != NULL, loaded.err);
    const struct config *config = loaded.config;
    CHECK_STR(str_of(config_text(config, "EIDER_TEXT")), "quoted # text");
    CHECK_STR(str_of(config_text(config, "EIDER_NONE")), "it=s");
    CHECK_U64(config_number(config, "EIDER_COUNT"), 5);
    CHECK_STR(str_of(config_text(config, "SECRET_KEY")), "\"a'");
    CHECK_STR(str_of(config_text(config, "SECRET_OLD")), "\"");
    CHECK_U64(config_number(config, "LOOSE"), 9);
    config_destroy(loaded.config);
}

TEST(the_last_line_of_a_name_counts)
{
    struct loaded loaded = load("EIDER_TEXT=a\nEIDER_TEXT=b\n", NULL, NULL, NULL);
    CHECK_OK(loaded.config != NULL, loaded.err);
    CHECK_STR(str_of(config_text(loaded.config, "EIDER_TEXT")), "b");
    config_destroy(loaded.config);
}

TEST(file_errors_name_file_and_line)
{
    struct loaded loaded = load("# one\nEIDER_TEXT=a\n\nEIDER_COUNT\n", NULL, NULL, NULL);
    CHECK(loaded.config == NULL);
    CHECK(strstr(loaded.err.message, loaded.file) != NULL);
    CHECK(strstr(loaded.err.message, "line 4 ") != NULL);
    struct err err = {0};
    CHECK(config_load(settings, "EIDER_", "/proc/no-such-file", NULL, &err) == NULL);
    CHECK(err.kind == ERR_INVALID);
    CHECK(strstr(err.message, "/proc/no-such-file") != NULL);
}

TEST(a_file_without_end_is_refused)
{
    struct err err = {0};
    CHECK(config_load(settings, "EIDER_", "/dev/zero", NULL, &err) == NULL);
    CHECK(err.kind == ERR_INVALID);
    CHECK(strstr(err.message, "1 MiB") != NULL);
}

static bool describes(const struct buf *text, const char *what)
{
    return strstr(text->ptr, what) != NULL;
}

TEST(describe_masks_secrets)
{
    struct loaded loaded =
        load("EIDER_COUNT=3\n", "SECRET_KEY=hidden-word", "EIDER_TEXT=shown", NULL);
    CHECK_OK(loaded.config != NULL, loaded.err);
    struct buf text;
    buf_init(&text, 10000);
    config_describe(loaded.config, &text);
    CHECK(!buf_failed(&text));
    CHECK(!describes(&text, "hidden-word"));
    CHECK(!describes(&text, "old-word"));
    CHECK(describes(&text, "SECRET_KEY=***\n    from: environment; default: unset\n"));
    CHECK(describes(&text, "SECRET_OLD=***\n    from: default; default: ***\n"));
    CHECK(describes(&text, "EIDER_TEXT=shown\n    from: environment; default: fallback\n"));
    CHECK(describes(&text, "EIDER_COUNT=3\n    from: file; default: 2\n    A count.\n"));
    CHECK(describes(&text, "EIDER_NONE=\n    from: default; default: unset\n"));
    CHECK(describes(&text, "    A hot count. Changes on SIGHUP.\n"));
    buf_finish(&text);
    config_destroy(loaded.config);
}

static bool write_anew(int fd, const char *text)
{
    return ftruncate(fd, 0) == 0 && pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text);
}

TEST(loaded_again_the_environment_still_wins)
{
    CLEANUP(fd_close) int fd = memfd_create("settings", MFD_CLOEXEC);
    char secret[] = "SECRET_KEY=hidden-word";
    char empty[] = "EIDER_COUNT=";
    char *environment[] = {secret, empty, NULL};
    struct err err = {0};
    char file[32];
    (void)snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
    CHECK(write_anew(fd, "EIDER_TEXT=a\nEIDER_COUNT=3\n"));
    struct config *first = config_load(settings, "EIDER_", file, environment, &err);
    CHECK_OK(first != NULL, err);
    memset(strchr(secret, '=') + 1, 0, 4); /* wiped, as it is by main */
    CHECK(write_anew(fd, "EIDER_NONE=b\nSECRET_KEY=file\nEIDER_COUNT=4\n"));
    struct config *again = config_load_again(first, &err);
    CHECK_OK(again != NULL, err);
    CHECK_STR(str_of(config_text(again, "EIDER_TEXT")), "fallback");
    CHECK_STR(str_of(config_text(again, "EIDER_NONE")), "b");
    CHECK_STR(str_of(config_text(again, "SECRET_KEY")), "hidden-word");
    CHECK_U64(config_number(again, "EIDER_COUNT"), 2);
    CHECK_STR(str_of(config_text(first, "EIDER_TEXT")), "a");
    CHECK(write_anew(fd, "EIDER_COUNT=65\n"));
    CHECK(config_load_again(again, &err) == NULL);
    CHECK(strstr(err.message, "EIDER_COUNT") != NULL);
    config_destroy(first);
    config_destroy(again);
}

/* Whether these are the names of cold and hot settings that differ, in a row. */
static bool changes_are(const char *before, const char *after, const char *cold, const char *hot)
{
    struct loaded a = load(before, NULL, NULL, NULL);
    struct loaded b = load(after, NULL, NULL, NULL);
    struct buf names[2];
    for (size_t i = 0; i < 2; i++) {
        buf_init(&names[i], 1000);
        config_append_changes(a.config, b.config, i == 1, &names[i]);
    }
    bool same =
        str_equal(buf_str(&names[0]), str_of(cold)) && str_equal(buf_str(&names[1]), str_of(hot));
    buf_finish(&names[0]);
    buf_finish(&names[1]);
    config_destroy(a.config);
    config_destroy(b.config);
    return same;
}

TEST(changes_are_of_values_and_not_of_spellings)
{
    CHECK(changes_are("", "", "", ""));
    CHECK(changes_are("", "EIDER_BYTES=50MiB\nEIDER_TEXT=\nEIDER_NONE=\n", "", ""));
    CHECK(changes_are("EIDER_BYTES=1GiB\n", "EIDER_BYTES=1024MiB\n", "", ""));
    CHECK(changes_are("EIDER_FLAG=1\nLOOSE=0\n", "EIDER_FLAG=true\nLOOSE=x\n", "", ""));
    CHECK(changes_are("EIDER_TEXT=a\n", "EIDER_TEXT=A\n", "EIDER_TEXT", ""));
    CHECK(changes_are("SECRET_KEY=a\n", "PORT=1\nHOT=2\n", "PORT, SECRET_KEY", "HOT"));
    CHECK(changes_are("EIDER_BYTES=1\nEIDER_FLAG=1\n", "", "EIDER_BYTES, EIDER_FLAG", ""));
}

static const struct test_case cases[] = {
    TEST_CASE(defaults_where_nothing_is_given),
    TEST_CASE(environment_before_file_before_default),
    TEST_CASE(an_empty_value_is_the_default),
    TEST_CASE(unknown_names_of_ours_are_refused),
    TEST_CASE(unknown_names_are_answered_with_the_nearest),
    TEST_CASE(values_are_checked_when_loaded),
    TEST_CASE(loose_counts_take_leading_digits),
    TEST_CASE(loose_flags_fall_back),
    TEST_CASE(the_file_is_what_a_shell_would_read),
    TEST_CASE(the_last_line_of_a_name_counts),
    TEST_CASE(file_errors_name_file_and_line),
    TEST_CASE(a_file_without_end_is_refused),
    TEST_CASE(describe_masks_secrets),
    TEST_CASE(loaded_again_the_environment_still_wins),
    TEST_CASE(changes_are_of_values_and_not_of_spellings),
};

TEST_MAIN(cases)
