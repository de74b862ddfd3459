#include "lake_ship_internal.h"

#include "clock.h"
#include "digest.h"
#include "fd.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <sys/sendfile.h>

enum {
    LOOK_TIME_MS = 5000,
    WRITE_TIME_MS = 300000 /* for one file: rows that a worker never ends with */
};

/* What the object is: the same for the same rows of the same writer, whenever its file was written.
 * So it tells our own earlier put from somebody else's under the same name, which can only be a
 * second server with a copy of this one's log. */
static void make_content_id(const struct lake *lake, const struct ship_object *object,
                            char id[static STORE_CONTENT_ID_SIZE])
{
    struct buf text;
    buf_init(&text, STORE_KEY_SIZE_MAX + 1024);
    buf_append_format(&text, "%s %.*s %.*s %llu %llu %llu %llu %08x", wal_writer(lake->records),
                      STR_ARG(object->table), STR_ARG(object->key),
                      (unsigned long long)object->first, (unsigned long long)object->last,
                      (unsigned long long)object->window->rows,
                      (unsigned long long)object->window->size, object->window->crc);
    struct sha256 digest = digest_sha256(buf_str(&text));
    digest_hex(digest.bytes, sizeof(digest.bytes), id);
    buf_finish(&text);
}

/* What was just written need not be read back to be known. */
static void keep_schema(struct lake *lake, const struct ship_object *object, const char *etag)
{
    const struct lake_schema *schema = object->schema;
    if (schema->columns_count == 0) {
        return;
    }
    struct worker_schema_column *columns = mem_alloc_array(schema->columns_count, sizeof(*columns));
    for (size_t i = 0; i < schema->columns_count; i++) {
        columns[i].name = str_make(schema->columns[i].name, schema->columns[i].name_size);
        columns[i].type = str_of(schema->columns[i].sql_type);
    }
    struct worker_schema known = {.columns = columns, .columns_count = schema->columns_count};
    lock_take(&lake->lock);
    lake_schemas_keep(lake->schemas, object->key, str_of(etag), &known);
    lock_release(&lake->lock);
    mem_free(columns);
}

/* What is there under the key: with time of its own, since the caller's may be over. */
static bool look(struct lake *lake, struct str key, const char *id, bool *ret_own, struct err *err)
{
    struct store_object found;
    struct cancel grace;
    cancel_init(&grace, clock_now_ms() + LOOK_TIME_MS);
    bool looked = store_head(lake->store, key, &grace, &found, err);
    cancel_finish(&grace);
    *ret_own =
        looked && (!store_keeps_content_id(lake->store) || strcmp(found.content_id, id) == 0);
    return looked;
}

/* The name is taken: by an earlier put of these rows, or by another server that thinks it is us. */
static bool settle_conflict(struct lake *lake, const struct ship_object *object, const char *id,
                            struct err *err)
{
    bool own;
    if (!look(lake, object->key, id, &own, err)) {
        struct err cause = *err;
        return err_set(err, ERR_UNCERTAIN, "it is not known who stored \"%.*s\": %s",
                       STR_ARG(object->key), cause.message);
    }
    return own ||
           err_set(
               err, ERR_CONFLICT,
               "\"%.*s\" is in the store with other contents: another server writes with a copy "
               "of this one's log, whose identity must be its own",
               STR_ARG(object->key));
}

static bool settle_uncertain(struct lake *lake, const struct ship_object *object, const char *id,
                             struct err *err)
{
    bool own;
    struct err other;
    if (look(lake, object->key, id, &own, &other)) {
        return own || settle_conflict(lake, object, id, err);
    }
    if (other.kind == ERR_STORE_MISSING) {
        err->kind = ERR_STORE; /* it is not there */
    }
    return false;
}

/* A worker that would take all the time there is must not: then its rows are the reason, and
 * smaller objects may be the cure. */
static bool write_file(struct lake *lake, const struct ship_object *object, struct cancel *cancel,
                       struct store_source *ret_source, struct err *err)
{
    int64_t deadline_ms = cancel->deadline_ms;
    int64_t latest_ms = clock_now_ms() + WRITE_TIME_MS;
    struct err ignored;
    cancel->deadline_ms = deadline_ms < latest_ms ? deadline_ms : latest_ms;
    bool good = lake_write_lines(lake, object->schema, object->lines, object->window, cancel,
                                 &ret_source->fd, &ret_source->size, err);
    cancel->deadline_ms = deadline_ms;
    if (!good && err->kind == ERR_TIMEOUT && cancel_check(cancel, &ignored)) {
        (void)err_set(err, ERR_UNPROCESSABLE, "no worker made a file of the rows within %d seconds",
                      WRITE_TIME_MS / 1000);
    }
    return good;
}

