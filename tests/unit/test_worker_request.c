#include "request_scene.h"

#include "worker_shim_statement.h"

#include <sys/mman.h>

#define CHECK_STR_OF(actual, expected) CHECK_STR(str_of(actual), expected)

/* One row: a text, its parameters, and the RESULT or the whole message of the error. */
struct sample {
    const char *sql;
    const char *parameters;
    const char *answer;
};

/* clang-format off */
static const struct sample values[] = {
    { "SELECT true, NULL, (-1)::TINYINT, 18446744073709551615, 1267650600228229401496703205376::HUGEINT", "",
      "[[true,null,-1,18446744073709551615,1267650600228229401496703205376]]" },
    { "SELECT 15::DOUBLE, 1e-7, 1e16, 1e15, 123456789012345678::DOUBLE, 0.1::DOUBLE, 0.0001::DOUBLE, '-0'::DOUBLE, 2.5::FLOAT, 1e300", "",
      "[[15.0,1e-07,1e+16,1000000000000000.0,1.2345678901234568e+17,0.1,0.0001,-0.0,2.5,1e+300]]" },
    { "SELECT 'NaN'::DOUBLE, 'inf'::FLOAT, '-inf'::DOUBLE", "", "[[null,null,null]]" },
    { "SELECT 1.50::DECIMAL(9,2), (-0.05)::DECIMAL(4,2), 7::DECIMAL(38,0), 0::DECIMAL(30,20)", "",
      "[[\"1.50\",\"-0.05\",\"7\",\"0.00000000000000000000\"]]" },
    { "SELECT json_extract('{\"a\":\"test\"}', '$.a'), '0110'::BIT, 'y'::ENUM('x','y'), 123::BIGNUM", "",
      "[[\"\\\"test\\\"\",\"0110\",\"y\",\"123\"]]" },
    { "SELECT '00000000-0000-0000-0000-00000000ABCD'::UUID, 'ab'::BLOB, '\\xFFa'::BLOB", "",
      "[[\"00000000-0000-0000-0000-00000000abcd\",\"ab\",\"\\\\xFFa\"]]" },
    { "SELECT DATE '2024-01-02', TIME '10:00:00', TIME '10:00:00.5', TIMESTAMP '2024-01-02 03:04:05'", "",
      "[[\"2024-01-02\",\"10:00:00\",\"10:00:00.500000\",\"2024-01-02T03:04:05\"]]" },
    { "SELECT TIMESTAMP '1969-12-31 23:59:59.12', '2024-01-02 03:04:05.123456789'::TIMESTAMP_NS, TIMESTAMPTZ '2024-01-02 03:04:05+01', '2024-01-02 03:04:05'::TIMESTAMP_S", "",
      "[[\"1969-12-31T23:59:59.120000\",\"2024-01-02T03:04:05.123456\",\"2024-01-02T02:04:05Z\",\"2024-01-02T03:04:05\"]]" },
    { "SELECT 'infinity'::TIMESTAMP, '-infinity'::TIMESTAMP, 'infinity'::DATE, '-infinity'::DATE, '12024-01-02'::DATE", "",
      "[[\"9999-12-31T23:59:59.999999\",\"0001-01-01T00:00:00\",\"9999-12-31\",\"0001-01-01\",\"12024-01-02\"]]" },
    { "SELECT INTERVAL '1 day 3 seconds', INTERVAL '1 month', INTERVAL '-90 minutes', INTERVAL 0 DAY", "",
      "[[\"P1DT3S\",\"P30D\",\"-PT1H30M\",\"PT0S\"]]" },
    { "SELECT [1,NULL], array_value(1,2), {'a':1,'b':['x']}, row(1,'x'), [[1],[]]", "",
      "[[[1,null],[1,2],{\"a\":1,\"b\":[\"x\"]},[1,\"x\"],[[1],[]]]]" },
    { "SELECT map{1:'a'}, map{'k':NULL}, map{[1]:2}, map{DATE '2024-01-02':1}, union_value(k := 'v'), NULL::INTEGER[2]", "",
      "[[{\"1\":\"a\"},{\"k\":null},{\"key\":[[1]],\"value\":[2]},{\"2024-01-02\":1},\"v\",null]]" },
    { "SELECT * FROM VALUES (1,'a'),(2,'b') AS t(id,name)", "", "[[1,\"a\"],[2,\"b\"]]" },
    { "SELECT 1 WHERE false", "", "[]" },
};

