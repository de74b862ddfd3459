#include "auth.h"

#include "auth_internal.h"
#include "mem.h"
#include "thread.h"

#include <sys/stat.h>

enum {
    KEPT_COUNT = 256,
    KEPT_MS = 5000,
    LOOK_MS = 1000
};

static const char token_prefix[] = "eider_";

/* A signed token that was right a moment ago. */
struct kept {
    struct sha256 hash;
    int64_t until_wall_ms;
    struct auth_identity identity;
};

/* What tells a file that has changed from one that has not. */
struct mark {
    uint64_t inode;
    int64_t size;
    int64_t seconds;
    int64_t nanoseconds;
};

enum {
    FILE_TOKENS,
    FILE_KEYS,
    FILE_COUNT
};

struct marks {
    struct mark files[FILE_COUNT];
};

struct auth {
    bool required;
    char *tokens_path;
    char *jwt_keys_path;
    char *jwt_issuer;
    char *jwt_audience;
    struct sha256 graph_key; /* the hash, as of all others */
    bool has_graph_key;
    atomic_llong look_at_ms; /* when the files are looked at next */
    struct lock lock;
    struct token_line *lines GUARDED_BY(lock);
    size_t lines_count GUARDED_BY(lock);
    struct jwt_keys *keys GUARDED_BY(lock); /* or NULL */
    struct marks marks GUARDED_BY(lock);
    struct kept kept[KEPT_COUNT] GUARDED_BY(lock);
    struct metric_counter refusals[AUTH_REFUSAL_COUNT];
};

/* ---- files ---- */

static struct mark mark_of(const char *path)
{
    struct stat info;
    if (path == NULL || stat(path, &info) != 0) {
        return (struct mark){0};
    }
    return (struct mark){
        .inode = info.st_ino,
        .size = info.st_size,
        .seconds = info.st_mtim.tv_sec,
        .nanoseconds = info.st_mtim.tv_nsec,
    };
}

static struct marks marks_of(const struct auth *auth)
{
    return (struct marks){{mark_of(auth->tokens_path), mark_of(auth->jwt_keys_path)}};
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
    return a->inode == b->inode && a->size == b->size && a->seconds == b->seconds &&
           a->nanoseconds == b->nanoseconds;
}

static bool have_changed(struct auth *auth, const struct marks *now)
{
    lock_take(&auth->lock);
    bool same = same_mark(&auth->marks.files[FILE_TOKENS], &now->files[FILE_TOKENS]) &&
                same_mark(&auth->marks.files[FILE_KEYS], &now->files[FILE_KEYS]);
    lock_release(&auth->lock);
    return !same;
}

struct contents {
    struct token_line *lines;
    size_t lines_count;
    struct jwt_keys *keys;
};

static void finish_contents(struct contents *contents)
{
    mem_free(contents->lines);
    jwt_keys_release(contents->keys);
}

static bool read_contents(const struct auth *auth, struct contents *contents, struct err *err)
{
    if (!tokens_read(auth->tokens_path, &contents->lines, &contents->lines_count, err)) {
        return false;
    }
    if (auth->jwt_keys_path != NULL) {
        contents->keys = jwt_keys_read(auth->jwt_keys_path, err);
    }
    return auth->jwt_keys_path == NULL || contents->keys != NULL;
}

static void swap_contents(struct auth *auth, struct contents *contents)
{
    struct contents before = {auth->lines, auth->lines_count, auth->keys};
    auth->lines = contents->lines;
    auth->lines_count = contents->lines_count;
    auth->keys = contents->keys;
    memset(auth->kept, 0, sizeof(auth->kept));
    *contents = before;
}

/* The marks are taken before the files are read: a change in between is seen the next time. They
 * are kept of wrong files too, which are not read again until they change. */
static bool reload(struct auth *auth, const struct marks *marks, struct err *err)
{
    CLEANUP(finish_contents) struct contents contents = {0};
    bool good = read_contents(auth, &contents, err);
    lock_take(&auth->lock);
    auth->marks = *marks;
    if (good) {
        swap_contents(auth, &contents);
    }
    lock_release(&auth->lock);
    return good;
}

