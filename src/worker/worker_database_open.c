#include "worker_database_open.h"

#include "worker_layers.h"
#include "worker_shim_statement.h"

#include <stdio.h>

/* Where things are in the first three pages of a file: a main header, and two headers of which the
 * one with the higher count is true. Each page begins with a checksum of its rest. */
enum {
    PAGE_SIZE = STORAGE_HEADER_SIZE / 3,
    MAGIC_AT = 8,
    VERSION_AT = 12,
    FLAGS_AT = 20,
    FLAG_ENCRYPTED = 1,
    COUNT_AT = 8,
    COMPATIBILITY_AT = 56
};

static uint64_t number_at(const char *page, size_t at)
{
    uint64_t number;
    memcpy(&number, page + at, sizeof(number));
    return number;
}

static bool is_whole(const char *page)
{
    return shim_checksum(page + sizeof(uint64_t), PAGE_SIZE - sizeof(uint64_t)) ==
           number_at(page, 0);
}

/* Judges what the engine would not tell from damage. Whether it is damaged is left to the engine.
 */
static bool check_version(const char head[STORAGE_HEADER_SIZE], struct err *err)
{
    uint64_t least;
    uint64_t most;
    uint64_t compatibility;
    shim_storage_versions(&least, &most, &compatibility);
    const char *first = head + PAGE_SIZE;
    const char *second = head + 2 * (size_t)PAGE_SIZE;
    if (memcmp(head + MAGIC_AT, "DUCK", 4) != 0 || !is_whole(head) || !is_whole(first) ||
        !is_whole(second)) {
        return true;
    }
    uint64_t version = number_at(head, VERSION_AT);
    const char *active = number_at(first, COUNT_AT) > number_at(second, COUNT_AT) ? first : second;
    if ((number_at(head, FLAGS_AT) & FLAG_ENCRYPTED) != 0) {
        return err_set(err, ERR_NOT_IMPLEMENTED, "the database is encrypted");
    }
    if (version < least || version > most ||
        (version > least && number_at(active, COMPATIBILITY_AT) > compatibility)) {
        return err_set(err, ERR_NOT_IMPLEMENTED,
                       "the database was made by another version of the engine");
    }
    return true;
}

static bool look(struct storage *storage, uint64_t *ret_log_bytes, struct err *err)
{
    char head[STORAGE_HEADER_SIZE];
    uint64_t size;
    uint64_t log;
    uint64_t newer_log;
    if (!storage_look(storage, "", head, sizeof(head), &size, err) ||
        !storage_look(storage, ".wal", NULL, 0, &log, err) ||
        !storage_look(storage, ".wal.checkpoint", NULL, 0, &newer_log, err)) {
        return false;
    }
    *ret_log_bytes = log + newer_log;
    if (size == 0 && *ret_log_bytes > 0) {
        /* The engine would begin anew, and remove the log. */
        return err_set(err, ERR_CORRUPT, "the database's file is missing, but its log is there");
    }
    return size < sizeof(head) || check_version(head, err);
}

static bool open_file(struct duck *duck, struct storage *storage, const struct shim_database *how,
                      struct err *err)
{
    char problem[SHIM_TEXT_SIZE] = "";
    duckdb_error_type type = DUCKDB_ERROR_INTERNAL;
    if (shim_open_database(how, &duck->database, &type, problem, sizeof(problem))) {
        return true;
    }
    int size = (int)strcspn(problem, "\n");
    if (storage_failed(storage)) {
        return err_set(err, ERR_UNAVAILABLE, "%.*s", size, problem);
    }
    if (type == DUCKDB_ERROR_OUT_OF_MEMORY) {
        return err_set(err, ERR_UNPROCESSABLE,
                       "opening the database needs more memory than it may use; raise "
                       "DUCKDB_MEMORY_LIMIT, or EIDER_DATABASE_TEMP_MAX for what is spilled: %.*s",
                       size, problem);
    }
    bool damaged = type == DUCKDB_ERROR_IO || type == DUCKDB_ERROR_SERIALIZATION;
    return err_set(err, damaged ? ERR_CORRUPT : ERR_UNAVAILABLE, "%.*s", size, problem);
}

/* Replays the log with every change refused: what fails here fails without a trace. One that needs
 * more than a trial may have is replayed without it: there its writes are not kept in memory. */
static bool try_out(struct storage *storage, const struct shim_database *how, struct err *err)
{
    struct shim_database trial = *how;
    struct duck duck = {0};
    trial.read_only = true;
    storage_set_phase(storage, STORAGE_TRIAL);
    bool good = open_file(&duck, storage, &trial, err);
    duckdb_close(&duck.database);
    storage_set_phase(storage, STORAGE_OPENS);
    return good || storage_patches_full(storage) || err->kind == ERR_UNPROCESSABLE;
}

/* The engine takes this one from what it was opened with, shows it, and does not keep to it. */
static bool bound_spilled(struct duck *duck, uint64_t bytes_max, struct err *err)
{
    char sql[96];
    (void)snprintf(sql, sizeof(sql), "SET GLOBAL max_temp_directory_size = '%lluB'",
                   (unsigned long long)bytes_max);
    return bytes_max == 0 || duck_run(duck, str_of(sql), NULL, err);
}

static bool shut(struct duck *duck, struct storage *storage, const struct worker_limits *limits,
                 uint64_t temp_bytes_max, struct err *err)
{
    storage_set_phase(storage, STORAGE_SERVES);
    if (!shim_watch_plans(duck->database)) {
        return err_set(err, ERR_INTERNAL, "the engine does not show its plans");
    }
    if (duckdb_connect(duck->database, &duck->connection) != DuckDBSuccess) {
        return err_set(err, ERR_UNPROCESSABLE, "there is no memory for a connection");
    }
    if (!bound_spilled(duck, temp_bytes_max, err)) {
        return false;
    }
    return !WORKER_LAYER_ON(limits, WORKER_LAYER_SETTINGS) ||
           (duck_shut(duck, "SET allowed_directories = ['job://', 'db://']", err) &&
            duck_lock(duck, limits, err));
}

bool database_open(struct duck *duck, struct storage *storage, const struct worker_limits *limits,
                   const struct worker_database *options, uint64_t *ret_log_bytes, struct err *err)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "db://%.*s", STR_ARG(options->name));
    struct shim_database how = {
        .files = storage_operations(storage),
        .path = path,
        .read_only = options->read_only != 0,
        .memory_bytes = limits->memory_bytes,
        .temp_bytes_max = options->temp_bytes_max,
        .checkpoint_bytes = options->checkpoint_bytes,
        .threads = limits->threads,
    };
    return look(storage, ret_log_bytes, err) &&
           (*ret_log_bytes == 0 || how.read_only || try_out(storage, &how, err)) &&
           open_file(duck, storage, &how, err) &&
           shut(duck, storage, limits, options->temp_bytes_max, err);
}

bool database_settle(struct duck *duck, const struct worker_database *options, struct err *err)
{
    return options->read_only != 0 || duck_run(duck, STR("CHECKPOINT"), NULL, err);
}

void database_close(struct duck *duck)
{
    duckdb_disconnect(&duck->connection);
    duckdb_close(&duck->database);
}