static const struct sample parameters[] = {
    { "SELECT ? AS v", "{\"1\":\"x\"}", "[[\"x\"]]" },
    { "SELECT $1", "{\"1\":5}", "[[5]]" },
    { "SELECT $LIM", "{\"lim\":5}", "[[5]]" },
    { "SELECT $a + $b", "{\"b\":2,\"a\":1}", "[[3]]" },
    { "SELECT ?, ?", "[\"x\",2]", "[[\"x\",2]]" },
    { "SELECT 1", "{\"limit\":3}", "[[1]]" },
    { "SELECT 1", "{}", "[[1]]" },
    { "SELECT typeof($a), typeof($b), typeof($c), typeof($d), typeof($e)",
      "{\"a\":2147483647,\"b\":2147483648,\"c\":18446744073709551615,\"d\":18446744073709551616,\"e\":-9223372036854775809}",
      "[[\"INTEGER\",\"BIGINT\",\"UBIGINT\",\"HUGEINT\",\"HUGEINT\"]]" },
    { "SELECT typeof($a), typeof($b), typeof($c), typeof($d), $e", "{\"a\":1.5,\"b\":1e3,\"c\":[1,2.5],\"d\":true,\"e\":null}",
      "[[\"DOUBLE\",\"DOUBLE\",\"DOUBLE[]\",\"BOOLEAN\",null]]" },
    { "SELECT typeof($a), $b, typeof($b)", "{\"a\":{\"x\":1},\"b\":{\"key\":[1,2],\"value\":[\"x\",\"y\"]}}",
      "[[\"STRUCT(x INTEGER)\",{\"1\":\"x\",\"2\":\"y\"},\"MAP(INTEGER, VARCHAR)\"]]" },
    { "SELECT $a", "{\"a\":{\"key\":[1],\"value\":[]}}", "[[{\"key\":[1],\"value\":[]}]]" },
    { "SELECT 1; SELECT $a", "{\"a\":7}", "[[7]]" },
    { "SELECT ?", "", "Invalid Input Error: Expected 1 parameters, but none were supplied" },
    { "SELECT $a, $b", "{\"a\":1}",
      "Invalid Input Error: Values were not provided for the following prepared statement parameters: b" },
    { "SELECT $1", "{\"1\":1,\"2\":2}",
      "Invalid Input Error: Parameter argument/count mismatch, identifiers of the excess parameters: 2" },
    { "SELECT $a; SELECT 1", "{\"a\":7}", "Invalid Input Error: Expected 1 parameters, but none were supplied" },
    { "SELECT $a", "{\"a\":{\"key\":[1,1],\"value\":[1,2]}}", "Invalid Input Error: params.a is a map the engine does not take" },
    { "SELECT $a", "{\"a\":{\"key\":[null],\"value\":[1]}}", "Invalid Input Error: params.a is a map with a key that is null" },
};
/* clang-format on */

static const char *check_samples(const struct sample *samples, size_t count)
{
    static char problem[4096];
    for (size_t i = 0; i < count; i++) {
        const char *answer = scene_answer(samples[i].sql, samples[i].parameters);
        if (strcmp(answer, samples[i].answer) != 0) {
            (void)snprintf(problem, sizeof(problem), "%s: %s", samples[i].sql, answer);
            return problem;
        }
    }
    return NULL;
}

TEST(values_of_rows)
{
    const char *problem = check_samples(values, COUNT_OF(values));
    if (problem != NULL) {
        TEST_FAIL("%s", problem);
    }
}

TEST(values_of_parameters)
{
    const char *problem = check_samples(parameters, COUNT_OF(parameters));
    if (problem != NULL) {
        TEST_FAIL("%s", problem);
    }
}

