/* Where files outside a database are: backups, what is imported and what is exported. */
#include "api_analytics.h"
#include "api_s3_config.h"
#include "digest.h"
#include "fd.h"
#include "mem.h"

#include <stdio.h>
#include <unistd.h>

enum {
    PLACE_SIZE_MAX = 8 << 10,
    REPLY_SIZE_MAX = 64 << 10
};

enum transfer_kind {
    TRANSFER_READ, /* of the object */
    TRANSFER_BACKUP,
    TRANSFER_EXPORT
};

/* One request between a database and an object. */
struct transfer {
    struct request *request;
    struct buf database;
    struct buf url; /* as the client wrote it */
    struct buf table;
    struct buf statement;
    struct str key; /* of the object; points into `url` */
    struct store *store;
    bool own_store; /* opened for this request */
    enum transfer_kind kind;
    bool overwrite;
    enum worker_import_mode mode;
};

static void transfer_destroy(void *context)
{
    struct transfer *transfer = context;
    if (transfer->own_store) {
        store_close(transfer->store);
    }
    buf_finish(&transfer->database);
    buf_finish(&transfer->url);
    buf_finish(&transfer->table);
    buf_finish(&transfer->statement);
    mem_free(transfer);
}

static struct transfer *transfer_create(struct request *request)
{
    struct transfer *transfer = mem_alloc(sizeof(*transfer));
    transfer->request = request;
    buf_init(&transfer->database, DATABASE_NAME_SIZE * 8);
    buf_init(&transfer->url, PLACE_SIZE_MAX);
    buf_init(&transfer->table, PLACE_SIZE_MAX);
    buf_init(&transfer->statement, ANALYTICS_TEXT_SIZE_MAX);
    request_set_work(request, transfer, transfer_destroy);
    return transfer;
}

/* ---- places ---- */

/* s3://bucket/key with the keys that the request brings. The server's own keys are not lent. */
static bool open_s3(struct transfer *transfer, struct str rest, struct err *err)
{
    struct json_span config;
    struct json_span bucket;
    size_t slash = str_find_byte(rest, '/');
    if (!json_find(transfer->request->body, STR("s3_config"), &config) ||
        config.kind != JSON_OBJECT) {
        return err_set(err, ERR_INVALID,
                       "an s3:// address needs s3_config: endpoint, bucket, accessKeyId, "
                       "secretAccessKey");
    }
    if (!snapshot_open_store(transfer->request, &transfer->store, err)) {
        return false;
    }
    transfer->own_store = true;
    transfer->key = str_from(rest, slash < rest.len ? slash + 1 : rest.len);
    if (!json_find(config, STR("bucket"), &bucket) ||
        !json_string_equal(bucket, str_first(rest, slash))) {
        return err_set(err, ERR_INVALID, "s3_config.bucket is not the bucket of the address");
    }
    return store_check_key(transfer->key, err);
}

/* A path is one beneath the backup folder, and the store of that folder opens nothing else. */
static bool open_place(struct transfer *transfer, struct err *err)
{
    struct str url = buf_str(&transfer->url);
    if (str_starts(url, STR("s3://"))) {
        return open_s3(transfer, str_from(url, 5), err);
    }
    if (url.len > 0 && (url.ptr[0] == '/' || str_find(url, STR("://")) < url.len)) {
        return err_set(err, ERR_INVALID,
                       "an address is s3://bucket/key, or a path beneath the backup folder "
                       "(EIDER_BACKUP_FOLDER), such as nightly/main.duckdb");
    }
    transfer->key = url;
    transfer->store = transfer->request->api->options.backup_store;
    return store_check_key(transfer->key, err);
}

/* Beneath the backup folder the names of exports are none of backups: the one kind never takes the
 * place of the other. */
static bool check_kind(const struct transfer *transfer, struct err *err)
{
    bool parquet = str_ends(transfer->key, STR(".parquet"));
    if (transfer->own_store || transfer->kind == TRANSFER_READ) {
        return true;
    }
    if (transfer->kind == TRANSFER_BACKUP) {
        return !parquet ||
               err_set(err, ERR_INVALID, "the name of a backup does not end in .parquet");
    }
    if (transfer->request->identity.role < AUTH_WRITE) {
        return err_set(err, ERR_FORBIDDEN,
                       "an export into the backup folder needs a token of the role write; one to "
                       "s3:// does not");
    }
    return parquet || err_set(err, ERR_INVALID,
                              "the name of an export into the backup folder ends in .parquet");
}

static void read_place(struct transfer *transfer, struct faults *faults, const char *name,
                       const char *field)
{
    analytics_read_text(faults, transfer->request->body, name, field, &transfer->url);
}

/* ---- what all begin with ---- */