bool auth_reload(struct auth *auth, struct err *err)
{
    struct marks marks = marks_of(auth);
    return reload(auth, &marks, err);
}

bool auth_refresh(struct auth *auth, int64_t now_ms, struct err *err)
{
    long long look_at_ms = atomic_load_explicit(&auth->look_at_ms, memory_order_relaxed);
    if (now_ms < look_at_ms ||
        !atomic_compare_exchange_strong(&auth->look_at_ms, &look_at_ms, now_ms + LOOK_MS)) {
        return true;
    }
    struct marks marks = marks_of(auth);
    return !have_changed(auth, &marks) || reload(auth, &marks, err);
}

struct auth *auth_create(const struct auth_options *options, struct err *err)
{
    struct auth *auth = mem_alloc(sizeof(*auth));
    lock_init(&auth->lock, LOCK_AUTH);
    auth->required = options->required;
    auth->tokens_path = mem_copy_text(options->tokens_path);
    auth->jwt_keys_path = mem_copy_text(options->jwt_keys_path);
    auth->jwt_issuer = mem_copy_text(options->jwt_issuer);
    auth->jwt_audience = mem_copy_text(options->jwt_audience);
    if (options->graph_api_key != NULL && options->graph_api_key[0] != '\0') {
        auth->graph_key = digest_sha256(str_of(options->graph_api_key));
        auth->has_graph_key = true;
    }
    if (!auth_reload(auth, err)) {
        auth_destroy(auth);
        return NULL;
    }
    return auth;
}

void auth_destroy(struct auth *auth)
{
    if (auth == NULL) {
        return;
    }
    mem_free(auth->lines);
    jwt_keys_release(auth->keys);
    lock_finish(&auth->lock);
    mem_free(auth->tokens_path);
    mem_free(auth->jwt_keys_path);
    mem_free(auth->jwt_issuer);
    mem_free(auth->jwt_audience);
    mem_free(auth);
}

bool auth_is_required(const struct auth *auth)
{
    return auth->required;
}

bool auth_has_any(struct auth *auth)
{
    lock_take(&auth->lock);
    bool any = auth->lines_count > 0 || auth->keys != NULL;
    lock_release(&auth->lock);
    return any;
}

/* ---- tokens made here ---- */

/* Takes the same time wherever the first difference is. */
static bool same_hash(const struct sha256 *a, const struct sha256 *b)
{
    unsigned different = 0;
    for (size_t i = 0; i < sizeof(a->bytes); i++) {
        different |= (unsigned)(a->bytes[i] ^ b->bytes[i]);
    }
    return different == 0;
}

static bool find_token(struct auth *auth, struct str token, struct auth_identity *ret_identity)
{
    struct sha256 hash = digest_sha256(token);
    bool found = false;
    lock_take(&auth->lock);
    for (size_t i = 0; i < auth->lines_count; i++) {
        const struct token_line *line = &auth->lines[i];
        if (same_hash(&line->hash, &hash)) { /* and on, as for a wrong one */
            ret_identity->role = line->info.role;
            memcpy(ret_identity->name, line->info.name, sizeof(line->info.name));
            found = true;
        }
    }
    lock_release(&auth->lock);
    return found;
}

/* ---- signed tokens ---- */

static struct kept *place_of(struct auth *auth, const struct sha256 *hash)
{
    return &auth->kept[hash->bytes[0] % KEPT_COUNT];
}

static bool find_kept(struct auth *auth, const struct sha256 *hash, int64_t now_wall_ms,
                      struct auth_identity *ret_identity)
{
    lock_take(&auth->lock);
    const struct kept *kept = place_of(auth, hash);
    bool found = now_wall_ms < kept->until_wall_ms && same_hash(&kept->hash, hash);
    if (found) {
        *ret_identity = kept->identity;
    }
    lock_release(&auth->lock);
    return found;
}

static void keep(struct auth *auth, const struct jwt_keys *keys, const struct kept *verified)
{
    lock_take(&auth->lock);
    if (auth->keys == keys) { /* else they changed meanwhile */
        *place_of(auth, &verified->hash) = *verified;
    }
    lock_release(&auth->lock);
}