TEST(excess_names_are_refused_when_not_loose)
{
    struct str statement = STR("SELECT 1");
    struct worker_request request = scene_request(&statement, 1);
    request.parameters = STR("{\"limit\":3}");
    CHECK(!scene_run(&request, no_fds));
    CHECK_STR_OF(scene.message,
                 "Invalid Input Error: Parameter argument/count mismatch, identifiers "
                 "of the excess parameters: limit");
}

TEST(columns_and_counts)
{
    CHECK_STR_OF(scene_answer("CREATE TABLE counted (a INT)", ""), "[]");
    CHECK_STR_OF(buf_str(&scene.columns).ptr, "Count BIGINT");
    CHECK_U64(scene.done.rows, 0);
    CHECK_STR_OF(scene_answer("INSERT INTO counted VALUES (1), (2)", ""), "[[2]]");
    CHECK_STR_OF(scene_answer("SELECT a, a, 1.5 AS d FROM counted ORDER BY a", ""),
                 "[[1,1,\"1.5\"],[2,2,\"1.5\"]]");
    CHECK_STR_OF(buf_str(&scene.columns).ptr, "a INTEGER, a INTEGER, d DECIMAL(2,1)");
    CHECK_U64(scene.done.rows, 2);
    CHECK(scene.done.memory_bytes > 0 && scene.done.execution_us > 0);
    CHECK_STR_OF(scene_answer("SELECT 1; SELECT 2 AS b", ""), "[[2]]");
    CHECK_STR_OF(buf_str(&scene.columns).ptr, "b INTEGER");
    CHECK_STR_OF(scene_answer("DROP TABLE counted", ""), "[]");
    CHECK_STR_OF(buf_str(&scene.columns).ptr, "Success BOOLEAN");
}

static const char *fetched(enum worker_fetch fetch, uint64_t size, uint64_t rows_max,
                           const char *sql)
{
    struct str statement = str_of(sql);
    struct worker_request request = scene_request(&statement, 1);
    request.fetch = fetch;
    request.fetch_size = size;
    request.rows_max = rows_max;
    return scene_run(&request, no_fds) ? buf_str(&scene.result).ptr : scene.message;
}

TEST(how_much_is_fetched)
{
    CHECK_STR_OF(fetched(WORKER_FETCH_ONE, 0, 0, "FROM range(5)"), "[0]");
    CHECK_U64(scene.done.rows, 1);
    CHECK_STR_OF(fetched(WORKER_FETCH_ONE, 0, 0, "FROM range(0)"), "null");
    CHECK_U64(scene.done.rows, 0);
    CHECK_STR_OF(fetched(WORKER_FETCH_MANY, 0, 0, "FROM range(5)"), "[[0]]");
    CHECK_STR_OF(fetched(WORKER_FETCH_MANY, 3, 100, "FROM range(5)"), "[[0],[1],[2]]");
    CHECK_U64(scene.done.truncated, 0);
    CHECK_STR_OF(fetched(WORKER_FETCH_NONE, 0, 0, "FROM range(5)"), "null");
    CHECK_STR_OF(buf_str(&scene.columns).ptr, "range BIGINT");
    CHECK_STR_OF(fetched(WORKER_FETCH_ALL, 0, 2, "FROM range(5)"), "[[0],[1]]");
    CHECK_U64(scene.done.truncated, 1);
    CHECK_STR_OF(fetched(WORKER_FETCH_ALL, 0, 2, "FROM range(2)"), "[[0],[1]]");
    CHECK_U64(scene.done.truncated, 0);
    /* One whose rows nobody wants still runs to where it fails. */
    CHECK(strstr(
              fetched(WORKER_FETCH_NONE, 0, 0,
                      "SELECT CASE WHEN range = 9999 THEN 'x' ELSE '1' END::INT FROM range(10000)"),
              "Conversion Error: ") == scene.message);
}

TEST(a_large_result_is_streamed)
{
    CHECK(scene_query("SELECT range, 'some text of a row' FROM range(100000)", ""));
    CHECK_U64(scene.done.rows, 100000);
    CHECK(scene.result.len > 2 << 20);
    CHECK(str_ends(buf_str(&scene.result), STR("[99999,\"some text of a row\"]]")));
}

