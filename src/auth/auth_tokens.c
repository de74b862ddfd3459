#include "auth_internal.h"

#include "clock.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SECRET_SIZE = 32,
    PATH_SIZE = 4096,
    LINE_WORDS = 4
};

static const char file_head[] =
    "# Tokens of Eider: name, role, SHA-256 of the token, day. Change it with `eider token`.\n";

/* ---- roles ---- */

static const char *const role_names[] = {
    [AUTH_NOBODY] = "none",
    [AUTH_READ] = "read",
    [AUTH_WRITE] = "write",
    [AUTH_ADMIN] = "admin",
};

const char *auth_role_name(enum auth_role role)
{
    assert(role < COUNT_OF(role_names));
    return role_names[role];
}

bool auth_role_parse(struct str text, enum auth_role *ret_role)
{
    for (unsigned role = AUTH_READ; role < COUNT_OF(role_names); role++) {
        if (str_equal(text, str_of(role_names[role]))) {
            *ret_role = (enum auth_role)role;
            return true;
        }
    }
    return false;
}

/* ---- reading ---- */

bool auth_read_file(const char *path, bool *ret_found, struct buf *into, struct err *err)
{
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *ret_found = fd >= 0;
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ||
               err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot read the file %s", path);
    }
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size > AUTH_FILE_SIZE_MAX) {
        return err_set(err, ERR_INVALID, "%s is no file, or one of more than 1 MiB", path);
    }
    char *room = buf_room(into, (size_t)info.st_size);
    if (room == NULL || !fd_read_at(fd, room, (size_t)info.st_size, 0)) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot read the file %s", path);
    }
    buf_wrote(into, room + info.st_size);
    return true;
}

static bool is_name_byte(char byte, bool first)
{
    bool word = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                (byte >= '0' && byte <= '9');
    return word || (!first && (byte == '.' || byte == '_' || byte == '-'));
}

static bool is_name(struct str name)
{
    bool good = name.len > 0 && name.len < TOKEN_NAME_SIZE;
    for (size_t i = 0; good && i < name.len; i++) {
        good = is_name_byte(name.ptr[i], i == 0);
    }
    return good;
}

static int hex_digit(char byte)
{
    return byte >= '0' && byte <= '9'   ? byte - '0'
           : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                                        : -1;
}

static bool parse_hash(struct str text, struct sha256 *ret_hash)
{
    bool good = text.len == 2 * sizeof(ret_hash->bytes);
    for (size_t i = 0; good && i < sizeof(ret_hash->bytes); i++) {
        int high = hex_digit(text.ptr[2 * i]);
        int low = hex_digit(text.ptr[2 * i + 1]);
        good = high >= 0 && low >= 0;
        ret_hash->bytes[i] = (unsigned char)(high * 16 + low);
    }
    return good;
}

static bool is_day(struct str text)
{
    bool good = text.len == TOKEN_DAY_SIZE - 1;
    for (size_t i = 0; good && i < text.len; i++) {
        bool digit = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        good = i == 4 || i == 7 ? text.ptr[i] == '-' : digit;
    }
    return good;
}

static void copy_text(char *into, size_t size, struct str text)
{
    (void)snprintf(into, size, "%.*s", STR_ARG(text));
}

static bool parse_line(struct str line, struct token_line *ret_line)
{
    struct str words[LINE_WORDS];
    size_t count = 0;
    struct str word;
    while (str_next_part(&line, ' ', &word)) {
        if (count == LINE_WORDS) {
            return false;
        }
        words[count++] = word;
    }
    if (count != LINE_WORDS || !is_name(words[0]) ||
        !auth_role_parse(words[1], &ret_line->info.role) ||
        !parse_hash(words[2], &ret_line->hash) || !is_day(words[3])) {
        return false;
    }
    copy_text(ret_line->info.name, sizeof(ret_line->info.name), words[0]);
    copy_text(ret_line->info.created, sizeof(ret_line->info.created), words[3]);
    return true;
}

