#include "test.h"

#include "clock.h"
#include "store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Stands in front of the C library's and notes which files were synced. */
static ino_t synced[64];
static size_t synced_count;

int fsync(int fd)
{
    struct stat status;
    if (fstat(fd, &status) == 0) {
        synced[synced_count++ % COUNT_OF(synced)] = status.st_ino;
    }
    return (int)syscall(SYS_fsync, fd);
}

/* A store in a fresh folder, gone at the end. */
struct fixture {
    char path[64];
    struct store *store;
    struct cancel cancel;
    struct err err;
    struct store_object object;
};

static bool fixture_init(struct fixture *f)
{
    *f = (struct fixture){.path = "/tmp/eider-store-XXXXXX"};
    cancel_init(&f->cancel, INT64_MAX);
    f->store = mkdtemp(f->path) == NULL ? NULL : store_open_folder(f->path, &f->err);
    return f->store != NULL;
}

static void fixture_finish(struct fixture *f)
{
    char command[128];
    store_close(f->store);
    cancel_finish(&f->cancel);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
    (void)!system(command);
}

static bool put(struct fixture *f, const char *key, const char *text, bool create_only)
{
    const struct store_source source = {.bytes = str_of(text), .fd = -1};
    return store_put(f->store, str_of(key), &source,
                     &(struct store_put_options){.create_only = create_only}, &f->cancel,
                     &f->object, &f->err);
}

static bool holds(struct fixture *f, const char *key, const char *text)
{
    struct buf buf;
    buf_init(&buf, 1024);
    bool good = store_get(f->store, str_of(key), &buf, &f->cancel, &f->object, &f->err) &&
                str_equal(buf_str(&buf), str_of(text)) && f->object.size == strlen(text);
    buf_finish(&buf);
    return good;
}

static bool note(void *context, struct str key, const struct store_object *object, struct err *err)
{
    (void)object;
    (void)err;
    buf_append(context, key);
    buf_append_byte(context, ' ');
    return true;
}

static bool lists(struct fixture *f, const char *prefix, const char *expected, bool folders)
{
    struct buf seen;
    buf_init(&seen, 4096);
    bool good = folders ? store_list_folders(f->store, str_of(prefix), false, note, &seen,
                                             &f->cancel, &f->err)
                        : store_list(f->store, str_of(prefix), note, &seen, &f->cancel, &f->err);
    good = good && str_equal(buf_str(&seen), str_of(expected));
    buf_finish(&seen);
    return good;
}

#define WITH_STORE(f)                         \
    CLEANUP(fixture_finish) struct fixture f; \
    CHECK(fixture_init(&f))

TEST(what_is_put_is_read_back)
{
    WITH_STORE(f);
    CHECK_OK(put(&f, "a b/c+d%e#f?g*h&\xc3\xa9", "hello", false), f.err);
    CHECK(holds(&f, "a b/c+d%e#f?g*h&\xc3\xa9", "hello"));
    CHECK_OK(put(&f, "a b/c+d%e#f?g*h&\xc3\xa9", "", false), f.err);
    CHECK(holds(&f, "a b/c+d%e#f?g*h&\xc3\xa9", ""));
}

TEST(create_only_never_replaces)
{
    WITH_STORE(f);
    CHECK_OK(put(&f, "a/b", "first", true), f.err);
    CHECK(!put(&f, "a/b", "second", true));
    CHECK_U64(f.err.kind, ERR_CONFLICT);
    CHECK(holds(&f, "a/b", "first"));
}

TEST(ranges_are_pinned_to_their_etag)
{
    WITH_STORE(f);
    CHECK_OK(put(&f, "a", "0123456789", false), f.err);
    char etag[STORE_ETAG_SIZE];
    (void)snprintf(etag, sizeof(etag), "%s", f.object.etag);
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/into", f.path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char got[3] = "";
    bool read_back = store_get_range(f.store, STR("a"), etag, 4, 2, fd, 1, &f.cancel, &f.err) &&
                     pread(fd, got, 2, 1) == 2 && strcmp(got, "45") == 0;
    bool beyond = store_get_range(f.store, STR("a"), etag, 9, 2, fd, 0, &f.cancel, &f.err);
    bool replaced = put(&f, "a", "abcdefghij", false);
    bool stale = store_get_range(f.store, STR("a"), etag, 4, 2, fd, 0, &f.cancel, &f.err);
    enum err_kind kind = f.err.kind;
    (void)close(fd);
    CHECK(read_back);
    CHECK(!beyond);
    CHECK(replaced);
    CHECK(!stale);
    CHECK_U64(kind, ERR_CONFLICT);
}

TEST(lists_are_in_the_order_of_bytes)
{
    WITH_STORE(f);
    const char *keys[] = {"o/a0", "o/a/x", "o/a.b", "o/a-b", "o/aa", "p"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        CHECK_OK(put(&f, keys[i], "x", true), f.err);
    }
    CHECK(lists(&f, "", "o/a-b o/a.b o/a/x o/a0 o/aa p ", false));
    CHECK(lists(&f, "o/a/", "o/a/x ", false));
    CHECK(lists(&f, "o/a.", "o/a.b ", false));
    CHECK(lists(&f, "nothing/", "", false));
    CHECK(lists(&f, "", "o ", true));
    CHECK(lists(&f, "o/", "a ", true));
}

TEST(empty_folders_are_not_listed)
{
    WITH_STORE(f);
    CHECK_OK(put(&f, "a/b/c", "x", true), f.err);
    CHECK_OK(store_delete(f.store, STR("a/b/c"), &f.cancel, &f.err), f.err);
    CHECK_OK(store_delete(f.store, STR("a/b/c"), &f.cancel, &f.err), f.err);
    CHECK(lists(&f, "", "", true));
    CHECK(lists(&f, "", "", false));
}