TEST(other_formats)
{
    struct str statement = STR("SELECT 1 AS a, 'x' AS b");
    struct worker_request request = scene_request(&statement, 1);
    request.format = WORKER_FORMAT_NDJSON;
    CHECK(scene_run(&request, no_fds));
    CHECK_STR_OF(buf_str(&scene.result).ptr, "{\"a\":1,\"b\":\"x\"}\n");
    request.format = WORKER_FORMAT_CSV;
    CHECK(scene_run(&request, no_fds));
    CHECK(str_starts(buf_str(&scene.result), STR("a,b")));
    request.format = WORKER_FORMAT_PARQUET;
    CHECK(scene_run(&request, no_fds));
    CHECK(str_starts(buf_str(&scene.result), STR("PAR1")));
    CHECK(str_ends(buf_str(&scene.result), STR("PAR1")));
    CHECK_U64(scene.done.rows, 1);
    statement = STR("EXPLAIN SELECT 1");
    CHECK(!scene_run(&request, no_fds));
}

/* ---- what goes wrong ---- */

TEST(errors_begin_with_their_class)
{
    CHECK_STR_OF(scene_answer("SELEC 1", ""),
                 "Parser Error: syntax error at or near \"SELEC\"\n\nLINE 1: SELEC 1\n        ^");
    CHECK(strstr(scene_answer("FROM memory_stats", ""), "Catalog Error: Table") == scene.message);
    CHECK(strstr(scene.message, "\n\nLINE 1: FROM memory_stats") != NULL);
    CHECK_U64(scene.done.fault, WORKER_FAULT_STATEMENT);
    CHECK_U64(scene.done.kind, ERR_INVALID);
    CHECK(strstr(scene_answer("COPY t TO 'x'", ""), "Permission Error: COPY") == scene.message);
    CHECK(strstr(scene.message, "POST .../export") != NULL);
    CHECK_U64(scene.done.kind, ERR_FORBIDDEN);
    CHECK_U64(scene.done.fault, WORKER_FAULT_STATEMENT);
    CHECK_STR_OF(scene_answer(" -- nothing", ""), "Invalid Input Error: there is no statement");
}

TEST(faults_are_told_by_class)
{
    struct err err;
    CHECK_OK(duck_run(&scene.duck, STR("SET memory_limit = '20MB'"), NULL, &err), err);
    CHECK(!scene_query("SELECT len(list(range)) FROM range(50000000)", ""));
    CHECK_OK(duck_run(&scene.duck, STR("RESET memory_limit"), NULL, &err), err);
    CHECK_U64(scene.done.fault, WORKER_FAULT_MEMORY);
    CHECK_U64(scene.done.kind, ERR_UNPROCESSABLE);
    CHECK(!scene_query("COMMIT", ""));
    CHECK_U64(scene.done.fault, WORKER_FAULT_STATEMENT);
    CHECK(!scene_query("BEGIN; BEGIN", ""));
    CHECK_U64(scene.done.fault, WORKER_FAULT_STATEMENT);
}

TEST(a_conflict_is_no_mistake_of_the_statement)
{
    struct err err;
    CHECK(scene_query("CREATE TABLE fought AS SELECT 1 AS a", ""));
    CHECK_OK(duck_run(&scene.duck, STR("BEGIN"), NULL, &err), err);
    CHECK_OK(duck_run(&scene.duck, STR("UPDATE fought SET a = 2"), NULL, &err), err);
    CHECK(!scene_query("UPDATE fought SET a = 3", ""));
    CHECK_OK(duck_run(&scene.duck, STR("ROLLBACK"), NULL, &err), err);
    CHECK_U64(scene.done.fault, WORKER_FAULT_CONFLICT);
    CHECK_U64(scene.done.kind, ERR_CONFLICT);
}