static void check(struct request *request, void (*read)(struct transfer *, struct faults *))
{
    if (!analytics_read_body(request)) {
        return;
    }
    struct faults faults;
    struct err err;
    faults_init(&faults);
    struct transfer *transfer = transfer_create(request);
    read(transfer, &faults);
    (void)analytics_read_database(request, &faults, &transfer->database);
    request->group = databases_group(request->api->options.databases, buf_str(&transfer->database));
    if (faults_reply(&faults, request)) {
        /* told */
    } else if (!open_place(transfer, &err) || !check_kind(transfer, &err) ||
               !request_run(request, request->api->options.database_copy_timeout_ms, NULL, &err)) {
        reply_error(request, &err);
    }
    faults_finish(&faults);
}

static void begin(struct buf *body, struct json_writer *writer)
{
    reply_begin_object(body, REPLY_SIZE_MAX, writer);
    json_member_string(writer, "status", STR("success"));
}

static void put_place(const struct transfer *transfer, struct json_writer *writer)
{
    struct buf url;
    buf_init(&url, PLACE_SIZE_MAX);
    store_append_url(transfer->store, transfer->key, &url);
    json_member_string(writer, "path", buf_str(&url));
    buf_finish(&url);
}

/* An object that is not there is the client's mistake, not the store's. */
static void reply_failure(struct request *request, const struct err *err)
{
    if (err->kind == ERR_STORE_MISSING) {
        reply_status_error(request, 404, err);
    } else {
        reply_error(request, err);
    }
}

static struct str name_of(const struct transfer *transfer)
{
    return transfer->database.len == 0 ? STR("default") : buf_str(&transfer->database);
}

/* ---- POST .../backup, POST .../restore ---- */

static void read_backup(struct transfer *transfer, struct faults *faults)
{
    transfer->kind = TRANSFER_BACKUP;
    read_place(transfer, faults, "to", "body.to");
}

static void read_restore(struct transfer *transfer, struct faults *faults)
{
    read_place(transfer, faults, "from", "body.from");
}

void analytics_backup_check(struct request *request)
{
    check(request, read_backup);
}

void analytics_restore_check(struct request *request)
{
    check(request, read_restore);
}

static void reply_copy(const struct transfer *transfer, const struct database_copy *copy)
{
    struct buf body;
    struct json_writer writer;
    begin(&body, &writer);
    json_member_string(&writer, "database", name_of(transfer));
    put_place(transfer, &writer);
    json_member_u64(&writer, "size_bytes", copy->size_bytes);
    json_member_string(&writer, "sha256", str_of(copy->sha256));
    reply_end_object(transfer->request, 200, &body, &writer);
}

static void run_copy(struct request *request,
                     bool (*copy)(struct databases *, struct str, const struct database_place *,
                                  struct cancel *, struct database_copy *, struct err *))
{
    const struct transfer *transfer = request->work;
    struct database_place place = {.store = transfer->store, .key = transfer->key};
    struct database_copy done;
    struct err err;
    if (copy(request->api->options.databases, buf_str(&transfer->database), &place, request->cancel,
             &done, &err)) {
        reply_copy(transfer, &done);
    } else {
        reply_failure(request, &err);
    }
}

void analytics_backup_run(struct request *request)
{
    run_copy(request, databases_backup);
}

void analytics_restore_run(struct request *request)
{
    run_copy(request, databases_restore);
}

/* ---- POST .../import, POST .../export ---- */

static bool run_in_database(struct transfer *transfer, struct worker_request *wanted, bool writes,
                            int fd, struct database_outcome *outcome, struct err *err)
{
    struct database_request request = {
        .database = buf_str(&transfer->database),
        .writes = writes,
        .run = {.request = *wanted, .fds = {fd, -1}, .context = transfer},
    };
    request.run.request.role = writes ? analytics_role(transfer->request) : WORKER_ROLE_READ;
    return databases_run(transfer->request->api->options.databases, &request,
                         transfer->request->cancel, outcome, err);
}

static void read_mode(struct transfer *transfer, struct faults *faults)
{
    static const char *const modes[] = {
        [WORKER_IMPORT_CREATE] = "create",
        [WORKER_IMPORT_APPEND] = "append",
        [WORKER_IMPORT_REPLACE] = "replace",
    };
    struct json_span value;
    if (!json_find(transfer->request->body, STR("mode"), &value)) {
        return;
    }
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        if (value.kind == JSON_STRING && json_string_equal(value, str_of(modes[i]))) {
            transfer->mode = (enum worker_import_mode)i;
            return;
        }
    }
    faults_add(faults, "body.mode", "literal_error",
               "Input should be 'create', 'append' or 'replace'");
}

static void read_import(struct transfer *transfer, struct faults *faults)
{
    analytics_read_text(faults, transfer->request->body, "table", "body.table", &transfer->table);
    read_place(transfer, faults, "from", "body.from");
    read_mode(transfer, faults);
}

void analytics_import_check(struct request *request)
{
    check(request, read_import);
}

