#include "worker_duck.h"

#include "mem.h"
#include "worker_layers.h"
#include "worker_shim.h"
#include "worker_shim_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY_BYTES UINT64_C(1000000000) /* of the zygote, before there are limits of jobs */

/* What is shut once and for all, before any job or request. */
static const char *const closing_settings[] = {
    "SET autoload_known_extensions = false",
    "SET autoinstall_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET allow_unsigned_extensions = false",
    "SET allow_persistent_secrets = false",
    "SET enable_external_file_cache = false",
    "SET preserve_insertion_order = true",
    "SET GLOBAL TimeZone = 'UTC'",
    "SET errors_as_json = false",
};

bool duck_fail(struct err *err, duckdb_error_type type, const char *text)
{
    enum err_kind kind = type == DUCKDB_ERROR_OUT_OF_MEMORY ? ERR_UNPROCESSABLE
                         : type == DUCKDB_ERROR_INTERNAL || type == DUCKDB_ERROR_FATAL
                             ? ERR_INTERNAL
                             : ERR_INVALID;
    if (text == NULL || text[0] == '\0') {
        text = "the statement failed without a reason";
    }
    /* The server logs faults of the engine: their first line, which quotes no statement. */
    size_t size = kind == ERR_INTERNAL ? strcspn(text, "\n") : strlen(text);
    return err_set(err, kind, "%.*s", (int)size, text);
}

void duck_hide_statement(struct err *err)
{
    char *sql = strstr(err->message, "\n\nLINE ");
    if (sql != NULL) {
        *sql = '\0';
    }
}

static bool work(struct duck *duck, duckdb_extracted_statements statements,
                 duckdb_result *ret_result, struct err *err)
{
    CLEANUP(duckdb_destroy_pending) duckdb_pending_result pending = NULL;
    duckdb_error_type type;
    if (!shim_start_whole(duck->connection, statements, 0, &pending, &type) ||
        !shim_work(pending, &type)) {
        return duck_fail(err, type, duckdb_pending_error(pending));
    }
    return duckdb_execute_pending(pending, ret_result) == DuckDBSuccess ||
           duck_fail(err, duckdb_result_error_type(ret_result), duckdb_result_error(ret_result));
}

bool duck_run(struct duck *duck, struct str sql, duckdb_result *ret_result, struct err *err)
{
    CLEANUP(mem_free_text) char *text = mem_copy_bytes(sql.ptr, sql.len);
    CLEANUP(duckdb_destroy_extracted) duckdb_extracted_statements statements = NULL;
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    idx_t count = duckdb_extract_statements(duck->connection, text, &statements);
    if (count == 0) {
        return duck_fail(err, DUCKDB_ERROR_PARSER, duckdb_extract_statements_error(statements));
    }
    assert(count == 1);
    if (!work(duck, statements, &result, err)) {
        return false;
    }
    if (ret_result != NULL) {
        *ret_result = result;
        result = (duckdb_result){0};
    }
    return true;
}

bool duck_create_view(struct duck *duck, struct str name, struct str query, struct err *err)
{
    CLEANUP(mem_free_text) char *name_text = mem_copy_bytes(name.ptr, name.len);
    CLEANUP(mem_free_text) char *query_text = mem_copy_bytes(query.ptr, query.len);
    char problem[SHIM_TEXT_SIZE];
    return shim_create_view(duck->connection, name_text, query_text, problem) ||
           duck_fail(err, DUCKDB_ERROR_INVALID, problem);
}

static bool open_database(struct duck *duck, struct err *err)
{
    duckdb_config config;
    if (duckdb_create_config(&config) != DuckDBSuccess) {
        return err_set(err, ERR_INTERNAL, "no memory for the engine");
    }
    (void)duckdb_set_config(config, "threads", "1");
    char *problem = NULL;
    duckdb_state state = duckdb_open_ext(NULL, &duck->database, config, &problem);
    duckdb_destroy_config(&config);
    if (state != DuckDBSuccess) {
        (void)err_set(err, ERR_INTERNAL, "the engine does not open: %s", problem);
        duckdb_free(problem);
        return false;
    }
    if (duckdb_connect(duck->database, &duck->connection) != DuckDBSuccess) {
        return err_set(err, ERR_INTERNAL, "the engine does not connect");
    }
    duck->files = files_create(duck->database);
    return duck->files != NULL ||
           err_set(err, ERR_INTERNAL, "the engine does not take the file system");
}

/* External access goes last, since some settings cannot be changed without it; the prefixes of our
 * own file system are allowed just before. */
bool duck_shut(struct duck *duck, const char *allowed_directories, struct err *err)
{
    for (size_t i = 0; i < COUNT_OF(closing_settings); i++) {
        if (!duck_run(duck, str_of(closing_settings[i]), NULL, err)) {
            return false;
        }
    }
    if (!duck_run(duck, str_of(allowed_directories), NULL, err) ||
        !duck_run(duck, STR("SET enable_external_access = false"), NULL, err)) {
        return false;
    }
    return shim_forget_file_names(duck->database) ||
           err_set(err, ERR_INTERNAL, "the engine keeps taking names for files");
}