TEST(nothing_stays_open)
{
    CHECK(scene_query("CREATE TABLE kept (a INT)", ""));
    CHECK_STR_OF(scene_answer("BEGIN; SELECT count(*) FROM kept", ""), "[[0]]");
    CHECK_U64(scene.done.rolled_back, 1);
    CHECK_STR_OF(scene_answer("BEGIN; CREATE TEMP TABLE own AS SELECT 1 AS a; FROM own", ""),
                 "[[1]]");
    CHECK_STR_OF(scene_answer("BEGIN; INSERT INTO kept VALUES (1); COMMIT", ""), "[]");
    CHECK_U64(scene.done.rolled_back, 0);
    CHECK(!scene_query("BEGIN; INSERT INTO kept VALUES (2); FROM nowhere", ""));
    CHECK_U64(scene.done.rolled_back, 1);
    CHECK(!scene_query("INSERT INTO kept VALUES (3); FROM nowhere", ""));
    CHECK_U64(scene.done.rolled_back, 0);
    CHECK_STR_OF(scene_answer("SELECT list(a ORDER BY a) FROM kept", ""), "[[[1,3]]]");
}

/* Its changes are gone: the client is not told that all is well. */
TEST(a_change_without_a_commit_is_refused)
{
    CHECK(scene_query("CREATE TABLE unkept (a INT)", ""));
    static const char *const texts[] = {
        "BEGIN; INSERT INTO unkept VALUES (1)",
        "BEGIN; INSERT INTO unkept VALUES (1); SELECT count(*) FROM unkept",
        "BEGIN; INSERT INTO unkept VALUES (1) RETURNING a",
        "BEGIN; CREATE TABLE another (a INT)",
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        CHECK(!scene_query(texts[i], ""));
        CHECK_U64(scene.done.kind, ERR_INVALID);
        CHECK_U64(scene.done.fault, WORKER_FAULT_STATEMENT);
        CHECK_U64(scene.done.rolled_back, 1);
        CHECK_U64(scene.result.len, 0);
        CHECK(strstr(scene.message, "Invalid Input Error: what this request changed") != NULL);
    }
    CHECK_STR_OF(scene_answer("SELECT count(*) FROM unkept", ""), "[[0]]");
    CHECK(scene_query("BEGIN; INSERT INTO unkept VALUES (1); ROLLBACK", ""));
}

TEST(a_role_that_reads)
{
    struct str statement = STR("SELECT 1; SELECT 2");
    struct worker_request request = scene_request(&statement, 1);
    request.role = WORKER_ROLE_READ;
    CHECK(scene_run(&request, no_fds));
    statement = STR("PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)");
    CHECK(scene_run(&request, no_fds));
    CHECK_STR_OF(buf_str(&scene.result).ptr, "[[2]]");
    statement = STR("CREATE TABLE never (a INT)");
    CHECK(!scene_run(&request, no_fds));
    CHECK_U64(scene.done.kind, ERR_FORBIDDEN);
    /* The plan is judged too: a macro that a writer has left asks a sequence. */
    CHECK(scene_query("CREATE SEQUENCE q; CREATE MACRO m() AS nextval('q')", ""));
    statement = STR("SELECT m()");
    CHECK(!scene_run(&request, no_fds));
    CHECK_U64(scene.done.kind, ERR_FORBIDDEN);
    CHECK_STR_OF(scene_answer("SELECT m()", ""), "[[1]]");
    /* And before any of it has run, by whatever thread of the engine. */
    struct err err;
    CHECK_OK(duck_run(&scene.duck, STR("SET threads = 4"), NULL, &err), err);
    CHECK(shim_watch_plans(scene.duck.database));
    statement = STR("SELECT count(m()) FROM range(10000000)");
    CHECK(!scene_run(&request, no_fds));
    CHECK_U64(scene.done.kind, ERR_FORBIDDEN);
    statement = STR("EXPLAIN ANALYZE SELECT m()");
    CHECK(!scene_run(&request, no_fds));
    CHECK_STR_OF(scene_answer("SELECT m()", ""), "[[2]]");
}