TEST(symbolic_links_lead_nowhere)
{
    WITH_STORE(f);
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/link", f.path);
    CHECK(symlink("/etc", path) == 0);
    CHECK(!holds(&f, "link/hostname", ""));
    CHECK_U64(f.err.kind, ERR_STORE_DENIED);
    CHECK(!put(&f, "link/x", "x", false));
    CHECK_U64(f.err.kind, ERR_STORE_DENIED);
    CHECK(lists(&f, "", "", false));
}

TEST(a_name_is_an_object_or_a_folder)
{
    WITH_STORE(f);
    CHECK_OK(put(&f, "a/b", "x", true), f.err);
    CHECK(!put(&f, "a", "x", false));
    CHECK_U64(f.err.kind, ERR_STORE);
    CHECK(!put(&f, "a/b/c", "x", false));
    CHECK_U64(f.err.kind, ERR_STORE);
    CHECK(!holds(&f, "a", ""));
    CHECK_U64(f.err.kind, ERR_STORE_MISSING);
}

TEST(temporary_files_are_out_of_reach)
{
    WITH_STORE(f);
    CHECK_OK(put(&f, "a", "x", true), f.err);
    CHECK(!put(&f, ".eider-tmp/x", "x", false));
    CHECK(lists(&f, "", "a ", false));
    CHECK(lists(&f, "", "", true));
}

TEST(over_the_ceiling_is_too_large)
{
    WITH_STORE(f);
    CHECK_OK(put(&f, "a", "0123456789", true), f.err);
    struct buf buf;
    buf_init(&buf, 9);
    bool read = store_get(f.store, STR("a"), &buf, &f.cancel, &f.object, &f.err);
    buf_finish(&buf);
    CHECK(!read);
    CHECK_U64(f.err.kind, ERR_TOO_LARGE);
}

TEST(a_raised_cancel_leaves_nothing)
{
    WITH_STORE(f);
    cancel_raise(&f.cancel, ERR_CANCELLED);
    CHECK(!put(&f, "a", "x", true));
    CHECK_U64(f.err.kind, ERR_CANCELLED);
    cancel_finish(&f.cancel);
    cancel_init(&f.cancel, INT64_MAX);
    CHECK(lists(&f, "", "", false));
}

TEST(urls_are_absolute)
{
    WITH_STORE(f);
    struct buf url;
    char expected[96];
    buf_init(&url, 1024);
    store_append_url(f.store, STR("a b/c"), &url);
    (void)snprintf(expected, sizeof(expected), "file://%s/a b/c", f.path);
    bool same = str_equal(buf_str(&url), str_of(expected));
    buf_finish(&url);
    CHECK(same);
}

static bool was_synced(const struct fixture *f, const char *directory)
{
    char path[96];
    struct stat status;
    (void)snprintf(path, sizeof(path), "%s%s", f->path, directory);
    bool found = false;
    for (size_t i = 0; stat(path, &status) == 0 && i < synced_count; i++) {
        found = found || synced[i] == status.st_ino;
    }
    return found;
}

TEST(folders_without_objects_are_named_where_they_are_wanted)
{
    WITH_STORE(f);
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/empty", f.path);
    CHECK(mkdir(path, 0700) == 0);
    CHECK_OK(put(&f, "full/x", "x", true), f.err);
    CHECK(lists(&f, "", "full ", true));
    struct buf seen;
    buf_init(&seen, 4096);
    CHECK_OK(store_list_folders(f.store, STR(""), true, note, &seen, &f.cancel, &f.err), f.err);
    CHECK(str_equal(buf_str(&seen), STR("empty full ")));
    buf_finish(&seen);
}

TEST(directories_that_others_made_are_synced_once)
{
    WITH_STORE(f);
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/a", f.path);
    CHECK(mkdir(path, 0700) == 0);
    (void)snprintf(path, sizeof(path), "%s/a/b", f.path);
    CHECK(mkdir(path, 0700) == 0);
    synced_count = 0;
    CHECK_OK(put(&f, "a/b/c", "x", true), f.err);
    CHECK(was_synced(&f, ""));
    CHECK(was_synced(&f, "/a"));
    CHECK(was_synced(&f, "/a/b"));
    synced_count = 0;
    CHECK_OK(put(&f, "a/b/d", "x", true), f.err);
    CHECK(!was_synced(&f, ""));
    CHECK(!was_synced(&f, "/a"));
    CHECK(was_synced(&f, "/a/b"));
    synced_count = 0;
    CHECK_OK(put(&f, "a/e/f", "x", true), f.err);
    CHECK(!was_synced(&f, ""));
    CHECK(was_synced(&f, "/a"));
    CHECK(was_synced(&f, "/a/e"));
}

static const struct test_case cases[] = {
    TEST_CASE(what_is_put_is_read_back),
    TEST_CASE(create_only_never_replaces),
    TEST_CASE(ranges_are_pinned_to_their_etag),
    TEST_CASE(lists_are_in_the_order_of_bytes),
    TEST_CASE(empty_folders_are_not_listed),
    TEST_CASE(symbolic_links_lead_nowhere),
    TEST_CASE(a_name_is_an_object_or_a_folder),
    TEST_CASE(temporary_files_are_out_of_reach),
    TEST_CASE(over_the_ceiling_is_too_large),
    TEST_CASE(a_raised_cancel_leaves_nothing),
    TEST_CASE(urls_are_absolute),
    TEST_CASE(folders_without_objects_are_named_where_they_are_wanted),
    TEST_CASE(directories_that_others_made_are_synced_once),
};
TEST_MAIN(cases)