static size_t find_name(const struct token_line *lines, size_t count, struct str name)
{
    size_t at = 0;
    while (at < count && !str_equal(str_of(lines[at].info.name), name)) {
        at++;
    }
    return at;
}

static bool parse_file(struct str text, const char *path, struct token_line *lines,
                       size_t *ret_count, struct err *err)
{
    struct str line;
    size_t count = 0;
    for (unsigned number = 1; str_next_part(&text, '\n', &line); number++) {
        if (str_blank(line) || line.ptr[0] == '#') {
            continue;
        }
        if (count == TOKENS_MAX) {
            return err_set(err, ERR_INVALID, "%s holds more than %d tokens", path, TOKENS_MAX);
        }
        struct token_line *next = &lines[count];
        if (!parse_line(line, next) || find_name(lines, count, str_of(next->info.name)) < count) {
            return err_set(err, ERR_INVALID,
                           "line %u of %s is no token, or one of a name that is there already; "
                           "put the line right or take it away",
                           number, path);
        }
        count++;
    }
    *ret_count = count;
    return true;
}

bool tokens_read(const char *path, struct token_line **ret_lines, size_t *ret_count,
                 struct err *err)
{
    struct buf text;
    bool found;
    buf_init(&text, AUTH_FILE_SIZE_MAX + 1);
    struct token_line *lines = mem_alloc_array(TOKENS_MAX, sizeof(*lines));
    bool good = auth_read_file(path, &found, &text, err) &&
                parse_file(buf_str(&text), path, lines, ret_count, err);
    buf_finish(&text);
    *ret_lines = good ? TAKE(lines) : NULL;
    mem_free(lines);
    return good;
}

bool tokens_visit(const char *path, tokens_visit_fn *visit, void *context, struct err *err)
{
    struct token_line *lines;
    size_t count;
    if (!tokens_read(path, &lines, &count, err)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        visit(context, &lines[i].info);
    }
    mem_free(lines);
    return true;
}

/* ---- changing ---- */

/* The file while it is changed: the folder is locked, so that two who change it take turns. */
struct change {
    const char *path;
    char folder[PATH_SIZE];
    int folder_fd;
    struct token_line *lines;
    size_t count;
};

static void end_change(struct change *change)
{
    mem_free(change->lines);
    fd_close(&change->folder_fd);
}

static bool lock_folder(struct change *change, struct err *err)
{
    int result;
    change->folder_fd = open(change->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    do {
        result = change->folder_fd < 0 ? -1 : flock(change->folder_fd, LOCK_EX);
    } while (result != 0 && change->folder_fd >= 0 && errno == EINTR);
    return result == 0 ||
           err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot lock the folder %s", change->folder);
}

static bool begin_change(struct change *change, const char *path, struct err *err)
{
    *change = (struct change){.path = path, .folder_fd = -1};
    const char *slash = strrchr(path, '/');
    struct str folder = slash == NULL   ? STR(".")
                        : slash == path ? STR("/")
                                        : str_make(path, (size_t)(slash - path));
    copy_text(change->folder, sizeof(change->folder), folder);
    return fd_make_directories(change->folder, err) && lock_folder(change, err) &&
           tokens_read(path, &change->lines, &change->count, err);
}

static void append_line(struct buf *text, const struct token_line *line)
{
    char hash[DIGEST_SHA256_HEX_SIZE];
    digest_hex(line->hash.bytes, sizeof(line->hash.bytes), hash);
    buf_append_format(text, "%s %s %s %s\n", line->info.name, auth_role_name(line->info.role), hash,
                      line->info.created);
}

/* Root makes it readable for the server, which may be somebody else. */
static void give_to_owner(const struct change *change, int fd)
{
    struct stat folder;
    if (geteuid() == 0 && fstat(change->folder_fd, &folder) == 0) {
        (void)!fchown(fd, folder.st_uid, folder.st_gid);
    }
}

static bool write_file(const struct change *change, const char *path, struct err *err)
{
    struct buf text;
    buf_init(&text, AUTH_FILE_SIZE_MAX);
    buf_append_text(&text, file_head);
    for (size_t i = 0; i < change->count; i++) {
        append_line(&text, &change->lines[i]);
    }
    assert(!buf_failed(&text));
    (void)unlink(path); /* of one that was interrupted */
    CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0;
    if (good) {
        give_to_owner(change, fd);
        good = fd_write_all(fd, buf_str(&text), err) && fd_sync(fd);
    }
    buf_finish(&text);
    return good || err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot write the file %s", path);
}

static bool commit_change(const struct change *change, struct err *err)
{
    char path[PATH_SIZE + 8];
    (void)snprintf(path, sizeof(path), "%s.new", change->path);
    if (!write_file(change, path, err)) {
        return false;
    }
    if (rename(path, change->path) != 0 || !fd_sync(change->folder_fd)) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot replace the file %s",
                             change->path);
    }
    return true;
}

