#include "test.h"

#include "fd.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A fresh folder; the test removes it. */
static bool make_folder(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(path, size, "%s/eider-fd-XXXXXX", base == NULL ? "/tmp" : base);
    return mkdtemp(path) != NULL;
}

static size_t entries_in(const char *path)
{
    size_t count = 0;
    DIR *folder = opendir(path);
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return count;
}

TEST(a_temporary_file_has_no_name)
{
    char folder[256];
    struct err err;
    CHECK(make_folder(folder, sizeof(folder)));
    size_t before = entries_in(folder);
    CLEANUP(fd_close) int fd = fd_temporary(folder, &err);
    CHECK_U64(entries_in(folder), before);
    CHECK_OK(fd >= 0 && fd_write_all(fd, STR("text"), &err), err);
    char text[8] = {0};
    CHECK_I64(pread(fd, text, sizeof(text), 0), 4);
    CHECK_STR(str_of(text), "text");
    struct stat info;
    CHECK(fstat(fd, &info) == 0);
    CHECK_U64(info.st_nlink, 0);
    CHECK_U64(info.st_mode & 0777, 0600);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(rmdir(folder) == 0);
}

TEST(a_temporary_file_needs_its_folder)
{
    struct err err = {0};
    CHECK_I64(fd_temporary("/proc/no-such-folder", &err), -1);
    CHECK(err.kind == ERR_UNAVAILABLE);
    CHECK(strstr(err.message, "no-such-folder") == NULL);
}

TEST(close_is_for_every_value)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    int kept = fd;
    fd_close(&fd);
    CHECK_I64(fd, -1);
    CHECK(fcntl(kept, F_GETFD) < 0);
    fd_close(&fd);
    CHECK_I64(fd, -1);
}

static bool is_private_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode) && (info.st_mode & 0777) == 0700;
}

TEST(directories_are_made_on_the_way)
{
    char folder[256];
    char path[512];
    struct err err;
    static const char *const made[] = {"/a/b/c", "/a/b", "/a"};
    CHECK(make_folder(folder, sizeof(folder)));
    (void)snprintf(path, sizeof(path), "%s/a//b/c/", folder);
    CHECK_OK(fd_make_directories(path, &err), err);
    CHECK_OK(fd_make_directories(path, &err), err);
    for (size_t i = 0; i < COUNT_OF(made); i++) {
        (void)snprintf(path, sizeof(path), "%s%s", folder, made[i]);
        CHECK(is_private_folder(path));
        CHECK(rmdir(path) == 0);
    }
    CHECK(rmdir(folder) == 0);
}

TEST(directories_of_a_relative_path)
{
    char folder[256];
    struct err err;
    CHECK(make_folder(folder, sizeof(folder)));
    CLEANUP(fd_close) int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(before >= 0 && chdir(folder) == 0);
    CHECK_OK(fd_make_directories("x/y", &err), err);
    CHECK_OK(fd_make_directories("./x/z", &err), err);
    CHECK_OK(fd_make_directories(".", &err), err);
    CHECK(is_private_folder("x/y") && is_private_folder("x/z"));
    CHECK(rmdir("x/y") == 0 && rmdir("x/z") == 0 && rmdir("x") == 0);
    CHECK(fchdir(before) == 0);
    CHECK(rmdir(folder) == 0);
}

TEST(a_file_in_the_way_is_an_error)
{
    struct err err = {0};
    CHECK(!fd_make_directories("/dev/null/x", &err));
    CHECK(err.kind == ERR_UNAVAILABLE);
    CHECK(!fd_make_directories("/proc/none/x", &err));
    CHECK_OK(fd_make_directories("", &err), err);
    CHECK_OK(fd_make_directories("/", &err), err);
}

TEST(writing_to_a_closed_pipe_is_an_error)
{
    int ends[2];
    struct err err = {0};
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK_OK(fd_write_all(ends[1], STR("x"), &err), err);
    CHECK_OK(fd_write_all(ends[1], STR(""), &err), err);
    fd_close(&ends[0]);
    CHECK(!fd_write_all(ends[1], STR("x"), &err));
    CHECK(err.kind == ERR_UNAVAILABLE);
    fd_close(&ends[1]);
}

TEST(bytes_at_an_offset_are_all_there_or_none_count)
{
    char folder[256];
    char bytes[8] = "";
    struct err err;
    CHECK(make_folder(folder, sizeof(folder)));
    CLEANUP(fd_close) int fd = fd_temporary(folder, &err);
    CHECK(fd_write_at(fd, "abcdefgh", 8, 4));
    CHECK(fd_write_at(fd, "", 0, 1000));
    CHECK(fd_read_at(fd, bytes, 4, 6));
    CHECK(memcmp(bytes, "cdef", 4) == 0);
    errno = EIO;
    CHECK(!fd_read_at(fd, bytes, 8, 5));
    CHECK(errno == 0);
    CLEANUP(fd_close) int reader = fd_reopen_read_only(fd, &err);
    CHECK(reader >= 0);
    CHECK(fd_read_at(reader, bytes, 8, 4));
    CHECK(memcmp(bytes, "abcdefgh", 8) == 0);
    CHECK(!fd_write_at(reader, "x", 1, 0));
    CHECK(errno == EBADF);
    CHECK(fd_reopen_read_only(-1, &err) == -1);
    CHECK(rmdir(folder) == 0);
}

TEST(an_array_grows_with_what_it_holds)
{
    size_t capacity = 0;
    uint64_t *numbers = NULL;
    for (size_t i = 0; i < 1000; i++) {
        numbers = mem_grow(numbers, i, 1, &capacity, sizeof(*numbers));
        CHECK(capacity > i && capacity <= 2 * i + 1);
        CHECK_U64(numbers[i], 0);
        numbers[i] = i;
    }
    numbers = mem_grow(numbers, 1000, 5000, &capacity, sizeof(*numbers));
    CHECK(capacity >= 6000);
    for (size_t i = 0; i < 1000; i++) {
        CHECK_U64(numbers[i], i);
    }
    mem_free(numbers);
}

static const struct test_case cases[] = {
    TEST_CASE(bytes_at_an_offset_are_all_there_or_none_count),
    TEST_CASE(an_array_grows_with_what_it_holds),
    TEST_CASE(a_temporary_file_has_no_name),
    TEST_CASE(a_temporary_file_needs_its_folder),
    TEST_CASE(close_is_for_every_value),
    TEST_CASE(directories_are_made_on_the_way),
    TEST_CASE(directories_of_a_relative_path),
    TEST_CASE(a_file_in_the_way_is_an_error),
    TEST_CASE(writing_to_a_closed_pipe_is_an_error),
};

TEST_MAIN(cases)