static bool put_object(struct lake *lake, const struct ship_object *object, struct cancel *cancel,
                       struct ship_attempt *attempt, struct err *err)
{
    char id[STORE_CONTENT_ID_SIZE];
    struct store_source source = {.fd = -1};
    struct err ignored;
    bool own = false;
    make_content_id(lake, object, id);
    if (object->again) {
        ship_abort_earlier(lake->ship, object->key);
        if (look(lake, object->key, id, &own, &ignored) && own) {
            return true;
        }
    }
    if (!write_file(lake, object, cancel, &source, err)) {
        attempt->unwritable = err->kind == ERR_UNPROCESSABLE || err->kind == ERR_INTERNAL ||
                              err->kind == ERR_INVALID || err->kind == ERR_TOO_LARGE;
        return false;
    }
    attempt->put = true;
    struct store_put_options options = {
        .create_only = true, .content_type = "application/vnd.apache.parquet", .content_id = id};
    struct store_object stored;
    bool good = store_put(lake->store, object->key, &source, &options, cancel, &stored, err);
    fd_close(&source.fd);
    if (good) {
        keep_schema(lake, object, stored.etag);
        return true;
    }
    if (err->kind == ERR_CONFLICT) {
        return settle_conflict(lake, object, id, err);
    }
    return err->kind == ERR_UNCERTAIN && settle_uncertain(lake, object, id, err);
}

bool ship_put_object(struct lake *lake, const struct ship_object *object, struct cancel *cancel,
                     struct ship_attempt *ret_attempt, struct err *err)
{
    struct ship_putting putting;
    *ret_attempt = (struct ship_attempt){0};
    ship_begin_put(lake->ship, &putting, object->key);
    bool good = put_object(lake, object, cancel, ret_attempt, err);
    ship_end_put(lake->ship, &putting);
    return good;
}

/* ---- lines that no worker can write ---- */

static void append_aside_key(const struct lake *lake, const struct ship_object *object,
                             const char *suffix, struct buf *key)
{
    struct str name = object->key;
    while (str_find_byte(name, '/') < name.len) {
        name = str_from(name, str_find_byte(name, '/') + 1);
    }
    name = str_first(name, name.len - STR(".parquet").len);
    buf_append_format(key, "%s_eider/set_aside/%.*s/%.*s%s", lake->prefix, STR_ARG(object->table),
                      STR_ARG(name), suffix);
}

/* What c0, c1... of the lines are. A later one would say the same and more. */
static bool put_aside_schema(struct lake *lake, const struct ship_object *object,
                             struct cancel *cancel, struct err *err)
{
    struct buf key;
    struct buf text;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    buf_init(&text, WAL_PAYLOAD_SIZE_MAX / 2);
    append_aside_key(lake, object, ".schema.json", &key);
    lake_schema_append_json(object->schema, false, &text);
    struct store_source source = {.bytes = buf_str(&text), .fd = -1};
    struct store_put_options options = {.create_only = true, .content_type = "application/json"};
    bool good = buf_failed(&key) || buf_failed(&text)
                    ? err_set(err, ERR_INVALID, "the object's key or schema is too long")
                    : store_put(lake->store, buf_str(&key), &source, &options, cancel, NULL, err) ||
                          err->kind == ERR_CONFLICT;
    buf_finish(&key);
    buf_finish(&text);
    return good;
}

/* A file of their own: the store sends whole files. */
static bool copy_window(struct lake *lake, const struct ship_object *object, int *ret_fd,
                        struct err *err)
{
    off_t at = (off_t)object->window->offset;
    uint64_t left = object->window->size;
    *ret_fd = fd_temporary(lake->spool_folder, err);
    while (*ret_fd >= 0 && left > 0) {
        ssize_t copied = sendfile(*ret_fd, object->lines->fd, &at, left);
        if (copied <= 0 && errno != EINTR) {
            fd_close(ret_fd);
            return err_set_errno(err, ERR_UNAVAILABLE, errno, "there is no room for the lines");
        }
        left -= copied > 0 ? (uint64_t)copied : 0;
    }
    return *ret_fd >= 0;
}

bool ship_set_aside(struct lake *lake, const struct ship_object *object, struct cancel *cancel,
                    struct buf *ret_key, struct err *err)
{
    char id[STORE_CONTENT_ID_SIZE];
    struct ship_object aside = *object;
    append_aside_key(lake, object, ".ndjson", ret_key);
    if (buf_failed(ret_key)) {
        return err_set(err, ERR_INVALID, "the object's key is too long");
    }
    aside.key = buf_str(ret_key);
    make_content_id(lake, &aside, id);
    struct store_source source = {.size = object->window->size};
    struct store_put_options options = {
        .create_only = true, .content_type = "application/x-ndjson", .content_id = id};
    if (!put_aside_schema(lake, object, cancel, err) ||
        !copy_window(lake, object, &source.fd, err)) {
        return false;
    }
    bool good = store_put(lake->store, aside.key, &source, &options, cancel, NULL, err);
    fd_close(&source.fd);
    if (good || err->kind == ERR_CONFLICT) {
        return good || settle_conflict(lake, &aside, id, err);
    }
    return err->kind == ERR_UNCERTAIN && settle_uncertain(lake, &aside, id, err);
}