/* Of each the engine makes several statements, other ones inside a transaction. */
TEST(a_column_with_a_default_that_is_computed)
{
    struct err err;
    CHECK_OK(duck_run(&scene.duck, STR("SET lock_configuration = true"), NULL, &err), err);
    CHECK(scene_query("CREATE SEQUENCE ids; CREATE TABLE grown AS SELECT range AS a FROM range(2)",
                      ""));
    static const char *const texts[] = {
        "ALTER TABLE grown ADD COLUMN b INT DEFAULT (1 + 2)",
        "ALTER TABLE grown ADD COLUMN c BIGINT DEFAULT nextval('ids');",
        "SELECT 1; ALTER TABLE grown ADD COLUMN d INT DEFAULT (2 * 2); ALTER TABLE grown ADD "
        "COLUMN e INT DEFAULT (3 * 3); SELECT 2",
        "BEGIN; ALTER TABLE grown ADD COLUMN f BOOL DEFAULT (current_timestamp IS NULL); COMMIT",
    };
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        CHECK_STR_OF(scene_answer(texts[i], ""), i == 2 ? "[[2]]" : "[]");
        CHECK_U64(scene.done.rolled_back, 0);
    }
    CHECK_STR_OF(scene_answer("FROM grown ORDER BY a", ""),
                 "[[0,3,1,4,9,false],[1,3,2,4,9,false]]");
    CHECK(!scene_query("ALTER TABLE grown ADD COLUMN g INT DEFAULT (error('no'))", ""));
    CHECK(!scene_query("BEGIN; ALTER TABLE grown ADD COLUMN g INT DEFAULT (1 + 1)", ""));
    CHECK(strstr(scene.message, "COMMIT") != NULL);
    CHECK(scene_query("ALTER TABLE grown ADD COLUMN g INT DEFAULT (1 + 1)", ""));
    struct str statement = str_of(texts[0]);
    struct worker_request request = scene_request(&statement, 1);
    request.role = WORKER_ROLE_READ;
    CHECK(!scene_run(&request, no_fds));
    CHECK_U64(scene.done.kind, ERR_FORBIDDEN);
}

/* ---- batches ---- */

static bool run_batch(const char *const *texts, size_t count, bool atomic)
{
    struct str statements[8];
    for (size_t i = 0; i < count; i++) {
        statements[i] = str_of(texts[i]);
    }
    struct worker_request request = scene_request(statements, count);
    request.kind = WORKER_BATCH;
    request.atomic = atomic;
    return scene_run(&request, no_fds);
}

#define BATCH(atomic, ...)                                                                        \
    run_batch((const char *const[]){__VA_ARGS__}, COUNT_OF(((const char *const[]){__VA_ARGS__})), \
              atomic)

TEST(a_batch_answers_each_statement)
{
    CHECK(BATCH(true, "CREATE TEMP TABLE b (a INT)", "INSERT INTO b VALUES (1)",
                "INSERT INTO b VALUES (2)", "SELECT count(*) AS n FROM b"));
    struct str result = buf_str(&scene.result);
    CHECK(str_starts(result, STR("[{\"data\":[],\"execution_time\":0.")));
    CHECK(str_find(result, STR(",\"memory_usage\":0.0,\"row_count\":0,\"columns\":[\"Count\"],"
                               "\"query_hash\":null},{\"data\":[[1]],")) < result.len);
    CHECK(str_ends(result, STR("\"row_count\":1,\"columns\":[\"n\"],\"query_hash\":null}]")));
    CHECK(str_find(result, STR("{\"data\":[[2]],")) < result.len);
}

TEST(an_atomic_batch_is_all_or_nothing)
{
    CHECK(!BATCH(true, "CREATE TABLE torn (a INT PRIMARY KEY)", "INSERT INTO torn VALUES (1)",
                 "INSERT INTO torn VALUES (1)", "SELECT 1"));
    CHECK_U64(scene.done.failed_at, 3);
    CHECK_U64(scene.done.rolled_back, 1);
    CHECK(strstr(scene.message, "Constraint Error: ") == scene.message);
    CHECK_U64(scene.result.len, 0);
    CHECK(strstr(scene_answer("FROM torn", ""), "Catalog Error: ") == scene.message);
    CHECK(!BATCH(false, "CREATE TABLE torn (a INT PRIMARY KEY)", "INSERT INTO torn VALUES (1)",
                 "INSERT INTO torn VALUES (1)", "INSERT INTO torn VALUES (2)"));
    CHECK_U64(scene.done.failed_at, 3);
    CHECK_U64(scene.done.rolled_back, 0);
    CHECK_STR_OF(scene_answer("FROM torn", ""), "[[1]]");
}