/* base64url without padding, of which 32 bytes are 43 characters. */
static void make_token(char token[static TOKEN_TEXT_SIZE])
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char secret[SECRET_SIZE + 1] = {0};
    digest_random(secret, SECRET_SIZE);
    char *at = token + snprintf(token, TOKEN_TEXT_SIZE, "eider_");
    for (size_t i = 0; i < SECRET_SIZE; i += 3) {
        unsigned bits = (unsigned)secret[i] << 16 | (unsigned)secret[i + 1] << 8 |
                        (i + 2 < SECRET_SIZE ? secret[i + 2] : 0U);
        for (int shift = 18; shift >= (i + 2 < SECRET_SIZE ? 0 : 6); shift -= 6) {
            *at++ = letters[bits >> shift & 63];
        }
    }
    *at = '\0';
    mem_wipe(secret, sizeof(secret));
}

static void fill_line(struct token_line *line, struct str name, enum auth_role role,
                      const char *token)
{
    char now[CLOCK_ISO_SIZE];
    clock_format_iso(clock_wall_ms(), now);
    *line = (struct token_line){.info.role = role, .hash = digest_sha256(str_of(token))};
    copy_text(line->info.name, sizeof(line->info.name), name);
    copy_text(line->info.created, sizeof(line->info.created), str_first(str_of(now), 10));
}

bool tokens_create(const char *path, struct str name, enum auth_role role,
                   char ret_token[static TOKEN_TEXT_SIZE], struct err *err)
{
    assert(role > AUTH_NOBODY && role <= AUTH_ADMIN);
    if (!is_name(name)) {
        return err_set(err, ERR_INVALID,
                       "'%.*s' is no name for a token: letters, digits, '.', '_' and '-', at most "
                       "%d, a letter or digit first",
                       STR_ARG(str_first(name, 100)), TOKEN_NAME_SIZE - 1);
    }
    CLEANUP(end_change) struct change change;
    if (!begin_change(&change, path, err)) {
        return false;
    }
    if (find_name(change.lines, change.count, name) < change.count) {
        return err_set(err, ERR_CONFLICT,
                       "there is a token '%.*s' already; revoke it first, or take another name",
                       STR_ARG(name));
    }
    if (change.count == TOKENS_MAX) {
        return err_set(err, ERR_CONFLICT, "there are %d tokens; revoke one first", TOKENS_MAX);
    }
    make_token(ret_token);
    fill_line(&change.lines[change.count++], name, role, ret_token);
    return commit_change(&change, err);
}

bool tokens_revoke(const char *path, struct str name, struct err *err)
{
    CLEANUP(end_change) struct change change;
    if (!begin_change(&change, path, err)) {
        return false;
    }
    size_t at = find_name(change.lines, change.count, name);
    if (at == change.count) {
        return err_set(err, ERR_NOT_FOUND, "there is no token '%.*s'",
                       STR_ARG(str_first(name, 100)));
    }
    change.count--;
    memmove(&change.lines[at], &change.lines[at + 1],
            (change.count - at) * sizeof(change.lines[0]));
    return commit_change(&change, err);
}