/* The object into a file that has no name: the worker gets its descriptor. */
static bool fetch(const struct transfer *transfer, int *ret_fd, uint64_t *ret_size, struct err *err)
{
    struct request *request = transfer->request;
    struct store_object object;
    if (!store_head(transfer->store, transfer->key, request->cancel, &object, err)) {
        return false;
    }
    *ret_fd = fd_temporary(request->api->options.spool_folder, err);
    *ret_size = object.size;
    return *ret_fd >= 0 &&
           databases_have_room(request->api->options.databases, *ret_fd, object.size, err) &&
           store_get_range(transfer->store, transfer->key, object.etag, 0, object.size, *ret_fd, 0,
                           request->cancel, err);
}

void analytics_import_run(struct request *request)
{
    struct transfer *transfer = request->work;
    struct database_outcome outcome = {0};
    struct err err;
    CLEANUP(fd_close) int fd = -1;
    uint64_t size = 0;
    struct worker_request wanted = {
        .kind = WORKER_IMPORT, .mode = transfer->mode, .table = buf_str(&transfer->table)};
    if (!fetch(transfer, &fd, &size, &err)) {
        reply_failure(request, &err);
        return;
    }
    if (!run_in_database(transfer, &wanted, true, fd, &outcome, &err)) {
        analytics_reply_failure(request, "Import failed: ", &outcome, &err);
        return;
    }
    struct buf body;
    struct json_writer writer;
    begin(&body, &writer);
    json_member_string(&writer, "database", name_of(transfer));
    json_member_string(&writer, "table", buf_str(&transfer->table));
    json_member_u64(&writer, "rows", outcome.run.done.rows);
    json_member_u64(&writer, "size_bytes", size);
    reply_end_object(request, 200, &body, &writer);
}

/* A table by its name, or the result of a query. */
static void read_export(struct transfer *transfer, struct faults *faults)
{
    struct json_span body = transfer->request->body;
    struct json_span ignored;
    transfer->kind = TRANSFER_EXPORT;
    read_place(transfer, faults, "to", "body.to");
    analytics_read_flag(faults, body, "overwrite", "body.overwrite", &transfer->overwrite);
    if (json_find(body, STR("table"), &ignored)) {
        analytics_read_text(faults, body, "table", "body.table", &transfer->table);
        buf_append_text(&transfer->statement, "SELECT * FROM ");
        buf_append_byte(&transfer->statement, '"');
        struct str name = buf_str(&transfer->table);
        for (size_t i = 0; i < name.len; i++) {
            buf_append(&transfer->statement,
                       name.ptr[i] == '"' ? STR("\"\"") : str_make(name.ptr + i, 1));
        }
        buf_append_byte(&transfer->statement, '"');
    } else {
        analytics_read_text(faults, body, "query", "body.query", &transfer->statement);
    }
}

void analytics_export_check(struct request *request)
{
    check(request, read_export);
}

static bool put(const struct transfer *transfer, int fd, struct database_copy *copy,
                struct err *err)
{
    struct sha256 sum;
    off_t size = lseek(fd, 0, SEEK_END);
    copy->size_bytes = size < 0 ? 0 : (uint64_t)size;
    if (!digest_sha256_fd(fd, copy->size_bytes, &sum, err)) {
        return false;
    }
    digest_hex(sum.bytes, sizeof(sum.bytes), copy->sha256);
    struct store_source source = {.fd = fd, .size = copy->size_bytes};
    struct store_put_options options = {.create_only = !transfer->overwrite};
    struct store_object object;
    if (store_put(transfer->store, transfer->key, &source, &options, transfer->request->cancel,
                  &object, err)) {
        return true;
    }
    if (err->kind == ERR_CONFLICT) {
        (void)err_set(err, ERR_CONFLICT,
                      "there is something at this address already; send \"overwrite\": true");
    }
    return false;
}

void analytics_export_run(struct request *request)
{
    struct transfer *transfer = request->work;
    struct database_outcome outcome = {0};
    struct database_copy copy;
    struct err err;
    struct str statement = buf_str(&transfer->statement);
    struct worker_request wanted = {
        .kind = WORKER_EXPORT, .statements = &statement, .statements_count = 1};
    CLEANUP(fd_close) int fd = fd_temporary(request->api->options.spool_folder, &err);
    if (fd < 0) {
        reply_error(request, &err);
        return;
    }
    if (!run_in_database(transfer, &wanted, false, fd, &outcome, &err)) {
        analytics_reply_failure(request, "Export failed: ", &outcome, &err);
        return;
    }
    if (!put(transfer, fd, &copy, &err)) {
        reply_error(request, &err);
        return;
    }
    struct buf body;
    struct json_writer writer;
    begin(&body, &writer);
    json_member_string(&writer, "database", name_of(transfer));
    put_place(transfer, &writer);
    json_member_u64(&writer, "rows", outcome.run.done.rows);
    json_member_u64(&writer, "size_bytes", copy.size_bytes);
    json_member_string(&writer, "sha256", str_of(copy.sha256));
    reply_end_object(request, 200, &body, &writer);
}