TEST(a_batch_is_judged_before_it_runs)
{
    static const char *const controls[] = {"COMMIT", "/* a */ rollback", "BEGIN",
                                           "SELECT 1; COMMIT"};
    for (size_t i = 0; i < COUNT_OF(controls); i++) {
        CHECK(!BATCH(true, "CREATE TABLE early (a INT)", controls[i]));
        CHECK_U64(scene.done.failed_at, 2);
        CHECK_U64(scene.done.rolled_back, 0);
    }
    CHECK(!BATCH(false, "CREATE TABLE early (a INT)", "SELECT 1; SELECT 2"));
    CHECK_U64(scene.done.failed_at, 2);
    CHECK(!BATCH(true, "SELECT 1", ""));
    CHECK_U64(scene.done.failed_at, 2);
    CHECK(strstr(scene_answer("FROM early", ""), "Catalog Error: ") == scene.message);
    CHECK(BATCH(false, "BEGIN", "CREATE TABLE early (a INT)", "COMMIT", "DROP TABLE early"));
}

TEST(a_batch_that_is_no_transaction_ends_what_it_began)
{
    CHECK(!BATCH(false, "CREATE TABLE begun (a INT)", "BEGIN", "INSERT INTO begun VALUES (1)"));
    CHECK_U64(scene.done.kind, ERR_INVALID);
    CHECK_U64(scene.result.len, 0);
    CHECK_STR_OF(scene_answer("SELECT count(*) FROM begun", ""), "[[0]]");
}

TEST(a_batch_adds_columns)
{
    CHECK(BATCH(true, "CREATE TABLE wide AS SELECT 1 AS a",
                "ALTER TABLE wide ADD COLUMN b INT DEFAULT (1 + 2)"));
    CHECK(BATCH(false, "ALTER TABLE wide ADD COLUMN c INT DEFAULT (1 + 3)", "BEGIN",
                "ALTER TABLE wide ADD COLUMN d INT DEFAULT (1 + 4)", "COMMIT"));
    CHECK_STR_OF(scene_answer("FROM wide", ""), "[[1,3,4,5]]");
}

/* Wherever the limit falls: an answer is whole, and what is refused has changed nothing. */
TEST(a_batch_is_refused_before_its_commit)
{
    CHECK(scene_query("CREATE TABLE brim (a INT)", ""));
    struct str statements[] = {STR("INSERT INTO brim VALUES (1)"), STR("SELECT 7 AS seven")};
    struct worker_request request = scene_request(statements, 2);
    request.kind = WORKER_BATCH;
    request.atomic = 1;
    uint64_t kept = 0;
    for (uint64_t size = 100; size < 260; size++) {
        request.result_bytes_max = size;
        if (scene_run(&request, no_fds)) {
            CHECK(str_ends(buf_str(&scene.result), STR("\"query_hash\":null}]")));
            kept++;
        } else {
            CHECK_U64(scene.done.kind, ERR_TOO_LARGE);
        }
    }
    CHECK(kept > 0 && kept < 160);
    char expected[32];
    (void)snprintf(expected, sizeof(expected), "[[%llu]]", (unsigned long long)kept);
    CHECK_STR_OF(scene_answer("SELECT count(*) FROM brim", ""), expected);
}

TEST(a_batch_has_a_largest_result)
{
    CHECK(!BATCH(true, "CREATE TABLE large (a INT)", "SELECT range FROM range(200000)"));
    CHECK_U64(scene.done.failed_at, 2);
    CHECK_U64(scene.done.kind, ERR_TOO_LARGE);
    CHECK_U64(scene.done.fault, WORKER_FAULT_STATEMENT);
    CHECK(strstr(scene_answer("FROM large", ""), "Catalog Error: ") == scene.message);
}

/* ---- files ---- */