bool duck_open(struct duck *duck, struct err *err)
{
    return open_database(duck, err) && duck_run(duck, STR("SET temp_directory = ''"), NULL, err) &&
           duck_shut(duck, "SET allowed_directories = ['job://', 's3://', 'lake://']", err);
}

bool duck_warm(struct duck *duck, struct err *err)
{
    static const char line[] = "{\"c0\":1,\"c1\":\"x\"}\n{\"c0\":2,\"c1\":\"y\"}\n";
    static const char *const work[] = {
        "COPY (SELECT CAST(c0 AS BIGINT) a, c1 b FROM read_json('job://in', "
        "format = 'newline_delimited', columns = {c0: 'BIGINT', c1: 'VARCHAR'}) ORDER BY a) "
        "TO 'job://out' (FORMAT parquet, COMPRESSION zstd)",
        "CREATE VIEW warm AS SELECT * FROM read_parquet('job://out')",
        "SELECT b, count(*), sum(a), avg(a), max(b) FROM warm WHERE a > 0 GROUP BY b ORDER BY 2",
        "SELECT w.a, upper(w.b) FROM warm w JOIN warm v USING (a) WHERE w.b LIKE 'x%' LIMIT 1",
        "DROP VIEW warm",
        /* Gives the allocator's unused pages back, which each fork would copy and each worker give
         * back in its turn, when it is given its own limit. */
        "SET memory_limit = '1GB'",
    };
    int in = memfd_create("in", MFD_CLOEXEC);
    int out = memfd_create("out", MFD_CLOEXEC);
    bool good =
        in >= 0 && out >= 0 && write(in, line, sizeof(line) - 1) == (ssize_t)sizeof(line) - 1;
    if (!good) {
        (void)err_set(err, ERR_INTERNAL, "no memory files");
    }
    files_set_job(duck->files, NULL, in, out);
    for (size_t i = 0; good && i < COUNT_OF(work); i++) {
        good = duck_run(duck, str_of(work[i]), NULL, err);
    }
    files_set_job(duck->files, NULL, -1, -1);
    (void)close(in);
    duck->sample_fd = out;
    return good;
}

static bool limit(struct duck *duck, uint64_t memory_bytes, unsigned threads, struct err *err)
{
    char problem[SHIM_TEXT_SIZE];
    return shim_lock_limits(duck->database, memory_bytes, threads, problem, sizeof(problem)) ||
           err_set(err, ERR_INTERNAL, "the engine does not take its limits: %.400s", problem);
}

bool duck_make_connection(struct duck *duck, struct err *err)
{
    duckdb_disconnect(&duck->connection);
    if (duckdb_connect(duck->database, &duck->connection) != DuckDBSuccess ||
        !shim_count_progress(duck->connection)) {
        return err_set(err, ERR_INTERNAL, "the engine does not connect");
    }
    return limit(duck, MEMORY_BYTES, 1, err);
}

bool duck_make_own(struct duck *duck)
{
    uint64_t seed;
    return getrandom(&seed, sizeof(seed), 0) == sizeof(seed) &&
           shim_seed_random(duck->connection, seed);
}

bool duck_rehearse(struct duck *duck)
{
    struct err err;
    files_set_descriptors(duck->files, -1, duck->sample_fd);
    bool good = duck_run(duck, STR("BEGIN"), NULL, &err) &&
                duck_create_view(duck, STR("rehearsal"),
                                 STR("SELECT * FROM read_parquet(['job://out'])"), &err) &&
                duck_run(duck, STR("SELECT count(*) AS n FROM rehearsal"), NULL, &err);
    good = duck_run(duck, STR("ROLLBACK"), NULL, &err) && good;
    files_set_descriptors(duck->files, -1, -1);
    return good;
}

#ifdef EIDER_TEST_LAYERS
bool duck_open_anew(struct duck *duck, struct err *err)
{
    return open_database(duck, err);
}
#endif

bool duck_lock(struct duck *duck, const struct worker_limits *limits, struct err *err)
{
    if (!WORKER_LAYER_ON(limits, WORKER_LAYER_SETTINGS)) {
        return true;
    }
    return limit(duck, limits->memory_bytes, limits->threads, err);
}

static void append_doubled(struct buf *sql, struct str text, char quote)
{
    buf_append_byte(sql, quote);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == quote) {
            buf_append_byte(sql, quote);
        }
        buf_append_byte(sql, text.ptr[i]);
    }
    buf_append_byte(sql, quote);
}

void sql_append_identifier(struct buf *sql, struct str name)
{
    append_doubled(sql, name, '"');
}

void sql_append_literal(struct buf *sql, struct str text)
{
    append_doubled(sql, text, '\'');
}

void duck_append_text(duckdb_result *result, uint64_t column, uint64_t row, struct buf *into)
{
    char *text = duckdb_value_varchar(result, column, row);
    if (text != NULL) {
        buf_append_text(into, text);
        duckdb_free(text);
    }
}

unsigned duck_thread_count(void)
{
    /* A folder's links are itself, its name, and one for each folder in it. */
    struct stat status;
    return stat("/proc/self/task", &status) == 0 ? (unsigned)status.st_nlink - 2 : 0;
}
