#include "server_databases.h"

#include "mem.h"
#include "num.h"
#include "server_machine.h"

#include <stdio.h>
#include <string.h>

enum {
    PATH_SIZE = 4096,
    POOL_PER_THREAD = 2, /* as the original's pool of connections */
    BREAKER_SUCCESSES = 3,
    BREAKER_TIMEOUT_MAX_MS = 300000,
    BREAKER_WINDOW_MS = 300000
};

#define DEFAULT_MEMORY "2GB"

static char *path_in_data(const struct config *config, const char *name)
{
    char path[PATH_SIZE];
    int size = snprintf(path, sizeof(path), "%s/%s", config_text(config, "EIDER_DATA"), name);
    return mem_copy_bytes(path, (size_t)size < sizeof(path) ? (size_t)size : sizeof(path) - 1);
}

/* The original counted in 1024s, whatever the unit was called. */
static uint64_t parse_memory(const char *text)
{
    char binary[64];
    struct err ignored;
    uint64_t bytes = 0;
    size_t digits = strcspn(text, "kKmMgGtT");
    bool decimal = text[digits] != '\0' && text[digits + 1] != 'i' && text[digits + 1] != 'I';
    if (decimal) {
        (void)snprintf(binary, sizeof(binary), "%.*s%ciB", (int)digits, text, text[digits]);
    } else {
        (void)snprintf(binary, sizeof(binary), "%s", text);
    }
    return num_parse_bytes(str_of(binary), &bytes, &ignored) ? bytes : 0;
}

static uint64_t memory_of_one(const struct config *config, char text[static 32])
{
    const char *given = config_text(config, "DUCKDB_MEMORY_LIMIT");
    (void)snprintf(text, 32, "%.31s", given == NULL ? DEFAULT_MEMORY : given);
    uint64_t wanted = parse_memory(text);
    uint64_t percent = config_number(config, "DUCKDB_MAX_MEMORY_PERCENTAGE");
    uint64_t most = machine_memory_bytes() / 100 * percent;
    return wanted > 0 && wanted < most ? wanted : most;
}

static struct breaker_options breaker_of(const struct config *config)
{
    return (struct breaker_options){
        .failure_threshold =
            (unsigned)config_number(config, "DUCKDB_CIRCUIT_BREAKER_FAILURE_THRESHOLD"),
        .success_threshold = BREAKER_SUCCESSES,
        .timeout_ms =
            (int64_t)config_number(config, "DUCKDB_CIRCUIT_BREAKER_RECOVERY_TIMEOUT") * 1000,
        .timeout_max_ms = BREAKER_TIMEOUT_MAX_MS,
        .window_ms = BREAKER_WINDOW_MS,
    };
}

static void read_options(const struct config *config, struct engine *engine,
                         const char *spool_folder, struct server_databases *into)
{
    uint64_t memory_bytes = memory_of_one(config, into->memory_text);
    uint64_t half = machine_memory_bytes() / 2;
    unsigned threads = (unsigned)config_number(config, "DUCKDB_WORKER_THREADS");
    into->options = (struct databases_options){
        .engine = engine,
        .folder = into->folder,
        .trash_folder = into->trash_folder,
        .spool_folder = spool_folder,
        .default_path = config_text(config, "DUCKDB_DATABASE_PATH"),
        .temp_folder = config_text(config, "DUCKDB_TEMP_DIRECTORY"),
        .memory_bytes = memory_bytes,
        .memory_total_bytes = memory_bytes > half ? memory_bytes : half,
        .file_bytes_max = config_number(config, "EIDER_DATABASE_FILE_MAX"),
        .disk_free_min = config_number(config, "EIDER_LOG_FREE_MIN"),
        .temp_bytes_max = config_number(config, "EIDER_DATABASE_TEMP_MAX"),
        .threads = threads,
        .slots = threads * POOL_PER_THREAD,
        .waiting_max = (unsigned)config_number(config, "EIDER_DATABASE_QUEUE"),
        .open_max = (unsigned)config_number(config, "EIDER_DATABASES_OPEN_MAX"),
        .databases_max = (unsigned)config_number(config, "EIDER_DATABASES_MAX"),
        .open_timeout_ms = (int64_t)config_number(config, "EIDER_DATABASE_COPY_TIMEOUT_MS"),
        .idle_close_ms = (int64_t)config_number(config, "EIDER_DATABASE_IDLE_MS"),
        .trash_keep_ms = (int64_t)config_number(config, "EIDER_TRASH_KEEP_DAYS") * 86400000,
        .breaker = breaker_of(config),
        .breaker_counts_statements = config_bool(config, "EIDER_BREAKER_COUNTS_STATEMENTS"),
    };
}

void server_backup_folder(const struct config *config, char path[static SERVER_PATH_SIZE])
{
    const char *given = config_text(config, "EIDER_BACKUP_FOLDER");
    (void)snprintf(path, SERVER_PATH_SIZE, "%s%s",
                   given != NULL ? given : config_text(config, "EIDER_DATA"),
                   given != NULL ? "" : "/backup");
}

bool server_open_databases(const struct config *config, struct engine *engine,
                           const char *spool_folder, struct server_databases *ret_databases,
                           struct err *err)
{
    struct server_databases *into = ret_databases;
    char backup_folder[SERVER_PATH_SIZE];
    server_backup_folder(config, backup_folder);
    into->backup_store = store_open_folder(backup_folder, err);
    if (into->backup_store == NULL) {
        return false;
    }
    into->folder = path_in_data(config, "db");
    into->trash_folder = path_in_data(config, "trash");
    read_options(config, engine, spool_folder, into);
    into->databases = databases_create(&into->options);
    return true;
}

void server_describe_databases(const struct config *config,
                               const struct server_databases *databases,
                               struct api_options *options)
{
    options->databases = databases->databases;
    options->breaker = databases->options.breaker;
    options->backup_store = databases->backup_store;
    options->database_slots = databases->options.slots;
    options->database_threads = databases->options.threads;
    options->databases_queue_max = databases->options.waiting_max;
    options->database_requests_max = (unsigned)config_number(config, "EIDER_DATABASE_REQUESTS");
    options->database_rows_max = config_number(config, "ANALYTICS_MAX_RESULT_SIZE");
    options->database_memory_text = databases->memory_text;
    options->database_copy_timeout_ms =
        (int64_t)config_number(config, "EIDER_DATABASE_COPY_TIMEOUT_MS");
}

void server_close_databases(struct server_databases *databases, int64_t deadline_ms)
{
    databases_destroy(databases->databases, deadline_ms);
    store_close(databases->backup_store);
    mem_free(databases->folder);
    mem_free(databases->trash_folder);
}