static bool run_import(int file, enum worker_import_mode mode)
{
    struct worker_request request = scene_request(NULL, 0);
    request.kind = WORKER_IMPORT;
    request.mode = mode;
    request.table = STR("main.Imported \" table");
    const int fds[2] = {file, -1};
    return scene_run(&request, fds);
}

static bool run_export(int file, struct str statement)
{
    struct worker_request request = scene_request(&statement, 1);
    request.kind = WORKER_EXPORT;
    request.role = WORKER_ROLE_READ;
    request.parameters = STR("{\"n\":3}");
    const int fds[2] = {file, -1};
    return scene_run(&request, fds);
}

TEST(a_table_goes_out_and_comes_in)
{
    int file = memfd_create("table", MFD_CLOEXEC);
    CHECK(run_export(file, STR("SELECT 12345678901234567890::HUGEINT AS h, range AS a, 'x' AS A "
                               "FROM range($n) -- no more\n;")));
    CHECK_U64(scene.done.rows, 3);
    CHECK(run_import(file, WORKER_IMPORT_CREATE));
    CHECK_U64(scene.done.rows, 3);
    CHECK(!run_import(file, WORKER_IMPORT_CREATE));
    CHECK(strstr(scene.message, "Catalog Error: ") == scene.message);
    CHECK(run_import(file, WORKER_IMPORT_APPEND));
    CHECK_STR_OF(
        scene_answer("SELECT h, count(*), max(A_1) FROM \"imported \"\" table\" GROUP BY 1", ""),
        "[[\"12345678901234567890\",6,\"x\"]]");
    CHECK(run_import(file, WORKER_IMPORT_REPLACE));
    CHECK_STR_OF(scene_answer("SELECT count(*) FROM \"imported \"\" table\"", ""), "[[3]]");
    close(file);
}

TEST(an_export_only_reads)
{
    int file = memfd_create("export", MFD_CLOEXEC);
    CHECK(!run_export(file, STR("SELECT 1) TO 'job://out' (FORMAT csv); --")));
    CHECK(!run_export(file, STR("CREATE TABLE exported AS SELECT 1")));
    CHECK(!run_export(file, STR("SELECT 1; SELECT 2")));
    CHECK_I64(lseek(file, 0, SEEK_END), 0);
    CHECK(!run_import(file, WORKER_IMPORT_CREATE));
    close(file);
}

TEST(a_checkpoint)
{
    struct worker_request request = scene_request(NULL, 0);
    request.kind = WORKER_CHECKPOINT;
    CHECK(scene_run(&request, no_fds));
    CHECK_STR_OF(scene_answer("CHECKPOINT", ""), "[]");
}

static const struct test_case cases[] = {
    TEST_CASE(values_of_rows),
    TEST_CASE(values_of_parameters),
    TEST_CASE(excess_names_are_refused_when_not_loose),
    TEST_CASE(columns_and_counts),
    TEST_CASE(how_much_is_fetched),
    TEST_CASE(a_large_result_is_streamed),
    TEST_CASE(other_formats),
    TEST_CASE(errors_begin_with_their_class),
    TEST_CASE(faults_are_told_by_class),
    TEST_CASE(a_conflict_is_no_mistake_of_the_statement),
    TEST_CASE(nothing_stays_open),
    TEST_CASE(a_change_without_a_commit_is_refused),
    TEST_CASE(a_role_that_reads),
    TEST_CASE(a_column_with_a_default_that_is_computed),
    TEST_CASE(a_batch_answers_each_statement),
    TEST_CASE(an_atomic_batch_is_all_or_nothing),
    TEST_CASE(a_batch_is_judged_before_it_runs),
    TEST_CASE(a_batch_that_is_no_transaction_ends_what_it_began),
    TEST_CASE(a_batch_adds_columns),
    TEST_CASE(a_batch_is_refused_before_its_commit),
    TEST_CASE(a_batch_has_a_largest_result),
    TEST_CASE(a_table_goes_out_and_comes_in),
    TEST_CASE(an_export_only_reads),
    TEST_CASE(a_checkpoint),
};

int main(int argc, char **argv)
{
    scene_open();
    return test_run(cases, COUNT_OF(cases), argc > 1 ? argv[1] : NULL);
}
