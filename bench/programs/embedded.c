/* embedded.c - the bound: what the engine does by itself, in one process, warm.
 *
 * usage: embedded THREADS ROUNDS STATEMENT [SETUP]
 *
 * Opens one in-memory database, runs SETUP, then STATEMENT once to warm and ROUNDS times measured.
 * A result is streamed and each of its chunks fetched and dropped: nothing is encoded. Prints one
 * JSON object: wall and processor time of each round, and the rows of one. */
#include <duckdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static double wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static double cpu_ms(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

static _Noreturn void fail(const char *what, const char *detail)
{
    (void)fprintf(stderr, "embedded: %s: %s\n", what, detail == NULL ? "" : detail);
    exit(1);
}

static void run_plain(duckdb_connection connection, const char *sql)
{
    duckdb_result result;
    if (duckdb_query(connection, sql, &result) != DuckDBSuccess) {
        fail(sql, duckdb_result_error(&result));
    }
    duckdb_destroy_result(&result);
}

static unsigned long long run_fetch(duckdb_connection connection, const char *sql)
{
    duckdb_prepared_statement prepared;
    duckdb_pending_result pending;
    duckdb_result result;
    if (duckdb_prepare(connection, sql, &prepared) != DuckDBSuccess) {
        fail(sql, duckdb_prepare_error(prepared));
    }
    if (duckdb_pending_prepared_streaming(prepared, &pending) != DuckDBSuccess) {
        fail(sql, duckdb_pending_error(pending));
    }
    if (duckdb_execute_pending(pending, &result) != DuckDBSuccess) {
        fail(sql, duckdb_result_error(&result));
    }
    unsigned long long rows = 0;
    duckdb_data_chunk chunk;
    while ((chunk = duckdb_fetch_chunk(result)) != NULL) {
        rows += duckdb_data_chunk_get_size(chunk);
        duckdb_destroy_data_chunk(&chunk);
    }
    duckdb_destroy_result(&result);
    duckdb_destroy_pending(&pending);
    duckdb_destroy_prepare(&prepared);
    return rows;
}

static duckdb_connection open_engine(const char *threads)
{
    duckdb_config config;
    duckdb_database database;
    duckdb_connection connection;
    char *problem = NULL;
    if (duckdb_create_config(&config) != DuckDBSuccess ||
        duckdb_set_config(config, "threads", threads) != DuckDBSuccess ||
        duckdb_open_ext(NULL, &database, config, &problem) != DuckDBSuccess ||
        duckdb_connect(database, &connection) != DuckDBSuccess) {
        fail("open", problem);
    }
    run_plain(connection, "SET enable_progress_bar = false");
    return connection;
}

int main(int count, char **arguments)
{
    if (count < 4 || count > 5) {
        fail("usage", "embedded THREADS ROUNDS STATEMENT [SETUP]");
    }
    const char *statement = arguments[3];
    unsigned long rounds = strtoul(arguments[2], NULL, 10);
    duckdb_connection connection = open_engine(arguments[1]);
    if (count == 5) {
        run_plain(connection, arguments[4]);
    }
    unsigned long long rows = run_fetch(connection, statement);
    (void)printf("{\"rows\": %llu, \"rounds\": [", rows);
    for (unsigned long i = 0; i < rounds; i++) {
        double wall = wall_ms();
        double cpu = cpu_ms();
        (void)run_fetch(connection, statement);
        (void)printf("%s{\"ms\": %.3f, \"cpu_ms\": %.3f}", i == 0 ? "" : ", ", wall_ms() - wall,
                     cpu_ms() - cpu);
    }
    (void)printf("]}\n");
    return 0;
}