static struct jwt_keys *hold_keys(struct auth *auth)
{
    lock_take(&auth->lock);
    struct jwt_keys *keys = jwt_keys_hold(auth->keys);
    lock_release(&auth->lock);
    return keys;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool check_signed(struct auth *auth, struct str token, int64_t now_wall_ms,
                         struct auth_identity *ret_identity, enum auth_refusal *ret_refusal)
{
    struct kept verified = {.hash = digest_sha256(token)};
    if (find_kept(auth, &verified.hash, now_wall_ms, ret_identity)) {
        return true;
    }
    struct jwt_keys *keys = hold_keys(auth);
    const struct jwt_rules rules = {auth->jwt_issuer, auth->jwt_audience};
    bool good = keys != NULL && jwt_verify(keys, &rules, token, now_wall_ms, &verified.identity,
                                           &verified.until_wall_ms, ret_refusal);
    if (good) {
        verified.until_wall_ms = earlier(verified.until_wall_ms, now_wall_ms + KEPT_MS);
        keep(auth, keys, &verified);
        *ret_identity = verified.identity;
    }
    jwt_keys_release(keys);
    return good;
}

/* ---- what a request brought ---- */

static struct str bearer_of(struct str authorization)
{
    struct str scheme = STR("Bearer ");
    return str_starts_nocase(authorization, scheme) ? str_trim(str_from(authorization, scheme.len))
                                                    : STR("");
}

static bool check_token(struct auth *auth, struct str token, int64_t now_wall_ms,
                        struct auth_identity *ret_identity, enum auth_refusal *ret_refusal)
{
    *ret_refusal = AUTH_REFUSED_UNKNOWN;
    if (token.len == 0 || token.len > TOKEN_SIZE_MAX) {
        return false;
    }
    return str_starts(token, str_of(token_prefix))
               ? find_token(auth, token, ret_identity)
               : check_signed(auth, token, now_wall_ms, ret_identity, ret_refusal);
}

static bool refuse(struct auth *auth, enum auth_refusal refusal, struct err *err)
{
    metric_add(&auth->refusals[refusal], 1);
    return err_set(err, ERR_UNAUTHENTICATED, "Could not validate credentials");
}

static bool is_graph_key(const struct auth *auth, struct str key,
                         struct auth_identity *ret_identity)
{
    struct sha256 hash = digest_sha256(key);
    bool same = auth->has_graph_key && same_hash(&hash, &auth->graph_key);
    if (same) {
        *ret_identity = (struct auth_identity){.role = AUTH_WRITE, .name = "GRAPH_API_KEY"};
    }
    return same;
}

bool auth_check(struct auth *auth, const struct auth_credentials *credentials, int64_t now_wall_ms,
                struct auth_identity *ret_identity, struct err *err)
{
    *ret_identity = (struct auth_identity){0};
    if (auth->has_graph_key && credentials->api_key.len > 0) {
        return is_graph_key(auth, credentials->api_key, ret_identity) ||
               refuse(auth, AUTH_REFUSED_UNKNOWN, err);
    }
    if (credentials->bearer_may_be_key &&
        is_graph_key(auth, bearer_of(credentials->authorization), ret_identity)) {
        return true;
    }
    bool header = credentials->authorization.len > 0;
    bool brought = header || credentials->session_id.len > 0;
    if (!brought && !auth->required) { /* the usual case of an open server takes no lock */
        ret_identity->role = AUTH_ADMIN;
        return true;
    }
    enum auth_refusal refusal = AUTH_REFUSED_MISSING;
    struct str token = header ? bearer_of(credentials->authorization) : credentials->session_id;
    if (brought && check_token(auth, token, now_wall_ms, ret_identity, &refusal)) {
        return true;
    }
    *ret_identity = (struct auth_identity){0};
    if (!auth->required && (!header || !auth_has_any(auth))) {
        ret_identity->role = AUTH_ADMIN;
        return true;
    }
    return refuse(auth, refusal, err);
}

const struct metric_counter *auth_refusals(const struct auth *auth)
{
    return auth->refusals;
}

void auth_count_role(struct auth *auth)
{
    metric_add(&auth->refusals[AUTH_REFUSED_ROLE], 1);
}
